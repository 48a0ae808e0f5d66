use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use drctl_model::{BackupId, LogEntry, Lsn, Timeline, TimelineHistory, micros};
use jiff::Timestamp;

use super::binding::{Barrier, conflicts, foreign};
use super::{Base, Gap, Piece, RestorePoint, Why};

/// What the bucket holds of one source, made ready for planning.
#[derive(Debug, Clone)]
pub struct Archive {
    pub(super) bases: Vec<Base>,
    pub(super) points: Vec<RestorePoint>,
    pub(super) logs: BTreeMap<Timeline, Log>,
    pub(super) histories: BTreeMap<Timeline, TimelineHistory>,
    /// Timelines of which two histories tell different things.
    pub(super) disputed: BTreeSet<Timeline>,
    /// Timelines with a base whose histories are missing: nothing older is known to lead to them.
    pub(super) assumed: BTreeSet<Timeline>,
    /// Bases that follow another history than the log around them, and where.
    pub(super) foreign: BTreeMap<BackupId, Gap>,
    /// Up to where log of a timeline was there once, as something else than the log tells.
    pub(super) once: BTreeMap<Timeline, Lsn>,
}

/// The pieces of one timeline, and the ranges that they fill.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    /// By start, then end.
    pub(super) entries: Vec<LogEntry>,
    /// As long as they can be: between two of them something is missing.
    pub(super) spans: Vec<Range>,
    /// Where nothing leads across, though log is there, in order.
    pub(super) barriers: Vec<Barrier>,
}

/// A range of log, its end not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: Lsn,
    pub(super) end: Lsn,
}

/// Microseconds of the epoch, as finely as PostgreSQL knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Micros(pub(super) i64);

