//! Whether a server stopped where the plan says: by its own word and by its position. Times prove
//! nothing of that, for a clock may have been set back; a name may have been given twice.

use drctl_engines::pg::physical::{Stopped, StoppedAt};
use drctl_model::{Lsn, shown};
use drctl_policies::recovery::{RecoveryPlan, Target};

/// The most bytes by which a record is longer than it says: the header of a page in its midst.
const HEADER: u64 = 40;

/// To how many bytes a record's end is rounded up.
const ALIGNED: u64 = 8;

/// Says what does not fit, where something does not.
pub(super) fn reached(
    plan: &RecoveryPlan,
    replayed: Lsn,
    stopped: Option<&Stopped>,
) -> Result<(), String> {
    let Some(stopped) = stopped else {
        return Err("the server paused without a message that it reached the target".to_owned());
    };
    let fits = stopped.at.as_ref().is_some_and(|at| fits(&plan.target, replayed, at));
    if !fits {
        return Err(format!(
            "the server stopped elsewhere than at {}: it replayed up to {replayed}, and says: {}",
            target(&plan.target),
            stopped.said
        ));
    }
    // Where the record lies is known, and nothing behind it was planned.
    let (least, most) = match &plan.target {
        Target::Name(_) => (plan.until, plan.until.plus(HEADER)),
        Target::Xid { .. } | Target::Time(_) => (Lsn(0), plan.until.plus(ALIGNED)),
        Target::Lsn { .. } | Target::Latest => (Lsn(0), Lsn(u64::MAX)),
    };
    if replayed < least || replayed > most {
        return Err(format!(
            "the server stopped elsewhere than at {}: it replayed up to {replayed}, and the plan \
             leads to {}",
            target(&plan.target),
            plan.until
        ));
    }
    Ok(())
}

fn target(target: &Target) -> String {
    shown(&target.to_string(), 100)
}

/// Whether what the server says is this target.
fn fits(target: &Target, replayed: Lsn, at: &StoppedAt) -> bool {
    match (target, at) {
        (
            Target::Xid { xid, inclusive },
            StoppedAt::Transaction { xid: other, inclusive: with, .. },
        ) => xid == other && inclusive == with,
        // Before the first end of a transaction that is later.
        (Target::Time(at), StoppedAt::Transaction { time: Some(time), inclusive: false, .. }) => {
            time > at
        }
        (Target::Lsn { lsn, inclusive }, StoppedAt::Record { lsn: at, inclusive: with }) => {
            at >= lsn && inclusive == with && (replayed > *at) == *inclusive
        }
        (Target::Name(name), StoppedAt::Point(other)) => name == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use drctl_model::{BackupId, Timeline};
    use drctl_policies::recovery::{LastCommit, Loss, Stop};
    use jiff::Timestamp;

    use super::*;

    fn plan(target: Target) -> RecoveryPlan {
        let base: BackupId = "20260301T000000Z-0000000000000001".parse().unwrap();
        RecoveryPlan {
            base,
            consistent: Lsn(100),
            timeline: Timeline::FIRST,
            target,
            path: Vec::new(),
            stop: Stop::AtTarget,
            not_before: Lsn(500),
            until: Lsn(1000),
            reach: Lsn(5000),
            bound: None,
            last_commit: LastCommit { not_before: None, not_after: None },
            log_bytes: 0,
            loses: Loss { bytes: 0, after: None, until: None },
            warnings: Vec::new(),
            earlier: None,
            later: None,
        }
    }

    fn stood(target: &Target, replayed: u64, at: StoppedAt) -> bool {
        let stopped = Stopped { said: "recovery stopping".to_owned(), at: Some(at) };
        reached(&plan(target.clone()), Lsn(replayed), Some(&stopped)).is_ok()
    }

    #[test]
    fn a_transaction_is_the_one_that_was_asked_for_on_the_right_side() {
        let ended = |xid, inclusive| StoppedAt::Transaction { xid, time: None, inclusive };
        for inclusive in [true, false] {
            let target = Target::Xid { xid: 7, inclusive };
            assert!(stood(&target, 900, ended(7, inclusive)));
            assert!(!stood(&target, 900, ended(8, inclusive)));
            assert!(!stood(&target, 900, ended(7, !inclusive)));
            assert!(!stood(&target, 1100, ended(7, inclusive)), "behind what was planned");
            assert!(!stood(&target, 900, StoppedAt::Point("7".to_owned())));
        }
    }

    #[test]
    fn a_time_ends_before_a_later_commit_whatever_the_clock_said_before() {
        let at: Timestamp = "2026-03-01T01:12:40Z".parse().unwrap();
        let target = Target::Time(at);
        let later = at + jiff::SignedDuration::from_micros(1);
        let ended = |time, inclusive| StoppedAt::Transaction { xid: 7, time, inclusive };
        assert!(stood(&target, 900, ended(Some(later), false)));
        assert!(!stood(&target, 900, ended(Some(at), false)));
        assert!(!stood(&target, 900, ended(Some(later), true)));
        assert!(!stood(&target, 900, ended(None, false)));
    }

    #[test]
    fn a_position_is_passed_on_the_right_side() {
        let record = |lsn, inclusive| StoppedAt::Record { lsn: Lsn(lsn), inclusive };
        let before = Target::Lsn { lsn: Lsn(600), inclusive: false };
        assert!(stood(&before, 590, record(608, false)));
        assert!(
            !stood(&before, 590, record(592, false)),
            "a record before it is not in the result"
        );
        assert!(!stood(&before, 616, record(608, false)));
        let with = Target::Lsn { lsn: Lsn(600), inclusive: true };
        assert!(stood(&with, 640, record(600, true)));
        assert!(!stood(&with, 600, record(600, true)) && !stood(&with, 640, record(600, false)));
    }

    #[test]
    fn a_restore_point_is_that_name_at_that_position() {
        let target = Target::Name("safe".to_owned());
        let point = |name: &str| StoppedAt::Point(name.to_owned());
        assert!(stood(&target, 1000, point("safe")) && stood(&target, 1024, point("safe")));
        assert!(!stood(&target, 1000, point("Safe")));
        for elsewhere in [600, 999, 1048] {
            assert!(!stood(&target, elsewhere, point("safe")), "{elsewhere}");
        }
        let plan = plan(target);
        assert!(reached(&plan, Lsn(1000), None).is_err());
        let unknown = Stopped { said: "recovery stopping somehow".to_owned(), at: None };
        assert!(reached(&plan, Lsn(1000), Some(&unknown)).unwrap_err().contains("somehow"));
    }
}
