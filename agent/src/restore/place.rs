//! Where a restore may not go: into what drctl itself keeps, or into a cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use drctl_policies::Location;

use crate::host::{AgentError, Setup, private};

/// What every data directory of PostgreSQL has.
const MARK: &str = "PG_VERSION";

/// Refuses a directory for a restore that lies in the repository, in a directory of drctl's own, or in
/// the data directory of a cluster, or that another account may change.
///
/// # Errors
/// [`AgentError::Target`]; the file system's.
pub(crate) fn check_target(setup: &Setup, directory: &Path) -> Result<()> {
    let at = real(directory)?;
    let refused = |what: &str, place: &Path| {
        let (at, place) = (at.display(), place.display());
        let text = format!("{at} lies in {what}, {place}: name a new directory elsewhere");
        Err(AgentError::Target(text).into())
    };
    let paths = &setup.config.paths;
    let mut own = vec![
        ("drctl's state directory", paths.state_dir.clone()),
        ("drctl's runtime directory", paths.runtime_dir.clone()),
        ("drctl's spool directory", paths.spool_dir.clone()),
    ];
    if let Location::File { path } = &setup.config.repository.location {
        own.push(("the repository", path.clone()));
    }
    for (what, place) in own {
        if at.starts_with(real(&place)?) {
            return refused(what, &place);
        }
    }
    match at.ancestors().find(|folder| folder.join(MARK).exists()) {
        Some(cluster) => refused("the data directory of a cluster", cluster),
        None => private::target(directory),
    }
}

/// A path without links, as far as it is there.
fn real(path: &Path) -> Result<PathBuf> {
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
