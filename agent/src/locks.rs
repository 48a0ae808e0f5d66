use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use drctl_engines::Below;
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
