use std::collections::BTreeMap;
use std::iter::repeat;

use drctl_model::{Holds, LogEntry};
use proptest::prelude::*;

use super::*;

/// Positions of the log: each may hold a commit.
const LENGTH: u64 = 24;

/// Timeline, start, stop, seconds between the last commit and the end, good.
pub(crate) type Taken = (usize, u64, u64, i64, bool);

/// A piece on a path: from, until, times, whether all of it lies there.
type OnPath = (u64, u64, Option<(i64, i64)>, bool);

/// A cluster as it really was, and what of it came into the bucket.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// Each timeline's parent (by index) and where it branched off; the first has none.
    pub(crate) forks: Vec<Option<(usize, u64)>>,
    /// When each position of a timeline's own part was committed.
    pub(crate) commits: Vec<Vec<Option<i64>>>,
    pub(crate) pieces: Vec<(usize, u64, u64)>,
    pub(crate) bases: Vec<Taken>,
    shuffle: usize,
}

impl World {
    /// Where each ancestor of a timeline was left, and itself.
    fn path(&self, timeline: usize) -> Vec<(usize, u64)> {
        let mut path = vec![(timeline, u64::MAX)];
        while let Some((parent, left)) = self.forks[path[0].0] {
            path.insert(0, (parent, left));
        }
        path
    }

    fn commit(&self, timeline: usize, position: u64) -> Option<i64> {
        let path = self.path(timeline);
        let owner = path.iter().find(|(_, left)| position < *left).unwrap().0;
        self.commits[owner][usize::try_from(position).unwrap()]
    }

    fn times(&self, timeline: usize, from: u64, until: u64) -> Option<(i64, i64)> {
        let within = || (from..until).filter_map(|position| self.commit(timeline, position));
        within().min().zip(within().max())
    }

    pub(crate) fn stopped(&self, (timeline, _, stop, later, _): Taken) -> i64 {
        self.times(timeline, 0, stop).map_or(0, |(_, last)| last) + later
    }

    pub(crate) fn archive(&self) -> Archive {
        let number = |index: usize| u32::try_from(index).unwrap() + 1;
        let mut pieces: Vec<Piece> = self
            .pieces
            .iter()
            .map(|(t, a, b)| piece(number(*t), *a..*b, self.times(*t, *a, *b)))
            .collect();
        let by = self.shuffle % pieces.len().max(1);
        pieces.rotate_left(by);
        Archive::new(self.taken(), pieces, Vec::new(), self.histories())
    }

    /// The same where streams that could not compare began with these pieces, by their order.
    fn with_unproven(&self, unproven: &[bool]) -> Archive {
        let number = |index: usize| u32::try_from(index).unwrap() + 1;
        let mut logs: BTreeMap<Timeline, Vec<LogEntry>> = BTreeMap::new();
        for ((t, a, b), unproven) in self.pieces.iter().zip(unproven.iter().chain(repeat(&false))) {
            let commits = self.times(*t, *a, *b).map(|(first, last)| (at(first), at(last)));
            let holds = Holds { commits, unproven: *unproven, ..Holds::default() };
            let entries = logs.entry(tl(number(*t))).or_default();
            entries.push(LogEntry::of((Lsn(*a), Lsn(*b)), &holds));
        }
        Archive::of(self.taken(), logs, Vec::new(), self.histories())
    }

    /// Where log of the path begins that nobody compared with the log before it, all of which is there.
    fn unproven(&self, timeline: usize, unproven: &[bool]) -> Vec<(usize, u64)> {
        let path = self.path(timeline);
        let begun = self.pieces.iter().zip(unproven).filter(|(_, unproven)| **unproven);
        // One without any bytes is no piece.
        let begun = begun.filter(|((_, a, b), _)| a < b);
        let mut found: Vec<(u64, usize)> = begun
            .map(|((t, a, _), _)| (*a, *t))
            .filter(|(at, of)| path.iter().any(|(t, left)| t == of && at < left))
            .filter(|(at, of)| !self.pieces.iter().any(|(t, a, b)| t == of && a < at && at < b))
            .filter(|(at, _)| *at > 0 && self.covered(timeline, at - 1) > *at)
            .collect();
        found.sort_unstable();
        found.dedup_by_key(|(at, _)| *at);
        found.into_iter().map(|(at, of)| (of, at)).collect()
    }

