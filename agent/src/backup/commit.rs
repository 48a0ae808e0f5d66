//! The commit of a backup: its manifest, signed, written once, read back.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_catalog::Catalog;
use drctl_engines::Finished;
use drctl_model::{BackupId, BackupSummary, Digest, JobEvent, JobId, Manifest, SourceId};
use drctl_store::{MAX_ENVELOPE_BYTES, digest, encode_manifest, layout, seal_facts};

use super::attempt::{Attempt, Collected, total_plain};
use super::plausible::{like, shrunk};
use crate::host::{Problem, crash_point};
use crate::repository::{Repository, named};

impl Attempt<'_> {
    /// Commits what was stored.
    pub(crate) async fn commit(
        &mut self,
        collected: Collected,
        finished: Finished,
        catalog: &Catalog,
        job: JobId,
    ) -> Result<BackupSummary> {
        let known = catalog.backups(Some(self.source)).await?;
        let before =
            named::before(self.repository, self.source, Some(&self.id), Some(catalog)).await;
        let manifest = Manifest { before, ..self.manifest(collected, finished, &known)? };
        let bytes = Bytes::from(encode_manifest(&manifest, &self.key));
        if bytes.len() > MAX_ENVELOPE_BYTES {
            let text =
                format!("the manifest has {} bytes, more than any reader takes", bytes.len());
            return Err(Problem::Incomplete(text).into());
        }
        let stored = JobEvent::Stored { plain_bytes: manifest.plain_bytes() };
        catalog.append(job, self.setup.clock.now(), &stored).await?;
        crash_point("backup-before-manifest");
        self.committing = true;
        let sha256 = put_manifest(self.repository, self.source, &self.id, bytes).await?;
        named::keep(catalog, self.source, named::by_manifest(&manifest)).await;
        let signer = self.key.verifying_key().keyid();
        let summary = BackupSummary { signer, ..manifest.summary(sha256) };
        catalog.commit_backup(job, self.setup.clock.now(), &summary).await.with_context(|| {
            format!("the backup {} is committed in the bucket; record it in the catalog", self.id)
        })?;
        Ok(summary)
    }

    fn manifest(
        &self,
        collected: Collected,
        finished: Finished,
        known: &[BackupSummary],
    ) -> Result<Manifest> {
        let Finished { engine, kind, versions: mut tools, mut suspect, .. } = finished;
        suspect.extend(shrunk(total_plain(&collected), like(&kind, known)));
        tools.insert("drctl".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let sealed = seal_facts(&collected.facts, &self.recipients)?;
        Ok(Manifest {
            header: Manifest::header(engine, &kind),
            repository: self.repository.id.clone(),
            source: self.source.clone(),
            backup: self.id.clone(),
            host: self.setup.host(),
            engine,
            kind,
            started: self.started,
            finished: self.setup.clock.now(),
            tools,
            recipients: self.recipients.texts(),
            children: collected.children,
            suspect,
            before: Vec::new(),
            streams: collected.streams,
            sealed,
        })
    }
}

/// The commit: written once, read back, compared.
pub(crate) async fn put_manifest(
    repository: &Repository,
    source: &SourceId,
    id: &BackupId,
    bytes: Bytes,
) -> Result<Digest> {
    let key = layout::manifest(source, id);
    let bucket = &repository.bucket;
    bucket.put_once(&key, bytes.clone()).await.context("commit the manifest")?;
    crash_point("backup-manifest-put");
    let limit = MAX_ENVELOPE_BYTES as u64;
    let found = bucket.get(&key, limit).await.context("read the manifest back")?;
    if found != bytes {
        return Err(drctl_store::StoreError::ReadBack { key }.into());
    }
    crash_point("backup-manifest-read-back");
    Ok(digest(&bytes))
}
