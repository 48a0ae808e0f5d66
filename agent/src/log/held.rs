//! Log that a server keeps because nobody has stored it yet: it is what fills the server's disk.

use std::sync::{Arc, Mutex, PoisonError};

/// What was seen of it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// The bytes of log that wait.
    pub(crate) bytes: u64,
    /// The bytes that are free where the log lies; nothing where that is out of our sight.
    pub(crate) free_bytes: Option<u64>,
}

/// Where a stream says what the server holds, and others read it.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldLog(Arc<Mutex<Option<Held>>>);

impl HeldLog {
    /// Says what was seen; nothing: it is not known any more.
    pub(crate) fn say(&self, held: Option<Held>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }

    /// What was seen last.
    pub(crate) fn read(&self) -> Option<Held> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