    fn taken(&self) -> Vec<Base> {
        let bases = self.bases.iter().zip(0..).map(|(of, n)| {
            let number = u32::try_from(of.0).unwrap() + 1;
            Base { good: of.4, ..base(n, number, of.1..of.2, self.stopped(*of)) }
        });
        bases.collect()
    }

    fn histories(&self) -> Vec<TimelineHistory> {
        let number = |index: usize| u32::try_from(index).unwrap() + 1;
        let histories = (1..self.forks.len()).map(|index| {
            let mut path = self.path(index);
            path.pop();
            let steps: Vec<(u32, u64)> = path.iter().map(|(t, left)| (number(*t), *left)).collect();
            history(number(index), &steps)
        });
        histories.collect()
    }

    /// The pieces on the way to a timeline.
    fn seen(&self, timeline: usize) -> Vec<OnPath> {
        let path = self.path(timeline);
        let on = self.pieces.iter().filter_map(|(t, a, b)| {
            let (_, left) = path.iter().find(|(of, _)| of == t)?;
            (a < left).then(|| (*a, *b.min(left), self.times(*t, *a, *b), b <= left))
        });
        on.collect()
    }

    /// The contiguous log from `from` on.
    fn covered(&self, timeline: usize, from: u64) -> u64 {
        let seen = self.seen(timeline);
        let held = |at: u64| seen.iter().any(|(a, b, ..)| *a <= at && at < *b);
        (from..).find(|at| !held(*at)).unwrap()
    }

    fn on(&self, timeline: usize, of: Taken) -> bool {
        self.path(timeline).iter().any(|(t, left)| *t == of.0 && of.2 <= *left)
    }

    /// Where a replay from this base to a time can be shown to stop: the end of the log where
    /// only that stops it.
    fn stops(&self, timeline: usize, of: Taken, time: i64) -> Option<u64> {
        let (_, start, stop, ..) = of;
        let (seen, end) = (self.seen(timeline), self.covered(timeline, start));
        let inside = seen.iter().filter(|(a, b, _, whole)| *a >= start && *b <= stop && *whole);
        let since = inside.filter_map(|s| s.2).map(|(_, last)| last).max().unwrap_or(0);
        if !self.on(timeline, of) || end < stop || time < since.max(self.stopped(of)) {
            return None;
        }
        let behind = || seen.iter().filter(|(a, b, ..)| *b > stop && *a < end);
        let last = |whole: bool| {
            behind().filter(move |s| s.3 == whole).filter_map(|s| s.2.map(|(_, last)| (last, s.1)))
        };
        let passed = last(true).filter(|(last, _)| *last > time).map(|(_, b)| b).min();
        let exact =
            last(true).any(|(last, _)| last == time) && !last(false).any(|(last, _)| last > time);
        passed.or(exact.then_some(end))
    }
}

