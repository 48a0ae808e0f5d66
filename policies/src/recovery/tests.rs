use drctl_model::{Ancestor, BackupId, Lsn, Timeline, TimelineHistory};
use jiff::Timestamp;

use super::*;

mod binding;
mod other_engine;
pub(crate) mod property;
mod sparse;
mod table;

/// Seconds after a beginning.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(crate) fn tl(id: u32) -> Timeline {
    Timeline::new(id).unwrap()
}

pub(crate) fn id(n: u64) -> BackupId {
    BackupId::new(at(0), n)
}

pub(crate) fn base(n: u64, timeline: u32, range: std::ops::Range<u64>, stopped: i64) -> Base {
    Base {
        backup: id(n),
        timeline: tl(timeline),
        start: Lsn(range.start),
        stop: Lsn(range.end),
        stood: Stood::Server(at(stopped)),
        segments: Vec::new(),
        good: true,
    }
}

/// A position, with the record that begins there.
fn up_to(lsn: u64) -> Target {
    Target::Lsn { lsn: Lsn(lsn), inclusive: true }
}

/// All that begins before a position.
fn before(lsn: u64) -> Target {
    Target::Lsn { lsn: Lsn(lsn), inclusive: false }
}

pub(crate) fn piece(
    timeline: u32,
    range: std::ops::Range<u64>,
    commits: Option<(i64, i64)>,
) -> Piece {
    Piece {
        timeline: tl(timeline),
        start: Lsn(range.start),
        end: Lsn(range.end),
        commits: commits.map(|(first, last)| (at(first), at(last))),
        xids: None,
    }
}

pub(crate) fn history(timeline: u32, ancestors: &[(u32, u64)]) -> TimelineHistory {
    let ancestor = |(id, until): &(u32, u64)| Ancestor {
        timeline: tl(*id),
        until: Lsn(*until),
        reason: String::new(),
    };
    TimelineHistory { timeline: tl(timeline), ancestors: ancestors.iter().map(ancestor).collect() }
}
