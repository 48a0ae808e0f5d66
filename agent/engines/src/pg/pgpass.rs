//! Passwords for the client tools: a private file, since arguments and environment are public.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tempfile::{Builder, NamedTempFile};

use crate::{EngineError, Secret};

const PREFIX: &str = "drctl-pgpass-";

/// What the names of spooled dumps begin with.
pub(super) const SPOOL_PREFIX: &str = "drctl-spool-";

/// A password file, removed when dropped.
///
/// It is locked as long as it lives: that is how [`sweep`] knows those that a killed process has
/// left behind.
#[derive(Debug)]
pub(crate) struct PgPass(NamedTempFile);

impl PgPass {
    /// Writes the file, readable by our own user only.
    pub(crate) fn write(runtime_dir: &Path, password: &Secret) -> Result<Self, EngineError> {
        let line = format!("*:*:*:*:{}\n", escape(password)?);
        let action = || format!("write a password file in {}", runtime_dir.display());
        loop {
            let mut file = Builder::new()
                .prefix(PREFIX)
                .tempfile_in(runtime_dir)
                .map_err(EngineError::io(action()))?;
            flock(file.as_file(), FlockOperation::LockExclusive)
                .map_err(|errno| EngineError::io(action())(errno.into()))?;
            // A sweep may have taken it between its creation and its lock.
            if !file.path().exists() {
                continue;
            }
            file.write_all(line.as_bytes()).map_err(EngineError::io(action()))?;
            return Ok(PgPass(file));
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// The password as it stands in a line of the file.
fn escape(password: &Secret) -> Result<String, EngineError> {
    let text = password.expose();
    if text.contains(['\n', '\r', '\0']) {
        let message = "the password holds a line break or a zero byte, which no client can send";
        return Err(EngineError::Config(message.to_owned()));
    }
    Ok(text.replace('\\', "\\\\").replace(':', "\\:"))
}

/// Removes the password files and spooled dumps that killed processes have left behind in a
/// directory; returns how many.
///
/// # Errors
/// [`EngineError::Io`] where the directory cannot be read or a file cannot be removed.
pub fn sweep(runtime_dir: &Path) -> Result<usize, EngineError> {
    let action = || format!("sweep {}", runtime_dir.display());
    let mut removed = 0;
    for entry in std::fs::read_dir(runtime_dir).map_err(EngineError::io(action()))? {
        let entry = entry.map_err(EngineError::io(action()))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with(PREFIX) && !name.starts_with(SPOOL_PREFIX) {
            continue;
        }
        // Another sweep may have been faster.
        let Ok(file) = File::open(entry.path()) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            std::fs::remove_file(entry.path()).map_err(EngineError::io(action()))?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn passwords_are_escaped() {
        let cases = [
            ("simple", Some("simple")),
            ("a:b", Some("a\\:b")),
            ("a\\b", Some("a\\\\b")),
            ("\\:", Some("\\\\\\:")),
            ("größe $'\"", Some("größe $'\"")),
            ("a\nb", None),
            ("a\rb", None),
            ("a\0b", None),
        ];
        for (password, line) in cases {
            let found = escape(&Secret::new(password));
            assert_eq!(found.as_deref().ok(), line, "{password:?}");
            if let Err(error) = found {
                assert!(!error.to_string().contains(password));
            }
        }
    }

    #[test]
    fn the_file_is_private_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let file = PgPass::write(dir.path(), &Secret::new("a:b")).unwrap();
        let path = file.path().to_owned();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "*:*:*:*:a\\:b\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_sweep_takes_only_what_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let alive = PgPass::write(dir.path(), &Secret::new("x")).unwrap();
        std::fs::write(dir.path().join("drctl-pgpass-old"), "x").unwrap();
        std::fs::write(dir.path().join("other"), "x").unwrap();
        assert_eq!(sweep(dir.path()).unwrap(), 1);
        assert!(alive.path().exists() && dir.path().join("other").exists());
        assert!(!dir.path().join("drctl-pgpass-old").exists());
    }
}
