//! Passwords for the client tools: a private file, since arguments and environment are public.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tempfile::{Builder, NamedTempFile};

use crate::common::{EngineError, Secret};

const PREFIX: &str = "drctl-pgpass-";

/// What the names of spooled dumps begin with.
pub(in crate::pg) const SPOOL_PREFIX: &str = "drctl-spool-";

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
        let mut file = locked(PREFIX, runtime_dir).map_err(EngineError::io(action()))?;
        file.write_all(line.as_bytes()).map_err(EngineError::io(action()))?;
        Ok(PgPass(file))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A file of ours alone that no [`sweep`] takes as long as it is held.
pub(in crate::pg) fn locked(prefix: &str, directory: &Path) -> io::Result<NamedTempFile> {
    locked_as(|| Builder::new().prefix(prefix).tempfile_in(directory))
}

fn locked_as(mut make: impl FnMut() -> io::Result<NamedTempFile>) -> io::Result<NamedTempFile> {
    loop {
        let file = make()?;
        flock(file.as_file(), FlockOperation::LockExclusive)?;
        // A sweep may have taken it between its creation and its lock.
        if file.path().exists() {
            return Ok(file);
        }
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
        // Another sweep may have been faster, here and below.
        let Ok(file) = File::open(entry.path()) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            match std::fs::remove_file(entry.path()) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(EngineError::io(action())(error)),
            }
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
    fn a_file_that_a_sweep_took_before_it_was_locked_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        for prefix in [PREFIX, SPOOL_PREFIX] {
            let mut swept = Vec::new();
            let file = locked_as(|| {
                let file = Builder::new().prefix(prefix).tempfile_in(dir.path())?;
                if swept.len() < 2 {
                    swept.push(sweep(dir.path()).unwrap());
                }
                Ok(file)
            });
            let file = file.unwrap();
            assert_eq!(swept, [1, 1], "{prefix}");
            assert!(file.path().exists(), "{prefix}");
            assert_eq!(sweep(dir.path()).unwrap(), 0, "{prefix}");
        }
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
