//! A directory and what lies below it, reached by names alone: no link is followed on the way, so
//! that what a stranger named or made stays below it.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, statat, symlinkat, unlinkat};
use rustix::io::Errno;

/// How a directory on the way is opened.
const ON_THE_WAY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory. Everything by it takes a relative path of plain names and refuses every other, and
/// refuses where a link stands for any of them.
#[derive(Debug)]
pub struct Below {
    root: OwnedFd,
}

impl Below {
    /// A directory that is there; its own path is the operator's, links and all.
    ///
    /// # Errors
    /// [`io::Error`], the file system's.
    pub fn open(place: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Below { root: openat(CWD, place, flags, Mode::empty())? })
    }

    /// A directory, made where it is missing, for us alone.
    ///
    /// # Errors
    /// [`io::Error`], the file system's.
    pub fn make(place: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(place)?;
        Self::open(place)
    }

    /// A directory below this one, made where it is missing with all on the way, for us alone.
    ///
    /// # Errors
    /// The file system's; [`ErrorKind::InvalidInput`] for a path that could lead elsewhere.
    pub fn directory(&self, path: &Path) -> io::Result<Self> {
        let (parent, name) = self.parent(path, true)?;
        make_one(&parent, name)?;
        Self::open_in(&parent, name)
    }

    /// A directory below this one, which is there.
    ///
    /// # Errors
    /// As [`directory`](Self::directory).
    pub fn enter(&self, path: &Path) -> io::Result<Self> {
        let (parent, name) = self.parent(path, false)?;
        Self::open_in(&parent, name)
    }

    fn open_in(parent: &OwnedFd, name: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Below { root: openat(parent, name, flags, Mode::empty())? })
    }

    /// A file that is not there yet; directories on the way are made.
    ///
    /// # Errors
    /// As [`directory`](Self::directory).
    pub fn create_new(&self, path: &Path, mode: u32) -> io::Result<File> {
        let (parent, name) = self.parent(path, true)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(mode);
        Ok(File::from(openat(&parent, name, flags | OFlags::CLOEXEC, mode)?))
    }

    /// A file to be written from its beginning, whatever is in it.
    ///
    /// # Errors
    /// As [`directory`](Self::directory); [`ErrorKind::InvalidInput`] too for what is no file, or
    /// has a second name, which may lie elsewhere.
    pub fn rewrite(&self, path: &Path) -> io::Result<File> {
        let file = self.file(path, OFlags::WRONLY | OFlags::CREATE)?;
        if file.metadata()?.nlink() > 1 {
            return Err(odd("it has a second hard link"));
        }
        file.set_len(0)?;
        Ok(file)
    }

    /// A file to be written on at its end.
    ///
    /// # Errors
    /// As [`directory`](Self::directory).
    pub fn append(&self, path: &Path) -> io::Result<File> {
        self.file(path, OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND)
    }

    /// A file to be read, and written on at its end alone; made where it is missing.
    ///
    /// # Errors
    /// As [`directory`](Self::directory); [`ErrorKind::InvalidInput`] too for what is no file, or
    /// has a second name, which may lie elsewhere.
    pub fn extend(&self, path: &Path) -> io::Result<File> {
        let file = self.file(path, OFlags::RDWR | OFlags::CREATE | OFlags::APPEND)?;
        match file.metadata()?.nlink() {
            ..=1 => Ok(file),
            _ => Err(odd("it has a second hard link")),
        }
    }

    /// A file to be read.
    ///
    /// # Errors
    /// As [`directory`](Self::directory), for what is no file too.
    pub fn read(&self, path: &Path) -> io::Result<File> {
        self.file(path, OFlags::RDONLY)
    }

    /// A file to be read and written, made where it is missing, whatever is in it kept: a lock.
    ///
    /// # Errors
    /// As [`directory`](Self::directory), for what is no file too.
    pub fn keep(&self, path: &Path) -> io::Result<File> {
        self.file(path, OFlags::RDWR | OFlags::CREATE)
    }

    fn file(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let (parent, name) = self.parent(path, false)?;
        // Not blocking: whatever lies there must not hold us up before it is known what it is.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat(&parent, name, flags, Mode::RUSR | Mode::WUSR)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(odd("it is no file")) }
    }

    /// A symbolic link, which nothing here will follow.
    ///
    /// # Errors
    /// As [`directory`](Self::directory).
    pub fn link(&self, path: &Path, target: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path, true)?;
        Ok(symlinkat(target, &parent, name)?)
    }

    /// Removes a file or a link, if it is there.
    ///
    /// # Errors
    /// As [`directory`](Self::directory).
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = match self.parent(path, false) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            parent => parent?,
        };
        match unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A file with these bytes, in place of what had its name: the old or the new, and on the disk.
    /// It is `part` until it is whole.
    ///
    /// # Errors
    /// As [`directory`](Self::directory).
    pub fn replace(&self, part: impl AsRef<Path>, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.replace_as(part, path, bytes, 0o600)
    }

    /// As [`replace`](Self::replace), for whom `mode` lets read it.
    ///
    /// # Errors
    /// As [`directory`](Self::directory).
    pub fn replace_as(
        &self,
        part: impl AsRef<Path>,
        path: &Path,
        bytes: &[u8],
        mode: u32,
    ) -> io::Result<()> {
        let part = part.as_ref();
        let mut file = self.rewrite(part)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        self.rename(part, path)?;
        self.sync()
    }

    /// Gives a file another name here, in place of what had it.
    ///
    /// # Errors
    /// As [`directory`](Self::directory).
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_parent, from) = self.parent(from, false)?;
        let (to_parent, to) = self.parent(to, false)?;
        Ok(rustix::fs::renameat(&from_parent, from, &to_parent, to)?)
    }

    /// Whether there is something under this name, be it a link that leads nowhere.
    ///
    /// # Errors
    /// As [`directory`](Self::directory).
    pub fn has(&self, path: &Path) -> io::Result<bool> {
        let found = self
            .parent(path, false)
            .and_then(|(parent, name)| Ok(statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?));
        match found {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether nothing lies in it.
    ///
    /// # Errors
    /// [`io::Error`], the file system's.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.names()?.is_empty())
    }

    /// What lies in it.
    ///
    /// # Errors
    /// [`io::Error`], the file system's.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.root)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }

    /// Brings the directory itself to the disk: the names in it.
    ///
    /// # Errors
    /// [`io::Error`], the file system's.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.root)?)
    }

    /// Brings everything to the disk that its file system has not written yet.
    ///
    /// # Errors
    /// [`io::Error`], the file system's.
    pub fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }

    /// The directory that the last name of a path stands in, and that name.
    fn parent<'a>(&self, path: &'a Path, make: bool) -> io::Result<(OwnedFd, &'a Path)> {
        let names = names(path).ok_or_else(|| odd("it could lead elsewhere"))?;
        let Some((last, on_the_way)) = names.split_last() else {
            return Err(odd("it has no name"));
        };
        let mut at = self.root.try_clone()?;
        for name in on_the_way {
            if make {
                make_one(&at, name)?;
            }
            at = openat(&at, *name, ON_THE_WAY, Mode::empty())?;
        }
        Ok((at, last))
    }
}

