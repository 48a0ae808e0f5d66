//! A made-up host: sources, a clock that may be set, an agent that comes and goes, and a record of
//! runs. It asks the real [`Scheduler`] and does what that says.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::model::Model;
use super::*;

/// Numbers that are the same for the same seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    pub(super) fn seconds(&mut self, from: i64, until: i64) -> SignedDuration {
        let more = self.below(u64::try_from(until - from).unwrap());
        SignedDuration::from_secs(from + i64::try_from(more).unwrap())
    }
}

/// Zones whose clock changes in 2026, with when it does.
pub(super) fn zones() -> Vec<(TimeZone, Timestamp)> {
    let [from, until] = ["2026-01-05T00:00:00Z", "2026-12-20T00:00:00Z"].map(at);
    let zones = TimeZoneDatabase::bundled();
    let all = zones.available().filter_map(|name| zones.get(name.as_str()).ok());
    all.flat_map(|zone| {
        let changes: Vec<Timestamp> = zone
            .following(from)
            .map(|change| change.timestamp())
            .take_while(|change| *change < until)
            .collect();
        changes.into_iter().map(move |change| (zone.clone(), change)).collect::<Vec<_>>()
    })
    .collect()
}

/// A run that goes on.
struct Live {
    /// How often the clock had been set back by much.
    era: u32,
    begun: Timestamp,
    due: Option<Timestamp>,
    ends: Timestamp,
    outcome: Outcome,
}

pub(super) struct World {
    pub(super) random: Random,
    /// The time as it passes, and by how much the clock is off.
    pub(super) real: Timestamp,
    pub(super) off: SignedDuration,
    agent: Option<Scheduler>,
    pub(super) specs: BTreeMap<JobKey, JobSpec>,
    pub(super) at_once: usize,
    /// Runs as they are on record, oldest first.
    record: BTreeMap<JobKey, Vec<PastRun>>,
    live: BTreeMap<JobKey, Live>,
    cancelled: BTreeSet<JobKey>,
    pub(super) breached: BTreeSet<SourceId>,
    /// What has come to its end, or was given up.
    settled: BTreeSet<(JobKey, Timestamp)>,
    /// The latest time that the clock ever showed.
    high: Timestamp,
    set_back: bool,
    era: u32,
    /// Since when nothing keeps a job from beginning but the schedule, in real time.
    quiet_since: BTreeMap<JobKey, Timestamp>,
    paused: bool,
    /// The longest time between two runs, by the line of the schedule.
    longest: BTreeMap<String, SignedDuration>,
    /// What holds where the clock is never set.
    model: Option<Model>,
    pub(super) starts: u64,
}

impl World {
    pub(super) fn new(
        random: Random,
        real: Timestamp,
        specs: BTreeMap<JobKey, JobSpec>,
        at_once: usize,
        steady: bool,
    ) -> World {
        let mut world = World {
            random,
            real,
            off: SignedDuration::ZERO,
            agent: None,
            model: steady.then(|| Model::new(&specs, real)),
            quiet_since: specs.keys().map(|key| (key.clone(), real)).collect(),
            specs,
            at_once,
            record: BTreeMap::new(),
            live: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            breached: BTreeSet::new(),
            settled: BTreeSet::new(),
            high: real,
            set_back: false,
            era: 0,
            paused: false,
            longest: BTreeMap::new(),
            starts: 0,
        };
        world.arrive();
        world
    }

    pub(super) fn clock(&self) -> Timestamp {
        self.real + self.off
    }

    /// The agent starts, and reads its record.
    pub(super) fn arrive(&mut self) {
        let now = self.clock();
        let recent = |runs: &Vec<PastRun>| runs.iter().rev().take(32).copied().collect();
        let past = self.record.iter().map(|(key, runs)| (key.clone(), recent(runs))).collect();
        self.agent = Some(Scheduler::new(self.specs.clone(), &past, self.at_once, (now, now)));
        self.paused = false;
        self.breached.clear();
        self.disturbed();
        if self.set_back {
            // The record does not tell for which due time a run was whose clock was set back.
            self.settled.clear();
        }
        if let Some(model) = &mut self.model {
            model.restart(now);
        }
        self.tell(Event::Tick);
    }

    /// The agent is killed, and comes back later.
    pub(super) fn die(&mut self, away: SignedDuration) {
        self.agent = None;
        self.real += away;
        for key in self.live.keys().cloned().collect::<Vec<_>>() {
            self.note_end(&key, Outcome::Died);
        }
        self.arrive();
    }

    /// The agent ends in good order, and comes back later.
    pub(super) fn leave(&mut self, away: SignedDuration) {
        self.tell(Event::Stopping);
        for key in self.live.keys().cloned().collect::<Vec<_>>() {
            self.end(&key, Outcome::Stopped);
        }
        self.agent = None;
        self.real += away;
        self.arrive();
    }

