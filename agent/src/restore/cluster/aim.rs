//! What was typed, as a target; a target, as the server is told of it.

use anyhow::Result;
use drctl_engines::pg::physical::StopAt;
use drctl_model::{Timeline, shown};
use drctl_policies::recovery::{RecoveryPlan, Stop as PlanStop, Target, Warning};
use jiff::Timestamp;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{Disambiguation, OffsetConflict, TimeZone};

use crate::host::{AgentError, zone};

/// Whether all the WAL there is gets replayed: nothing in it tells the server where to stop.
pub(super) fn runs_to_end(plan: &RecoveryPlan) -> bool {
    plan.stop == PlanStop::AtEnd || plan.target == Target::Latest
}

pub(super) fn stop_at(plan: &RecoveryPlan) -> StopAt {
    match &plan.target {
        _ if runs_to_end(plan) => StopAt::Standby,
        Target::Time(at) => {
            // The one form that every tool of PostgreSQL reads, in UTC.
            StopAt::Time(at.strftime("%Y-%m-%d %H:%M:%S.%6f+00").to_string())
        }
        Target::Lsn { lsn, inclusive } => StopAt::Lsn { lsn: *lsn, inclusive: *inclusive },
        Target::Xid { xid, inclusive } => StopAt::Xid { xid: *xid, inclusive: *inclusive },
        Target::Name(name) => StopAt::Name(name.clone()),
        Target::Latest => StopAt::Standby,
    }
}

