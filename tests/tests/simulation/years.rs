//! Years of schedules in every time zone whose clock changes: the shipped scheduler, with an agent that is away for
//! weeks now and then, against the calendar.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drctl_model::JobKind;
use drctl_policies::Schedule;
use drctl_policies::scheduler::{
    Action, Event, JobKey, JobSpec, Outcome, PastRun, Rhythm, Scheduler,
};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::plan::changes;

/// Three due times of a day, two of them where most clocks change.
const LINE: &str = "30 0,2,13 * * *";

const A_DAY: usize = 3;

/// How long each zone is lived through.
const YEARS: i64 = 4;

/// Every so many days the agent is away, for so many days.
const AWAY: [(i64, i64); 3] = [(97, 1), (181, 9), (230, 33)];

/// What began, and what was told as missed.
#[derive(Default)]
struct Lived {
    /// When it was due, and when it began.
    runs: Vec<(Timestamp, Timestamp)>,
    missed: u64,
}

struct Life {
    key: JobKey,
    spec: JobSpec,
    agent: Scheduler,
    record: Vec<PastRun>,
    lived: Lived,
    now: Timestamp,
    begin: Timestamp,
}

impl Life {
    fn new(zone: &TimeZone, begin: Timestamp) -> Self {
        let key = JobKey { source: "shop".parse().unwrap(), kind: JobKind::Backup };
        let spec = JobSpec {
            rhythm: Rhythm::At(Schedule::new(LINE, zone.clone()).unwrap()),
            window: None,
            blackout: Vec::new(),
            zone: zone.clone(),
            jitter: Duration::ZERO,
            attempts: 3,
            rpo: None,
        };
        let specs = BTreeMap::from([(key.clone(), spec.clone())]);
        let agent = Scheduler::new(specs, &BTreeMap::new(), 1, (begin, begin));
        let (record, lived) = (Vec::new(), Lived::default());
        Life { key, spec, agent, record, lived, now: begin, begin }
    }

    fn restart(&mut self) {
        let newest_first = self.record.iter().rev().take(20).copied().collect();
        let past = BTreeMap::from([(self.key.clone(), newest_first)]);
        let specs = BTreeMap::from([(self.key.clone(), self.spec.clone())]);
        self.agent = Scheduler::new(specs, &past, 1, (self.begin, self.now));
        self.tell(Event::Tick);
    }

    fn tell(&mut self, event: Event) {
        for action in self.agent.handle(self.now, event) {
            match action {
                Action::Start { due, .. } => {
                    let begun = self.now;
                    self.lived.runs.push((due.expect("it was due"), begun));
                    self.now += SignedDuration::from_mins(20);
                    let ended = Some((self.now, Outcome::Succeeded));
                    self.record.push(PastRun { begun, ended, runs: false });
                    let (key, outcome) = (self.key.clone(), Outcome::Succeeded);
                    self.tell(Event::Ended { key, outcome });
                }
                Action::Missed { missed, .. } => self.lived.missed += missed.count,
                other => panic!("{other:?} at {}", self.now),
            }
        }
    }

    fn live(&mut self, until: Timestamp) {
        while let Some(wake) = self.agent.next_wake(self.now).filter(|wake| *wake < until) {
            self.now = wake;
            self.tell(Event::Tick);
        }
        self.now = until;
    }
}

/// Lives through years of a zone, and compares with the calendar.
fn years(zone: &TimeZone, begin: Date) {
    let name = zone.iana_name().unwrap();
    let noon = |date: Date| zone.to_timestamp(date.at(17, 0, 0, 0)).unwrap();
    let day = |n: i64| begin + jiff::Span::new().days(n);
    let mut life = Life::new(zone, noon(begin));
    let mut away: BTreeSet<Date> = BTreeSet::new();
    let (mut at, mut caught_up) = (0, 0);
    for (after, days) in AWAY.into_iter().cycle() {
        if at + after + days > YEARS * 365 {
            break;
        }
        life.live(noon(day(at + after)));
        let (before, missed) = (life.lived.runs.len(), life.lived.missed);
        at += after + days;
        life.now = noon(day(at));
        life.restart();
        // Of what was due meanwhile nothing is skipped in silence, and one run makes up for all.
        let count = A_DAY * usize::try_from(days).unwrap();
        assert_eq!(life.lived.missed - missed, count as u64, "{name}, {}", day(at));
        assert_eq!(life.lived.runs.len(), before + 1, "{name}, {}", day(at));
        away.extend((0..days).map(|n| day(at - n)));
        caught_up += 1;
    }
    life.live(noon(day(YEARS * 365)));
    let mut of_date: BTreeMap<Date, usize> = BTreeMap::new();
    let mut before = Timestamp::MIN;
    for (due, begun) in &life.lived.runs {
        assert!(*due > before && begun >= due, "{name}: {due}, {begun}");
        before = *due;
        *of_date.entry(zone.to_datetime(*due).date()).or_default() += 1;
    }
    for date in (1..YEARS * 365).map(day).filter(|date| !away.contains(date)) {
        assert_eq!(of_date.get(&date), Some(&A_DAY), "{name}: {date}");
    }
    assert!(caught_up > 6, "{name}: {caught_up}");
}

#[test]
fn years_of_schedules_run_once_and_are_made_up_for_once_in_every_zone() {
    let begin = Date::constant(2026, 1, 10);
    let (from, until) = (
        "2026-01-10T00:00:00Z".parse::<Timestamp>().unwrap(),
        "2030-01-10T00:00:00Z".parse::<Timestamp>().unwrap(),
    );
    // Many zones have the same clock: one of them is lived through.
    let mut clocks = BTreeSet::new();
    let mut zones = 0;
    for (zone, _) in changes() {
        let first = zone.to_offset(from).seconds();
        let all = zone.following(from).take_while(|change| change.timestamp() < until);
        let all = all.map(|change| (change.timestamp(), change.offset().seconds()));
        let clock: Vec<(Timestamp, i32)> = [(from, first)].into_iter().chain(all).collect();
        if clocks.insert(clock) {
            years(zone, begin);
            zones += 1;
        }
    }
    assert!(zones >= 20, "{zones} clocks that change");
}
