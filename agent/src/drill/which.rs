//! Which backup a drill tries; no IO.

use drctl_model::{BackupId, BackupKind, BackupSummary, DrillPoint, Lsn, Named, PointWanted};
use drctl_policies::DrillPolicy;
use jiff::Timestamp;

use crate::repository::chain::Family;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The newest good backup, as a restore without a name takes it.
    Latest,
    /// The good one before the newest; the newest, where there is only one.
    Previous,
    /// The oldest good one.
    Oldest,
    /// The good one with the most WAL to replay, or the largest dump.
    Worst,
    /// Any good one; with a number the same as that number chose before, among as many.
    Random(Option<u64>),
    /// A moment: the newest good one that had ended then, and of a cluster the WAL up to it.
    Time(Timestamp),
    /// This one, by its identifier or a beginning of it.
    Named(String),
}

impl Wanted {
    /// How evidence names it.
    #[must_use]
    pub fn point(&self) -> PointWanted {
        match self {
            Wanted::Latest => PointWanted::Latest,
            Wanted::Previous => PointWanted::Previous,
            Wanted::Oldest => PointWanted::Oldest,
            Wanted::Worst => PointWanted::Worst,
            Wanted::Random(_) => PointWanted::Random,
            Wanted::Time(_) => PointWanted::Time,
            Wanted::Named(_) => PointWanted::Named,
        }
    }
}

/// What a policy's weights ask for: the same for the same number.
#[must_use]
pub fn weighted(policy: &DrillPolicy, seed: u64) -> Wanted {
    let each = policy.weights.each();
    let all: u64 = each.iter().map(|(_, weight)| u64::from(*weight)).sum();
    // A policy without any weight is refused.
    let mut at = seed.checked_rem(all).unwrap_or(0);
    for (wanted, weight) in each {
        match at.checked_sub(u64::from(weight)) {
            Some(rest) => at = rest,
            None => {
                return match wanted {
                    PointWanted::Previous => Wanted::Previous,
                    PointWanted::Worst => Wanted::Worst,
                    PointWanted::Random => Wanted::Random(Some(seed / all.max(1))),
                    PointWanted::Oldest => Wanted::Oldest,
                    PointWanted::Latest | PointWanted::Time | PointWanted::Named => Wanted::Latest,
                };
            }
        }
    }
    Wanted::Latest
}

/// The backups that count, oldest first.
pub(super) fn good(all: &[BackupSummary]) -> Vec<&BackupSummary> {
    let family = Family::of(all);
    let is_good = |one: &&BackupSummary| one.is_good() && family.broken(one).is_none();
    let mut good: Vec<&BackupSummary> = all.iter().filter(is_good).collect();
    good.sort_by(|a, b| a.backup.cmp(&b.backup));
    good
}

/// The base backup that comes behind another one, and where it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Next {
    /// Its manifest.
    pub(super) backup: Named,
    /// Where it ended: what both hold there is compared.
    pub(super) stop: Lsn,
}

/// Up to which position log is replayed behind a base backup that is not the newest: to the end of the next good
/// one of the same cluster on the same timeline. Nothing: to the end of the log, or there is no log.
pub(super) fn next(backup: &BackupKind, all: &[BackupSummary]) -> Option<Next> {
    let at = backup.coordinates()?;
    let good = good(all);
    let later = good.iter().filter_map(|one| Some((one, one.kind.coordinates()?)));
    let later = later.filter(|(_, next)| {
        next.system_id == at.system_id
            && next.timeline == at.stop_timeline
            && next.stop_timeline == at.stop_timeline
            && next.start > at.stop
    });
    let later = later.map(|(one, next)| Next { backup: named(one), stop: next.stop });
    later.min_by_key(|next| next.stop)
}

fn named(one: &BackupSummary) -> Named {
    Named { backup: one.backup.clone(), manifest_sha256: one.manifest_sha256 }
}

