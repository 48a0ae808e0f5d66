//! Where a restore may not go: into what drctl itself keeps, or into a cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use drctl_model::{Content, Facts, shown};
use drctl_policies::Location;

use crate::host::{AgentError, Setup, private};

/// What every data directory of PostgreSQL has.
const MARK: &str = "PG_VERSION";

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
    if let Some(cluster) = at.ancestors().find(|folder| folder.join(MARK).exists()) {
        return refused("the data directory of a cluster", cluster);
    }
    match at.ancestors().find(|folder| is_tablespace(folder)) {
        Some(place) => refused("a tablespace of a cluster", place),
        None => private::target(directory),
    }
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
