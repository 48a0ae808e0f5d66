use jiff::Timestamp;

use crate::{Digest, Holds, LogAt, Lsn, Position};

/// A piece of a lineage's log in few bytes: a million of them are kept, loaded and walked for
/// each plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEntry<P = Lsn> {
    /// Its first byte.
    pub start: P,
    /// Behind its last byte.
    pub end: P,
    /// The least and the greatest time in it, microseconds of the epoch; where the least is the
    /// greater one there is none.
    commits: (i64, i64),
    /// The least transaction in it, and how many follow up to the greatest; where these are all
    /// that there can be nothing is known of any.
    xids: (u32, u32),
    /// Bytes between the end of its last record and its own; [`NO_RECORD`] where none ends in it.
    tail: u32,
    /// What stands for the log right before it, and for that up to its end; 0 where that is not
    /// known, [`UNPROVEN`] where its writer could not know what it follows.
    bound: (u64, u64),
}

const NO_RECORD: u32 = u32::MAX;

/// Stands for no digest.
const UNPROVEN: u64 = 1;

/// The length of an entry as it is written.
pub const LOG_ENTRY_BYTES: usize = 60;

/// Eight bytes of a digest, never 0 or [`UNPROVEN`]: two histories that differ by accident differ in these.
fn stands_for(digest: Digest) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&digest.0[..8]);
    u64::from_le_bytes(first).max(UNPROVEN + 1)
}

/// Microseconds of the epoch, as finely as PostgreSQL knows them, rounded down.
#[must_use]
pub fn micros(at: Timestamp) -> i64 {
    let exact = at.as_microsecond();
    // It rounds to the epoch.
    let before = at.as_nanosecond() < i128::from(exact).saturating_mul(1000);
    exact.saturating_sub(i64::from(before))
}

impl<P: Position> LogEntry<P> {
    /// A piece from `start` to `end`, with the times and the transactions that it holds.
    #[must_use]
    pub fn new(
        (start, end): (P, P),
        commits: Option<(Timestamp, Timestamp)>,
        xids: Option<(u32, u32)>,
    ) -> LogEntry<P> {
        let commits = commits.map_or((i64::MAX, i64::MIN), |(one, other)| {
            let (one, other) = (micros(one), micros(other));
            (one.min(other), one.max(other))
        });
        let width = |(least, greatest): (u32, u32)| (least, greatest.wrapping_sub(least));
        let xids = xids.map_or((0, u32::MAX), width);
        LogEntry { start, end, commits, xids, tail: NO_RECORD, bound: (0, 0) }
    }

    /// Whether the log of this piece follows that of the one before, which ends where it begins:
    /// nothing where one of them does not tell.
    #[must_use]
    pub fn follows(&self, before: &LogEntry<P>) -> Option<bool> {
        let (ends, begins) = (before.bound.1, self.bound.0);
        (ends != 0 && self.tells_before()).then_some(ends == begins)
    }

    /// Whether it tells of the log right before it.
    #[must_use]
    pub fn tells_before(&self) -> bool {
        self.bound.0 > UNPROVEN
    }

    /// Whether its writer could not know if it follows the log that was there right before it.
    #[must_use]
    pub fn is_unproven(&self) -> bool {
        self.bound.0 == UNPROVEN
    }

    /// Whether its bytes, from the start of its segment on, have this digest; nothing where it does
    /// not tell.
    #[must_use]
    pub fn ends_as(&self, digest: Digest) -> Option<bool> {
        (self.bound.1 != 0).then(|| self.bound.1 == stands_for(digest))
    }

    /// The same of what lies right before it.
    #[must_use]
    pub fn begins_behind(&self, digest: Digest) -> Option<bool> {
        self.tells_before().then(|| self.bound.0 == stands_for(digest))
    }

    /// The same with what lies before it from `start` on, of which is known that it is there, and
    /// that nothing in it is earlier than `least`, in microseconds of the epoch.
    #[must_use]
    pub fn extended(self, start: P, least: Option<i64>) -> LogEntry<P> {
        let (first, last) = self.commits;
        let least = least.filter(|_| first <= last).unwrap_or(first);
        LogEntry { start: start.min(self.start), commits: (first.min(least), last), ..self }
    }

    /// Its first byte, and behind its last.
    #[must_use]
    pub fn range(&self) -> (P, P) {
        (self.start, self.end)
    }

