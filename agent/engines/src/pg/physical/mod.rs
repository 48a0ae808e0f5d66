//! A copy of a whole cluster: taken by the replication protocol, proven while it streams, laid out
//! in a new directory.

mod extract;
mod listing;
mod prepare;
mod run;
mod source;
mod tar;

pub use extract::{DirectoryTarget, Layout};
pub use prepare::{Recovery, StopAt, prepare};
pub use run::{Progress, Recovering, may_run};
pub use source::{BaseBackupOptions, BaseBackupSource};
