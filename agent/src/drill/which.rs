//! Which backup a drill tries; no IO.

use drctl_model::{BackupId, BackupKind, BackupSummary, DrillPoint, Lsn, Named, PointWanted};
use drctl_policies::DrillPolicy;
use jiff::{SignedDuration, Timestamp};

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
    /// A moment between the oldest and the newest good one; with a number the same as that number chose before, where
    /// these two are the same.
    Moment(Option<u64>),
    /// The newest good base backup before a switch of the timeline.
    Timeline,
    /// The newest suspect one.
    Suspect,
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
            Wanted::Moment(_) => PointWanted::Moment,
            Wanted::Timeline => PointWanted::Timeline,
            Wanted::Suspect => PointWanted::Suspect,
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
                    PointWanted::Moment => Wanted::Moment(Some(seed / all.max(1))),
                    PointWanted::Timeline => Wanted::Timeline,
                    PointWanted::Latest
                    | PointWanted::Suspect
                    | PointWanted::Time
                    | PointWanted::Named => Wanted::Latest,
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

/// The moment that a number chooses between the end of the oldest and of the newest good backup, and among how many
/// milliseconds; nothing where there is none.
pub(super) fn moment(all: &[BackupSummary], seed: u64) -> Option<(Timestamp, u64)> {
    let ended: Vec<Timestamp> = good(all).iter().map(|one| one.finished).collect();
    let (first, last) = (ended.iter().min()?, ended.iter().max()?);
    let of = u64::try_from(last.duration_since(*first).as_millis()).ok()?.checked_add(1)?;
    let after = i64::try_from(seed.checked_rem(of)?).ok()?;
    Some((first.checked_add(SignedDuration::from_millis(after)).ok()?, of))
}

/// The newest good base backup that ended on another timeline than the newest one of the same cluster; where there is
/// none, the newest.
fn before_a_switch<'a>(good: &[&'a BackupSummary]) -> Option<&'a BackupSummary> {
    let newest = *good.last()?;
    let other = newest.kind.coordinates().and_then(|at| {
        good.iter().rev().find(|one| {
            one.kind.coordinates().is_some_and(|before| {
                before.system_id == at.system_id && before.stop_timeline != at.stop_timeline
            })
        })
    });
    Some(other.copied().unwrap_or(newest))
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
        Wanted::Moment(_) => {
            let (at, of) = moment(all, seed)?;
            let chosen = good.iter().rev().find(|one| one.finished <= at)?;
            let point = DrillPoint { wanted: wanted.point(), seed: Some(seed), of };
            return Some((chosen.backup.clone(), point));
        }
        Wanted::Timeline => &before_a_switch(&good)?,
        Wanted::Suspect => {
            let suspect = all.iter().filter(|one| !one.is_good());
            &suspect.max_by(|one, other| one.backup.cmp(&other.backup))?
        }
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
        assert_eq!((alone.0, alone.1.of), (first.backup.clone(), 1));
        assert_eq!(choose(&Wanted::Worst, &[], (0, 0)), None);
        let time = |second| Timestamp::from_second(second).expect("a time");
        assert_eq!(id(Wanted::Time(time(3)), 0), third.backup);
        assert_eq!(choose(&Wanted::Time(time(0)), &all, (0, 0)), None);
        // Three seconds from the end of the first to that of the last: 3,001 milliseconds.
        assert_eq!(moment(&all, 0), Some((time(1), 3001)));
        assert_eq!(moment(&all, 3000), Some((time(4), 3001)));
        assert_eq!(moment(&all, 3001 + 1500), moment(&all, 1500));
        assert_eq!(id(Wanted::Moment(None), 0), first.backup, "6 milliseconds behind the first");
        assert_eq!(moment(&[], 1), None);
        // No timeline was switched, and then one was.
        assert_eq!(id(Wanted::Timeline, 0), fourth.backup);
        let fifth = base(5, (7, 2), (2000, 2010));
        let switched: Vec<_> = all.iter().cloned().chain([fifth]).collect();
        let before = choose(&Wanted::Timeline, &switched, (0, 0)).expect("one");
        assert_eq!(before.0, fourth.backup);
        assert_eq!(choose(&Wanted::Suspect, &all, (0, 0)), None);
        let odd = BackupSummary { suspect: vec!["few rows".to_owned()], ..second.clone() };
        let found = choose(&Wanted::Suspect, &[first.clone(), odd], (0, 0)).expect("it");
        assert_eq!(found.0, second.backup);
    }

    #[test]
    fn points_are_chosen_as_often_as_their_weights_say() {
        let policy = |latest, previous, worst, random, oldest| DrillPolicy {
            schedule: None,
            checks: Vec::new(),
            amcheck: true,
            weights: DrillWeights {
                latest,
                previous,
                worst,
                random,
                oldest,
                ..DrillWeights::default()
            },
            max_duration: Duration::from_secs(1),
        };
        let of = |policy: &DrillPolicy| {
            let all: Vec<PointWanted> = (0..1000).map(|n| weighted(policy, n).point()).collect();
            policy
                .weights
                .each()
                .map(|(wanted, _)| all.iter().filter(|one| **one == wanted).count())
        };
        assert_eq!(of(&policy(4, 2, 2, 1, 1)), [400, 200, 200, 100, 100, 0, 0]);
        let rare = |moment, timeline| DrillPolicy {
            weights: DrillWeights { moment, timeline, ..DrillWeights::default() },
            ..policy(0, 0, 0, 0, 0)
        };
        assert_eq!(of(&rare(3, 1)), [0, 0, 0, 0, 0, 750, 250]);
        assert_eq!(of(&policy(0, 0, 0, 1, 0)), [0, 0, 0, 1000, 0, 0, 0]);
        assert_eq!(of(&policy(0, 0, 0, 0, 3)), [0, 0, 0, 0, 1000, 0, 0]);
        // What a weight chose at random is any of them, whatever the weights.
        let seeds = (0..1000).filter_map(|n| match weighted(&policy(2, 0, 0, 1, 1), n) {
            Wanted::Random(seed) => seed,
            _ => None,
        });
        let chosen: std::collections::BTreeSet<u64> = seeds.map(|seed| seed % 4).collect();
        assert_eq!(chosen.len(), 4);
    }
}
