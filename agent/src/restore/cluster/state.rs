//! A recovery's directory, and how far it has come: what a later process needs to go on.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use drctl_engines::Below;
use drctl_engines::pg::physical::Undecided;
use drctl_model::{BackupId, Lsn, StreamId, shown};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Overtaken;
use crate::host::locks::{Taken, take_file};
use crate::host::{AgentError, private};

/// The file that tells how far it has come.
const STATE: &str = "recovery.json";

/// The most bytes of it: a name for each tablespace.
const STATE_BYTES: u64 = 4 << 20;

/// The version of the file.
const VERSION: u32 = 1;

/// How far a recovery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Files are extracted; those of streams that are not named as extracted may be half there.
    Extracting,
    /// All of them are there, and its server was started.
    Replaying,
    /// It stood at its target, proven.
    Proven,
    /// It was told to become a cluster of its own.
    Promoting,
    /// It is one.
    Promoted,
    /// It has taken the place of the source's server.
    TookOver,
}

/// What was proven of a recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// How far the WAL was replayed.
    pub replayed: Lsn,
    /// The time of the last commit that the data show, where the WAL told one.
    pub shows: Option<Timestamp>,
    /// The server's own line about where it stopped.
    pub stopped: Option<String>,
    /// Commits of the time or earlier that are not in it, of a recovery to a time.
    #[serde(default)]
    pub overtaken: Option<Overtaken>,
}

/// A cluster that was made one of its own only to be read: locks of transactions that had not
/// ended at the target stood before its tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// How many tables were locked.
    pub locks: u64,
    /// The next transaction's number when it had opened: who writes takes one.
    pub next_xid: Option<u64>,
}

/// What binds a directory to one recovery and no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The source.
    pub source: String,
    /// The plan's digest.
    pub plan: String,
    /// The base backup that is extracted.
    pub base: BackupId,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    v: u32,
    #[serde(flatten)]
    of: Identity,
    step: Step,
    extracted: Vec<StreamId>,
    proof: Option<Proof>,
    #[serde(default)]
    released: Option<Released>,
    /// What was prepared and not decided in it when it opened.
    #[serde(default)]
    prepared: Option<Vec<Undecided>>,
}

/// A recovery that was begun in a directory, which is ours alone while this lives.
#[derive(Debug)]
pub struct RecoveryState {
    directory: PathBuf,
    state: State,
    _lock: File,
}

impl RecoveryState {
    /// Begins a recovery in a directory that is new or empty.
    ///
    /// # Errors
    /// [`AgentError::Target`] for one that holds something; the file system's.
    pub fn begin(directory: &Path, of: Identity) -> Result<Self> {
        private::make_target(directory)?;
        let lock = lock(directory)?;
        if is_begun(directory) {
            return Err(AgentError::Target(waits(directory)).into());
        }
        let state = State {
            v: VERSION,
            of,
            step: Step::Extracting,
            extracted: Vec::new(),
            proof: None,
            released: None,
            prepared: None,
        };
        let recovery_state = RecoveryState { directory: directory.to_owned(), state, _lock: lock };
        recovery_state.write()?;
        Ok(recovery_state)
    }

    /// Goes on with the recovery that was begun in a directory.
    ///
    /// # Errors
    /// [`AgentError::Target`] for a directory that holds none, or another one, or one that another
    /// process works on.
    pub fn resume(directory: &Path, of: &Identity) -> Result<Self> {
        let none = || {
            let text = format!(
                "there is no recovery in {} to resume: leave out --resume, and name a new \
                 directory",
                directory.display()
            );
            AgentError::Target(text)
        };
        if !is_begun(directory) {
            return Err(none().into());
        }
        // Read under the lock: whoever holds it may still be writing how far it has come.
        let lock = lock(directory)?;
        let state = read(directory)?.ok_or_else(none)?;
        if state.of != *of {
            let text = format!(
                "{} holds another recovery: of source {}, plan {}, base backup {}; what was asked \
                 for is source {}, plan {}, base backup {}. Nothing was done",
                directory.display(),
                shown(&state.of.source, 60),
                shown(&state.of.plan, 60),
                state.of.base,
                of.source,
                of.plan,
                of.base
            );
            return Err(AgentError::Target(text).into());
        }
        Ok(RecoveryState { directory: directory.to_owned(), state, _lock: lock })
    }

