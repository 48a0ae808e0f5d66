//! What is ours stays ours: nothing that this process or its children make is for other accounts, and
//! no directory of ours is believed that others can change.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use drctl_engines::Below;
use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, geteuid, set_dumpable_behavior, setrlimit, umask,
};

use super::AgentError;

/// At the very start, for us and every child: files and directories are for this account alone,
/// whatever the shell says, and no memory with keys in it goes to a disk when a process crashes.
pub(crate) fn begin() {
    umask(Mode::RWXG | Mode::RWXO);
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // Neither is refused to whom it concerns; without them all else holds.
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Makes a directory of ours where it is missing, for this account alone, and looks at one that is
/// there.
///
/// # Errors
/// [`AgentError::NotPrivate`] where another account owns it, or may change what is in it;
/// [`AgentError::Usage`] as root in the directory of another account; the file system's.
pub(crate) fn directory(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("make the directory {}", path.display()))?;
    let found = path.metadata().with_context(|| format!("look at {}", path.display()))?;
    match unfit(found.uid(), found.mode(), geteuid().as_raw()) {
        None => Ok(()),
        Some(Unfit::OfAccount(owner)) => Err(of_account(path, owner)),
        Some(Unfit::Foreign(owner)) => {
            let why = format!("it belongs to {}", account(owner));
            Err(AgentError::NotPrivate { path: path.to_owned(), why }.into())
        }
        Some(Unfit::Open) => {
            let why = format!("its mode is {:03o}", found.mode() & 0o777);
            Err(AgentError::NotPrivate { path: path.to_owned(), why }.into())
        }
    }
}

/// An error as root where a directory that is there belongs to another account: what root writes there
/// is of no use to that account. It may be as open as its owner likes.
///
/// # Errors
/// [`AgentError::Usage`].
pub(crate) fn may_write(path: &Path) -> Result<()> {
    let found = path.metadata().map(|found| unfit(found.uid(), found.mode(), geteuid().as_raw()));
    match found {
        Ok(Some(Unfit::OfAccount(owner))) => Err(of_account(path, owner)),
        _ => Ok(()),
    }
}

fn of_account(path: &Path, owner: u32) -> anyhow::Error {
    let name = account(owner);
    let text = format!(
        "{} belongs to {name}, and what root writes there {name} could not use: run this as {name}, \
         for example `sudo -u {name} drctl …`. Nothing was done",
        path.display()
    );
    AgentError::Usage(text).into()
}

/// Whether a restore may write below a directory, which need not be there yet: neither it nor
/// anything on the way to it may be changed by another account, which could put a link in the place
/// of what is written. In a directory like `/tmp`, names of ours are ours.
///
/// # Errors
/// [`AgentError::Target`].
pub(crate) fn target(directory: &Path) -> Result<()> {
    let named = std::path::absolute(directory).context("find the directory")?;
    let us = geteuid().as_raw();
    // The way as it is named, links and all, and the way to where that leads.
    let real = named.ancestors().find_map(|place| Some((place, place.canonicalize().ok()?)));
    let leads = real.map(|(place, real)| (real, place == named));
    for (way, whole) in [Some((named.clone(), true)), leads].into_iter().flatten() {
        for place in way.ancestors() {
            let Ok(found) = place.symlink_metadata() else { continue };
            let last = whole && place == way;
            let why = match unfit_way(&found, last, us) {
                None => continue,
                Some(Unfit::Open) => {
                    format!("may be changed by other accounts (mode {:03o})", found.mode() & 0o7777)
                }
                Some(Unfit::Foreign(owner) | Unfit::OfAccount(owner)) => {
                    format!("belongs to {}", account(owner))
                }
            };
            let text = format!(
                "{} {why}, who could lead what is restored elsewhere: name a new directory in one \
                 that only this account and root may change. Nothing was done",
                place.display()
            );
            return Err(AgentError::Target(text).into());
        }
    }
    Ok(())
}

/// Makes the directory of a restore where it is missing, for this account alone.
///
/// # Errors
/// As [`target`]; the file system's.
pub(crate) fn make_target(directory: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| {
        let text = format!(
            "the directory {} cannot be made ({error}): name one where this account may make it. \
             Nothing was done",
            directory.display()
        );
        AgentError::Target(text)
    })?;
    // Somebody may have been faster.
    target(directory)
}

