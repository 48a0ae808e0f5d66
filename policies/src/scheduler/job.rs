//! One job that runs by a schedule.

use std::collections::BTreeSet;

use drctl_model::{SourceId, planted};
use jiff::Timestamp;

use super::retry::pause_after;
use super::slots::{Due, Slots};
use super::{Action, JobKey, JobSpec, Missed, Outcome, Why, WhyMissed};
use crate::window::may_begin;

/// A job, what it owes, and what it does.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) spec: JobSpec,
    pub(super) slots: Slots,
    pub(super) owed: Option<Owed>,
    pub(super) running: Option<Running>,
    /// Since when a person wants a run.
    pub(super) by_hand: Option<Timestamp>,
    pub(super) paused: bool,
    /// No longer configured: it goes when its run has ended.
    pub(super) gone: bool,
    pub(super) last: Option<(Timestamp, Outcome)>,
    pub(super) missed: Option<Missed>,
}

/// A run that is due: one, for however many due times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owed {
    /// The newest due time.
    pub(super) slot: Timestamp,
    /// From when on it could have begun.
    pub(super) since: Timestamp,
    /// Whether it makes up for something.
    pub(super) late: bool,
    /// Attempts that failed.
    pub(super) failed: u32,
    /// When the next one may be.
    pub(super) retry_at: Option<Timestamp>,
}

/// A run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    /// What it is for.
    owed: Option<Owed>,
    /// Whether a person has stopped it.
    pub(super) cancelled: bool,
}

impl Job {
    pub(super) fn new(slots: Slots, spec: JobSpec) -> Self {
        Job {
            spec,
            slots,
            owed: None,
            running: None,
            by_hand: None,
            paused: false,
            gone: false,
            last: None,
            missed: None,
        }
    }

    /// Takes notice of what the clock shows, and of what has come due by that.
    pub(super) fn notice(&mut self, key: &JobKey, now: Timestamp, told: &mut Vec<Action>) {
        self.slots.set_clock(now, &self.spec);
        if let Some(owed) = &mut self.owed {
            // The clock may have been set back since.
            let latest = now.saturating_add(pause_after(owed.failed)).unwrap_or(Timestamp::MAX);
            owed.retry_at = owed.retry_at.map(|at| at.min(latest));
        }
        if self.gone {
            return;
        }
        let until = self.spec.due_by(now);
        if let Some(due) = self.slots.take(until, now, &self.spec) {
            let missed = if self.paused {
                Some((due.last, due.count, WhyMissed::Paused))
            } else {
                due.late.map(|(last, count)| (last, count, WhyMissed::AgentAway))
            };
            if missed.is_none() || !planted("missed-and-not-made-up-for") {
                self.owe(key, &due, missed.is_some(), told);
            }
            if let Some((last, count, why)) = missed {
                self.miss(key, Missed { first: due.first, last, count, why }, told);
            }
        }
    }

    fn miss(&mut self, key: &JobKey, missed: Missed, told: &mut Vec<Action>) {
        self.missed = Some(self.missed.map_or(missed, |before| join(before, missed)));
        told.push(Action::Missed { key: key.clone(), missed });
    }

    /// One run is owed for all that is due. After failures the newer due time begins anew.
    fn owe(&mut self, key: &JobKey, due: &Due, late: bool, told: &mut Vec<Action>) {
        let before = self.owed.take();
        if let Some(Owed { failed: attempts @ 1.., .. }) = before {
            told.push(Action::GaveUp { key: key.clone(), attempts });
        }
        let waiting = before.filter(|owed| owed.failed == 0);
        // Of what was late it was told.
        if let Some(Owed { slot, .. }) = waiting.filter(|owed| !owed.late) {
            let why = WhyMissed::Waited;
            self.miss(key, Missed { first: slot, last: slot, count: 1, why }, told);
        }
        let since = waiting.map_or_else(|| self.spec.begins(due.first), |owed| owed.since);
        let late = late || waiting.is_some_and(|owed| owed.late);
        self.owed = Some(Owed { slot: due.last, since, late, failed: 0, retry_at: None });
    }

    /// Since when it wants to begin, if it can as far as it alone is concerned.
    pub(super) fn wants(
        &self,
        key: &JobKey,
        now: Timestamp,
        breached: &BTreeSet<SourceId>,
    ) -> Option<Timestamp> {
        if self.running.is_some() || self.gone {
            return None;
        }
        let owed = || self.owed.filter(|_| self.opens(key, now, breached) == Some(now));
        self.by_hand.or_else(|| owed().map(|owed| owed.since))
    }

