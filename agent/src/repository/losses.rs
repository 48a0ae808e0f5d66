//! What was there once and is not any more: the catalog remembers it until it is there again as it
//! was, or an operator forgets it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use drctl_catalog::{Catalog, CatalogError, Loss, Lost, Why};
use drctl_model::{
    BackupId, BackupSummary, Digest, MOST_NAMED, SourceId, chain, newest, shown, total,
};
use drctl_store::layout;
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use super::count_and_size::Seen;
use super::faults::is_bad_manifest;
use super::find::named;
use super::named::{Names, by_manifest, keep, missed, missed_after};
use super::removed::removed;
use super::statements::{note, statements};
use super::untrusted::{is_as_it_was, not_trusted};
use super::{Latest, MANIFESTS_AT_ONCE, Passed, Proven, Repository, documents};
use crate::host::{AgentError, Setup};

/// Of a source with no more objects than this all that is listed is compared with what is signed;
/// of a larger one only what its newest good backup is based on.
const WEIGHED: u64 = 20_000;

/// Compares the backups that the catalog knows of a source with the bucket: whether their manifests
/// are listed, and as many objects and bytes as these name. The newest manifests are read.
/// Gives what is gone, remembered or found now, and remembers it.
///
/// # Errors
/// The store's, and the catalog's.
pub(crate) async fn look_for_losses(
    setup: &Setup,
    repository: &Repository,
    catalog: &Catalog,
    source: &SourceId,
) -> Result<Vec<Lost>> {
    let writable = setup.log_cache(repository).await;
    let removed = removed(repository, catalog, source).await?;
    if let Some(writable) = &writable {
        let taken = writable.take_out(source, removed.clone()).await;
        let _ = taken.inspect_err(|error| tracing::debug!("removals are not noted: {error}"));
    }
    let mut known = catalog.backups(Some(source)).await?;
    known.retain(|backup| !removed.contains(&backup.backup));
    let (mut lost, mut names) = (BTreeMap::new(), Names::new());
    if !known.is_empty() {
        lost = listed_losses(repository, source, &known).await?;
        read_manifests(repository, &known, &mut lost, &mut names).await?;
    }
    if let Some(writable) = &writable {
        keep(writable, source, names.clone()).await;
    }
    for (key, why) in missed(repository, Some(catalog), source, names, &known).await? {
        lost.entry(key).or_insert(why);
    }
    let said = catalog.statements(source).await?;
    let unsaid = missed_statements(repository, writable.as_ref(), source, &said).await?;
    lost.extend(unsaid.into_iter().map(gone));
    let signed = documents::missed(repository, (catalog, writable.as_ref()), source).await?;
    lost.extend(signed.gone.into_iter().map(gone));
    let mut kept = catalog.lost(Some(source)).await?;
    let key = |id: &BackupId| layout::manifest(source, id).to_string();
    let on_purpose: BTreeSet<String> = removed.iter().map(key).collect();
    kept.retain(|one| !on_purpose.contains(&one.key));
    let mut asked = asked(catalog, source, &known).await?;
    asked.extend(said.keys().map(|n| layout::statement(source, *n).to_string()));
    asked.extend(signed.known);
    let is_back = |one: &&Lost| asked.contains(&one.key) && !lost.contains_key(&one.key);
    let back: Vec<String> = kept.iter().filter(is_back).map(|one| one.key.clone()).collect();
    let now = setup.clock.now();
    // One that cannot be written tells the same, and will find it again.
    if let Some(writable) = writable {
        let told = writable.remember_lost(source, now, lost.clone(), back.clone()).await;
        let _ = told.inspect_err(|error| tracing::debug!("what is lost is not noted: {error}"));
    }
    Ok(merged(source, kept, lost, &back, now))
}

/// What this host knew of what was said of a source, and the bucket lacks; what is new is noted.
async fn missed_statements(
    repository: &Repository,
    writable: Option<&Catalog>,
    source: &SourceId,
    known: &BTreeMap<u64, Digest>,
) -> Result<BTreeMap<String, String>> {
    let there = statements(repository, source).await?;
    note(writable, source, &there).await;
    Ok(there.gone(known))
}

