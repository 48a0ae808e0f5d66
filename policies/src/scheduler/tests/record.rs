//! What the record of an earlier life of the agent says.

use super::*;

const NOTHING: [&str; 0] = [];

use Outcome::{Died, Failed, Stopped, Succeeded};

#[test]
fn what_was_served_before_is_not_served_again() {
    let nightly = || spec("0 2 * * *");
    let runs = [("2026-07-01T02:00:00Z", Succeeded)];
    let mut desk = Desk::after(nightly(), &runs, "2026-07-01T12:00:00Z");
    assert_eq!(desk.tick("2026-07-01T12:00:00Z"), NOTHING);
    assert_eq!(desk.wake("2026-07-01T12:00:00Z"), "2026-07-02T02:00:00Z");
    assert_eq!(desk.0.rows(at("2026-07-01T12:00:00Z"))[0].last.unwrap().1, Succeeded);
    // One that began before it was due serves it not.
    let runs = [("2026-07-01T01:59:59Z", Succeeded)];
    let mut desk = Desk::after(nightly(), &runs, "2026-07-01T02:00:30Z");
    let begun = ["start backup of shop due 2026-07-01T02:00:00Z: Scheduled"];
    assert_eq!(desk.tick("2026-07-01T02:00:30Z"), begun);
}

#[test]
fn what_was_missed_meanwhile_is_told_and_made_up_for() {
    let runs = [("2026-06-28T02:00:00Z", Succeeded)];
    let mut desk = Desk::after(spec("0 2 * * *"), &runs, "2026-07-01T12:00:00Z");
    assert_eq!(
        desk.tick("2026-07-01T12:00:00Z"),
        [
            "missed 3 of backup of shop: 2026-06-29T02:00:00Z to 2026-07-01T02:00:00Z: AgentAway",
            "start backup of shop due 2026-07-01T02:00:00Z: CatchUp",
        ]
    );
    // Of a job that never ran counts what has been due since it was configured.
    let all = || [(backup(), spec("0 2 * * *"))].into();
    let times = (at("2026-06-29T12:00:00Z"), at("2026-07-01T12:00:00Z"));
    let mut desk = Desk(Scheduler::new(all(), &BTreeMap::new(), 1, times));
    assert_eq!(
        desk.tick("2026-07-01T12:00:00Z"),
        [
            "missed 2 of backup of shop: 2026-06-30T02:00:00Z to 2026-07-01T02:00:00Z: AgentAway",
            "start backup of shop due 2026-07-01T02:00:00Z: CatchUp",
        ]
    );
    let ahead = (at("2027-06-29T12:00:00Z"), at("2026-07-01T12:00:00Z"));
    let mut desk = Desk(Scheduler::new(all(), &BTreeMap::new(), 1, ahead));
    assert_eq!(desk.tick("2026-07-01T12:00:00Z"), NOTHING);
    let mut desk = Desk::after(spec("0 2 * * *"), &[], "2026-07-01T12:00:00Z");
    assert_eq!(desk.tick("2026-07-01T12:00:00Z"), NOTHING);
}

#[test]
fn attempts_that_are_on_record_count() {
    let nightly = || spec("0 2 * * *");
    let mut runs = vec![("2026-06-30T02:00:00Z", Succeeded), ("2026-07-01T02:00:00Z", Failed)];
    runs.push(("2026-07-01T02:02:00Z", Died));
    let mut desk = Desk::after(nightly(), &runs, "2026-07-01T02:04:00Z");
    assert_eq!(desk.tick("2026-07-01T02:04:00Z"), NOTHING);
    assert_eq!(desk.wake("2026-07-01T02:04:00Z"), "2026-07-01T02:08:00Z");
    let again = ["start backup of shop due 2026-07-01T02:00:00Z: Retry(2)"];
    assert_eq!(desk.tick("2026-07-01T02:08:00Z"), again);
    assert_eq!(desk.ended("2026-07-01T02:09:00Z", Failed), ["gave up backup of shop after 3"]);
    // When all were made, the next one begins anew.
    runs.push(("2026-07-01T02:08:00Z", Failed));
    let mut desk = Desk::after(nightly(), &runs, "2026-07-01T02:30:00Z");
    assert_eq!(desk.tick("2026-07-01T02:30:00Z"), NOTHING);
    assert_eq!(desk.wake("2026-07-01T02:30:00Z"), "2026-07-02T02:00:00Z");
    // Where none ever came to its end, the due time of the oldest is known by the schedule.
    let mut desk = Desk::after(nightly(), &runs[1..], "2026-07-01T02:30:00Z");
    assert_eq!(desk.tick("2026-07-01T02:30:00Z"), NOTHING);
    let mut desk = Desk::after(nightly(), &runs[1..3], "2026-07-01T02:30:00Z");
    assert_eq!(desk.tick("2026-07-01T02:30:00Z"), again);
}

#[test]
fn a_run_without_an_end_has_died() {
    let begun = at("2026-07-01T02:00:00Z");
    let past = [(backup(), vec![PastRun { begun, ended: None, runs: false }])].into();
    let specs = [(backup(), spec("0 2 * * *"))].into();
    let mut desk = Desk(Scheduler::new(
        specs,
        &past,
        1,
        (at("2026-07-01T02:00:30Z"), at("2026-07-01T02:00:30Z")),
    ));
    assert_eq!(desk.tick("2026-07-01T02:00:30Z"), NOTHING);
    let again = ["start backup of shop due 2026-07-01T02:00:00Z: Retry(1)"];
    assert_eq!(desk.tick("2026-07-01T02:01:00Z"), again);
}

