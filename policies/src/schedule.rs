use std::fmt;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use crate::diagnostic::{nearest, show};
use crate::schedule_field::FIELDS;

/// When backups are due: a cron line read in a time zone.
///
/// Five fields: minute, hour, day of month, month, day of week, with `*`, lists, ranges, steps,
/// names (`MON`, `JAN`) and the extensions `L`, `LW`, `15W`, `5L` and `5#2`. When both the day of
/// the month and the day of the week are restricted, either is enough, as cron has always done.
/// Or a nickname: `@hourly`, `@daily` (`@midnight`), `@weekly`, `@monthly`, `@yearly` (`@annually`).
///
/// A change of the clock neither skips nor doubles a run:
///
/// - When the clock goes forward, a run in the hour that does not exist happens as much later as
///   the clock went forward (02:30 becomes 03:30). Where another run is due at that time, both
///   are one.
/// - When the clock goes back, a run in the repeated hour happens the first time only. But a
///   schedule for *every* hour follows the hours as they pass, and runs in both.
#[derive(Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    cron: Cron,
    zone: TimeZone,
    every_hour: bool,
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// A cron line with seconds, with a year, or cut short.
    #[error(
        "a schedule has 5 fields (minute, hour, day of month, month, day of week), this has {found}"
    )]
    Fields {
        /// How many there are.
        found: usize,
    },
    /// `@reboot` and the like.
    #[error("`{text}` is not supported in a schedule")]
    Nickname {
        /// The nickname, as it was written.
        text: String,
    },
    /// A field that says nothing, or nothing that exists.
    #[error("bad schedule: {field} `{text}`: {problem}")]
    Field {
        /// Its name, such as "day of month".
        field: &'static str,
        /// The field, as it was written.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A day that no month has.
    #[error("this schedule can never fire: no month it allows has such a day")]
    Never,
}

impl ScheduleError {
    /// What to write instead.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            ScheduleError::Nickname { .. } => NICKNAMES_HINT,
            ScheduleError::Never => "for the last day of a month write \"0 0 L * *\"",
            _ => EXAMPLE,
        }
    }
}