    /// When what is owed may begin, as far as the job alone is concerned; `None`: nothing is owed,
    /// or it never may.
    pub(super) fn opens(
        &self,
        key: &JobKey,
        now: Timestamp,
        breached: &BTreeSet<SourceId>,
    ) -> Option<Timestamp> {
        let owed = self.owed.filter(|_| !self.paused && !self.gone)?;
        let from = owed.retry_at.map_or(now, |at| at.max(now));
        self.may_begin(key, from, breached)
    }

    /// The first time from one on at which window and blackout let a run begin.
    pub(super) fn may_begin(
        &self,
        key: &JobKey,
        from: Timestamp,
        breached: &BTreeSet<SourceId>,
    ) -> Option<Timestamp> {
        let spec = &self.spec;
        let urgent =
            key.kind.makes_a_backup() && spec.rpo.is_some() && breached.contains(&key.source);
        let window = spec.window.as_ref().filter(|_| !urgent);
        let blackout = if planted("blackout-ignored") { &[] } else { &*spec.blackout };
        may_begin(window, blackout, &spec.zone, from)
    }

    /// Begins a run, for all that is due by now, also for what would begin later by its jitter.
    pub(super) fn begin(&mut self, key: &JobKey, now: Timestamp, told: &mut Vec<Action>) {
        if let Some(due) = self.slots.take(now, now, &self.spec) {
            self.owe(key, &due, false, told);
        }
        self.slots.began(now, &self.spec);
        let owed = self.owed.take();
        let why = match owed {
            _ if self.by_hand.take().is_some() => Why::ByHand,
            Some(Owed { failed: failed @ 1.., .. }) => Why::Retry(failed),
            Some(Owed { late: true, .. }) => Why::CatchUp,
            _ => Why::Scheduled,
        };
        self.running = Some(Running { owed, cancelled: false });
        told.push(Action::Start { key: key.clone(), due: owed.map(|owed| owed.slot), why });
    }

    /// The run has ended; `stopping`: the agent stops what runs.
    pub(super) fn ended(
        &mut self,
        key: &JobKey,
        (now, outcome): (Timestamp, Outcome),
        stopping: bool,
        told: &mut Vec<Action>,
    ) {
        let Some(run) = self.running.take() else { return };
        self.last = Some((now, outcome));
        if outcome == Outcome::Succeeded {
            self.missed = None;
        }
        let Some(mut owed) = run.owed.filter(|_| !run.cancelled) else { return };
        match outcome {
            Outcome::Stopped if stopping => {
                let newest = self.owed.map_or(owed.slot, |newer| newer.slot);
                self.owed = Some(Owed { slot: newest, late: true, ..owed });
            }
            Outcome::Succeeded | Outcome::Stopped => {}
            Outcome::Failed | Outcome::Died => {
                owed.failed = owed.failed.saturating_add(1);
                if owed.failed >= self.spec.attempts || self.owed.is_some() {
                    told.push(Action::GaveUp { key: key.clone(), attempts: owed.failed });
                } else {
                    owed.retry_at = now.checked_add(pause_after(owed.failed)).ok();
                    self.owed = Some(owed);
                }
            }
        }
    }

    /// A person stops what runs, or forgoes what waits.
    pub(super) fn cancel(&mut self, key: &JobKey, told: &mut Vec<Action>) {
        match &mut self.running {
            Some(run) if run.cancelled => {}
            Some(run) => {
                run.cancelled = true;
                told.push(Action::Cancel { key: key.clone() });
            }
            None => (self.by_hand, self.owed) = (None, None),
        }
    }

    /// Its configuration was read again. What is due by now stays owed.
    pub(super) fn reload(
        &mut self,
        key: &JobKey,
        spec: JobSpec,
        now: Timestamp,
        told: &mut Vec<Action>,
    ) {
        let other = self.gone || self.spec.rhythm != spec.rhythm;
        if !self.gone
            && (other || self.spec.jitter != spec.jitter)
            && let Some(due) = self.slots.take(now, now, &self.spec)
        {
            self.owe(key, &due, false, told);
        }
        self.spec = spec;
        self.gone = false;
        if other {
            self.slots.restart(now, &self.spec);
        }
    }
}

/// What was missed in all.
fn join(before: Missed, more: Missed) -> Missed {
    let count = before.count.saturating_add(more.count).min(super::slots::MOST);
    Missed { first: before.first, last: more.last, count, why: more.why }
}
