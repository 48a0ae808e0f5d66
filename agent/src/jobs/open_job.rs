//! A job is on record before anything is asked of the bucket: that it failed, or died, must be seen
//! afterwards, whatever it died of.

use anyhow::{Context as _, Result};
use drctl_catalog::Catalog;
use drctl_model::{BackupId, JobId, JobKind, JobState, SourceId};
use jiff::Timestamp;

use super::settle::record_failure;
use crate::host::{Setup, crash_point};

/// An attempt to back a source up. The source's lock is held by whoever has it, so that nobody else
/// begins one.
pub(crate) struct OpenJob<'a> {
    pub(crate) source: &'a SourceId,
    /// The attempt's identifier; of the backup, if it becomes one.
    pub(crate) id: BackupId,
    pub(crate) started: Timestamp,
    setup: &'a Setup,
}

impl<'a> OpenJob<'a> {
    /// Begins one. Where the catalog takes no record now, it does when the attempt goes on or fails: by
    /// then one that is wrong was made anew.
    pub(crate) async fn begin(setup: &'a Setup, source: &'a SourceId) -> Self {
        let started = setup.clock.now();
        let id = BackupId::new(started, rand::random());
        let job = OpenJob { source, id, started, setup };
        let recorded = async { job.recorded(&job.catalog().await?).await };
        if let Err(error) = recorded.await {
            tracing::debug!("the job is not recorded yet: {error:#}");
        }
        crash_point("backup-job-begun");
        job
    }

    /// Its number in a catalog, which is told of it where it does not know it.
    pub(crate) async fn recorded(&self, catalog: &Catalog) -> Result<JobId> {
        let known = catalog.job_of(self.source, &self.id).await;
        if let Some(job) = known.context("look for the job")? {
            return Ok(job.id);
        }
        let begun =
            catalog.begin_job(self.started, JobKind::Backup, self.source, Some(&self.id)).await;
        begun.context("record the job")
    }

    /// Records that it failed, unless its record tells already what became of it, or only the bucket
    /// knows.
    pub(crate) async fn failed(&self, error: &anyhow::Error) {
        let recorded = async {
            let catalog = self.catalog().await?;
            let job = self.recorded(&catalog).await?;
            let known = catalog.job_of(self.source, &self.id).await?;
            if known.is_some_and(|known| known.state == JobState::Running) {
                record_failure(self.setup, &catalog, job, error).await;
            }
            Ok::<_, anyhow::Error>(())
        };
        if let Err(unrecorded) = recorded.await {
            tracing::warn!("the failure is not recorded: {unrecorded:#}");
        }
    }

    /// The catalog without its repository, which may be what fails. A new catalog learns later what
    /// the repository holds.
    async fn catalog(&self) -> Result<Catalog> {
        let catalog = Catalog::open(&self.setup.catalog_path()).await;
        Ok(catalog.context("open the catalog")?.with_hook(crash_point))
    }
}
