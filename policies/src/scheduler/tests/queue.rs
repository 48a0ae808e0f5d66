//! Several jobs: one of a source at a time, so many at once, who comes first, and what is apart.

use super::*;

const NOTHING: [&str; 0] = [];

fn ended(source: &str, kind: JobKind) -> Event {
    Event::Ended { key: key(source, kind), outcome: Outcome::Succeeded }
}

#[test]
fn jobs_of_one_source_queue_in_their_order() {
    let all = [JobKind::Prune, JobKind::Backup].map(|kind| (key("shop", kind), spec("0 2 * * *")));
    let mut desk = Desk::of_all(all, 9, "2026-07-01T01:00:00Z");
    let begun =
        |kind: &str| vec![format!("start {kind} of shop due 2026-07-01T02:00:00Z: Scheduled")];
    assert_eq!(desk.tick("2026-07-01T02:00:00Z"), begun("backup"));
    let states: Vec<State> =
        desk.0.rows(at("2026-07-01T02:00:00Z")).into_iter().map(|row| row.state).collect();
    assert_eq!(states, [State::Running, State::WaitsForJob(JobKind::Backup)]);
    // Nothing of it is missed, however long it waits.
    let next = desk.tell("2026-07-01T09:00:00Z", ended("shop", JobKind::Backup));
    assert_eq!(next, begun("prune"));
}

#[test]
fn a_verify_keeps_no_backup_waiting_and_waits_for_none_but_for_another_verify() {
    let all = [
        (key("bank", JobKind::Verify), spec("0 1 * * *")),
        (key("shop", JobKind::Verify), spec("0 1 * * *")),
        (key("bank", JobKind::Backup), spec("0 2 * * *")),
        (key("bank", JobKind::Prune), spec("0 3 * * *")),
    ];
    let mut desk = Desk::of_all(all, 1, "2026-07-01T00:59:00Z");
    let begun = |what: &str, hour: u32| {
        vec![format!("start {what} due 2026-07-01T0{hour}:00:00Z: Scheduled")]
    };
    assert_eq!(desk.tick("2026-07-01T01:00:00Z"), begun("verify of bank", 1));
    assert_eq!(desk.tick("2026-07-01T02:00:00Z"), begun("backup of bank", 2));
    let states: Vec<State> =
        desk.0.rows(at("2026-07-01T02:00:00Z")).into_iter().map(|row| row.state).collect();
    let expected = [State::Running, State::Running, State::Idle, State::WaitsForPlace];
    assert_eq!(states, expected, "backup, verify and prune of bank, verify of shop");
    assert_eq!(desk.tick("2026-07-01T03:00:00Z"), NOTHING, "the backup runs");
    let next = desk.tell("2026-07-01T04:00:00Z", ended("bank", JobKind::Backup));
    assert_eq!(next, begun("prune of bank", 3));
    let next = desk.tell("2026-07-01T05:00:00Z", ended("bank", JobKind::Verify));
    assert_eq!(next, begun("verify of shop", 1));
}

#[test]
fn a_report_waits_for_nothing_but_another_report() {
    let of = |source, kind, line| (key(source, kind), spec(line));
    let all = [
        of("bank", JobKind::Backup, "0 1 * * *"),
        of("bank", JobKind::Verify, "0 2 * * *"),
        of("bank", JobKind::Report, "0 3 * * *"),
        of("shop", JobKind::Report, "0 4 * * *"),
    ];
    let mut desk = Desk::of_all(all, 1, "2026-07-01T00:59:00Z");
    let begun = |what: &str, hour: u32| {
        vec![format!("start {what} due 2026-07-01T0{hour}:00:00Z: Scheduled")]
    };
    assert_eq!(desk.tick("2026-07-01T01:00:00Z"), begun("backup of bank", 1));
    assert_eq!(desk.tick("2026-07-01T02:00:00Z"), begun("verify of bank", 2));
    assert_eq!(desk.tick("2026-07-01T03:00:00Z"), begun("report of bank", 3));
    assert_eq!(desk.tick("2026-07-01T04:00:00Z"), NOTHING, "the report runs");
    let next = desk.tell("2026-07-01T05:00:00Z", ended("bank", JobKind::Report));
    assert_eq!(next, begun("report of shop", 4));
}

