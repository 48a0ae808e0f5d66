//! The catalog against the bucket: made anew from it, or compared with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result};
use drctl_catalog::{Catalog, Difference, Lost, Rebuild, Rebuilt, diff};
use drctl_model::{BackupId, BackupSummary, Lineage, LogEntry, Lsn, SourceId, outermost};
use drctl_store::{Key, Odd, layout};
use jiff::Timestamp;

use crate::engine::pgbackrest::{mark_anew, mark_now, only_there};
use crate::engine::wal::{cached_clusters, cached_log, look_again};
use crate::host::{Setup, crash_point};
use crate::log::{LogStore, missed_documents, trust_digest};
use crate::repository::documents::{self, Doubtful, Missed, doubtful_with_drills};
use crate::repository::inventory::inventory_of_open;
use crate::repository::losses::{gone, look_for_losses, told_once};
use crate::repository::named::{missed, note};
use crate::repository::removed::{Back, back, log_floors, removed};
use crate::repository::statements::statements;
use crate::repository::strays::strays;
use crate::repository::untrusted::{is_as_it_was, not_trusted};
use crate::repository::{Inventory, Memory, Repository, inventory};
use crate::restore::known::{Copies, Holes, learn};

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
    /// What the old catalog knew and is gone.
    pub lost: Vec<Lost>,
}

