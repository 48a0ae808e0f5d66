//! All files of a PostgreSQL cluster, by the replication protocol.

use std::path::absolute;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_engines::pg::physical::{
    BaseBackupOptions, BaseBackupSource, ParentBackup, cluster_needs,
};
use drctl_engines::pg::{Copied, outside};
use drctl_engines::{BackupSource, Brought, Finished};
use drctl_model::{BackupSummary, ClusterNeeds, Facts, Outside};
use drctl_policies::{BaseBackup, Source};

use super::incremental::{Choice, Listings, choose};
use super::{another_cluster, brought, doctor, replica_lag, stream_log};
use crate::backup::attempt::back_up;
use crate::backup::streamed::{Begun, Streamed};
use crate::backup::{BackedUp, Order, RequestedKind};
use crate::engine::{Looked, Replaced, SourceEngine, Streaming};
use crate::host::shell::server_word;
use crate::host::{Checks, Setup};

/// How long the server may take to tell what its cluster needs, at most, while the backup flows.
pub(crate) const NEEDS_PATIENCE: Duration = Duration::from_secs(60);

/// How long it may take to tell what lies outside of what was copied, at most: the backup waits for it.
pub(crate) const OUTSIDE_PATIENCE: Duration = Duration::from_secs(20);

/// A source of base backups.
pub(crate) struct BaseBackups<'a> {
    pub(crate) source: &'a Source,
    pub(crate) settings: &'a BaseBackup,
}

#[async_trait::async_trait(?Send)]
impl SourceEngine for BaseBackups<'_> {
    fn can_be(&self, _: RequestedKind) -> Result<()> {
        Ok(())
    }

    async fn back_up(&self, order: Order<'_>) -> Result<BackedUp> {
        let BaseBackups { source, settings } = *self;
        back_up(order, &mut BackingUp { source, settings, parent: None, listing: None }).await
    }

    async fn stream_log(&self, streaming: &Streaming<'_>) -> Result<()> {
        stream_log(self.source, streaming).await
    }

    async fn replica_lag(&self, setup: &Setup) -> Result<Duration> {
        replica_lag(setup, self.source).await
    }

    fn archive_command(&self, replaced: &Replaced<'_>) -> Result<Option<String>> {
        if replaced.streamed {
            return Ok(None);
        }
        let program = std::env::current_exe().context("find drctl itself")?;
        let config = absolute(&replaced.setup.path)?;
        Ok(Some(format!(
            "{} --quiet --config {} wal push {} %p",
            server_word(&program),
            server_word(&config),
            replaced.source
        )))
    }

    fn runs_restored(&self) -> bool {
        true
    }

    async fn look(&self, looked: &Looked<'_>, found: &mut Checks) {
        let Some((server, report)) = doctor::server(looked, self.source, found).await else {
            return;
        };
        doctor::base_backups(looked, (&server, &report), self.settings, found).await;
    }
}

/// A base backup under way.
struct BackingUp<'a> {
    source: &'a Source,
    settings: &'a BaseBackup,
    /// What an incremental backup is to be based on.
    parent: Option<ParentBackup>,
    /// The server's list of its files, once it came.
    listing: Option<Vec<u8>>,
}

#[async_trait::async_trait(?Send)]
impl Streamed for BackingUp<'_> {
    async fn choose(&mut self, begun: &Begun<'_>) -> Vec<String> {
        let Begun { setup, repository, source, requested, started, .. } = begun;
        match choose(setup, repository, source, self.settings, *requested, *started).await {
            Choice::On(parent) => {
                self.parent = Some(*parent);
                Vec::new()
            }
            Choice::Full(why) => {
                let note = |why| format!("a full backup was made, not an incremental one: {why}");
                why.map(note).into_iter().collect()
            }
        }
    }

    async fn open(&self, begun: &Begun<'_>) -> Result<Box<dyn BackupSource>> {
        let server = begun.setup.server(self.source)?;
        let max_rate_kib = self.settings.max_rate_bytes.map(|bytes| bytes / 1024);
        let options = BaseBackupOptions {
            fast_checkpoint: self.settings.fast_checkpoint,
            max_rate_kib: max_rate_kib.and_then(|kib| kib.try_into().ok()),
        };
        begun.meter.label("waiting for the server's checkpoint");
        let (name, parent) = (begun.application(), self.parent.as_ref());
        Ok(Box::new(BaseBackupSource::open(&server, &options, &name, parent).await?))
    }

    async fn needs(&self, begun: &Begun<'_>) -> Option<ClusterNeeds> {
        let server = begun.setup.server(self.source).ok()?;
        Some(cluster_needs(&server, &begun.application(), NEEDS_PATIENCE).await)
    }

    async fn outside(&self, begun: &Begun<'_>) -> Option<Outside> {
        let server = begun.setup.server(self.source).ok()?;
        Some(outside(&server, &begun.application(), Copied::Cluster, OUTSIDE_PATIENCE).await)
    }

    async fn finished(
        &mut self,
        begun: &Begun<'_>,
        _: &Facts,
        finished: &mut Finished,
    ) -> Vec<String> {
        let Some(Brought { listing, histories }) = finished.brought.take() else {
            return Vec::new();
        };
        self.listing = Some(listing);
        let Some(at) = finished.kind.coordinates() else { return Vec::new() };
        brought::settle(begun.setup, begun.source, at, &histories).await.into_iter().collect()
    }

    async fn committed(&mut self, begun: &Begun<'_>, summary: &BackupSummary) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(at) = summary.kind.coordinates() {
            let differs = brought::differs(begun.repository, begun.source, at).await;
            notes.extend(differs.unwrap_or_else(|error| Some(format!("{error:#}"))));
            notes.extend(another_cluster::of_committed(begun, summary).await);
        }
        notes.extend(self.keep(begun, summary));
        notes
    }
}

impl BackingUp<'_> {
    /// Keeps the server's list of a good backup for the next one to be based on. Where this fails, the
    /// next is a full one again.
    fn keep(&mut self, begun: &Begun<'_>, summary: &BackupSummary) -> Option<String> {
        let wanted = (self.settings.incremental || begun.requested == RequestedKind::Incremental)
            && summary.is_good();
        let listing = self.listing.take().filter(|_| wanted)?;
        let kept =
            Listings::of(begun.setup, begun.source).keep(begun.setup, begun.backup, &listing);
        let text = "its list of files was not kept, so the next backup cannot be based on it";
        kept.err().map(|error| format!("{text}: {error:#}"))
    }
}