#[test]
fn so_many_run_at_once_and_the_one_that_waits_for_longest_is_next() {
    let all = [("a", "3 2 * * *"), ("b", "2 2 * * *"), ("c", "1 2 * * *"), ("d", "0 2 * * *")]
        .map(|(source, line)| (key(source, JobKind::Backup), spec(line)));
    let mut desk = Desk::of_all(all, 1, "2026-07-01T01:00:00Z");
    desk.tick("2026-07-01T02:00:00Z");
    for minute in 1..=3 {
        assert_eq!(desk.tick(&format!("2026-07-01T02:0{minute}:00Z")), NOTHING);
    }
    assert_eq!(desk.state("2026-07-01T02:03:00Z"), State::WaitsForPlace);
    for (last, next, minute) in [("d", "c", 1), ("c", "b", 2), ("b", "a", 3)] {
        assert_eq!(
            desk.tell("2026-07-01T03:00:00Z", ended(last, JobKind::Backup)),
            [format!("start backup of {next} due 2026-07-01T02:0{minute}:00Z: Scheduled")]
        );
    }
}

#[test]
fn what_waits_for_longest_is_next_and_a_person_is_before_all() {
    let all = [
        (key("a", JobKind::Backup), spec("0 2 * * *")),
        (key("b", JobKind::Prune), spec("1 2 * * *")),
        (key("d", JobKind::Backup), spec("2 2 * * *")),
        (key("e", JobKind::Prune), spec("0 12 * * *")),
    ];
    let mut desk = Desk::of_all(all, 1, "2026-07-01T01:59:00Z");
    desk.tick("2026-07-01T02:00:00Z");
    desk.tick("2026-07-01T02:01:00Z");
    desk.tick("2026-07-01T02:02:00Z");
    let run = Event::Run { key: key("e", JobKind::Prune) };
    assert_eq!(desk.tell("2026-07-01T02:03:00Z", run), NOTHING, "there is no place");
    let order = [
        (ended("a", JobKind::Backup), "start prune of e: ByHand"),
        (ended("e", JobKind::Prune), "start prune of b due 2026-07-01T02:01:00Z: Scheduled"),
        (ended("b", JobKind::Prune), "start backup of d due 2026-07-01T02:02:00Z: Scheduled"),
    ];
    for (event, next) in order {
        assert_eq!(desk.tell("2026-07-01T03:00:00Z", event), [next]);
    }
}

#[test]
fn of_those_that_wait_for_as_long_the_one_that_has_not_run_for_longest_is_next() {
    let all = ["a", "b"].map(|source| (key(source, JobKind::Backup), spec("* * * * *")));
    let mut desk = Desk::of_all(all, 1, "2026-07-01T02:00:30Z");
    let ended = |source: &str| Event::Ended {
        key: key(source, JobKind::Backup),
        outcome: Outcome::Succeeded,
    };
    assert_eq!(
        desk.tick("2026-07-01T02:01:00Z"),
        ["start backup of a due 2026-07-01T02:01:00Z: Scheduled"]
    );
    // Both are due once more when it ends, and neither has had the other one's turn.
    let next = desk.tell("2026-07-01T02:02:10Z", ended("a"));
    assert!(next.last().is_some_and(|next| next.starts_with("start backup of b")), "{next:?}");
    let next = desk.tell("2026-07-01T02:03:10Z", ended("b"));
    assert!(next.last().is_some_and(|next| next.starts_with("start backup of a")), "{next:?}");
}

#[test]
fn more_places_are_filled_at_once() {
    let all = ["a", "b", "c"].map(|source| (key(source, JobKind::Backup), spec("0 2 * * *")));
    let mut desk = Desk::of_all(all.clone(), 1, "2026-07-01T01:00:00Z");
    assert_eq!(desk.tick("2026-07-01T02:00:00Z").len(), 1);
    let reload = Event::Reload { specs: all.into(), at_once: 3 };
    assert_eq!(desk.tell("2026-07-01T02:01:00Z", reload).len(), 2);
}
