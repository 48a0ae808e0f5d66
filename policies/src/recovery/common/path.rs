use std::cmp::Reverse;
use std::collections::BTreeMap;

use drctl_model::{BackupId, LogEntry, Position};

use super::archive::{Archive, Log, Micros, Range, commits, joined};
use super::binding::{Barrier, cut, follows};
use super::{Base, Gap, Leg, Lines, Unproven, Why};

/// The log that leads to a lineage: its ancestors' up to where each was left, then its own.
///
/// A later lineage on the path may also have what belongs to an ancestor: where a server copies
/// what it was writing when it left that one, the ancestor's own is often not there. The copy is as
/// good.
pub(crate) struct Path<'a, L: Lines> {
    /// Where it leads.
    pub(crate) lineage: L::Lineage,
    /// Oldest first, and where each was left.
    ancestors: Vec<(L::Lineage, L::At)>,
    /// Oldest first.
    parts: Vec<Part<'a, L>>,
    /// All that is there, whosever log it lies in, as far as one leads to the next.
    pub(crate) spans: Vec<Range<L::At>>,
    /// Where log is there on both sides and nothing leads across.
    barriers: Vec<Barrier<L::At>>,
    /// Up to where its log was there once, as something else than the log tells, and why that does
    /// not count.
    once: Option<(L::At, Why)>,
    known: &'a L::Known,
    /// Bases of another history than the log around them.
    foreign: &'a BTreeMap<BackupId, Gap<L>>,
    /// Those that lie wholly on it: good before suspect, then newest first.
    pub(crate) bases: Vec<&'a Base<L>>,
}

struct Part<'a, L: Lines> {
    lineage: L::Lineage,
    log: &'a Log<L::At>,
    /// Where it was left.
    until: L::At,
}

/// A piece as far as it lies on a path.
#[derive(Clone, Copy)]
pub(crate) struct Seen<P> {
    pub(crate) start: P,
    pub(crate) end: P,
    pub(crate) commits: Option<(Micros, Micros)>,
    /// The least transaction, and how many follow up to the greatest.
    pub(crate) transactions: Option<(u32, u32)>,
    /// Where its last record ends, where one does.
    pub(super) record_end: Option<P>,
    /// Whether all of it does; else its commits may be of what was left behind.
    pub(crate) whole: bool,
}

impl<'a, L: Lines> Path<'a, L> {
    /// The path to a lineage, where it is known what leads there.
    pub(crate) fn to(archive: &'a Archive<L>, lineage: L::Lineage) -> Option<Path<'a, L>> {
        let ancestors = L::ancestors(&archive.known, lineage)?;
        let steps = ancestors.iter().copied().chain([(lineage, L::At::last())]);
        let parts: Vec<Part<'a, L>> = steps
            .filter_map(|(lineage, until)| {
                let log = archive.logs.get(&lineage)?;
                Some(Part { lineage, log, until })
            })
            .collect();
        let mut ranges: Vec<Range<L::At>> = parts.iter().flat_map(Part::spans).collect();
        ranges.sort_by_key(|range| (range.start, range.end));
        let barriers = barriers(&parts);
        let spans = cut(joined(ranges), &barriers);
        let (once, bases) = (None, Vec::new());
        let Archive { known, foreign, .. } = archive;
        let mut path =
            Path { lineage, ancestors, parts, spans, barriers, once, known, foreign, bases };
        let told = archive.once().filter(|(of, _)| path.holds(*of));
        let within = |of, end: L::At| path.left(of).map_or(end, |left| left.min(end));
        path.once = told.map(|(of, (end, why))| (within(of, end), why)).max();
        path.bases = archive.bases.iter().filter(|base| path.is_led_to_by(base)).collect();
        path.bases.sort_by_key(|b| Reverse((b.good, b.stop, b.start, &b.backup)));
        path.bases.dedup_by_key(|b| &b.backup);
        Some(path)
    }

    /// How much log lies between two positions, in bytes.
    pub(crate) fn amount(&self, from: L::At, until: L::At) -> u64 {
        L::amount(self.known, from, until)
    }

    /// The lineages on the way, oldest first, and where each was left for the next.
    pub(crate) fn ancestors(&self) -> &[(L::Lineage, L::At)] {
        &self.ancestors
    }

    /// From where on the lineage goes its own way.
    pub(crate) fn begins(&self) -> L::At {
        self.ancestors.last().map_or(L::At::first(), |(_, until)| *until)
    }

    /// Where a lineage was left on the way: nothing for the one to which it leads, and for one that
    /// is no ancestor.
    pub(crate) fn left(&self, lineage: L::Lineage) -> Option<L::At> {
        self.ancestors.iter().find(|(of, _)| *of == lineage).map(|(_, until)| *until)
    }

    /// Whether a lineage is the one to which it leads or an ancestor of it.
    pub(crate) fn holds(&self, lineage: L::Lineage) -> bool {
        lineage == self.lineage || self.left(lineage).is_some()
    }

    /// The lineage whose log holds a position on the way.
    fn owner_of(&self, at: L::At) -> L::Lineage {
        let ancestor = self.ancestors.iter().find(|(_, until)| at < *until);
        ancestor.map_or(self.lineage, |(lineage, _)| *lineage)
    }

    /// Whether a base leads to the lineage: taken on it or on an ancestor, and ended before that one
    /// was left.
    fn is_led_to_by(&self, base: &Base<L>) -> bool {
        let left = self.left(base.lineage).unwrap_or(L::At::last());
        self.holds(base.lineage) && base.start <= base.stop && base.stop <= left
    }

    /// The pieces part by part, each in order.
    pub(super) fn parts(&self) -> impl Iterator<Item = impl Iterator<Item = Seen<L::At>>> {
        self.parts.iter().map(|part| part.pieces(0))
    }

    /// The pieces, each part in order; where the parts meet a few may overlap.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Seen<L::At>> {
        self.parts.iter().flat_map(|part| part.pieces(0))
    }

