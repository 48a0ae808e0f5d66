//! PostgreSQL: how its clusters and databases are backed up, and what only its WAL and catalogs tell.

pub(crate) mod another_cluster;
mod base_backup;
mod brought;
pub(crate) mod doctor;
mod dump;
pub(crate) mod found;
mod gone;
mod incremental;
pub(crate) mod names;
mod relation_changes;
mod replicas;
mod stream_log;

pub(crate) use base_backup::{BaseBackups, NEEDS_PATIENCE, OUTSIDE_PATIENCE};
pub(crate) use dump::Dump;
pub use gone::Gone;
pub(crate) use incremental::is_due;
pub use relation_changes::{FoundChanges, changes};
pub(crate) use relation_changes::{committed, one_before};
pub(crate) use replicas::replica_lag;
pub(crate) use stream_log::stream_log;
