//! Which due times of a schedule have been taken notice of, whatever the clock does.

use jiff::{SignedDuration, Timestamp};

use super::{JobSpec, Rhythm};
use crate::schedule::Schedule;
use crate::window::may_begin;

/// How far a date may lie ahead of the clock and still be believed. See [`Slots`].
pub(super) const REACH: SignedDuration = SignedDuration::from_hours(2);

/// A run that begins by so much late is not late.
const GRACE: SignedDuration = SignedDuration::from_mins(1);

/// Missed runs are counted up to here.
pub(super) const MOST: u64 = 1_000;

/// So many dates of runs are kept.
const KEPT: usize = 64;

/// A place in the schedule: due times up to it are settled or owed, those behind it are to come.
///
/// The place only moves forward, so that nothing is due twice, with one exception. A date that lies
/// ahead of the clock says that one of the two is wrong:
///
/// - Up to two hours it may be this clock, which was set back a little: due times up to that date
///   have had their run and get no other, until the clock has caught up.
/// - A date that lies further ahead was written by a wrong clock. It is set aside: the place goes
///   back to the last date that does not lie ahead, or to now where there is none. So a wrong clock
///   that is mended never keeps a schedule silent for more than two hours.
///
/// What was set aside counts again if the clock leaps over all of it before any run begins: then it
/// was the other clock that was wrong, as on a host that boots without one. Once a run has begun by
/// the clock that was set back, or that clock has come close by itself, it is forgotten, and the
/// worst that happens then is one run too many.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    at: Timestamp,
    /// Dates up to which nothing is due any more, in the order in which they were noted.
    earlier: Vec<Timestamp>,
    /// Dates that were set aside.
    aside: Vec<Timestamp>,
    /// The first due time behind the place.
    next: Option<Timestamp>,
}

/// Due times that have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) count: u64,
    /// The last of those that could not begin in time, and how many they are: they come first.
    pub(super) late: Option<(Timestamp, u64)>,
}

impl JobSpec {
    pub(super) fn schedule(&self) -> Option<&Schedule> {
        match &self.rhythm {
            Rhythm::At(schedule) => Some(schedule),
            Rhythm::Always => None,
        }
    }

    /// When a run that is due then begins, if all else is well.
    pub(super) fn begins(&self, slot: Timestamp) -> Timestamp {
        let jitter = SignedDuration::try_from(self.jitter).unwrap_or(SignedDuration::MAX);
        slot.saturating_add(jitter).unwrap_or(Timestamp::MAX)
    }

    /// The latest due time whose run begins by now lies here or before.
    pub(super) fn due_by(&self, now: Timestamp) -> Timestamp {
        let jitter = SignedDuration::try_from(self.jitter).unwrap_or(SignedDuration::MAX);
        now.saturating_sub(jitter).unwrap_or(Timestamp::MIN)
    }

    /// Whether a run that was due could not begin in time although nothing but the agent was
    /// missing.
    fn is_late(&self, slot: Timestamp, now: Timestamp) -> bool {
        let begins = self.begins(slot);
        let begins = may_begin(self.window.as_ref(), &self.blackout, &self.zone, begins);
        begins.is_some_and(|at| at.saturating_add(GRACE).is_ok_and(|last| last < now))
    }
}

impl JobSpec {
    /// Up to which second due times are late; `late` is.
    fn late_until(&self, late: Timestamp, until: Timestamp, now: Timestamp) -> Timestamp {
        let (mut late, mut in_time) = (late.as_second(), until.as_second());
        if self.is_late(until, now) {
            return until;
        }
        while in_time - late > 1 {
            let middle = late + (in_time - late) / 2;
            let is_late = Timestamp::from_second(middle).is_ok_and(|slot| self.is_late(slot, now));
            if is_late {
                late = middle;
            } else {
                in_time = middle;
            }
        }
        Timestamp::from_second(late).unwrap_or(until)
    }
}

impl Slots {
    /// Nothing up to a time is due.
    pub(super) fn from(at: Timestamp, spec: &JobSpec) -> Self {
        Self::of_dates(at, vec![at], Vec::new(), spec)
    }