    /// The least and the greatest time of the commits and aborts in it, microseconds of the epoch.
    #[must_use]
    pub fn commits(&self) -> Option<(i64, i64)> {
        let (first, last) = self.commits;
        (first <= last).then_some(self.commits)
    }

    /// The least transaction in it, and how many follow up to the greatest.
    #[must_use]
    pub fn transactions(&self) -> Option<(u32, u32)> {
        let (_, width) = self.xids;
        (width < u32::MAX).then_some(self.xids)
    }

    /// Where its last record ends.
    #[must_use]
    pub fn record_end(&self) -> Option<P> {
        (self.tail != NO_RECORD)
            .then(|| P::of(self.end.number().saturating_sub(u64::from(self.tail))))
    }
}

impl<P: Position> LogEntry<P> {
    /// Its first byte, and behind its last, as keys have them.
    #[must_use]
    pub fn place(&self) -> (LogAt, LogAt) {
        (LogAt(self.start.number()), LogAt(self.end.number()))
    }

    /// A piece of which this is signed.
    #[must_use]
    pub fn of(range: (P, P), holds: &Holds) -> LogEntry<P> {
        let end = range.1.number();
        let tail = holds.last_record.and_then(|(_, next)| end.checked_sub(next.0));
        let tail = tail.and_then(|tail| u32::try_from(tail).ok());
        let entry = LogEntry::new(range, holds.commits, holds.xids());
        let of = |digest: Option<Digest>| digest.map_or(0, stands_for);
        let before = match holds.before {
            None if holds.unproven => UNPROVEN,
            before => of(before),
        };
        let bound = (before, of(holds.after));
        LogEntry { tail: tail.unwrap_or(NO_RECORD), bound, ..entry }
    }

    /// The same of a piece whose bytes have this digest: where it begins a segment that is all of
    /// the segment up to its end.
    #[must_use]
    pub fn with_bytes(self, holds: &Holds, bytes: Digest) -> LogEntry<P> {
        let start = Lsn(self.start.number());
        let begins = holds.segment_size().is_some_and(|size| size.start_of(start) == start);
        let (before, after) = self.bound;
        let after = if begins { stands_for(bytes) } else { after };
        LogEntry { bound: (before, after), ..self }
    }

    /// Appends it: start, end, commits, transactions, tail, what binds it, all little-endian.
    pub fn to_bytes(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.start.number().to_le_bytes());
        bytes.extend_from_slice(&self.end.number().to_le_bytes());
        bytes.extend_from_slice(&self.commits.0.to_le_bytes());
        bytes.extend_from_slice(&self.commits.1.to_le_bytes());
        bytes.extend_from_slice(&self.xids.0.to_le_bytes());
        bytes.extend_from_slice(&self.xids.1.to_le_bytes());
        bytes.extend_from_slice(&self.tail.to_le_bytes());
        bytes.extend_from_slice(&self.bound.0.to_le_bytes());
        bytes.extend_from_slice(&self.bound.1.to_le_bytes());
    }

    /// What [`to_bytes`](Self::to_bytes) wrote.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; LOG_ENTRY_BYTES]) -> LogEntry<P> {
        let eight = |at: usize| -> u64 {
            let mut part = [0; 8];
            part.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(part)
        };
        let four = |at: usize| -> u32 {
            let mut part = [0; 4];
            part.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(part)
        };
        LogEntry {
            start: P::of(eight(0)),
            end: P::of(eight(8)),
            commits: (eight(16).cast_signed(), eight(24).cast_signed()),
            xids: (four(32), four(36)),
            tail: four(40),
            bound: (eight(44), eight(52)),
        }
    }
}

