//! The commits of a stretch of WAL, one by one.

use drctl_model::{Lsn, Timeline, WalSegmentSize};
use jiff::Timestamp;

use super::{WalError, WalWalker};

/// How much is read at once where nothing was committed.
const CHUNK: usize = 4096;
/// `MAXALIGN`: no two records end within so many bytes.
const ALIGNED: usize = 8;

/// A transaction that was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Where its record begins.
    pub at: Lsn,
    /// Where its record ends.
    pub end: Lsn,
    /// Its number; 0 for one that wrote nothing.
    pub xid: u32,
    /// When it was committed, by the server's clock.
    pub time: Timestamp,
}

/// Reads WAL in the order in which it was written, and tells every commit in it.
#[derive(Debug, Clone)]
pub struct Commits(WalWalker);

impl Commits {
    /// Of WAL from `start` on, as [`WalWalker::new`].
    #[must_use]
    pub fn new(timeline: Timeline, start: Lsn, segment: WalSegmentSize) -> Self {
        Commits(WalWalker::new(timeline, start, segment))
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// As [`WalWalker::feed`]; the commits before that were told.
    pub fn feed(&mut self, bytes: &[u8], mut tell: impl FnMut(Commit)) -> Result<(), WalError> {
        for chunk in bytes.chunks(CHUNK) {
            let before = self.0.clone();
            self.0.take_summary();
            let fed = self.0.feed(chunk);
            if self.0.commits() > 0 || fed.is_err() {
                self.0 = before;
                self.slowly(chunk, &mut tell)?;
            }
        }
        Ok(())
    }

    /// So that each record's summary is its own.
    fn slowly(&mut self, chunk: &[u8], tell: &mut impl FnMut(Commit)) -> Result<(), WalError> {
        for few in chunk.chunks(ALIGNED) {
            self.0.take_summary();
            self.0.feed(few)?;
            if self.0.commits() == 0 {
                continue;
            }
            let one = self.0.summary();
            if let (Some(at), Some(end), Some(time)) =
                (one.last_record, one.next_record, one.first_commit)
            {
                tell(Commit { at, end, xid: one.min_xid.unwrap_or(0), time });
            }
        }
        Ok(())
    }
}
