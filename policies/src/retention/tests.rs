use drctl_model::BackupId;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::*;
use crate::policy::RetentionPolicy;

mod property;
mod table;
mod window;

pub(super) const OFF: RetentionPolicy = RetentionPolicy {
    last: 0,
    hourly: 0,
    daily: 0,
    weekly: 0,
    monthly: 0,
    yearly: 0,
    within: None,
    min_backups: 1,
    min_proven: 1,
    max_age: None,
};

fn id(n: u64) -> BackupId {
    BackupId::new(Timestamp::from_second(1_800_000_000).unwrap(), n)
}

fn candidate(n: u64, taken: Timestamp) -> Candidate {
    Candidate {
        backup: id(n),
        taken,
        stored: Some(taken),
        parent: None,
        counts: true,
        proven: false,
        claims: Vec::new(),
    }
}

fn verdicts(policy: &RetentionPolicy, candidates: &[Candidate], now: Timestamp) -> Vec<Verdict> {
    let holdings = Holdings { candidates, clusters: &[], blocked: None, now };
    decide(policy, &TimeZone::UTC, &holdings)
}
