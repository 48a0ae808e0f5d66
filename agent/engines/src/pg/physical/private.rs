//! The private directory of a recovering server: its socket, who may log in there, its settings.
//! Nobody but its account can look into it, whatever the umask is.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{getegid, geteuid};
use tempfile::TempDir;

use super::guard::CONFIGURATION;
use super::orphan::server_of;
use crate::common::process::told;
use crate::common::{Below, EngineError, temporary, temporary_for_sockets};

/// How it is named.
const PRIVATE: &str = "drctl-recovery-";

/// How one is named in which a server's program finds a configuration and no cluster.
pub(super) const LIKENESS: &str = "drctl-settings-";

/// How one is named in which it finds the configuration that a cluster will have.
pub(super) const TAKE_OVER: &str = "drctl-take-over-";

/// How one is named in which the socket of a scratch server is reached.
pub(super) const SCRATCH: &str = "drctl-scratch-";

/// Only our own account is let in, by the kernel's word, as any role that is named in the map.
const RULES: &str = "local all all peer map=drctl\n";

/// The file that whoever has made it holds a lock on while it lives.
const OWNER: &str = "owner";

/// Gone when dropped, unless it is [kept](Private::keep).
#[derive(Debug)]
pub(super) struct Private {
    folder: TempDir,
    _owner: File,
}

impl Private {
    /// Makes it, with the rules of access for these roles, and a configuration.
    pub(super) fn make(roles: &[&str], configuration: &str) -> Result<Private, EngineError> {
        let (folder, owner) = folder(PRIVATE)?;
        let private = Private { folder, _owner: owner };
        let account = account()?;
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        for (name, text) in [
            ("pg_hba.conf", RULES),
            ("pg_ident.conf", map(&account, roles).as_str()),
            // In a sandbox there is nobody else.
            ("passwd", format!("{account}:x:{uid}:{gid}::/:/bin/false\n").as_str()),
            ("group", format!("{account}:x:{gid}:\n").as_str()),
            (CONFIGURATION, configuration),
        ] {
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600).open(private.file(name));
            let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
            written.map_err(EngineError::io("write the rules of access"))?;
        }
        Ok(private)
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Leaves it there.
    pub(super) fn keep(self) -> PathBuf {
        self.folder.keep()
    }
}

/// Whether such a directory can be made, in which other accounts replace nothing and sockets have
/// names; by `tools` too, which have their own way to read these.
///
/// # Errors
/// [`EngineError::NotPrivate`], [`EngineError::Temporary`].
pub fn room_for_sockets(tools: bool) -> Result<(), EngineError> {
    // Six letters that nobody else has, and the longest name in it.
    temporary_for_sockets(format!("/{PRIVATE}XXXXXX/.s.PGSQL.5432").len(), tools).map(drop)
}

/// Whether a path is such a directory's.
pub(super) fn is_private(path: &Path) -> bool {
    is_named(path, PRIVATE)
}

fn is_named(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

/// Removes what a server that has ended left, as far as it is ours.
pub(super) fn forget(path: &Path) {
    if is_private(path) {
        let _ = fs::remove_dir_all(path);
    }
}

/// A new directory in the place for such, and the file that tells that we live. What a killed drctl has
/// left there goes.
pub(super) fn folder(prefix: &str) -> Result<(TempDir, File), EngineError> {
    let place = temporary()?;
    sweep(&place);
    begin(&place, prefix).map_err(EngineError::io("make a private directory"))
}

fn begin(place: &Path, prefix: &str) -> io::Result<(TempDir, File)> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).permissions(Permissions::from_mode(0o700));
    loop {
        let folder = builder.tempdir_in(place)?;
        let owner = owner(folder.path())?;
        if own(folder.path(), &owner)? {
            return Ok((folder, owner));
        }
    }
}

/// Makes the file that tells that we live, as soon as it is [owned](own).
fn owner(folder: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(OWNER))
}

/// Tells that we live; not where a sweep has taken the directory before.
fn own(folder: &Path, owner: &File) -> io::Result<bool> {
    flock(owner, FlockOperation::LockExclusive)?;
    Ok(folder.join(OWNER).exists())
}

