//! A directory removed with all that is in it, and nothing else: no link is followed, and no mount entered.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

/// From so many directories within each other on, one is moved up before it is removed: whoever filled the
/// tree may have made it deeper than we may have files open.
const DEEP: usize = 64;

/// Removes the directory `name` in `parent` with all that is in it: the file `last` in it when all else is gone.
///
/// # Errors
/// The file system's: what is mounted in it is not entered, and stays, with the directories above it and `last`.
pub(crate) fn remove_tree(parent: &Path, name: &CStr, last: &CStr) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::openat(CWD, parent, flags, Mode::empty())?;
    let mut tree = Tree { top: enter(parent.as_fd(), name)?, last, moved: 0 };
    let top = tree.top.try_clone()?;
    // What was moved up while it was emptied is in it afterwards.
    loop {
        let before = tree.moved;
        tree.empty(&top, 0)?;
        if tree.moved == before {
            break;
        }
    }
    match rustix::fs::unlinkat(&tree.top, last, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

struct Tree<'a> {
    top: OwnedFd,
    /// What stays in the top.
    last: &'a CStr,
    /// How many directories were moved up.
    moved: u32,
}

impl Tree<'_> {
    fn empty(&mut self, folder: &OwnedFd, depth: usize) -> io::Result<()> {
        let mut again = Dir::read_from(folder)?;
        while let Some(entry) = again.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || depth == 0 && name == self.last {
                continue;
            }
            let is_folder = match entry.file_type() {
                FileType::Directory => true,
                FileType::Unknown => {
                    let found = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(found.st_mode) == FileType::Directory
                }
                _ => false,
            };
            match is_folder {
                false => rustix::fs::unlinkat(folder, name, AtFlags::empty())?,
                true if depth >= DEEP => self.move_up(folder, name)?,
                true => {
                    let inner = enter(folder.as_fd(), name)?;
                    self.empty(&inner, depth + 1)?;
                    rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?;
                }
            }
        }
        Ok(())
    }

    fn move_up(&mut self, folder: &OwnedFd, name: &CStr) -> io::Result<()> {
        // One that may not be written cannot be moved either.
        drop(enter(folder.as_fd(), name)?);
        loop {
            self.moved += 1;
            let to = CString::new(format!("deep-{}", self.moved)).map_err(io::Error::other)?;
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(folder, name, &self.top, &to, flags) {
                Err(Errno::EXIST) => {}
                done => return Ok(done?),
            }
        }
    }
}

/// Opens a directory in another one; one that its owner may not look into is opened for him first.
fn enter(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let open = |flags| match rustix::fs::openat2(folder, name, flags, Mode::empty(), within) {
        // Some containers do not let it through: then it is looked whether it is a mount.
        Err(Errno::NOSYS) => enter_no_mount(folder, name, flags),
        opened => opened,
    };
    let opened = match open(flags) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(folder, name, Mode::RWXU, AtFlags::empty())?;
            open(flags)?
        }
        opened => opened?,
    };
    // Names in it can be removed only where it may be written.
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        rustix::fs::fchmod(&opened, Mode::RWXU)?;
    }
    Ok(opened)
}

/// The same without `openat2`.
fn enter_no_mount(folder: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let opened = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    let mount = |of: BorrowedFd<'_>| {
        let found = rustix::fs::statx(of, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
        let told = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID);
        told.then_some(found.stx_mnt_id).ok_or(Errno::NOSYS)
    };
    match mount(folder)? == mount(opened.as_fd())? {
        true => Ok(opened),
        false => Err(Errno::XDEV),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_tree_goes_with_all_that_is_in_it_and_nothing_that_it_leads_to() {
        let place = tempfile::tempdir().unwrap();
        let (outside, tree) = (place.path().join("outside"), place.path().join("tree"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("mark"), "x").unwrap();
        fs::write(tree.join("a/b/file"), "x").unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        symlink(outside.join("kept"), tree.join("a/b/other")).unwrap();
        fs::hard_link(outside.join("kept"), tree.join("a/same")).unwrap();
        for (folder, mode) in [("a/b", 0o000), ("a", 0o500)] {
            fs::set_permissions(tree.join(folder), fs::Permissions::from_mode(mode)).unwrap();
        }
        remove_tree(place.path(), c"tree", c"mark").unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read(outside.join("kept")).unwrap(), b"x");
    }

    #[test]
    fn a_tree_deeper_than_files_may_be_open_goes() {
        let place = tempfile::tempdir().unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = rustix::fs::openat(CWD, place.path(), flags, Mode::empty()).unwrap();
        for depth in 0..3000 {
            let name = if depth == 0 { "tree" } else { "d" };
            rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
            let below = rustix::fs::openat(&at, name, flags, Mode::empty()).unwrap();
            // Some of them nobody may write into.
            if depth % 50 == 0 {
                rustix::fs::fchmod(&at, Mode::RUSR | Mode::XUSR).unwrap();
            }
            at = below;
        }
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700)).unwrap();
        drop(at);
        remove_tree(place.path(), c"tree", c"mark").unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_is_entered_without_openat2_too_and_a_mount_is_not() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |path: &Path| rustix::fs::openat(CWD, path, flags, Mode::empty()).unwrap();
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("a")).unwrap();
        symlink("/", place.path().join("link")).unwrap();
        let folder = open(place.path());
        assert!(enter_no_mount(folder.as_fd(), c"a", flags).is_ok());
        assert!(enter_no_mount(folder.as_fd(), c"link", flags).is_err());
        let root = open(Path::new("/"));
        assert_eq!(enter_no_mount(root.as_fd(), c"proc", flags).unwrap_err(), Errno::XDEV);
    }

    #[test]
    fn what_is_last_stays_while_anything_else_does() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        fs::create_dir_all(tree.join("a")).unwrap();
        fs::write(tree.join("mark"), "x").unwrap();
        // A directory under the name of a file that is to be removed last cannot be unlinked.
        fs::create_dir(tree.join("stays")).unwrap();
        assert!(remove_tree(place.path(), c"tree", c"stays").is_err());
        assert!(tree.join("stays").exists() && !tree.join("a").exists());
        remove_tree(place.path(), c"tree", c"mark").unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn a_link_in_the_place_of_the_tree_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("other")).unwrap();
        symlink(place.path().join("other"), place.path().join("tree")).unwrap();
        assert!(remove_tree(place.path(), c"tree", c"mark").is_err());
        assert!(place.path().join("other").exists());
    }
}
