//! Which backup a drill tries; no IO.

use drctl_model::{BackupId, BackupKind, BackupSummary, DrillPoint, Lsn, PointWanted};
use drctl_policies::DrillPolicy;

use crate::repository::chain::Family;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The newest good backup, as a restore without a name takes it.
    Latest,
    /// The oldest good one.
    Oldest,
    /// Any good one; with a number the same as that number chose before, among as many.
    Random(Option<u64>),
    /// This one, by its identifier or a beginning of it.
    Named(String),
}

impl Wanted {
    /// How evidence names it.
    #[must_use]
    pub fn point(&self) -> PointWanted {
        match self {
            Wanted::Latest => PointWanted::Latest,
            Wanted::Oldest => PointWanted::Oldest,
            Wanted::Random(_) => PointWanted::Random,
            Wanted::Named(_) => PointWanted::Named,
        }
    }
}

/// What a policy's weights ask for: the same for the same number.
#[must_use]
pub fn weighted(policy: &DrillPolicy, seed: u64) -> Wanted {
    let (latest, random) = (u64::from(policy.latest), u64::from(policy.random));
    let all = latest + random + u64::from(policy.oldest);
    // A policy without any weight is refused.
    let at = seed.checked_rem(all).unwrap_or(0);
    match at {
        at if at < latest => Wanted::Latest,
        at if at < latest + random => Wanted::Random(Some(seed / all.max(1))),
        _ => Wanted::Oldest,
    }
}

/// The backups that count, oldest first.
pub(super) fn good(all: &[BackupSummary]) -> Vec<&BackupSummary> {
    let family = Family::of(all);
    let is_good = |one: &&BackupSummary| one.is_good() && family.broken(one).is_none();
    let mut good: Vec<&BackupSummary> = all.iter().filter(is_good).collect();
    good.sort_by(|a, b| a.backup.cmp(&b.backup));
    good
}

/// Up to which position log is replayed behind a base backup that is not the newest: to the end of the next good
/// one of the same cluster on the same timeline. Nothing: to the end of the log, or there is no log.
pub(super) fn until(backup: &BackupKind, all: &[BackupSummary]) -> Option<Lsn> {
    let at = backup.coordinates()?;
    let good = good(all);
    let later = good.iter().filter_map(|one| one.kind.coordinates()).filter(|next| {
        next.system_id == at.system_id
            && next.timeline == at.stop_timeline
            && next.stop_timeline == at.stop_timeline
            && next.start > at.stop
    });
    later.map(|next| next.stop).min()
}

/// The one of a source's backups that is there and counts; nothing where there is none. `seed` chooses at
/// random. The newest one and a named one are for others to find.
pub(super) fn choose(
    wanted: &Wanted,
    all: &[BackupSummary],
    seed: u64,
) -> Option<(BackupId, DrillPoint)> {
    let good = good(all);
    let of = good.len() as u64;
    let point = |seed| DrillPoint { wanted: wanted.point(), seed, of };
    match wanted {
        Wanted::Oldest => Some((good.first()?.backup.clone(), point(None))),
        Wanted::Random(_) => {
            let at = usize::try_from(seed.checked_rem(of)?).ok()?;
            Some((good.get(at)?.backup.clone(), point(Some(seed))))
        }
        Wanted::Latest | Wanted::Named(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A base backup of a cluster, from a position to another one.
    fn base(n: u64, (system_id, timeline): (u64, u32), (start, stop): (u64, u64)) -> BackupSummary {
        let timeline = drctl_model::Timeline::new(timeline).expect("a timeline");
        let at = jiff::Timestamp::from_second(i64::try_from(n).expect("a time")).expect("a time");
        let kind = BackupKind::Full(drctl_model::Coordinates {
            system_id,
            segment_size: drctl_model::WalSegmentSize::new(1 << 24).expect("a size"),
            timeline,
            start: Lsn(start),
            stop: Lsn(stop),
            stop_timeline: timeline,
            listing_sha256: None,
            log: None,
        });
        BackupSummary {
            source: "shop".parse().expect("a name"),
            backup: BackupId::new(at, n),
            engine: drctl_model::Engine::BaseBackup,
            kind,
            host: "db1".to_owned(),
            started: at,
            finished: at,
            plain_bytes: 1,
            sealed_bytes: 1,
            segments: 1,
            suspect: Vec::new(),
            manifest_sha256: drctl_model::Digest([1; 32]),
            signer: String::new(),
            objects: None,
            accepted: None,
        }
    }

    #[test]
    fn log_is_replayed_to_the_end_of_the_next_base_backup_of_the_same_history() {
        let first = base(1, (7, 1), (100, 200));
        let to = |others: &[BackupSummary]| {
            let all: Vec<_> = others.iter().chain([&first]).cloned().collect();
            until(&first.kind, &all)
        };
        assert_eq!(to(&[]), None);
        let (second, third) = (base(2, (7, 1), (300, 400)), base(3, (7, 1), (500, 600)));
        assert_eq!(to(&[third.clone(), second.clone()]), Some(Lsn(400)));
        // Another cluster, another timeline, and one that was taken beside it lead nowhere.
        let others =
            [base(4, (8, 1), (300, 400)), base(5, (7, 2), (300, 400)), base(6, (7, 1), (150, 250))];
        assert_eq!(to(&others), None);
        let suspect = BackupSummary { suspect: vec!["few rows".to_owned()], ..second };
        assert_eq!(to(&[suspect, third]), Some(Lsn(600)));
    }

    #[test]
    fn points_are_chosen_as_often_as_their_weights_say() {
        let policy = |latest, random, oldest| DrillPolicy {
            schedule: None,
            latest,
            random,
            oldest,
            max_duration: Duration::from_secs(1),
        };
        let of = |policy: &DrillPolicy| {
            let all: Vec<PointWanted> = (0..1000).map(|n| weighted(policy, n).point()).collect();
            [PointWanted::Latest, PointWanted::Random, PointWanted::Oldest]
                .map(|wanted| all.iter().filter(|one| **one == wanted).count())
        };
        assert_eq!(of(&policy(2, 1, 1)), [500, 250, 250]);
        assert_eq!(of(&policy(0, 1, 0)), [0, 1000, 0]);
        assert_eq!(of(&policy(0, 0, 3)), [0, 0, 1000]);
        // What a weight chose at random is any of them, whatever the weights.
        let seeds = (0..1000).filter_map(|n| match weighted(&policy(2, 1, 1), n) {
            Wanted::Random(seed) => seed,
            _ => None,
        });
        let chosen: std::collections::BTreeSet<u64> = seeds.map(|seed| seed % 4).collect();
        assert_eq!(chosen.len(), 4);
    }
}