impl Micros {
    /// Rounded down.
    pub(super) fn of(at: Timestamp) -> Micros {
        Micros(micros(at))
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

    /// So much later.
    pub(super) fn plus(self, micros: i64) -> Micros {
        Micros(self.0.saturating_add(micros))
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
        let mut logs: BTreeMap<Timeline, Vec<LogEntry>> = BTreeMap::new();
        let mut pieces = pieces.into_iter().peekable();
        while let Some(timeline) = pieces.peek().map(|piece| piece.timeline) {
            let entries = logs.entry(timeline).or_default();
            while let Some(piece) = pieces.next_if(|piece| piece.timeline == timeline) {
                entries.push(piece.entry());
            }
        }
        Archive::of(bases, logs, points, histories)
    }

    /// The same of pieces that are in few bytes already; those that are in order cost least.
    #[must_use]
    pub fn of(
        bases: Vec<Base>,
        logs: BTreeMap<Timeline, Vec<LogEntry>>,
        points: Vec<RestorePoint>,
        histories: Vec<TimelineHistory>,
    ) -> Archive {
        let logs = logs.into_iter().map(|(timeline, entries)| (timeline, Log::of(entries)));
        let logs = logs.filter(|(_, log)| !log.entries.is_empty());
        let logs: BTreeMap<Timeline, Log> = logs.collect();
        let foreign = bases
            .iter()
            .filter_map(|base| {
                Some((base.backup.clone(), foreign(base, logs.get(&base.timeline)?)?))
            })
            .collect();
        let mut archive = Archive {
            bases,
            points,
            logs,
            foreign,
            histories: BTreeMap::new(),
            disputed: BTreeSet::new(),
            assumed: BTreeSet::new(),
            once: BTreeMap::new(),
        };
        for history in histories {
            archive.know(history);
        }
        archive.know_ancestors();
        archive.assume();
        archive
    }

    /// The same with positions from which on the log of a timeline cannot be replayed.
    #[must_use]
    pub fn broken_at(mut self, breaks: impl IntoIterator<Item = (Timeline, Lsn)>) -> Archive {
        for (timeline, at) in breaks {
            if let Some(log) = self.logs.get_mut(&timeline) {
                log.barriers.push(Barrier { at, why: Why::Minimal });
                log.barriers.sort_unstable();
                log.barriers.dedup();
            }
        }
        self
    }

    /// The same with pieces (their first bytes, and behind their last ones) that were found not to
    /// be the log that was written: nothing leads across what no other piece covers of them.
    #[must_use]
    pub fn damaged(mut self, pieces: &[(Timeline, Lsn, Lsn)]) -> Archive {
        for (timeline, log) in &mut self.logs {
            let of = pieces.iter().filter(|(of, ..)| of == timeline);
            let bad: BTreeSet<(Lsn, Lsn)> = of.map(|(_, start, end)| (*start, *end)).collect();
            let whole = log.entries.iter().filter(|entry| !bad.contains(&entry.range()));
            let whole = joined(whole.map(|entry| Range { start: entry.start, end: entry.end }));
            let there = log.entries.iter().map(LogEntry::range).filter(|range| bad.contains(range));
            let bare = there.flat_map(|range| uncovered(range, &whole));
            log.barriers.extend(bare.map(|at| Barrier { at, why: Why::Damaged }));
            log.barriers.sort_unstable();
            log.barriers.dedup();
        }
        self
    }

    /// The same, where it is known that log of a timeline was there up to a position.
    #[must_use]
    pub fn once_up_to(mut self, known: impl IntoIterator<Item = (Timeline, Lsn)>) -> Archive {
        for (timeline, end) in known {
            let at = self.once.entry(timeline).or_insert(end);
            *at = end.max(*at);
        }
        self
    }

    /// The pieces of each timeline, in order.
    pub fn pieces(&self) -> impl Iterator<Item = (Timeline, &[LogEntry])> {
        self.logs.iter().map(|(timeline, log)| (*timeline, &log.entries[..]))
    }

    /// The same with this base alone, for somebody who chose it; of all others nothing is used.
    #[must_use]
    pub fn only(mut self, base: &BackupId) -> Archive {
        self.bases.retain(|other| other.backup == *base);
        self
    }

    /// The same without a base that is known not to be whole.
    #[must_use]
    pub fn without(mut self, base: &BackupId) -> Archive {
        self.bases.retain(|other| other.backup != *base);
        self
    }

    /// The last time of a commit or abort in all log, and of all bases: by the clocks of those who
    /// wrote it.
    #[must_use]
    pub fn last_seen(&self) -> Option<Timestamp> {
        let entries = self.logs.values().flat_map(|log| &log.entries);
        let commits = entries.filter_map(|entry| commits(entry)?.1.time());
        commits.chain(self.bases.iter().map(|base| base.stood.told())).max()
    }

    /// The history of a timeline: without ancestors where it is missing and a base is on it.
    #[must_use]
    pub fn history(&self, timeline: Timeline) -> Option<&TimelineHistory> {
        self.histories.get(&timeline)
    }

    /// A base on a timeline whose history is missing leads on from there all the same.
    fn assume(&mut self) {
        let timelines: BTreeSet<Timeline> = self.bases.iter().map(|base| base.timeline).collect();
        for timeline in timelines {
            if let Entry::Vacant(missing) = self.histories.entry(timeline) {
                missing.insert(TimelineHistory::of_first(timeline));
                self.assumed.insert(timeline);
            }
        }
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

    /// Where the last record ends that a replay of `timeline`'s log up to `reach` comes to.
    #[must_use]
    pub fn last_record(&self, timeline: Timeline, reach: Lsn) -> Option<Lsn> {
        let entries = &self.logs.get(&timeline)?.entries;
        let within = entries.iter().filter(|entry| entry.end <= reach);
        within.filter_map(LogEntry::record_end).max()
    }

    /// The pieces of `timeline`'s log that end behind `from` and hold a commit of the time `at` or
    /// earlier, as far as pieces tell.
    pub fn early(
        &self,
        timeline: Timeline,
        from: Lsn,
        at: Timestamp,
    ) -> impl Iterator<Item = (Lsn, Lsn)> {
        let at = Micros::of(at);
        let entries = self.logs.get(&timeline).map_or(&[][..], |log| &log.entries);
        let early = move |entry: &&LogEntry| {
            entry.end > from && commits(entry).is_some_and(|(first, _)| first <= at)
        };
        entries.iter().filter(early).map(|entry| (entry.start, entry.end))
    }

    /// Whether a base or a piece lies on it.
    pub(super) fn mentions(&self, timeline: Timeline) -> bool {
        self.logs.contains_key(&timeline) || self.bases.iter().any(|b| b.timeline == timeline)
    }
}

/// Where each stretch of a range begins that none of these covers, which are in order.
fn uncovered((start, end): (Lsn, Lsn), spans: &[Range]) -> Vec<Lsn> {
    let (mut at, mut found) = (start, Vec::new());
    for span in spans.iter().filter(|span| span.end > start && span.start < end) {
        if at < span.start {
            found.push(at);
        }
        at = span.end;
    }
    if at < end {
        found.push(at);
    }
    found
}

/// Whether two histories tell the same; the words about the reason don't matter.
fn same(one: &TimelineHistory, other: &TimelineHistory) -> bool {
    let steps = |history: &TimelineHistory| -> Vec<(Timeline, Lsn)> {
        history.ancestors.iter().map(|a| (a.timeline, a.until)).collect()
    };
    steps(one) == steps(other)
}

impl Log {
    fn of(mut entries: Vec<LogEntry>) -> Log {
        let is_ready = |pair: &[LogEntry]| match pair {
            [one, other] => one.range() <= other.range() && other.start < other.end,
            _ => false,
        };
        // Nearly always they come in order, and all of them count: a million are not moved then.
        let first = entries.first().is_some_and(|first| first.start < first.end);
        if !first || !entries.windows(2).all(is_ready) {
            entries.retain(|entry| entry.start < entry.end);
            entries.sort_by_key(LogEntry::range);
        }
        let range = |entry: &LogEntry| Range { start: entry.start, end: entry.end };
        let spans = joined(entries.iter().map(range));
        let barriers = conflicts(&entries);
        Log { entries, spans, barriers }
    }
}

/// The least and the greatest time of the commits and aborts in a piece.
pub(super) fn commits(entry: &LogEntry) -> Option<(Micros, Micros)> {
    entry.commits().map(|(first, last)| (Micros(first), Micros(last)))
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
