//! Whether the bucket keeps what it holds against somebody who has our credentials.

use drctl_store::{Bucket, LockRule};

use crate::host::{Checks, Level};

/// The shortest time, in days, in which an intrusion is noticed more often than not.
const NOTICED: i32 = 14;

pub(super) async fn versions(bucket: &Bucket, found: &mut Checks) {
    let check = "bucket.object_lock";
    let Some(versions) = bucket.versions() else { return };
    match versions.lock().await {
        Ok(Some(rule)) => {
            let (level, text, hint) = judged(&rule);
            found.add(level, check, text, hint);
        }
        Ok(None) => found.warn(
            check,
            "the bucket has no Object Lock",
            "with a default retention in compliance mode nobody can remove backups before their time",
        ),
        Err(error) => found.warn(
            check,
            format!("not known: {error}"),
            "grant s3:GetBucketObjectLockConfiguration to see it",
        ),
    }
}

/// What a rule is worth.
fn judged(rule: &LockRule) -> (Level, String, Option<&'static str>) {
    let days = rule.days.unwrap_or_default();
    match rule.mode.as_deref() {
        Some("COMPLIANCE") if days >= NOTICED => {
            (Level::Good, format!("COMPLIANCE for {days} days"), None)
        }
        Some("COMPLIANCE") => (
            Level::Warning,
            format!("COMPLIANCE for {days} day(s) only: then anybody with these rights may delete"),
            Some("lengthen the default retention: an intruder is often noticed after weeks"),
        ),
        Some(mode) => (
            Level::Warning,
            format!("{mode} for {days} day(s): who has s3:BypassGovernanceRetention may delete"),
            Some("use compliance mode, or see to it that nobody has that right"),
        ),
        None => (
            Level::Warning,
            "Object Lock is on without a default retention: new objects are not protected".into(),
            Some("set a default retention in compliance mode for the bucket"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_rule_that_nobody_can_lift_for_long_enough_is_good() {
        let rule = |mode: Option<&str>, days| LockRule { mode: mode.map(str::to_owned), days };
        for (rule, level, word) in [
            (rule(Some("COMPLIANCE"), Some(14)), Level::Good, "14 days"),
            (rule(Some("COMPLIANCE"), Some(1)), Level::Warning, "1 day(s) only"),
            (rule(Some("COMPLIANCE"), None), Level::Warning, "0 day(s) only"),
            (rule(Some("GOVERNANCE"), Some(90)), Level::Warning, "BypassGovernanceRetention"),
            (rule(None, None), Level::Warning, "without a default retention"),
        ] {
            let (found, text, hint) = judged(&rule);
            assert_eq!(found, level, "{rule:?}");
            assert!(text.contains(word), "{text}");
            assert_eq!(hint.is_none(), level == Level::Good);
        }
    }
}
