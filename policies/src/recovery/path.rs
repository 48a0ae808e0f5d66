use std::cmp::Reverse;
use std::collections::BTreeMap;

use drctl_model::{BackupId, LogEntry, Lsn, Timeline, TimelineHistory};

use super::archive::{Archive, Log, Micros, Range, commits, joined};
use super::binding::{Barrier, cut, follows};
use super::{Base, Gap, Leg, Why};

/// The log that leads to a timeline: its ancestors' up to where each was left, then its own.
///
/// A later timeline on the path may also have what belongs to an ancestor: at a promotion
/// PostgreSQL copies the segment in which it happens, and the ancestor's own is often archived
/// only as `.partial`. The copy is as good.
pub(super) struct Path<'a> {
    pub(super) history: &'a TimelineHistory,
    /// Oldest first.
    parts: Vec<Part<'a>>,
    /// All that is there, whosever log it lies in, as far as one leads to the next.
    pub(super) spans: Vec<Range>,
    /// Where log is there on both sides and nothing leads across.
    barriers: Vec<Barrier>,
    /// Up to where its log was there once, as something else than the log tells.
    once: Lsn,
    /// Bases of another history than the log around them.
    foreign: &'a BTreeMap<BackupId, Gap>,
    /// Those that lie wholly on it: good before suspect, then newest first.
    pub(super) bases: Vec<&'a Base>,
}

struct Part<'a> {
    timeline: Timeline,
    log: &'a Log,
    /// Where it was left.
    until: Lsn,
}

/// A piece as far as it lies on a path.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) start: Lsn,
    pub(super) end: Lsn,
    pub(super) commits: Option<(Micros, Micros)>,
    /// The least transaction, and how many follow up to the greatest.
    pub(super) xids: Option<(u32, u32)>,
    /// Where its last record ends, where one does.
    pub(super) record_end: Option<Lsn>,
    /// Whether all of it does; else its commits may be of what was left behind.
    pub(super) whole: bool,
}

impl<'a> Path<'a> {
    /// The path to a timeline, where its history is known.
    pub(super) fn to(archive: &'a Archive, timeline: Timeline) -> Option<Path<'a>> {
        let history = archive.histories.get(&timeline)?;
        let steps = history.ancestors.iter().map(|a| (a.timeline, a.until));
        let parts: Vec<Part<'a>> = steps
            .chain([(timeline, Lsn(u64::MAX))])
            .filter_map(|(timeline, until)| {
                let log = archive.logs.get(&timeline)?;
                Some(Part { timeline, log, until })
            })
            .collect();
        let mut ranges: Vec<Range> = parts.iter().flat_map(Part::spans).collect();
        ranges.sort_by_key(|range| (range.start, range.end));
        let barriers = barriers(&parts);
        let (range, of) = (|r: &Range| (r.start, r.end), |start, end| Range { start, end });
        let spans = cut(joined(ranges), &barriers, range, of);
        let told = archive.once.iter().filter(|(of, _)| history.holds(**of));
        let told = told.map(|(of, end)| history.left(*of).map_or(*end, |left| left.min(*end)));
        let once = told.max().unwrap_or(Lsn(0)).max(history.begins());
        let mut bases: Vec<&Base> = archive.bases.iter().filter(|b| on(history, b)).collect();
        bases.sort_by_key(|b| Reverse((b.good, b.stop, b.start, &b.backup)));
        bases.dedup_by_key(|b| &b.backup);
        Some(Path { history, parts, spans, barriers, once, foreign: &archive.foreign, bases })
    }

    /// The pieces part by part, each in order.
    pub(super) fn parts(&self) -> impl Iterator<Item = impl Iterator<Item = Seen>> {
        self.parts.iter().map(|part| part.pieces(0))
    }

    /// The pieces, each part in order; where the parts meet a few may overlap.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Seen> {
        self.parts.iter().flat_map(|part| part.pieces(0))
    }

    /// The pieces that begin within a range and end there too.
    pub(super) fn pieces_within(&self, start: Lsn, end: Lsn) -> impl Iterator<Item = Seen> {
        self.parts.iter().flat_map(move |part| {
            let first = part.log.entries.partition_point(|entry| entry.start < start);
            let begun = part.pieces(first).take_while(move |seen| seen.start < end);
            begun.filter(move |seen| seen.end <= end)
        })
    }

    /// The last commit in the nearest piece that begins before `lsn` and has any.
    pub(super) fn last_before(&self, lsn: Lsn) -> Option<Micros> {
        self.parts.iter().rev().find_map(|part| {
            let first = part.log.entries.partition_point(|entry| entry.start < lsn);
            let before = part.log.entries.get(..first).unwrap_or_default();
            before.iter().rev().find_map(|entry| Seen::of(entry, part.until).last())
        })
    }

    /// Whether no record begins at `lsn` or later in the log that ends at `end`.
    pub(super) fn is_last(&self, lsn: Lsn, end: Lsn) -> bool {
        let last = self.parts.iter().rev().find_map(|part| {
            let first = part.log.entries.partition_point(|entry| entry.start < end);
            let before = part.log.entries.get(..first).unwrap_or_default();
            let ends = |entry: &&LogEntry| entry.end.min(part.until) == end;
            before.iter().rev().find(ends).map(|entry| Seen::of(entry, part.until))
        });
        lsn == end || last.and_then(|seen| seen.record_end).is_some_and(|record| record <= lsn)
    }

    /// Where nothing leads across, though log is there on both sides.
    pub(super) fn barrier_at(&self, lsn: Lsn) -> Option<Barrier> {
        self.barriers.iter().find(|barrier| barrier.at == lsn).copied()
    }

