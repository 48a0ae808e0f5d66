//! When a run may begin: in a window of the day, and not on some dates.

use std::fmt;

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use serde::{Serialize, Serializer};

/// A part of every day, on a policy's wall clock, in which runs may begin. One that ends before it
/// begins goes across midnight.
///
/// It opens when the clock first shows `from`, and closes when it next shows `until`. Where the
/// clock goes forward, a time that it does not show is as much later as it went forward, as in a
/// [`Schedule`](crate::Schedule): so no window is lost that night.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Window {
    /// From when on a run may begin.
    #[serde(serialize_with = "hours_minutes")]
    from: Time,
    /// From when on none may.
    #[serde(serialize_with = "hours_minutes")]
    until: Time,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn hours_minutes<S: Serializer>(time: &Time, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&time.strftime("%H:%M"))
}

impl Window {
    /// `None` where both are the same: that is no window, and would be taken for a whole day by
    /// some and for nothing by others.
    #[must_use]
    pub fn new(from: Time, until: Time) -> Option<Self> {
        (from != until).then_some(Window { from, until })
    }

    /// Whether a run may begin at a time.
    #[must_use]
    pub fn holds(&self, zone: &TimeZone, at: Timestamp) -> bool {
        self.next_open(zone, at) == Some(at)
    }

    /// The time itself where it lies in the window, else when the window opens next.
    #[must_use]
    pub fn next_open(&self, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
        // What is open now may have begun the day before; no zone ever left out two days.
        let mut date = zone.to_datetime(at).date().checked_sub(2.days()).ok()?;
        for _ in 0..6 {
            let (opens, closes) = self.on(zone, date)?;
            if closes > at {
                return Some(opens.max(at));
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// When it opens on a date, and when it closes after that.
    fn on(&self, zone: &TimeZone, date: Date) -> Option<(Timestamp, Timestamp)> {
        let across = self.until <= self.from;
        let from = date.to_datetime(self.from);
        let until = if across { date.tomorrow().ok()? } else { date }.to_datetime(self.until);
        let instant = |wall| zone.to_ambiguous_timestamp(wall).compatible().ok();
        let (opens, mut closes) = (instant(from)?, instant(until)?);
        // The last minute of it may be one that the clock does not show: then it comes later.
        let last = until.checked_sub(1.minute()).ok()?;
        if let AmbiguousOffset::Gap { .. } = zone.to_ambiguous_timestamp(last).offset() {
            closes = closes.max(instant(last)?.checked_add(1.minute()).ok()?);
        }
        if closes > opens {
            return Some((opens, closes));
        }
        // All of it lies where the clock went forward: it lasts as long as on any other day.
        let length = from.duration_until(until);
        Some((opens, opens.checked_add(length).ok()?))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.from.strftime("%H:%M"), self.until.strftime("%H:%M"))
    }
}

/// Reads a time of day such as `22:00`.
pub(crate) fn time_of_day(text: &str) -> Option<Time> {
    let shaped = text.len() == 5
        && text
            .bytes()
            .enumerate()
            .all(|(at, b)| if at == 2 { b == b':' } else { b.is_ascii_digit() });
    shaped.then(|| text.parse().ok()).flatten()
}

/// Dates on which no run begins, on a policy's wall clock; both are among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blackout {
    from: Date,
    until: Date,
}

impl Blackout {
    /// `None` where it ends before it begins.
    #[must_use]
    pub fn new(from: Date, until: Date) -> Option<Self> {
        (from <= until).then_some(Blackout { from, until })
    }

    /// Whether a date is among them.
    #[must_use]
    pub fn holds(&self, date: Date) -> bool {
        (self.from..=self.until).contains(&date)
    }

    /// When the day after them begins; `None` at the end of the calendar.
    fn ends(&self, zone: &TimeZone) -> Option<Timestamp> {
        let after = self.until.tomorrow().ok()?;
        Some(after.to_zoned(zone.clone()).ok()?.timestamp())
    }
}

impl fmt::Display for Blackout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.until {
            return self.from.fmt(f);
        }
        write!(f, "{}..{}", self.from, self.until)
    }
}

impl Serialize for Blackout {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Reads a date such as `2026-12-24`, or two with `..` between them.
pub(crate) fn blackout(text: &str) -> Option<Blackout> {
    let (from, until) = text.split_once("..").unwrap_or((text, text));
    Blackout::new(date(from)?, date(until)?)
}

fn date(text: &str) -> Option<Date> {
    let dash = |at: usize| matches!(at, 4 | 7);
    let shaped = text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(at, b)| if dash(at) { b == b'-' } else { b.is_ascii_digit() });
    shaped.then(|| text.parse().ok()).flatten()
}

