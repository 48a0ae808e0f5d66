//! One job: due, missed, waiting, failing, stopped.

use super::*;

const NOTHING: [&str; 0] = [];

#[test]
fn a_run_begins_when_it_is_due_and_later_by_its_jitter() {
    let mut desk = Desk::of(spec("0 2 * * *"), "2026-07-01T01:00:00Z");
    assert_eq!(desk.wake("2026-07-01T01:00:00Z"), "2026-07-01T02:00:00Z");
    assert_eq!(desk.tick("2026-07-01T01:59:59Z"), NOTHING);
    let begun = ["start backup of shop due 2026-07-01T02:00:00Z: Scheduled"];
    assert_eq!(desk.tick("2026-07-01T02:00:00Z"), begun);
    assert_eq!(desk.ended("2026-07-01T02:10:00Z", Outcome::Succeeded), NOTHING);
    assert_eq!(desk.wake("2026-07-01T02:10:00Z"), "2026-07-02T02:00:00Z");

    let late = JobSpec { jitter: Duration::from_secs(600), ..spec("0 2 * * *") };
    let mut desk = Desk::of(late, "2026-07-01T01:00:00Z");
    assert_eq!(desk.wake("2026-07-01T01:00:00Z"), "2026-07-01T02:10:00Z");
    assert_eq!(desk.tick("2026-07-01T02:09:59Z"), NOTHING);
    // Within a minute of that it is in time.
    assert_eq!(desk.tick("2026-07-01T02:11:00Z"), begun);
}

#[test]
fn what_was_missed_is_told_once_and_made_up_for_by_one_run() {
    let mut desk = Desk::of(spec("0 * * * *"), "2026-07-01T00:30:00Z");
    assert_eq!(
        desk.tick("2026-07-01T05:30:00Z"),
        [
            "missed 5 of backup of shop: 2026-07-01T01:00:00Z to 2026-07-01T05:00:00Z: AgentAway",
            "start backup of shop due 2026-07-01T05:00:00Z: CatchUp",
        ]
    );
    assert_eq!(desk.0.rows(at("2026-07-01T05:30:00Z"))[0].missed.unwrap().count, 5);
    assert_eq!(desk.ended("2026-07-01T05:40:00Z", Outcome::Succeeded), NOTHING);
    assert_eq!(desk.0.rows(at("2026-07-01T05:40:00Z"))[0].missed, None);
    let begun = ["start backup of shop due 2026-07-01T06:00:00Z: Scheduled"];
    assert_eq!(desk.tick("2026-07-01T06:00:00Z"), begun);
}

#[test]
fn many_that_were_missed_are_counted_up_to_a_bound() {
    let mut desk = Desk::of(spec("*/10 * * * *"), "2026-01-01T00:05:00Z");
    assert_eq!(
        desk.tick("2026-07-01T00:00:30Z"),
        [
            "missed 1000 of backup of shop: 2026-01-01T00:10:00Z to 2026-06-30T23:50:00Z: AgentAway",
            "start backup of shop due 2026-07-01T00:00:00Z: CatchUp",
        ]
    );
}

#[test]
fn what_waits_for_its_window_is_not_missed() {
    let noon = JobSpec { window: window("22:00", "06:00"), ..spec("0 12 * * *") };
    let mut desk = Desk::of(noon.clone(), "2026-07-01T07:00:00Z");
    assert_eq!(desk.tick("2026-07-01T12:00:00Z"), NOTHING);
    assert_eq!(desk.state("2026-07-01T12:00:00Z"), State::WaitsForWindow);
    assert_eq!(desk.wake("2026-07-01T12:00:00Z"), "2026-07-01T22:00:00Z");
    let begun = ["start backup of shop due 2026-07-01T12:00:00Z: Scheduled"];
    assert_eq!(desk.tick("2026-07-01T22:00:00Z"), begun);
    // Nor is it where the agent was away while it would have waited.
    let mut desk = Desk::of(noon, "2026-07-01T07:00:00Z");
    assert_eq!(desk.tick("2026-07-01T22:00:59Z"), begun);
}

