//! Which of two backups is the newer one. Of base backups their position in the log tells it,
//! and no host's clock.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::BackupSummary;

impl BackupSummary {
    /// Whether it is newer than another. Of one cluster: which ends later in its log, and of two
    /// timelines on the later one, unless that had been left behind ([`BackupSummary::outlives`]).
    /// Of two clusters: which was later by the clocks of their servers, as far as the base backups
    /// tell. Of dumps: by their identifiers.
    #[must_use]
    pub fn newer(&self, other: &BackupSummary) -> Ordering {
        let by_name = || self.backup.cmp(&other.backup);
        let Some((a, b)) = self.kind.coordinates().zip(other.kind.coordinates()) else {
            return by_name();
        };
        if a.system_id == b.system_id {
            match (self.outlives(other), other.outlives(self)) {
                (true, _) => return Ordering::Greater,
                (_, true) => return Ordering::Less,
                (false, false) => {}
            }
            return (a.stop_timeline, a.stop).cmp(&(b.stop_timeline, b.stop)).then_with(by_name);
        }
        match a.told().zip(b.told()) {
            Some((a, b)) => a.cmp(&b).then_with(by_name),
            None => by_name(),
        }
    }

    /// Whether it was made later, by the clocks of their servers, than a base backup of the same
    /// cluster on a later timeline, which did not grow out of it: somebody tried a recovered
    /// cluster, and its server lived on.
    #[must_use]
    pub fn outlives(&self, other: &BackupSummary) -> bool {
        let both = self.kind.coordinates().zip(other.kind.coordinates());
        both.is_some_and(|(a, b)| {
            let apart = a.stop_timeline < b.stop_timeline && a.stop > b.start;
            let times = a.log.as_ref().and(b.log.as_ref()).map(|_| (self.taken(), other.taken()));
            a.system_id == b.system_id && apart && times.is_some_and(|(one, two)| one > two)
        })
    }

    /// When it was: of a base backup that tells it by the clock of its server; else by that of the
    /// host.
    #[must_use]
    pub fn taken(&self) -> Timestamp {
        let log = self.kind.coordinates().and_then(|at| at.log.as_ref());
        let told =
            log.map(|log| log.last_commit.map_or(log.checkpoint, |at| at.max(log.checkpoint)));
        told.unwrap_or(self.started)
    }
}

/// The newest of some backups, the newest by their identifiers first, that all count: where that is
/// a base backup, the one among the base backups that ends last.
pub fn newest<'a>(
    mut newest_first: impl Iterator<Item = &'a BackupSummary>,
) -> Option<&'a BackupSummary> {
    let first = newest_first.next()?;
    if first.kind.coordinates().is_none() {
        return Some(first);
    }
    let copies = newest_first.filter(|backup| backup.kind.coordinates().is_some());
    copies.chain([first]).max_by(|one, other| one.newer(other))
}

/// Backups that are in the order of their identifiers, the newest first, in the order in which
/// they were taken: the base backups of one cluster take their own places among all others in the
/// order of their positions.
#[must_use]
pub fn newest_first(mut all: Vec<BackupSummary>) -> Vec<BackupSummary> {
    let mut clusters: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (at, backup) in all.iter().enumerate() {
        if let Some(coordinates) = backup.kind.coordinates() {
            let of = (backup.source.clone(), backup.engine.as_str(), coordinates.system_id);
            clusters.entry(of).or_default().push(at);
        }
    }
    for places in clusters.into_values() {
        let mut copies: Vec<BackupSummary> = places.iter().map(|at| all[*at].clone()).collect();
        copies.sort_by(|one, other| other.newer(one));
        for (at, copy) in places.into_iter().zip(copies) {
            all[at] = copy;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BackupId, BackupKind, Coordinates, CopiedLog, Digest, Dumped, Engine, Lsn, Timeline,
        WalSegmentSize,
    };

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
            start: Lsn(stop.1 / 2),
            stop: Lsn(stop.1),
            stop_timeline: timeline,
            listing_sha256: None,
            log: told.map(log),
        };
        BackupSummary {
            source: "shop".parse().unwrap(),
            backup: BackupId::new(at(dated), 1),
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
            signer: String::new(),
            objects: None,
        }
    }

    #[test]
    fn the_newest_copy_is_the_one_that_ends_last_whatever_its_host_says() {
        let order = |one: BackupSummary, other: BackupSummary| one.newer(&other);
        let early_by_clock = copy(-3600, 7, (1, 900), Some(50));
        assert_eq!(order(early_by_clock.clone(), copy(0, 7, (1, 800), None)), Ordering::Greater);
        assert_eq!(order(early_by_clock, copy(0, 7, (2, 100), None)), Ordering::Less);
        // A trial that was thrown away, and what has grown out of a timeline that it is no part of.
        let (trial, grown) = (copy(0, 7, (2, 850), Some(20)), copy(0, 7, (2, 950), Some(90)));
        let server = copy(0, 7, (1, 900), Some(50));
        let outlived = (server.outlives(&trial), trial.outlives(&server));
        assert_eq!((outlived, order(server.clone(), trial)), ((true, false), Ordering::Greater));
        assert_eq!(order(server, grown.clone()), Ordering::Less);
        let before_it_by_position = copy(0, 7, (1, 400), Some(95));
        assert_eq!(order(before_it_by_position, grown), Ordering::Less, "two clocks apart");
        // A base backup of an old cluster by a host whose clock is ahead.
        let (old, new) = (copy(3600, 7, (1, 9000), Some(10)), copy(0, 8, (1, 100), Some(20)));
        assert_eq!(order(old.clone(), new), Ordering::Less);
        assert_eq!(order(old, copy(0, 8, (1, 100), None)), Ordering::Greater, "nothing is told");
    }

    #[test]
    fn the_newest_is_chosen_and_dated_by_the_log() {
        let dump = BackupSummary {
            kind: BackupKind::Logical(Dumped::default()),
            ..copy(10, 7, (1, 1), None)
        };
        let (ends_last, dated_last) =
            (copy(-3600, 7, (1, 900), Some(50)), copy(9, 7, (1, 800), None));
        assert_eq!(newest([&dated_last, &ends_last].into_iter()), Some(&ends_last));
        assert_eq!(newest([&dump, &dated_last, &ends_last].into_iter()), Some(&dump));
        assert_eq!(newest([&dated_last, &dump, &ends_last].into_iter()), Some(&ends_last));
        assert_eq!(newest(std::iter::empty()), None);
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        assert_eq!((ends_last.taken(), dated_last.taken(), dump.taken()), (at(50), at(9), at(10)));
    }

    #[test]
    fn rows_are_in_the_order_of_the_log_and_not_of_clocks() {
        let dump = |dated| BackupSummary {
            kind: BackupKind::Logical(Dumped::default()),
            ..copy(dated, 7, (1, 1), None)
        };
        let ended = |dated, stop| copy(dated, 7, (1, stop), None);
        // By their names; the host of the one that ends last had a clock that was behind.
        let rows = [dump(50), ended(40, 800), dump(30), copy(20, 8, (1, 7), None), ended(10, 900)];
        let expected =
            [dump(50), ended(10, 900), dump(30), copy(20, 8, (1, 7), None), ended(40, 800)];
        let rows = newest_first(rows.to_vec());
        assert_eq!(rows, expected);
        assert_eq!(newest_first(rows), expected);
    }
}
