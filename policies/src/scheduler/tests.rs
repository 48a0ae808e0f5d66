use std::collections::BTreeMap;
use std::time::Duration;

use drctl_model::JobKind;
use jiff::Timestamp;

use super::*;
use crate::schedule::{Schedule, time_zone};
use crate::window::{Window, blackout, time_of_day};

mod clock;
mod model;
mod property;
mod queue;
mod record;
mod streams;
mod table;
mod world;

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn key(source: &str, kind: JobKind) -> JobKey {
    JobKey { source: source.parse().unwrap(), kind }
}

pub(super) fn backup() -> JobKey {
    key("shop", JobKind::Backup)
}

/// A schedule in UTC, three attempts, and nothing else.
pub(super) fn spec(schedule: &str) -> JobSpec {
    let zone = time_zone("UTC").unwrap();
    JobSpec {
        rhythm: Rhythm::At(Schedule::new(schedule, zone.clone()).unwrap()),
        window: None,
        blackout: Vec::new(),
        zone,
        jitter: Duration::ZERO,
        attempts: 3,
        rpo: None,
    }
}

pub(super) fn window(from: &str, until: &str) -> Option<Window> {
    Window::new(time_of_day(from).unwrap(), time_of_day(until).unwrap())
}

pub(super) fn days(text: &str) -> Vec<crate::window::Blackout> {
    vec![blackout(text).unwrap()]
}

/// A scheduler, told of events, and its answers as short lines.
pub(super) struct Desk(pub(super) Scheduler);

impl Desk {
    /// Of one backup, which nobody has run yet.
    pub(super) fn of(spec: JobSpec, now: &str) -> Desk {
        Desk::of_all([(backup(), spec)], 2, now)
    }

    pub(super) fn of_all<const N: usize>(
        specs: [(JobKey, JobSpec); N],
        at_once: usize,
        now: &str,
    ) -> Desk {
        Desk(Scheduler::new(specs.into(), &BTreeMap::new(), at_once, (at(now), at(now))))
    }

    /// Of one backup with runs on record, given oldest first: begun, and how it ended a minute
    /// later.
    pub(super) fn after(spec: JobSpec, runs: &[(&str, Outcome)], now: &str) -> Desk {
        let minute = jiff::SignedDuration::from_mins(1);
        let run = |(begun, outcome): &(&str, Outcome)| PastRun {
            begun: at(begun),
            ended: Some((at(begun) + minute, *outcome)),
            runs: false,
        };
        let past = [(backup(), runs.iter().rev().map(run).collect())].into();
        Desk(Scheduler::new([(backup(), spec)].into(), &past, 2, (at(now), at(now))))
    }

    pub(super) fn tell(&mut self, now: &str, event: Event) -> Vec<String> {
        let actions = self.0.handle(at(now), event);
        let wake = self.0.next_wake(at(now));
        assert!(wake.is_none_or(|wake| wake > at(now)), "wakes at {wake:?}, it is {now}");
        actions.iter().map(line).collect()
    }

    pub(super) fn tick(&mut self, now: &str) -> Vec<String> {
        self.tell(now, Event::Tick)
    }

    pub(super) fn ended(&mut self, now: &str, outcome: Outcome) -> Vec<String> {
        self.tell(now, Event::Ended { key: backup(), outcome })
    }

    pub(super) fn wake(&self, now: &str) -> String {
        self.0.next_wake(at(now)).map_or("never".to_owned(), |at| at.to_string())
    }

    pub(super) fn state(&self, now: &str) -> State {
        self.0.rows(at(now))[0].state.clone()
    }
}

/// An action as a line; of the job, its source and kind.
pub(super) fn line(action: &Action) -> String {
    let of = |key: &JobKey| format!("{} of {}", key.kind.words(), key.source);
    match action {
        Action::Start { key, due: None, why } => format!("start {}: {why:?}", of(key)),
        Action::Start { key, due: Some(due), why } => {
            format!("start {} due {due}: {why:?}", of(key))
        }
        Action::Cancel { key } => format!("cancel {}", of(key)),
        Action::Missed { key, missed: Missed { first, last, count, why } } => {
            format!("missed {} of {}: {first} to {last}: {why:?}", count, of(key))
        }
        Action::GaveUp { key, attempts } => format!("gave up {} after {attempts}", of(key)),
        Action::StreamDown { key, since } => format!("{} is down since {since}", of(key)),
        Action::StreamBack { key } => format!("{} is back", of(key)),
    }
}
