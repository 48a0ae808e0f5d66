//! The catalog follows what is in pgBackRest's repository: what others made is recorded, what
//! pgBackRest has expired is marked.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use drctl_catalog::Catalog;
use drctl_engines::backrest::{Backup, Info};
use drctl_model::{BackupId, BackupSummary, External, Origin, SourceId, shown};
use drctl_policies::{Engine, Pgbackrest};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;

use super::record::{Aside, Recorder, Unrecorded, is_ours};
use crate::host::Setup;
use crate::jobs::settle::committed;
use crate::repository::Repository;

/// How many records are written or read at once: each waits for the bucket, and is small.
const AT_ONCE: usize = 16;

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Synced {
    /// Records that were written just now.
    pub recorded: Vec<BackupSummary>,
    /// Backups in pgBackRest's repository that were recorded before.
    pub known: usize,
    /// Backups that were recorded and are not in pgBackRest's repository any more.
    pub expired: Vec<BackupId>,
    /// Labels that cannot be recorded, and why.
    pub refused: Vec<(String, String)>,
    /// Why it cannot be told what has expired, where it cannot.
    pub unknown: Option<String>,
}

/// A cluster and a label: what a backup is known by.
type Name = (u64, String);

fn name(external: &External) -> Name {
    (external.at.system_id, external.label.clone())
}

