use drctl_model::Position;
use jiff::Timestamp;
use serde::Serialize;

use super::Lines;
use super::aim::Reached;
use super::archive::Micros;
use super::path::{Path, Seen};

/// How far behind each other commits may be written without a clock having been set back.
const RACE_MICROS: i64 = 1_000_000;

/// The last commit (or abort) up to the target, as far as the pieces tell. Equal where they tell
/// it exactly, but for the microseconds by which commits overtake each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LastCommit {
    /// No earlier than this.
    pub not_before: Option<Timestamp>,
    /// No later than this.
    pub not_after: Option<Timestamp>,
}

/// What a result does not hold, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Bytes of log behind the earliest position where the server may stop.
    pub bytes: u64,
    /// Commits later than this.
    pub after: Option<Timestamp>,
    /// The last commit that is lost; nothing where none is known to be.
    pub until: Option<Timestamp>,
}

/// What the pieces tell of the times around a stop. One walk over them.
pub(crate) struct Bounds<P> {
    lower: Option<Micros>,
    upper: Option<Micros>,
    lost: Option<Micros>,
    /// The earliest commit behind the stop that is clearly earlier than the target.
    pub(super) back: Option<Micros>,
    /// The first piece with commits behind the stop.
    next: Option<(P, Micros)>,
    /// The last commit that may be there or may have been left behind at a promotion.
    unsure: Option<Micros>,
}

impl<P: Position> Bounds<P> {
    pub(super) fn around<L: Lines<At = P>>(
        path: &Path<'_, L>,
        reached: &Reached<P>,
        at: Option<Micros>,
    ) -> Bounds<P> {
        let most = at.unwrap_or(Micros(i64::MAX));
        let (lower, upper, lost, back, next, unsure) = (None, None, None, None, None, None);
        let mut bounds = Bounds { lower, upper, lost, back, next, unsure };
        path.pieces().for_each(|seen| bounds.see(&seen, reached, at, most));
        bounds
    }

    fn see(&mut self, seen: &Seen<P>, reached: &Reached<P>, at: Option<Micros>, most: Micros) {
        let Some((first, last)) = seen.commits else { return };
        if seen.start < reached.hi && first <= most {
            self.upper = self.upper.max(Some(last.min(most)));
        }
        if !seen.whole {
            self.unsure = self.unsure.max(Some(last));
            return;
        }
        if seen.end <= reached.lo && last <= most {
            self.lower = self.lower.max(Some(last));
        }
        if seen.end > reached.lo {
            self.lost = self.lost.max(Some(last));
        }
        if seen.start >= reached.hi && first <= most.minus(RACE_MICROS) && at.is_some() {
            self.back = Some(self.back.map_or(first, |back| back.min(first)));
        }
        if seen.end > reached.hi && seen.start < reached.reach {
            self.offer(seen.end, last, at);
        }
    }

    fn offer(&mut self, end: P, last: Micros, at: Option<Micros>) {
        let later = at.is_none_or(|at| last > at);
        if later && self.next.is_none_or(|(next, _)| end < next) {
            self.next = Some((end, last));
        }
    }

    pub(super) fn last_commit(&self) -> LastCommit {
        let time = |at: Option<Micros>| at.and_then(Micros::time);
        LastCommit { not_before: time(self.lower), not_after: time(self.upper) }
    }

    /// The latest commit that may be in the result.
    pub(crate) fn latest(&self) -> Option<Micros> {
        self.upper
    }

    pub(super) fn loss<L: Lines<At = P>>(
        &self,
        path: &Path<'_, L>,
        reached: &Reached<P>,
        at: Option<Micros>,
    ) -> Loss {
        let behind = path.spans.iter().map(|span| (span.start.max(reached.lo), span.end));
        let behind = behind.filter(|(from, until)| from < until);
        let behind = behind.map(|(from, until)| path.amount(from, until));
        let after = at.or(self.lower);
        let lost = self.lost.filter(|lost| Some(*lost) > after);
        Loss {
            bytes: drctl_model::total(behind),
            after: after.and_then(Micros::time),
            until: lost.and_then(Micros::time),
        }
    }

    /// The next later time that can be reached from the same base.
    pub(super) fn later(&self) -> Option<Micros> {
        // Where nothing that is sure comes later, what is unsure must not either.
        self.next.map(|(_, at)| at).filter(|at| self.unsure <= Some(*at))
    }

    /// The next earlier time that can be reached from the same base: for a time, as the commit
    /// that shows the one shows the other too.
    pub(super) fn earlier(&self, at: Option<Micros>) -> Option<Micros> {
        self.lower.filter(|lower| at.is_some_and(|at| *lower < at))
    }
}
