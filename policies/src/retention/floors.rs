use super::{Candidate, Reason, Reasons, because};
use crate::policy::RetentionPolicy;

/// Adds what stays whatever the rules say, and however old it is: so many newest, by their order and
/// by the store's clock, and so many newest that were proven.
pub(super) fn apply(policy: &RetentionPolicy, counted: &[&Candidate], reasons: &mut Reasons) {
    for (of, nth) in counted.iter().zip(1..=policy.min_backups.max(1)) {
        because(reasons, of, Reason::Least(nth));
    }
    if let Some(of) = counted.iter().rev().max_by_key(|of| of.youngest()) {
        because(reasons, of, Reason::Least(1));
    }
    let proven = counted.iter().filter(|of| of.proven);
    for (of, nth) in proven.zip(1..=policy.min_proven.max(1)) {
        because(reasons, of, Reason::Proven(nth));
    }
}