/// The first moment from `at` on at which a run may begin; `None`: never any more.
#[must_use]
pub fn may_begin(
    window: Option<&Window>,
    blackout: &[Blackout],
    zone: &TimeZone,
    at: Timestamp,
) -> Option<Timestamp> {
    let mut at = at;
    // Each round passes a blackout for good, but where a date comes twice because the clock went
    // back across midnight.
    for _ in 0..=2 * blackout.len() + 4 {
        let opens = match window {
            Some(window) => window.next_open(zone, at)?,
            None => at,
        };
        let date = zone.to_datetime(opens).date();
        let Some(days) = blackout.iter().find(|days| days.holds(date)) else {
            return Some(opens);
        };
        let later = opens.checked_add(SignedDuration::from_mins(1)).ok()?;
        at = days.ends(zone)?.max(later);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Schedule, time_zone};

    fn window(from: &str, until: &str) -> Window {
        Window::new(time_of_day(from).unwrap(), time_of_day(until).unwrap()).unwrap()
    }

    fn berlin() -> TimeZone {
        time_zone("Europe/Berlin").unwrap()
    }

    fn next(window: Window, at: &str) -> String {
        let at: Timestamp = at.parse().unwrap();
        window.next_open(&berlin(), at).unwrap().to_string()
    }

    #[test]
    fn a_window_opens_and_closes_by_the_wall_clock() {
        let night = window("22:00", "06:00");
        for (at, opens) in [
            ("2026-07-01T19:59:59Z", "2026-07-01T20:00:00Z"),
            ("2026-07-01T20:00:00Z", "2026-07-01T20:00:00Z"),
            ("2026-07-02T03:59:59Z", "2026-07-02T03:59:59Z"),
            ("2026-07-02T04:00:00Z", "2026-07-02T20:00:00Z"),
            ("2026-12-01T04:59:59Z", "2026-12-01T04:59:59Z"),
        ] {
            assert_eq!(next(night, at), opens, "{at}");
        }
        let noon = window("12:00", "13:00");
        assert_eq!(next(noon, "2026-07-01T11:00:00Z"), "2026-07-02T10:00:00Z");
    }

    // 2026-03-29: 02:00 +01:00 becomes 03:00 +02:00, at 01:00 UTC.
    #[test]
    fn no_window_is_lost_where_the_clock_goes_forward() {
        for (from, until, opens, closes) in [
            ("02:00", "03:00", "01:00", "02:00"),
            ("02:10", "02:40", "01:10", "01:40"),
            ("01:00", "02:00", "00:00", "01:00"),
            ("01:30", "03:00", "00:30", "02:00"),
            ("23:00", "02:30", "22:00", "01:30"),
            ("02:45", "03:15", "01:45", "02:15"),
            ("22:00", "06:00", "21:00", "04:00"),
        ] {
            let day = if from > "20" { "2026-03-28" } else { "2026-03-29" };
            let window = window(from, until);
            let instant = |day, time| format!("{day}T{time}:00Z").parse::<Timestamp>().unwrap();
            let (opens, closes) = (instant(day, opens), instant("2026-03-29", closes));
            let (before, last) = (opens - 1.second(), closes - 1.second());
            assert_eq!(window.next_open(&berlin(), before), Some(opens), "{from} to {until}");
            assert!(window.holds(&berlin(), last), "{from} to {until}");
            assert!(!window.holds(&berlin(), closes), "{from} to {until}");
        }
    }

    // 2026-10-25: 03:00 +02:00 becomes 02:00 +01:00, at 01:00 UTC.
    #[test]
    fn an_hour_that_comes_twice_is_in_a_window_that_holds_it_whole() {
        let window = window("02:00", "03:00");
        assert_eq!(next(window, "2026-10-24T22:00:00Z"), "2026-10-25T00:00:00Z");
        assert!(window.holds(&berlin(), "2026-10-25T01:59:59Z".parse().unwrap()));
        assert_eq!(next(window, "2026-10-25T02:00:00Z"), "2026-10-26T01:00:00Z");
    }

    #[test]
    fn a_run_whose_time_lies_in_the_window_is_in_it_when_the_clock_changes() {
        for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo"] {
            let zone = time_zone(zone).unwrap();
            let window = window("00:00", "04:00");
            let schedule = Schedule::new("*/20 0-3 * * *", zone.clone()).unwrap();
            let mut at: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
            for _ in 0..365 * 12 {
                at = schedule.next_after(at).unwrap();
                assert!(window.holds(&zone, at), "{at} in {zone:?}");
            }
        }
    }

    #[test]
    fn nothing_begins_on_a_date_that_is_blacked_out() {
        let days = ["2026-12-24..2026-12-26", "2026-12-27"].map(|text| blackout(text).unwrap());
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let night = window("22:00", "06:00");
        for (window, from, expected) in [
            (None, "2026-12-23T22:59:59Z", "2026-12-23T22:59:59Z"),
            (None, "2026-12-23T23:00:00Z", "2026-12-27T23:00:00Z"),
            (Some(&night), "2026-12-23T23:00:00Z", "2026-12-27T23:00:00Z"),
            (Some(&night), "2026-12-28T12:00:00Z", "2026-12-28T21:00:00Z"),
        ] {
            let found = may_begin(window, &days, &berlin(), at(from));
            assert_eq!(found, Some(at(expected)), "{window:?} {from}");
        }
        let for_ever = blackout("2026-12-24..9999-12-31").unwrap();
        assert_eq!(may_begin(None, &[for_ever], &berlin(), at("2026-12-24T00:00:00Z")), None);
    }

    #[test]
    fn what_is_no_time_and_no_date_is_refused() {
        for text in ["", "24:00", "2:00", "22:60", "22:00:00", "2200", "+2:00", "22h00"] {
            assert_eq!(time_of_day(text), None, "{text}");
        }
        for text in [
            "",
            "2026-02-29",
            "20261224",
            "2026-12-24T00:00",
            "2026-12-26..2026-12-24",
            "2026-12-24..",
            "..2026-12-24",
            "2026-12-24..2026-12-25..2026-12-26",
            "24.12.2026",
        ] {
            assert_eq!(blackout(text), None, "{text}");
        }
        for text in ["2026-12-24", "2026-12-24..2027-01-02"] {
            assert_eq!(blackout(text).unwrap().to_string(), text);
        }
        assert_eq!(blackout("2026-12-24..2026-12-24").unwrap().to_string(), "2026-12-24");
        assert_eq!(window("22:00", "06:00").to_string(), "22:00 to 06:00");
    }
}