    /// The pieces that begin within a range and end there too.
    pub(super) fn pieces_within(
        &self,
        start: L::At,
        end: L::At,
    ) -> impl Iterator<Item = Seen<L::At>> {
        self.parts.iter().flat_map(move |part| {
            let first = part.log.entries.partition_point(|entry| entry.start < start);
            let begun = part.pieces(first).take_while(move |seen| seen.start < end);
            begun.filter(move |seen| seen.end <= end)
        })
    }

    /// The last commit in the nearest piece that begins before a position and has any.
    pub(super) fn last_before(&self, at: L::At) -> Option<Micros> {
        self.parts.iter().rev().find_map(|part| {
            let first = part.log.entries.partition_point(|entry| entry.start < at);
            let before = part.log.entries.get(..first).unwrap_or_default();
            before.iter().rev().find_map(|entry| Seen::of(entry, part.until).last())
        })
    }

    /// Whether no record begins at a position or later in the log that ends at `end`.
    pub(super) fn is_last(&self, at: L::At, end: L::At) -> bool {
        let last = self.parts.iter().rev().find_map(|part| {
            let first = part.log.entries.partition_point(|entry| entry.start < end);
            let before = part.log.entries.get(..first).unwrap_or_default();
            let ends = |entry: &&LogEntry<L::At>| entry.end.min(part.until) == end;
            before.iter().rev().find(ends).map(|entry| Seen::of(entry, part.until))
        });
        at == end || last.and_then(|seen| seen.record_end).is_some_and(|record| record <= at)
    }

    /// Where nothing leads across, though log is there on both sides.
    pub(super) fn barrier_at(&self, at: L::At) -> Option<Barrier<L::At>> {
        self.barriers.iter().find(|barrier| barrier.at == at).copied()
    }

    /// Where a base follows another history than the log around it.
    pub(crate) fn foreign(&self, base: &Base<L>) -> Option<Gap<L>> {
        self.foreign.get(&base.backup).copied()
    }

    /// The least end of the pieces that hold a position.
    pub(super) fn end_of_piece_at(&self, at: L::At) -> Option<L::At> {
        let holding = self.parts.iter().flat_map(|part| {
            part.pieces(0).take_while(|seen| seen.start <= at).filter(|seen| at < seen.end)
        });
        holding.map(|seen| seen.end).min()
    }

    /// The contiguous log in which a position lies.
    pub(super) fn span_at(&self, at: L::At) -> Option<Range<L::At>> {
        let after = self.spans.partition_point(|span| span.start <= at);
        let span = self.spans.get(after.checked_sub(1)?)?;
        (at < span.end).then_some(*span)
    }

    /// Whether another lineage of the path has the log at a position too, which lies on `lineage`.
    pub(crate) fn has_copy(&self, lineage: L::Lineage, at: L::At) -> bool {
        let others = self.parts.iter().filter(|part| part.lineage != lineage);
        others.filter_map(|part| part.holding(at)).next().is_some()
    }

    /// Where it is not known whether log follows the log before it that is there, by position.
    pub(crate) fn unproven(&self) -> Vec<Unproven<L>> {
        let of = |part: &Part<'a, L>| (part.lineage, part.until, part.log);
        let all = self.parts.iter().map(of).flat_map(|(lineage, until, log)| {
            let on_it = log.unproven.iter().filter(move |at| **at < until);
            on_it.map(move |at| (*at, lineage))
        });
        let within = |at: &L::At| self.span_at(*at).is_some_and(|span| span.start < *at);
        let mut all: Vec<_> = all.filter(|(at, _)| within(at)).collect();
        all.sort_unstable();
        all.dedup_by_key(|(at, _)| *at);
        let told = |(at, lineage)| {
            let last = self.last_before(at).and_then(Micros::time);
            Unproven { lineage, at, last }
        };
        all.into_iter().map(told).collect()
    }

    /// Where the log ends.
    pub(crate) fn end(&self) -> L::At {
        self.spans.last().map_or(L::At::first(), |span| span.end)
    }

