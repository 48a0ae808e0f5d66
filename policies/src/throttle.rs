//! `[throttle.NAME]`: what the agent leaves to the databases, and when.

use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::keys::Kind::{Section, Size, Text};
use crate::keys::{DAY, Key, duration, number};
use crate::policy::{read_zone, zone_name};
use crate::reader::Reader;
use crate::timing::{WINDOW, read_window};
use crate::units::as_optional_seconds;
use crate::window::Window;

/// For so long a pause lasts at most, and so long the next one waits after one that was ended by this:
/// a host that is always under pressure is backed up in twice the time, and is backed up.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(600);

const LIMITS: [&str; 4] =
    ["bytes_per_second", "requests_per_second", "pause_above_pressure", "pause_above_replica_lag"];

pub(crate) static THROTTLE: &[Key] = &[
    Key::optional(
        "window",
        Section(WINDOW),
        "The part of the day in which it holds; absent: all of it.",
    ),
    Key::with_default("timezone", Text, "UTC", "The zone of the window, an IANA name."),
    Key::optional(
        "bytes_per_second",
        Size { min: 1 << 10, max: 1 << 40 },
        "The most that all throttled work together moves to and from the bucket in a second.",
    ),
    Key::optional(
        "requests_per_second",
        number(1, 100_000),
        "The most objects that all throttled work together writes and reads in a second.",
    ),
    Key::optional(
        "pause_above_pressure",
        number(1, 99),
        "Throttled work pauses while the host's pressure (PSI) is above this percentage.",
    ),
    Key::optional(
        "pause_above_replica_lag",
        duration(1, DAY),
        "Backups of a source pause while one of its replicas is further behind than this.",
    ),
];

/// What bounds the agent's work, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Throttle {
    /// The part of the day in which it is in force; `None`: always.
    pub window: Option<Window>,
    /// The zone of that.
    #[serde(serialize_with = "zone_name")]
    pub timezone: TimeZone,
    /// Its bounds.
    #[serde(flatten)]
    pub limits: WorkLimits,
}

/// Bounds of work; `None`: unbounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WorkLimits {
    /// Bytes that are moved in a second. 1 KiB to 1 TiB.
    pub bytes_per_second: Option<u64>,
    /// Objects that are written or read in a second. 1 to 100,000.
    pub requests_per_second: Option<u64>,
    /// The pressure of the host above which work pauses, in percent. 1 to 99.
    pub pause_above_pressure: Option<u64>,
    /// How far a source's replicas may be behind until its backups pause. 1 second to 1 day.
    #[serde(rename = "pause_above_replica_lag_seconds", serialize_with = "as_optional_seconds")]
    pub pause_above_replica_lag: Option<Duration>,
}

impl WorkLimits {
    /// The narrower one of each bound.
    fn with(self, other: Self) -> Self {
        fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
            one.into_iter().chain(other).min()
        }
        WorkLimits {
            bytes_per_second: least(self.bytes_per_second, other.bytes_per_second),
            requests_per_second: least(self.requests_per_second, other.requests_per_second),
            pause_above_pressure: least(self.pause_above_pressure, other.pause_above_pressure),
            pause_above_replica_lag: least(
                self.pause_above_replica_lag,
                other.pause_above_replica_lag,
            ),
        }
    }
}

/// What holds at a time: of each bound the narrowest that is in force.
pub fn limits_at<'a>(all: impl IntoIterator<Item = &'a Throttle>, at: Timestamp) -> WorkLimits {
    all.into_iter()
        .filter(|one| one.window.is_none_or(|window| window.holds(&one.timezone, at)))
        .fold(WorkLimits::default(), |limits, one| limits.with(one.limits))
}

/// Whether work pauses for something that is measured: it begins above a limit, and ends at three
/// quarters of it, so that work does not start and stop all the time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pause {
    /// Since when work pauses.
    since: Option<Duration>,
    /// Until when it does not pause, since a pause lasted for as long as one may.
    not_before: Duration,
}