/// The pieces that do not lie wholly within another one; `ranges` are in order and differ.
///
/// What is left out says nothing that the larger piece does not say: readers need not look at it.
#[must_use]
pub fn outermost<P: Copy + Ord>(ranges: &[(P, P)]) -> Vec<(P, P)> {
    let mut kept: Vec<(P, P)> = Vec::with_capacity(ranges.len());
    for range in ranges {
        // Of those that begin together the longest comes last.
        if kept.last().is_some_and(|last| last.0 == range.0) {
            kept.pop();
        }
        if kept.last().is_none_or(|last| last.1 < range.1) {
            kept.push(*range);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WalHolds;

    #[test]
    fn a_piece_is_the_same_in_few_bytes() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let times = (at("2026-03-01T00:00:00.000001Z"), at("2026-03-01T00:00:01Z"));
        let holds = |commits, xids, last_record: Option<(Lsn, Lsn)>| Holds {
            commits,
            last_record: last_record.map(|(at, next)| (at.into(), next.into())),
            wal: Some(WalHolds { xids, ..WalHolds::default() }),
            ..Holds::default()
        };
        let range = (Lsn(0x300_0000), Lsn(0x400_0000));
        for (holds, end) in [
            (holds(Some(times), Some((5, 9)), Some((Lsn(0x3ff_0000), Lsn(0x3ff_0100)))), true),
            (holds(None, None, None), false),
            (holds(Some(times), Some((9, 5)), Some((Lsn(1), Lsn(0x400_0001)))), false),
        ] {
            let entry = LogEntry::of(range, &holds);
            assert_eq!(entry.range(), range);
            let next = holds.last_record.filter(|_| end).map(|(_, next)| Lsn(next.0));
            assert_eq!(entry.record_end(), next);
            assert_eq!(entry.commits(), holds.commits.map(|(a, b)| (micros(a), micros(b))));
            let xids = holds.xids().map(|(a, b)| (a, b.wrapping_sub(a)));
            assert_eq!(entry.transactions(), xids);
            let mut bytes = Vec::new();
            entry.to_bytes(&mut bytes);
            assert_eq!(LogEntry::from_bytes(bytes.as_slice().try_into().unwrap()), entry);
        }
        // What lies before a piece is bound to it, as far as both tell.
        let digest = |n| Digest([n; 32]);
        let size = crate::WalSegmentSize::new(1 << 20);
        let wal = WalHolds { segment_size: size, ..WalHolds::default() };
        let told = |before| Holds { before, wal: Some(wal.clone()), ..Holds::default() };
        let piece = |n: u64, before| {
            let range = (Lsn(n << 20), Lsn((n + 1) << 20));
            LogEntry::of(range, &told(before))
        };
        let one = piece(3, None).with_bytes(&told(None), digest(7));
        assert_eq!(piece(4, Some(digest(7))).follows(&one), Some(true));
        assert_eq!(piece(4, Some(digest(8))).follows(&one), Some(false));
        assert_eq!(piece(4, None).follows(&one), None);
        let unproven = Holds { unproven: true, ..told(None) };
        let unproven = LogEntry::of(piece(4, None).range(), &unproven);
        assert!(unproven.is_unproven() && !unproven.tells_before());
        assert_eq!((unproven.follows(&one), unproven.begins_behind(digest(7))), (None, None));
        assert!(!piece(4, None).is_unproven() && !piece(4, Some(digest(0))).is_unproven());
        assert_eq!((one.ends_as(digest(7)), one.ends_as(digest(1))), (Some(true), Some(false)));
        let mut bytes = Vec::new();
        one.to_bytes(&mut bytes);
        assert_eq!(LogEntry::from_bytes(bytes.as_slice().try_into().unwrap()), one);
        assert_eq!(micros(at("1969-12-31T23:59:59.9999999Z")), -1);
    }

    #[test]
    fn what_lies_within_another_piece_is_left_out() {
        type Ranges<'a> = &'a [(u64, u64)];
        let cases: &[(Ranges<'_>, Ranges<'_>)] = &[
            (&[], &[]),
            (&[(0, 4), (4, 8)], &[(0, 4), (4, 8)]),
            (&[(0, 4), (0, 8), (4, 8), (8, 9)], &[(0, 8), (8, 9)]),
            (&[(0, 6), (2, 6), (4, 5)], &[(0, 6)]),
            (&[(0, 6), (4, 9), (5, 7)], &[(0, 6), (4, 9)]),
            (&[(0, 3), (1, 2), (1, 3), (1, 4)], &[(0, 3), (1, 4)]),
        ];
        for (ranges, kept) in cases {
            let pairs = |list: &[(u64, u64)]| -> Vec<(Lsn, Lsn)> {
                list.iter().map(|(start, end)| (Lsn(*start), Lsn(*end))).collect()
            };
            assert_eq!(outermost(&pairs(ranges)), pairs(kept), "{ranges:?}");
        }
    }
}