/// The cron lines of the nicknames.
const NICKNAMES: &[(&str, &str)] = &[
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

const NICKNAMES_HINT: &str =
    "write a cron line, or one of @hourly, @daily, @weekly, @monthly and @yearly";

const EXAMPLE: &str = "write for example \"0 2 * * *\" for every day at 02:00";

/// More than a wall clock was ever moved at once: Samoa skipped a day in 2011.
const LARGEST_JUMP: SignedDuration = SignedDuration::from_hours(25);

/// Where the search for a first run begins. Any time does: patterns have no year.
const SOMEWHEN: DateTime = DateTime::constant(2026, 1, 1, 0, 0, 0, 0);

impl Schedule {
    /// Reads a cron line of five fields, or a nickname, which is the cron line that it stands for.
    ///
    /// # Errors
    /// [`ScheduleError`]: the line is not one, or no time will ever match it.
    ///
    /// The line is not one, or no time will ever match it.
    pub fn new(text: &str, zone: TimeZone) -> Result<Self, ScheduleError> {
        let text = match text.trim() {
            word if word.starts_with('@') => line_of(word)?,
            line => line,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() != FIELDS.len() {
            return Err(ScheduleError::Fields { found: fields.len() });
        }
        for (field, text) in FIELDS.iter().zip(&fields) {
            let bad = |problem: String| ScheduleError::Field {
                field: field.name,
                text: show(text),
                problem: show(&problem),
            };
            field.check(text).map_err(bad)?;
        }
        let text = fields.join(" ");
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(&text).map_err(|error| ScheduleError::Field {
            field: "line",
            text: show(&text),
            problem: error.to_string(),
        })?;
        let every_hour = cron.pattern.hours.values().len() == 24;
        let schedule = Schedule { text, cron, zone, every_hour };
        schedule.wall_after(SOMEWHEN).ok_or(ScheduleError::Never)?;
        Ok(schedule)
    }

    /// The cron line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The zone whose wall clock the line speaks of.
    #[must_use]
    pub fn time_zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first run after a time, never that time itself.
    ///
    /// `None` at the end of the calendar (year 5000) only.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.next_while_calm(after).or_else(|| self.next_slowly(after))
    }

    fn next_slowly(&self, after: Timestamp) -> Option<Timestamp> {
        // Wall clock times and instants have the same order but for a jump of the clock: so look
        // at all wall clock times that are within one jump of the answer.
        let mut wall = self.zone.to_datetime(after).saturating_sub(LARGEST_JUMP);
        let mut best: Option<Timestamp> = None;
        while let Some(next) = self.wall_after(wall) {
            wall = next;
            let passed = |best| wall > self.zone.to_datetime(best).saturating_add(LARGEST_JUMP);
            if best.is_some_and(passed) {
                break;
            }
            let instants = self.instants(wall).into_iter().flatten();
            best = instants.filter(|at| *at > after).chain(best).min();
        }
        best
    }

    /// The same where no clock is changed anywhere near, which is most of the year and much faster.
    fn next_while_calm(&self, after: Timestamp) -> Option<Timestamp> {
        // The fraction of a second is none of cron's business.
        let mut wall = self.zone.to_datetime(after).saturating_sub(SignedDuration::from_mins(1));
        let at = loop {
            wall = self.wall_after(wall)?;
            let [at, _] = self.instants(wall);
            if at? > after {
                break at?;
            }
        };
        let (from, until) =
            (after.checked_sub(LARGEST_JUMP).ok()?, at.checked_add(LARGEST_JUMP).ok()?);
        let change = self.zone.following(from).next();
        change.is_none_or(|change| change.timestamp() > until).then_some(at)
    }

    /// The next time on a wall clock that never jumps.
    fn wall_after(&self, wall: DateTime) -> Option<DateTime> {
        self.cron.find_next_occurrence(&wall, false).ok()
    }

    /// When a wall clock time happens: once, or twice for every hour in a repeated one.
    fn instants(&self, wall: DateTime) -> [Option<Timestamp>; 2] {
        let ambiguous = self.zone.to_ambiguous_timestamp(wall);
        let again = match ambiguous.offset() {
            AmbiguousOffset::Fold { .. } if self.every_hour => ambiguous.later().ok(),
            _ => None,
        };
        // In a gap: as much later as the clock went forward. In a fold: the first time.
        [ambiguous.compatible().ok(), again]
    }

    /// The shortest and longest time between runs, on a wall clock that never jumps.
    ///
    /// Looks at as many runs as a year of nightly backups has: of a rarer or more frequent
    /// schedule the longest may be missed, then it is given too short.
    pub(crate) fn spacing(&self) -> Option<(SignedDuration, SignedDuration)> {
        let mut last = self.wall_after(SOMEWHEN)?;
        let mut spacing: Option<(SignedDuration, SignedDuration)> = None;
        for _ in 0..366 {
            let Some(next) = self.wall_after(last) else { break };
            let gap = last.duration_until(next);
            let (least, most) = spacing.unwrap_or((gap, gap));
            spacing = Some((least.min(gap), most.max(gap)));
            last = next;
        }
        spacing
    }
}

/// The cron line of a nickname.
fn line_of(word: &str) -> Result<&'static str, ScheduleError> {
    let found = NICKNAMES.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
    found.map(|(_, line)| *line).ok_or_else(|| ScheduleError::Nickname { text: show(word) })
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = self.zone.iana_name().unwrap_or("?");
        write!(f, "Schedule({:?} in {zone})", self.text)
    }
}

