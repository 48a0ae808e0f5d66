//! An attempt to back a source up is on record before anything is asked of the bucket: that it failed,
//! or died, must be seen afterwards, whatever it died of.

use anyhow::{Context as _, Result};
use drctl_catalog::Catalog;
use drctl_model::{BackupId, JobId, JobKind, SourceId};
use jiff::Timestamp;

use super::record::{Record, failure};
use crate::host::{Setup, crash_point};
use crate::repository::{Repository, cache};

/// An attempt to back a source up. The source's lock is held by whoever has it, so that nobody else
/// begins one.
pub(crate) struct OpenJob<'a> {
    pub(crate) source: &'a SourceId,
    /// The attempt's identifier; of the backup, if it becomes one.
    pub(crate) id: BackupId,
    pub(crate) started: Timestamp,
    setup: &'a Setup,
    record: Record<'a>,
}

impl<'a> OpenJob<'a> {
    /// Begins one. Where the catalog takes no record now, it does when the attempt goes on or fails: by
    /// then one that is wrong was made anew.
    pub(crate) async fn begin(setup: &'a Setup, source: &'a SourceId) -> Self {
        let started = setup.clock.now();
        let id = BackupId::new(started, rand::random());
        let of = [(source.clone(), Some(id.clone()))];
        let record = Record::begin(setup, (JobKind::Backup, started), of).await;
        crash_point("backup-job-begun");
        OpenJob { source, id, started, setup, record }
    }

    /// Its number in a catalog, which is told of it where it does not know it.
    async fn recorded(&self, catalog: &Catalog) -> Result<JobId> {
        let jobs = self.record.recorded(catalog).await?;
        jobs.into_iter().next().context("record the job")
    }

    /// The catalog that it works with, and its number there: another one where the first has no room for
    /// its record.
    pub(crate) async fn on_record(&self, repository: &Repository) -> Result<(Catalog, JobId)> {
        let setup = self.setup;
        let catalog = setup.catalog(repository).await?;
        let error = match self.recorded(&catalog).await {
            Err(error) if cache::is_unwritable(&error) && setup.remembers(&catalog) => error,
            recorded => return Ok((catalog, recorded?)),
        };
        drop(catalog);
        let catalog = cache::elsewhere(setup, repository, &format!("{error:#}")).await?;
        let catalog = setup.believing(catalog);
        let job = self.recorded(&catalog).await?;
        Ok((catalog, job))
    }

    /// Ends it: its record tells what became of it.
    pub(crate) fn done(self) {
        self.record.done();
    }

    /// Records that it failed, unless its record tells already what became of it, or only the bucket
    /// knows.
    pub(crate) async fn failed(self, error: &anyhow::Error) {
        if let Err(unrecorded) = self.record.end(|_| failure(error)).await {
            tracing::warn!("the failure is not recorded: {unrecorded:#}");
        }
    }
}
