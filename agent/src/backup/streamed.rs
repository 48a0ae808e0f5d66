//! What an engine adds to a backup whose bytes come by here.

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_engines::{BackupSource, Finished};
use drctl_model::{BackupId, BackupSummary, ClusterNeeds, Facts, Outside, SourceId};
use jiff::Timestamp;

use super::RequestedKind;
use crate::host::{Meter, Setup};
use crate::repository::Repository;

/// What is fixed of an attempt to back a source up before its engine is asked.
#[derive(Clone, Copy)]
pub(crate) struct Begun<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) repository: &'a Repository,
    pub(crate) catalog: &'a Catalog,
    pub(crate) source: &'a SourceId,
    /// The backup that it becomes.
    pub(crate) backup: &'a BackupId,
    pub(crate) started: Timestamp,
    pub(crate) requested: RequestedKind,
    pub(crate) meter: &'a Meter,
}

impl Begun<'_> {
    /// The name under which a server sees the attempt.
    pub(crate) fn application(&self) -> String {
        format!("drctl/{}", self.backup)
    }
}

/// An engine of which every byte comes by here: its part in one life of a backup, in this order.
#[async_trait::async_trait(?Send)]
pub(crate) trait Streamed: Send + Sync {
    /// Chooses what the backup is to be based on, if on anything; gives what the operator should know
    /// of that.
    async fn choose(&mut self, begun: &Begun<'_>) -> Vec<String> {
        let _ = begun;
        Vec::new()
    }

    /// Opens the source. It is read to its end by the caller.
    ///
    /// # Errors
    /// Whatever keeps the backup from beginning.
    async fn open(&self, begun: &Begun<'_>) -> Result<Box<dyn BackupSource>>;

    /// What the source needs of its host; asked for beside the bytes.
    async fn needs(&self, begun: &Begun<'_>) -> Option<ClusterNeeds> {
        let _ = begun;
        None
    }

    /// What belongs to the source and is not among what was copied; asked for behind the bytes, so that
    /// it takes no connection from them.
    async fn outside(&self, begun: &Begun<'_>) -> Option<Outside> {
        let _ = begun;
        None
    }

    /// Hears what came, before it is committed; gives what the operator should know.
    async fn finished(
        &mut self,
        begun: &Begun<'_>,
        facts: &Facts,
        finished: &mut Finished,
    ) -> Vec<String> {
        let _ = (begun, facts, finished);
        Vec::new()
    }

    /// Hears that the backup is committed; gives what the operator should know. Nothing that goes
    /// wrong here makes it another backup.
    async fn committed(&mut self, begun: &Begun<'_>, summary: &BackupSummary) -> Vec<String> {
        let _ = (begun, summary);
        Vec::new()
    }
}
