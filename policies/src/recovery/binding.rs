//! Whether log follows log by its content, as pieces and bases tell it.

use drctl_model::{LogEntry, Lsn};

use super::archive::Log;
use super::{Base, Gap, Why};

/// How many pieces before one are looked at for those that end where it begins.
const LOOKS_BACK: usize = 8;

/// A position across which nothing leads, though log is there on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Barrier {
    pub(super) at: Lsn,
    pub(super) why: Why,
}

/// Whether a piece follows any of those before it, in order, that end where it begins: nothing
/// where none tells.
pub(super) fn follows(before: &[LogEntry], entry: &LogEntry) -> Option<bool> {
    let ends_there = |other: &&LogEntry| other.end == entry.start;
    let mut near = before.iter().rev().take(LOOKS_BACK).filter(ends_there);
    let mut told = None;
    // Nearly always the one right before it tells.
    while told != Some(true) {
        let Some(other) = near.next() else { break };
        told = entry.follows(other).or(told);
    }
    told
}

/// Where pieces in order follow another history than those before them.
pub(super) fn conflicts(entries: &[LogEntry]) -> Vec<Barrier> {
    let mut found = Vec::new();
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.tells_before()) {
        let before = entries.get(..index).unwrap_or_default();
        if follows(before, entry) == Some(false) {
            found.push(Barrier { at: entry.start, why: Why::OtherHistory });
        }
    }
    found.dedup();
    found
}

/// Where a base brings other log along than lies around it.
pub(super) fn foreign(base: &Base, log: &Log) -> Option<Gap> {
    let pieces = |from: Lsn| {
        let first = log.entries.partition_point(|entry| entry.start < from);
        let rest = log.entries.get(first..).unwrap_or_default();
        rest.iter().take_while(move |entry| entry.start == from)
    };
    base.segments.iter().find_map(|(start, end, digest)| {
        let same = pieces(*start).filter(|entry| entry.end == *end);
        let differs = same.map(|entry| (*start, entry.ends_as(*digest)));
        let next = pieces(*end).map(|entry| (*end, entry.begins_behind(*digest)));
        let (at, _) = differs.chain(next).find(|(_, told)| *told == Some(false))?;
        let (timeline, why) = (base.timeline, Why::OtherHistory);
        Some(Gap { timeline, from: at, until: None, why })
    })
}

/// Ranges in order, cut at barriers that lie within them.
pub(super) fn cut<T>(
    ranges: Vec<T>,
    barriers: &[Barrier],
    range: impl Fn(&T) -> (Lsn, Lsn),
    of: impl Fn(Lsn, Lsn) -> T,
) -> Vec<T> {
    let mut pieces = Vec::with_capacity(ranges.len());
    for one in ranges {
        let (mut start, end) = range(&one);
        let first = barriers.partition_point(|barrier| barrier.at <= start);
        for barrier in barriers.get(first..).unwrap_or_default() {
            if barrier.at >= end {
                break;
            }
            if barrier.at > start {
                pieces.push(of(start, barrier.at));
                start = barrier.at;
            }
        }
        pieces.push(of(start, end));
    }
    pieces
}
