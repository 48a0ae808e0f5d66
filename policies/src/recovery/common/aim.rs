use drctl_model::Position;
use jiff::Timestamp;

use super::archive::{Micros, Range};
use super::path::{Path, Seen};
use super::{Base, Gap, Lines, Stood};

/// How finely a checkpoint tells when it was begun, in microseconds.
const SECOND: i64 = 1_000_000;

/// What a recovery is to reach, as far as all engines have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal<P> {
    /// All that was committed at this time or before (to the microsecond, rounded down).
    Time(Timestamp),
    /// All records that begin before a position; whether the first one that begins there or later
    /// is to be in the result too.
    Position { at: P, inclusive: bool },
    /// Something that lies in the log not before `lo`, and that the log up to `hi` holds. How many
    /// pieces may hold it, where only the replay shows which one does; 0 where that is known.
    Within { lo: P, hi: P, pieces: usize },
    /// All that there is.
    Latest,
}

/// The same, looked up on a path: where in the log it is, as far as the pieces tell.
pub(super) enum Aim<P> {
    /// By time: where that is depends on the base.
    Time { at: Micros, late: Vec<Late<P>> },
    /// Not before `lo`; the log up to `hi` holds it. How many pieces may, where that is not known.
    Position { lo: P, hi: P, pieces: usize },
    /// All records that begin before `at`; the log up to `hi` shows where that is.
    Before { at: P, hi: P },
    /// The end.
    Latest,
}

/// A piece with commits at the target or later.
pub(super) struct Late<P> {
    start: P,
    end: P,
    /// The greatest end of this and all that begin earlier.
    reach: P,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Surely holds a commit later than the target.
    Later,
    /// May hold one: part of it was left behind at a promotion.
    Perhaps,
    /// Its last commit is at the target.
    Exact,
}

/// How far a base leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached<P> {
    /// The server does not stop earlier.
    pub(super) lo: P,
    /// The log up to here is enough.
    pub(super) hi: P,
    /// The end of the contiguous log.
    pub(super) reach: P,
    /// Whether only the end of the log ends the replay.
    pub(super) at_end: bool,
}

/// Why a base does not lead to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Miss<L: Lines> {
    /// It ended later.
    EndedAfter,
    /// Something is missing.
    Cut(Gap<L>),
    /// The log ends too early.
    AfterEnd { end: L::At },
}

impl<P: Position> Aim<P> {
    pub(super) fn at<L: Lines<At = P>>(path: &Path<'_, L>, goal: &Goal<P>) -> Aim<P> {
        match *goal {
            Goal::Time(at) => {
                let at = Micros::of(at);
                let led = path.bases.iter().filter(|base| at >= consistent_since(path, base));
                let stop = led.map(|base| base.stop).max();
                Aim::Time { at, late: stop.map_or(Vec::new(), |stop| late(path, at, stop)) }
            }
            Goal::Position { at, inclusive } => {
                let hi = path.end_of_piece_at(at).unwrap_or(at.plus(1));
                match inclusive {
                    true => Aim::Position { lo: at, hi, pieces: 0 },
                    false => Aim::Before { at, hi },
                }
            }
            Goal::Within { lo, hi, pieces } => Aim::Position { lo, hi, pieces },
            Goal::Latest => Aim::Latest,
        }
    }

    /// Whether and how far a base leads to it.
    pub(super) fn from<L: Lines<At = P>>(
        &self,
        path: &Path<'_, L>,
        base: &Base<L>,
    ) -> Result<Reached<P>, Miss<L>> {
        if self.is_before(path, base) {
            return Err(Miss::EndedAfter);
        }
        let span = consistent(path, base)?;
        let end = span.end;
        let open = Reached { lo: end, hi: end, reach: end, at_end: true };
        match self {
            Aim::Latest => Ok(open),
            // Nothing is behind it that would end the replay.
            Aim::Before { at, .. } if *at <= end && path.is_last(*at, end) => Ok(open),
            Aim::Before { at, hi } if *hi <= end => {
                Ok(Reached { lo: *at, hi: *hi, reach: end, at_end: false })
            }
            Aim::Before { at, .. } if *at >= path.end() => Err(Miss::AfterEnd { end }),
            Aim::Before { .. } => Err(Miss::Cut(path.gap_at(end))),
            Aim::Position { lo, hi, .. } if *hi <= end => {
                Ok(Reached { lo: *lo, hi: *hi, reach: end, at_end: false })
            }
            Aim::Position { lo, .. } if *lo >= path.end() => Err(Miss::AfterEnd { end }),
            Aim::Position { .. } => Err(Miss::Cut(path.gap_at(end))),
            Aim::Time { late, .. } => match passed(late, base.stop, span) {
                Passed::Between { lo, hi } => Ok(Reached { lo, hi, reach: end, at_end: false }),
                Passed::AtLast => Ok(open),
                Passed::Never
                    if late.iter().any(|late| late.is_behind(end) || late.crosses(end)) =>
                {
                    Err(Miss::Cut(path.gap_at(end)))
                }
                Passed::Never => Err(Miss::AfterEnd { end }),
            },
        }
    }

    fn is_before<L: Lines<At = P>>(&self, path: &Path<'_, L>, base: &Base<L>) -> bool {
        match self {
            Aim::Time { at, .. } => *at < consistent_since(path, base),
            Aim::Position { lo, .. } | Aim::Before { at: lo, .. } => *lo < base.stop,
            Aim::Latest => false,
        }
    }

