use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use drctl_model::SourceId;
use rustix::fs::{FlockOperation, flock};

use crate::problem::Problem;

/// A source is worked on by one process of a host at a time. The kernel lets go of the lock when
/// its process ends, however it ends; the file itself means nothing.
#[derive(Debug)]
pub struct SourceLock(#[allow(dead_code, reason = "held, never read")] File);

impl SourceLock {
    /// Takes the lock or says who has it; never waits.
    ///
    /// # Errors
    /// [`Problem::Busy`]; the file system's.
    pub fn take(directory: &Path, source: &SourceId) -> Result<Self> {
        let path = directory.join(format!("{source}.lock"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let mut file = file.with_context(|| format!("open the lock {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let _ = (&file).take(200).read_to_string(&mut holder);
            let holder = holder.trim().to_owned();
            return Err(Problem::Busy { source_name: source.clone(), holder }.into());
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "process {}", std::process::id())?;
        Ok(SourceLock(file))
    }
}
