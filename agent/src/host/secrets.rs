use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use drctl_policies::SecretRef;

use super::{AgentError, private, read_within, waited};

/// The most bytes of a secret.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// How long a pipe may take that the configuration names.
const CONFIGURED: Duration = Duration::from_secs(10);

/// The same of one that somebody names who waits for it.
const NAMED: Duration = Duration::from_secs(600);

/// Whether this process has read an identity: it can open backups with it.
static IDENTITY_READ: AtomicBool = AtomicBool::new(false);

/// Notes that an identity was read, if one was.
pub(super) fn note_identity(read: bool) {
    IDENTITY_READ.fetch_or(read, Ordering::Relaxed);
}

/// Whether an identity was read in this process.
pub(crate) fn identity_was_read() -> bool {
    IDENTITY_READ.load(Ordering::Relaxed)
}

/// Reads a secret from where the configuration says it is; a newline at its end is not part of it.
///
/// # Errors
/// [`AgentError::Secret`], which names the place and never the content; [`AgentError::Changeable`] for
/// a file that other accounts can change.
pub fn read_secret(what: &str, reference: &SecretRef) -> Result<String> {
    read(what, reference, CONFIGURED)
}

/// The same of a file, or a pipe, that somebody names who may have to type a passphrase for it.
///
/// # Errors
/// As [`read_secret`].
pub(crate) fn read_named(what: &str, path: &Path) -> Result<String> {
    read(what, &SecretRef::File(path.to_owned()), NAMED)
}

fn read(what: &str, reference: &SecretRef, patience: Duration) -> Result<String> {
    if let SecretRef::File(path) = reference {
        private::believed(path, private::author(path))?;
    }
    let (from, found) = match reference {
        SecretRef::File(path) => (path.display().to_string(), read_file(path, patience)),
        SecretRef::Env(name) => {
            let found = std::env::var(name).map_err(|_| "it is not set".to_owned());
            (format!("the environment's {name}"), found)
        }
        SecretRef::Credential(name) => {
            let found = match std::env::var_os("CREDENTIALS_DIRECTORY") {
                Some(directory) => read_file(&Path::new(&directory).join(name), patience),
                None => Err("this process was given no systemd credentials".to_owned()),
            };
            (format!("the systemd credential {name}"), found)
        }
    };
    let fail = |why| AgentError::Secret { what: what.to_owned(), from: from.clone(), why };
    let text = found.map_err(fail)?;
    let text = text.strip_suffix('\n').unwrap_or(&text).to_owned();
    if text.is_empty() {
        return Err(fail("it is empty".to_owned()).into());
    }
    Ok(text)
}

fn read_file(path: &Path, patience: Duration) -> Result<String, String> {
    let read = waited(|| read_within(path, MAX_SECRET_BYTES, patience));
    let read = read.map_err(|error| error.to_string())?;
    String::from_utf8(read).map_err(|_| "it is not UTF-8".to_owned())
}

/// Reads a secret where one is configured.
///
/// # Errors
/// As [`read_secret`].
pub fn read_optional(what: &str, reference: Option<&SecretRef>) -> Result<Option<String>> {
    reference.map(|reference| read_secret(what, reference)).transpose()
}
