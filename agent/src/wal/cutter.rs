//! Where a stream of log is cut into pieces; no IO.

use drctl_engines::pg::wal::{WalError, WalWalker};
use drctl_model::{Holds, LogPart, LogPlace, Lsn, Timeline, WalSegmentSize};

use super::shelf::holds;

/// The most restore points in the head of one piece.
const MAX_POINTS: usize = 1000;

/// A piece to be stored.
pub(super) struct Cut {
    /// Where it belongs.
    pub(super) place: LogPlace,
    /// Behind its last byte.
    pub(super) end: Lsn,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// What the walk over it found.
    pub(super) holds: Holds,
}

/// What bytes of the log have led to.
#[derive(Default)]
pub(super) struct Cuts {
    /// Pieces that nobody has yet, in order.
    pub(super) pieces: Vec<Cut>,
    /// Whole segments whose parts are stored, or will be: one object instead of many.
    pub(super) joined: Vec<Cut>,
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
}

impl Cutter {
    /// Begins at `from`, the start of a segment.
    pub(super) fn new(
        system_id: u64,
        timeline: Timeline,
        from: Lsn,
        size: WalSegmentSize,
    ) -> Cutter {
        let walker = WalWalker::new(timeline, from, size);
        Cutter { system_id, timeline, size, walker, start: from, segment: Vec::new(), parts: None }
    }

    /// Behind the last byte that came.
    pub(super) fn at(&self) -> Lsn {
        self.walker.at()
    }

    /// Bytes that are not cut yet.
    pub(super) fn waiting(&self) -> u64 {
        self.at().since(self.start)
    }

    /// Commits in what is not cut yet.
    pub(super) fn commits(&self) -> u64 {
        self.walker.commits()
    }

    /// Takes bytes, and cuts at each segment's end.
    ///
    /// # Errors
    /// Log that is damaged.
    pub(super) fn take(&mut self, mut bytes: &[u8], cuts: &mut Cuts) -> Result<(), WalError> {
        while !bytes.is_empty() {
            let room = self.size.bytes() - self.segment.len() as u64;
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.walker.feed(now)?;
            self.segment.extend_from_slice(now);
            if now.len() == room {
                self.end_segment(cuts);
            }
            bytes = later;
        }
        Ok(())
    }

    /// Cuts off what there is.
    pub(super) fn cut(&mut self) -> Option<Cut> {
        if self.waiting() == 0 {
            return None;
        }
        let length = usize::try_from(self.waiting()).unwrap_or(usize::MAX);
        let bytes = self.segment[self.segment.len() - length..].to_vec();
        let found = self.found();
        let before = self.parts.take().unwrap_or_default();
        self.parts = Some(before.followed_by(&found));
        let cut = self.piece(self.start, bytes, found);
        self.start = cut.end;
        Some(cut)
    }

    fn found(&mut self) -> Holds {
        holds(&self.walker.take_summary(), self.size)
    }

    fn piece(&self, start: Lsn, bytes: Vec<u8>, holds: Holds) -> Cut {
        let end = start.plus(bytes.len() as u64);
        let part = LogPart::Range { start, end };
        let place = LogPlace { system_id: self.system_id, timeline: self.timeline, part };
        Cut { place, end, bytes, holds }
    }

    fn end_segment(&mut self, cuts: &mut Cuts) {
        if self.parts.is_some() {
            cuts.pieces.extend(self.cut());
        }
        let bytes = std::mem::take(&mut self.segment);
        let start = self.size.start_of(Lsn(self.at().0 - 1));
        match self.parts.take() {
            // What would not fit into one head stays in many.
            Some(holds) if holds.restore_points.len() > MAX_POINTS => {}
            Some(holds) => cuts.joined.push(self.piece(start, bytes, holds)),
            None => {
                let found = self.found();
                cuts.pieces.push(self.piece(start, bytes, found));
            }
        }
        self.start = self.at();
    }
}