#[test]
fn a_catch_up_waits_for_the_window_unless_the_promise_is_broken() {
    let night = JobSpec {
        window: window("22:00", "06:00"),
        blackout: days("2026-07-03"),
        rpo: Some(Duration::from_secs(86_400)),
        ..spec("0 2 * * *")
    };
    let missed =
        "missed 1 of backup of shop: 2026-07-01T02:00:00Z to 2026-07-01T02:00:00Z: AgentAway";
    let mut desk = Desk::of(night, "2026-07-01T01:00:00Z");
    assert_eq!(desk.tick("2026-07-01T08:00:00Z"), [missed]);
    assert_eq!(desk.wake("2026-07-01T08:00:00Z"), "2026-07-01T22:00:00Z");
    let mut waiting = Desk(desk.0.clone());
    let breached = |breached| Event::RpoBreached { source: "shop".parse().unwrap(), breached };
    let caught_up = ["start backup of shop due 2026-07-01T02:00:00Z: CatchUp"];
    assert_eq!(desk.tell("2026-07-01T09:00:00Z", breached(true)), caught_up);
    assert_eq!(waiting.tick("2026-07-01T22:00:00Z"), caught_up);
    // A blackout holds all the same.
    assert_eq!(desk.ended("2026-07-01T09:10:00Z", Outcome::Succeeded), NOTHING);
    assert_eq!(
        desk.tick("2026-07-03T12:00:00Z"),
        ["missed 1 of backup of shop: 2026-07-02T02:00:00Z to 2026-07-02T02:00:00Z: AgentAway"]
    );
    assert_eq!(desk.state("2026-07-03T12:00:00Z"), State::WaitsForBlackout);
    assert_eq!(desk.wake("2026-07-03T12:00:00Z"), "2026-07-04T00:00:00Z");
    let begun = ["start backup of shop due 2026-07-03T02:00:00Z: CatchUp"];
    assert_eq!(desk.tick("2026-07-04T00:00:00Z"), begun);
}

#[test]
fn only_a_backup_with_a_promise_leaves_its_window() {
    let night = JobSpec {
        window: window("22:00", "06:00"),
        rpo: Some(Duration::from_secs(86_400)),
        ..spec("0 12 * * *")
    };
    let silent = JobSpec { rpo: None, ..night.clone() };
    let all = [(key("shop", JobKind::Prune), night), (backup(), silent)];
    let mut desk = Desk::of_all(all, 2, "2026-07-01T07:00:00Z");
    let breached = Event::RpoBreached { source: "shop".parse().unwrap(), breached: true };
    assert_eq!(desk.tell("2026-07-01T12:00:00Z", breached), NOTHING);
}

#[test]
fn a_run_that_fails_is_tried_again_and_given_up_and_the_next_begins_anew() {
    let mut desk = Desk::of(spec("0 2 * * *"), "2026-07-01T01:00:00Z");
    desk.tick("2026-07-01T02:00:00Z");
    let retry = |n| vec![format!("start backup of shop due 2026-07-01T02:00:00Z: Retry({n})")];
    assert_eq!(desk.ended("2026-07-01T02:10:00Z", Outcome::Failed), NOTHING);
    assert_eq!(desk.state("2026-07-01T02:10:00Z"), State::RetryAt(at("2026-07-01T02:11:00Z")));
    assert_eq!(desk.tick("2026-07-01T02:10:59Z"), NOTHING);
    assert_eq!(desk.tick("2026-07-01T02:11:00Z"), retry(1));
    // A killed one counts as well.
    assert_eq!(desk.ended("2026-07-01T02:20:00Z", Outcome::Died), NOTHING);
    assert_eq!(desk.wake("2026-07-01T02:20:00Z"), "2026-07-01T02:25:00Z");
    assert_eq!(desk.tick("2026-07-01T02:25:00Z"), retry(2));
    let gave_up = ["gave up backup of shop after 3"];
    assert_eq!(desk.ended("2026-07-01T02:30:00Z", Outcome::Failed), gave_up);
    assert_eq!(desk.state("2026-07-01T02:30:00Z"), State::Idle);
    assert_eq!(desk.wake("2026-07-01T02:30:00Z"), "2026-07-02T02:00:00Z");
    let begun = ["start backup of shop due 2026-07-02T02:00:00Z: Scheduled"];
    assert_eq!(desk.tick("2026-07-02T02:00:00Z"), begun);
    desk.ended("2026-07-02T02:01:00Z", Outcome::Failed);
    let again = ["start backup of shop due 2026-07-02T02:00:00Z: Retry(1)"];
    assert_eq!(desk.tick("2026-07-02T02:02:00Z"), again);
}

