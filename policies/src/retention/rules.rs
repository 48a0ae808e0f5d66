use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Candidate, Reason, Reasons, because};
use crate::policy::RetentionPolicy;

/// What a rule keeps the newest backup of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// An hour of the clock.
    Hour,
    /// A day.
    Day,
    /// A week by ISO 8601: from Monday on, numbered by the year that its Thursday is in.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// Adds what the rules say, each by either time of a backup: see [`Candidate::times`].
pub(super) fn apply(
    policy: &RetentionPolicy,
    zone: &TimeZone,
    counted: &[&Candidate],
    reasons: &mut Reasons,
) {
    for (of, nth) in counted.iter().zip(1..=policy.last) {
        because(reasons, of, Reason::Last(nth));
    }
    for which in [0, 1] {
        let dated: Vec<(&Candidate, Timestamp)> =
            counted.iter().map(|of| (*of, of.times()[which])).collect();
        for (period, count) in [
            (Period::Hour, policy.hourly),
            (Period::Day, policy.daily),
            (Period::Week, policy.weekly),
            (Period::Month, policy.monthly),
            (Period::Year, policy.yearly),
        ] {
            newest_of_each(period, count, zone, &dated, reasons);
        }
        within(policy, &dated, reasons);
    }
}

/// The newest of each of the latest so many periods in which there is one.
fn newest_of_each(
    period: Period,
    count: u32,
    zone: &TimeZone,
    dated: &[(&Candidate, Timestamp)],
    reasons: &mut Reasons,
) {
    let mut newest: BTreeMap<(i64, String), &Candidate> = BTreeMap::new();
    for (of, at) in dated {
        newest.entry(period.of(*at, zone)).or_insert(of);
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    for ((_, which), of) in newest.into_iter().rev().take(count) {
        because(reasons, of, Reason::Newest { of: period, which });
    }
}

fn within(policy: &RetentionPolicy, dated: &[(&Candidate, Timestamp)], reasons: &mut Reasons) {
    let newest = dated.iter().map(|(_, at)| *at).max();
    let Some((within, newest)) = policy.within.zip(newest) else { return };
    let oldest = newest.checked_sub(within).unwrap_or(Timestamp::MIN);
    for (of, _) in dated.iter().filter(|(_, at)| *at >= oldest) {
        because(reasons, of, Reason::Within);
    }
}

/// Takes back what the rules say of backups that are older than the policy allows, by the later of
/// their times.
pub(super) fn too_old(policy: &RetentionPolicy, counted: &[&Candidate], reasons: &mut Reasons) {
    let newest = counted.iter().map(|of| of.youngest()).max();
    let Some((max_age, newest)) = policy.max_age.zip(newest) else { return };
    let Ok(oldest) = newest.checked_sub(max_age) else { return };
    for of in counted.iter().filter(|of| of.youngest() < oldest) {
        reasons.remove(&of.backup);
    }
}

impl Period {
    /// A number that grows with time and is the same within one period, and its name.
    fn of(self, at: Timestamp, zone: &TimeZone) -> (i64, String) {
        let there = at.to_zoned(zone.clone());
        let (year, month) = (i64::from(there.year()), i64::from(there.month()));
        match self {
            Period::Hour => {
                // The hour that a clock shows twice is two hours.
                let begins =
                    at.as_second() - i64::from(there.minute()) * 60 - i64::from(there.second());
                (begins, there.strftime("%Y-%m-%d %H:00%:z").to_string())
            }
            Period::Day => (
                (year * 12 + month) * 31 + i64::from(there.day()),
                there.strftime("%Y-%m-%d").to_string(),
            ),
            Period::Week => {
                let week = there.date().iso_week_date();
                let (year, week) = (week.year(), week.week());
                (i64::from(year) * 54 + i64::from(week), format!("{year:04}-W{week:02}"))
            }
            Period::Month => (year * 12 + month, there.strftime("%Y-%m").to_string()),
            Period::Year => (year, there.strftime("%Y").to_string()),
        }
    }
}
