//! Tablespaces that the WAL makes. Their places are the source's own: absolute paths, which on the
//! same host are those of the living server. In the sandbox of a recovering server such a path leads
//! into the restore's directory; before the cluster leaves the sandbox its links say so themselves.
//!
//! What runs in the sandbox may have written whatever it likes below the sandbox's root and below the data:
//! no link is followed there.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};

use drctl_model::shown;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, mkdirat, openat, readlinkat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::Layout;
use crate::common::EngineError;
use crate::common::process::blocking;
use crate::common::sandbox::as_in_sandbox;

/// What is said of a place of a tablespace that cannot be had in the sandbox: another directory for the
/// restore may help, and the same once more does not.
const UNUSABLE: &str = "which cannot be created in the sandbox";

const BELOW: &str = "this restore lies below it: restore into another directory";

/// Whether that was said in these words, a server's or ours.
#[must_use]
pub fn is_unusable_place(words: &str) -> bool {
    words.contains(UNUSABLE)
}

/// Where the links to tablespaces are.
const LINKS: &str = "pg_tblspc";

impl Layout {
    /// What is `/` for the server that recovers, where it runs in a sandbox.
    #[must_use]
    pub fn sandbox_root(&self) -> PathBuf {
        self.data().with_file_name("sandbox")
    }
}

/// Makes the place at which a tablespace will be made, as the server in the sandbox sees it: it leads
/// to a directory of the restore. The same place again leads to where it led before.
///
/// # Errors
/// [`EngineError::Config`] for a place that cannot be had in the sandbox; [`EngineError::Io`].
pub fn lead(layout: &Layout, oid: u32, place: &Path) -> Result<(), EngineError> {
    let odd = |why: &str| EngineError::Config(unusable(place, why));
    let within = [layout.data(), layout.tablespaces(), layout.sandbox_root(), "/proc".into()];
    if within.iter().any(|within| place.starts_with(within)) {
        return Err(odd(
            "it is in a directory of the sandbox itself: restore into another directory",
        ));
    }
    let place_in_sandbox = as_in_sandbox(place);
    // A place that the next sandbox covers with a link has no directory of ours in its way yet.
    let below = |ours: &PathBuf| ours.starts_with(place) || ours.starts_with(&place_in_sandbox);
    if [layout.data(), layout.tablespaces()].iter().any(below) {
        return Err(odd(BELOW));
    }
    let names = names(&place_in_sandbox).ok_or_else(|| odd("it is no plain absolute path"))?;
    let Some((last, parents)) = names.split_last() else { return Err(odd("it is the root")) };
    let failed = |errno: Errno| match errno {
        Errno::EXIST => odd(BELOW),
        errno => odd(&format!("the sandbox cannot create it ({errno})")),
    };
    let target = layout.tablespace(oid);
    let mut at = open(CWD, layout.sandbox_root().as_os_str()).map_err(failed)?;
    for name in parents {
        at = match open(&at, name) {
            Ok(at) => at,
            Err(Errno::NOENT) => {
                mkdirat(&at, *name, Mode::RWXU).map_err(failed)?;
                open(&at, name).map_err(failed)?
            }
            // A tablespace in the place of another one.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let led =
                    led(&at, name, layout).ok_or_else(|| odd("a symbolic link is in its path"))?;
                open(CWD, led.as_os_str()).map_err(failed)?
            }
            Err(errno) => return Err(failed(errno)),
        };
    }
    if led(&at, last, layout).is_some_and(|led| led.is_dir()) {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(&target);
    made.map_err(EngineError::io(format!("make the directory {}", target.display())))?;
    symlinkat(&target, &at, *last).map_err(failed)
}

fn unusable(place: &Path, why: &str) -> String {
    format!(
        "the WAL creates a tablespace at {}, {UNUSABLE}: {why}",
        shown(&place.to_string_lossy(), 200)
    )
}

/// Makes every link to a tablespace that leads elsewhere lead into the restore's directory.
///
/// # Errors
/// [`EngineError::Config`] for one that does not lead to a place of this restore.
pub(super) fn settle(layout: &Layout) -> Result<(), EngineError> {
    let action = || format!("look at the tablespaces in {}", layout.data().display());
    let failed = |errno: Errno| EngineError::io(action())(errno.into());
    let data = match open(CWD, layout.data().as_os_str()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened.map_err(failed)?,
    };
    let links = match open(&data, OsStr::new(LINKS)) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened.map_err(failed)?,
    };
    let entries = fs::read_dir(layout.data().join(LINKS)).map_err(EngineError::io(action()))?;
    for entry in entries {
        let name = entry.map_err(EngineError::io(action()))?.file_name();
        let Ok(says) = readlinkat(&links, &name, Vec::new()) else { continue };
        let says = PathBuf::from(OsStr::from_bytes(says.as_bytes()));
        if is_ours(&says, layout) {
            continue;
        }
        let leads = || {
            let place = as_in_sandbox(&says);
            let names = names(&place)?;
            let (last, parents) = names.split_last()?;
            let mut at = open(CWD, layout.sandbox_root().as_os_str()).ok()?;
            for name in parents {
                at = match open(&at, name) {
                    Ok(at) => at,
                    Err(_) => open(CWD, led(&at, name, layout)?.as_os_str()).ok()?,
                };
            }
            led(&at, last, layout)
        };
        let Some(target) = leads() else {
            return Err(EngineError::Config(format!(
                "the tablespace {} points to {}, outside of this restore: do not start what is in \
                 {}",
                shown(&name.to_string_lossy(), 50),
                shown(&says.to_string_lossy(), 200),
                layout.data().display()
            )));
        };
        // In one step, for a server that runs: the old or the new, which are the same place for it.
        let part = ".drctl-link";
        let _ = unlinkat(&links, part, AtFlags::empty());
        symlinkat(&target, &links, part).map_err(failed)?;
        renameat(&links, part, &links, &name).map_err(failed)?;
    }
    Ok(())
}