#[test]
fn a_retry_stays_in_the_window() {
    let night = JobSpec { window: window("22:00", "06:00"), ..spec("50 5 * * *") };
    let mut desk = Desk::of(night, "2026-07-01T01:00:00Z");
    desk.tick("2026-07-01T05:50:00Z");
    assert_eq!(desk.ended("2026-07-01T05:59:30Z", Outcome::Failed), NOTHING);
    assert_eq!(desk.tick("2026-07-01T06:00:30Z"), NOTHING);
    assert_eq!(desk.wake("2026-07-01T06:00:30Z"), "2026-07-01T22:00:00Z");
    let again = ["start backup of shop due 2026-07-01T05:50:00Z: Retry(1)"];
    assert_eq!(desk.tick("2026-07-01T22:00:00Z"), again);
}

#[test]
fn the_next_due_time_takes_over_from_one_that_fails() {
    let mut desk = Desk::of(spec("*/5 * * * *"), "2026-07-01T00:01:00Z");
    desk.tick("2026-07-01T00:05:00Z");
    desk.ended("2026-07-01T00:06:00Z", Outcome::Failed);
    desk.tick("2026-07-01T00:07:00Z");
    desk.ended("2026-07-01T00:08:00Z", Outcome::Failed);
    let over = [
        "gave up backup of shop after 2",
        "start backup of shop due 2026-07-01T00:10:00Z: Scheduled",
    ];
    assert_eq!(desk.tick("2026-07-01T00:10:00Z"), over);
    // Also where it comes due while that runs.
    desk.tick("2026-07-01T00:15:00Z");
    let over = [
        "gave up backup of shop after 1",
        "start backup of shop due 2026-07-01T00:15:00Z: Scheduled",
    ];
    assert_eq!(desk.ended("2026-07-01T00:16:00Z", Outcome::Failed), over);
}

#[test]
fn a_run_that_lasts_longer_than_the_pause_meets_one_of_its_own_kind_waiting() {
    let mut desk = Desk::of(spec("0 * * * *"), "2026-07-01T00:30:00Z");
    desk.tick("2026-07-01T01:00:00Z");
    assert_eq!(desk.tick("2026-07-01T02:00:00Z"), NOTHING);
    for hour in 3..=4 {
        let waited = format!("2026-07-01T0{}:00:00Z", hour - 1);
        let missed = format!("missed 1 of backup of shop: {waited} to {waited}: Waited");
        assert_eq!(desk.tick(&format!("2026-07-01T0{hour}:00:00Z")), [missed.as_str()]);
    }
    let begun = ["start backup of shop due 2026-07-01T04:00:00Z: Scheduled"];
    assert_eq!(desk.ended("2026-07-01T04:10:00Z", Outcome::Succeeded), begun);
    assert_eq!(desk.ended("2026-07-01T04:20:00Z", Outcome::Succeeded), NOTHING);
}

#[test]
fn what_the_end_of_the_agent_stops_stays_owed_and_what_a_person_stops_does_not() {
    let mut desk = Desk::of(spec("0 2 * * *"), "2026-07-01T01:00:00Z");
    desk.tick("2026-07-01T02:00:00Z");
    let mut leaving = Desk(desk.0.clone());
    let cancel = Event::Cancel { key: backup() };
    assert_eq!(desk.tell("2026-07-01T02:05:00Z", cancel.clone()), ["cancel backup of shop"]);
    assert_eq!(desk.tell("2026-07-01T02:05:30Z", cancel.clone()), NOTHING);
    assert_eq!(desk.ended("2026-07-01T02:06:00Z", Outcome::Stopped), NOTHING);
    assert_eq!(desk.wake("2026-07-01T02:06:00Z"), "2026-07-02T02:00:00Z");

    assert_eq!(leaving.tell("2026-07-01T02:05:00Z", Event::Stopping), NOTHING);
    assert_eq!(leaving.ended("2026-07-01T02:06:00Z", Outcome::Stopped), NOTHING);
    assert_eq!(leaving.wake("2026-07-01T02:06:00Z"), "never");
    assert_eq!(leaving.tick("2026-07-02T02:00:00Z"), NOTHING);

    // One that waits is forgone.
    let mut desk = Desk::of(spec("0 2 * * *"), "2026-07-01T01:00:00Z");
    desk.tick("2026-07-01T02:00:00Z");
    desk.ended("2026-07-01T02:01:00Z", Outcome::Failed);
    assert_eq!(desk.tell("2026-07-01T02:01:30Z", cancel), NOTHING);
    assert_eq!(desk.tick("2026-07-01T02:02:00Z"), NOTHING);
}