impl serde::Serialize for Schedule {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

/// The zone of an IANA name; else what was probably meant.
pub(crate) fn time_zone(name: &str) -> Result<TimeZone, Option<String>> {
    // Bundled: the answer depends on no file of the host.
    let zones = TimeZoneDatabase::bundled();
    zones.get(name).map_err(|_| {
        let names: Vec<String> = zones.available().map(|zone| zone.as_str().to_owned()).collect();
        nearest(name, names.iter().map(String::as_str)).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin(text: &str) -> Schedule {
        Schedule::new(text, time_zone("Europe/Berlin").unwrap()).unwrap()
    }

    fn runs(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
        let mut at: Timestamp = after.parse().unwrap();
        (0..count)
            .map(|_| {
                at = schedule.next_after(at).unwrap();
                at.to_zoned(schedule.zone.clone()).strftime("%d %H:%M %:z").to_string()
            })
            .collect()
    }

    // 2026-03-29: 02:00 +01:00 becomes 03:00 +02:00, at 01:00 UTC.
    #[test]
    fn when_the_clock_goes_forward_no_run_is_skipped() {
        let cases: &[(&str, &[&str])] = &[
            ("0 2 * * *", &["28 02:00 +01:00", "29 03:00 +02:00", "30 02:00 +02:00"]),
            ("30 2 * * *", &["28 02:30 +01:00", "29 03:30 +02:00", "30 02:30 +02:00"]),
            ("30 2,14 29 * *", &["29 03:30 +02:00", "29 14:30 +02:00"]),
            ("0,30 2 29 * *", &["29 03:00 +02:00", "29 03:30 +02:00"]),
            ("30 2,3 29 * *", &["29 03:30 +02:00", "29 02:30 +02:00"]),
            ("30 1-4 29 3 *", &["29 01:30 +01:00", "29 03:30 +02:00", "29 04:30 +02:00"]),
            ("0 */2 29 * *", &["29 00:00 +01:00", "29 03:00 +02:00", "29 04:00 +02:00"]),
        ];
        for (text, expected) in cases {
            assert_eq!(runs(&berlin(text), "2026-03-27T12:00:00Z", expected.len()), *expected);
        }
        let hourly = runs(&berlin("15 * * * *"), "2026-03-28T23:30:00Z", 3);
        assert_eq!(hourly, ["29 01:15 +01:00", "29 03:15 +02:00", "29 04:15 +02:00"]);
    }

    // 2026-10-25: 03:00 +02:00 becomes 02:00 +01:00, at 01:00 UTC.
    #[test]
    fn when_the_clock_goes_back_no_run_is_doubled() {
        let cases: &[(&str, &[&str])] = &[
            ("0 2 * * *", &["24 02:00 +02:00", "25 02:00 +02:00", "26 02:00 +01:00"]),
            ("30 2 * * *", &["24 02:30 +02:00", "25 02:30 +02:00", "26 02:30 +01:00"]),
            ("30 2,14 25 * *", &["25 02:30 +02:00", "25 14:30 +01:00"]),
            ("0,30 2-3 25 10 *", &["25 02:00 +02:00", "25 02:30 +02:00", "25 03:00 +01:00"]),
        ];
        for (text, expected) in cases {
            assert_eq!(runs(&berlin(text), "2026-10-23T12:00:00Z", expected.len()), *expected);
        }
    }

    #[test]
    fn every_hour_follows_the_hours_as_they_pass() {
        let schedule = berlin("0 * * * *");
        for start in ["2026-03-28T20:00:00Z", "2026-10-24T20:00:00Z"] {
            let mut at: Timestamp = start.parse().unwrap();
            for _ in 0..12 {
                let next = schedule.next_after(at).unwrap();
                assert_eq!(at.duration_until(next), SignedDuration::from_hours(1));
                at = next;
            }
        }
    }

    #[test]
    fn every_run_of_a_year_is_there_once() {
        for text in ["30 2 * * *", "59 2 * * *", "0 3 * * *"] {
            let schedule = berlin(text);
            let mut at: Timestamp = "2025-12-31T23:00:00Z".parse().unwrap();
            let mut days = std::collections::BTreeSet::new();
            for _ in 0..365 {
                at = schedule.next_after(at).unwrap();
                days.insert(at.to_zoned(schedule.zone.clone()).date());
            }
            assert_eq!(days.len(), 365, "{text}");
            assert_eq!(days.last().unwrap().to_string(), "2026-12-31");
        }
    }

    #[test]
    fn the_fast_way_leads_where_the_slow_one_does() {
        for (zone, start) in [
            ("Europe/Berlin", "2026-03-27T12:34:56.789Z"),
            ("Europe/Berlin", "2026-10-23T12:34:56.789Z"),
            ("Australia/Lord_Howe", "2026-04-03T00:00:00Z"),
            ("Africa/Cairo", "2026-04-22T00:00:00Z"),
            ("Asia/Kolkata", "2026-04-22T00:00:00Z"),
            ("UTC", "2026-04-22T00:00:00Z"),
        ] {
            for text in ["*/40 * * * *", "30 0,1,2 * * *", "0 3 * * MON"] {
                let schedule = Schedule::new(text, time_zone(zone).unwrap()).unwrap();
                let mut at: Timestamp = start.parse().unwrap();
                let mut fast = 0;
                for _ in 0..300 {
                    let next = schedule.next_slowly(at);
                    fast += usize::from(schedule.next_while_calm(at).is_some());
                    assert_eq!(schedule.next_after(at), next, "{text} in {zone} after {at}");
                    at = next.unwrap() + SignedDuration::from_millis(i64::from(fast % 2 == 0));
                }
                assert!(fast > 100, "{text} in {zone}: {fast}");
            }
        }
    }

    use proptest::prelude::*;

    proptest! {
        // Every wall clock time that the line names is run once, at the instant that its wall
        // clock shows it first, or would have.
        #[test]
        fn every_named_time_is_run_once(
            minutes in prop::collection::btree_set(prop_oneof![Just(0i8), Just(30), 0i8..60], 1..4),
            hours in prop::collection::btree_set(prop_oneof![0i8..24, 1i8..5], 1..6),
            start in prop_oneof![Just("2026-03-28T00:00:00Z"), Just("2026-10-24T00:00:00Z")],
        ) {
            let list = |values: &std::collections::BTreeSet<i8>| {
                values.iter().map(i8::to_string).collect::<Vec<_>>().join(",")
            };
            let schedule = berlin(&format!("{} {} * * *", list(&minutes), list(&hours)));
            let start: Timestamp = start.parse().unwrap();
            let end = start + SignedDuration::from_hours(72);
            let mut expected = std::collections::BTreeSet::new();
            let mut wall = schedule.zone.to_datetime(start).saturating_sub(SignedDuration::from_hours(2));
            for _ in 0..77 * 60 {
                if minutes.contains(&wall.minute()) && hours.contains(&wall.hour()) {
                    let at = schedule.zone.to_ambiguous_timestamp(wall).compatible().unwrap();
                    expected.insert(at);
                }
                wall = wall.saturating_add(SignedDuration::from_mins(1));
            }
            let expected: Vec<_> = expected.into_iter().filter(|at| (start..end).contains(at)).collect();
            let mut found = Vec::new();
            let mut at = start - SignedDuration::from_secs(1);
            while let Some(next) = schedule.next_after(at).filter(|next| *next < end) {
                found.push(next);
                at = next;
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_skipped_day_is_made_up_for() {
        // Samoa had no 30 December 2011.
        let schedule = Schedule::new("0 2 * * *", time_zone("Pacific/Apia").unwrap()).unwrap();
        let found = runs(&schedule, "2011-12-29T00:00:00Z", 3);
        assert_eq!(found, ["29 02:00 -10:00", "31 02:00 +14:00", "01 02:00 +14:00"]);
    }

    #[test]
    fn rare_schedules_and_extensions() {
        let utc = |text| Schedule::new(text, TimeZone::UTC).unwrap();
        let cases = [
            ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
            ("0 0 L * *", "2026-01-31T00:00:00Z"),
            ("0 0 * * FRI#2", "2026-01-09T00:00:00Z"),
            ("0 0 1 * MON", "2026-01-05T00:00:00Z"),
            ("0  0 1 jan *", "2027-01-01T00:00:00Z"),
        ];
        for (text, expected) in cases {
            let after = "2026-01-01T00:00:00Z".parse().unwrap();
            assert_eq!(utc(text).next_after(after).unwrap().to_string(), expected, "{text}");
        }
        assert_eq!(utc("* * * * *").next_after(Timestamp::MAX), None);
        assert!(utc("* * * * *").next_after(Timestamp::MIN).is_none_or(|at| at > Timestamp::MIN));
    }

    #[test]
    fn a_nickname_is_the_line_that_it_stands_for() {
        for (nickname, line) in NICKNAMES {
            let schedule = Schedule::new(nickname, TimeZone::UTC).unwrap();
            assert_eq!(schedule, Schedule::new(line, TimeZone::UTC).unwrap(), "{nickname}");
            assert_eq!(schedule.as_str(), *line);
        }
        let after = "2026-07-01T00:00:00Z".parse().unwrap();
        for (nickname, expected) in [
            ("@Daily", "2026-07-02T00:00:00Z"),
            (" @weekly ", "2026-07-05T00:00:00Z"),
            ("@annually", "2027-01-01T00:00:00Z"),
        ] {
            let next = Schedule::new(nickname, TimeZone::UTC).unwrap().next_after(after).unwrap();
            assert_eq!(next.to_string(), expected, "{nickname}");
        }
    }

    #[test]
    fn bad_schedules_are_explained() {
        let cases = [
            (
                "0 2 * *",
                "a schedule has 5 fields (minute, hour, day of month, month, day of week), this \
                 has 4",
            ),
            ("@reboot", "`@reboot` is not supported in a schedule"),
            ("@every 5m", "`@every 5m` is not supported in a schedule"),
            ("0 24 * * *", "bad schedule: hour `24`: 24 is not in 0 to 23"),
            ("0 2 * * X", "bad schedule: day of week `X`: X is not in 0 to 7"),
            ("0 0 31 2 *", "this schedule can never fire: no month it allows has such a day"),
            ("0 0 31 4,6 *", "this schedule can never fire: no month it allows has such a day"),
        ];
        for (text, expected) in cases {
            let error = Schedule::new(text, TimeZone::UTC).unwrap_err();
            assert_eq!(error.to_string(), expected, "{text}");
            assert!(error.hint().contains("write"));
        }
    }

    #[test]
    fn zones() {
        assert_eq!(time_zone("UTC"), Ok(TimeZone::UTC));
        assert_eq!(time_zone("Europe/Berln"), Err(Some("Europe/Berlin".to_owned())));
        assert_eq!(time_zone("Nowhere/At-All-Really"), Err(None));
    }
}
