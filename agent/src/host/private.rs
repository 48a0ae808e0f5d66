//! What is ours stays ours: nothing that this process or its children make is for other accounts, and
//! no directory of ours is believed that others can change.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use drctl_engines::{Below, Unfit, account, unfit_place, unfit_way};
use rustix::fs::{Access, Mode};
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
/// there, and at the way to it.
///
/// # Errors
/// [`AgentError::NotPrivate`] where another account owns it, or may change what is in it or put another
/// one in its place; [`AgentError::Usage`] as root in the directory of another account; the file
/// system's.
pub(crate) fn directory(path: &Path) -> Result<()> {
    let us = geteuid().as_raw();
    let not_private = |why: String| AgentError::NotPrivate { path: path.to_owned(), why };
    let on_the_way = || match unfit_way(path, true, us) {
        None => Ok(()),
        Some((place, unfit)) => Err(not_private(format!("{} {unfit}", place.display()))),
    };
    if !path.exists() {
        on_the_way()?;
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("make the directory {}", path.display()))?;
    let found = path.metadata().with_context(|| format!("look at {}", path.display()))?;
    if let Some(owner) = anothers(found.uid(), us) {
        return Err(of_account(path, owner));
    }
    match unfit_place(found.uid(), found.mode(), us) {
        None => Ok(on_the_way()?),
        Some(Unfit::Open(mode)) => {
            Err(not_private(format!("its mode is {:03o}", mode & 0o777)).into())
        }
        Some(unfit) => Err(not_private(format!("it {unfit}")).into()),
    }
}

/// Whose word counts for a file that is believed: our own; root may look at what is another account's,
/// and takes that account's word for it.
pub(crate) fn author(path: &Path) -> u32 {
    match geteuid().as_raw() {
        0 => path.metadata().map_or(0, |found| found.uid()),
        us => us,
    }
}

/// Whether nobody but its author and root can change a file or directory whose content is believed, or
/// put another one in its place. One that is not there is nobody's.
///
/// # Errors
/// [`AgentError::Changeable`].
pub(crate) fn believed(path: &Path, author: u32) -> Result<()> {
    match unfit_way(path, true, author) {
        None => Ok(()),
        Some((place, unfit)) => {
            let why = format!("{} {unfit}", place.display());
            Err(AgentError::Changeable { path: path.to_owned(), why }.into())
        }
    }
}

/// An error as root where a directory that is there belongs to another account: what root writes there
/// is of no use to that account. It may be as open as its owner likes.
///
/// # Errors
/// [`AgentError::Usage`].
pub(crate) fn may_write(path: &Path) -> Result<()> {
    let owner = path.metadata().ok().and_then(|found| anothers(found.uid(), geteuid().as_raw()));
    owner.map_or(Ok(()), |owner| Err(of_account(path, owner)))
}

/// The account that should run this instead of root; nothing where this account may.
pub(crate) fn runs_it(path: &Path) -> Option<String> {
    let owner = path.metadata().ok().and_then(|found| anothers(found.uid(), geteuid().as_raw()));
    owner.map(account)
}

fn of_account(path: &Path, owner: u32) -> anyhow::Error {
    let name = account(owner);
    let text = format!(
        "{} belongs to {name}, who could not use files of root there: run this as {name}, for \
         example `sudo -u {name} drctl …`. Nothing was done",
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
    let Some((place, why)) = unfit_way(directory, true, geteuid().as_raw()) else {
        return Ok(());
    };
    let text = format!(
        "{} {why}, who could redirect the restored files: name a new directory in one that only \
         this account and root may change. Nothing was done",
        place.display()
    );
    Err(AgentError::Target(text).into())
}

/// Whether this account can write into a directory, or into that in which it would be made: a file
/// system may be read-only, for root too.
///
/// # Errors
/// [`AgentError::Target`].
pub(crate) fn writable(directory: &Path) -> Result<()> {
    let named = std::path::absolute(directory).context("find the directory")?;
    let Some(there) = named.ancestors().find(|place| place.is_dir()) else { return Ok(()) };
    let may = rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK);
    let text = may.map_err(|error| {
        format!(
            "{} cannot be written into ({error}): name a directory where this account may write. \
             Nothing was done",
            there.display()
        )
    });
    text.map_err(|text| AgentError::Target(text).into())
}

/// Makes the directory of a restore where it is missing, for this account alone.
///
/// # Errors
/// As [`target`] and [`writable`]; the file system's.
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
    target(directory)?;
    writable(directory)
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

/// The account that a place is of and that needs what is in it, where we are root: it could not use what
/// root writes there.
fn anothers(owner: u32, us: u32) -> Option<u32> {
    (us == 0 && owner != 0).then_some(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_ours_is_ours_alone() {
        let (postgres, other) = (101, 65_534);
        assert_eq!(unfit_place(postgres, 0o40_700, postgres), None);
        assert_eq!(unfit_place(postgres, 0o40_755, postgres), None);
        assert_eq!(unfit_place(0, 0o40_755, postgres), None, "root may do all anyway");
        assert_eq!(unfit_place(0, 0o40_700, 0), None);
        assert_eq!(unfit_place(other, 0o40_700, postgres), Some(Unfit::Foreign(other)));
        assert_eq!(anothers(postgres, 0), Some(postgres));
        assert_eq!((anothers(0, 0), anothers(other, postgres)), (None, None));
        for mode in [0o40_770, 0o40_702, 0o41_777] {
            let open = Some(Unfit::Open(mode & 0o7777));
            assert_eq!(unfit_place(postgres, mode, postgres), open, "{mode:o}");
            assert_eq!(unfit_place(0, mode, postgres), open, "{mode:o}");
        }
    }
}
