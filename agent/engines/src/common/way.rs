//! The way to a place: whether another account could put something else there, and a place for what is
//! made for a while.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, Metadata};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{Uid, User};
use rustix::process::geteuid;

use super::process::search_path;
use super::{EngineError, open_at_once};

/// Whoever may write into a directory can put something else in the place of what lies there.
const OTHERS_MAY_WRITE: u32 = 0o022;

/// The most bytes of a script's first line that the kernel looks at (`BINPRM_BUF_SIZE`).
const FIRST_LINE: usize = 256;

/// How many interpreters stand behind each other at most; the kernel gives up before.
pub(super) const INTERPRETERS: usize = 6;

/// How many links are followed; the kernel follows no more either.
const LINKS: usize = 40;

/// What other accounts can do about a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It is neither ours nor root's: whose it is.
    Foreign(u32),
    /// Other accounts may write into it: its mode.
    Open(u32),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Foreign(owner) => write!(f, "belongs to {}", account(*owner)),
            Unfit::Open(mode) => write!(f, "may be changed by other accounts (mode {mode:03o})"),
        }
    }
}

/// The first place on the way to a path, its links included, as named and as it really is, that an
/// account other than `us` and root can change; nothing where there is none. What is not there yet is
/// looked at by whoever makes it. A directory like `/tmp` (sticky) may be on the way: names of ours
/// there are ours. Where the path is `whole` ours, it may not be one itself.
#[must_use]
pub fn unfit_way(path: &Path, whole: bool, us: u32) -> Option<(PathBuf, Unfit)> {
    unfit_way_for(path, whole.then_some(OTHERS_MAY_WRITE), (&[0, us], None))
}

/// The same where one account more is trusted, but not with a name in a directory like `/tmp`: whoever
/// came first has made it. These bits of the mode are not allowed in the path itself, sticky or not;
/// without any it is looked at like any place on the way.
pub(crate) fn unfit_way_for(
    path: &Path,
    itself: Option<u32>,
    (ours, more): (&[u32], Option<u32>),
) -> Option<(PathBuf, Unfit)> {
    let trusted: Vec<u32> = ours.iter().copied().chain(more).collect();
    let named = std::path::absolute(path).ok()?;
    let mut rest = names(&named);
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    let root = at.symlink_metadata().ok()?;
    if let Some(unfit) = unfit(&root, itself.filter(|_| rest.is_empty()), &trusted) {
        return Some((at, unfit));
    }
    while let Some(name) = rest.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(name);
        let found = next.symlink_metadata().ok()?;
        if let Some(unfit) = unfit(&found, itself.filter(|_| rest.is_empty()), &trusted) {
            return Some((next, unfit));
        }
        let folder = at.symlink_metadata().ok()?.mode();
        if folder & OTHERS_MAY_WRITE != 0 && !ours.contains(&found.uid()) {
            return Some((at, Unfit::Open(folder & 0o7777)));
        }
        if !found.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        let to = fs::read_link(&next).ok().filter(|_| links <= LINKS)?;
        if to.is_absolute() {
            at = PathBuf::from("/");
        }
        rest.extend(names(&to));
    }
    None
}

/// The names in a path, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}

/// What speaks against a place of this owner and mode that is to be ours, where `us` and root may change
/// it.
#[must_use]
pub fn unfit_place(owner: u32, mode: u32, us: u32) -> Option<Unfit> {
    judged((owner, mode), OTHERS_MAY_WRITE, &[0, us])
}

/// What speaks against one place on a way.
fn unfit(found: &Metadata, itself: Option<u32>, trusted: &[u32]) -> Option<Unfit> {
    let sticky = found.is_dir() && found.mode() & 0o1000 != 0;
    let bits = itself.unwrap_or(if sticky { 0 } else { OTHERS_MAY_WRITE });
    let bits = if found.is_symlink() { 0 } else { bits };
    judged((found.uid(), found.mode()), bits, trusted)
}

/// The same; these bits of the mode are not allowed.
fn judged((owner, mode): (u32, u32), bits: u32, trusted: &[u32]) -> Option<Unfit> {
    if !trusted.contains(&owner) {
        return Some(Unfit::Foreign(owner));
    }
    (mode & bits != 0).then_some(Unfit::Open(mode & 0o7777))
}

/// Whether a program may be run: no account but ours and root can change it, or put another one in its
/// place. One that is not there is nobody's.
///
/// # Errors
/// [`EngineError::Changeable`].
pub(crate) fn runs(program: &Path) -> Result<(), EngineError> {
    let Some(program) = found(program) else { return Ok(()) };
    believed_by(&program, geteuid().as_raw())?;
    // Who can change the program that interprets a script runs what he likes.
    for by in interpreters(&program) {
        if let Err(EngineError::Changeable { why, .. }) = believed_by(&by, geteuid().as_raw()) {
            let why = format!("{} interprets it, and {why}", by.display());
            return Err(EngineError::Changeable { path: program, why });
        }
    }
    Ok(())
}