/// The backup whose identifier begins with `wanted`; of one that is gone the error says that it was
/// there, as far as this host remembers it.
///
/// # Errors
/// As [`Repository::find`].
pub(crate) async fn find(
    setup: &Setup,
    repository: &Repository,
    source: Option<&SourceId>,
    wanted: &str,
) -> Result<Proven> {
    let (named, wanted) = named(source, wanted)?;
    let source = named.as_ref();
    let none = match repository.find(source, wanted).await {
        Err(error) if matches!(error.downcast_ref(), Some(AgentError::NoBackup(_))) => error,
        found => return found,
    };
    let Some(catalog) = setup.log_cache(repository).await else { return Err(none) };
    let Some((source, id, text)) = remembered(&catalog, source, wanted).await? else {
        return Err(none);
    };
    // A few signs may fit others that are there.
    let there = repository.attempts(&source).await?;
    let others = there.iter().any(|other| *other != id && other.as_str().starts_with(wanted));
    Err(if others { none } else { AgentError::NoBackup(text).into() })
}

/// What the catalog remembers of a backup whose identifier begins with `wanted`, in words.
async fn remembered(
    catalog: &Catalog,
    source: Option<&SourceId>,
    wanted: &str,
) -> Result<Option<(SourceId, BackupId, String)>> {
    let fits = |id: &BackupId| id.as_str().starts_with(wanted);
    let known = catalog.backups(source).await?;
    let taken = |id: &BackupId| {
        let backup = known.iter().find(|backup| backup.backup == *id);
        backup.map_or(String::new(), |backup| format!(", of {:.0},", backup.started))
    };
    let tell = |source: &SourceId, id: BackupId, why: &str| {
        let text = format!(
            "the backup {id} of {source}{} was there, and is gone from the bucket: {why}",
            taken(&id)
        );
        Some((source.clone(), id, text))
    };
    for lost in catalog.lost(source).await? {
        if let Some((id, why)) = lost_backup(&lost).filter(|(id, _)| fits(id)) {
            return Ok(tell(&lost.source, id, &why));
        }
    }
    let known = known.iter().find(|backup| fits(&backup.backup));
    let why = "nobody has missed it before";
    Ok(known.and_then(|backup| tell(&backup.source, backup.backup.clone(), why)))
}

/// The backup whose manifest it is that is gone, and what is said of that.
fn lost_backup(lost: &Lost) -> Option<(BackupId, String)> {
    let id: BackupId = lost.key.split('/').nth(3)?.parse().ok()?;
    let is_its = layout::manifest(&lost.source, &id).as_ref() == lost.key;
    let why = || format!("{}, missed since {:.0}", shown(&lost.why, 300), lost.at);
    is_its.then(|| (id, why()))
}

/// Names among the backups that were not chosen those newer ones that this host remembers, or that signed
/// documents name, and that are gone.
///
/// # Errors
/// The store's.
pub(crate) async fn add_lost(
    setup: &Setup,
    repository: &Repository,
    source: &SourceId,
    latest: &mut Latest,
) -> Result<()> {
    let catalog = setup.log_cache(repository).await;
    let remembered = async {
        let Some(catalog) = &catalog else { return Ok((Vec::new(), Vec::new())) };
        let known = catalog.backups(Some(source)).await?;
        Ok::<_, CatalogError>((known, catalog.lost(Some(source)).await?))
    };
    let (known, lost) = remembered.await.unwrap_or_default();
    let chosen = latest.backup.summary();
    let mut gone: BTreeMap<BackupId, String> =
        named_and_gone(repository, catalog.as_ref(), source, latest).await?;
    for backup in known.into_iter().filter(|one| one.newer(&chosen).is_gt()) {
        gone.insert(backup.backup, "it is gone from the bucket".to_owned());
    }
    gone.extend(lost.iter().filter_map(lost_backup).filter(|(id, _)| *id > chosen.backup));
    for (backup, why) in gone {
        // Whatever else speaks against one that is there was told when it was looked at.
        if backup == chosen.backup || repository.manifest_is_there(source, &backup).await? {
            continue;
        }
        latest.passed.retain(|passed| passed.backup != backup);
        latest.passed.push(Passed { backup, why: format!("it is LOST: {why}") });
    }
    latest.passed.sort_by(|one, other| other.backup.cmp(&one.backup));
    Ok(())
}

