use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drctl_model::{Lsn, Timeline};
use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::recovery::tests::property::{World, world};
use crate::recovery::tests::{at, id as base_id, tl};
use crate::recovery::{Target, plan};

/// Hours since a beginning, whether it counts, whether it was proven.
type Made = (i64, bool, bool);

fn made() -> impl Strategy<Value = Vec<Made>> {
    let one = |good| (0..24 * 900i64, prop::bool::weighted(good), prop::bool::weighted(0.2));
    // In most histories all count, so that what goes can be told exactly.
    prop_oneof![prop::collection::vec(one(1.0), 0..60), prop::collection::vec(one(0.8), 0..60)]
}

fn policies() -> impl Strategy<Value = RetentionPolicy> {
    let count = || prop_oneof![3 => Just(0u32), 2 => 1..4u32, 1 => 4..40u32];
    let long = || prop::option::of((1..800u64).prop_map(|days| Duration::from_hours(24 * days)));
    (count(), count(), count(), count(), count(), count(), long(), long(), 1..4u32, 1..4u32)
        .prop_map(
            |(last, hourly, daily, weekly, monthly, yearly, within, max_age, least, proven)| {
                RetentionPolicy {
                    last,
                    hourly,
                    daily,
                    weekly,
                    monthly,
                    yearly,
                    within,
                    min_backups: least,
                    min_proven: proven,
                    max_age,
                }
            },
        )
}

/// Zones whose days, hours and changes differ.
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Chatham"];

/// What a person would say, backup by backup, from the policy's words.
fn needed(policy: &RetentionPolicy, zone: &TimeZone, all: &[Candidate], of: &Candidate) -> bool {
    let counted: Vec<&Candidate> = all.iter().filter(|of| of.counts).collect();
    let later = |of: &Candidate| counted.iter().take_while(|it| it.backup != of.backup).count();
    let few = |nth: usize, most: u32| nth < usize::try_from(most).unwrap();
    let age = counted[0].taken.duration_since(of.taken);
    let is_newest_of = |name: &str, most: u32| {
        let there = |of: &Candidate| of.taken.to_zoned(zone.clone());
        let period = |of: &Candidate| there(of).strftime(name).to_string();
        let mine = period(of);
        let mut after: Vec<String> = counted.iter().map(|it| period(it)).collect();
        after.dedup();
        let first = counted.iter().find(|it| period(it) == mine);
        few(after.iter().position(|it| *it == mine).unwrap(), most)
            && first.is_some_and(|first| first.backup == of.backup)
    };
    let short = |most: Duration| age <= SignedDuration::try_from(most).unwrap();
    let by_rule = few(later(of), policy.last)
        // The hour that a clock shows twice is two.
        || is_newest_of("%Y%m%d%H%z", policy.hourly)
        || is_newest_of("%Y%m%d", policy.daily)
        || is_newest_of("%G%V", policy.weekly)
        || is_newest_of("%Y%m", policy.monthly)
        || is_newest_of("%Y", policy.yearly)
        || policy.within.is_some_and(short);
    let proven = counted.iter().filter(|it| it.proven);
    let proven_later = proven.take_while(|it| it.backup != of.backup).count();
    (by_rule && policy.max_age.is_none_or(short))
        || few(later(of), policy.min_backups)
        || (of.proven && few(proven_later, policy.min_proven))
}

/// The same of all of them, with what somebody said, and with what others that are needed are based on: each has
/// its parent behind it.
fn all_needed(policy: &RetentionPolicy, zone: &TimeZone, all: &[Candidate]) -> Vec<bool> {
    let mut found: Vec<bool> = Vec::new();
    for of in all {
        let child = all
            .iter()
            .zip(&found)
            .any(|(child, needed)| *needed && child.parent.as_ref() == Some(&of.backup));
        found.push(child || !of.claims.is_empty() || needed(policy, zone, all, of));
    }
    found
}