/// Removes the root of a sandbox that nothing runs in any more.
pub(super) fn leave_sandbox(layout: &Layout) {
    // Nothing of it is needed: the places that it led to are the restore's own.
    let _ = blocking(|| fs::remove_dir_all(layout.sandbox_root()));
}

/// A directory, and no link to one.
fn open(at: impl std::os::fd::AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// The directory of this restore that a link of ours leads to.
fn led(at: &OwnedFd, name: &OsStr, layout: &Layout) -> Option<PathBuf> {
    let says = readlinkat(at, name, Vec::new()).ok()?;
    let says = PathBuf::from(OsStr::from_bytes(says.as_bytes()));
    is_ours(&says, layout).then_some(says)
}

/// Whether a path is that of a tablespace in the layout, by its number.
fn is_ours(path: &Path, layout: &Layout) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    path.parent() == Some(&layout.tablespaces())
        && name.is_some_and(|name| name.parse::<u32>().is_ok())
}

/// The names in an absolute path that holds nothing but names.
fn names(path: &Path) -> Option<Vec<&OsStr>> {
    let mut parts = path.components();
    if parts.next() != Some(Component::RootDir) || path.as_os_str().as_bytes().contains(&0) {
        return None;
    }
    let name = |part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    };
    parts.map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        for place in [layout.data().join(LINKS), layout.sandbox_root(), layout.tablespaces()] {
            fs::create_dir_all(place).unwrap();
        }
        (folder, layout)
    }

    fn link(layout: &Layout, oid: u32) -> PathBuf {
        fs::read_link(layout.data().join(LINKS).join(oid.to_string())).unwrap()
    }

    #[test]
    fn places_of_the_log_lead_into_the_restore_and_nowhere_else() {
        let (_folder, layout) = layout();
        lead(&layout, 5, Path::new("/srv/pg/fast")).unwrap();
        lead(&layout, 6, Path::new("/srv/pg/slow")).unwrap();
        // One in another one; the same place under another number, made once more.
        lead(&layout, 7, Path::new("/srv/pg/fast/inner")).unwrap();
        lead(&layout, 8, Path::new("/srv/pg/slow")).unwrap();
        for (oid, place) in [(5, "fast"), (7, "fast/inner"), (8, "slow")] {
            let path = Path::new("/srv/pg").join(place);
            symlink(path, layout.data().join(LINKS).join(oid.to_string())).unwrap();
        }
        symlink(layout.tablespace(4), layout.data().join(LINKS).join("4")).unwrap();
        settle(&layout).unwrap();
        settle(&layout).unwrap();
        let places: Vec<PathBuf> = [4, 5, 7, 8].iter().map(|oid| link(&layout, *oid)).collect();
        assert_eq!(places, [4, 5, 7, 6].map(|oid| layout.tablespace(oid)));
    }

    #[test]
    fn a_restore_below_the_place_of_a_tablespace_is_told_to_go_elsewhere() {
        let (_folder, layout) = layout();
        fs::create_dir_all(layout.sandbox_root().join("srv/restored/data")).unwrap();
        let error = lead(&layout, 5, Path::new("/srv")).unwrap_err().to_string();
        assert!(is_unusable_place(&error) && error.contains("into another directory"), "{error}");
    }

    #[test]
    fn what_ran_in_the_sandbox_leads_nobody_astray() {
        let (folder, layout) = layout();
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        symlink(&outside, layout.sandbox_root().join("srv")).unwrap();
        for place in ["/srv/pg", "/srv", "relative", "/a/../b", "/"] {
            let error = lead(&layout, 5, Path::new(place)).unwrap_err().to_string();
            assert!(error.contains("creates a tablespace at"), "{place}: {error}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        symlink(&outside, layout.data().join(LINKS).join("9")).unwrap();
        let error = settle(&layout).unwrap_err().to_string();
        assert!(error.contains("outside of this restore"), "{error}");
        fs::remove_dir_all(layout.data().join(LINKS)).unwrap();
        symlink(&outside, layout.data().join(LINKS)).unwrap();
        assert!(settle(&layout).is_err());
    }
}
