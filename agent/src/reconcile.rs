//! The catalog against the bucket: made anew from it, or compared with it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use drctl_catalog::{Catalog, Difference, Rebuild, Rebuilt, diff};
use drctl_model::{BackupId, BackupSummary, LogEntry, Lsn, SourceId, outermost};
use drctl_store::layout::{self, Kind};
use futures_util::TryStreamExt as _;

use crate::backrest::{mark_anew, only_there};
use crate::chain::Family;
use crate::crash::crash_point;
use crate::memory::Memory;
use crate::problem::Failure;
use crate::strays::strays;
use crate::verify::everything;
use crate::wal::{Copies, learn, trust_digest};
use crate::{Holes, Repository, Setup, Shelf};

/// How many foreign keys an inventory names; a bucket may be full of them.
const FOREIGN_NAMED: usize = 1000;

/// What the bucket holds, as far as its manifests tell.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// Every backup that counts.
    pub backups: Vec<BackupSummary>,
    /// Every manifest that does not, with the reason.
    pub refused: Vec<(SourceId, BackupId, String)>,
    /// Attempts without a manifest: they never ended, or still run.
    pub orphans: Vec<(SourceId, BackupId)>,
    /// Keys that drctl did not write, the first thousand of them.
    pub foreign: Vec<String>,
    /// How many objects have such keys.
    pub foreign_objects: u64,
    /// Manifests behind a delete marker: the backup counts, and somebody tried to remove it.
    pub deleted: Vec<(SourceId, BackupId)>,
    /// Incremental copies whose chain does not hold, with the reason: they cannot be restored.
    pub broken: Vec<(SourceId, BackupId, String)>,
    /// Objects that were looked at.
    pub objects: u64,
}

/// Reads the whole bucket's list and every manifest in it, all versions where it keeps them.
///
/// # Errors
/// The store's. What is wrong with single manifests is in the inventory.
pub async fn inventory(repository: &Repository) -> Result<Inventory> {
    let mut found = Inventory::default();
    let mut data = BTreeSet::new();
    let mut manifests = BTreeSet::new();
    let mut listing = repository.bucket.list(None);
    while let Some(entry) = listing.try_next().await.context("list the bucket")? {
        found.objects += 1;
        match layout::classify(&entry.key) {
            Kind::Manifest(source, id) => drop(manifests.insert((source, id))),
            Kind::Data(source, id) => drop(data.insert((source, id))),
            Kind::Marker | Kind::Probe | Kind::Log(_) | Kind::Drill(_) | Kind::Acceptance(..) => {}
            Kind::Foreign => {
                found.foreign_objects += 1;
                if found.foreign.len() < FOREIGN_NAMED {
                    found.foreign.push(entry.key.to_string());
                }
            }
        }
    }
    let hidden = hidden_manifests(repository).await?;
    let sources: BTreeSet<SourceId> =
        manifests.iter().chain(&data).chain(&hidden).map(|(source, _)| source.clone()).collect();
    let mut committed = BTreeSet::new();
    let sources: Vec<SourceId> = sources.into_iter().collect();
    let mut all = everything(repository, sources);
    while let Some((source, id, proven)) = all.try_next().await? {
        committed.insert((source.clone(), id.clone()));
        match proven {
            Ok(proven) => found.backups.push(proven.summary()),
            Err(error) => {
                let why = Failure::of(&error).messages.join(": ");
                found.refused.push((source, id, why));
            }
        }
    }
    drop(all);
    for (source, id) in &hidden {
        if let (false, Some(proven)) = (
            committed.contains(&(source.clone(), id.clone())),
            repository.manifest(source, id).await?,
        ) {
            found.backups.push(proven.summary());
            committed.insert((source.clone(), id.clone()));
        }
    }
    found.deleted = hidden.into_iter().collect();
    found.orphans = data.difference(&committed).cloned().collect();
    found.backups.sort_by(|a, b| (&a.source, &a.backup).cmp(&(&b.source, &b.backup)));
    let family = Family::of(&found.backups);
    let broken = |backup: &BackupSummary| {
        let why = family.broken(backup)?;
        Some((backup.source.clone(), backup.backup.clone(), why))
    };
    let broken = found.backups.iter().filter_map(broken).collect();
    found.broken = broken;
    Ok(found)
}

