//! Where a stream of log is cut into pieces; no IO.

use std::collections::VecDeque;

use anyhow::{Context as _, Result};
use drctl_engines::pg::wal::WalWalker;
use drctl_model::{Digest, Holds, LogPiece, LogPlace, Lsn, Timeline, WalPart, WalSegmentSize};
use sha2::{Digest as _, Sha256};

use super::holds;
use super::preceding::differs;
use crate::log;

/// The most restore points in the head of one piece.
const MAX_POINTS: usize = 1000;

/// A piece to be stored.
pub(super) type Cut = log::Cut<Lsn>;

/// What bytes of the log have led to.
#[derive(Default)]
pub(super) struct Cuts {
    /// Pieces that nobody has yet, in order.
    pub(super) pieces: Vec<Cut>,
    /// Whole segments whose parts are stored, or will be: one object instead of many.
    pub(super) joined: Vec<Cut>,
}

/// What the bucket has up to a position of the log: the digest of that segment's bytes up to there,
/// and the head that tells it.
pub(super) struct Check {
    pub(super) at: Lsn,
    pub(super) digest: Digest,
    pub(super) head: Box<LogPiece>,
}

impl Check {
    /// What the head of a piece that ends at `at` tells; older ones tell nothing.
    pub(super) fn of(head: LogPiece, at: Lsn, size: WalSegmentSize) -> Option<Check> {
        let Some(WalPart::Range { start, .. }) = head.place.wal().map(|place| place.part) else {
            return None;
        };
        let begins = size.start_of(start) == start;
        let digest = if begins { Some(head.plain_sha256) } else { head.holds.after };
        digest.map(|digest| Check { at, digest, head: Box::new(head) })
    }

    /// Whether that head's piece begins there.
    pub(super) fn begins_at(&self, at: Lsn) -> bool {
        let part = self.head.place.wal().map(|place| place.part);
        matches!(part, Some(WalPart::Range { start, .. }) if start == at)
    }
}

/// One timeline's log as it comes, proven while it passes. Holds at most a segment.
pub(super) struct Cutter {
    system_id: u64,
    timeline: Timeline,
    size: WalSegmentSize,
    walker: WalWalker,
    /// From where on nothing is cut yet.
    start: Lsn,
    /// The segment under way, from its first byte.
    segment: Vec<u8>,
    /// What its parts hold that are cut already, and whether there are any.
    parts: Option<Holds>,
    /// Over the segment under way.
    hash: Sha256,
    /// What lies before `start`: of its segment, or the whole segment before.
    bound: Option<Digest>,
    /// Whether nobody knows what the first piece follows.
    unproven: bool,
    /// What the bucket has right before that, until the first record was compared with it.
    behind: Option<Box<LogPiece>>,
    /// What the bucket has of the log that comes first: nothing is cut before all of it was found
    /// to be the same.
    checks: VecDeque<Check>,
    /// Where it is cut besides.
    also: Option<Lsn>,
}

impl Cutter {
    /// Begins to cut at `from`, the start of a segment.
    pub(super) fn new(
        system_id: u64,
        timeline: Timeline,
        from: Lsn,
        size: WalSegmentSize,
    ) -> Cutter {
        let walker = WalWalker::new(timeline, from, size).of_cluster(system_id);
        Cutter {
            system_id,
            timeline,
            size,
            walker,
            start: from,
            segment: Vec::new(),
            parts: None,
            hash: Sha256::new(),
            bound: None,
            unproven: false,
            behind: None,
            checks: VecDeque::new(),
            also: None,
        }
    }

    /// The same that cuts there too: a name that ends elsewhere is taken.
    pub(super) fn cutting_at(self, at: Option<Lsn>) -> Cutter {
        Cutter { also: at, ..self }
    }

    /// The same behind a segment of this digest.
    pub(super) fn behind(self, before: Option<Digest>) -> Cutter {
        Cutter { bound: before, ..self }
    }

    /// The same where nobody knows if the log follows what the bucket has right before it: the bytes that
    /// could tell are gone. Only the first record's link can speak against it.
    pub(super) fn unproven(self, behind: Option<Box<LogPiece>>) -> Cutter {
        Cutter { unproven: behind.is_some(), behind, ..self }
    }

    /// The same with log that comes before, from the start of a segment on, and is only compared;
    /// the checks are in order.
    pub(super) fn comparing(self, walked_from: Lsn, checks: VecDeque<Check>) -> Cutter {
        let walker = WalWalker::new(self.timeline, walked_from, self.size);
        let walker = walker.of_cluster(self.system_id);
        Cutter { walker, checks, ..self }
    }

    /// Behind the last byte that came.
    pub(super) fn at(&self) -> Lsn {
        self.walker.at()
    }

    /// Bytes that are not cut yet.
    pub(super) fn waiting(&self) -> u64 {
        match self.checks.is_empty() {
            true => self.at().since(self.start),
            false => 0,
        }
    }

