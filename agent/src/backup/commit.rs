//! The commit of a backup: its manifest, signed, written once, read back.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_engines::Finished;
use drctl_model::{
    BackupId, BackupKind, BackupSummary, Engine, Facts, JobEvent, JobId, Manifest, SourceId,
    TableMarks,
};
use drctl_store::{
    MAX_ENVELOPE_BYTES, Recipients, SealError, SigningKey, digest, encode_manifest, layout,
    seal_facts,
};
use jiff::Timestamp;

use super::attempt::{Attempt, Collected, total_plain, total_sealed};
use super::plausible::{Measured, alike, implausible, is_alike};
use super::streamed::Begun;
use super::tables::{self, Before, Compared, Tables};
use crate::host::{AgentError, Setup, crash_point};
use crate::jobs::settle::unless_kept;
use crate::repository::{Repository, dated, named};

impl Attempt<'_> {
    /// Commits what was stored.
    pub(crate) async fn commit(
        &mut self,
        collected: Collected,
        mut finished: Finished,
        job: JobId,
    ) -> Result<BackupSummary> {
        let Begun { setup, repository, catalog, source, backup, .. } = self.begun;
        let times = (self.begun.started, setup.clock.now());
        let known = catalog.backups(Some(source)).await?;
        let mut compared = None;
        let known = dated(&known, times.1, |one| is_alike(&finished.kind, one));
        if let Some(tables) = tables::tables(&collected.facts) {
            let alike = alike(&finished.kind, &known);
            let (marks, with, told) = self.compared(&tables, &alike).await;
            finished.suspect.extend(told.suspect);
            self.notes.extend(told.notes);
            compared = Some((marks, with));
        }
        let before = named::before(repository, source, Some(backup), Some(catalog)).await;
        let manifest = self.manifest(collected, finished, times, &known)?;
        let manifest = Manifest { before, ..manifest };
        let signed = Signed::new(manifest, &self.key)?;
        let manifest = &signed.manifest;
        let stored = JobEvent::Stored { plain_bytes: manifest.plain_bytes() };
        unless_kept(catalog.append(job, setup.clock.now(), &stored).await);
        crash_point("backup-before-manifest");
        self.committing = true;
        let summary = signed.put(repository).await?;
        named::keep(catalog, source, named::by_manifest(manifest)).await;
        catalog.commit_backup(job, setup.clock.now(), &summary).await.with_context(|| {
            format!(
                "the backup {backup} is complete in the bucket, but was not recorded in the \
                     catalog"
            )
        })?;
        if let Some((marks, with)) = compared
            && let Err(error) = catalog.note_tables(source, backup, with.as_ref(), &marks).await
        {
            self.notes.push(format!(
                "the rows of single tables could not be noted in the catalog: the next backup cannot be \
                 compared with them: {error}"
            ));
        }
        Ok(summary)
    }

    /// Compares the tables of a dump with what this host remembers of those before it that count, newest
    /// first; gives what is to be remembered of them, and with which backup they were compared. Nothing that
    /// fails here fails the backup.
    async fn compared(
        &self,
        tables: &Tables,
        known: &[&BackupSummary],
    ) -> (TableMarks, Option<BackupId>, Compared) {
        let Begun { catalog, source, .. } = self.begun;
        let ids = known.iter().map(|one| one.backup.clone()).collect();
        let (all, why) = match catalog.table_marks(source, ids).await {
            Ok(all) => (all, String::new()),
            Err(error) => (Vec::new(), format!(": {error}")),
        };
        let before = Before::of(all);
        let (marks, mut compared) = tables::compare(tables, before.as_ref());
        let compared_with = before.map(|before| before.backup);
        if let Some(newest) =
            known.first().filter(|one| Some(&one.backup) != compared_with.as_ref())
        {
            let with = match &compared_with {
                Some(older) => format!("were compared with those of {older}"),
                None => "were not compared".to_owned(),
            };
            compared.notes.push(format!(
                "the rows of single tables {with}: this host does not know those of {}, the newest good \
                 backup{why}",
                newest.backup
            ));
        }
        (marks, compared_with, compared)
    }

    fn manifest(
        &self,
        collected: Collected,
        finished: Finished,
        times: (Timestamp, Timestamp),
        known: &[BackupSummary],
    ) -> Result<Manifest> {
        let Finished { engine, kind, versions: tools, mut suspect, .. } = finished;
        let Begun { setup, repository, source, backup, .. } = self.begun;
        let bytes = (total_plain(&collected), total_sealed(&collected));
        suspect.extend(implausible(&kind, &Measured::new(&kind, bytes, times), known));
        let frame = Frame { setup, repository, source, backup, recipients: &self.recipients };
        let Collected { streams, facts, children } = collected;
        let manifest = frame.manifest((engine, kind), times, (tools, suspect), &facts)?;
        Ok(Manifest { children, streams, ..manifest })
    }
}