    /// What is missing from a position on, where nothing is there.
    pub(crate) fn gap_at(&self, from: L::At) -> Gap<L> {
        let lineage = self.owner_of(from);
        if let Some(barrier) = self.barrier_at(from) {
            return Gap { lineage, from, until: None, why: barrier.why };
        }
        let next = self.spans.iter().find(|span| span.start > from);
        Gap { lineage, from, until: next.map(|span| span.start), why: Why::Missing }
    }

    /// What was there once behind the end of all log, or must have been, since the lineage was left
    /// later or begins later.
    pub(crate) fn lost_end(&self) -> Option<Gap<L>> {
        self.behind_end(self.once.max(Some((self.begins(), Why::Missing))))
    }

    /// The same as far as something tells that it was there.
    pub(crate) fn known_end(&self) -> Option<Gap<L>> {
        self.behind_end(self.once)
    }

    fn behind_end(&self, once: Option<(L::At, Why)>) -> Option<Gap<L>> {
        let (from, (until, why)) = (self.end(), once?);
        // Without any log nothing tells where what is missing begins.
        let lost = !self.spans.is_empty() && from < until;
        let lineage = self.owner_of(from);
        lost.then_some(Gap { lineage, from, until: Some(until), why })
    }

    /// Those between the stretches of the path that end on the lineage itself.
    pub(crate) fn gaps(&self) -> Vec<Gap<L>> {
        let between = self.spans.windows(2).filter_map(|pair| match pair {
            [before, after] => Some((before.end, after.start)),
            _ => None,
        });
        // One right before the branch is nobody else's: the ancestor's log ends there.
        let (begins, own_from) = (self.begins(), self.own_from());
        let own = between.filter(|(_, until)| *until > begins || Some(*until) == own_from);
        own.map(|(from, _)| self.gap_at(from)).chain(self.lost_end()).collect()
    }

    /// Where the lineage's own log begins, what it has of its ancestors' included.
    fn own_from(&self) -> Option<L::At> {
        let own = self.parts.iter().find(|part| part.lineage == self.lineage)?;
        own.log.spans.first().map(|span| span.start)
    }

    /// Whose log to read, from one position to another between which nothing is missing.
    ///
    /// The owner's log where it is there, a descendant's copy where it is not.
    pub(super) fn legs(&self, from: L::At, until: L::At) -> Vec<Leg<L>> {
        let mut legs = Vec::new();
        let mut at = from;
        while at < until {
            let Some((lineage, end)) = self.parts.iter().find_map(|part| part.holding(at)) else {
                break;
            };
            let end = end.min(until);
            legs.push(Leg { lineage, from: at, until: end });
            at = end;
        }
        legs
    }

    /// Whether the lineage itself has log of its own.
    pub(crate) fn has_own_log(&self) -> bool {
        let own = self.parts.iter().find(|part| part.lineage == self.lineage);
        own.and_then(|part| part.log.spans.last()).is_some_and(|span| span.end > self.begins())
    }
}

impl<L: Lines> Part<'_, L> {
    fn spans(&self) -> impl Iterator<Item = Range<L::At>> {
        let begun = self.log.spans.iter().take_while(|span| span.start < self.until);
        begun.map(|span| Range { start: span.start, end: span.end.min(self.until) })
    }

    fn pieces(&self, first: usize) -> impl Iterator<Item = Seen<L::At>> {
        let entries = self.log.entries.get(first..).unwrap_or_default();
        let begun = entries.iter().take_while(|entry| entry.start < self.until);
        begun.map(|entry| Seen::of(entry, self.until))
    }

    fn holding(&self, at: L::At) -> Option<(L::Lineage, L::At)> {
        let spans = &self.log.spans;
        let after = spans.partition_point(|span| span.start <= at);
        let end = spans.get(after.checked_sub(1)?)?.end.min(self.until);
        (at < end).then_some((self.lineage, end))
    }
}

impl<P: Position> Seen<P> {
    fn of(entry: &LogEntry<P>, until: P) -> Seen<P> {
        Seen {
            start: entry.start,
            end: entry.end.min(until),
            commits: commits(entry),
            transactions: entry.transactions(),
            record_end: entry.record_end().filter(|_| entry.end <= until),
            whole: entry.end <= until,
        }
    }

    /// The greatest time that is surely of a commit on the path.
    pub(crate) fn last(&self) -> Option<Micros> {
        self.commits.filter(|_| self.whole).map(|(_, last)| last)
    }
}

/// Where nothing leads across on the way: within each lineage's log, and from one to the next.
fn barriers<L: Lines>(parts: &[Part<'_, L>]) -> Vec<Barrier<L::At>> {
    let mut found: Vec<Barrier<L::At>> = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        found.extend(part.log.barriers.iter().filter(|barrier| barrier.at < part.until));
        let Some(first) = part.log.entries.first() else { continue };
        let follows = parts.iter().take(index).filter_map(|before| {
            let end = before.log.entries.partition_point(|entry| entry.start < first.start);
            follows(before.log.entries.get(..end)?, first)
        });
        if follows.reduce(|one, other| one || other) == Some(false) {
            found.push(Barrier { at: first.start, why: Why::OtherHistory });
        }
    }
    found.sort_unstable();
    found.dedup_by_key(|barrier| barrier.at);
    found
}