    /// The recovery that was begun in a directory, whichever it is; nothing where none was.
    ///
    /// # Errors
    /// [`AgentError::Target`] where another process works on it.
    pub fn of(directory: &Path) -> Result<Option<Self>> {
        if !is_begun(directory) {
            return Ok(None);
        }
        let lock = lock(directory)?;
        let recovery_state = read(directory)?.map(|state| RecoveryState {
            directory: directory.to_owned(),
            state,
            _lock: lock,
        });
        Ok(recovery_state)
    }

    /// What is recovered there.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.state.of
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How far it has come.
    #[must_use]
    pub fn step(&self) -> Step {
        self.state.step
    }

    /// What was proven of it.
    #[must_use]
    pub fn proof(&self) -> Option<&Proof> {
        self.state.proof.as_ref()
    }

    /// Whether all files of a stream are there, on the disk.
    #[must_use]
    pub fn has(&self, stream: &StreamId) -> bool {
        self.state.extracted.contains(stream)
    }

    /// Notes that all files of a stream are there.
    ///
    /// # Errors
    /// [`std::io::Error`] where the directory cannot be written.
    pub fn extracted(&mut self, stream: &StreamId) -> Result<()> {
        self.state.extracted.push(stream.clone());
        self.write()
    }

    /// Notes that no stream is there as a whole.
    ///
    /// # Errors
    /// [`std::io::Error`] where the directory cannot be written.
    pub fn forget(&mut self) -> Result<()> {
        self.state.extracted.clear();
        self.write()
    }

    /// Notes how far it has come.
    ///
    /// # Errors
    /// [`std::io::Error`] where the directory cannot be written.
    pub fn reach(&mut self, step: Step) -> Result<()> {
        self.state.step = step;
        self.write()
    }

    /// Notes what was proven.
    ///
    /// # Errors
    /// [`std::io::Error`] where the directory cannot be written.
    pub fn prove(&mut self, proof: Proof) -> Result<()> {
        self.state.proof = Some(proof);
        self.state.released = None;
        self.reach(Step::Proven)
    }

    /// What is known of it where it was made a cluster of its own only to be read.
    #[must_use]
    pub fn released(&self) -> Option<&Released> {
        self.state.released.as_ref()
    }

    /// Notes that it is made a cluster of its own only to be read; or that it is its owner's.
    ///
    /// # Errors
    /// [`std::io::Error`] where the directory cannot be written.
    pub fn release(&mut self, released: Option<Released>) -> Result<()> {
        self.state.released = released;
        self.write()
    }

    /// What was prepared and not decided in it when it opened; nothing where it has not, or an earlier
    /// version opened it.
    #[must_use]
    pub fn prepared(&self) -> Option<&[Undecided]> {
        self.state.prepared.as_deref()
    }

    /// Notes what was prepared and not decided in it when it opened.
    ///
    /// # Errors
    /// [`std::io::Error`] where the directory cannot be written.
    pub fn opened_with(&mut self, prepared: Vec<Undecided>) -> Result<()> {
        self.state.prepared = Some(prepared);
        self.write()
    }

    /// Notes the next transaction of one that was made a cluster of its own only to be read.
    ///
    /// # Errors
    /// [`std::io::Error`] where the directory cannot be written.
    pub fn stands_at(&mut self, next_xid: u64) -> Result<()> {
        if let Some(released) = &mut self.state.released {
            released.next_xid = Some(next_xid);
        }
        self.write()
    }

    /// Notes what was proven once more, of a cluster that has been opened since; nothing takes its
    /// proof from it, for good.
    ///
    /// # Errors
    /// [`std::io::Error`] where the directory cannot be written.
    pub fn prove_again(&mut self, proof: Option<Proof>) -> Result<()> {
        self.state.proof = proof;
        self.write()
    }

    /// The old or the new, and on the disk.
    fn write(&self) -> Result<()> {
        let path = self.directory.join(STATE);
        let part = format!("{STATE}.part");
        let text = serde_json::to_vec_pretty(&self.state).context("note how far it has come")?;
        let below = Below::open(&self.directory);
        let written = below.and_then(|below| below.replace(&part, Path::new(STATE), &text));
        written.with_context(|| format!("write {}", path.display()))
    }
}

