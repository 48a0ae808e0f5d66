//! What is owed, reckoned anew each time from all runs and all due times. It knows no clock that is
//! set, and holds what the scheduler does against what a plain reading of its rules says.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jiff::SignedDuration;

use super::*;
use crate::window::may_begin;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

struct ModelRun {
    begun: Timestamp,
    ended: Option<(Timestamp, Outcome)>,
    cancelled: bool,
}

/// One job.
struct Known {
    spec: JobSpec,
    slots: Rc<Vec<Timestamp>>,
    runs: Vec<ModelRun>,
    /// Nothing before is due.
    floor: Timestamp,
    /// Up to here all is due, whatever its jitter.
    early: Timestamp,
    /// Up to here nothing is missed any more.
    noticed: Timestamp,
    /// What is to be told now: first, last, how many.
    missed: Option<(Timestamp, Timestamp, u64)>,
    by_hand: bool,
    /// Whether the last run has ended since the last look.
    just_ended: bool,
    paused: bool,
    there: bool,
}

pub(super) struct Model {
    jobs: BTreeMap<JobKey, Known>,
    begin: Timestamp,
    /// The due times of a schedule, by its line: all jobs have one zone.
    slots: BTreeMap<String, Rc<Vec<Timestamp>>>,
    all_paused: bool,
    pub(super) stopping: bool,
}

impl Known {
    fn new(spec: &JobSpec, slots: Rc<Vec<Timestamp>>, now: Timestamp) -> Known {
        Known {
            spec: spec.clone(),
            slots,
            runs: Vec::new(),
            floor: now,
            early: Timestamp::MIN,
            noticed: now,
            missed: None,
            by_hand: false,
            just_ended: false,
            paused: false,
            there: true,
        }
    }

    fn jitter(&self) -> SignedDuration {
        SignedDuration::try_from(self.spec.jitter).unwrap()
    }

    fn last_slot(&self, until: Timestamp) -> Option<Timestamp> {
        let count = self.slots.partition_point(|slot| *slot <= until);
        self.slots[..count].last().copied()
    }

    fn touched(&self) -> Option<Timestamp> {
        self.runs.iter().map(|run| run.begun).max()
    }

    fn runs_now(&self) -> bool {
        self.runs.last().is_some_and(|run| run.ended.is_none())
    }

    fn failures(&self, slot: Timestamp) -> Vec<Timestamp> {
        let failed = |run: &&ModelRun| {
            matches!(run.ended, Some((_, Outcome::Failed | Outcome::Died)))
                && run.begun >= slot
                && !run.cancelled
        };
        self.runs.iter().filter(failed).map(|run| run.ended.unwrap().0).collect()
    }

    fn is_served(&self, slot: Timestamp) -> bool {
        let well = |run: &ModelRun| matches!(run.ended, Some((_, Outcome::Succeeded)));
        self.runs.iter().any(|run| run.begun >= slot && (run.cancelled || well(run)))
    }

    /// The newest due time, if no run has served it, and from when on the next may be.
    fn owed(&self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let touched = self.touched().unwrap_or(Timestamp::MIN);
        let until = (now - self.jitter()).max(touched).max(self.early);
        let slot = self.last_slot(until).filter(|slot| *slot > self.floor)?;
        let failures = self.failures(slot);
        let pause = [0, 1, 5, 15, 30].get(failures.len()).copied().unwrap_or(30);
        let from = failures.last().map_or(now, |at| *at + MINUTE * pause);
        let open = !self.is_served(slot) && failures.len() < self.spec.attempts as usize;
        open.then_some((slot, from))
    }
}

impl Model {
    pub(super) fn new(specs: &BTreeMap<JobKey, JobSpec>, now: Timestamp) -> Model {
        let (jobs, slots) = (BTreeMap::new(), BTreeMap::new());
        let mut model = Model { jobs, begin: now, slots, all_paused: false, stopping: false };
        for (key, spec) in specs.iter().filter(|(_, spec)| spec.schedule().is_some()) {
            let slots = model.slots(spec);
            model.jobs.insert(key.clone(), Known::new(spec, slots, now));
        }
        model
    }

    fn slots(&mut self, spec: &JobSpec) -> Rc<Vec<Timestamp>> {
        let schedule = spec.schedule().unwrap();
        let from = self.begin - SignedDuration::from_hours(24 * 4);
        let end = self.begin + SignedDuration::from_hours(24 * 24);
        let made = || {
            let slots =
                std::iter::successors(schedule.next_after(from), |at| schedule.next_after(*at));
            Rc::new(slots.take_while(|slot| *slot < end).collect())
        };
        self.slots.entry(schedule.as_str().to_owned()).or_insert_with(made).clone()
    }

