//! Proves PostgreSQL's write-ahead log while it flows past.
//!
//! The layout is that of `xlog_internal.h` and `xlogrecord.h`; what is checked is what
//! `xlogreader.c` checks before it replays a record, and a little more. WAL is written as the
//! machine holds it: that of a big-endian server has no known magic number.
//!
//! Of what a server writes, all is checked but
//!
//! - the flag `XLP_BKP_REMOVABLE`, the padding of page headers and that between records, none of
//!   which PostgreSQL reads;
//! - a record that began before the walk, and one that a crash broke off: there is no checksum;
//! - a record that is still open where the walk stands: [`WalSummary::next_record`] lies before it.
//!
//! A segment that was cut inside a record and filled up with zeros is an error: nothing tells that
//! from damage.

mod bytes;
mod chain;
mod commits;
mod ends;
mod error;
mod fragments;
mod page;
mod record;
mod records;
mod relation_changes;
mod replay_requirements;
mod summary;
mod xact;

use std::mem;

use drctl_model::{Lsn, Timeline, WalSegmentSize};

use chain::{Chain, Event};
pub use commits::{Commit, Commits};
pub use ends::{Ended, Ends};
pub use error::WalError;
use page::{LONG_HEADER, PAGE, Pages};
use record::Meaning;
pub use relation_changes::{Kind as ChangeKind, Relation, RelationChange, RelationChanges};
pub use replay_requirements::may_be_of_tablespace;
pub use summary::{Checkpoint, Required, Requirement, RestorePoint, WalSummary};

/// Reads WAL in pieces of any size and remembers only what it holds.
///
/// Memory is bounded, whatever is fed: of a record at most 128 bytes are held.
#[derive(Debug, Clone)]
pub struct WalWalker {
    segment: WalSegmentSize,
    at: Lsn,
    pages: Pages,
    page: [u8; LONG_HEADER],
    chain: Chain,
    zeros: Option<Zeros>,
    summary: WalSummary,
    failed: Option<WalError>,
}

/// Why only zeros may follow.
#[derive(Debug, Clone, Copy)]
enum Zeros {
    /// A record ended the segment; the next one begins at `until`.
    Switch { record: Lsn, until: Lsn },
    /// Nothing is written from there on.
    Ended(Lsn),
}

impl WalWalker {
    /// A walker over WAL of `timeline` and its ancestors, in segments of that size, from `start`
    /// on, where a page must begin (multiples of 8192). If a record goes on there that began
    /// before, its rest is not checked. The rest of a segment that a switch ended earlier looks
    /// like the end of the WAL, so the start of a segment is the better choice.
    #[must_use]
    pub fn new(timeline: Timeline, start: Lsn, segment: WalSegmentSize) -> Self {
        let failed = (!start.0.is_multiple_of(PAGE)).then_some(WalError::Start { at: start });
        WalWalker {
            segment,
            at: start,
            pages: Pages::new(timeline, segment),
            page: [0; LONG_HEADER],
            chain: Chain::new(),
            zeros: None,
            summary: WalSummary::default(),
            failed,
        }
    }

    /// The same where it is known whose cluster the WAL is.
    #[must_use]
    pub fn of_cluster(mut self, system_id: u64) -> Self {
        self.pages.expect(system_id);
        self
    }

    /// The position after the last byte that was fed.
    #[must_use]
    pub fn at(&self) -> Lsn {
        self.at
    }

    /// Whether a record has begun that did not end yet.
    #[must_use]
    pub fn is_within_record(&self) -> bool {
        self.chain.is_open()
    }

    /// What was found since the start, or since it was taken last.
    #[must_use]
    pub fn summary(&self) -> WalSummary {
        self.summary.clone()
    }

    /// Whether a record has ended since the start, or since the summary was taken last.
    #[must_use]
    pub fn has_record(&self) -> bool {
        self.summary.first_record.is_some()
    }

