use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_engines::Below;
use drctl_model::printable;
use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::progress::lines_to;
use crate::host::Meter;

/// The file in a recovery's directory.
const FILE: &str = "drctl.log";

/// How often it is noted how far a recovery is.
const NOTE_EVERY: Duration = Duration::from_secs(10);

/// What a recovery tells, in a file of its directory too: its terminal may be gone.
#[derive(Clone)]
pub(super) struct Journal(Arc<Mutex<File>>);

impl Journal {
    /// Goes on with the file in `directory`, or begins it.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let path = directory.join(FILE);
        let file = Below::open(directory).and_then(|below| below.append(Path::new(FILE)));
        let file = file.with_context(|| format!("write {}", path.display()))?;
        Ok(Journal(Arc::new(Mutex::new(file))))
    }

    /// Notes a text, with the time. What cannot be written is lost, and no reason to fail.
    pub(super) fn note(&self, text: &str) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(file, "{:.0} {}", Timestamp::now(), printable(text));
    }

    /// Notes how far a recovery is, until the guard is dropped.
    #[must_use]
    pub(super) fn follow(&self, meter: &Meter) -> Following {
        let (journal, meter) = (self.clone(), meter.clone());
        Following(tokio::spawn(async move {
            lines_to(meter, NOTE_EVERY, |line| journal.note(line)).await;
        }))
    }
}

/// Ends the notes when dropped.
pub(super) struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}