    /// Where a base follows another history than the log around it.
    pub(super) fn foreign(&self, base: &Base) -> Option<Gap> {
        self.foreign.get(&base.backup).copied()
    }

    /// The least end of the pieces that hold `lsn`.
    pub(super) fn end_of_piece_at(&self, lsn: Lsn) -> Option<Lsn> {
        let holding = self.parts.iter().flat_map(|part| {
            part.pieces(0).take_while(|seen| seen.start <= lsn).filter(|seen| lsn < seen.end)
        });
        holding.map(|seen| seen.end).min()
    }

    /// The contiguous log in which `lsn` lies.
    pub(super) fn span_at(&self, lsn: Lsn) -> Option<Range> {
        let after = self.spans.partition_point(|span| span.start <= lsn);
        let span = self.spans.get(after.checked_sub(1)?)?;
        (lsn < span.end).then_some(*span)
    }

    /// Whether another timeline of the path has the log at `lsn` too, which lies on `timeline`.
    pub(super) fn has_copy(&self, timeline: Timeline, lsn: Lsn) -> bool {
        let others = self.parts.iter().filter(|part| part.timeline != timeline);
        others.filter_map(|part| part.holding(lsn)).next().is_some()
    }

    /// Where the log ends.
    pub(super) fn end(&self) -> Lsn {
        self.spans.last().map_or(Lsn(0), |span| span.end)
    }

    /// What is missing from `lsn` on, where nothing is there.
    pub(super) fn gap_at(&self, lsn: Lsn) -> Gap {
        let timeline = self.history.timeline_at(lsn);
        if let Some(barrier) = self.barrier_at(lsn) {
            return Gap { timeline, from: lsn, until: None, why: barrier.why };
        }
        let next = self.spans.iter().find(|span| span.start > lsn);
        Gap { timeline, from: lsn, until: next.map(|span| span.start), why: Why::Missing }
    }

    /// What was there once behind the end of all log, or must have been, since the timeline was left
    /// later or begins later.
    pub(super) fn lost_end(&self) -> Option<Gap> {
        let (from, until) = (self.end(), self.once);
        // Without any log nothing tells where what is missing begins.
        let lost = !self.spans.is_empty() && from < until;
        let timeline = self.history.timeline_at(from);
        lost.then_some(Gap { timeline, from, until: Some(until), why: Why::Missing })
    }

    /// Where the timeline's own log begins, what it has of its ancestors' included.
    pub(super) fn own_from(&self) -> Option<Lsn> {
        let own = self.parts.iter().find(|part| part.timeline == self.history.timeline)?;
        own.log.spans.first().map(|span| span.start)
    }

    /// Whose log to read, from one position to another between which nothing is missing.
    ///
    /// The owner's log where it is there, a descendant's copy where it is not.
    pub(super) fn legs(&self, from: Lsn, until: Lsn) -> Vec<Leg> {
        let mut legs = Vec::new();
        let mut at = from;
        while at < until {
            let Some((timeline, end)) = self.parts.iter().find_map(|part| part.holding(at)) else {
                break;
            };
            let end = end.min(until);
            legs.push(Leg { timeline, from: at, until: end });
            at = end;
        }
        legs
    }

    /// Whether the timeline itself has log of its own.
    pub(super) fn has_own_log(&self) -> bool {
        let own = self.parts.iter().find(|part| part.timeline == self.history.timeline);
        own.and_then(|part| part.log.spans.last()).is_some_and(|s| s.end > self.history.begins())
    }
}

impl Part<'_> {
    fn spans(&self) -> impl Iterator<Item = Range> {
        let begun = self.log.spans.iter().take_while(|span| span.start < self.until);
        begun.map(|span| Range { start: span.start, end: span.end.min(self.until) })
    }

    fn pieces(&self, first: usize) -> impl Iterator<Item = Seen> {
        let entries = self.log.entries.get(first..).unwrap_or_default();
        let begun = entries.iter().take_while(|entry| entry.start < self.until);
        begun.map(|entry| Seen::of(entry, self.until))
    }

    fn holding(&self, lsn: Lsn) -> Option<(Timeline, Lsn)> {
        let spans = &self.log.spans;
        let after = spans.partition_point(|span| span.start <= lsn);
        let end = spans.get(after.checked_sub(1)?)?.end.min(self.until);
        (lsn < end).then_some((self.timeline, end))
    }
}

impl Seen {
    fn of(entry: &LogEntry, until: Lsn) -> Seen {
        Seen {
            start: entry.start,
            end: entry.end.min(until),
            commits: commits(entry),
            xids: entry.xids(),
            record_end: entry.record_end().filter(|_| entry.end <= until),
            whole: entry.end <= until,
        }
    }

    /// The greatest time that is surely of a commit on the path.
    pub(super) fn last(&self) -> Option<Micros> {
        self.commits.filter(|_| self.whole).map(|(_, last)| last)
    }
}

/// Where nothing leads across on the way: within each timeline's log, and from one to the next.
fn barriers(parts: &[Part<'_>]) -> Vec<Barrier> {
    let mut found: Vec<Barrier> = Vec::new();
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

/// Whether a base leads to the timeline: taken on it or on an ancestor, and ended before that one
/// was left.
fn on(history: &TimelineHistory, base: &Base) -> bool {
    let left = history.left(base.timeline).unwrap_or(Lsn(u64::MAX));
    history.holds(base.timeline) && base.start <= base.stop && base.stop <= left
}
