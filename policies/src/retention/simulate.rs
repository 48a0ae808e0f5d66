use drctl_model::BackupId;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Candidate, Holdings, decide};
use crate::policy::RetentionPolicy;

/// The seconds of a day.
const DAY: u128 = 86_400;

/// Backups that go on as they are now.
#[derive(Debug, Clone)]
pub struct GoesOn {
    /// What there is, the newest first, each with its bytes.
    pub there: Vec<(Candidate, u64)>,
    /// When later ones are made, in order.
    pub runs: Vec<Timestamp>,
    /// The bytes of one that needs no other.
    pub full: u64,
    /// How many incremental ones follow each of these, and the bytes of one.
    pub incremental: Option<(usize, u64)>,
    /// The bytes of log in a day; it stays from the oldest backup on.
    pub log_per_day: u64,
}

/// What there is at the end of a month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Month {
    /// Which: `2026-12`.
    pub month: String,
    /// Backups that are there then.
    pub backups: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of log.
    pub log_bytes: u64,
}

/// What would be there at the end of each month if all goes on as now, and what no rule keeps goes
/// at the end of its day.
#[must_use]
pub fn simulate(policy: &RetentionPolicy, zone: &TimeZone, goes_on: GoesOn) -> Vec<Month> {
    let GoesOn { mut there, runs, full, incremental, log_per_day } = goes_on;
    let mut months: Vec<Month> = Vec::new();
    let day = |at: Timestamp| at.to_zoned(zone.clone()).date();
    let mut runs = runs.into_iter().zip(1u64..).peekable();
    while let Some((at, n)) = runs.next() {
        let since_full = there.iter().position(|(of, _)| of.parent.is_none());
        let (parent, bytes) = match (incremental, since_full, there.first()) {
            (Some((most, bytes)), Some(since), Some((newest, _))) if since < most => {
                (Some(newest.backup.clone()), bytes)
            }
            _ => (None, full),
        };
        let backup = BackupId::new(at, n);
        let (counts, proven, claims) = (true, false, Vec::new());
        let stored = Some(at);
        let made = Candidate { backup, taken: at, stored, parent, counts, proven, claims };
        there.insert(0, (made, bytes));
        if runs.peek().is_some_and(|(next, _)| day(*next) == day(at)) {
            continue;
        }
        let candidates: Vec<Candidate> = there.iter().map(|(of, _)| of.clone()).collect();
        let holdings = Holdings { candidates: &candidates, clusters: &[], blocked: None, now: at };
        let mut verdicts = decide(policy, zone, &holdings).into_iter();
        there.retain(|_| verdicts.next().is_none_or(|verdict| verdict.stays()));
        let month = at.to_zoned(zone.clone()).strftime("%Y-%m").to_string();
        months.pop_if(|last| last.month == month);
        months.push(seen(month, &there, (at, log_per_day)));
    }
    months
}

fn seen(month: String, there: &[(Candidate, u64)], (at, log_per_day): (Timestamp, u64)) -> Month {
    let oldest = there.iter().map(|(of, _)| of.taken).min().unwrap_or(at);
    let seconds = u128::try_from(at.duration_since(oldest).as_secs()).unwrap_or_default();
    let log_bytes = u128::from(log_per_day) * seconds / DAY;
    let log_bytes = u64::try_from(log_bytes).unwrap_or(u64::MAX);
    let bytes = there.iter().fold(0u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    Month { month, backups: there.len(), bytes, log_bytes }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::super::tests::OFF;
    use super::*;

    fn daily(days: i64) -> Vec<Timestamp> {
        let first: Timestamp = "2027-01-01T02:00:00Z".parse().unwrap();
        (0..days).map(|day| first + SignedDuration::from_hours(24 * day)).collect()
    }

    fn goes_on(runs: Vec<Timestamp>, incremental: Option<(usize, u64)>) -> GoesOn {
        GoesOn { there: Vec::new(), runs, full: 100, incremental, log_per_day: 10 }
    }

    #[test]
    fn what_a_policy_keeps_grows_until_every_rule_is_full() {
        let policy = RetentionPolicy { daily: 7, monthly: 3, ..OFF };
        let months = simulate(&policy, &TimeZone::UTC, goes_on(daily(365), None));
        assert_eq!(months.len(), 12);
        let of = |n: usize| (months[n].month.as_str(), months[n].backups, months[n].bytes);
        assert_eq!(of(0), ("2027-01", 7, 700));
        assert_eq!(of(1), ("2027-02", 8, 800));
        for (n, month) in months.iter().enumerate().skip(2) {
            assert_eq!((month.backups, month.bytes), (9, 900), "{n}");
        }
        // The log stays from the oldest of three months on.
        assert_eq!(months[11].log_bytes, 610);
    }

    #[test]
    fn what_incremental_ones_are_based_on_stays_with_them() {
        let policy = RetentionPolicy { last: 3, ..OFF };
        let months = simulate(&policy, &TimeZone::UTC, goes_on(daily(31), Some((6, 1))));
        // The 31st day is the third of the fifth chain: 29, 30, 31.
        assert_eq!(months.len(), 1);
        assert_eq!((months[0].backups, months[0].bytes), (3, 102));
        let months = simulate(&policy, &TimeZone::UTC, goes_on(daily(30), Some((6, 1))));
        // 28, with all six that it is based on, 29 and 30.
        assert_eq!((months[0].backups, months[0].bytes), (9, 207));
    }
}