/// What speaks against a place on the way to a restore's directory, or against that itself.
fn unfit_way(found: &Metadata, last: bool, us: u32) -> Option<Unfit> {
    if found.uid() != us && found.uid() != 0 {
        return Some(Unfit::Foreign(found.uid()));
    }
    let sticky = found.mode() & 0o1000 != 0 && !last;
    let open = found.mode() & 0o022 != 0 && !sticky && !found.is_symlink();
    open.then_some(Unfit::Open)
}

/// A file in a directory of ours, to be written from its beginning; no link in its place is followed.
///
/// # Errors
/// The file system's.
pub(crate) fn rewrite(path: &Path) -> io::Result<File> {
    let (folder, name) = within(path)?;
    Below::open(folder)?.rewrite(name)
}

/// The directory of a file, and its name there.
fn within(path: &Path) -> io::Result<(&Path, &Path)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let here = folder.as_os_str().is_empty();
    Ok((if here { Path::new(".") } else { folder }, Path::new(name)))
}

/// Writes all of such a file.
///
/// # Errors
/// The file system's.
pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    rewrite(path)?.write_all(bytes.as_ref())
}

/// Puts such a file in the place of what has its name: the old or the new, if not at once on the disk.
///
/// # Errors
/// The file system's.
pub(crate) fn replace(path: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    write(Path::new(&new), bytes)?;
    fs::rename(&new, path)
}

/// As [`replace`], and on the disk when it returns: the old or the new, whatever becomes of the host.
///
/// # Errors
/// The file system's.
pub(crate) fn store(path: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let (folder, name) = within(path)?;
    let mut part = name.as_os_str().to_owned();
    part.push(".drctl");
    Below::open(folder)?.replace(&part, name, bytes.as_ref())
}

/// A directory for all to read, where it is missing: for what is no secret and others need.
///
/// # Errors
/// The file system's.
pub(crate) fn public_directory(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), public_directory)?;
    fs::create_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

/// Whether a file is of this account, or of root, and no other account may change it.
pub(crate) fn is_ours(found: &Metadata) -> bool {
    let us = geteuid().as_raw();
    (found.uid() == us || found.uid() == 0) && found.mode() & 0o022 == 0
}

/// What speaks against a directory.
#[derive(Debug, PartialEq, Eq)]
enum Unfit {
    /// We are root, and it is of another account, which needs what is in it.
    OfAccount(u32),
    /// It is neither ours nor root's.
    Foreign(u32),
    /// Other accounts may write into it.
    Open,
}

fn unfit(owner: u32, mode: u32, us: u32) -> Option<Unfit> {
    if us == 0 && owner != 0 {
        return Some(Unfit::OfAccount(owner));
    }
    if owner != us && owner != 0 {
        return Some(Unfit::Foreign(owner));
    }
    (mode & 0o022 != 0).then_some(Unfit::Open)
}

/// An account as people know it, if the system's file knows it.
fn account(uid: u32) -> String {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("account {uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_ours_is_ours_alone() {
        let (postgres, other) = (101, 65_534);
        assert_eq!(unfit(postgres, 0o40_700, postgres), None);
        assert_eq!(unfit(postgres, 0o40_755, postgres), None);
        assert_eq!(unfit(0, 0o40_755, postgres), None, "root may do all anyway");
        assert_eq!(unfit(0, 0o40_700, 0), None);
        assert_eq!(unfit(other, 0o40_700, postgres), Some(Unfit::Foreign(other)));
        assert_eq!(unfit(postgres, 0o40_700, 0), Some(Unfit::OfAccount(postgres)));
        for mode in [0o40_770, 0o40_702, 0o41_777] {
            assert_eq!(unfit(postgres, mode, postgres), Some(Unfit::Open), "{mode:o}");
            assert_eq!(unfit(0, mode, postgres), Some(Unfit::Open), "{mode:o}");
        }
    }

    #[test]
    fn accounts_are_told_by_name() {
        assert_eq!(account(0), "root");
        assert_eq!(account(4_000_000_000), "account 4000000000");
    }
}
