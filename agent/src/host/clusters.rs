//! Where clusters of this host keep their files: nothing of ours belongs there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::AgentError;

/// What every data directory of PostgreSQL has.
const MARK: &str = "PG_VERSION";

/// The data directory or tablespace of a cluster that a path without links lies in, and which of both
/// it is.
pub(crate) fn around(real: &Path) -> Option<(&'static str, PathBuf)> {
    if let Some(cluster) = real.ancestors().find(|folder| folder.join(MARK).exists()) {
        return Some(("the data directory of a cluster", cluster.to_owned()));
    }
    let space = real.ancestors().find(|folder| is_tablespace(folder))?;
    Some(("a tablespace of a cluster", space.to_owned()))
}

/// Refuses a place for something of ours that a cluster would lose, copy into its base backups, or
/// fail at: `what` names it.
///
/// # Errors
/// [`AgentError::Usage`]; the file system's.
pub(crate) fn outside(path: &Path, what: &str) -> Result<()> {
    let Some((cluster, place)) = around(&real(path)?) else { return Ok(()) };
    let text = format!(
        "{what} {} would lie in {cluster}, {}: it would be lost with the cluster, and be in its base \
         backups; name a place elsewhere. Nothing was done",
        path.display(),
        place.display()
    );
    Err(AgentError::Usage(text).into())
}

/// Whether a cluster keeps files there: in a directory that is named after its version, such as
/// `PG_15_202209061`.
fn is_tablespace(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let named = |name: &str| {
        let rest = name.strip_prefix("PG_")?;
        let (major, catalog) = rest.split_once('_')?;
        (number(major) && number(catalog)).then_some(())
    };
    entries.into_iter().any(|entry| entry.file_name().to_str().and_then(named).is_some())
}

/// A path without links, as far as it is there.
pub(crate) fn real(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).context("find the directory")?;
    for folder in absolute.ancestors() {
        if let Ok(real) = folder.canonicalize() {
            let rest = absolute.strip_prefix(folder).unwrap_or(Path::new(""));
            // Without a slash at its end, which would make it another path.
            return Ok(if rest.as_os_str().is_empty() { real } else { real.join(rest) });
        }
    }
    Ok(absolute)
}
