//! A stanza's archive, as an archive of log.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use drctl_model::SourceId;

use super::{StanzaView, archive, read, relation_changes, replay_requirements, verify};
use crate::engine::log_archive::{
    ArchiveVerdict, ArchivedLog, Extent, LogArchive, Look, Replay, Requirements, Search,
};
use crate::engine::pg::FoundChanges;
use crate::engine::wal::Segment;
use crate::host::Setup;

/// The archive of a source's stanza, as it was seen.
pub(crate) struct StanzaArchive<'a> {
    pub(super) setup: &'a Setup,
    pub(super) source: SourceId,
    pub(crate) seen: Arc<StanzaView>,
}

impl<'a> StanzaArchive<'a> {
    /// With a private directory for what is being read.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn new(setup: &'a Setup, source: &SourceId, seen: Arc<StanzaView>) -> Result<Self> {
        setup.private_directory(&setup.config.paths.runtime_dir)?;
        Ok(StanzaArchive { setup, source: source.clone(), seen })
    }

    /// Where lies what is being read.
    pub(super) fn folder(&self) -> &Path {
        &self.setup.config.paths.runtime_dir
    }
}

#[async_trait::async_trait(?Send)]
impl LogArchive for StanzaArchive<'_> {
    async fn list(&self, system_id: u64, extent: Option<Extent>) -> Result<ArchivedLog> {
        match extent {
            Some(extent) => archive::log(self, system_id, extent).await,
            None => Ok(ArchivedLog::default()),
        }
    }

    async fn verify(&self, look: &Look<'_>) -> Result<Option<ArchiveVerdict>> {
        verify::verify(&self.seen, look).await.map(Some)
    }

    async fn changes(&self, search: &Search<'_>) -> Result<FoundChanges> {
        relation_changes::changes(self, search).await
    }

    async fn requirements(&self, plan: &Replay<'_>) -> Result<Requirements> {
        replay_requirements::requirements(self, plan).await
    }

    async fn segment(&self, segment: &Segment) -> Result<Option<Vec<u8>>> {
        read::segment(&self.seen, segment, self.folder()).await
    }
}