    /// With dates of runs, believed and set aside.
    pub(super) fn of_dates(
        at: Timestamp,
        earlier: Vec<Timestamp>,
        aside: Vec<Timestamp>,
        spec: &JobSpec,
    ) -> Self {
        let mut slots = Slots { at, earlier, aside, next: None };
        slots.look(spec);
        slots
    }

    /// The first due time that has not come yet.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.next
    }

    fn look(&mut self, spec: &JobSpec) {
        self.next = spec.schedule().and_then(|schedule| schedule.next_after(self.at));
    }

    fn go_to(&mut self, at: Timestamp, spec: &JobSpec) {
        self.at = at;
        self.look(spec);
    }

    fn note(&mut self, date: Timestamp) {
        if self.earlier.len() == KEPT {
            self.earlier.remove(0);
        }
        self.earlier.push(date);
    }

    /// What the clock shows now: dates are believed, or set aside.
    pub(super) fn set_clock(&mut self, now: Timestamp, spec: &JobSpec) {
        if is_far_ahead(self.at, now) {
            self.note(self.at);
            let ahead = self.earlier.extract_if(.., |date| *date > now);
            self.aside.extend(ahead);
            let at = self.earlier.iter().max().copied().unwrap_or(now);
            self.go_to(at, spec);
        }
        if let Some(last) = self.aside.iter().max().copied() {
            if last <= now {
                self.earlier.append(&mut self.aside);
                self.go_to(last.max(self.at), spec);
            } else if !is_far_ahead(last, now) {
                self.aside.clear();
            }
        }
    }

    /// When the clock comes close to what was set aside: whoever sees it there has not leapt.
    pub(super) fn comes_close_at(&self) -> Option<Timestamp> {
        self.aside.iter().max().and_then(|last| last.checked_sub(REACH).ok())
    }

    /// A run has begun: it serves what is due by now, and what was set aside is forgotten.
    pub(super) fn began(&mut self, now: Timestamp, spec: &JobSpec) {
        self.aside.clear();
        if now > self.at {
            self.go_to(now, spec);
        }
        self.note(self.at);
    }

    /// The schedule is another one: what is due by it from now on counts.
    pub(super) fn restart(&mut self, now: Timestamp, spec: &JobSpec) {
        self.aside.clear();
        self.go_to(now, spec);
        self.note(now);
    }

    /// The due times up to one that have come, which are noticed by that.
    pub(super) fn take(&mut self, until: Timestamp, now: Timestamp, spec: &JobSpec) -> Option<Due> {
        let schedule = spec.schedule()?;
        let before = self.at;
        let mut due: Option<Due> = None;
        let mut is_late = true;
        while let Some(slot) = self.next.filter(|slot| *slot <= until) {
            let due = due.get_or_insert(Due { first: slot, last: slot, count: 0, late: None });
            due.last = slot;
            due.count = (due.count + 1).min(MOST);
            is_late = is_late && spec.is_late(slot, now);
            if is_late {
                due.late = Some((slot, due.count));
            }
            let counted = due.count == MOST;
            self.go_to(slot, spec);
            if counted {
                // Only the last that is late, and the last of all, matter from here on.
                let last = if is_late { spec.late_until(slot, until, now) } else { until };
                if let Some(near) = shortly_before_last(schedule, last, slot) {
                    self.go_to(near, spec);
                }
            }
        }
        // A clock that has gone forward by much may come back.
        if due.is_some_and(|due| due.late.is_some()) {
            self.note(before);
        }
        due
    }
}

/// Whether the clock belies a date.
pub(super) fn is_far_ahead(date: Timestamp, now: Timestamp) -> bool {
    now.saturating_add(REACH).is_ok_and(|reach| date > reach)
}

/// A time before the last due time up to `until`, and close to it; `None`: that does not lie behind
/// `after`.
pub(super) fn shortly_before_last(
    schedule: &Schedule,
    until: Timestamp,
    after: Timestamp,
) -> Option<Timestamp> {
    let mut back = SignedDuration::from_hours(1);
    loop {
        let from = until.saturating_sub(back).ok().filter(|from| *from > after)?;
        if schedule.next_after(from).is_some_and(|slot| slot <= until) {
            return Some(from);
        }
        back = back.saturating_mul(2);
    }
}