/// Manifests whose newest version is a delete marker.
async fn hidden_manifests(repository: &Repository) -> Result<BTreeSet<(SourceId, BackupId)>> {
    let mut hidden = BTreeSet::new();
    let Some(versions) = repository.bucket.versions() else { return Ok(hidden) };
    match versions.enabled().await {
        Ok(true) => {}
        Ok(false) => return Ok(hidden),
        // Not every store that speaks S3 knows the question, and not everybody may ask it.
        Err(error) => {
            tracing::warn!(%error, "whether a manifest was deleted cannot be asked");
            return Ok(hidden);
        }
    }
    let each = |version: drctl_store::ObjectVersion| {
        if let (true, true, Kind::Manifest(source, id)) =
            (version.delete_marker, version.latest, layout::classify(&version.key))
        {
            hidden.insert((source, id));
        }
    };
    versions.list(&layout::sources(), each).await?;
    Ok(hidden)
}

/// What a rebuild did.
#[derive(Debug, Clone)]
pub struct Renewed {
    /// Of backups and jobs.
    pub catalog: Rebuilt,
    /// What the bucket holds.
    pub found: Inventory,
    /// Pieces of log that the catalog knows now.
    pub log_pieces: u64,
    /// What lies among the log and does not count, with the reason.
    pub log_refused: Vec<String>,
}

/// Makes the catalog anew from the bucket; this host's job log is kept.
///
/// # Errors
/// The store's and the catalog's; the old catalog stays in place then, or the new one with less
/// of the log in it, which is learnt when it is next asked for.
pub async fn rebuild(setup: &Setup, repository: &Repository) -> Result<Renewed> {
    let found = inventory(repository).await?;
    setup.private_directory(&setup.config.paths.state_dir)?;
    let path = setup.catalog_path();
    let new = Rebuild::start(&path, &repository.id).await.context("rebuild the catalog")?;
    let new = new.with_hook(crash_point);
    for backup in &found.backups {
        new.add(backup).await.context("rebuild the catalog")?;
    }
    let catalog = new.finish().await.context("rebuild the catalog")?;
    let mut renewed = Renewed { catalog, found, log_pieces: 0, log_refused: Vec::new() };
    let cache = setup.log_cache(repository).await;
    if let Some(catalog) = &cache {
        mark_anew(setup, catalog).await;
    }
    let mut by_source: BTreeMap<SourceId, Vec<BackupSummary>> = BTreeMap::new();
    for backup in &renewed.found.backups {
        by_source.entry(backup.source.clone()).or_default().push(backup.clone());
    }
    for (source, backups) in by_source {
        // A broken chain is told of by itself.
        let copies = Copies::of(&backups, &mut Vec::new());
        let known =
            learn(repository, &source, (copies, None), cache.as_ref(), Vec::new(), None).await?;
        let Some(known) = known else { continue };
        renewed.log_pieces += known.pieces;
        renewed.log_refused.extend(known.refused.iter().map(|why| format!("{source}: {why}")));
    }
    Ok(renewed)
}

/// In what the catalog and the bucket differ.
#[derive(Debug, Clone)]
pub struct Compared {
    /// Of backups.
    pub backups: Difference,
    /// What the bucket holds.
    pub found: Inventory,
    /// Pieces of log that the catalog does not know yet: it learns of them when it is next asked.
    pub log_missing_in_catalog: u64,
    /// Pieces of log that the catalog knows and the bucket does not hold any more, by source.
    pub log_missing_in_bucket: BTreeMap<SourceId, u64>,
    /// Files in a directory repository that are no objects, in words.
    pub strays: Vec<String>,
    /// What is missing of the log of sources.
    pub log_holes: BTreeMap<SourceId, Holes>,
    /// What looks found wrong and no later one has cleared, and what.
    pub bad: Vec<(String, String)>,
}

