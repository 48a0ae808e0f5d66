//! Whether log follows log by its content, as pieces tell it.

use drctl_model::{LogEntry, Position};

use super::Why;
use super::archive::Range;

/// How many pieces before one are looked at for those that end where it begins.
const LOOKS_BACK: usize = 8;

/// A position across which nothing leads, though log is there on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Barrier<P> {
    pub(crate) at: P,
    pub(crate) why: Why,
}

/// Whether a piece follows any of those before it, in order, that end where it begins: nothing
/// where none tells.
pub(super) fn follows<P: Position>(before: &[LogEntry<P>], entry: &LogEntry<P>) -> Option<bool> {
    let ends_there = |other: &&LogEntry<P>| other.end == entry.start;
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
pub(super) fn conflicts<P: Position>(entries: &[LogEntry<P>]) -> Vec<Barrier<P>> {
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

/// Where pieces in order begin of which nobody knows if they follow the log before them: their writer
/// could not compare it, and no other piece tells it or leads across.
pub(super) fn unproven<P: Position>(entries: &[LogEntry<P>]) -> Vec<P> {
    let (mut found, mut reach) = (Vec::new(), P::first());
    for group in entries.chunk_by(|one, other| one.start == other.start) {
        let Some(first) = group.first() else { continue };
        if first.start >= reach && group.iter().any(LogEntry::is_unproven) {
            found.push(first.start);
        }
        reach = group.iter().map(|entry| entry.end).fold(reach, P::max);
    }
    found.retain(|at| {
        let first = entries.partition_point(|entry| entry.start < *at);
        let before = entries.get(..first).unwrap_or_default();
        let group = entries.get(first..).unwrap_or_default();
        let mut group = group.iter().take_while(|entry| entry.start == *at);
        !group.any(|entry| follows(before, entry) == Some(true))
    });
    found
}

/// Ranges in order, cut at barriers that lie within them.
pub(super) fn cut<P: Position>(ranges: Vec<Range<P>>, barriers: &[Barrier<P>]) -> Vec<Range<P>> {
    let mut pieces = Vec::with_capacity(ranges.len());
    for Range { mut start, end } in ranges {
        let first = barriers.partition_point(|barrier| barrier.at <= start);
        for barrier in barriers.get(first..).unwrap_or_default() {
            if barrier.at >= end {
                break;
            }
            if barrier.at > start {
                pieces.push(Range { start, end: barrier.at });
                start = barrier.at;
            }
        }
        pieces.push(Range { start, end });
    }
    pieces
}
