use std::collections::{BTreeMap, BTreeSet};

use drctl_model::{BackupId, LogEntry, Position, micros};
use jiff::Timestamp;

use super::binding::{Barrier, conflicts, unproven};
use super::{Base, Gap, Lines, Why};

/// What the bucket holds of one source, made ready for planning.
#[derive(Debug, Clone)]
pub(crate) struct Archive<L: Lines> {
    pub(crate) bases: Vec<Base<L>>,
    /// Those that were found bad: they are shown, and nothing begins with them.
    pub(crate) bad: Vec<Base<L>>,
    pub(crate) logs: BTreeMap<L::Lineage, Log<L::At>>,
    /// How lineages lead to each other.
    pub(crate) known: L::Known,
    /// Bases that follow another history than the log around them, and where.
    pub(crate) foreign: BTreeMap<BackupId, Gap<L>>,
    /// Up to where log of a lineage was there once, as something else than the log tells.
    once: BTreeMap<L::Lineage, (L::At, Why)>,
}

/// The pieces of one lineage, and the ranges that they fill.
#[derive(Debug, Clone)]
pub(crate) struct Log<P> {
    /// By start, then end.
    pub(crate) entries: Vec<LogEntry<P>>,
    /// As long as they can be: between two of them something is missing.
    pub(crate) spans: Vec<Range<P>>,
    /// Where nothing leads across, though log is there, in order.
    pub(super) barriers: Vec<Barrier<P>>,
    /// Where it is not known whether log follows the log before it, in order.
    pub(super) unproven: Vec<P>,
}

/// A range of log, its end not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range<P> {
    pub(crate) start: P,
    pub(crate) end: P,
}

/// Microseconds of the epoch, as finely as logs tell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Micros(pub(crate) i64);

impl Micros {
    /// Rounded down.
    pub(crate) fn of(at: Timestamp) -> Micros {
        Micros(micros(at))
    }

    /// Rounded up.
    pub(crate) fn above(at: Timestamp) -> Micros {
        let down = Micros::of(at);
        let more = i128::from(down.0).saturating_mul(1000) < at.as_nanosecond();
        Micros(down.0.saturating_add(i64::from(more)))
    }

    /// As others write it.
    pub(crate) fn time(self) -> Option<Timestamp> {
        Timestamp::from_microsecond(self.0).ok()
    }

    /// So much later.
    pub(crate) fn plus(self, micros: i64) -> Micros {
        Micros(self.0.saturating_add(micros))
    }

    /// So much earlier.
    pub(crate) fn minus(self, micros: i64) -> Micros {
        Micros(self.0.saturating_sub(micros))
    }
}

impl<L: Lines> Archive<L> {
    /// Sorts and joins what the catalog knows; pieces of no length count for nothing, and those that
    /// are in order cost least.
    pub(crate) fn of(
        bases: Vec<Base<L>>,
        logs: BTreeMap<L::Lineage, Vec<LogEntry<L::At>>>,
        known: L::Known,
    ) -> Archive<L> {
        let logs = logs.into_iter().map(|(lineage, entries)| (lineage, Log::of(entries)));
        let logs = logs.filter(|(_, log)| !log.entries.is_empty()).collect();
        let (foreign, once) = (BTreeMap::new(), BTreeMap::new());
        Archive { bases, bad: Vec::new(), logs, known, foreign, once }
    }

    /// Remembers positions across which nothing leads in the log of a lineage.
    pub(crate) fn bar(&mut self, at: impl IntoIterator<Item = (L::Lineage, L::At)>, why: Why) {
        for (lineage, at) in at {
            if let Some(log) = self.logs.get_mut(&lineage) {
                log.bar([Barrier { at, why }]);
            }
        }
    }

    /// Remembers that log of a lineage follows the log before it at these positions, as something else
    /// than the pieces tells.
    pub(crate) fn prove(&mut self, lineage: L::Lineage, proven: &BTreeSet<L::At>) {
        if let Some(log) = self.logs.get_mut(&lineage) {
            log.unproven.retain(|at| !proven.contains(at));
        }
    }

    /// Remembers pieces (their first bytes, and behind their last ones) that cannot be used: nothing
    /// leads across what no other piece covers of them.
    pub(crate) fn damage(&mut self, pieces: &[(L::Lineage, L::At, L::At)], why: Why) {
        if pieces.is_empty() {
            return;
        }
        for (lineage, log) in &mut self.logs {
            let of = pieces.iter().filter(|(of, ..)| of == lineage);
            let bad: BTreeSet<(L::At, L::At)> = of.map(|(_, start, end)| (*start, *end)).collect();
            let whole = log.entries.iter().filter(|entry| !bad.contains(&entry.range()));
            let whole = joined(whole.map(|entry| Range { start: entry.start, end: entry.end }));
            let there = log.entries.iter().map(LogEntry::range).filter(|range| bad.contains(range));
            let bare = there.flat_map(|range| uncovered(range, &whole));
            let bare: Vec<L::At> = bare.collect();
            log.bar(bare.into_iter().map(|at| Barrier { at, why }));
        }
    }