/// The same cluster without what may go.
fn pruned(world: &World, verdicts: &[Verdict]) -> World {
    let stays = |backup: &BackupId| verdicts.iter().any(|of| of.backup == *backup && of.stays());
    let archive = world.archive();
    let log: BTreeMap<Timeline, Option<Lsn>> = log_of(&archive, stays)
        .into_iter()
        .filter_map(|of| match of.from {
            Some(StaysFrom::Base { at, .. }) => Some((of.lineage, Some(at))),
            Some(StaysFrom::Ancestor(_) | StaysFrom::NoBase) => None,
            None => Some((of.lineage, None)),
        })
        .collect();
    let mut left = world.clone();
    left.pieces.retain(|(timeline, _, end)| {
        match log.get(&tl(u32::try_from(*timeline).unwrap() + 1)) {
            None => true,
            Some(from) => from.is_some_and(|from| *end > from.0),
        }
    });
    // What is left keeps its identifiers: a base that is gone leads nowhere.
    for (base, n) in left.bases.iter_mut().zip(0..) {
        if !stays(&base_id(n)) {
            (base.1, base.2) = (1, 0);
        }
    }
    left
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    // A backup stays exactly if a rule of the policy, read by itself, asks for it, or somebody does, or one
    // that stays is based on it.
    #[test]
    fn what_goes_was_needed_by_no_rule_and_what_stays_by_one(
        made in made(), policy in policies(), zone in prop::sample::select(&ZONES[..]),
        based in 0..4u64, pinned in 0..9usize,
    ) {
        let zone = TimeZone::get(zone).unwrap();
        let mut made = made;
        made.sort_by_key(|of| std::cmp::Reverse(of.0));
        made.dedup_by_key(|of| of.0);
        let count = u64::try_from(made.len()).unwrap();
        let all: Vec<Candidate> = made.iter().zip(0..).map(|((hours, counts, proven), n)| Candidate {
            counts: *counts,
            proven: *proven,
            // Chains of up to so many, each based on the one before.
            parent: (n % (based + 1) != based && n + 1 < count).then(|| id(n + 1)),
            claims: (usize::try_from(n).unwrap() % 9 == pinned && pinned > 4)
                .then(|| Claim::Pinned("audit".to_owned())).into_iter().collect(),
            ..candidate(n, at(hours * 3600))
        }).collect();
        let holdings =
            Holdings { candidates: &all, clusters: &[], blocked: None, now: at(24 * 901 * 3600) };
        let found = decide(&policy, &zone, &holdings);
        if !made.iter().any(|of| of.1) {
            prop_assert!(found.iter().all(Verdict::stays));
        } else if made.iter().all(|of| of.1) {
            let needed = all_needed(&policy, &zone, &all);
            let stays: Vec<bool> = found.iter().map(Verdict::stays).collect();
            prop_assert_eq!(stays, needed, "{:?}", found);
        } else {
            // What does not count may keep what it is based on.
            for (of, verdict) in all.iter().zip(&found).filter(|(of, _)| of.counts) {
                prop_assert!(verdict.stays() || !needed(&policy, &zone, &all, of), "{:?}", verdict);
            }
        }
    }

    // Whatever is deleted: each moment of the recovery window that could be reached from a backup that
    // counts can be reached as before, on each timeline.
    #[test]
    fn every_moment_of_a_recovery_window_stays_reachable(
        world in world(), within in 0..300i64, last in 0..2u32,
    ) {
        let taken = |n: usize| at(world.stopped(world.bases[n]));
        let mut order: Vec<usize> = (0..world.bases.len()).collect();
        order.sort_by_key(|n| std::cmp::Reverse((taken(*n), *n)));
        let candidates: Vec<Candidate> = order.iter().map(|n| Candidate {
            backup: base_id(u64::try_from(*n).unwrap()),
            counts: world.bases[*n].4,
            ..candidate(0, taken(*n))
        }).collect();
        let policy = RetentionPolicy {
            last,
            within: Some(Duration::from_secs(u64::try_from(within).unwrap())),
            ..OFF
        };
        let cluster = world.archive();
        let clusters = [&cluster];
        let holdings =
            Holdings { candidates: &candidates, clusters: &clusters, blocked: None, now: at(9000) };
        let verdicts = decide(&policy, &TimeZone::UTC, &holdings);
        let left = pruned(&world, &verdicts).archive();
        let newest = candidates.iter().filter(|of| of.counts).map(|of| of.taken).max();
        let begin = newest.map_or(0, |at_| at_.as_second() - at(0).as_second() - within);
        let commits = world.commits.iter().flatten().flatten().copied();
        let moments: BTreeSet<i64> = commits.flat_map(|at| [at - 1, at, at + 1]).chain([begin]).collect();
        let good = |base: &BackupId| candidates.iter().any(|of| of.backup == *base && of.counts);
        for index in 0..world.forks.len() {
            let timeline = tl(u32::try_from(index).unwrap() + 1);
            for moment in moments.iter().filter(|moment| **moment >= begin) {
                let target = Target::Time(at(*moment));
                let Ok(before) = plan(&cluster, &target, Some(timeline)) else { continue };
                if good(&before.base) {
                    let after = plan(&left, &target, Some(timeline));
                    prop_assert!(after.is_ok(), "{moment} on {timeline}: {before:?} {after:?} {verdicts:?}");
                }
            }
        }
    }

    // Each backup that stays can be brought to where it is consistent, as before.
    #[test]
    fn a_base_backup_that_stays_keeps_the_log_that_it_needs(world in world(), keep in 0..64u32) {
        let stays = |n: u64| keep & (1 << n) != 0;
        let all = 0..u64::try_from(world.bases.len()).unwrap();
        let verdicts: Vec<Verdict> = all.clone().map(|n| Verdict {
            backup: base_id(n),
            reasons: stays(n).then_some(Reason::Within).into_iter().collect(),
        }).collect();
        let left = pruned(&world, &verdicts).archive();
        let whole = world.archive();
        for n in all.filter(|n| stays(*n)) {
            for index in 0..world.forks.len() {
                let timeline = Some(tl(u32::try_from(index).unwrap() + 1));
                let before = plan(&whole.clone().only(&base_id(n)), &Target::Latest, timeline);
                let after = plan(&left.clone().only(&base_id(n)), &Target::Latest, timeline);
                let ends = |plan: &crate::recovery::RecoveryPlan| (plan.consistent, plan.until);
                prop_assert_eq!(before.as_ref().ok().map(ends), after.as_ref().ok().map(ends));
            }
        }
    }
}