/// Removes private directories that a killed drctl has left behind, with whatever a server in them
/// has made. Stays: what is of another account, what a living drctl or server uses, and what is no
/// directory of ours. No link is followed.
fn sweep(place: &Path) {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let is_ours = |path: &PathBuf| {
        [PRIVATE, LIKENESS, TAKE_OVER, SCRATCH].iter().any(|one| is_named(path, one))
    };
    for path in entries.map(|entry| entry.path()).filter(is_ours) {
        remove_if_left(&path);
    }
}

/// The same of one that was noted, wherever it lies.
pub(super) fn sweep_one(path: &Path) {
    if is_private(path) {
        remove_if_left(path);
    }
}

fn remove_if_left(path: &Path) {
    // Locked until it is gone: whoever is about to own it waits, and then finds out.
    if let Some(_owner) = left_behind(path) {
        let _ = fs::remove_dir_all(path);
    }
}

/// The lock of a directory that nobody owns.
fn left_behind(path: &Path) -> Option<File> {
    let ours = fs::symlink_metadata(path)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == geteuid().as_raw());
    if !ours || server_of(path).is_some() {
        return None;
    }
    // One that has not been made in full yet has no owner: it is let alone.
    let owner = Below::open(path).and_then(|folder| folder.read(Path::new(OWNER))).ok()?;
    flock(&owner, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(owner)
}

/// The name of our account, as the server will look it up.
fn account() -> Result<String, EngineError> {
    let mut id = std::process::Command::new("/usr/bin/id");
    let output = told(id.arg("-un").env_clear()).map_err(EngineError::io("run `id`"))?;
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.success() && !name.is_empty() {
        true => Ok(name),
        false => Err(EngineError::Config(
            "this account has no name (`id -un`): the restored server could not tell who logs in"
                .to_owned(),
        )),
    }
}

/// `pg_ident.conf`: this account may be each of these roles.
fn map(account: &str, roles: &[&str]) -> String {
    // A line ends a rule, and what begins with a slash is a pattern (from 16 on): no role that could
    // be asked for has such a name.
    let plain = |name: &&&str| !name.contains(['\n', '\r', '\0']) && !name.starts_with('/');
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let line = |role: &&str| format!("drctl {} {}\n", quoted(account), quoted(role));
    roles.iter().filter(plain).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_can_look_into_it() {
        let private = Private::make(&["postgres"], "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(private.path()), 0o700);
        assert_eq!(mode(&private.file("pg_hba.conf")), 0o600);
        let path = private.keep();
        forget(&path);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_drctl_has_left_is_removed_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = place.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (dead, lives) = (make("drctl-recovery-dead"), make("drctl-recovery-lives"));
        let (begun, other) = (make("drctl-recovery-begun"), make("another"));
        let (asked, asks) = (make("drctl-settings-dead"), make("drctl-settings-lives"));
        drop((owner(&dead).unwrap(), owner(&asked).unwrap()));
        let asking = owner(&asks).unwrap();
        assert!(own(&asks, &asking).unwrap());
        let alive = owner(&lives).unwrap();
        assert!(own(&lives, &alive).unwrap());
        drop(owner(&other).unwrap());
        std::os::unix::fs::symlink(&other, dead.join("link")).unwrap();
        std::os::unix::fs::symlink(&other, place.path().join("drctl-recovery-link")).unwrap();
        sweep(place.path());
        assert!(!dead.exists() && !asked.exists());
        assert!(asks.exists() && lives.exists() && begun.exists() && other.join(OWNER).exists());
        sweep_one(&other);
        assert!(other.exists());
    }

    #[test]
    fn a_directory_that_a_sweep_took_before_it_was_owned_is_not_ours() {
        let place = tempfile::tempdir().unwrap();
        let begun = place.path().join("drctl-recovery-begun");
        fs::create_dir(&begun).unwrap();
        let ours = owner(&begun).unwrap();
        // The sweep has it for as long as it removes it.
        let swept = left_behind(&begun).unwrap();
        assert!(flock(&ours, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(swept);
        sweep(place.path());
        assert!(!begun.exists() && !own(&begun, &ours).unwrap());
    }

    #[test]
    fn names_stay_in_their_line() {
        let text = map("it's", &["a b", "say \"x\"", "x\nall all all", "/.*"]);
        assert_eq!(text, "drctl \"it's\" \"a b\"\ndrctl \"it's\" \"say \"\"x\"\"\"\n");
    }
}
