//! What attempts have left that never became backups: when it may go, decided without a clock that only
//! this host has.

use std::collections::BTreeMap;

use drctl_model::{BackupId, planted};
use jiff::{SignedDuration, Timestamp};

use super::holdings::Weight;

/// For how long the store must have had the newest object of an attempt when it got a manifest after it.
const AGE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// For how long this host must have known of it.
const KNOWN: SignedDuration = SignedDuration::from_hours(24);

/// What an attempt has left that never became a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Which attempt.
    pub backup: BackupId,
    /// Objects, all states of them.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
    /// When the store got the newest of them; nothing where it does not tell.
    pub newest: Option<Timestamp>,
    /// From when on it may go; nothing where nobody can tell.
    pub from: Option<Timestamp>,
    /// Whether it goes now.
    pub goes: bool,
}

/// When each of these attempts may go. `known` tells since when this host knows of it, and `weights` what
/// the store has of all attempts: it goes once the store got a manifest so much later. So no clock of a
/// host lets it go too early, and nothing goes while no backup is made.
pub(super) fn orphans(
    attempts: &[BackupId],
    weights: &BTreeMap<BackupId, Weight>,
    known: &BTreeMap<BackupId, Timestamp>,
    now: Timestamp,
) -> Vec<Orphan> {
    let committed = weights.values().filter(|weight| weight.committed);
    let age = if planted("orphan-too-young") { SignedDuration::ZERO } else { AGE };
    let latest = committed.filter_map(|weight| weight.stored).max();
    let orphan = |id: &BackupId| {
        let weight = weights.get(id).copied().unwrap_or_default();
        let aged = weight.newest.and_then(|newest| newest.checked_add(age).ok());
        let seen = known.get(id).and_then(|first| first.checked_add(KNOWN).ok());
        let from = aged.zip(seen).map(|(aged, seen)| aged.max(seen));
        let is_aged = aged.zip(latest).is_some_and(|(aged, latest)| aged <= latest);
        let goes = is_aged && from.is_some_and(|from| from <= now);
        let Weight { objects, bytes, newest, .. } = weight;
        Orphan { backup: id.clone(), objects, bytes, newest, from, goes }
    };
    attempts.iter().map(orphan).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3600).unwrap()
    }

    fn id(n: u64) -> BackupId {
        BackupId::new(Timestamp::UNIX_EPOCH, n)
    }

    #[test]
    fn what_an_attempt_left_goes_late_and_by_the_clock_of_the_store() {
        let week = 7 * 24;
        // The newest object of the attempt, the newest manifest, since when it is known, the present.
        let goes = |newest: Option<i64>, manifest: Option<i64>, known: Option<i64>, now: i64| {
            let weight = |stored: Option<i64>, newest: Option<i64>, committed| Weight {
                objects: 2,
                bytes: 10,
                stored: stored.map(at),
                newest: newest.map(at),
                committed,
            };
            let attempt = (id(1), weight(None, newest, false));
            let good = manifest.map(|stored| (id(2), weight(Some(stored), Some(stored), true)));
            let weights = [attempt].into_iter().chain(good).collect();
            let known = known.map(|first| (id(1), at(first))).into_iter().collect();
            let found = orphans(&[id(1)], &weights, &known, at(now));
            assert_eq!((found.len(), found[0].objects, found[0].bytes), (1, 2, 10));
            found[0].goes
        };
        assert!(goes(Some(0), Some(week), Some(week - 24), week));
        assert!(
            !goes(Some(0), Some(week - 1), Some(0), 9 * week),
            "no manifest is so much younger"
        );
        assert!(!goes(Some(0), None, Some(0), 9 * week), "nor is there any");
        assert!(!goes(Some(0), Some(week), Some(week - 23), week), "it is not known for a day");
        assert!(!goes(Some(0), Some(week), None, 9 * week), "it was never seen before");
        assert!(!goes(None, Some(week), Some(0), 9 * week), "the store does not tell its age");
        assert!(!goes(Some(0), Some(week), Some(0), week - 1), "this host's clock is behind");
    }
}