/// The one of a source's backups that is there and counts; nothing where there is none. `seed` chooses at
/// random. The newest one and a named one are for others to find; `newest_replays` is how many bytes of WAL the
/// newest of a cluster has to replay.
pub(super) fn choose(
    wanted: &Wanted,
    all: &[BackupSummary],
    (seed, newest_replays): (u64, u64),
) -> Option<(BackupId, DrillPoint)> {
    let good = good(all);
    let of = good.len() as u64;
    let chosen = match wanted {
        Wanted::Oldest => good.first()?,
        // Where there is only one, there is none before it.
        Wanted::Previous => good.iter().rev().nth(1).or(good.first())?,
        Wanted::Worst => {
            let newest = good.last()?.backup.clone();
            let work = |one: &&&BackupSummary| match one.kind.coordinates() {
                None => (0, one.plain_bytes),
                Some(_) if one.backup == newest => (newest_replays, one.plain_bytes),
                Some(at) => {
                    let until = next(&one.kind, all).map_or(at.stop, |next| next.stop);
                    (until.0.saturating_sub(at.start.0), one.plain_bytes)
                }
            };
            good.iter().max_by_key(work)?
        }
        Wanted::Random(_) => good.get(usize::try_from(seed.checked_rem(of)?).ok()?)?,
        Wanted::Time(at) => good.iter().rev().find(|one| one.finished <= *at)?,
        Wanted::Latest | Wanted::Named(_) => return None,
    };
    let seed = matches!(wanted, Wanted::Random(_)).then_some(seed);
    Some((chosen.backup.clone(), DrillPoint { wanted: wanted.point(), seed, of }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use drctl_policies::DrillWeights;

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
            next(&first.kind, &all).map(|next| next.stop)
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
    fn each_point_is_the_backup_that_its_name_says() {
        let (first, second) = (base(1, (7, 1), (100, 200)), base(2, (7, 1), (300, 400)));
        let (third, fourth) = (base(3, (7, 1), (900, 950)), base(4, (7, 1), (1000, 1010)));
        let all = [&third, &first, &fourth, &second].map(Clone::clone);
        let chosen = |wanted: Wanted, replays| choose(&wanted, &all, (6, replays)).expect("one");
        let id = |wanted, replays| chosen(wanted, replays).0;
        assert_eq!(id(Wanted::Oldest, 0), first.backup);
        assert_eq!(id(Wanted::Previous, 0), third.backup);
        // From 300 to the end of the third, at 950.
        assert_eq!(id(Wanted::Worst, 0), second.backup);
        assert_eq!(id(Wanted::Worst, 651), fourth.backup);
        let (random, point) = chosen(Wanted::Random(Some(6)), 0);
        assert_eq!((random, point.seed, point.of), (third.backup.clone(), Some(6), 4));
        let alone =
            choose(&Wanted::Previous, std::slice::from_ref(&first), (0, 0)).expect("the only one");
        assert_eq!((alone.0, alone.1.of), (first.backup, 1));
        assert_eq!(choose(&Wanted::Worst, &[], (0, 0)), None);
        let time = |second| Timestamp::from_second(second).expect("a time");
        assert_eq!(id(Wanted::Time(time(3)), 0), third.backup);
        assert_eq!(choose(&Wanted::Time(time(0)), &all, (0, 0)), None);
    }

    #[test]
    fn points_are_chosen_as_often_as_their_weights_say() {
        let policy = |latest, previous, worst, random, oldest| DrillPolicy {
            schedule: None,
            checks: Vec::new(),
            weights: DrillWeights { latest, previous, worst, random, oldest },
            max_duration: Duration::from_secs(1),
        };
        let of = |policy: &DrillPolicy| {
            let all: Vec<PointWanted> = (0..1000).map(|n| weighted(policy, n).point()).collect();
            policy
                .weights
                .each()
                .map(|(wanted, _)| all.iter().filter(|one| **one == wanted).count())
        };
        assert_eq!(of(&policy(4, 2, 2, 1, 1)), [400, 200, 200, 100, 100]);
        assert_eq!(of(&policy(0, 0, 0, 1, 0)), [0, 0, 0, 1000, 0]);
        assert_eq!(of(&policy(0, 0, 0, 0, 3)), [0, 0, 0, 0, 1000]);
        // What a weight chose at random is any of them, whatever the weights.
        let seeds = (0..1000).filter_map(|n| match weighted(&policy(2, 0, 0, 1, 1), n) {
            Wanted::Random(seed) => seed,
            _ => None,
        });
        let chosen: std::collections::BTreeSet<u64> = seeds.map(|seed| seed % 4).collect();
        assert_eq!(chosen.len(), 4);
    }
}