    pub(super) fn restart(&mut self, now: Timestamp) {
        (self.all_paused, self.stopping) = (false, false);
        for known in self.jobs.values_mut() {
            (known.by_hand, known.paused) = (false, false);
            let touched = known.touched();
            // The record does not tell who stopped a run.
            known.runs.iter_mut().for_each(|run| run.cancelled = false);
            known.early = Timestamp::MIN;
            known.noticed = touched.unwrap_or(now);
            known.floor = touched.map_or(now, |_| Timestamp::MIN);
        }
    }

    pub(super) fn ended(
        &mut self,
        key: &JobKey,
        begun: Timestamp,
        now: Timestamp,
        outcome: Outcome,
        cancelled: bool,
    ) {
        let Some(known) = self.jobs.get_mut(key) else { return };
        let run = known.runs.last_mut().unwrap();
        assert_eq!(run.begun, begun);
        run.ended = Some((now, outcome));
        run.cancelled = cancelled;
        known.just_ended = true;
    }

    /// What has come due since, and could not begin in time.
    pub(super) fn notice(&mut self, now: Timestamp) {
        for known in self.jobs.values_mut() {
            let until = now - known.jitter();
            let noticed = known.noticed;
            known.missed = None;
            if !known.there || until <= noticed {
                continue;
            }
            known.noticed = until;
            let new = known.slots.iter().filter(|slot| (noticed < **slot) && **slot <= until);
            let spec = &known.spec;
            let late = new.filter(|slot| {
                let begins = **slot + known.jitter();
                let begins = may_begin(spec.window.as_ref(), &spec.blackout, &spec.zone, begins);
                known.paused || begins.is_some_and(|at| at + MINUTE < now)
            });
            let late: Vec<Timestamp> = late.copied().collect();
            if let (Some(first), Some(last)) = (late.first(), late.last()) {
                known.missed = Some((*first, *last, (late.len() as u64).min(slots::MOST)));
            }
        }
    }

    pub(super) fn hear(&mut self, event: &Event, now: Timestamp) {
        match event {
            Event::Run { key } => {
                if let Some(known) = self.jobs.get_mut(key).filter(|known| known.there) {
                    known.by_hand |= !known.runs_now();
                }
            }
            Event::Pause { of } | Event::Resume { of } => {
                let paused = matches!(event, Event::Pause { .. });
                if of.is_none() {
                    self.all_paused = paused;
                }
                let meant = self
                    .jobs
                    .iter_mut()
                    .filter(|(key, _)| of.is_none() || of.as_ref() == Some(key));
                meant.for_each(|(_, known)| known.paused = paused);
            }
            Event::Cancel { key } => {
                if let Some(known) = self.jobs.get_mut(key)
                    && !known.runs_now()
                {
                    known.by_hand = false;
                    if let Some((slot, _)) = known.owed(now) {
                        known.floor = slot;
                    }
                }
            }
            Event::Reload { specs, .. } => {
                for (key, spec) in specs.iter().filter(|(_, spec)| spec.schedule().is_some()) {
                    let (slots, paused) = (self.slots(spec), self.all_paused);
                    let known = self.jobs.get_mut(key).unwrap();
                    if !known.there || spec.rhythm != known.spec.rhythm {
                        (known.floor, known.noticed) = (now, now);
                        if !known.there && !known.runs_now() {
                            known.paused = paused;
                        }
                    }
                    if known.spec.jitter != spec.jitter {
                        (known.early, known.noticed) = (now, known.noticed.max(now));
                    }
                    (known.spec, known.slots) = (spec.clone(), slots);
                }
                for (key, known) in &mut self.jobs {
                    known.there = specs.contains_key(key);
                    known.by_hand &= known.there;
                }
            }
            _ => {}
        }
    }

    /// Those that could begin now.
    fn ready(&self, now: Timestamp, breached: &BTreeSet<SourceId>, at_once: usize) -> Vec<&JobKey> {
        let running: Vec<&JobKey> =
            self.jobs.iter().filter(|(_, known)| known.runs_now()).map(|(key, _)| key).collect();
        if self.stopping {
            return Vec::new();
        }
        // A verify and what is none keep clear of each other.
        let ready = |(key, known): &(&JobKey, &Known)| {
            let verify = |of: &JobKey| of.kind == JobKind::Verify;
            let beside = || running.iter().filter(|other| verify(other) == verify(key));
            let place = beside().count() < if verify(key) { 1 } else { at_once };
            let free = known.there && place && beside().all(|other| other.source != key.source);
            let due = known.owed(now).is_some_and(|(_, from)| {
                let spec = &known.spec;
                let urgent = key.kind == JobKind::Backup
                    && spec.rpo.is_some()
                    && breached.contains(&key.source);
                let open = spec.window.is_none_or(|window| window.holds(&spec.zone, now));
                let date = spec.zone.to_datetime(now).date();
                let light = !spec.blackout.iter().any(|days| days.holds(date));
                from <= now && !known.paused && (open || urgent) && light
            });
            free && (due || known.by_hand)
        };
        self.jobs.iter().filter(ready).map(|(key, _)| key).collect()
    }