    /// The clock is set; the agent looks at it within a minute.
    pub(super) fn set(&mut self, off: SignedDuration) {
        self.set_back |= off < self.off;
        self.off = off;
        let later = self.random.seconds(0, 60);
        self.real += later;
        if self.clock() + slots::REACH < self.high {
            self.settled.clear();
            self.era += 1;
        }
        self.disturbed();
        self.tell(Event::Tick);
    }

    fn disturbed(&mut self) {
        let real = self.real;
        self.quiet_since.values_mut().for_each(|since| *since = real);
    }

    /// The host sleeps.
    pub(super) fn doze(&mut self, length: SignedDuration) {
        self.real += length;
        self.disturbed();
    }

    pub(super) fn pause(&mut self, of: Option<JobKey>) {
        self.paused = true;
        self.tell(Event::Pause { of });
    }

    pub(super) fn resume(&mut self) {
        self.paused = false;
        self.disturbed();
        self.tell(Event::Resume { of: None });
    }

    pub(super) fn cancel(&mut self, key: JobKey) {
        self.tell(Event::Cancel { key });
    }

    /// Lets time pass until the next thing happens, and no longer than until `until`.
    pub(super) fn pass(&mut self, until: Timestamp) {
        let agent = self.agent.as_ref().unwrap();
        let wake = agent.next_wake(self.clock()).map(|at| at - self.off);
        let end = self.live.iter().map(|(key, run)| (run.ends, key)).min();
        let late = self.random.seconds(0, 3);
        match (wake.map(|at| at + late), end.map(|(at, key)| (at, key.clone()))) {
            (Some(wake), ended)
                if wake < until && ended.as_ref().is_none_or(|(at, _)| wake < *at) =>
            {
                self.real = self.real.max(wake);
                self.tell(Event::Tick);
            }
            (_, Some((ends, key))) if ends < until => {
                self.real = self.real.max(ends);
                let outcome = self.live[&key].outcome;
                self.end(&key, outcome);
            }
            _ => self.real = self.real.max(until),
        }
    }

    fn end(&mut self, key: &JobKey, outcome: Outcome) {
        let cancelled = self.cancelled.contains(key);
        let outcome = if cancelled && self.random.chance(80) { Outcome::Stopped } else { outcome };
        self.note_end(key, outcome);
        self.tell(Event::Ended { key: key.clone(), outcome });
    }

