use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use drctl_model::SourceId;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::problem::Problem;

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
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Taken::Ours(file)),
        Err(Errno::WOULDBLOCK) => Ok(Taken::Held(file)),
        Err(error) => Err(error.into()),
    }
}

/// A source is worked on by one process of a host at a time.
#[derive(Debug)]
pub struct SourceLock(#[allow(dead_code, reason = "held, never read")] File);

impl SourceLock {
    /// Takes the lock or says who has it; never waits.
    ///
    /// # Errors
    /// [`Problem::Busy`]; the file system's.
    pub fn take(directory: &Path, source: &SourceId) -> Result<Self> {
        let path = directory.join(format!("{source}.lock"));
        let taken = take_file(&path);
        let mut file = match taken.with_context(|| format!("take the lock {}", path.display()))? {
            Taken::Ours(file) => file,
            Taken::Held(file) => {
                let mut holder = String::new();
                let _ = file.take(200).read_to_string(&mut holder);
                let holder = holder.trim().to_owned();
                return Err(Problem::Busy { source_name: source.clone(), holder }.into());
            }
        };
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "process {}", std::process::id())?;
        Ok(SourceLock(file))
    }
}