    /// A run begins: it must be one that is owed or asked for, and none that comes first waits.
    pub(super) fn start(
        &mut self,
        key: &JobKey,
        due: Option<Timestamp>,
        why: Why,
        now: Timestamp,
        breached: &BTreeSet<SourceId>,
        at_once: usize,
    ) {
        if why == Why::Stream {
            return;
        }
        let ready = self.ready(now, breached, at_once);
        assert!(ready.contains(&key), "{key:?} begins at {now}, and owes nothing: {why:?}");
        // Who has waited for how long the table tells.
        let order = |key: &JobKey| !self.jobs[key].by_hand;
        let first = ready.iter().map(|key| order(key)).min();
        assert_eq!(Some(order(key)), first, "{key:?} begins at {now} before {ready:?}");
        let known = self.jobs.get_mut(key).unwrap();
        assert_eq!(known.by_hand, why == Why::ByHand, "{key:?} at {now}: {why:?}");
        known.by_hand = false;
        // It serves what is due by now, whatever its jitter.
        let newest = known.last_slot(now.max(known.touched().unwrap_or(now)));
        known.noticed = known.noticed.max(now);
        if why != Why::ByHand {
            assert_eq!(due, newest, "{key:?} at {now}: {why:?}");
            let failed = u32::try_from(known.failures(due.unwrap()).len()).unwrap();
            let told = if let Why::Retry(failed) = why { failed } else { 0 };
            assert_eq!(told, failed, "{key:?} at {now}: {why:?}");
        }
        known.runs.push(ModelRun { begun: now, ended: None, cancelled: false });
    }

    /// After an event: nothing is forgotten, what was missed is told, and what is given up.
    pub(super) fn check(
        &mut self,
        now: Timestamp,
        actions: &[Action],
        breached: &BTreeSet<SourceId>,
        at_once: usize,
    ) {
        let ready = self.ready(now, breached, at_once);
        assert!(ready.is_empty(), "it is {now}, and these do not begin: {ready:?}");
        for (key, known) in &mut self.jobs {
            let told: Vec<_> = actions
                .iter()
                .filter_map(|action| match action {
                    Action::Missed { key: of, missed: m } if of == key => {
                        Some((m.first, m.last, m.count, m.why))
                    }
                    _ => None,
                })
                .collect();
            // One that still waited when a newer one came due: no run was for it.
            let waited = |(.., why): &(_, _, _, WhyMissed)| *why == WhyMissed::Waited;
            for (first, last, count, _) in told.iter().filter(|missed| waited(missed)) {
                let before = known.runs.iter().filter(|run| run.begun < now);
                let served = before.map(|run| run.begun).max().is_some_and(|at| at >= *first);
                let newer = known.slots.iter().any(|slot| first < slot && *slot <= now);
                assert!(newer && !served, "{key:?} missed at {now}: {first}");
                assert_eq!((first, *count), (last, 1), "{key:?} missed at {now}");
            }
            let told = told.into_iter().filter(|missed| !waited(missed));
            let told: Vec<_> = told.map(|(first, last, count, _)| (first, last, count)).collect();
            let expected: Vec<_> = known.missed.take().into_iter().collect();
            assert_eq!(told, expected, "{key:?} missed at {now}");
            let gave_up = actions
                .iter()
                .any(|action| matches!(action, Action::GaveUp { key: of, .. } if of == key));
            // Its last attempt ended just now.
            let just_ended = std::mem::take(&mut known.just_ended);
            let used_up = known.runs.last().is_some_and(|run| {
                let slot = known.last_slot(run.begun).filter(|slot| *slot > known.floor);
                let failed = slot.map_or(0, |slot| known.failures(slot).len());
                let just_now = just_ended && !run.cancelled;
                let is_end = matches!(run.ended, Some((_, Outcome::Failed | Outcome::Died)));
                let served = slot.is_some_and(|slot| known.is_served(slot));
                let all = failed == known.spec.attempts as usize && !served;
                just_now && is_end && known.there && all
            });
            assert!(!used_up || gave_up, "{key:?} gives up in silence, at {now}");
        }
    }
}