/// Records what pgBackRest has and nobody has recorded, and marks what it has no more.
///
/// # Errors
/// Those of bucket and catalog.
pub(super) async fn sync(
    recorder: &Recorder<'_>,
    catalog: &Catalog,
    info: &Info,
) -> Result<Synced> {
    let mut found = Synced::default();
    let mut known = recorded(catalog, recorder.source, recorder.config).await?;
    if info.backups.iter().any(|backup| !is_known(&known, info, backup)) {
        // Another host, or a process that died, may have recorded them.
        learn(recorder, catalog).await?;
        known = recorded(catalog, recorder.source, recorder.config).await?;
    }
    let (old, new): (Vec<&Backup>, Vec<&Backup>) =
        info.backups.iter().partition(|backup| is_known(&known, info, backup));
    found.known = old.len();
    let records = stream::iter(new).map(|backup| async move {
        match adopt(recorder, info, backup).await {
            Ok(summary) => Ok(Ok(summary)),
            Err(Unrecorded::Refused(why)) => Ok(Err((shown(&backup.label, 60), why))),
            Err(Unrecorded::Failed(error)) => {
                Err(error.context(format!("record {}", shown(&backup.label, 60))))
            }
        }
    });
    let mut records = records.buffered(AT_ONCE);
    let mut failed = None;
    while let Some(record) = records.next().await {
        match record {
            Ok(Ok(summary)) => found.recorded.push(summary),
            Ok(Err(refused)) => found.refused.push(refused),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    drop(records);
    // What was written counts, also where the next one failed.
    catalog.adopt_all(&found.recorded).await.context("record what was found")?;
    if let Some(error) = failed {
        return Err(error);
    }
    match info.is_whole() {
        true => {
            found.expired =
                mark((recorder.setup, recorder.source, recorder.config), catalog, info).await?
        }
        false => found.unknown = Some(shown(&info.status.message, 300)),
    }
    Ok(found)
}

/// What the catalog knows of this stanza and repository.
async fn recorded(
    catalog: &Catalog,
    source: &SourceId,
    settings: &Pgbackrest,
) -> Result<BTreeMap<Name, (BackupId, External)>> {
    let all = catalog.backups(Some(source)).await?;
    let ours = all.into_iter().filter_map(|backup| {
        let external = backup.kind.external().filter(|external| is_ours(settings, external))?;
        Some((name(external), (backup.backup.clone(), external.clone())))
    });
    Ok(ours.collect())
}

fn is_known(known: &BTreeMap<Name, (BackupId, External)>, info: &Info, backup: &Backup) -> bool {
    let cluster = info.cluster(backup.database_id);
    cluster.is_some_and(|cluster| known.contains_key(&(cluster.system_id, backup.label.clone())))
}

/// Takes up what the bucket has of this source and the catalog does not know.
async fn learn(recorder: &Recorder<'_>, catalog: &Catalog) -> Result<()> {
    let known: BTreeSet<BackupId> = catalog
        .backups(Some(recorder.source))
        .await?
        .into_iter()
        .map(|backup| backup.backup)
        .collect();
    let attempts = recorder.repository.attempts(recorder.source).await?;
    let unknown = attempts.into_iter().filter(|id| !known.contains(id));
    let read = stream::iter(unknown)
        .map(async |id| committed(recorder.repository, recorder.source, &id).await);
    let found: Vec<Option<BackupSummary>> = read.buffered(AT_ONCE).try_collect().await?;
    let found: Vec<BackupSummary> = found.into_iter().flatten().collect();
    Ok(catalog.adopt_all(&found).await?)
}

/// Records one that was found. The annotation tells whether a drctl made it that could not say so
/// any more: then under the identifier that it had for it.
async fn adopt(
    recorder: &Recorder<'_>,
    info: &Info,
    backup: &Backup,
) -> Result<BackupSummary, Unrecorded> {
    let annotated = backup.annotation.as_ref().and_then(|text| text.parse::<BackupId>().ok());
    if let Some(id) = annotated {
        match recorder.record(info, backup, &id, Aside::default(), Origin::Drctl).await {
            // Something else lies under it: then the annotation says nothing.
            Err(Unrecorded::Failed(error)) => {
                tracing::warn!(label = backup.label, "its annotation is not used: {error:#}");
            }
            done => return done,
        }
    }
    let system_id = info.cluster(backup.database_id).map_or(0, |cluster| cluster.system_id);
    let id = recorder.found_id(system_id, backup);
    recorder.record(info, backup, &id, Aside::default(), Origin::Elsewhere).await
}

/// Marks what is recorded and not there any more; what is of another stanza stays as it was. What no
/// retention takes away is missed from then on, until somebody says that it is explained.
async fn mark(
    (setup, source, settings): (&Setup, &SourceId, &Pgbackrest),
    catalog: &Catalog,
    info: &Info,
) -> Result<Vec<BackupId>> {
    let labels: BTreeSet<&str> = info.backups.iter().map(|backup| backup.label.as_str()).collect();
    let known = recorded(catalog, source, settings).await?;
    let known: Vec<(BackupId, External)> = known.into_values().collect();
    let (there, gone): (Vec<_>, Vec<_>) =
        known.iter().partition(|(_, external)| labels.contains(external.label.as_str()));
    let ours: BTreeSet<&BackupId> = known.iter().map(|(id, _)| id).collect();
    let before = catalog.expired(Some(source)).await?;
    let before: BTreeSet<BackupId> = before.into_keys().map(|(_, id)| id).collect();
    let new: Vec<&External> =
        gone.iter().filter(|(id, _)| !before.contains(id)).map(|(_, external)| external).collect();
    let mut missed = missed(&new, info);
    if !missed.is_empty() {
        // Somebody else may have made and recorded it since pgBackRest was asked.
        missed = self::missed(&new, &super::engine(setup, settings)?.info().await?);
    }
    let now = setup.clock.now();
    let there: BTreeSet<String> = there.iter().map(|(_, external)| external.place()).collect();
    let kept = catalog.lost(Some(source)).await?.into_iter().map(|lost| lost.key);
    let back = kept.filter(|key| there.contains(key)).collect();
    // First of all what is missed: what is known to have expired is not missed later.
    catalog.remember_lost(source, now, missed, back).await.context("note what is gone")?;
    let others = before.into_iter().filter(|id| !ours.contains(id));
    let all: BTreeSet<BackupId> = others.chain(gone.iter().map(|(id, _)| id.clone())).collect();
    catalog.set_expired(source, now, all).await.context("mark what has expired")?;
    Ok(gone.into_iter().map(|(id, _)| id.clone()).collect())
}

/// Those of the backups that no retention takes away, by the names under which they are missed, with what
/// is said of each.
fn missed(gone: &[&External], info: &Info) -> BTreeMap<String, String> {
    let missed = gone.iter().filter(|external| info.misses(&external.label));
    let told = |external: &&External| {
        let text = format!(
            "pgBackRest has no backup {} any more, which was the newest, and still has older ones: its \
             retention never expires the newest",
            external.label
        );
        (external.place(), text)
    };
    missed.map(told).collect()
}

/// Marks in this host's catalog, where it can be written, what pgBackRest has expired: others may have
/// told it to, or have made its repository anew. What it says of each source.
pub(crate) async fn mark_now(setup: &Setup) -> BTreeMap<SourceId, Info> {
    let mut engines = setup.config.sources.values().map(|source| &source.engine);
    if !engines.any(|engine| matches!(engine, Engine::Pgbackrest(_))) {
        return BTreeMap::new();
    }
    match setup.writable_catalog().await {
        Some(catalog) => mark_anew(setup, &catalog).await,
        None => BTreeMap::new(),
    }
}

/// The same of one source, by what pgBackRest said just now.
pub(crate) async fn mark_seen(setup: &Setup, source: &SourceId, info: &Info) {
    let configured = setup.configured(source.as_str()).map(|(_, source)| &source.engine);
    let Some(Engine::Pgbackrest(settings)) = configured else { return };
    let Some(catalog) = setup.writable_catalog().await else { return };
    let marked = mark((setup, source, settings), &catalog, info).await;
    if let Err(error) = marked {
        tracing::debug!("what pgBackRest has expired of {source} is not noted: {error:#}");
    }
}

/// The backups whose data pgBackRest has no more, as far as this host can remember it; and what it says of
/// each source.
pub(crate) async fn expired(
    setup: &Setup,
    repository: &Repository,
) -> (BTreeMap<(SourceId, BackupId), Timestamp>, BTreeMap<SourceId, Info>) {
    let said = mark_now(setup).await;
    let expired = match setup.log_cache(repository).await {
        Some(catalog) => catalog.expired(None).await.unwrap_or_default(),
        None => BTreeMap::new(),
    };
    (expired, said)
}

/// Marks in a catalog that was made anew what pgBackRest has expired, of all sources; of those
/// whose repository cannot be read nothing is known. What it says of the others.
pub(crate) async fn mark_anew(setup: &Setup, catalog: &Catalog) -> BTreeMap<SourceId, Info> {
    let mut said = BTreeMap::new();
    for (id, source) in &setup.config.sources {
        let Engine::Pgbackrest(settings) = &source.engine else { continue };
        let marked = async {
            let info = super::engine(setup, settings)?.info().await?;
            mark((setup, id, settings), catalog, &info).await?;
            Ok::<_, anyhow::Error>(info)
        };
        match marked.await {
            Ok(info) => drop(said.insert(id.clone(), info)),
            Err(error) => {
                tracing::warn!("what pgBackRest has expired of {id} is not known: {error:#}");
            }
        }
    }
    said
}
