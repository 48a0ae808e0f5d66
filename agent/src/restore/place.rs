//! Where a restore may not go: into what drctl itself keeps, or into a cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use drctl_model::{Content, Facts, shown};

use crate::host::clusters::{self, real};
use crate::host::{AgentError, Setup, private};

/// Refuses a directory for a restore that lies in the repository, in a directory of drctl's own, in the
/// data directory or a tablespace of a cluster, or that another account may change.
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
    for (what, place) in setup.places() {
        if at.starts_with(real(&place)?) {
            return refused(what, &place);
        }
    }
    match clusters::around(&at) {
        Some((what, place)) => refused(what, &place),
        None => private::target(directory),
    }
}

/// Refuses a directory for a recovery below or above a place where the source has a tablespace: the
/// log may make one there again, and the server comes to it by that name.
///
/// # Errors
/// [`AgentError::Target`]; the file system's.
pub(crate) fn check_beside(directory: &Path, facts: &Facts) -> Result<()> {
    let (named, real) =
        (std::path::absolute(directory).context("find the directory")?, real(directory)?);
    for stream in &facts.streams {
        let Content::Tablespace(space) = &stream.content else { continue };
        let place = Path::new(&space.path);
        let meets = |at: &PathBuf| at.starts_with(place) || place.starts_with(at);
        if place.is_absolute() && (meets(&named) || meets(&real)) {
            let text = format!(
                "{} lies below or above {}, where the source has a tablespace that the WAL may make \
                 again: name a new directory elsewhere. Nothing was done",
                directory.display(),
                shown(&space.path, 200)
            );
            return Err(AgentError::Target(text).into());
        }
    }
    Ok(())
}