    /// How far a base leads in the midst of the pieces that may hold the target: whether it
    /// ended behind the base only the replay shows.
    pub(super) fn perhaps<L: Lines<At = P>>(
        &self,
        path: &Path<'_, L>,
        base: &Base<L>,
    ) -> Option<Reached<P>> {
        let Aim::Position { lo, hi, pieces: 1.. } = self else { return None };
        let span = consistent(path, base).ok()?;
        let inside = *lo < base.stop && base.stop < *hi && *hi <= span.end;
        inside.then_some(Reached { lo: base.stop, hi: *hi, reach: span.end, at_end: false })
    }

    /// The time up to which commits are in the result, where the target is a time.
    pub(super) fn time(&self) -> Option<Micros> {
        match self {
            Aim::Time { at, .. } => Some(*at),
            _ => None,
        }
    }
}

/// The earliest time that a base can be recovered to.
///
/// That of the last commit before its end, by the log; where that tells none, when it was by the
/// clock of the server. And a server that meets a later commit before the base is consistent stops
/// there and fails.
pub(crate) fn consistent_since<L: Lines>(path: &Path<'_, L>, base: &Base<L>) -> Micros {
    let inside = path.pieces_within(base.start, base.stop);
    let last = inside.filter_map(|seen| seen.last()).max();
    let stood = match base.stood {
        Stood::Log { last_commit: Some(at), .. } | Stood::Server(at) => Micros::above(at),
        Stood::Log { last_commit: None, checkpoint } => {
            // Nothing was committed while it was made, and nothing before that was later than this.
            let before = Micros::above(checkpoint).plus(SECOND);
            path.last_before(base.start).map_or(before, |last| last.min(before))
        }
        Stood::Host(at) => path.last_before(base.stop).unwrap_or(Micros::above(at)),
    };
    stood.max(last.unwrap_or(Micros(i64::MIN)))
}

/// What is missing of the log that makes a base consistent.
pub(crate) fn cut<L: Lines>(path: &Path<'_, L>, base: &Base<L>) -> Option<Gap<L>> {
    match consistent(path, base) {
        Err(Miss::Cut(gap)) => Some(gap),
        _ => None,
    }
}

/// The log that makes a base consistent, and what follows it.
pub(super) fn consistent<L: Lines>(
    path: &Path<'_, L>,
    base: &Base<L>,
) -> Result<Range<L::At>, Miss<L>> {
    if let Some(gap) = path.foreign(base) {
        return Err(Miss::Cut(gap));
    }
    let span = path.span_at(base.start).ok_or_else(|| Miss::Cut(path.gap_at(base.start)))?;
    if span.end < base.stop {
        return Err(Miss::Cut(path.gap_at(span.end)));
    }
    Ok(span)
}

impl<P: Position> Late<P> {
    fn of(seen: Seen<P>, at: Micros) -> Option<Late<P>> {
        let (_, last) = seen.commits?;
        let kind = match (seen.whole, last > at) {
            (true, true) => Kind::Later,
            (false, true) => Kind::Perhaps,
            (true, false) if last == at => Kind::Exact,
            _ => return None,
        };
        Some(Late { start: seen.start, end: seen.end, reach: seen.end, kind })
    }

    /// Whether it lies on both sides of a position.
    fn crosses(&self, at: P) -> bool {
        self.start < at && at < self.end
    }

    /// Whether it shows that the log behind a gap leads to the target.
    fn is_behind(&self, gap: P) -> bool {
        self.start >= gap && self.kind != Kind::Perhaps
    }
}

/// The pieces with commits at the target or later, as far as they matter: the bases that are
/// asked for end at `stop` or before. Whoever comes to the first of these pieces that surely has a
/// later commit and ends behind `stop` needs nothing that begins behind it; whoever does not is
/// cut off from it.
fn late<L: Lines>(path: &Path<'_, L>, at: Micros, stop: L::At) -> Vec<Late<L::At>> {
    let mut late = Vec::new();
    let mut enough = L::At::last();
    for part in path.parts() {
        for seen in part {
            if seen.start >= enough {
                break;
            }
            let Some(one) = Late::of(seen, at) else { continue };
            if one.kind == Kind::Later && one.end > stop {
                enough = enough.min(one.end);
            }
            late.push(one);
        }
    }
    late.sort_by_key(|late| (late.start, late.end));
    let mut reach = L::At::first();
    for late in &mut late {
        reach = reach.max(late.end);
        late.reach = reach;
    }
    late
}

/// Where a server that replays from a base passes a time.
enum Passed<P> {
    /// At the first later commit, somewhere between.
    Between { lo: P, hi: P },
    /// Nowhere, but the last commit is at that very time.
    AtLast,
    /// Nowhere that is known.
    Never,
}

fn passed<P: Position>(late: &[Late<P>], stop: P, span: Range<P>) -> Passed<P> {
    let first = late.partition_point(|late| late.reach <= stop);
    let (mut lo, mut hi, mut exact) = (None, None, false);
    for late in late.get(first..).unwrap_or_default() {
        if late.start >= span.end || hi.is_some_and(|hi| late.start >= hi) {
            break;
        }
        if late.end <= stop {
            continue;
        }
        match late.kind {
            // What crosses a barrier may have its commits behind it.
            _ if late.crosses(span.end) => lo = lo.or(Some(late.start)),
            Kind::Exact => exact = true,
            Kind::Perhaps => lo = lo.or(Some(late.start)),
            Kind::Later => {
                lo = lo.or(Some(late.start));
                hi = Some(hi.map_or(late.end, |hi: P| hi.min(late.end)));
            }
        }
    }
    match (lo, hi) {
        (Some(lo), Some(hi)) => Passed::Between { lo: lo.max(stop), hi },
        // What may hold a later commit makes the end of the log no answer.
        (None, _) if exact => Passed::AtLast,
        _ => Passed::Never,
    }
}
