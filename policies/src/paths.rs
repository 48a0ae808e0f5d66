//! Where drctl keeps files of its own.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::reader::Reader;

/// Directories of the agent; absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paths {
    /// Catalog and locks.
    pub state_dir: PathBuf,
    /// Private short-lived files, on a tmpfs.
    pub runtime_dir: PathBuf,
    /// Sockets of helpers, which run jobs under other accounts.
    pub job_dir: PathBuf,
    /// Room for data in transit.
    pub spool_dir: PathBuf,
    /// Where drills restore to; each removes what it made.
    pub scratch_dir: PathBuf,
}

/// A directory beside another one: what a drill restores must not fill what drctl itself needs, where that is
/// a file system of its own.
fn beside(state_dir: &Path) -> PathBuf {
    let mut name = state_dir.file_name().unwrap_or_default().to_owned();
    name.push("-scratch");
    state_dir.with_file_name(name)
}

pub(crate) fn read_paths(reader: &Reader<'_>) -> Option<Paths> {
    let state_dir = reader.path("state_dir");
    let runtime_dir = reader.path("runtime_dir");
    let job_dir = reader.path("job_dir");
    let spool_dir = reader.path("spool_dir");
    let scratch_dir = reader.path("scratch_dir");
    let state_dir = state_dir?;
    let spool_dir = spool_dir.unwrap_or_else(|| state_dir.join("spool"));
    let scratch_dir = scratch_dir.unwrap_or_else(|| beside(&state_dir));
    Some(Paths { state_dir, runtime_dir: runtime_dir?, job_dir: job_dir?, spool_dir, scratch_dir })
}