    /// Commits in what is not cut yet.
    pub(super) fn commits(&self) -> u64 {
        self.walker.commits()
    }

    /// Takes bytes, and cuts at each segment's end.
    ///
    /// # Errors
    /// Log that is damaged; the position and the head of what the bucket has there, where that is
    /// other log.
    pub(super) fn take(
        &mut self,
        mut bytes: &[u8],
        cuts: &mut Cuts,
    ) -> Result<Option<Box<LogPiece>>> {
        while !bytes.is_empty() {
            let room = self.size.bytes() - self.segment.len() as u64;
            let checked = self.checks.front().map(|check| check.at.since(self.at()));
            let also = self.also.map(|at| at.since(self.at()));
            let stops = [checked, also].into_iter().flatten().filter(|left| *left > 0);
            let most = stops.fold(room, u64::min);
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(most.min(bytes.len()));
            self.walker.feed(now).context("check the WAL that the server sends")?;
            self.segment.extend_from_slice(now);
            self.hash.update(now);
            if let Some(head) = self.differs().or_else(|| self.breaks_off()) {
                return Ok(Some(head));
            }
            if self.also == Some(self.at()) {
                cuts.pieces.extend(self.cut());
            }
            if self.segment.len() as u64 == self.size.bytes() {
                self.end_segment(cuts);
            }
            bytes = later;
        }
        Ok(None)
    }

    /// The head of what the bucket has up to here, where that is other log.
    fn differs(&mut self) -> Option<Box<LogPiece>> {
        while let Some(check) = self.checks.pop_front_if(|check| check.at <= self.walker.at()) {
            if check.at != self.at() {
                continue;
            }
            if check.digest != self.digest() {
                return Some(check.head);
            }
            // It is the same log, and what is cut from there on follows what that follows.
            if check.begins_at(self.start) {
                self.bound = self.bound.or(check.head.holds.before);
                self.unproven |= check.head.holds.unproven;
            }
        }
        None
    }

    /// The head of what the bucket has before the first record, where that names another one before it.
    fn breaks_off(&mut self) -> Option<Box<LogPiece>> {
        let behind = self.behind.take_if(|_| self.walker.has_record())?;
        differs(&behind, &holds(&self.walker.summary(), self.size)).then_some(behind)
    }

    /// Of the segment under way, up to here.
    fn digest(&self) -> Digest {
        Digest(self.hash.clone().finalize().into())
    }

    /// Cuts off what there is.
    pub(super) fn cut(&mut self) -> Option<Cut> {
        if self.waiting() == 0 {
            return None;
        }
        let length = usize::try_from(self.waiting()).unwrap_or(usize::MAX);
        let bytes = self.segment[self.segment.len() - length..].to_vec();
        let found = self.bound();
        let up_to = self.digest();
        let begins = self.size.start_of(self.start) == self.start;
        let found = Holds { after: (!begins).then_some(up_to), ..found };
        self.bound = Some(up_to);
        self.parts = Some(match self.parts.take() {
            Some(parts) => parts.followed_by(&found),
            None => found.clone(),
        });
        let cut = self.piece(self.start, bytes, found);
        self.start = cut.end;
        Some(cut)
    }

    /// What was found, and what that follows.
    fn bound(&mut self) -> Holds {
        let unproven = self.unproven && self.bound.is_none();
        let found = holds(&self.walker.take_summary(), self.size);
        Holds { before: self.bound, unproven, ..found }
    }

    fn piece(&self, start: Lsn, bytes: Vec<u8>, holds: Holds) -> Cut {
        let end = start.plus(bytes.len() as u64);
        let place = LogPlace::of_wal((self.system_id, self.timeline), (start, end));
        Cut { place, end, bytes, holds }
    }

    fn end_segment(&mut self, cuts: &mut Cuts) {
        let whole = self.digest();
        if self.at() <= self.start {
            // It was there, and came to be compared.
            let _ = self.walker.take_summary();
            self.segment.clear();
        } else {
            self.cut_segment(cuts);
        }
        self.hash = Sha256::new();
        self.bound = Some(whole);
    }

    /// Cuts what is left of a segment that has ended.
    fn cut_segment(&mut self, cuts: &mut Cuts) {
        if self.parts.is_some() {
            cuts.pieces.extend(self.cut());
        }
        let bytes = std::mem::take(&mut self.segment);
        let start = self.size.start_of(Lsn(self.at().0 - 1));
        match self.parts.take() {
            // What would not fit into one head stays in many.
            Some(holds) if holds.restore_points().len() > MAX_POINTS => {}
            Some(holds) => {
                let holds = Holds { after: None, ..holds };
                cuts.joined.push(self.piece(start, bytes, holds));
            }
            None => {
                let found = self.bound();
                cuts.pieces.push(self.piece(start, bytes, found));
            }
        }
        self.start = self.at();
    }
}