/// Makes the catalog anew from the bucket; this host's job log is kept.
///
/// # Errors
/// [`StoreError`](drctl_store::StoreError) and [`CatalogError`](drctl_catalog::CatalogError); the
/// old catalog stays in place then, or the new one with less of the log in it, which is learnt when
/// it is next asked for.
pub async fn rebuild(setup: &Setup, repository: &Repository) -> Result<Renewed> {
    let found = inventory(repository).await?;
    note_lost_log(setup, repository, None).await?;
    let mut lost = note_lost(setup, repository).await?;
    // What is there again, or not in full, is told by itself.
    let there = found.backups.iter().map(|one| layout::manifest(&one.source, &one.backup));
    let there: BTreeSet<Key> = there.collect();
    lost.retain(|one| !there.contains(&Key::from(one.key.as_str())));
    setup.private_directory(&setup.config.paths.state_dir)?;
    let path = setup.catalog_path();
    let new = Rebuild::start(&path, &repository.id).await.context("rebuild the catalog")?;
    let new = new.with_hook(crash_point);
    new.add(&found.backups).await.context("rebuild the catalog")?;
    let catalog = new.finish().await.context("rebuild the catalog")?;
    // Whoever has it made anew knows that one was lost.
    let _ = fs::remove_file(drctl_catalog::forgotten(&path));
    let mut renewed = Renewed { catalog, found, log_pieces: 0, log_refused: Vec::new(), lost };
    let cache = setup.log_cache(repository).await;
    if let Some(catalog) = &cache {
        let _ = mark_anew(setup, catalog).await;
        note(catalog, &renewed.found).await;
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

/// What the catalog knew of logs that are gone, of one source or all, is noted in it: a new one takes it over.
///
/// # Errors
/// The store's, the catalog's.
pub(crate) async fn note_lost_log(
    setup: &Setup,
    repository: &Repository,
    of: Option<&SourceId>,
) -> Result<()> {
    let Some(old) = setup.log_cache(repository).await else { return Ok(()) };
    let clusters = cached_clusters(&old).await.unwrap_or_default().into_iter();
    for (source, system_id) in clusters.filter(|(source, _)| of.is_none_or(|of| of == source)) {
        look_again(&LogStore::reader(repository, &source), system_id, &old).await?;
    }
    Ok(())
}

/// All that the catalog knew and that is gone, of whatever source, is noted in it and given.
async fn note_lost(setup: &Setup, repository: &Repository) -> Result<Vec<Lost>> {
    let Some(old) = setup.log_cache(repository).await else { return Ok(Vec::new()) };
    let (backups, remembered) = (old.backups(None).await?, old.lost(None).await?);
    let backups = backups.into_iter().map(|one| one.source);
    let remembered = remembered.into_iter().map(|one| one.source);
    let mut sources: BTreeSet<SourceId> = backups.chain(remembered).collect();
    sources.extend(setup.config.sources.keys().cloned());
    sources.extend(repository.sources().await?);
    let mut lost = Vec::new();
    for source in sources {
        lost.extend(look_for_losses(setup, repository, &old, &source).await?);
    }
    Ok(lost)
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
    /// What lies among the log of sources and does not count, or only in part, with the reason.
    pub log_refused: Vec<String>,
    /// What the catalog remembers to have been there.
    pub lost: Vec<Lost>,
    /// Backups whose data pgBackRest has no more, and since when that is known.
    pub expired: BTreeMap<(SourceId, BackupId), Timestamp>,
    /// What is signed beside backups and log and does not count.
    pub doubtful: Doubtful,
    /// What was removed on purpose, and is here all the same.
    pub(crate) back: Vec<Back>,
    /// What looks found wrong and no later one has cleared, and what.
    pub bad: Vec<(String, String)>,
}

impl Compared {
    /// Backups that the bucket has as they were, and whose key is not trusted here any more, are not gone.
    async fn set_distrusted_apart(
        &mut self,
        repository: &Repository,
        now: Timestamp,
    ) -> Result<()> {
        for backup in std::mem::take(&mut self.backups.missing_in_bucket) {
            if !is_as_it_was(repository, &backup).await? {
                self.backups.missing_in_bucket.push(backup);
                continue;
            }
            let key = layout::manifest(&backup.source, &backup.backup).to_string();
            let missing = vec![(key, not_trusted(repository, &backup))];
            self.lost.extend(told_once(&self.lost, &backup.source, missing, now));
        }
        Ok(())
    }

    /// Adds what signed documents name and the bucket does not hold, and those that do not count.
    async fn add_missed(
        &mut self,
        repository: &Repository,
        catalog: &Catalog,
        now: Timestamp,
    ) -> Result<()> {
        let sources = repository.sources().await?;
        for source in sources.into_iter().filter(|source| !self.found.closed.holds(source)) {
            let names = self.found.named.get(&source).cloned().unwrap_or_default();
            let there = self.found.backups.iter().filter(|backup| backup.source == source);
            let there: Vec<BackupSummary> = there.cloned().collect();
            let ids = there.iter().map(|backup| backup.backup.clone());
            self.back.extend(back(repository, &source, ids).await?);
            let missed = missed(repository, Some(catalog), &source, names, &there).await?;
            let doubts = doubtful_with_drills(repository, &source).await?;
            let beside = documents::missed(repository, (catalog, None), &source).await?;
            let of_log = missed_documents(&LogStore::reader(repository, &source), catalog).await?;
            for Missed { gone, known } in [&beside, &of_log] {
                let is_back = |key: &String| known.contains(key) && !gone.contains_key(key);
                self.lost.retain(|lost| lost.source != source || !is_back(&lost.key));
            }
            let said = statements(repository, &source).await?;
            let unsaid = said.gone(&catalog.statements(&source).await?);
            let others = doubts.missing.iter().cloned().chain(unsaid);
            let others = others.chain(beside.gone).chain(of_log.gone).map(gone);
            let missed = missed.into_iter().chain(others).collect();
            self.lost.extend(told_once(&self.lost, &source, missed, now));
            self.doubtful.extend(doubts);
        }
        Ok(())
    }
}

/// Compares the catalog with the bucket; changes neither.
///
/// # Errors
/// [`StoreError`](drctl_store::StoreError) of a bucket that cannot be read;
/// [`CatalogError`](drctl_catalog::CatalogError).
pub async fn check(setup: &Setup, repository: &Repository) -> Result<Compared> {
    let _ = mark_now(setup).await;
    let catalog =
        Catalog::open_read_only(&setup.catalog_path()).await.context("open the catalog")?;
    let catalog = setup.believing(catalog);
    catalog.integrity().await.context("check the catalog")?;
    let mut known = catalog.backups(None).await?;
    let found = inventory_of_open(repository).await?;
    found.closed.leave_out(&mut known);
    let gone = gone_on_purpose(repository, &catalog, &known).await?;
    known.retain(|one| !gone.contains(&(one.source.clone(), one.backup.clone())));
    let mut compared = Compared {
        backups: diff(&known, &found.backups),
        found,
        log_missing_in_catalog: 0,
        log_missing_in_bucket: BTreeMap::new(),
        log_holes: BTreeMap::new(),
        log_refused: Vec::new(),
        strays: strays(repository, setup.clock.now()).await?,
        lost: catalog.lost(None).await?,
        expired: catalog.expired(None).await?,
        doubtful: Doubtful::default(),
        bad: Memory::of(&catalog, None).await?.told(),
        back: Vec::new(),
    };
    let there = |key: &str| {
        let mut there = compared.found.backups.iter();
        there.any(|one| layout::manifest(&one.source, &one.backup).as_ref() == key)
    };
    let lost = compared.lost.iter().filter(|lost| !there(&lost.key)).cloned().collect();
    compared.lost = lost;
    let key = |(source, id): &(SourceId, BackupId)| layout::manifest(source, id).to_string();
    let gone: BTreeSet<String> = gone.iter().map(key).collect();
    compared.lost.retain(|lost| !gone.contains(&lost.key));
    let now = setup.clock.now();
    compared.add_missed(repository, &catalog, now).await?;
    compared.set_distrusted_apart(repository, now).await?;
    let of_log = holes(repository, &catalog, &compared.found.backups).await?;
    (compared.log_holes, compared.log_refused) = of_log;
    let trust = trust_digest(&repository.trust);
    for (source, system_id) in cached_clusters(&catalog).await? {
        if compared.found.closed.holds(&source) {
            continue;
        }
        let known = cached_log(&catalog, &source, system_id, trust).await?;
        let log_store = LogStore::reader(repository, &source);
        let mut there = log_store.cluster_ranges(system_id).await?;
        let floors = log_floors(repository, &catalog, &source).await?;
        for (timeline, log) in known {
            let ranges = there.remove(&timeline).unwrap_or_default();
            let floor = floors.get(&Lineage::of_timeline(system_id, timeline));
            let gone = |entry: &&LogEntry| {
                let is_above = floor.is_none_or(|floor| entry.place().1 > *floor);
                is_above && ranges.binary_search(&entry.range()).is_err()
            };
            let gone = log.entries.iter().filter(gone).count() as u64;
            compared.log_missing_in_catalog += unknown(&outermost(&ranges), &log.entries);
            if gone > 0 {
                *compared.log_missing_in_bucket.entry(source.clone()).or_default() += gone;
            }
        }
        let unknown = there.values().map(|ranges| outermost(ranges).len() as u64);
        compared.log_missing_in_catalog += unknown.sum::<u64>();
    }
    note_known(repository, &catalog, &compared.found.never_counted).await?;
    // The log was read as well.
    compared.found.alarms = repository.alarms();
    Ok(compared)
}

/// Raises an alarm for what was deleted, of which no state counts any more, and which this host has read.
async fn note_known(repository: &Repository, catalog: &Catalog, deleted: &[Key]) -> Result<()> {
    if deleted.is_empty() {
        return Ok(());
    }
    for source in repository.sources().await? {
        let known = catalog.documents(&source).await?;
        for key in deleted.iter().filter(|key| known.contains::<str>(key.as_ref())) {
            repository.bucket.alarm(key, Odd::Lost);
        }
    }
    Ok(())
}

/// The backups that a catalog knows, and that were removed on purpose.
async fn gone_on_purpose(
    repository: &Repository,
    catalog: &Catalog,
    known: &[BackupSummary],
) -> Result<BTreeSet<(SourceId, BackupId)>> {
    let sources: BTreeSet<&SourceId> = known.iter().map(|backup| &backup.source).collect();
    let mut gone = BTreeSet::new();
    for source in sources {
        let removed = removed(repository, catalog, source).await?.into_iter();
        gone.extend(removed.map(|backup| (source.clone(), backup)));
    }
    Ok(gone)
}

/// What is missing of the log of each source that has base backups in the bucket, and what of it does
/// not count.
async fn holes(
    repository: &Repository,
    catalog: &Catalog,
    backups: &[BackupSummary],
) -> Result<(BTreeMap<SourceId, Holes>, Vec<String>)> {
    let mut by_source: BTreeMap<SourceId, Vec<BackupSummary>> = BTreeMap::new();
    for backup in backups {
        by_source.entry(backup.source.clone()).or_default().push(backup.clone());
    }
    let (mut found, mut refused) = (BTreeMap::new(), Vec::new());
    for (source, mut backups) in by_source {
        // The log of what pgBackRest keeps is for `drctl verify`.
        only_there(&mut backups, None);
        let copies = (Copies::of(&backups, &mut Vec::new()), None);
        let known = learn(repository, &source, copies, Some(catalog), Vec::new(), None).await?;
        let Some(known) = known else { continue };
        refused.extend(known.refused.iter().map(|why| format!("{source}: {why}")));
        let holes = (known.pieces > 0).then(|| Holes::of(&known));
        found.extend(holes.filter(|holes| *holes != Holes::default()).map(|one| (source, one)));
    }
    Ok((found, refused))
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