/// Compares the catalog with the bucket; changes neither.
///
/// # Errors
/// The store's and the catalog's.
pub async fn check(setup: &Setup, repository: &Repository) -> Result<Compared> {
    let catalog =
        Catalog::open_read_only(&setup.catalog_path()).await.context("open the catalog")?;
    catalog.integrity().await.context("check the catalog")?;
    let known = catalog.backups(None).await?;
    let found = inventory(repository).await?;
    let mut compared = Compared {
        backups: diff(&known, &found.backups),
        found,
        log_missing_in_catalog: 0,
        log_missing_in_bucket: BTreeMap::new(),
        log_holes: BTreeMap::new(),
        strays: strays(repository, setup.clock.now()).await?,
        bad: Memory::of(&catalog, None).await?.told(),
    };
    compared.log_holes = holes(repository, &catalog, &compared.found.backups).await?;
    let trust = trust_digest(&repository.trust);
    for (source, system_id) in catalog.logged().await? {
        let known = catalog.logs(&source, system_id, trust).await?;
        let mut there = Shelf::reader(repository, &source).listed(system_id).await?;
        for (timeline, log) in known {
            let ranges = there.remove(&timeline).unwrap_or_default().ranges;
            let gone = |entry: &&LogEntry| ranges.binary_search(&entry.range()).is_err();
            let gone = log.entries.iter().filter(gone).count() as u64;
            compared.log_missing_in_catalog += unknown(&outermost(&ranges), &log.entries);
            if gone > 0 {
                *compared.log_missing_in_bucket.entry(source.clone()).or_default() += gone;
            }
        }
        let unknown = there.values().map(|listed| outermost(&listed.ranges).len() as u64);
        compared.log_missing_in_catalog += unknown.sum::<u64>();
    }
    Ok(compared)
}

/// What is missing of the log of each source that has copies in the bucket.
async fn holes(
    repository: &Repository,
    catalog: &Catalog,
    backups: &[BackupSummary],
) -> Result<BTreeMap<SourceId, Holes>> {
    let mut by_source: BTreeMap<SourceId, Vec<BackupSummary>> = BTreeMap::new();
    for backup in backups {
        by_source.entry(backup.source.clone()).or_default().push(backup.clone());
    }
    let mut found = BTreeMap::new();
    for (source, mut backups) in by_source {
        // The log of what pgBackRest keeps is for `drctl verify`.
        only_there(&mut backups, None);
        let copies = (Copies::of(&backups, &mut Vec::new()), None);
        let known = learn(repository, &source, copies, Some(catalog), Vec::new(), None).await?;
        let holes = known.filter(|known| known.pieces > 0).map(|known| Holes::of(&known));
        found.extend(holes.filter(|holes| *holes != Holes::default()).map(|one| (source, one)));
    }
    Ok(found)
}

/// How many of the ranges are not among the pieces that are known; those that became parts of a
/// joined one stand for nothing. Both are in order.
fn unknown(wanted: &[(Lsn, Lsn)], known: &[LogEntry]) -> u64 {
    let missing =
        |range: &&(Lsn, Lsn)| known.binary_search_by_key(*range, LogEntry::range).is_err();
    wanted.iter().filter(missing).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joined_piece_is_unknown_although_its_parts_are_known() {
        let entry = |start, end| LogEntry::new((Lsn(start), Lsn(end)), None, None);
        let parts = [entry(0, 4), entry(4, 8), entry(8, 16)];
        assert_eq!(unknown(&[(Lsn(0), Lsn(8)), (Lsn(8), Lsn(16))], &parts), 1);
        assert_eq!(unknown(&[(Lsn(8), Lsn(16)), (Lsn(16), Lsn(32))], &parts), 1);
        assert_eq!(unknown(&[(Lsn(8), Lsn(16))], &parts), 0);
        assert_eq!(unknown(&[(Lsn(0), Lsn(8))], &[]), 1);
    }
}
