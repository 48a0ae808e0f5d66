//! A copy of a whole cluster: taken by the replication protocol, proven while it streams, laid out
//! in a new directory.

mod combine;
mod extract;
mod increment;
mod listing;
mod prepare;
mod run;
mod source;
mod tar;

pub use combine::{Combination, combine};
pub use extract::{DirectoryTarget, Layout};
pub use increment::{FIRST_INCREMENTAL, ParentCopy};
pub use listing::MAX_LISTING_BYTES;
pub use prepare::{Recovery, StopAt, prepare};
pub use run::{Progress, Recovering, may_run};
pub use source::{BaseBackupOptions, BaseBackupSource};