/// What a recovery of all that there is does not hold although the bucket has it, or knows that it
/// was there; of any other target nothing: it is asked for as it is.
#[must_use]
pub fn left_out(plan: &RecoveryPlan) -> Vec<String> {
    let lacks = |warning: &&Warning| match warning {
        Warning::BehindGap(_) | Warning::BehindEnd(_) | Warning::CutOff { .. } => true,
        // Of the plan's own timeline what is behind its base is all there.
        Warning::NoHistory(timeline) => *timeline != plan.timeline,
        _ => false,
    };
    match plan.target {
        Target::Latest => plan.warnings.iter().filter(lacks).map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

/// Timelines that lived on for longer than the one that a plan follows, which nobody has named.
#[must_use]
pub fn forks(plan: &RecoveryPlan) -> Vec<String> {
    let forks = plan.warnings.iter().filter(|one| matches!(one, Warning::Fork { .. }));
    forks.map(ToString::to_string).collect()
}

/// The digest that stands for a plan: `--yes=DIGEST` runs this one and no other.
#[must_use]
pub fn plan_digest(plan: &RecoveryPlan) -> String {
    short(&plan.agreed_text())
}

/// The digest that binds a directory to a recovery: of one to the end of the WAL it stays the same
/// while that grows, so that it can go on.
#[must_use]
pub fn bound_digest(plan: &RecoveryPlan) -> String {
    short(&plan.digest_text())
}

fn short(text: &str) -> String {
    drctl_store::digest(text.as_bytes()).to_string()[..12].to_owned()
}

/// The timeline that is wanted, from what was typed.
///
/// # Errors
/// [`AgentError::Usage`].
pub fn timeline_of(id: Option<u32>) -> Result<Option<Timeline>> {
    id.map(|id| {
        Timeline::new(id)
            .ok_or_else(|| AgentError::Usage("there is no timeline 0".to_owned()).into())
    })
    .transpose()
}

/// A time from what was typed: with an offset or `Z`, with a zone in brackets, or in the machine's own
/// time zone, where it must mean one moment.
///
/// # Errors
/// [`AgentError::Usage`], also for a time that a change of clocks skips or repeats.
pub fn time_of(text: &str) -> Result<Timestamp> {
    time_in(text, zone::here)
}

/// A zone in brackets, as in `2026-03-01T01:12:40[Europe/Berlin]`, must mean one moment too, and an
/// offset beside it must be that zone's.
static IN_ZONE: DateTimeParser = DateTimeParser::new()
    .disambiguation(Disambiguation::Reject)
    .offset_conflict(OffsetConflict::Reject);

fn time_in(text: &str, here: impl FnOnce() -> Result<TimeZone, String>) -> Result<Timestamp> {
    let in_zone = text.contains('[');
    if is_leap_second(text) {
        let text = format!(
            "`{}` names a leap second, which the server's clock does not have: choose the second \
             before or behind it",
            shown(text, 60)
        );
        return Err(AgentError::Usage(text).into());
    }
    if let (false, Ok(at)) = (in_zone, text.parse::<Timestamp>()) {
        return Ok(at);
    }
    let wrong = |why: &str| {
        let text = shown(text, 60);
        AgentError::Usage(format!(
            "`{text}` {why}; write it as 2026-03-01T01:12:40Z or with an offset"
        ))
    };
    if in_zone {
        let at = IN_ZONE.parse_zoned(text).map_err(|error| {
            let why = shown(&error.to_string(), 200);
            wrong(&format!("names no moment of the zone in its brackets ({why})"))
        })?;
        return Ok(at.timestamp());
    }
    let civil: jiff::civil::DateTime =
        text.parse().map_err(|_| wrong("is no time that can be read"))?;
    let zone = here().map_err(|why| wrong(&format!("has no zone of its own, and {why}")))?;
    let ambiguous = zone.to_ambiguous_zoned(civil);
    if ambiguous.is_ambiguous() {
        return Err(wrong("is skipped or comes twice in this machine's time zone").into());
    }
    Ok(ambiguous.unambiguous().map_err(|_| wrong("is no time of this time zone"))?.timestamp())
}

/// Whether the seconds are 60: they would be taken for 59.
fn is_leap_second(text: &str) -> bool {
    let time = text.find(['T', 't', ' ']).and_then(|at| text.get(at + 1..)).unwrap_or_default();
    let clock = time.split(|c: char| !c.is_ascii_digit() && c != ':').next().unwrap_or_default();
    let digits: String = clock.chars().filter(char::is_ascii_digit).collect();
    digits.len() == 6 && digits.ends_with("60")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_an_offset_mean_one_moment() {
        let at = time_of("2026-03-01T01:12:40Z").unwrap();
        assert_eq!(time_of("2026-03-01T02:12:40+01:00").unwrap(), at);
        assert_eq!(time_of("2026-03-01 02:12:40+01").unwrap(), at);
        for text in ["", "yesterday", "2026-13-01T00:00:00Z"] {
            assert!(time_of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_leap_second_is_refused_and_not_taken_for_another_one() {
        for text in [
            "2016-12-31T23:59:60Z",
            "2016-12-31 23:59:60.5+00",
            "20161231T235960Z",
            "2016-12-31T23:59:60[UTC]",
            "2016-12-31t23:59:60z",
        ] {
            let said = time_in(text, || Ok(TimeZone::UTC)).unwrap_err().to_string();
            assert!(said.contains("leap second"), "{text}: {said}");
        }
        for text in ["2016-12-31T23:59:59Z", "2016-12-31T22:60:00Z", "2016-12-31T23:58:06+01:60"] {
            assert!(!is_leap_second(text), "{text}");
        }
    }

    #[test]
    fn a_time_without_a_zone_must_mean_one_moment() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let at = |text: &str| time_in(text, || Ok(zone.clone())).map(|at| at.to_string());
        assert_eq!(at("2026-03-01T01:12:40").unwrap(), "2026-03-01T00:12:40Z");
        assert_eq!(at("2026-07-01 01:12:40").unwrap(), "2026-06-30T23:12:40Z");
        // Skipped in March, repeated in October; with an offset there is no doubt.
        for text in ["2026-03-29T02:30:00", "2026-10-25T02:30:00"] {
            assert!(at(text).unwrap_err().to_string().contains("comes twice"), "{text}");
        }
        assert_eq!(at("2026-10-25T02:30:00+01:00").unwrap(), "2026-10-25T01:30:00Z");
    }

    #[test]
    fn a_zone_in_brackets_is_the_one_that_is_meant() {
        let at = |text: &str| time_in(text, || Ok(TimeZone::UTC)).map(|at| at.to_string());
        let expected = "2026-03-01T00:12:40Z";
        for text in [
            "2026-03-01T01:12:40[Europe/Berlin]",
            "2026-03-01T01:12:40+01:00[Europe/Berlin]",
            "2026-03-01T02:12:40+02[Europe/Helsinki]",
        ] {
            assert_eq!(at(text).unwrap(), expected, "{text}");
        }
        for text in [
            "2026-03-01T01:12:40+02:00[Europe/Berlin]",
            "2026-03-01T01:12:40[Europe/Berln]",
            "2026-03-29T02:30:00[Europe/Berlin]",
            "2026-10-25T02:30:00[Europe/Berlin]",
            "2026-03-01T01:12:40[",
        ] {
            let said = at(text).unwrap_err().to_string();
            assert!(said.contains("zone in its brackets"), "{text}: {said}");
        }
        assert_eq!(at("2026-10-25T02:30:00+01:00[Europe/Berlin]").unwrap(), "2026-10-25T01:30:00Z");
    }

    /// Zones with half and quarter hours, with winters that last the summer, and one that has moved
    /// across the date line.
    const ZONES: [&str; 15] = [
        "Europe/Berlin",
        "Europe/London",
        "Europe/Dublin",
        "Europe/Moscow",
        "America/New_York",
        "America/St_Johns",
        "America/Sao_Paulo",
        "America/Caracas",
        "Africa/Casablanca",
        "Asia/Kathmandu",
        "Asia/Tehran",
        "Asia/Pyongyang",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Chatham",
    ];

    /// The moments, on quarter hours of this one and within a day and a half, at which clocks of a
    /// zone show this.
    fn shown_at(civil: jiff::civil::DateTime, near: Timestamp, zone: &TimeZone) -> Vec<Timestamp> {
        let moments = (-144..=144).map(|n| near + jiff::SignedDuration::from_mins(15 * n));
        moments.filter(|at| at.to_zoned(zone.clone()).datetime() == civil).collect()
    }

    #[test]
    fn in_every_zone_a_time_is_the_one_moment_at_which_clocks_show_it_or_refused() {
        let mut state = 7_u64;
        let mut below = |end: i64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            i64::try_from(state >> 33).unwrap() % end
        };
        let (mut refused, mut read) = (0, 0);
        for name in ZONES {
            let zone = TimeZone::get(name).unwrap();
            for round in 0..57 {
                // From 1975 on for 63 years; two thirds of them near a change of the clocks.
                let at = Timestamp::from_second(157_766_400 + below(1_988_000_000)).unwrap();
                let change = zone.following(at).next().filter(|_| round % 3 > 0);
                let near = change.map_or(at, |change| change.timestamp());
                let near = near + jiff::SignedDuration::from_mins(below(8 * 60) - 4 * 60);
                // What clocks show there, and what those show a while later that nobody has changed.
                let here = near.to_zoned(zone.clone());
                let later = near + jiff::SignedDuration::from_mins(30 * below(5));
                let unchanged = later.to_zoned(TimeZone::fixed(here.offset()));
                for civil in [here.datetime(), unchanged.datetime()] {
                    let moments = shown_at(civil, near, &zone);
                    let texts = [civil.to_string(), format!("{civil}[{name}]")];
                    for text in texts {
                        let found = time_in(&text, || Ok(zone.clone())).ok();
                        let one = (moments.len() == 1).then(|| moments[0]);
                        assert_eq!(found, one, "{text} in {name}: {moments:?}");
                        *(if one.is_some() { &mut read } else { &mut refused }) += 1;
                    }
                    // With an offset there is no doubt.
                    for at in moments {
                        let zoned = at.to_zoned(zone.clone());
                        let plain = zoned.strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string();
                        for text in [zoned.to_string(), plain] {
                            let none = || Err("unused".to_owned());
                            assert_eq!(time_in(&text, none).ok(), Some(at), "{text} in {name}");
                        }
                    }
                }
            }
        }
        assert!(refused > 50 && read > 1000, "{refused} {read}");
    }

    #[test]
    fn a_zone_that_is_none_is_never_taken_for_utc() {
        let none = || Err("TZ is `CET-1CEST`, which names no time zone".to_owned());
        let said = time_in("2026-03-01T01:12:40", none).unwrap_err().to_string();
        assert!(said.contains("TZ is `CET-1CEST`") && said.contains("with an offset"), "{said}");
        let none = || Err("unused".to_owned());
        assert_eq!(
            time_in("2026-03-01T01:12:40Z", none).unwrap().to_string(),
            "2026-03-01T01:12:40Z"
        );
    }
}