/// The programs that interpret a script, each by what its own first line names, as far as the kernel follows.
pub(super) fn interpreters(script: &Path) -> Vec<PathBuf> {
    std::iter::successors(interpreter(script), |by| interpreter(by)).take(INTERPRETERS).collect()
}

/// The program that the first line of a script names (`#!`), as the kernel reads it.
fn interpreter(script: &Path) -> Option<PathBuf> {
    let mut begin = [0; FIRST_LINE];
    let n = open_at_once(script).ok()?.read(&mut begin).ok()?;
    let line = begin[..n].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t' | 0)).filter(|w| !w.is_empty());
    words.next().map(|word| PathBuf::from(OsStr::from_bytes(word)))
}

/// A program as it is found: where it is named, or by the search path.
fn found(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return Some(program.to_owned());
    }
    let path = search_path();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Whether a file may be believed, as a program may be run; root takes the word of the account whose file
/// it is.
///
/// # Errors
/// [`EngineError::Changeable`].
pub(crate) fn believed(file: &Path) -> Result<(), EngineError> {
    let us = geteuid().as_raw();
    let author = if us == 0 { file.metadata().map_or(0, |found| found.uid()) } else { us };
    believed_by(file, author)
}

fn believed_by(path: &Path, author: u32) -> Result<(), EngineError> {
    match unfit_way(path, true, author) {
        None => Ok(()),
        Some((place, unfit)) => {
            let why = format!("{} {unfit}", place.display());
            Err(EngineError::Changeable { path: path.to_owned(), why })
        }
    }
}