/// The backups that are newer than the chosen one, that signed documents name, and that the bucket lacks,
/// with what is said of that; of a host that remembers nothing too.
async fn named_and_gone(
    repository: &Repository,
    catalog: Option<&Catalog>,
    source: &SourceId,
    latest: &Latest,
) -> Result<BTreeMap<BackupId, String>> {
    let chosen = &latest.backup.manifest.backup;
    let mut names = Names::new();
    // What is newer is named by what is newer still.
    for newer in latest.passed.iter().filter(|passed| passed.backup > *chosen).take(MOST_NAMED) {
        match repository.manifest(source, &newer.backup).await {
            Ok(found) => names.extend(found.iter().flat_map(|found| by_manifest(&found.manifest))),
            Err(error) if is_bad_manifest(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let missed = missed_after(repository, catalog, source, (names, Some(chosen)), &[]).await?;
    let backup = |(key, why): (String, Why)| Some((key.split('/').nth(3)?.parse().ok()?, why.text));
    Ok(missed.into_iter().filter_map(backup).collect())
}

/// The keys of all manifests that the catalog knows, or that signed documents name.
async fn asked(
    catalog: &Catalog,
    source: &SourceId,
    known: &[BackupSummary],
) -> Result<BTreeSet<String>> {
    let named = catalog.named(source).await?;
    let named = named.iter().map(|one| &one.named.backup);
    let all = known.iter().map(|backup| &backup.backup).chain(named);
    Ok(all.map(|id| layout::manifest(source, id).to_string()).collect())
}

/// What is gone of a source whose manifests in the bucket were just read, also where this host has no
/// catalog: `there` they are, and `names` is what they name.
///
/// # Errors
/// The store's, and the catalog's.
pub(crate) async fn told(
    setup: &Setup,
    repository: &Repository,
    source: &SourceId,
    (there, names): (&[BackupSummary], Names),
) -> Result<Vec<Lost>> {
    if let Some(catalog) = setup.log_cache(repository).await {
        keep(&catalog, source, names).await;
        return look_for_losses(setup, repository, &catalog, source).await;
    }
    let at = setup.clock.now();
    let missed = missed(repository, None, source, names, there).await?;
    Ok(missed.into_iter().map(|one| lost(source, one, at)).collect())
}

/// Those of what is missing that are not among what is `told` to be gone.
pub(crate) fn told_once(
    told: &[Lost],
    source: &SourceId,
    missing: Vec<(String, Why)>,
    at: Timestamp,
) -> Vec<Lost> {
    let new = missing.into_iter().filter(|(key, _)| told.iter().all(|one| one.key != *key));
    new.map(|one| lost(source, one, at)).collect()
}

fn lost(source: &SourceId, (key, Why { loss, text }): (String, Why), at: Timestamp) -> Lost {
    Lost { source: source.clone(), key, loss, why: text, at }
}

/// The same of a document of which nothing but a text is known: it is gone.
pub(crate) fn gone((key, why): (String, String)) -> (String, Why) {
    (key, why.into())
}

/// What a listing shows to be gone, by the manifests' keys.
async fn listed_losses(
    repository: &Repository,
    source: &SourceId,
    known: &[BackupSummary],
) -> Result<BTreeMap<String, Why>> {
    let objects = |backup: &BackupSummary| backup.objects.map_or(0, |(objects, _)| objects);
    let bucket = &repository.bucket;
    let mut seen = Seen::default();
    let is_small = total(known.iter().map(objects)) <= WEIGHED;
    let mut there = BTreeSet::new();
    if is_small {
        seen.list(bucket, &layout::backups(source)).await.context("list the backups")?;
    } else {
        there = repository.attempts(source).await?.into_iter().collect::<BTreeSet<BackupId>>();
        let newest = newest_chain(known);
        for backup in newest.into_iter().filter(|backup| objects(backup) <= WEIGHED) {
            let prefix = layout::backup(source, &backup.backup);
            seen.list(bucket, &prefix).await.context("list the objects of a backup")?;
        }
    }
    let mut lost = BTreeMap::new();
    for backup in known {
        let at = (source.clone(), backup.backup.clone());
        let weight = seen.data.get(&at).copied();
        let why = if seen.manifests.contains(&at) {
            let signed = backup.objects;
            signed.and_then(|signed| weight.unwrap_or_default().lacks(bucket, &at, signed))
        } else if is_small || !there.contains(&backup.backup) {
            Some(match weight.map(|weight| weight.now.0) {
                None | Some(0) => "nothing of it is in the bucket any more".to_owned(),
                Some(_) => "its manifest is gone".to_owned(),
            })
        } else {
            None
        };
        let key = || layout::manifest(source, &backup.backup).to_string();
        lost.extend(why.map(|why| gone((key(), why))));
    }
    Ok(lost)
}

/// Reads the newest manifests, and those that the newest good backup is based on, of those that are
/// listed: what they name, and what is wrong with them.
async fn read_manifests(
    repository: &Repository,
    known: &[BackupSummary],
    lost: &mut BTreeMap<String, Why>,
    names: &mut Names,
) -> Result<()> {
    let key = |backup: &BackupSummary| layout::manifest(&backup.source, &backup.backup).to_string();
    let mut wanted: BTreeMap<String, &BackupSummary> =
        newest_chain(known).into_iter().map(|backup| (key(backup), backup)).collect();
    wanted.extend(known.iter().take(MOST_NAMED).map(|backup| (key(backup), backup)));
    wanted.retain(|key, _| !lost.contains_key(key));
    let reading = wanted.into_iter().map(|(key, backup)| async move {
        let found = read(repository, backup).await;
        (key, found)
    });
    let mut reading = stream::iter(reading).buffered(MANIFESTS_AT_ONCE);
    while let Some((key, found)) = reading.next().await {
        match found? {
            Ok(found) => names.extend(by_manifest(&found.manifest)),
            Err(why) => drop(lost.insert(key, why)),
        }
    }
    Ok(())
}

/// Whether what is gone is a backup, or some of it: of the bucket, or of what another tool keeps.
pub(crate) fn is_of(lost: &Lost, backup: &BackupSummary) -> bool {
    let place = || backup.kind.external().is_some_and(|external| external.place() == lost.key);
    lost.key == layout::manifest(&backup.source, &backup.backup).as_ref()
        || (lost.source == backup.source && place())
}

/// Whether a backup is among what is gone. One that is there, if not as it was, is as good as it says
/// itself.
pub(crate) fn is_lost(lost: &[Lost], backup: &BackupSummary) -> bool {
    lost.iter().any(|one| is_of(one, backup) && one.loss != Loss::Replaced)
}

/// The newest good backup and what it is based on.
fn newest_chain(known: &[BackupSummary]) -> Vec<&BackupSummary> {
    let find = |id: &BackupId| known.iter().find(|backup| backup.backup == *id);
    let good = newest(known.iter().filter(|backup| backup.is_good()));
    good.and_then(|good| chain(good, find).ok()).unwrap_or_default()
}

/// The manifest of a backup that the catalog knows, or what is wrong with it.
async fn read(repository: &Repository, backup: &BackupSummary) -> Result<Result<Proven, Why>> {
    let BackupSummary { source, backup: id, manifest_sha256, .. } = backup;
    Ok(match repository.manifest(source, id).await {
        Err(error) if is_bad_manifest(&error) => {
            Err(match is_as_it_was(repository, backup).await? {
                true => not_trusted(repository, backup),
                false => format!("{error:#}").into(),
            })
        }
        Err(error) => return Err(error),
        Ok(None) => Err("its manifest is gone".to_owned().into()),
        Ok(Some(Proven { sha256, .. })) if sha256 != *manifest_sha256 => {
            Err("its manifest was replaced by another one".to_owned().into())
        }
        Ok(Some(found)) => Ok(found),
    })
}

fn merged(
    source: &SourceId,
    kept: Vec<Lost>,
    found: BTreeMap<String, Why>,
    back: &[String],
    at: Timestamp,
) -> Vec<Lost> {
    let mut all: BTreeMap<String, Lost> = kept
        .into_iter()
        .filter(|lost| !back.contains(&lost.key))
        .map(|lost| (lost.key.clone(), lost))
        .collect();
    for (key, why) in found {
        let since = all.get(&key).map_or(at, |lost| lost.at);
        all.insert(key.clone(), lost(source, (key, why), since));
    }
    all.into_values().collect()
}