#[test]
fn a_run_that_another_process_does_still_is_no_failure_and_is_waited_for() {
    let (failed, begun) = (at("2026-07-01T02:01:00Z"), at("2026-07-01T02:05:00Z"));
    let runs = [
        PastRun { begun, ended: None, runs: true },
        PastRun { begun: failed, ended: Some((failed, Failed)), runs: false },
    ];
    for (known, what) in [(1, "CatchUp"), (2, "Retry(1)")] {
        let past = [(backup(), runs[..known].to_vec())].into();
        let specs = [(backup(), JobSpec { attempts: 2, ..spec("0 2 * * *") })].into();
        let now = at("2026-07-01T02:06:00Z");
        let mut desk = Desk(Scheduler::new(specs, &past, 1, (now, now)));
        let begun = format!("start backup of shop due 2026-07-01T02:00:00Z: {what}");
        assert_eq!(desk.tick("2026-07-01T02:06:00Z"), [begun], "nothing is given up");
    }
}

#[test]
fn what_died_last_is_given_up_though_another_process_does_it_now() {
    let (died, begun) = (at("2026-07-01T02:00:00Z"), at("2026-07-01T02:05:00Z"));
    let runs = vec![
        PastRun { begun, ended: None, runs: true },
        PastRun { begun: died, ended: Some((died, Died)), runs: false },
    ];
    let specs = [(backup(), JobSpec { attempts: 1, ..spec("0 2 * * *") })].into();
    let now = at("2026-07-01T02:06:00Z");
    let past = [(backup(), runs)].into();
    let mut desk = Desk(Scheduler::new(specs, &past, 1, (now, now)));
    assert_eq!(desk.tick("2026-07-01T02:06:00Z"), ["gave up backup of shop after 1"]);
}

#[test]
fn a_run_that_the_end_of_the_agent_stopped_is_made_up_for() {
    let runs = [("2026-06-30T02:00:00Z", Succeeded), ("2026-07-01T02:00:00Z", Stopped)];
    let mut desk = Desk::after(spec("0 2 * * *"), &runs, "2026-07-01T02:10:00Z");
    let again = ["start backup of shop due 2026-07-01T02:00:00Z: CatchUp"];
    assert_eq!(desk.tick("2026-07-01T02:10:00Z"), again);
}

#[test]
fn a_record_from_the_future_keeps_no_schedule_silent() {
    let nightly = || spec("0 2 * * *");
    // A clock that was a year ahead, and is right again.
    let runs = [("2026-06-30T02:00:00Z", Succeeded), ("2027-06-30T02:00:00Z", Succeeded)];
    let mut desk = Desk::after(nightly(), &runs, "2026-07-01T12:00:00Z");
    assert_eq!(
        desk.tick("2026-07-01T12:00:00Z"),
        [
            "missed 1 of backup of shop: 2026-07-01T02:00:00Z to 2026-07-01T02:00:00Z: AgentAway",
            "start backup of shop due 2026-07-01T02:00:00Z: CatchUp",
        ]
    );
    desk.ended("2026-07-01T12:10:00Z", Succeeded);
    assert_eq!(desk.wake("2026-07-01T12:10:00Z"), "2026-07-02T02:00:00Z");
    // Where nothing else is known, the next due time counts.
    let desk = Desk::after(nightly(), &runs[1..], "2026-07-01T12:00:00Z");
    assert_eq!(desk.wake("2026-07-01T12:00:00Z"), "2026-07-02T02:00:00Z");
    // A later run belies it, also when its time has come nearly.
    let hourly = || spec("0 * * * *");
    let runs = [("2026-07-01T05:00:00Z", Succeeded), ("2026-07-01T02:00:00Z", Succeeded)];
    let desk = Desk::after(hourly(), &runs, "2026-07-01T03:30:00Z");
    assert_eq!(desk.0.clone().handle(at("2026-07-01T03:30:00Z"), Event::Tick).len(), 2);
    // One that is ahead by less than two hours has served its time.
    let desk = Desk::after(hourly(), &runs[..1], "2026-07-01T03:30:00Z");
    assert_eq!(desk.wake("2026-07-01T03:30:00Z"), "2026-07-01T06:00:00Z");
}

#[test]
fn a_host_that_boots_without_a_clock_takes_nothing_for_missed() {
    let runs = [("2026-06-29T02:00:00Z", Succeeded), ("2026-06-30T02:00:00Z", Succeeded)];
    let mut desk = Desk::after(spec("0 2 * * *"), &runs, "2025-01-01T00:00:00Z");
    assert_eq!(desk.tick("2025-01-01T00:00:00Z"), NOTHING);
    assert_eq!(
        desk.tick("2026-07-01T12:00:00Z"),
        [
            "missed 1 of backup of shop: 2026-07-01T02:00:00Z to 2026-07-01T02:00:00Z: AgentAway",
            "start backup of shop due 2026-07-01T02:00:00Z: CatchUp",
        ]
    );
}
