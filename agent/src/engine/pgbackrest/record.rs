//! The record of a backup that pgBackRest keeps: a signed manifest, made of what `info` says of
//! that very label.

use std::collections::BTreeMap;

use anyhow::Result;
use drctl_engines::backrest::{Backup, Info};
use drctl_model::{
    BackupId, BackupKind, BackupSummary, Engine, External, Facts, Manifest, Named, Origin,
    PGBACKREST, SourceId, WalSegmentSize, to_name,
};
use drctl_policies::Pgbackrest;
use drctl_store::{Recipients, SigningKey, StoreError, digest};
use tokio::sync::OnceCell;

use super::place::coordinates;
use crate::backup::commit::{Frame, Signed};
use crate::host::Setup;
use crate::repository::{Repository, named};

/// Why a backup is not recorded.
pub(super) enum Unrecorded {
    /// What pgBackRest says of it cannot be used; others can be.
    Refused(String),
    /// The bucket.
    Failed(anyhow::Error),
}

impl From<Unrecorded> for anyhow::Error {
    fn from(unrecorded: Unrecorded) -> Self {
        match unrecorded {
            Unrecorded::Refused(why) => crate::host::AgentError::Incomplete(why).into(),
            Unrecorded::Failed(error) => error,
        }
    }
}

/// Writes records of one source's backups.
pub(crate) struct Recorder<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) repository: &'a Repository,
    pub(crate) source: &'a SourceId,
    pub(crate) config: &'a Pgbackrest,
    pub(crate) recipients: Recipients,
    pub(crate) key: SigningKey,
    /// The server's cluster and the size of its segments, where it can be asked.
    pub(crate) server: Option<(u64, WalSegmentSize)>,
    /// The manifests that were there before the first record of this run.
    before: OnceCell<Vec<Named>>,
}

/// What is known of a backup beside what pgBackRest says.
#[derive(Default)]
pub(super) struct Aside {
    pub(super) facts: Facts,
    pub(super) tools: BTreeMap<String, String>,
    pub(super) suspect: Vec<String>,
}

/// Whether a backup that is known is of this stanza and repository.
pub(super) fn is_ours(settings: &Pgbackrest, external: &External) -> bool {
    external.stanza == settings.stanza && external.repo == settings.repo
}

impl<'a> Recorder<'a> {
    /// For one source.
    ///
    /// # Errors
    /// A key or a recipient that cannot be had.
    pub(crate) fn new(
        setup: &'a Setup,
        repository: &'a Repository,
        source: &'a SourceId,
        config: &'a Pgbackrest,
    ) -> Result<Self> {
        let (recipients, key) = (setup.recipients()?, setup.signing_key()?);
        let (server, before) = (None, OnceCell::new());
        Ok(Recorder { setup, repository, source, config, recipients, key, server, before })
    }

    /// The identifier of a backup that was found: the same on every host that finds it.
    pub(super) fn found_id(&self, system_id: u64, backup: &Backup) -> BackupId {
        let (stanza, repo, label) = (&self.config.stanza, self.config.repo, &backup.label);
        let (repository, source) = (&self.repository.id, self.source);
        let text = format!("{repository}\n{source}\n{stanza}\n{repo}\n{system_id}\n{label}");
        let word = digest(text.as_bytes())
            .0
            .iter()
            .take(8)
            .fold(0, |word, byte| u64::from(*byte) | word << 8);
        BackupId::new(backup.started, word)
    }

    /// The newest manifests of the source.
    async fn known(&self) -> Vec<Named> {
        let catalog = self.setup.log_cache(self.repository).await;
        named::before(self.repository, self.source, None, catalog.as_ref()).await
    }

    /// The record of a backup.
    fn manifest(
        &self,
        info: &Info,
        backup: &Backup,
        id: &BackupId,
        aside: Aside,
        origin: Origin,
    ) -> Result<Manifest, Unrecorded> {
        let at = coordinates(info, backup, self.server).map_err(Unrecorded::Refused)?;
        let Some(wal) = backup.wal.clone() else {
            return Err(Unrecorded::Refused("it needs no WAL".to_owned()));
        };
        let Aside { facts, mut tools, mut suspect } = aside;
        tools.insert(PGBACKREST.to_owned(), backup.version.clone());
        if let Some(cluster) = info.cluster(backup.database_id) {
            tools.entry("server".to_owned()).or_insert_with(|| cluster.version.clone());
        }
        if backup.page_errors {
            suspect.push("pgBackRest found pages with wrong checksums".to_owned());
        }
        let kind = BackupKind::External(Box::new(External {
            tool: PGBACKREST.to_owned(),
            stanza: self.config.stanza.clone(),
            repo: self.config.repo,
            label: backup.label.clone(),
            backup_type: backup.backup_type,
            prior: backup.prior.clone(),
            references: backup.references.clone(),
            wal,
            database_id: backup.database_id,
            origin,
            page_errors: backup.page_errors,
            cipher: info.cipher.clone(),
            bytes: backup.bytes,
            delta_bytes: backup.delta_bytes,
            repository_bytes: backup.repository_delta_bytes,
            version: backup.version.clone(),
            format: backup.format,
            at,
        }));
        let Recorder { setup, repository, source, recipients, .. } = self;
        let frame = Frame { setup, repository, source, backup: id, recipients };
        let times = (backup.started, backup.stopped);
        let made = frame.manifest((Engine::Pgbackrest, kind), times, (tools, suspect), &facts);
        let manifest = made.map_err(|error| Unrecorded::Failed(error.into()))?;
        // What no reader would take is not written.
        manifest.check().map_err(|error| Unrecorded::Refused(error.to_string()))?;
        Ok(manifest)
    }

    /// Writes the record of a backup. Where another host was faster, its record counts.
    pub(super) async fn record(
        &self,
        info: &Info,
        backup: &Backup,
        id: &BackupId,
        aside: Aside,
        origin: Origin,
    ) -> Result<BackupSummary, Unrecorded> {
        let before = self.before.get_or_init(|| self.known()).await;
        let before = to_name(before.iter().cloned(), Some(id));
        let manifest = Manifest { before, ..self.manifest(info, backup, id, aside, origin)? };
        let signed = Signed::new(manifest, &self.key);
        let signed = signed.map_err(|problem| Unrecorded::Refused(problem.to_string()))?;
        match signed.put(self.repository).await {
            Ok(summary) => Ok(summary),
            Err(error) if is_conflict(&error) => {
                let there = self.repository.manifest(self.source, id).await;
                let there = there.map_err(Unrecorded::Failed)?.map(|found| found.summary());
                let same = |found: &BackupSummary| {
                    let label = found.kind.external().map(|external| external.label.as_str());
                    label == Some(backup.label.as_str())
                };
                there.filter(same).ok_or(Unrecorded::Failed(error))
            }
            Err(error) => Err(Unrecorded::Failed(error)),
        }
    }
}

fn is_conflict(error: &anyhow::Error) -> bool {
    let conflict = |cause: &StoreError| matches!(cause, StoreError::Conflict { .. });
    error.chain().filter_map(|cause| cause.downcast_ref()).any(conflict)
}