/// Makes one directory, where it is missing. What is there under its name is looked at when it is
/// opened.
fn make_one(parent: &OwnedFd, name: &Path) -> io::Result<()> {
    match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn odd(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, why.to_owned())
}

/// The names that a path is made of; nothing for one with another part than a plain name: `.`, `..`,
/// an empty one, a slash at either end, a byte 0.
fn names(path: &Path) -> Option<Vec<&Path>> {
    let plain = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    let names = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    let as_path = |name| Path::new(OsStr::from_bytes(name));
    names.map(|name| plain(name).then(|| as_path(name))).collect()
}

/// Whether a path is made of plain names alone, so that it leads to something below the place where
/// it begins, and is the only one that leads there.
#[must_use]
pub fn stays_below(path: &str) -> bool {
    names(Path::new(path)).is_some()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    use rustix::fs::FileType;

    use super::*;

    #[test]
    fn no_path_leads_elsewhere() {
        for path in
            ["", "/", "/etc/passwd", "..", "a/../b", "./a", "a/./b", "a//b", "a/", "a/..", "a\0b"]
        {
            assert!(!stays_below(path), "{path:?}");
        }
        assert!(
            stays_below("base/16384/1")
                && stays_below("a")
                && stays_below("...")
                && stays_below("a\nb")
        );
    }

    #[test]
    fn a_link_is_never_followed() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("file"), "theirs").unwrap();
        let target = |name: &str| outside.path().join(name);
        symlink(outside.path(), inside.path().join("folder")).unwrap();
        symlink(target("file"), inside.path().join("file")).unwrap();
        symlink(target("new"), inside.path().join("nowhere")).unwrap();
        fs::hard_link(target("file"), inside.path().join("second")).unwrap();
        let below = Below::open(inside.path()).unwrap();
        for name in ["folder/file", "folder/new", "file", "nowhere", "../x", "second"] {
            let path = Path::new(name);
            assert!(below.rewrite(path).is_err(), "{name}");
            assert!(below.create_new(path, 0o600).is_err(), "{name}");
        }
        for name in ["folder/file", "folder/new", "file", "nowhere"] {
            let path = Path::new(name);
            assert!(below.read(path).is_err() && below.append(path).is_err(), "{name}");
            assert!(below.keep(path).is_err(), "{name}");
        }
        assert!(below.directory(Path::new("folder")).is_err());
        assert!(below.directory(Path::new("folder/deeper")).is_err());
        assert!(below.remove(Path::new("folder/file")).is_err());
        assert!(below.rename(Path::new("second"), Path::new("folder/x")).is_err());
        assert!(below.has(Path::new("nowhere")).unwrap(), "a link that leads nowhere is there");
        assert!(!below.has(Path::new("absent")).unwrap());
        assert_eq!(fs::read_to_string(target("file")).unwrap(), "theirs");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        below.remove(Path::new("file")).unwrap();
        assert!(target("file").exists(), "the link went, not what it leads to");
    }

    #[test]
    fn what_is_no_file_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let below = Below::open(folder.path()).unwrap();
        let path = Path::new("pipe");
        assert!(below.read(path).is_err() && below.keep(path).is_err());
        assert!(below.append(path).is_err() && below.rewrite(path).is_err());
    }

    #[test]
    fn files_and_directories_are_made_for_us_alone() {
        let folder = tempfile::tempdir().unwrap();
        let below = Below::make(&folder.path().join("a/b")).unwrap();
        assert!(below.is_empty().unwrap());
        below.create_new(Path::new("c/d/e"), 0o600).unwrap().write_all(b"text").unwrap();
        assert!(below.create_new(Path::new("c/d/e"), 0o600).is_err());
        below.rewrite(Path::new("c/d/e")).unwrap().write_all(b"t").unwrap();
        below.append(Path::new("c/d/e")).unwrap().write_all(b"u").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("a/b/c/d/e")).unwrap(), "tu");
        for name in ["a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/e"] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().mode();
            assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
        }
        assert!(!below.is_empty().unwrap());
    }
}
