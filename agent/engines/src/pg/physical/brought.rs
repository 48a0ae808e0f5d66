//! The WAL that a base backup brings along, walked as it passes. It tells when the backup was
//! taken, by the server's clock, and has the digests of segments, which tell the WAL that the
//! backup belongs to.

use std::collections::VecDeque;

use drctl_model::{CopiedLog, Digest, Lsn, Timeline, WalSegmentSize};
use jiff::Timestamp;

use crate::pg::wal::WalWalker;

/// How much of the WAL is told of at once: a page.
const PAGE: u64 = 8192;

/// The digests that are kept: those of the last segments.
const DIGESTS: usize = 64;

/// The WAL in a base backup's `pg_wal`, segment by segment.
#[derive(Debug)]
pub(super) struct Brought {
    timeline: Timeline,
    size: WalSegmentSize,
    start: Lsn,
    walker: Option<WalWalker>,
    /// Whether the bytes that pass are of the next segment.
    passes: bool,
    checkpoint: Option<Timestamp>,
    /// The latest commit in the segments before the one that passes.
    before: Option<Timestamp>,
    /// Of that one: where each page ends that has commits, and the latest in it.
    pages: Vec<(Lsn, Timestamp)>,
    segments: VecDeque<(Lsn, Digest)>,
}

impl Brought {
    /// Of a backup that begins there.
    pub(super) fn new((start, timeline): (Lsn, Timeline), size: WalSegmentSize) -> Self {
        let walker = WalWalker::new(timeline, size.start_of(start), size);
        Brought {
            timeline,
            size,
            start,
            walker: Some(walker),
            passes: false,
            checkpoint: None,
            before: None,
            pages: Vec::new(),
            segments: VecDeque::new(),
        }
    }

    /// A file of `pg_wal` begins. What does not follow what came before ends the walk.
    pub(super) fn begin(&mut self, name: &str, bytes: u64) {
        let next = self.walker.as_ref().map(WalWalker::at);
        let named = self.size.parse_file_name(name).ok();
        let is_next = bytes == self.size.bytes()
            && named.is_some_and(|(of, at)| of == self.timeline && Some(at) == next);
        self.passes = is_next;
        if is_next {
            let last = self.pages.drain(..).map(|(_, at)| at).max();
            self.before = self.before.max(last);
        } else if named.is_some() {
            self.walker = None;
        }
    }

    /// Bytes of it.
    pub(super) fn data(&mut self, mut bytes: &[u8]) {
        let Some(walker) = self.walker.as_mut().filter(|_| self.passes) else { return };
        while !bytes.is_empty() {
            let room = PAGE - walker.at().0 % PAGE;
            let (now, later) = bytes.split_at(bytes.len().min(usize::try_from(room).unwrap_or(1)));
            let fed = walker.feed(now);
            let found = walker.take_summary();
            // Of a segment that is still written to, the end is not WAL yet.
            if fed.is_err() {
                self.walker = None;
                return;
            }
            self.pages.extend(found.last_commit.map(|at| (walker.at(), at)));
            let begun = found.checkpoint.filter(|one| one.at >= self.start);
            self.checkpoint = self.checkpoint.or(begun.map(|one| one.time));
            bytes = later;
        }
    }

    /// The file has ended.
    pub(super) fn end(&mut self, digest: Digest) {
        let Some(walker) = self.walker.as_mut().filter(|_| self.passes) else { return };
        // What is not full yet will be another one when it is.
        if walker.summary().ended.is_none() {
            let start = Lsn(walker.at().0.saturating_sub(self.size.bytes()));
            self.segments.push_back((start, digest));
            if self.segments.len() > DIGESTS {
                self.segments.pop_front();
            }
        }
        self.passes = false;
    }

    /// What it tells of a backup that ended at `stop`; nothing where it has not even its
    /// checkpoint.
    pub(super) fn finish(self, stop: Lsn) -> Option<CopiedLog> {
        let until = self.pages.iter().filter(|(end, _)| end.0.saturating_sub(PAGE) < stop.0);
        let last_commit = self.before.max(until.map(|(_, at)| *at).max());
        let segments = self.segments.into_iter().collect();
        Some(CopiedLog { checkpoint: self.checkpoint?, last_commit, segments })
    }
}
