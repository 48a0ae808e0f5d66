use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use drctl_engines::Below;
use drctl_engines::open_file;
use drctl_model::SourceId;
use drctl_policies::Paths;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::AgentError;

/// A file that is a lock.
pub(crate) enum Taken {
    /// Ours, for as long as the file is open.
    Ours(File),
    /// Another process has it.
    Held(File),
}

/// Takes the lock that a file is, which is made where it is not there; never waits. The kernel lets
/// go of it when its process ends, however it ends; the file itself means nothing.
///
/// # Errors
/// The file system's, also of one that knows no locks.
pub(crate) fn take_file(path: &Path) -> io::Result<Taken> {
    // No link is followed: what it leads to would be a lock, and then be overwritten.
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let file = Below::open(folder)?.keep(Path::new(name))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Taken::Ours(file)),
        Err(Errno::WOULDBLOCK) => Ok(Taken::Held(file)),
        Err(error) => Err(error.into()),
    }
}

/// Whether another process has the lock of a source, in either of the two places where it may be; nothing where
/// that cannot be seen.
pub(crate) fn is_held(paths: &Paths, source: &SourceId) -> Option<bool> {
    let lock = |directory: &Path| is_locked(&place(directory, source));
    match (lock(&paths.state_dir), lock(&paths.runtime_dir)) {
        (_, Some(true)) => Some(true),
        (in_state, _) => in_state,
    }
}

fn place(directory: &Path, source: &SourceId) -> PathBuf {
    directory.join(format!("{source}.lock"))
}

/// Whether somebody has the lock that a file is; nothing where that cannot be seen.
pub(crate) fn is_locked(path: &Path) -> Option<bool> {
    match share_file(path) {
        Ok(shared) => Some(shared.is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

/// The lock that a file is, shared with all who look as we do; none while somebody has it alone.
///
/// # Errors
/// The file system's, also where there is no such file.
pub(crate) fn share_file(path: &Path) -> io::Result<Option<File>> {
    let file = open_file(path)?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How often a lock is tried that another process has, and how long in between: `status` has it for
/// a moment while it looks.
const TRIES: (u32, Duration) = (5, Duration::from_millis(20));

/// Takes the lock that a file is which is open; waits up to `patience` for others, each of which has it for a
/// moment.
///
/// # Errors
/// [`ErrorKind::TimedOut`]; the file system's.
pub(crate) fn wait_for(file: &File, patience: Duration) -> io::Result<()> {
    let until = Instant::now() + patience;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(AGAIN),
            Err(Errno::WOULDBLOCK) => return Err(ErrorKind::TimedOut.into()),
            taken => return Ok(taken?),
        }
    }
}

/// How soon such a lock is tried again.
const AGAIN: Duration = Duration::from_millis(2);

/// Takes the lock that a file is, and notes this process in it; else tells what is known of the process that
/// has it. Waits for no more than a moment.
///
/// # Errors
/// The file system's.
pub(crate) fn claim(path: &Path) -> Result<Result<File, String>> {
    let mut taken = take_file(path);
    for _ in 1..TRIES.0 {
        let Ok(Taken::Held(_)) = taken else { break };
        std::thread::sleep(TRIES.1);
        taken = take_file(path);
    }
    let mut file = match taken.with_context(|| format!("take the lock {}", path.display()))? {
        Taken::Ours(file) => file,
        Taken::Held(file) => return Ok(Err(holder(file))),
    };
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "process {}", std::process::id())?;
    Ok(Ok(file))
}

/// What is known of the process that has a lock.
fn holder(file: File) -> String {
    let mut holder = String::new();
    let _ = file.take(200).read_to_string(&mut holder);
    holder.trim().to_owned()
}

/// A source is worked on by one process of a host at a time.
#[derive(Debug)]
pub struct SourceLock(#[allow(dead_code, reason = "held, never read")] File);

impl SourceLock {
    /// Takes the lock or says who has it; waits for no more than a moment.
    ///
    /// # Errors
    /// [`AgentError::Busy`]; the file system's.
    pub fn take(directory: &Path, source: &SourceId) -> Result<Self> {
        let held = |holder| AgentError::Busy { source_name: source.clone(), holder };
        Ok(SourceLock(claim(&place(directory, source))?.map_err(held)?))
    }

    /// The same, unless somebody has it in the other place. Whoever takes it looks there afterwards, so that
    /// one of two sees the other.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(crate) fn take_alone(directory: &Path, other: &Path, source: &SourceId) -> Result<Self> {
        let lock = SourceLock::take(directory, source)?;
        let path = place(other, source);
        let inode = |path: &Path| path.metadata().map(|found| (found.dev(), found.ino())).ok();
        // Both may be one place.
        let is_ours =
            inode(&path).is_some_and(|file| inode(&place(directory, source)) == Some(file));
        if is_ours || is_locked(&path) != Some(true) {
            return Ok(lock);
        }
        let holder = open_file(&path).map(holder).unwrap_or_default();
        Err(AgentError::Busy { source_name: source.clone(), holder }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_in_either_place_keeps_others_out_of_both() {
        let (state, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (state, runtime) = (state.path(), runtime.path());
        let source: SourceId = "shop".parse().unwrap();
        let take = |first, second| SourceLock::take_alone(first, second, &source);
        // A child that another test makes meanwhile holds what we held until it runs its program.
        let freed = |first, second| {
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
            loop {
                match take(first, second) {
                    Err(_) if std::time::Instant::now() < deadline => std::thread::yield_now(),
                    taken => break taken.unwrap(),
                }
            }
        };
        for (first, second) in [(state, runtime), (runtime, state)] {
            let held = freed(first, second);
            for (first, second) in [(state, runtime), (runtime, state)] {
                let busy = take(first, second).unwrap_err();
                assert!(
                    busy.to_string().contains(&format!("process {}", std::process::id())),
                    "{busy}"
                );
            }
            drop(held);
        }
        drop(freed(state, runtime));
        drop(freed(state, state));
    }
}