    /// Transactions that were committed since the start, or since the summary was taken last.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.summary.commits
    }

    /// The same as the summary, and begins a new one: of what comes from here on. Cluster, version and where
    /// the WAL ended stay known.
    pub fn take_summary(&mut self) -> WalSummary {
        let fresh = WalSummary {
            system_id: self.summary.system_id,
            major: self.summary.major,
            ended: self.summary.ended,
            ..WalSummary::default()
        };
        mem::replace(&mut self.summary, fresh)
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// [`WalError`] for bytes that no server writes there. The walker then stays where it is, and
    /// says the same whatever is fed.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), WalError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        while !bytes.is_empty() {
            match self.step(bytes) {
                Ok(taken) => {
                    self.at = self.at.plus(taken as u64);
                    bytes = &bytes[taken..];
                }
                Err(error) => {
                    self.failed = Some(error.clone());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Takes some of `bytes`: at most to the end of a page header, a record or a page.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, WalError> {
        if let Some(zeros) = self.zeros {
            return self.zeros(zeros, bytes);
        }
        let into = self.at.0 % PAGE;
        let page = Lsn(self.at.0 - into);
        let header = self.pages.header_len(page);
        match usize::try_from(into) {
            Ok(into) if into < header => self.page_header(page, into, header, bytes),
            _ => self.records(&bytes[..bytes::clamp(bytes.len(), PAGE - into)]),
        }
    }

    fn page_header(
        &mut self,
        page: Lsn,
        into: usize,
        header: usize,
        bytes: &[u8],
    ) -> Result<usize, WalError> {
        let n = bytes.len().min(header - into);
        self.page[into..into + n].copy_from_slice(&bytes[..n]);
        if into + n < header {
            return Ok(n);
        }
        let raw = &self.page[..header];
        if bytes::first_not_zero(raw).is_none() && !self.chain.is_open() {
            self.end_at(page);
            return Ok(n);
        }
        let opening = self.pages.check(page, raw)?;
        self.chain.begin_page(page, opening)?;
        self.summary.system_id = self.pages.system_id();
        self.summary.major = self.pages.version().map(|version| version.major);
        Ok(n)
    }

    fn records(&mut self, bytes: &[u8]) -> Result<usize, WalError> {
        // Without a page header there is no version, and no way to here.
        let Some(version) = self.pages.version() else {
            return Err(WalError::Magic { at: self.at, found: 0 });
        };
        match self.chain.take(self.at, bytes, version)? {
            Event::Took(n) => Ok(n),
            Event::Ended(n, at) => {
                self.end_at(at);
                Ok(n)
            }
            Event::Record(n, mut record) => {
                if record.meaning == Meaning::Switch {
                    record.next = self.end_segment(record.at, record.next);
                }
                self.summary.add(record);
                Ok(n)
            }
        }
    }

    fn end_at(&mut self, at: Lsn) {
        self.zeros = Some(Zeros::Ended(at));
        self.summary.ended = Some(at);
    }

    /// A switch uses up the segment (`ReserveXLogSwitch` in `xlog.c`), unless it just fitted in.
    /// What is left is zeroed, page headers as well (`CopyXLogRecordToWAL`).
    fn end_segment(&mut self, record: Lsn, end: Lsn) -> Lsn {
        let start = self.segment.start_of(end);
        if start == end {
            return end;
        }
        let until = start.plus(self.segment.bytes());
        self.zeros = Some(Zeros::Switch { record, until });
        until
    }

    fn zeros(&mut self, zeros: Zeros, bytes: &[u8]) -> Result<usize, WalError> {
        let run = match zeros {
            Zeros::Switch { until, .. } => {
                &bytes[..bytes::clamp(bytes.len(), until.since(self.at))]
            }
            Zeros::Ended(_) => bytes,
        };
        if let Some(n) = bytes::first_not_zero(run) {
            let at = self.at.plus(n as u64);
            return Err(match zeros {
                Zeros::Switch { record, .. } => WalError::AfterSwitch { at, switch: record },
                Zeros::Ended(ended) => WalError::AfterEnd { at, ended },
            });
        }
        if let Zeros::Switch { until, .. } = zeros
            && self.at.plus(run.len() as u64) >= until
        {
            self.zeros = None;
        }
        Ok(run.len())
    }
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