/// Logs cut into pieces, a few of them lost, others there twice or joined to larger ones.
fn pieces(forks: Vec<Option<(usize, u64)>>) -> impl Strategy<Value = Vec<(usize, u64, u64)>> {
    let logs: Vec<_> = forks
        .iter()
        .enumerate()
        .map(|(index, fork)| {
            let begins = fork.map_or(0, |(_, at)| at);
            let cuts = prop::collection::btree_set(0..=LENGTH, 0..10);
            let lost = prop::collection::vec(0..40usize, 0..3);
            let joined = prop::collection::vec((0..10usize, 1..5usize), 0..3);
            (cuts, lost, joined, 0..4u64, prop_oneof![Just(LENGTH), begins..=LENGTH]).prop_map(
                move |(cuts, lost, joined, copied, ends)| {
                    let first = begins.saturating_sub(copied);
                    let mut edges: Vec<u64> =
                        cuts.into_iter().filter(|at| *at > first && *at < ends).collect();
                    edges.insert(0, first);
                    edges.push(ends);
                    let pair = |pair: &[u64]| (index, pair[0], pair[1]);
                    let small: Vec<_> = edges.windows(2).map(pair).collect();
                    let mut kept: Vec<_> = small.clone();
                    for lost in lost {
                        if lost < kept.len() {
                            kept.remove(lost);
                        }
                    }
                    for (from, count) in joined {
                        let until = from + count;
                        if until < edges.len() {
                            kept.push((index, edges[from], edges[until]));
                        }
                    }
                    kept
                },
            )
        })
        .collect();
    logs.prop_map(|logs| logs.concat())
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    let forks = prop_oneof![
        Just(vec![None]),
        (4..LENGTH).prop_map(|at| vec![None, Some((0, at))]),
        (4..LENGTH, 0..8u64).prop_map(|(at, more)| {
            vec![None, Some((0, at)), Some((1, (at + more).min(LENGTH)))]
        }),
        (4..LENGTH, 4..LENGTH).prop_map(|(a, b)| vec![None, Some((0, a)), Some((0, b))]),
    ];
    forks.prop_flat_map(|forks| {
        let count = forks.len();
        // Time goes on by 10 at each position; now and then commits overtake each other, and
        // rarely a clock is set.
        let jitter = prop_oneof![6 => Just(0i64), 3 => -12..12i64, 1 => -60..60i64];
        let commit = prop_oneof![3 => jitter.prop_map(Some), 1 => Just(None)];
        let log = prop::collection::vec(commit, usize::try_from(LENGTH).unwrap() + 8);
        let commits = prop::collection::vec(log, count).prop_map(|logs| {
            let real = |(at, jitter): (usize, Option<i64>)| {
                Some(1000 + 10 * i64::try_from(at).unwrap() + jitter?)
            };
            logs.into_iter().map(|log| log.into_iter().enumerate().map(real).collect()).collect()
        });
        let base = (
            0..count,
            prop_oneof![2 => 0..6u64, 1 => 0..LENGTH],
            0..5u64,
            0..3i64,
            prop::bool::weighted(0.8),
        )
            .prop_map(|(t, start, long, later, good)| (t, start, start + long, later, good));
        let bases = prop::collection::vec(base, 0..6);
        (Just(forks.clone()), commits, pieces(forks), bases, 0..50usize).prop_map(
            |(forks, commits, pieces, bases, shuffle)| World {
                forks,
                commits,
                pieces,
                bases,
                shuffle,
            },
        )
    })
}

fn time(plan: &RecoveryPlan) -> i64 {
    match plan.target {
        Target::Time(of) => of.as_second() - at(0).as_second(),
        _ => unreachable!(),
    }
}

/// Replays as the server does, and checks what the plan promised.
fn replay(world: &World, timeline: usize, plan: &RecoveryPlan) -> Result<(), TestCaseError> {
    let bases: Vec<_> = (0..).map(id).take(world.bases.len()).collect();
    let base = world.bases[bases.iter().position(|id| *id == plan.base).unwrap()];
    let mut next = Lsn(base.1);
    for leg in &plan.path {
        prop_assert!(leg.from == next && leg.from < leg.until);
        let of = usize::try_from(leg.timeline.id()).unwrap() - 1;
        for at in leg.from.0..leg.until.0 {
            prop_assert!(world.pieces.iter().any(|(t, a, b)| *t == of && *a <= at && at < *b));
            prop_assert!(world.path(timeline).iter().any(|(t, left)| *t == of && at < *left));
        }
        next = leg.until;
    }
    prop_assert_eq!(next, plan.until);
    prop_assert!(plan.until <= plan.reach);
    let time = time(plan);
    let stop = (base.1..plan.until.0)
        .find(|at| world.commit(timeline, *at).is_some_and(|commit| commit > time));
    match plan.stop {
        Stop::AtEnd => prop_assert_eq!(stop, None),
        Stop::AtTarget => prop_assert!(stop.is_some_and(|stop| stop >= plan.not_before.0)),
    }
    let end = stop.unwrap_or(plan.until.0);
    prop_assert!(end >= base.2 || base.1 == base.2);
    let last = (0..end).filter_map(|at| world.commit(timeline, at)).filter(|at| *at <= time).max();
    let LastCommit { not_before, not_after } = plan.last_commit;
    prop_assert!(not_before <= last.map(at));
    prop_assert!(last.map(at) <= not_after || world.covered(timeline, 0) < base.1);
    Ok(())
}

