use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use drctl_model::shown;

/// Counts what a transfer has done so far; whoever shows progress reads it from time to time.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    plain: AtomicU64,
    sealed: AtomicU64,
    expected: AtomicU64,
    phase: AtomicU64,
    label: Mutex<String>,
}

/// A moment's reading of a [`Meter`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What is being done, for people.
    pub label: String,
    /// Plain bytes moved so far.
    pub plain: u64,
    /// Stored bytes moved so far.
    pub sealed: u64,
    /// Plain bytes in all as far as known; 0 when not known.
    pub expected: u64,
    /// How often all was set back to nothing: bytes of one phase say nothing of the next one.
    pub phase: u64,
}

impl Meter {
    /// Says what is done from now on; names in it may come from a server.
    pub fn label(&self, text: impl AsRef<str>) {
        *self.0.label.lock().expect("no panics while held") = shown(text.as_ref(), 100);
    }

    /// Adds to the plain bytes that are expected in all.
    pub fn expect(&self, plain: u64) {
        self.0.expected.fetch_add(plain, Ordering::Relaxed);
    }

    /// Begins to count anew, with so many plain bytes to come.
    pub fn begin(&self, expected: u64) {
        self.0.plain.store(0, Ordering::Relaxed);
        self.0.sealed.store(0, Ordering::Relaxed);
        self.0.expected.store(expected, Ordering::Relaxed);
        self.0.phase.fetch_add(1, Ordering::Relaxed);
    }

    /// Says how many plain bytes have been moved in all.
    pub fn at(&self, plain: u64) {
        self.0.plain.store(plain, Ordering::Relaxed);
    }

    /// Counts a segment.
    pub fn moved(&self, plain: u64, sealed: u64) {
        self.0.plain.fetch_add(plain, Ordering::Relaxed);
        self.0.sealed.fetch_add(sealed, Ordering::Relaxed);
    }

    /// What is counted now.
    #[must_use]
    pub fn read(&self) -> Reading {
        Reading {
            label: self.0.label.lock().expect("no panics while held").clone(),
            plain: self.0.plain.load(Ordering::Relaxed),
            sealed: self.0.sealed.load(Ordering::Relaxed),
            expected: self.0.expected.load(Ordering::Relaxed),
            phase: self.0.phase.load(Ordering::Relaxed),
        }
    }
}
