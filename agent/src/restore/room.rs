//! Whether a directory is empty, and has room for what comes.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::host::AgentError;

/// Whether a directory, which need not be there yet, is empty.
///
/// # Errors
/// [`AgentError::Target`].
pub(super) fn check_empty(directory: &Path) -> Result<()> {
    let mut entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| {
            let text = format!(
                "{} cannot be looked into ({error}): name another place. Nothing was done",
                directory.display()
            );
            AgentError::Target(text)
        })?,
    };
    if entries.next().is_some() {
        let text = format!("{} is not empty: name a new directory", directory.display());
        return Err(AgentError::Target(text).into());
    }
    Ok(())
}

/// Whether a directory, which need not be there yet, has room for so many bytes; `spooled` are dumps that
/// wait to be loaded by several connections.
///
/// # Errors
/// [`AgentError::Target`].
pub fn check_room(directory: &Path, needed: u64, spooled: bool) -> Result<()> {
    let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let found = rustix::fs::statvfs(existing)
        .with_context(|| format!("ask for the room in {}", existing.display()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free < needed {
        let other = match spooled {
            true => "set paths.spool_dir to another place, or load with --jobs 1",
            false => "choose another place",
        };
        let text = format!(
            "{} has room for {}, and {} are needed: {other}",
            existing.display(),
            crate::host::figures::bytes(free),
            crate::host::figures::bytes(needed)
        );
        return Err(AgentError::Target(text).into());
    }
    Ok(())
}