    fn note_end(&mut self, key: &JobKey, outcome: Outcome) {
        let run = self.live.remove(key).unwrap();
        let now = self.clock();
        let cancelled = self.cancelled.remove(key);
        let runs = self.record.entry(key.clone()).or_default();
        let on_record = runs.iter_mut().rev().find(|past| past.ended.is_none()).unwrap();
        on_record.ended = Some((now, outcome));
        // What lies ahead of a clock that was set back by much comes again.
        let counts = run.due.is_some_and(|due| due <= run.begun || self.era == 0);
        let counts = counts && run.era == self.era;
        if let (Some(due), Outcome::Succeeded, true) = (run.due, outcome, counts) {
            self.settled.insert((key.clone(), due));
        }
        self.quiet_since.insert(key.clone(), self.real);
        if let Some(model) = &mut self.model {
            model.ended(key, run.begun, now, outcome, cancelled);
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        let now = self.clock();
        self.high = self.high.max(now);
        if let Some(model) = &mut self.model {
            model.notice(now);
            model.hear(&event, now);
        }
        if let Event::Reload { specs, at_once } = &event {
            // What is new, or new again, knows nothing of what was.
            let old = std::mem::replace(&mut self.specs, specs.clone());
            let same = |key: &JobKey| {
                old.get(key)
                    .is_some_and(|old| specs.get(key).is_some_and(|new| new.rhythm == old.rhythm))
            };
            self.settled.retain(|(key, _)| same(key));
            self.live
                .iter_mut()
                .filter(|(key, _)| !same(key))
                .for_each(|(_, run)| run.era = u32::MAX);
            self.at_once = *at_once;
            self.quiet_since.extend(specs.keys().map(|key| (key.clone(), self.real)));
        }
        if let Event::RpoBreached { source, breached } = &event {
            match breached {
                true => self.breached.insert(source.clone()),
                false => self.breached.remove(source),
            };
        }
        let stopping = event == Event::Stopping;
        let agent = self.agent.as_mut().unwrap();
        let actions = agent.handle(now, event.clone());
        let wake = agent.next_wake(now);
        assert!(wake.is_none_or(|wake| wake > now), "it is {now}, and wakes at {wake:?}");
        for action in &actions {
            self.act(action, now);
        }
        if let Some(model) = &mut self.model {
            model.stopping |= stopping;
            model.check(now, &actions, &self.breached, self.at_once);
        }
        self.is_not_silent();
    }

    fn act(&mut self, action: &Action, now: Timestamp) {
        match action {
            Action::Start { key, due, why } => self.start(key, *due, *why, now),
            Action::Cancel { key } => {
                let run = self.live.get_mut(key).expect("it runs");
                run.ends = self.real;
                self.cancelled.insert(key.clone());
            }
            _ => {}
        }
    }

    fn start(&mut self, key: &JobKey, due: Option<Timestamp>, why: Why, now: Timestamp) {
        self.starts += 1;
        let stream = key.kind == JobKind::LogStream;
        assert!(!self.live.contains_key(key), "{key:?} runs twice at {now}");
        let verify = |of: &JobKey| of.kind == JobKind::Verify;
        let others = self.live.keys().filter(|other| other.kind != JobKind::LogStream);
        let others = others.filter(|other| verify(other) == verify(key));
        let of_source = others.clone().find(|other| other.source == key.source);
        assert!(stream || of_source.is_none(), "{key:?} beside {of_source:?} at {now}");
        let most = if verify(key) { 1 } else { self.at_once };
        assert!(stream || others.count() < most, "too many run at {now}");
        self.is_allowed(key, why, now);
        if let (Some(due), false) = (due, matches!(why, Why::ByHand | Why::Stream)) {
            let again = self.settled.contains(&(key.clone(), due));
            assert!(!again, "{key:?} is served again, {due}, at {now}: {why:?}");
            let schedule = self.specs[key].schedule().unwrap();
            let before = due - SignedDuration::from_nanos(1);
            assert_eq!(schedule.next_after(before), Some(due), "{key:?} was never due at {due}");
        }
        if let Some(model) = &mut self.model {
            model.start(key, due, why, now, &self.breached, self.at_once);
        }
        let ends = self.real + self.random.seconds(20, 9_000);
        let outcome = match self.random.below(10) {
            0 | 1 => Outcome::Failed,
            2 => Outcome::Died,
            _ => Outcome::Succeeded,
        };
        self.live.insert(key.clone(), Live { era: self.era, begun: now, due, ends, outcome });
        self.record.entry(key.clone()).or_default().push(PastRun {
            begun: now,
            ended: None,
            runs: false,
        });
        self.quiet_since.insert(key.clone(), self.real);
    }

    /// No run begins outside of its window or in a blackout, unless it may.
    fn is_allowed(&self, key: &JobKey, why: Why, now: Timestamp) {
        if matches!(why, Why::ByHand | Why::Stream) {
            return;
        }
        let spec = &self.specs[key];
        let date = spec.zone.to_datetime(now).date();
        let dark = spec.blackout.iter().any(|days| days.holds(date));
        assert!(!dark, "{key:?} begins in a blackout, at {now}");
        let urgent = key.kind == JobKind::Backup
            && spec.rpo.is_some()
            && self.breached.contains(&key.source);
        let open = spec.window.is_none_or(|window| window.holds(&spec.zone, now));
        assert!(open || urgent, "{key:?} begins outside of its window, at {now}");
    }

    /// Whatever became of the clock: a backup that nothing holds runs at least once in the longest
    /// time between two runs, and two hours; and it may wait for other jobs, which came due earlier.
    fn is_not_silent(&mut self) {
        if self.model.is_some() || self.paused {
            return;
        }
        for (key, since) in &self.quiet_since {
            let Some(spec) = self.specs.get(key).filter(|_| key.kind == JobKind::Backup) else {
                continue;
            };
            let Some(schedule) = spec.schedule() else { continue };
            let line = schedule.as_str().to_owned();
            let longest =
                *self.longest.entry(line).or_insert_with(|| schedule.spacing().unwrap().1);
            let jitter = SignedDuration::try_from(spec.jitter).unwrap();
            let bound = longest + jitter + slots::REACH + SignedDuration::from_hours(9);
            let silent = since.duration_until(self.real);
            let runs = self.live.contains_key(key);
            assert!(runs || silent <= bound, "{key:?} is silent for {silent} at {}", self.real);
        }
    }

    /// A job that waits for whatever.
    pub(super) fn one_that_waits(&self) -> Option<JobKey> {
        let rows = self.agent.as_ref().unwrap().rows(self.clock());
        let waits = |row: &Row| !matches!(row.state, State::Idle | State::Running);
        rows.into_iter().find(waits).map(|row| row.key)
    }

    /// Whether a job does nothing and owes nothing.
    pub(super) fn is_idle(&self, key: &JobKey) -> bool {
        let rows = self.agent.as_ref().unwrap().rows(self.clock());
        rows.into_iter().any(|row| row.key == *key && row.state == State::Idle)
    }
}