/// Times worth asking for: about commits, and about the ends of bases.
pub(crate) fn interesting(world: &World, pick: usize, off: i64) -> i64 {
    let commits = world.commits.iter().flatten().flatten().copied();
    let ends = world.bases.iter().map(|base| world.stopped(*base));
    let times: Vec<i64> = ends.chain(commits).collect();
    times.get(pick % times.len().max(1)).copied().unwrap_or(1000) + off
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    // A plan exists exactly if some base on the path had ended at or before the time, and every
    // position from its start to where the replay is shown to stop is held by a piece of a
    // timeline on the path. And the server, replaying it, stops where the plan says.
    #[test]
    fn a_plan_to_a_time_exists_exactly_if_it_can_be_shown_to_work(
        world in world(), pick in 0..100usize, off in prop_oneof![3 => Just(0i64), 2 => -15..15i64],
    ) {
        let archive = world.archive();
        let asked = interesting(&world, pick, off);
        for index in 0..world.forks.len() {
            let timeline = tl(u32::try_from(index).unwrap() + 1);
            if archive.history(timeline).is_none() {
                continue;
            }
            let best = world.bases.iter().filter(|of| world.stops(index, **of, asked).is_some());
            let best = best.max_by_key(|of| (of.4, of.2));
            match plan(&archive, &Target::Time(at(asked)), Some(timeline)) {
                Ok(plan) => {
                    prop_assert!(best.is_some(), "{:?}", plan);
                    let best = best.unwrap();
                    let until = world.stops(index, *best, asked).map(Lsn);
                    prop_assert_eq!((plan.consistent, Some(plan.until)), (Lsn(best.2), until));
                    prop_assert_eq!(plan.warnings.contains(&Warning::SuspectBase), !best.4);
                    replay(&world, index, &plan)?;
                    for other in plan.earlier.iter().chain(&plan.later) {
                        let target = Target::Time(*other);
                        prop_assert!(super::super::plan(&archive, &target, Some(timeline)).is_ok());
                    }
                }
                Err(none) => {
                    prop_assert!(best.is_none(), "{:?}", none);
                    for place in none.before.iter().chain(&none.after) {
                        let by_lsn = plan(&archive, &Target::Lsn { lsn: place.lsn, inclusive: true }, Some(timeline));
                        prop_assert!(by_lsn.is_ok());
                        let Some(time) = place.at else { continue };
                        prop_assert!(plan(&archive, &Target::Time(time), Some(timeline)).is_ok());
                    }
                    let order = |place: &Option<Place>| place.and_then(|place| place.at);
                    prop_assert!(order(&none.before).is_none_or(|time| time < at(asked)));
                    prop_assert!(order(&none.after).is_none_or(|time| time > at(asked)));
                }
            }
        }
    }

    // A plan to a position exists exactly if some base on the path had ended at or before it, and
    // every position from the base's start to it is held by a piece of a timeline on the path.
    #[test]
    fn a_plan_to_a_position_exists_exactly_if_all_of_the_log_is_there(
        world in world(), asked in 0..LENGTH + 4,
    ) {
        let archive = world.archive();
        for index in 0..world.forks.len() {
            let timeline = tl(u32::try_from(index).unwrap() + 1);
            if archive.history(timeline).is_none() {
                continue;
            }
            let ends = |of: &&Taken| {
                let all = world.covered(index, of.1) > asked;
                world.on(index, **of) && of.2 <= asked && all
            };
            let best = world.bases.iter().filter(ends).max_by_key(|of| (of.4, of.2));
            let result = plan(&archive, &up_to(asked), Some(timeline));
            prop_assert_eq!(result.as_ref().ok().map(|p| p.consistent), best.map(|b| Lsn(b.2)));
            // All that there is: to where the base is consistent at least.
            let whole = |of: &&Taken| {
                world.on(index, **of) && world.covered(index, of.1) >= of.2.max(of.1 + 1)
            };
            let best_of_all = world.bases.iter().filter(whole).max_by_key(|of| (of.4, of.2));
            let latest = plan(&archive, &Target::Latest, Some(timeline)).ok();
            let ends = latest.map(|plan| (plan.consistent, plan.until));
            let expected = best_of_all.map(|of| (Lsn(of.2), Lsn(world.covered(index, of.1))));
            prop_assert_eq!(ends, expected);
            // The same with the view's words.
            let views = timeline_view(&archive);
            let view = views.iter().find(|view| view.timeline == timeline).unwrap();
            let within = |r: &Reachable| r.from.0 <= asked && asked < r.until.0;
            prop_assert_eq!(view.reachable.iter().any(within), best.is_some());
        }
    }

    // What nobody compared changes no plan and refuses none: it is told exactly if it is replayed across.
    #[test]
    fn what_nobody_compared_is_told_exactly_where_it_is_crossed(
        world in world(), pick in 0..100usize, asked in 0..LENGTH + 2,
        unproven in prop::collection::vec(prop::bool::weighted(0.3), 24),
    ) {
        let (plain, archive) = (world.archive(), world.with_unproven(&unproven));
        let time = Target::Time(at(interesting(&world, pick, 0)));
        for index in 0..world.forks.len() {
            let timeline = tl(u32::try_from(index).unwrap() + 1);
            for target in [Target::Latest, time.clone(), up_to(asked), before(asked)] {
                let all = plan(&archive, &target, Some(timeline));
                let Ok(mut told) = all else {
                    prop_assert_eq!(all, plan(&plain, &target, Some(timeline)));
                    continue;
                };
                let number = (0..).map(id).position(|id| id == told.base).unwrap();
                let (_, start, stop, ..) = world.bases[number];
                let until = match target {
                    Target::Lsn { lsn, inclusive: false } => lsn.0.min(told.until.0).max(stop),
                    _ => told.until.0,
                };
                let expected: Vec<(usize, u64)> = world.unproven(index, &unproven);
                let crossed = expected.into_iter().filter(|(_, at)| start < *at && *at < until);
                let place = |warning: &Warning| match warning {
                    Warning::Unproven(place) => {
                        Some((usize::try_from(place.timeline.id()).unwrap() - 1, place.lsn.0))
                    }
                    _ => None,
                };
                let found: Vec<_> = told.warnings.iter().filter_map(place).collect();
                prop_assert_eq!(found, crossed.collect::<Vec<_>>());
                told.warnings.retain(|warning| place(warning).is_none());
                prop_assert_eq!(Ok(told), plan(&plain, &target, Some(timeline)));
            }
        }
    }

    // Whatever the order of the pieces, the plan is the same.
    #[test]
    fn the_order_of_the_pieces_does_not_matter(world in world(), pick in 0..100usize) {
        let target = Target::Time(at(interesting(&world, pick, 0)));
        let other = World { shuffle: 0, ..world.clone() };
        prop_assert_eq!(plan(&world.archive(), &target, None), plan(&other.archive(), &target, None));
        prop_assert_eq!(timeline_view(&world.archive()), timeline_view(&other.archive()));
    }
}
