//! What is promised of times, and was not kept: measured, and never guessed.

use drctl_model::FindingCode;
use jiff::SignedDuration;

use super::{Judged, SourceStatus};
use crate::host::figures::span;

impl SourceStatus {
    /// That a restore, or a backup, took longer than is promised.
    pub(super) fn of_promises(&self) -> impl Iterator<Item = Judged> {
        self.of_restores().into_iter().chain(self.of_durations())
    }

    /// By the newest drill that proved the data, on whatever host, and what is promised now.
    fn of_restores(&self) -> Option<Judged> {
        let (passed, rto) = (self.drill.passed.as_ref()?, self.rto?);
        let took = SignedDuration::from_millis(i64::try_from(passed.restore_ms?).ok()?);
        let text = format!(
            "the drill {} restored the data in {}, and the RTO is {}: take base backups more often, \
             restore on a faster host, or promise less",
            passed.drill,
            span(took.as_secs_f64()),
            span(rto.as_secs_f64())
        );
        (took > rto).then(|| Judged::attention(FindingCode::RtoBreached, "", text))
    }

    fn of_durations(&self) -> Option<Judged> {
        let (good, most) = (self.newest_good.as_ref()?, self.max_duration?);
        let took = good.finished.duration_since(good.started);
        let text = format!(
            "the backup {} took {}, and `max_duration` is {}: look at what slowed it down, or promise less",
            good.backup,
            span(took.as_secs_f64()),
            span(most.as_secs_f64())
        );
        (took > most).then(|| Judged::attention(FindingCode::BackupTooLong, "", text))
    }
}

#[cfg(test)]
mod tests {
    use drctl_model::DrillId;
    use jiff::Timestamp;

    use super::super::judge::tests::{increment, status};
    use super::*;
    use crate::repository::drills::{NewestDrill, Passed};

    #[test]
    fn a_promise_that_was_not_kept_is_told_by_what_was_measured() {
        let seconds = |n| Some(SignedDuration::from_secs(n));
        let passed = |restore_ms| NewestDrill {
            passed: Some(Passed {
                drill: DrillId::new(Timestamp::UNIX_EPOCH, 1),
                at: Timestamp::UNIX_EPOCH,
                backup: None,
                restore_ms,
            }),
            ..NewestDrill::default()
        };
        let told = |rto, restore_ms| {
            let drill = passed(restore_ms);
            let of = SourceStatus { rto, drill, ..status(increment()) };
            of.of_promises().collect::<Vec<_>>()
        };
        assert_eq!(told(seconds(60), Some(60_000)).len(), 0);
        assert_eq!((told(None, Some(60_001)).len(), told(seconds(60), None).len()), (0, 0));
        let found = told(seconds(60), Some(61_000));
        assert_eq!((found.len(), found[0].code), (1, FindingCode::RtoBreached));
        assert!(found[0].text.contains("and the RTO is"), "{found:?}");
        let mut good = increment();
        good.finished = good.started + SignedDuration::from_secs(100);
        let took = |most| {
            let of = SourceStatus { max_duration: seconds(most), ..status(good.clone()) };
            of.of_promises().map(|one| one.code).collect::<Vec<_>>()
        };
        assert_eq!((took(100), took(99)), (vec![], vec![FindingCode::BackupTooLong]));
    }
}