/// How far a recovery has come, and the streams that lie in its directory as a whole.
pub type Kept = (Step, Vec<StreamId>);

/// What there is in a directory, where a recovery was begun in it.
///
/// # Errors
/// As [`RecoveryState::resume`] for a file that is none.
pub fn kept(directory: &Path) -> Result<Option<Kept>> {
    Ok(read(directory)?.map(|state| (state.step, state.extracted)))
}

/// What to say where a recovery was begun, and nobody asked to go on with it.
#[must_use]
pub fn waits(directory: &Path) -> String {
    format!(
        "a recovery was begun in {}: continue it with the same command and --resume, or name a new \
         directory",
        directory.display()
    )
}

/// Whether a recovery was begun in a directory.
#[must_use]
pub fn is_begun(directory: &Path) -> bool {
    Below::open(directory).and_then(|below| below.has(Path::new(STATE))).unwrap_or_default()
}

fn read(directory: &Path) -> Result<Option<State>> {
    use std::io::Read as _;
    let path = directory.join(STATE);
    let opened = Below::open(directory).and_then(|below| below.read(Path::new(STATE)));
    let file = match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.with_context(|| format!("read {}", path.display()))?,
    };
    let mut text = Vec::new();
    let read = file.take(STATE_BYTES).read_to_end(&mut text);
    read.with_context(|| format!("read {}", path.display()))?;
    let state: Option<State> = serde_json::from_slice(&text).ok();
    let odd = || {
        let text = format!("drctl did not write {}: name a new directory", path.display());
        AgentError::Target(text)
    };
    Ok(Some(state.filter(|state| state.v == VERSION).ok_or_else(odd)?))
}

fn lock(directory: &Path) -> Result<File> {
    let path = directory.join("recovery.lock");
    let taken = take_file(&path);
    match taken.with_context(|| format!("take the lock {}", path.display()))? {
        Taken::Ours(file) => Ok(file),
        Taken::Held(_) => Err(AgentError::Target(format!(
            "another drctl works in {}: it runs without a terminal, see drctl.log there",
            directory.display()
        ))
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(plan: &str) -> Identity {
        let base = "20260301T000000Z-0000000000000001".parse().unwrap();
        Identity { source: "shop".to_owned(), plan: plan.to_owned(), base }
    }

    #[test]
    fn what_another_process_still_writes_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let resume = |plan| RecoveryState::resume(directory.path(), &identity(plan));
        assert!(resume("one").unwrap_err().to_string().contains("there is no recovery"));
        assert!(!directory.path().join("recovery.lock").exists(), "nothing was touched");
        let mut recovery_state = RecoveryState::begin(directory.path(), identity("one")).unwrap();
        // Neither half of a file nor another plan's is judged before whoever writes has ended.
        for plan in ["one", "two"] {
            let told = resume(plan).unwrap_err().to_string();
            assert!(told.contains("another drctl works in"), "{told}");
        }
        recovery_state.reach(Step::Replaying).unwrap();
        drop(recovery_state);
        assert_eq!(resume("one").unwrap().step(), Step::Replaying);
        assert!(resume("two").unwrap_err().to_string().contains("holds another recovery"));
    }

    #[test]
    fn a_proof_that_was_taken_back_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let mut recovery_state = RecoveryState::begin(directory.path(), identity("one")).unwrap();
        let proof = Proof { replayed: Lsn(5), shows: None, stopped: None, overtaken: None };
        recovery_state.prove(proof.clone()).unwrap();
        recovery_state.reach(Step::Promoting).unwrap();
        let later = Proof { replayed: Lsn(7), ..proof };
        recovery_state.prove_again(Some(later.clone())).unwrap();
        assert_eq!(recovery_state.proof(), Some(&later));
        recovery_state.prove_again(None).unwrap();
        drop(recovery_state);
        let recovery_state = RecoveryState::resume(directory.path(), &identity("one")).unwrap();
        assert_eq!((recovery_state.step(), recovery_state.proof()), (Step::Promoting, None));
    }
}
