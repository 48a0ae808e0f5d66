//! Jobs that run always.

use super::*;

const NOTHING: [&str; 0] = [];

fn stream() -> JobKey {
    key("shop", JobKind::LogStream)
}

fn always() -> JobSpec {
    JobSpec { rhythm: Rhythm::Always, ..spec("0 2 * * *") }
}

fn ended(outcome: Outcome) -> Event {
    Event::Ended { key: stream(), outcome }
}

const BEGUN: [&str; 1] = ["start log stream of shop: Stream"];

#[test]
fn a_stream_begins_at_once_and_counts_for_nothing() {
    let all = [(stream(), always()), (backup(), spec("0 2 * * *"))];
    let mut desk = Desk::of_all(all, 1, "2026-07-01T01:59:00Z");
    assert_eq!(desk.tick("2026-07-01T01:59:00Z"), BEGUN);
    let begun = ["start backup of shop due 2026-07-01T02:00:00Z: Scheduled"];
    assert_eq!(desk.tick("2026-07-01T02:00:00Z"), begun);
}

#[test]
fn a_stream_that_ends_begins_again_after_a_pause_that_grows() {
    let mut desk = Desk::of_all([(stream(), always())], 1, "2026-07-01T00:00:00Z");
    desk.tick("2026-07-01T00:00:00Z");
    let mut now = at("2026-07-01T01:00:00Z");
    for pause in [1, 2, 4, 8, 16].into_iter().chain([30; 8]) {
        let text = now.to_string();
        assert_eq!(desk.tell(&text, ended(Outcome::Failed)), NOTHING, "{text}");
        now += jiff::SignedDuration::from_secs(pause);
        assert_eq!(desk.wake(&text), now.to_string());
        assert_eq!(desk.tick(&now.to_string()), BEGUN);
    }
    // It has failed for 4 min 31 s by now, and is told after five minutes.
    assert_eq!(desk.tell("2026-07-01T01:04:31Z", ended(Outcome::Died)), NOTHING);
    assert_eq!(desk.wake("2026-07-01T01:04:31Z"), "2026-07-01T01:05:00Z");
    let down = ["log stream of shop is down since 2026-07-01T01:00:00Z"];
    assert_eq!(desk.tick("2026-07-01T01:05:00Z"), down);
    assert_eq!(desk.tick("2026-07-01T01:05:01Z"), BEGUN);
    assert_eq!(desk.tell("2026-07-01T01:05:02Z", ended(Outcome::Failed)), NOTHING, "told once");
    assert_eq!(desk.wake("2026-07-01T01:05:02Z"), "2026-07-01T01:05:32Z", "half a minute at most");
    assert_eq!(desk.tick("2026-07-01T01:05:32Z"), BEGUN);
    // After ten minutes it is well, and its next end is its first.
    assert_eq!(desk.wake("2026-07-01T01:05:32Z"), "2026-07-01T01:15:32Z");
    assert_eq!(desk.tick("2026-07-01T01:15:31Z"), NOTHING);
    assert_eq!(desk.tick("2026-07-01T01:15:32Z"), ["log stream of shop is back"]);
    assert_eq!(desk.tell("2026-07-01T02:00:00Z", ended(Outcome::Failed)), NOTHING);
    assert_eq!(desk.wake("2026-07-01T02:00:00Z"), "2026-07-01T02:00:01Z");
}

#[test]
fn a_stream_that_is_stopped_has_not_failed() {
    let mut desk = Desk::of_all([(stream(), always())], 1, "2026-07-01T00:00:00Z");
    desk.tick("2026-07-01T00:00:00Z");
    let stop = ["cancel log stream of shop"];
    // To stop it by hand begins it anew.
    assert_eq!(desk.tell("2026-07-01T00:01:00Z", Event::Cancel { key: stream() }), stop);
    assert_eq!(desk.tell("2026-07-01T00:01:01Z", Event::Cancel { key: stream() }), NOTHING);
    desk.tell("2026-07-01T00:01:02Z", ended(Outcome::Failed));
    assert_eq!(desk.tick("2026-07-01T00:01:03Z"), BEGUN);
    // A pause stops it until it is over.
    assert_eq!(desk.tell("2026-07-01T00:02:00Z", Event::Pause { of: None }), stop);
    assert_eq!(desk.tell("2026-07-01T00:02:01Z", ended(Outcome::Stopped)), NOTHING);
    assert_eq!(desk.wake("2026-07-01T00:02:01Z"), "never");
    assert_eq!(desk.tell("2026-07-01T09:00:00Z", Event::Resume { of: None }), BEGUN);
    // One that is not configured any more ends for good.
    let reload = Event::Reload { specs: BTreeMap::new(), at_once: 1 };
    assert_eq!(desk.tell("2026-07-01T10:00:00Z", reload), stop);
    assert_eq!(desk.tell("2026-07-01T10:00:01Z", ended(Outcome::Stopped)), NOTHING);
    assert!(desk.0.rows(at("2026-07-01T10:00:01Z")).is_empty());
}

#[test]
fn a_clock_that_is_set_back_keeps_no_stream_waiting() {
    let mut desk = Desk::of_all([(stream(), always())], 1, "2026-07-01T00:00:00Z");
    desk.tick("2026-07-01T00:00:00Z");
    desk.tell("2026-07-01T01:00:00Z", ended(Outcome::Failed));
    assert_eq!(desk.tick("2025-07-01T00:00:00Z"), NOTHING);
    assert_eq!(desk.wake("2025-07-01T00:00:00Z"), "2025-07-01T00:00:01Z");
    assert_eq!(desk.tick("2025-07-01T00:00:01Z"), BEGUN);
}
