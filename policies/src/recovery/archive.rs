use std::collections::{BTreeMap, BTreeSet};

use drctl_model::{Lsn, Timeline, TimelineHistory};
use jiff::Timestamp;

use super::{Base, Piece, RestorePoint};

/// What the bucket holds of one source, made ready for planning.
#[derive(Debug)]
pub struct Archive {
    pub(super) bases: Vec<Base>,
    pub(super) points: Vec<RestorePoint>,
    pub(super) logs: BTreeMap<Timeline, Log>,
    pub(super) histories: BTreeMap<Timeline, TimelineHistory>,
    /// Timelines of which two histories tell different things.
    pub(super) disputed: BTreeSet<Timeline>,
}

/// The pieces of one timeline, and the ranges that they fill.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// By start, then end.
    pub(super) entries: Vec<Entry>,
    /// As long as they can be: between two of them something is missing.
    pub(super) spans: Vec<Range>,
}

/// A range of log, its end not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: Lsn,
    pub(super) end: Lsn,
}

/// A piece in few bytes: a million of them are sorted and walked for each plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) start: Lsn,
    pub(super) end: Lsn,
    /// The least and the greatest time in it; where the least is the greater one there is none.
    commits: (Micros, Micros),
    /// The least transaction in it, and how many follow up to the greatest; where these are all
    /// that there can be nothing is known of any.
    xids: (u32, u32),
}

/// Microseconds of the epoch, as finely as PostgreSQL knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Micros(pub(super) i64);

impl Micros {
    /// Rounded down.
    pub(super) fn of(at: Timestamp) -> Micros {
        let exact = at.as_microsecond();
        // It rounds to the epoch.
        let before = at.as_nanosecond() < i128::from(exact).saturating_mul(1000);
        Micros(exact.saturating_sub(i64::from(before)))
    }

    /// Rounded up.
    pub(super) fn above(at: Timestamp) -> Micros {
        let down = Micros::of(at);
        let more = i128::from(down.0).saturating_mul(1000) < at.as_nanosecond();
        Micros(down.0.saturating_add(i64::from(more)))
    }

    /// As others write it.
    pub(super) fn time(self) -> Option<Timestamp> {
        Timestamp::from_microsecond(self.0).ok()
    }

    /// So much earlier.
    pub(super) fn minus(self, micros: i64) -> Micros {
        Micros(self.0.saturating_sub(micros))
    }
}

impl Archive {
    /// Sorts and joins what the catalog knows; pieces of no length count for nothing.
    ///
    /// A timeline counts as known when its history is here, or that of one that descends from it.
    /// The first timeline needs none.
    #[must_use]
    pub fn new(
        bases: Vec<Base>,
        pieces: impl IntoIterator<Item = Piece>,
        points: Vec<RestorePoint>,
        histories: Vec<TimelineHistory>,
    ) -> Archive {
        let logs = logs(pieces);
        let mut archive =
            Archive { bases, points, logs, histories: BTreeMap::new(), disputed: BTreeSet::new() };
        for history in histories {
            archive.know(history);
        }
        archive.know_ancestors();
        archive
    }

    /// The first history of a timeline stands; another one is only remembered as a contradiction.
    fn know(&mut self, history: TimelineHistory) {
        let timeline = history.timeline;
        let known = self.histories.entry(timeline).or_insert_with(|| history.clone());
        if !same(known, &history) {
            self.disputed.insert(timeline);
        }
    }

    /// A history tells the histories of its ancestors too.
    fn know_ancestors(&mut self) {
        let mut told = Vec::new();
        for history in self.histories.values() {
            for (index, ancestor) in history.ancestors.iter().enumerate() {
                let ancestors = history.ancestors.iter().take(index).cloned().collect();
                told.push(TimelineHistory { timeline: ancestor.timeline, ancestors });
            }
        }
        if self.mentions(Timeline::FIRST) {
            told.push(TimelineHistory::of_first(Timeline::FIRST));
        }
        for history in told {
            self.know(history);
        }
    }

    /// Whether a base or a piece lies on it.
    pub(super) fn mentions(&self, timeline: Timeline) -> bool {
        self.logs.contains_key(&timeline) || self.bases.iter().any(|b| b.timeline == timeline)
    }
}

/// Whether two histories tell the same; the words about the reason don't matter.
fn same(one: &TimelineHistory, other: &TimelineHistory) -> bool {
    let steps = |history: &TimelineHistory| -> Vec<(Timeline, Lsn)> {
        history.ancestors.iter().map(|a| (a.timeline, a.until)).collect()
    };
    steps(one) == steps(other)
}

fn logs(pieces: impl IntoIterator<Item = Piece>) -> BTreeMap<Timeline, Log> {
    let mut pieces = pieces.into_iter().peekable();
    let mut logs: BTreeMap<Timeline, Log> = BTreeMap::new();
    while let Some(timeline) = pieces.peek().map(|piece| piece.timeline) {
        let log = logs.entry(timeline).or_default();
        while let Some(piece) = pieces.next_if(|piece| piece.timeline == timeline) {
            if piece.start < piece.end {
                log.entries.push(Entry::of(&piece));
            }
        }
    }
    logs.retain(|_, log| !log.entries.is_empty());
    for log in logs.values_mut() {
        log.sort();
        log.spans = joined(log.entries.iter().map(Entry::range));
    }
    logs
}

impl Log {
    fn sort(&mut self) {
        // Of a million in any order this is what takes longest: measured, a stable sort is a third
        // slower. Nothing depends on the order of those that are alike.
        self.entries.sort_unstable_by_key(|entry| (entry.start, entry.end));
    }
}

impl Entry {
    fn of(piece: &Piece) -> Entry {
        let none = (Micros(i64::MAX), Micros(i64::MIN));
        let commits = piece.commits.map_or(none, |(one, other)| {
            let (one, other) = (Micros::of(one), Micros::of(other));
            (one.min(other), one.max(other))
        });
        let width = |(least, greatest): (u32, u32)| (least, greatest.wrapping_sub(least));
        let xids = piece.xids.map_or((0, u32::MAX), width);
        Entry { start: piece.start, end: piece.end, commits, xids }
    }

    fn range(&self) -> Range {
        Range { start: self.start, end: self.end }
    }

    /// The least and the greatest time of the commits and aborts in it.
    pub(super) fn commits(&self) -> Option<(Micros, Micros)> {
        let (first, last) = self.commits;
        (first <= last).then_some(self.commits)
    }

    /// The least transaction in it, and how many follow up to the greatest.
    pub(super) fn xids(&self) -> Option<(u32, u32)> {
        let (_, width) = self.xids;
        (width < u32::MAX).then_some(self.xids)
    }
}

/// Ranges in the order of their starts, those joined that touch or overlap.
pub(super) fn joined(ranges: impl IntoIterator<Item = Range>) -> Vec<Range> {
    let mut joined: Vec<Range> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}
