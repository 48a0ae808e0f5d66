//! Which copy of a cluster is the newest: by its position in the log, and by no host's clock.

use std::cmp::Ordering;

use anyhow::Result;
use drctl_model::BackupSummary;
use futures_util::TryStreamExt as _;

use crate::chain::Family;
use crate::memory::Memory;
use crate::{Proven, Repository, everything};

/// Which of two copies is the newer one. Of one cluster: that which ends later in its log. Of two:
/// that which was later by the clocks of their servers, as far as the copies tell.
pub(crate) fn newer(one: &BackupSummary, other: &BackupSummary) -> Ordering {
    let by_name = || one.backup.cmp(&other.backup);
    let Some((a, b)) = one.kind.coordinates().zip(other.kind.coordinates()) else {
        return by_name();
    };
    if a.system_id == b.system_id {
        return (a.stop_timeline, a.stop).cmp(&(b.stop_timeline, b.stop)).then_with(by_name);
    }
    match a.told().zip(b.told()) {
        Some((a, b)) => a.cmp(&b).then_with(by_name),
        None => by_name(),
    }
}

impl Repository {
    /// The newest good copy of the source, where `found` is a good one by its identifier, which the
    /// clock of a host made.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn by_position(&self, found: Proven, memory: &Memory) -> Result<Proven> {
        if found.manifest.kind.coordinates().is_none() {
            return Ok(found);
        }
        let mut all = Vec::new();
        let mut each = everything(self, vec![found.manifest.source.clone()]);
        while let Some((_, _, proven)) = each.try_next().await? {
            all.extend(proven.ok());
        }
        drop(each);
        let mut summaries: Vec<BackupSummary> = all.iter().map(Proven::summary).collect();
        memory.mark(&mut summaries);
        let family = Family::of(&summaries);
        let best = summaries
            .iter()
            .filter(|one| one.is_good() && one.kind.coordinates().is_some())
            .filter(|one| family.broken(one).is_none())
            .max_by(|one, other| newer(one, other));
        let best = best.map(|best| best.backup.clone());
        let newest = all.into_iter().find(|one| Some(&one.manifest.backup) == best.as_ref());
        Ok(newest.unwrap_or(found))
    }
}

#[cfg(test)]
mod tests {
    use drctl_model::{
        BackupKind, Coordinates, CopiedLog, Digest, Engine, Lsn, Timeline, WalSegmentSize,
    };
    use jiff::Timestamp;

    use super::*;

    fn copy(dated: i64, system_id: u64, stop: (u32, u64), told: Option<i64>) -> BackupSummary {
        let at = |seconds| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let log = |seconds| CopiedLog {
            checkpoint: at(seconds),
            last_commit: None,
            segments: Vec::new(),
        };
        let timeline = Timeline::new(stop.0).unwrap();
        let coordinates = Coordinates {
            system_id,
            segment_size: WalSegmentSize::default(),
            timeline,
            start: Lsn(1),
            stop: Lsn(stop.1),
            stop_timeline: timeline,
            listing_sha256: None,
            log: told.map(log),
        };
        BackupSummary {
            source: "shop".parse().unwrap(),
            backup: drctl_model::BackupId::new(at(dated), 1),
            engine: Engine::BaseBackup,
            kind: BackupKind::Full(coordinates),
            host: "db1".into(),
            started: at(dated),
            finished: at(dated),
            plain_bytes: 0,
            sealed_bytes: 0,
            segments: 0,
            suspect: vec![],
            manifest_sha256: Digest([2; 32]),
            accepted: None,
        }
    }

    #[test]
    fn the_newest_copy_is_the_one_that_ends_last_whatever_its_host_says() {
        let order = |one: BackupSummary, other: BackupSummary| newer(&one, &other);
        let early_by_clock = copy(-3600, 7, (1, 900), Some(50));
        assert_eq!(order(early_by_clock.clone(), copy(0, 7, (1, 800), None)), Ordering::Greater);
        assert_eq!(order(early_by_clock, copy(0, 7, (2, 100), None)), Ordering::Less);
        // A copy of an old cluster by a host whose clock is ahead.
        let (old, new) = (copy(3600, 7, (1, 9000), Some(10)), copy(0, 8, (1, 100), Some(20)));
        assert_eq!(order(old.clone(), new), Ordering::Less);
        assert_eq!(order(old, copy(0, 8, (1, 100), None)), Ordering::Greater, "nothing is told");
    }
}
