//! A clock that is set, and one that changes for the summer.

use super::*;

const NOTHING: [&str; 0] = [];

/// After 02:00 was served.
fn served() -> Desk {
    let mut desk = Desk::of(spec("0 * * * *"), "2026-07-01T01:30:00Z");
    assert_eq!(desk.tick("2026-07-01T02:00:00Z").len(), 1);
    desk.ended("2026-07-01T02:05:00Z", Outcome::Succeeded);
    desk
}

#[test]
fn a_clock_that_is_set_back_a_little_doubles_nothing() {
    for back in ["2026-07-01T02:05:00Z", "2026-07-01T01:10:00Z", "2026-07-01T00:05:00Z"] {
        let mut desk = served();
        assert_eq!(desk.tick(back), NOTHING, "{back}");
        assert_eq!(desk.wake(back), "2026-07-01T03:00:00Z", "{back}");
        assert_eq!(desk.tick("2026-07-01T02:00:00Z"), NOTHING, "{back}");
        let begun = ["start backup of shop due 2026-07-01T03:00:00Z: Scheduled"];
        assert_eq!(desk.tick("2026-07-01T03:00:00Z"), begun, "{back}");
    }
}

#[test]
fn a_clock_that_is_set_back_by_much_keeps_nothing_silent() {
    let mut desk = served();
    assert_eq!(desk.tick("2025-07-01T02:06:00Z"), NOTHING);
    let begun = ["start backup of shop due 2025-07-01T03:00:00Z: Scheduled"];
    assert_eq!(desk.tick("2025-07-01T03:00:00Z"), begun);
    // If nothing had begun, what was served before counts again when the clock comes back.
    let mut desk = served();
    assert_eq!(desk.tick("2025-07-01T02:06:00Z"), NOTHING);
    assert_eq!(desk.tick("2026-07-01T02:07:00Z"), NOTHING);
    let begun = ["start backup of shop due 2026-07-01T03:00:00Z: Scheduled"];
    assert_eq!(desk.tick("2026-07-01T03:00:00Z"), begun);
}

#[test]
fn a_clock_that_comes_by_itself_to_what_was_set_aside_has_not_leapt() {
    let mut desk = Desk::of(spec("0 2 * * *"), "2026-07-01T01:30:00Z");
    desk.tick("2026-07-01T02:00:00Z");
    desk.ended("2026-07-01T02:05:00Z", Outcome::Succeeded);
    assert_eq!(desk.tick("2026-06-30T12:00:00Z"), NOTHING);
    assert_eq!(desk.wake("2026-06-30T12:00:00Z"), "2026-07-01T00:00:00Z");
    assert_eq!(desk.tick("2026-07-01T00:00:00Z"), NOTHING);
    let begun = ["start backup of shop due 2026-07-01T02:00:00Z: Scheduled"];
    assert_eq!(desk.tick("2026-07-01T02:00:00Z"), begun);
}

#[test]
fn a_clock_that_went_ahead_and_comes_back_skips_nothing() {
    let mut desk = served();
    let ahead = desk.tick("2027-07-01T02:30:00Z");
    assert_eq!(ahead.len(), 2, "missed, and one run: {ahead:?}");
    desk.ended("2027-07-01T02:40:00Z", Outcome::Succeeded);
    assert_eq!(
        desk.tick("2026-07-01T04:30:00Z"),
        [
            "missed 2 of backup of shop: 2026-07-01T03:00:00Z to 2026-07-01T04:00:00Z: AgentAway",
            "start backup of shop due 2026-07-01T04:00:00Z: CatchUp",
        ]
    );
    desk.ended("2026-07-01T04:40:00Z", Outcome::Succeeded);
    assert_eq!(desk.wake("2026-07-01T04:40:00Z"), "2026-07-01T05:00:00Z");
}

#[test]
fn dates_of_a_wrong_clock_are_forgotten_when_a_run_begins_by_the_right_one() {
    let mut desk = served();
    assert_eq!(desk.tick("2026-07-01T06:30:00Z").len(), 2, "missed, and one run");
    desk.ended("2026-07-01T06:40:00Z", Outcome::Succeeded);
    assert_eq!(desk.tick("2026-07-01T02:40:00Z"), NOTHING);
    assert_eq!(desk.tick("2026-07-01T03:00:00Z").len(), 1);
    desk.ended("2026-07-01T03:10:00Z", Outcome::Succeeded);
    // Asleep until after those dates: what came due meanwhile was missed.
    assert_eq!(
        desk.tick("2026-07-01T08:10:00Z"),
        [
            "missed 5 of backup of shop: 2026-07-01T04:00:00Z to 2026-07-01T08:00:00Z: AgentAway",
            "start backup of shop due 2026-07-01T08:00:00Z: CatchUp",
        ]
    );
}

#[test]
fn a_retry_waits_no_longer_after_a_clock_was_set_back() {
    let mut desk = Desk::of(spec("0 2 * * *"), "2026-07-01T01:30:00Z");
    desk.tick("2026-07-01T02:00:00Z");
    desk.ended("2026-07-01T02:05:00Z", Outcome::Failed);
    assert_eq!(desk.tick("2025-07-01T00:00:00Z"), NOTHING);
    assert_eq!(desk.wake("2025-07-01T00:00:00Z"), "2025-07-01T00:01:00Z");
    let again = ["start backup of shop due 2026-07-01T02:00:00Z: Retry(1)"];
    assert_eq!(desk.tick("2025-07-01T00:01:00Z"), again);
}

#[test]
fn summer_time_neither_skips_nor_doubles_a_run() {
    for (from, until) in [("2026-03-26", "2026-04-02"), ("2026-10-22", "2026-10-29")] {
        let zone = time_zone("Europe/Berlin").unwrap();
        let rhythm = Rhythm::At(Schedule::new("30 2 * * *", zone.clone()).unwrap());
        let nightly =
            JobSpec { rhythm, window: window("02:00", "03:00"), zone, ..spec("0 0 * * *") };
        let mut desk = Desk::of(nightly, &format!("{from}T12:00:00Z"));
        let mut begun = 0;
        let mut now = at(&format!("{from}T12:00:00Z"));
        while now < at(&format!("{until}T12:00:00Z")) {
            let told = desk.tick(&now.to_string());
            begun += told.len();
            assert!(told.iter().all(|line| line.ends_with("Scheduled")), "{told:?}");
            desk.ended(&now.to_string(), Outcome::Succeeded);
            now = desk.0.next_wake(now).unwrap();
        }
        assert_eq!(begun, 7, "from {from}");
    }
}