#[test]
fn a_person_gets_a_run_whatever_window_blackout_and_pause_say() {
    let shut = JobSpec {
        window: window("22:00", "06:00"),
        blackout: days("2026-07-01"),
        jitter: Duration::from_secs(600),
        ..spec("0 12 * * *")
    };
    let mut desk = Desk::of(shut, "2026-07-01T07:00:00Z");
    desk.tell("2026-07-01T08:00:00Z", Event::Pause { of: None });
    let run = Event::Run { key: backup() };
    let by_hand = ["start backup of shop: ByHand"];
    assert_eq!(desk.tell("2026-07-01T09:00:00Z", run.clone()), by_hand);
    assert_eq!(desk.tell("2026-07-01T09:01:00Z", run.clone()), NOTHING, "it runs already");
    desk.ended("2026-07-01T09:10:00Z", Outcome::Failed);
    assert_eq!(desk.state("2026-07-01T09:10:00Z"), State::Paused, "nothing was due");
    desk.tell("2026-07-01T10:00:00Z", Event::Resume { of: None });
    // What begins after a due time serves it, also before its jitter has passed.
    let due = ["start backup of shop due 2026-07-01T12:00:00Z: ByHand"];
    assert_eq!(desk.tell("2026-07-01T12:05:00Z", run), due);
    assert_eq!(desk.ended("2026-07-01T12:08:00Z", Outcome::Succeeded), NOTHING);
    assert_eq!(desk.tick("2026-07-01T12:10:00Z"), NOTHING);
    assert_eq!(desk.state("2026-07-01T12:10:00Z"), State::Idle);
}

#[test]
fn a_paused_job_misses_its_runs_and_one_makes_up_for_them() {
    let mut desk = Desk::of(spec("0 2 * * *"), "2026-07-01T01:00:00Z");
    desk.tell("2026-07-01T01:30:00Z", Event::Pause { of: Some(backup()) });
    for day in 1..=2 {
        let missed = format!(
            "missed 1 of backup of shop: 2026-07-0{day}T02:00:00Z to 2026-07-0{day}T02:00:00Z: Paused"
        );
        assert_eq!(desk.tick(&format!("2026-07-0{day}T02:00:00Z")), [missed]);
    }
    let row = desk.0.rows(at("2026-07-02T03:00:00Z")).remove(0);
    let missed = row.missed.unwrap();
    assert_eq!((row.state, row.next, missed.count), (State::Paused, None, 2));
    assert_eq!(missed.first, at("2026-07-01T02:00:00Z"));
    assert_eq!(
        desk.tell("2026-07-02T09:00:00Z", Event::Resume { of: None }),
        ["start backup of shop due 2026-07-02T02:00:00Z: CatchUp"]
    );
}

#[test]
fn a_schedule_that_is_new_counts_from_now_on() {
    let mut desk = Desk::of(spec("0 2 * * *"), "2026-07-01T01:00:00Z");
    let reload = |specs: Vec<(JobKey, JobSpec)>| Event::Reload {
        specs: specs.into_iter().collect(),
        at_once: 2,
    };
    let hourly = reload(vec![(backup(), spec("0 * * * *"))]);
    assert_eq!(desk.tell("2026-07-01T09:30:00Z", hourly).len(), 2, "02:00 was missed, and begins");
    desk.ended("2026-07-01T09:40:00Z", Outcome::Succeeded);
    let begun = ["start backup of shop due 2026-07-01T10:00:00Z: Scheduled"];
    assert_eq!(desk.tick("2026-07-01T10:00:00Z"), begun);
    // It goes on although it is not configured any more, and comes back with nothing owed.
    assert_eq!(desk.tell("2026-07-01T10:01:00Z", reload(vec![])), NOTHING);
    assert_eq!(desk.state("2026-07-01T10:01:00Z"), State::Running);
    assert_eq!(desk.tick("2026-07-01T11:00:00Z"), NOTHING);
    assert_eq!(desk.ended("2026-07-01T11:10:00Z", Outcome::Failed), NOTHING);
    assert_eq!(desk.wake("2026-07-01T11:10:00Z"), "never");
    assert!(desk.0.rows(at("2026-07-01T11:10:00Z")).is_empty());
    let back = reload(vec![(backup(), spec("0 * * * *"))]);
    assert_eq!(desk.tell("2026-07-01T11:30:00Z", back), NOTHING);
    assert_eq!(desk.wake("2026-07-01T11:30:00Z"), "2026-07-01T12:00:00Z");
}