    /// Takes other pieces, in order, for one that cannot be used: together they hold all that it holds, or
    /// its beginning. Then it stays for what they lack.
    pub(crate) fn replace(
        &mut self,
        lineage: L::Lineage,
        piece: (L::At, L::At),
        parts: Vec<LogEntry<L::At>>,
    ) {
        let Some(log) = self.logs.get_mut(&lineage) else { return };
        let Some(at) = log.entries.iter().position(|entry| entry.range() == piece) else { return };
        let is_all = parts.iter().map(|part| part.end).max() >= Some(piece.1);
        log.entries.splice(at..at + usize::from(is_all), parts);
        log.entries.sort_by_key(LogEntry::range);
        let found = conflicts(&log.entries);
        log.bar(found);
    }

    /// Remembers that log of a lineage was there up to a position, and why it does not count.
    pub(crate) fn was_there(
        &mut self,
        known: impl IntoIterator<Item = (L::Lineage, L::At)>,
        why: Why,
    ) {
        for (lineage, end) in known {
            let at = self.once.entry(lineage).or_insert((end, why));
            *at = (end, why).max(*at);
        }
    }

    /// Up to where log of lineages was there once, and why it does not count.
    pub(crate) fn once(&self) -> impl Iterator<Item = (L::Lineage, (L::At, Why))> {
        self.once.iter().map(|(lineage, end)| (*lineage, *end))
    }

    /// The last time of a commit or abort in all log, and of all bases: by the clocks of those who
    /// wrote it.
    pub(crate) fn last_seen(&self) -> Option<Timestamp> {
        let entries = self.logs.values().flat_map(|log| &log.entries);
        let commits = entries.filter_map(|entry| commits(entry)?.1.time());
        commits.chain(self.all_bases().map(|base| base.stood.told())).max()
    }

    /// The first such time.
    pub(crate) fn first_seen(&self) -> Option<Timestamp> {
        let entries = self.logs.values().flat_map(|log| &log.entries);
        let commits = entries.filter_map(|entry| commits(entry)?.0.time());
        commits.chain(self.all_bases().map(|base| base.stood.told())).min()
    }

    /// The pieces of a lineage, in order.
    pub(crate) fn entries(&self, lineage: L::Lineage) -> &[LogEntry<L::At>] {
        self.logs.get(&lineage).map_or(&[][..], |log| &log.entries)
    }

    /// Where the last record ends that a replay of a lineage's log up to `reach` comes to.
    pub(crate) fn last_record(&self, lineage: L::Lineage, reach: L::At) -> Option<L::At> {
        let within = self.entries(lineage).iter().filter(|entry| entry.end <= reach);
        within.filter_map(LogEntry::record_end).max()
    }

    /// The pieces of a lineage's log that end behind `from` and hold a commit of the time `at` or
    /// earlier, as far as pieces tell.
    pub(crate) fn early(
        &self,
        lineage: L::Lineage,
        from: L::At,
        at: Timestamp,
    ) -> impl Iterator<Item = (L::At, L::At)> {
        let at = Micros::of(at);
        let early = move |entry: &&LogEntry<L::At>| {
            entry.end > from && commits(entry).is_some_and(|(first, _)| first <= at)
        };
        self.entries(lineage).iter().filter(early).map(LogEntry::range)
    }

    /// Whether a base or a piece lies on it.
    pub(crate) fn mentions(&self, lineage: L::Lineage) -> bool {
        self.logs.contains_key(&lineage) || self.all_bases().any(|base| base.lineage == lineage)
    }

    /// Those that were found bad among them.
    pub(crate) fn all_bases(&self) -> impl Iterator<Item = &Base<L>> {
        self.bases.iter().chain(&self.bad)
    }
}

/// Where each stretch of a range begins that none of these covers, which are in order.
fn uncovered<P: Position>((start, end): (P, P), spans: &[Range<P>]) -> Vec<P> {
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

impl<P: Position> Log<P> {
    fn of(mut entries: Vec<LogEntry<P>>) -> Log<P> {
        let is_ready = |pair: &[LogEntry<P>]| match pair {
            [one, other] => one.range() <= other.range() && other.start < other.end,
            _ => false,
        };
        // Nearly always they come in order, and all of them count: a million are not moved then.
        let first = entries.first().is_some_and(|first| first.start < first.end);
        if !first || !entries.windows(2).all(is_ready) {
            entries.retain(|entry| entry.start < entry.end);
            entries.sort_by_key(LogEntry::range);
        }
        let range = |entry: &LogEntry<P>| Range { start: entry.start, end: entry.end };
        let spans = joined(entries.iter().map(range));
        let (barriers, unproven) = (conflicts(&entries), unproven(&entries));
        Log { entries, spans, barriers, unproven }
    }

    fn bar(&mut self, barriers: impl IntoIterator<Item = Barrier<P>>) {
        self.barriers.extend(barriers);
        self.barriers.sort_unstable();
        self.barriers.dedup();
    }
}

/// The least and the greatest time of the commits and aborts in a piece.
pub(crate) fn commits<P: Position>(entry: &LogEntry<P>) -> Option<(Micros, Micros)> {
    entry.commits().map(|(first, last)| (Micros(first), Micros(last)))
}

/// Ranges in the order of their starts, those joined that touch or overlap.
pub(super) fn joined<P: Position>(ranges: impl IntoIterator<Item = Range<P>>) -> Vec<Range<P>> {
    let mut joined: Vec<Range<P>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}