/// The name of an account, if the system knows it.
pub(crate) fn name_of(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

/// An account as people know it.
#[must_use]
pub fn account(uid: u32) -> String {
    name_of(uid).unwrap_or_else(|| format!("account {uid}"))
}

/// The directory for what is made for a while: everything of ours that is made there is made in this
/// one, in which no other account can rename or replace it.
///
/// # Errors
/// [`EngineError::NotPrivate`].
pub fn temporary() -> Result<PathBuf, EngineError> {
    private_place(&std::env::temp_dir())
}

fn private_place(place: &Path) -> Result<PathBuf, EngineError> {
    match unfit_way(place, false, geteuid().as_raw()) {
        None => Ok(place.to_owned()),
        Some((at, unfit)) => {
            let why = format!("{} {unfit}", at.display());
            Err(EngineError::NotPrivate { place: place.to_owned(), why })
        }
    }
}

/// The longest path of a socket, without the zero at its end (`sun_path`).
const LONGEST_SOCKET: usize = 107;

/// The same directory, for one of ours in which sockets are made: `longest` is what follows it in the
/// path of such a socket. The client tools take a comma for the end of a path: `by_tools` says whether
/// they come by it.
///
/// # Errors
/// [`EngineError::NotPrivate`]; [`EngineError::Temporary`].
pub(crate) fn temporary_for_sockets(
    longest: usize,
    by_tools: bool,
) -> Result<PathBuf, EngineError> {
    fit_for_sockets(temporary()?, longest, by_tools)
}

fn fit_for_sockets(place: PathBuf, more: usize, by_tools: bool) -> Result<PathBuf, EngineError> {
    let bytes = std::path::absolute(&place).unwrap_or(place.clone());
    let length = bytes.as_os_str().as_bytes().len() + more;
    let why = if length > LONGEST_SOCKET {
        format!(
            "a socket in it would have a path of {length} bytes, and at most {LONGEST_SOCKET} are \
             possible"
        )
    } else if by_tools && bytes.as_os_str().as_bytes().contains(&b',') {
        "its name has a comma, which the client tools take for the end of it".to_owned()
    } else {
        return Ok(place);
    };
    Err(EngineError::Temporary { place, why })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn us() -> u32 {
        geteuid().as_raw()
    }

    fn made(at: &Path, mode: u32) -> PathBuf {
        fs::create_dir_all(at).unwrap();
        fs::set_permissions(at, Permissions::from_mode(mode)).unwrap();
        at.to_owned()
    }

    #[test]
    fn each_place_on_the_way_is_ours_or_roots_links_included() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (open, sticky) = (made(&at("open"), 0o777), made(&at("sticky"), 0o1777));
        made(&at("group"), 0o770);
        made(&at("ours"), 0o700);
        made(&open.join("below"), 0o700);
        // One that leads over the open one to a place of ours.
        symlink("../ours", open.join("back")).unwrap();
        symlink("open/back", at("round")).unwrap();
        symlink("../ours", sticky.join("link")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let first = |name: &str, whole: bool| {
            unfit_way(&at(name), whole, us()).map(|(place, unfit)| {
                (place.strip_prefix(folder.path()).unwrap().display().to_string(), unfit)
            })
        };
        let is_open = |name: &str, mode: u32| Some((name.to_owned(), Unfit::Open(mode)));
        for whole in [true, false] {
            assert_eq!(first("ours", whole), None);
            assert_eq!(first("ours/new/deeper", whole), None);
            assert_eq!(first("open", whole), is_open("open", 0o777));
            assert_eq!(first("open/below", whole), is_open("open", 0o777));
            assert_eq!(first("open/../ours", whole), is_open("open", 0o777));
            assert_eq!(first("round", whole), is_open("open", 0o777), "as it is named");
            assert_eq!(first("group/new", whole), is_open("group", 0o770));
            assert_eq!(first("sticky/new", whole), None, "names of ours are ours");
            assert_eq!(first("sticky/link", whole), None);
            assert_eq!(first("loop", whole), None, "nothing is made there");
        }
        assert_eq!(first("sticky", true), is_open("sticky", 0o1777));
        assert_eq!(first("sticky", false), None);
        // All of it is another account's, as root sees it.
        let other = unfit_way(folder.path(), true, 4_000_000_000);
        let foreign = Some((folder.path().to_owned(), Unfit::Foreign(us())));
        assert_eq!(other, foreign.filter(|_| us() != 0));
    }

    #[test]
    fn a_foreign_name_in_a_place_of_everybody_is_whoever_came_firsts() {
        let folder = tempfile::tempdir().unwrap();
        let sticky = made(&folder.path().join("sticky"), 0o1777);
        let own = made(&sticky.join("own"), 0o755);
        // As another account sees it, to whom this one is that of a server.
        let seen = |path: &Path, ours: &[u32]| unfit_way_for(path, None, (ours, Some(us())));
        assert_eq!(seen(&own, &[0, us()]), None, "what is ours");
        if us() != 0 {
            return;
        }
        let other = 4_000_000_001;
        std::os::unix::fs::chown(&own, Some(other), None).unwrap();
        let seen = |path: &Path| unfit_way_for(path, None, (&[0], Some(other)));
        assert_eq!(seen(&own), Some((sticky, Unfit::Open(0o1777))));
        let kept = made(&folder.path().join("kept"), 0o755);
        let below = made(&kept.join("own"), 0o755);
        std::os::unix::fs::chown(&below, Some(other), None).unwrap();
        assert_eq!(seen(&below), None, "root has made it, or let them");
    }

    #[test]
    fn what_others_can_change_is_neither_run_nor_believed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tool");
        fs::write(&file, "#!/bin/sh\n").unwrap();
        type Look = fn(&Path) -> Result<(), EngineError>;
        let looks: [Look; 2] = [runs, believed];
        for (mode, right) in [(0o755, true), (0o775, false), (0o757, false)] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            for look in looks {
                let code = look(&file).map_err(|error| error.code());
                assert_eq!(code, if right { Ok(()) } else { Err("not_private") }, "{mode:o}");
            }
        }
        for look in looks {
            assert!(look(Path::new("/bin/sh")).is_ok());
            assert!(look(&folder.path().join("absent")).is_ok());
        }
    }

    #[test]
    fn nothing_is_made_for_a_while_where_others_can_replace_it() {
        let folder = tempfile::tempdir().unwrap();
        let open = made(&folder.path().join("open"), 0o777);
        for place in [open.clone(), made(&open.join("below"), 0o700)] {
            let error = private_place(&place).unwrap_err();
            assert_eq!(error.code(), "not_private");
            assert!(error.to_string().contains("may be changed by other accounts"), "{error}");
            assert!(error.hint().unwrap_or_default().contains("TMPDIR"), "{error:?}");
        }
        let sticky = made(&folder.path().join("sticky"), 0o1777);
        assert_eq!(private_place(&sticky).unwrap(), sticky);
    }

    #[test]
    fn a_place_for_sockets_has_a_short_name_that_tools_can_read() {
        let fits = |name: &str, by_tools| {
            fit_for_sockets(PathBuf::from(name), 36, by_tools).map_err(|error| error.code())
        };
        let long = |length: usize| format!("/{}", "x".repeat(length - 1));
        assert!(fits(&long(71), true).is_ok());
        assert_eq!(fits(&long(72), false), Err("temporary_directory"));
        assert!(fits("/tmp/a,b", false).is_ok());
        assert_eq!(fits("/tmp/a,b", true), Err("temporary_directory"));
    }

    #[test]
    fn accounts_are_told_by_name() {
        assert_eq!(account(0), "root");
        assert_eq!(account(4_000_000_000), "account 4000000000");
    }
}
