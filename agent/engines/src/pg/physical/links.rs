//! What a cluster's directories must not hold when somebody is to work in them: links and other
//! things that a base backup never brings. What ran on the data in a sandbox can have made some.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use drctl_model::shown;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::Layout;
use crate::common::EngineError;

/// The data directory.
const DATA: &str = "data";

/// Where the links to tablespaces are in it.
const LINKS: &str = "pg_tblspc";

/// How many are named.
const NAMED: usize = 5;

/// Refuses a cluster whose data or tablespaces hold a pipe, a socket, a device, or a link that is
/// not a tablespace's. No link is followed by the look itself.
///
/// # Errors
/// [`EngineError::Config`] that names them; [`EngineError::Io`].
pub fn no_links(layout: &Layout) -> Result<(), EngineError> {
    let mut found = Vec::new();
    for place in [layout.data(), layout.tablespaces()] {
        let failed = || EngineError::io(format!("look through {}", place.display()));
        let top = match open(rustix::fs::CWD, &place) {
            Err(Errno::NOENT) => continue,
            top => top.map_err(|errno| failed()(errno.into()))?,
        };
        let at_data = (place == layout.data()).then_some(DATA);
        look(&top, (&place, at_data), &mut found).map_err(|errno| failed()(errno.into()))?;
    }
    if found.is_empty() {
        return Ok(());
    }
    let names: Vec<String> =
        found.iter().take(NAMED).map(|path| shown(&path.to_string_lossy(), 200)).collect();
    Err(EngineError::Config(format!(
        "{} entries of the cluster are symbolic links or not regular files, which no base backup \
         has: {}. The restored server created them, and they may lead anywhere: do not start what \
         is in {}",
        found.len(),
        names.join(", "),
        layout.data().display()
    )))
}

/// Looks through a directory and all below it. In [`LINKS`] of the [`DATA`] lie the links to
/// tablespaces, which are looked at elsewhere, and tablespaces in place.
fn look(
    at: &OwnedFd,
    (path, top): (&Path, Option<&str>),
    found: &mut Vec<PathBuf>,
) -> Result<(), Errno> {
    for entry in Dir::read_from(at)? {
        let entry = entry?;
        let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let below = path.join(name);
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            kind => kind,
        };
        match kind {
            FileType::RegularFile => {}
            FileType::Symlink if top == Some(LINKS) => {}
            FileType::Directory => {
                let top = (top == Some(DATA) && name == LINKS).then_some(LINKS);
                look(&open(at.as_fd(), Path::new(name))?, (&below, top), found)?;
            }
            _ => found.push(below),
        }
    }
    Ok(())
}

fn open(at: impl std::os::fd::AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, path, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_that_no_copy_brings_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        fs::create_dir_all(layout.data().join("base/5")).unwrap();
        fs::create_dir_all(layout.data().join("pg_tblspc")).unwrap();
        fs::create_dir_all(layout.tablespace(7)).unwrap();
        fs::write(layout.data().join("base/5/1"), "").unwrap();
        symlink(layout.tablespace(7), layout.data().join("pg_tblspc/7")).unwrap();
        no_links(&layout).unwrap();
        let in_place = layout.data().join("pg_tblspc/8/PG_17");
        fs::create_dir_all(&in_place).unwrap();
        no_links(&layout).unwrap();
        let places = [layout.data().join("base/5/2"), layout.tablespace(7).join("x")];
        for place in places.into_iter().chain([in_place.join("y")]) {
            symlink("/etc", &place).unwrap();
            let said = no_links(&layout).unwrap_err().to_string();
            assert!(said.contains(&place.display().to_string()), "{said}");
            fs::remove_file(&place).unwrap();
        }
        symlink("/etc", layout.data().join("pg_wal")).unwrap();
        assert!(no_links(&layout).is_err());
    }
}