/// What every manifest of an attempt says, whoever makes its bytes.
pub(crate) struct Frame<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) repository: &'a Repository,
    pub(crate) source: &'a SourceId,
    pub(crate) backup: &'a BackupId,
    pub(crate) recipients: &'a Recipients,
}

impl Frame<'_> {
    /// A manifest without streams; `times` are its begin and its end.
    pub(crate) fn manifest(
        &self,
        (engine, kind): (Engine, BackupKind),
        times: (Timestamp, Timestamp),
        (mut tools, suspect): (BTreeMap<String, String>, Vec<String>),
        facts: &Facts,
    ) -> Result<Manifest, SealError> {
        tools.insert("drctl".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        Ok(Manifest {
            header: Manifest::header(engine, &kind),
            repository: self.repository.id.clone(),
            source: self.source.clone(),
            backup: self.backup.clone(),
            host: self.setup.host(),
            engine,
            kind,
            started: times.0,
            finished: times.1,
            tools,
            recipients: self.recipients.texts(),
            children: Vec::new(),
            suspect,
            before: Vec::new(),
            streams: Vec::new(),
            sealed: seal_facts(facts, self.recipients)?,
        })
    }
}

/// A manifest as it will lie in the bucket.
pub(crate) struct Signed {
    manifest: Manifest,
    bytes: Bytes,
    signer: String,
}

impl Signed {
    /// Signs it.
    ///
    /// # Errors
    /// [`AgentError::Incomplete`] for one that is larger than any reader takes.
    pub(crate) fn new(manifest: Manifest, key: &SigningKey) -> Result<Self, AgentError> {
        let bytes = Bytes::from(encode_manifest(&manifest, key));
        if bytes.len() > MAX_ENVELOPE_BYTES {
            let text =
                format!("the manifest has {} bytes, more than a reader accepts", bytes.len());
            return Err(AgentError::Incomplete(text));
        }
        Ok(Signed { manifest, bytes, signer: key.verifying_key().keyid() })
    }

    /// The commit: written once, read back, compared. Gives the catalog's row of it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](drctl_store::StoreError::Conflict) where another manifest is there
    /// already; [`StoreError::ReadBack`](drctl_store::StoreError::ReadBack); the store's other ones.
    pub(crate) async fn put(&self, repository: &Repository) -> Result<BackupSummary> {
        let key = layout::manifest(&self.manifest.source, &self.manifest.backup);
        let bucket = &repository.bucket;
        bucket.put_once(&key, self.bytes.clone()).await.context("commit the manifest")?;
        crash_point("backup-manifest-put");
        bucket.read_back(&key, &self.bytes).await.context("read the manifest back")?;
        crash_point("backup-manifest-read-back");
        let summary = self.manifest.summary(digest(&self.bytes));
        Ok(BackupSummary { signer: self.signer.clone(), ..summary })
    }
}
