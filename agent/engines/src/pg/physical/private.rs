//! The private directory of a recovering server: its socket, who may log in there, its settings.
//! Nobody but its account can look into it, whatever the umask is.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};
use tempfile::TempDir;

use crate::EngineError;

/// How it is named.
const PRIVATE: &str = "drctl-recovery-";

/// Only our own account is let in, by the kernel's word, as any role that is named in the map.
const RULES: &str = "local all all peer map=drctl\n";

/// Gone when dropped, unless it is [kept](Private::keep).
#[derive(Debug)]
pub(super) struct Private(TempDir);

impl Private {
    /// Makes it, with the rules of access for these roles, and a configuration.
    pub(super) fn make(roles: &[&str], configuration: &str) -> Result<Private, EngineError> {
        let mut builder = tempfile::Builder::new();
        let made = builder.prefix(PRIVATE).permissions(Permissions::from_mode(0o700)).tempdir();
        let private = Private(made.map_err(EngineError::io("make a private directory"))?);
        let account = account()?;
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        for (name, text) in [
            ("pg_hba.conf", RULES),
            ("pg_ident.conf", map(&account, roles).as_str()),
            // In a box there is nobody else.
            ("passwd", format!("{account}:x:{uid}:{gid}::/:/bin/false\n").as_str()),
            ("group", format!("{account}:x:{gid}:\n").as_str()),
            ("postgresql.conf", configuration),
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
        self.0.path()
    }

    /// A file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Leaves it there.
    pub(super) fn keep(self) -> PathBuf {
        self.0.keep()
    }
}

/// Whether a path is such a directory's.
pub(super) fn is_private(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PRIVATE))
}

/// Removes what a server that has ended left, as far as it is ours.
pub(super) fn forget(path: &Path) {
    if is_private(path) {
        let _ = fs::remove_dir_all(path);
    }
}

/// The name of our account, as the server will look it up.
fn account() -> Result<String, EngineError> {
    let mut id = std::process::Command::new("/usr/bin/id");
    let output = id.arg("-un").env_clear().output().map_err(EngineError::io("run `id`"))?;
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
    fn names_stay_in_their_line() {
        let text = map("it's", &["a b", "say \"x\"", "x\nall all all", "/.*"]);
        assert_eq!(text, "drctl \"it's\" \"a b\"\ndrctl \"it's\" \"say \"\"x\"\"\"\n");
    }
}
