//! What is known of the clones of this host: a file in the directory of each, and one that says when it ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_model::{BackupId, DrillId, SourceId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::drill::scratch_dir::{CLONE, id_of, is_in_use};
use crate::host::AgentError;

/// What is known of one.
const STATE: &str = "clone.json";

/// When it ends: whoever writes another moment lets it live longer, or ends it.
const ENDS: &str = "ends";

/// How long one that is ended may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// A clone that can be used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CloneState {
    /// What it is called.
    pub clone: DrillId,
    /// Whose it is.
    pub source: SourceId,
    /// Of which backup.
    pub backup: BackupId,
    /// What of it is shown, in words.
    pub target: String,
    /// Since when it can be used.
    pub made: Timestamp,
    /// Whether statements have masked it.
    pub masked: bool,
    /// The directory of its socket, which this account alone reaches.
    pub socket: PathBuf,
    /// The port in the socket's name.
    pub port: u16,
    /// A role that it lets this account in as.
    pub user: String,
    /// Its databases.
    pub databases: Vec<String>,
    /// What is worth knowing of how it was made.
    pub notes: Vec<String>,
    /// How others reach it.
    pub exposed: Option<Exposed>,
}

/// How others than its account reach a clone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exposed {
    /// Where: a directory of a socket, or an address and port.
    pub at: String,
    /// The password of its role.
    pub password: String,
}

/// Keeps what is known of one in its directory.
pub(super) fn write(directory: &Path, state: &CloneState) -> Result<()> {
    let bytes = serde_json::to_vec(state).context("write down the clone")?;
    put(directory, STATE, &bytes)
}

/// Says when it ends.
pub(super) fn set_end(directory: &Path, end: Timestamp) -> Result<()> {
    put(directory, ENDS, end.to_string().as_bytes())
}

/// When it ends; nothing where that was taken back: at once.
pub(super) fn end(directory: &Path) -> Result<Option<Timestamp>> {
    let path = directory.join(ENDS);
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => {
            let text = text.with_context(|| format!("read {}", path.display()))?;
            let end = text.trim().parse();
            end.map(Some).with_context(|| format!("{} holds no time", path.display()))
        }
    }
}

fn put(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = directory.join(name);
    let failed = || format!("write {}", path.display());
    let mut part = tempfile::NamedTempFile::new_in(directory).with_context(failed)?;
    io::Write::write_all(&mut part, bytes).with_context(failed)?;
    part.persist(&path).map(drop).with_context(failed)
}

/// The clones below a root that somebody keeps, with their ends, by their age; those that are being made are not among
/// them.
///
/// # Errors
/// [`std::io::Error`]: the file system's.
pub fn list(root: &Path) -> Result<Vec<(CloneState, Timestamp)>> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("read {}", root.display()))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.context("look for clones")?.file_name();
        let is_clone =
            name.to_str().is_some_and(|name| name.starts_with(CLONE) && id_of(name).is_some());
        let directory = root.join(&name);
        if is_clone && is_in_use(&directory) {
            let read = fs::read(directory.join(STATE)).ok();
            let state = read.and_then(|bytes| serde_json::from_slice::<CloneState>(&bytes).ok());
            found.extend(state.zip(end(&directory)?));
        }
    }
    found.sort_by(|(one, _), (other, _)| one.clone.cmp(&other.clone));
    Ok(found)
}

/// The clone that is meant by its identifier, or the beginning of exactly one.
///
/// # Errors
/// [`AgentError::Usage`] where there is none, or several.
pub fn find(root: &Path, wanted: &str) -> Result<(CloneState, Timestamp)> {
    if wanted.is_empty() {
        let text = "name the clone: `drctl clone list` lists them. Nothing was done";
        return Err(AgentError::Usage(text.to_owned()).into());
    }
    let mut all = list(root)?;
    all.retain(|(one, _)| one.clone.to_string().starts_with(wanted));
    match all.len() {
        1 => Ok(all.remove(0)),
        0 => Err(AgentError::Usage(format!(
            "there is no clone {wanted} below {}: `drctl clone list` lists them",
            root.display()
        ))
        .into()),
        many => Err(AgentError::Usage(format!("{many} clones begin with {wanted}")).into()),
    }
}

/// Lets one live until a moment.
///
/// # Errors
/// As [`find`]; the file system's.
pub fn extend(root: &Path, wanted: &str, end: Timestamp) -> Result<CloneState> {
    let (state, _) = find(root, wanted)?;
    set_end(&directory(root, &state), end)?;
    Ok(state)
}

/// Ends one, and waits until it is gone.
///
/// # Errors
/// As [`find`]; [`AgentError::Target`] where it does not go.
pub async fn destroy(root: &Path, wanted: &str) -> Result<CloneState> {
    let (state, _) = find(root, wanted)?;
    let directory = directory(root, &state);
    match fs::remove_file(directory.join(ENDS)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("end the clone in {}", directory.display()));
        }
        _ => {}
    }
    let deadline = Instant::now() + GONE_WITHIN;
    while directory.exists() {
        if Instant::now() >= deadline {
            let text = format!(
                "the clone was told to end, and {} is still there after {} seconds",
                directory.display(),
                GONE_WITHIN.as_secs()
            );
            return Err(AgentError::Target(text).into());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(state)
}

fn directory(root: &Path, state: &CloneState) -> PathBuf {
    root.join(format!("{CLONE}{}", state.clone))
}
