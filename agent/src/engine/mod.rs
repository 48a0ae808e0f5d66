//! What only one engine knows, a folder for each; and which one backs a source up.

mod backup;
mod log_archive;
pub mod pg;
pub mod pgbackrest;

pub use backup::backup;
pub(crate) use log_archive::LogArchive;
