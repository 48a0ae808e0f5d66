//! Log that drctl itself hands to what was restored of a snapshot, piece by piece: of engines whose
//! servers fetch none.

use std::path::Path;

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::{BackupId, BackupSummary, Lineage, LogAt};
use drctl_policies::recovery::Target;

use crate::log::LogStore;

/// What there is to choose from.
pub struct Choices<'a> {
    /// The source's backups that can be used.
    pub backups: &'a [BackupSummary],
    /// Its log.
    pub log_store: &'a LogStore,
    /// What the catalog knows of that.
    pub cache: Option<&'a Catalog>,
}

/// How a source is brought to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The snapshot to begin with.
    pub base: BackupId,
    /// Whose log is handed over.
    pub lineage: Lineage,
    /// The pieces, in order: where each begins, and where the next one does.
    pub pieces: Vec<(LogAt, LogAt)>,
    /// No log from here on is handed over.
    pub until: LogAt,
    /// What there is of log that the result will not hold, in words; of a target that is not the end
    /// nothing.
    pub left_out: Vec<String>,
    /// Log that does not count, and why.
    pub refused: Vec<String>,
}

/// An engine whose log is handed over.
#[async_trait::async_trait(?Send)]
pub trait HandsLog {
    /// Chooses the snapshot and the log that lead to the target; in words why none do.
    ///
    /// # Errors
    /// The store's.
    async fn route(&self, choices: &Choices<'_>, target: &Target) -> Result<Result<Route, String>>;

    /// Replays a piece onto what was restored into `directory`, as far as it lies before `until`.
    ///
    /// # Errors
    /// Log that does not follow; what cannot be written.
    fn hand(&self, directory: &Path, piece: &[u8], until: LogAt) -> Result<()>;

    /// Up to where the log was replayed, by what stands in `directory` itself.
    ///
    /// # Errors
    /// What cannot be read.
    fn reached(&self, directory: &Path) -> Result<LogAt>;
}
