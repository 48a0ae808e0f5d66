use std::collections::BTreeMap;

use drctl_model::planted;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

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
    by_times(policy, zone, counted, |of| of.times()[0], reasons);
    // Nearly always the other time is the same.
    if counted.iter().any(|of| of.times()[0] != of.times()[1]) {
        by_times(policy, zone, counted, |of| of.times()[1], reasons);
    }
}

/// What the rules say by one time of each.
fn by_times(
    policy: &RetentionPolicy,
    zone: &TimeZone,
    counted: &[&Candidate],
    time: impl Fn(&Candidate) -> Timestamp,
    reasons: &mut Reasons,
) {
    let zone = if planted("day-of-another-zone") { &TimeZone::UTC } else { zone };
    // There may be very many: each is looked up in the time zone once.
    let dated: Vec<(&Candidate, Zoned)> =
        counted.iter().map(|of| (*of, time(of).to_zoned(zone.clone()))).collect();
    for (period, count) in [
        (Period::Hour, policy.hourly),
        (Period::Day, policy.daily),
        (Period::Week, policy.weekly),
        (Period::Month, policy.monthly),
        (Period::Year, policy.yearly),
    ] {
        newest_of_each(period, count, &dated, reasons);
    }
    within(policy, &dated, reasons);
}

/// The newest of each of the latest so many periods in which there is one.
fn newest_of_each(
    period: Period,
    count: u32,
    dated: &[(&Candidate, Zoned)],
    reasons: &mut Reasons,
) {
    if count == 0 {
        return;
    }
    let mut newest: BTreeMap<i64, (&Candidate, &Zoned)> = BTreeMap::new();
    for (of, at) in dated {
        newest.entry(period.number(at)).or_insert((of, at));
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    for (of, at) in newest.into_values().rev().take(count) {
        because(reasons, of, Reason::Newest { of: period, which: period.name(at) });
    }
}

fn within(policy: &RetentionPolicy, dated: &[(&Candidate, Zoned)], reasons: &mut Reasons) {
    let newest = dated.iter().map(|(_, at)| at.timestamp()).max();
    let Some((within, newest)) = policy.within.zip(newest) else { return };
    let oldest = newest.checked_sub(within).unwrap_or(Timestamp::MIN);
    for (of, _) in dated.iter().filter(|(_, at)| at.timestamp() >= oldest) {
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
    /// A number that grows with time and is the same within one period.
    fn number(self, at: &Zoned) -> i64 {
        let (year, month) = (i64::from(at.year()), i64::from(at.month()));
        match self {
            // The hour that a clock shows twice is two hours.
            Period::Hour => {
                let of_hour = i64::from(at.minute()) * 60 + i64::from(at.second());
                at.timestamp().as_second() - of_hour
            }
            Period::Day => (year * 12 + month) * 31 + i64::from(at.day()),
            Period::Week => {
                let week = at.date().iso_week_date();
                i64::from(week.year()) * 54 + i64::from(week.week())
            }
            Period::Month => year * 12 + month,
            Period::Year => year,
        }
    }

    /// What people call it.
    fn name(self, at: &Zoned) -> String {
        match self {
            Period::Hour => at.strftime("%Y-%m-%d %H:00%:z").to_string(),
            Period::Day => at.strftime("%Y-%m-%d").to_string(),
            Period::Week => {
                let week = at.date().iso_week_date();
                format!("{:04}-W{:02}", week.year(), week.week())
            }
            Period::Month => at.strftime("%Y-%m").to_string(),
            Period::Year => at.strftime("%Y").to_string(),
        }
    }
}
