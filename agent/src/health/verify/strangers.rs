//! What lies there and cannot be one of ours that was damaged: told as a stranger's, and nothing is bad for it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::{
    BackupId, BackupKind, Closeness, DrillId, LogEntry, LogPart, LogPlace, Lsn, Named, SourceId,
    WalSegmentSize, shown,
};
use drctl_policies::Engine;
use drctl_store::{Key, layout};
use jiff::Timestamp;

use super::{Beside, TEXT_SHOWN};
use crate::engine::wal::cached_log;
use crate::host::Setup;
use crate::log::{LogVerdict, Unsigned, trust_digest};
use crate::repository::documents::Doubtful;
use crate::repository::faults::is_unsigned;
use crate::repository::{Notebook, Repository, horizon};

const FUTURE: &str = "it is dated in the future";
const NO_DATA: &str = "no data of a backup lies with it, and no backup names it";
const NEEDLESS: &str = "no WAL can be missing there";
const IMPOSSIBLE: &str = "no piece of WAL has such a range";
const NO_BASE: &str = "no base backup is of that cluster";

/// What tells the two apart.
pub(super) struct Strangers {
    /// What this host remembers, where it does.
    catalog: Option<Catalog>,
    /// The keys of all that it has read, and of the manifests that signed documents name.
    known: BTreeSet<String>,
    /// Sources of which each backup has its data in the bucket.
    whole: BTreeSet<SourceId>,
    /// The clusters of which there are base backups, by source, with the size of their segments.
    clusters: BTreeMap<SourceId, BTreeMap<u64, WalSegmentSize>>,
    now: Timestamp,
}

impl Strangers {
    /// # Errors
    /// The store's, the catalog's.
    pub(super) async fn of(setup: &Setup, repository: &Repository) -> Result<Self> {
        let is_whole = |id: &SourceId| {
            let engine = setup.config.sources.get(id).map(|source| &source.engine);
            engine.is_some_and(|engine| !matches!(engine, Engine::Pgbackrest(_)))
        };
        let sources = repository.sources().await?;
        let mut found = Strangers {
            catalog: setup.log_cache(repository).await,
            known: BTreeSet::new(),
            whole: sources.iter().filter(|id| is_whole(id)).cloned().collect(),
            clusters: BTreeMap::new(),
            now: setup.clock.now(),
        };
        let Some(catalog) = &found.catalog else { return Ok(found) };
        for backup in catalog.backups(None).await? {
            found.known.insert(layout::manifest(&backup.source, &backup.backup).to_string());
            if matches!(backup.kind, BackupKind::External(_)) {
                found.whole.remove(&backup.source);
            }
            if let Some(at) = backup.kind.coordinates() {
                let clusters = found.clusters.entry(backup.source.clone()).or_default();
                clusters.insert(at.system_id, at.segment_size);
            }
        }
        // What is gone was there once.
        found.known.extend(catalog.lost(None).await?.into_iter().map(|lost| lost.key));
        for source in sources {
            let named = catalog.named(&source).await?.into_iter();
            let named = named.map(|one| layout::manifest(&source, &one.named.backup).to_string());
            found.known.extend(named);
            found.known.extend(catalog.documents(&source).await?);
        }
        Ok(found)
    }

