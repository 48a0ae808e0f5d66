//! Files that are written once, and files that may be gone.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};

use drctl_engines::blocking;

use rustix::fs::{Mode, OFlags, open};

use super::AgentError;

/// What was removed may have been missing.
pub(crate) fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes a directory with all that is in it, unless it is missing: that of a cluster takes its time.
pub(crate) fn discard(path: &Path) -> Result<()> {
    gone(blocking(|| std::fs::remove_dir_all(path)))
        .with_context(|| format!("remove {}", path.display()))
}

/// Writes a file that must not exist, and syncs it.
///
/// # Errors
/// [`AgentError::Exists`], [`AgentError::Usage`] where its directory is missing, the file system's.
pub fn write_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    fill(new_file(path, mode)?, path, text)
}

/// Makes a file that must not exist.
pub(crate) fn new_file(path: &Path, mode: u32) -> Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    match file {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(AgentError::Exists(path.to_owned()).into())
        }
        // It is not made: it may be what should be mounted there.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(Path::new("/"));
            let text = format!(
                "there is no directory {} for {}: make it, or mount what it lies on. Nothing was \
                 written",
                directory.display(),
                path.display()
            );
            Err(AgentError::Usage(text).into())
        }
        file => file.with_context(|| format!("write {}", path.display())),
    }
}

/// Writes all of a new file, and syncs it.
pub(crate) fn fill(mut file: File, path: &Path, text: &str) -> Result<()> {
    file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))?;
    file.sync_all().with_context(|| format!("write {}", path.display()))
}

/// So much is written to see whether that can be.
static TRIED: [u8; 64 << 10] = [0; 64 << 10];

/// Why nothing can be written into a directory of this account's, where its disk is full or read-only, and what
/// to do; a file without a name is tried. Nothing where it can be, or where it is not this account's.
pub(crate) fn unwritable(directory: &Path) -> Option<String> {
    if directory.metadata().ok()?.uid() != rustix::process::geteuid().as_raw() {
        return None;
    }
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = open(directory, flags, Mode::from_raw_mode(0o600)).map_err(io::Error::from);
    let error = file.and_then(|file| File::from(file).write_all(&TRIED)).err()?;
    let advice = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room there",
        ErrorKind::ReadOnlyFilesystem => "mount it so that it can be written",
        _ => return None,
    };
    Some(format!("nothing can be written into {} ({error}): {advice}", directory.display()))
}