impl Pause {
    /// Whether work pauses now. `now` is on any clock that never goes back. What is not known, or not
    /// limited, is no reason to pause.
    pub fn turn(&mut self, now: Duration, measured: Option<f64>, limit: Option<f64>) -> bool {
        let limit = limit.map(|limit| if self.since.is_some() { limit * 0.75 } else { limit });
        let above = measured.zip(limit).is_some_and(|(measured, limit)| measured > limit);
        match self.since {
            Some(since) if above && now.saturating_sub(since) >= LONGEST_PAUSE => {
                *self = Pause { since: None, not_before: now.saturating_add(LONGEST_PAUSE) };
            }
            Some(_) if !above => self.since = None,
            None if above && now >= self.not_before => self.since = Some(now),
            _ => {}
        }
        self.since.is_some()
    }
}

/// Reads one `[throttle.NAME]`, whose name stands at `span`.
pub(crate) fn read(reader: &Reader<'_>, span: &Range<usize>) -> Option<Throttle> {
    let timezone = read_zone(reader);
    let window = reader.has("window").then(|| read_window(&reader.section("window")?));
    let limits = WorkLimits {
        bytes_per_second: reader.size("bytes_per_second"),
        requests_per_second: reader.number("requests_per_second"),
        pause_above_pressure: reader.number("pause_above_pressure"),
        pause_above_replica_lag: reader.duration("pause_above_replica_lag"),
    };
    if !LIMITS.iter().any(|key| reader.has(key)) {
        let advice = format!("give it one of `{}`, or remove it", LIMITS.join("`, `"));
        reader.report.advise(span, "this limits nothing", advice);
        return None;
    }
    if reader.has("timezone") && window.is_none() {
        let message = "`timezone` has no effect without a `window`";
        let advice = "give it a window, or remove `timezone`";
        reader.report.advise(&reader.span_of_key("timezone"), message, advice);
        return None;
    }
    let window = match window {
        Some(window) => Some(window?),
        None => None,
    };
    Some(Throttle { window, timezone: timezone?, limits })
}

#[cfg(test)]
mod tests {
    use jiff::civil::time;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_narrowest_that_is_in_force_holds() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let one = |window, bytes, requests| Throttle {
            window,
            timezone: zone.clone(),
            limits: WorkLimits {
                bytes_per_second: bytes,
                requests_per_second: requests,
                ..WorkLimits::default()
            },
        };
        let day = Window::new(time(8, 0, 0, 0), time(18, 0, 0, 0));
        let all =
            [one(None, Some(100), Some(9)), one(day, Some(10), None), one(None, None, Some(7))];
        let at = |text: &str| {
            let limits = limits_at(&all, text.parse().unwrap());
            (limits.bytes_per_second, limits.requests_per_second)
        };
        assert_eq!(at("2026-01-05T06:59:59Z"), (Some(100), Some(7)));
        assert_eq!(at("2026-01-05T07:00:00Z"), (Some(10), Some(7)), "08:00 in Berlin");
        assert_eq!(at("2026-07-05T06:00:00Z"), (Some(10), Some(7)), "in summer, too");
        assert_eq!(at("2026-01-05T17:00:00Z"), (Some(100), Some(7)));
        assert_eq!(limits_at([], Timestamp::UNIX_EPOCH), WorkLimits::default());
    }

    #[test]
    fn work_pauses_above_the_limit_and_goes_on_well_below_it() {
        let mut pause = Pause::default();
        let cases =
            [(39.0, false), (41.0, true), (39.0, true), (31.0, true), (29.0, false), (39.0, false)];
        for (second, (pressure, expected)) in (0..).zip(cases) {
            assert_eq!(
                pause.turn(seconds(second), Some(pressure), Some(40.0)),
                expected,
                "{pressure}"
            );
        }
        assert!(!pause.turn(seconds(6), None, Some(40.0)), "nobody knows");
        assert!(!pause.turn(seconds(6), Some(99.0), None), "nobody asked for it");
    }

    #[test]
    fn a_pause_ends_and_the_next_one_waits_where_the_pressure_never_does() {
        let mut pause = Pause::default();
        let paused: Vec<u64> = (0..3_600)
            .filter(|second| pause.turn(seconds(*second), Some(90.0), Some(40.0)))
            .collect();
        let expected: Vec<u64> = (0..600).chain(1_200..1_800).chain(2_400..3_000).collect();
        assert_eq!(paused, expected);
    }
}