    /// Whether what lies in the place of a manifest is a stranger's: tells it then, and what an earlier look
    /// thought of it is over.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn take(
        &self,
        (repository, notebook): (&Repository, &Notebook),
        of: (&SourceId, &BackupId),
        error: &anyhow::Error,
        beside: &mut Beside,
    ) -> Result<bool> {
        let told = self.manifest(repository, of, error, beside.names(of.0)).await?;
        let Some(told) = told else { return Ok(false) };
        notebook.backup((of.0, of.1, None), Closeness::Structure, &[]).await;
        beside.strangers.push(told);
        Ok(true)
    }

    async fn manifest(
        &self,
        repository: &Repository,
        (source, id): (&SourceId, &BackupId),
        error: &anyhow::Error,
        names: &[(Named, String)],
    ) -> Result<Option<String>> {
        let key = layout::manifest(source, id).to_string();
        let is_named = names.iter().any(|(named, _)| named.backup == *id);
        if !is_unsigned(error) || self.known.contains(&key) || is_named {
            return Ok(None);
        }
        let why = if *id > BackupId::new(horizon(self.now), u64::MAX) {
            FUTURE
        } else if self.whole.contains(source) && !has_data(repository, source, id).await? {
            NO_DATA
        } else {
            return Ok(None);
        };
        Ok(Some(strange(&format!("{error:#}"), why)))
    }

    /// The same of a signed document beside backups and log.
    pub(super) fn document(&self, key: &str, text: &str) -> Option<String> {
        let drill = layout::drill_at(&Key::from(key)).map(|(_, id)| id);
        let is_future = drill.is_some_and(|id| id > DrillId::new(horizon(self.now), u64::MAX));
        (is_future && !self.known.contains(key)).then(|| strange(text, FUTURE))
    }

    /// Takes out of what is refused what is a stranger's, and gives that.
    pub(super) fn judge(&self, doubts: &mut Doubtful) -> Vec<String> {
        let mut strangers = Vec::new();
        for (key, text) in std::mem::take(&mut doubts.unsigned) {
            let Some(told) = self.document(&key, &text) else { continue };
            doubts.refused.retain(|one| *one != text);
            strangers.push(told);
        }
        strangers
    }

    /// Takes out of what is wrong with a log what is a stranger's, and gives that.
    ///
    /// # Errors
    /// The catalog's.
    pub(super) async fn log(
        &self,
        repository: &Repository,
        source: &SourceId,
        log: &mut LogVerdict,
    ) -> Result<Vec<String>> {
        let mut told = Vec::new();
        for one in std::mem::take(&mut log.unsigned) {
            let text = &one.problem.1;
            let strange = match &one.place {
                Some(place) => self.piece(repository, source, (place, &one)).await?,
                None => {
                    let all = one.keys.iter().map(|key| self.document(key, text));
                    all.collect::<Option<Vec<String>>>().and_then(|all| all.into_iter().next())
                }
            };
            let Some(strange) = strange else { continue };
            let at = log.problems.iter().position(|problem| *problem == one.problem);
            if let Some(at) = at {
                log.problems.remove(at);
            }
            log.pieces -= u64::from(one.place.is_some());
            told.push(strange);
        }
        Ok(told)
    }

    async fn piece(
        &self,
        repository: &Repository,
        source: &SourceId,
        (place, one): (&LogPlace, &Unsigned),
    ) -> Result<Option<String>> {
        let cluster = place.lineage.timeline().map(|(system_id, _)| system_id);
        let clusters = self.clusters.get(source);
        let size = cluster.and_then(|cluster| clusters?.get(&cluster).copied());
        // A host that knows no base backup at all cannot tell.
        let no_base = clusters.is_some() && size.is_none();
        let why = if one.needless {
            NEEDLESS
        } else if size.is_some_and(|size| crosses(size, &place.part)) {
            IMPOSSIBLE
        } else if one.alone && no_base {
            NO_BASE
        } else {
            return Ok(None);
        };
        let is_known = one.keys.iter().any(|key| self.known.contains(key))
            || self.knows(repository, source, place).await?;
        Ok((!is_known).then(|| strange(&one.problem.1, why)))
    }

    /// Whether this host has learnt of a piece.
    async fn knows(
        &self,
        repository: &Repository,
        source: &SourceId,
        place: &LogPlace,
    ) -> Result<bool> {
        let of = self.catalog.as_ref().zip(place.lineage.timeline());
        let Some((catalog, (system_id, timeline))) = of else { return Ok(false) };
        let LogPart::Range { start, end } = place.part else { return Ok(false) };
        let trust = trust_digest(&repository.trust);
        let known = cached_log(catalog, source, system_id, trust).await?;
        let range = (Lsn(start.0), Lsn(end.0));
        // Also what it has learnt while other keys were believed.
        Ok(known
            .get(&timeline)
            .is_some_and(|log| log.known().iter().any(|entry| LogEntry::range(entry) == range)))
    }
}

/// Whether a range goes beyond the end of its segment.
fn crosses(size: WalSegmentSize, part: &LogPart) -> bool {
    let LogPart::Range { start, end } = part else { return false };
    size.start_of(Lsn(start.0)) != size.start_of(Lsn(end.0.saturating_sub(1)))
}

async fn has_data(repository: &Repository, source: &SourceId, id: &BackupId) -> Result<bool> {
    let folders = repository.bucket.list_folders(&layout::backup(source, id)).await?;
    Ok(!folders.is_empty())
}

fn strange(what: &str, why: &str) -> String {
    format!(
        "{}: {why}, and this host never knew it: no key that is trusted here has signed it, and it damages \
         nothing. If a host of yours signed it, add its key to keys.verifying_keys. Otherwise find out who \
         may write into the bucket, and then remove it with the bucket's own client",
        shown(what, TEXT_SHOWN)
    )
}
