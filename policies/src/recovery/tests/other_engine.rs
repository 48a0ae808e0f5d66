//! An engine that is made up: its lineages never branch and do not compare, its positions are plain
//! numbers, and it has no segments, no histories and no restore points. What is common must do for it.

use std::collections::BTreeMap;
use std::fmt;

use drctl_model::{LogEntry, Position};
use proptest::prelude::*;

use super::super::common::{
    Agreed, Archive, Base, Gap, Goal, Lines, Path, Plan, Reason, Why, nearest, reachable, search,
};
use super::super::{Stood, Stop};
use super::{at, id};

/// Positions of a log: each may hold a commit.
const LENGTH: u64 = 20;

/// How many logs there are.
const REELS: usize = 3;

/// A tape recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Tape;

/// One reel of tape: nothing leads from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Reel(usize);

/// What the counter shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Counter(u64);

impl fmt::Display for Reel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no. {}", self.0)
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.0)
    }
}

impl Position for Counter {
    fn of(number: u64) -> Counter {
        Counter(number)
    }

    fn number(self) -> u64 {
        self.0
    }
}

impl Lines for Tape {
    const LINEAGE: &'static str = "reel";

    type Lineage = Reel;
    type At = Counter;
    type Known = ();

    fn ancestors(_: &(), _: Reel) -> Option<Vec<(Reel, Counter)>> {
        Some(Vec::new())
    }

    // A second of tape.
    fn amount(_: &(), from: Counter, until: Counter) -> u64 {
        until.since(from) * 176_400
    }
}

/// Reel, start, stop, seconds between the last commit and the end, good.
type Taken = (usize, u64, u64, i64, bool);

/// What really happened, and what of it came into the bucket.
#[derive(Debug, Clone)]
struct World {
    /// When each position of each reel was committed.
    commits: Vec<Vec<Option<i64>>>,
    pieces: Vec<(usize, u64, u64)>,
    bases: Vec<Taken>,
}

impl World {
    fn commit(&self, reel: usize, position: u64) -> Option<i64> {
        self.commits[reel][usize::try_from(position).unwrap()]
    }

    fn times(&self, reel: usize, from: u64, until: u64) -> Option<(i64, i64)> {
        let within = || (from..until).filter_map(|position| self.commit(reel, position));
        within().min().zip(within().max())
    }

    fn stopped(&self, (reel, _, stop, later, _): Taken) -> i64 {
        self.times(reel, 0, stop).map_or(0, |(_, last)| last) + later
    }

    fn archive(&self) -> Archive<Tape> {
        let bases = self.bases.iter().zip(0..).map(|(of, n)| Base {
            backup: id(n),
            lineage: Reel(of.0),
            start: Counter(of.1),
            stop: Counter(of.2),
            stood: Stood::Server(at(self.stopped(*of))),
            good: of.4,
        });
        let mut logs: BTreeMap<Reel, Vec<LogEntry<Counter>>> = BTreeMap::new();
        for (reel, from, until) in &self.pieces {
            let times = self.times(*reel, *from, *until).map(|(one, two)| (at(one), at(two)));
            let entry = LogEntry::new((Counter(*from), Counter(*until)), times, None);
            logs.entry(Reel(*reel)).or_default().push(entry);
        }
        Archive::of(bases.collect(), logs, ())
    }

    /// The same without any other reel.
    fn only(&self, reel: usize) -> World {
        let mut world = self.clone();
        world.pieces.retain(|(of, ..)| *of == reel);
        // What is left keeps its identifiers: bases of other reels become useless instead.
        for base in world.bases.iter_mut().filter(|base| base.0 != reel) {
            *base = (REELS, 1, 0, 0, false);
        }
        world.commits.push(vec![None; world.commits[0].len()]);
        world
    }

    fn held(&self, reel: usize, position: u64) -> bool {
        self.pieces.iter().any(|(of, a, b)| *of == reel && *a <= position && position < *b)
    }

    /// The contiguous log from `from` on.
    fn covered(&self, reel: usize, from: u64) -> u64 {
        (from..).find(|position| !self.held(reel, *position)).unwrap()
    }

    /// The bases of a reel that the log makes consistent, and how far it leads on.
    fn whole(&self, reel: usize) -> impl Iterator<Item = (Taken, u64)> {
        let on = self.bases.iter().filter(move |of| of.0 == reel).copied();
        let led = on.map(move |of| (of, self.covered(reel, of.1)));
        led.filter(|((_, start, stop, ..), end)| start <= stop && end >= stop && end > start)
    }

    /// Where a replay from this base to a time can be shown to stop: the end of the log where
    /// only that stops it.
    fn stops(&self, (reel, start, stop, later, good): Taken, end: u64, time: i64) -> Option<u64> {
        let on = || self.pieces.iter().filter(|(of, ..)| *of == reel);
        let inside = on().filter(|(_, a, b)| *a >= start && *b <= stop);
        let since = inside.filter_map(|(_, a, b)| self.times(reel, *a, *b)).map(|(_, last)| last);
        let since = since.max().unwrap_or(0).max(self.stopped((reel, start, stop, later, good)));
        let behind = on().filter(|(_, a, b)| *b > stop && *a < end);
        let last = behind.filter_map(|(_, a, b)| Some((self.times(reel, *a, *b)?.1, *b)));
        let last: Vec<(i64, u64)> = last.collect();
        let passed = last.iter().filter(|(last, _)| *last > time).map(|(_, until)| *until).min();
        let exact = last.iter().any(|(last, _)| *last == time).then_some(end);
        passed.or(exact).filter(|_| time >= since)
    }
}

/// Logs cut into pieces, a few of them lost, one there twice as part of a larger one.
fn pieces(reel: usize) -> impl Strategy<Value = Vec<(usize, u64, u64)>> {
    let cuts = prop::collection::btree_set(1..LENGTH, 0..8);
    let lost = prop::collection::vec(0..12usize, 0..3);
    (0..6u64, cuts, lost, prop::option::of((0..LENGTH, 1..6u64))).prop_map(
        move |(first, cuts, lost, again)| {
            let mut edges: Vec<u64> = cuts.into_iter().filter(|at| *at > first).collect();
            edges.insert(0, first);
            edges.push(LENGTH);
            let mut kept: Vec<_> = edges.windows(2).map(|pair| (reel, pair[0], pair[1])).collect();
            for lost in lost {
                if lost < kept.len() {
                    kept.remove(lost);
                }
            }
            kept.extend(again.map(|(from, long)| (reel, from, (from + long).min(LENGTH))));
            let by = usize::try_from(first).unwrap() % kept.len().max(1);
            kept.rotate_left(by);
            kept
        },
    )
}

fn world() -> impl Strategy<Value = World> {
    // Time goes on by 10 at each position; now and then commits overtake each other.
    let jitter = prop_oneof![6 => Just(0i64), 3 => -12..12i64, 1 => -60..60i64];
    let commit = prop_oneof![3 => jitter.prop_map(Some), 1 => Just(None)];
    let log = prop::collection::vec(commit, usize::try_from(LENGTH).unwrap() + 8);
    let commits = prop::collection::vec(log, REELS).prop_map(|logs| {
        let real = |(at, jitter): (usize, Option<i64>)| {
            Some(1000 + 10 * i64::try_from(at).unwrap() + jitter?)
        };
        logs.into_iter().map(|log| log.into_iter().enumerate().map(real).collect()).collect()
    });
    let start = prop_oneof![2 => 0..8u64, 1 => 0..LENGTH];
    let base = (0..REELS, start, 0..5u64, 0..3i64, prop::bool::weighted(0.8))
        .prop_map(|(reel, start, long, later, good)| (reel, start, start + long, later, good));
    let logs: Vec<_> = (0..REELS).map(pieces).collect();
    (commits, logs, prop::collection::vec(base, 0..8)).prop_map(|(commits, logs, bases)| World {
        commits,
        pieces: logs.concat(),
        bases,
    })
}

fn planned(
    archive: &Archive<Tape>,
    reel: usize,
    goal: &Goal<Counter>,
) -> Result<Plan<Tape>, Reason<Tape>> {
    let path = Path::to(archive, Reel(reel)).unwrap();
    search(&path, goal).map(|found| found.plan(goal).0)
}

/// Whether the legs of a plan are log of this reel that is there, one after the other.
fn replayed(
    world: &World,
    reel: usize,
    plan: &Plan<Tape>,
    start: u64,
) -> Result<(), TestCaseError> {
    let mut next = Counter(start);
    for leg in &plan.path {
        prop_assert!(leg.lineage == Reel(reel) && leg.from == next && leg.from < leg.until);
        prop_assert!((leg.from.0..leg.until.0).all(|position| world.held(reel, position)));
        next = leg.until;
    }
    prop_assert_eq!(next, plan.until);
    Ok(())
}

/// Whatever is said to be nearest can be reached.
fn nearest_is_reached(archive: &Archive<Tape>, reel: usize, goal: &Goal<Counter>) {
    let path = Path::to(archive, Reel(reel)).unwrap();
    let (before, after) = nearest(&path, Some(goal));
    for place in before.iter().chain(&after) {
        let there = Goal::Position { at: place.position, inclusive: true };
        assert!(planned(archive, reel, &there).is_ok(), "{place:?}");
    }
    if let Goal::Time(asked) = goal {
        for time in before.iter().chain(&after).filter_map(|place| place.at) {
            assert!(planned(archive, reel, &Goal::Time(time)).is_ok(), "{time}");
        }
        let order = |time: Option<jiff::Timestamp>| time.map(|time| time.cmp(asked));
        assert_ne!(order(before.and_then(|place| place.at)), Some(std::cmp::Ordering::Greater));
        assert_ne!(order(after.and_then(|place| place.at)), Some(std::cmp::Ordering::Less));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    // A plan to a time exists exactly if some base of that reel had ended at or before it, and each
    // position of that reel is there from the base's start to where the replay is shown to stop.
    #[test]
    fn any_engine_is_brought_to_a_time_exactly_if_it_can_be_shown_to_work(
        world in world(), pick in 0..60usize, off in prop_oneof![3 => Just(0i64), 2 => -15..15i64],
    ) {
        let archive = world.archive();
        let ends = world.bases.iter().map(|base| world.stopped(*base));
        let times: Vec<i64> = ends.chain(world.commits.iter().flatten().flatten().copied()).collect();
        let asked = times.get(pick % times.len().max(1)).copied().unwrap_or(1000) + off;
        let goal = Goal::Time(at(asked));
        for reel in 0..REELS {
            let led = world.whole(reel).filter_map(|(of, end)| Some((of, world.stops(of, end, asked)?)));
            let best = led.max_by_key(|(of, _)| (of.4, of.2));
            match planned(&archive, reel, &goal) {
                Ok(plan) => {
                    prop_assert!(best.is_some(), "{:?}", plan);
                    let (base, until) = best.unwrap();
                    prop_assert_eq!((plan.consistent, plan.until), (Counter(base.2), Counter(until)));
                    let start = world.bases[(0..).position(|n| id(n) == plan.base).unwrap()].1;
                    replayed(&world, reel, &plan, start)?;
                    let later = |at: &u64| world.commit(reel, *at).is_some_and(|at| at > asked);
                    let stop = (start..plan.until.0).find(later);
                    prop_assert_eq!(stop.is_none(), plan.stop == Stop::AtEnd);
                    prop_assert!(stop.is_none_or(|stop| stop >= plan.not_before.0));
                }
                Err(reason) => {
                    prop_assert!(best.is_none(), "{:?}", reason);
                    nearest_is_reached(&archive, reel, &goal);
                }
            }
        }
    }

    // A plan to a position exists exactly if some base of that reel had ended at or before it, and
    // each position of that reel is there from the base's start to it.
    #[test]
    fn any_engine_is_brought_to_a_position_exactly_if_all_of_its_log_is_there(
        world in world(), asked in 0..LENGTH + 3, long in 1..5u64,
    ) {
        let archive = world.archive();
        for reel in 0..REELS {
            let best = |leads: &dyn Fn(&Taken, u64) -> bool| {
                let led = world.whole(reel).filter(|(of, end)| of.2 <= asked && leads(of, *end));
                led.map(|(of, _)| of).max_by_key(|of| (of.4, of.2)).map(|of| Counter(of.2))
            };
            let to = |goal: Goal<Counter>| planned(&archive, reel, &goal).ok().map(|p| p.consistent);
            let position = |inclusive| Goal::Position { at: Counter(asked), inclusive };
            prop_assert_eq!(to(position(true)), best(&|_, end| asked < end));
            prop_assert_eq!(to(position(false)), best(&|_, end| asked <= end));
            let (lo, hi) = (Counter(asked), Counter(asked + long));
            let within = Goal::Within { lo, hi, pieces: 0 };
            prop_assert_eq!(to(within), best(&|_, end| asked + long <= end));
            let path = Path::to(&archive, Reel(reel)).unwrap();
            let inside = reachable(&path).iter().any(|r| r.from <= lo && lo < r.until);
            prop_assert_eq!(inside, best(&|_, end| asked < end).is_some());
            nearest_is_reached(&archive, reel, &position(true));
            // All that there is.
            let last = world.whole(reel).max_by_key(|(of, _)| (of.4, of.2));
            let latest = planned(&archive, reel, &Goal::Latest);
            let reach = latest.as_ref().ok().map(|plan| (plan.consistent, plan.reach));
            prop_assert_eq!(reach, last.map(|(of, end)| (Counter(of.2), Counter(end))));
            let none = world.bases.iter().all(|of| of.0 != reel);
            prop_assert_eq!(latest == Err(Reason::NoBase), none);
        }
    }

    // Positions of two reels do not compare: whatever lies on the others, a reel's answers, and what
    // is missing on it, stay the same.
    #[test]
    fn nothing_leads_from_one_lineage_to_another(
        world in world(), asked in 0..LENGTH + 3, time in 990..1250i64,
    ) {
        let archive = world.archive();
        for reel in 0..REELS {
            let alone = world.only(reel).archive();
            let position = Goal::Position { at: Counter(asked), inclusive: true };
            for goal in [Goal::Latest, Goal::Time(at(time)), position] {
                prop_assert_eq!(planned(&archive, reel, &goal), planned(&alone, reel, &goal));
            }
            let first = (0..LENGTH).find(|at| world.held(reel, *at)).unwrap_or(LENGTH);
            let last = (0..LENGTH).rfind(|at| world.held(reel, *at)).unwrap_or(0);
            let missing: Vec<u64> = (first..last).filter(|at| !world.held(reel, *at)).collect();
            let gaps = Path::to(&archive, Reel(reel)).unwrap().gaps();
            let told = gaps.iter().flat_map(|gap| gap.from.0..gap.until.unwrap().0);
            prop_assert_eq!(told.collect::<Vec<u64>>(), missing);
            prop_assert!(gaps.iter().all(|gap| gap.lineage == Reel(reel)));
        }
    }
}

// A clock that was set back before the base was made: commits that the base holds have later times
// than the target, and what holds them ends before the base does.
#[test]
fn what_ends_before_a_base_tells_nothing_of_where_its_replay_passes_a_time() {
    type Pieces<'a> = &'a [(usize, u64, u64)];
    type Commits<'a> = &'a [(usize, i64)];
    let cases: &[(Pieces<'_>, Commits<'_>, (u64, u64))] = &[
        (&[(1, 0, 5), (1, 5, 12), (1, 12, 16)], &[(3, 2000), (8, 1100), (14, 1200)], (12, 16)),
        // The same once more within a larger piece, which leads on.
        (&[(1, 0, 12), (1, 2, 5), (1, 12, 16)], &[(3, 2000), (9, 1200)], (6, 12)),
    ];
    for (pieces, committed, (not_before, until)) in cases {
        let mut commits = vec![vec![None; 28]; REELS];
        committed.iter().for_each(|(position, time)| commits[1][*position] = Some(*time));
        // It ended at 1000, by the clock as it was then.
        let world = World { commits, pieces: pieces.to_vec(), bases: vec![(1, 5, 6, -1000, true)] };
        let plan = planned(&world.archive(), 1, &Goal::Time(at(1150))).unwrap();
        let found = (plan.stop, plan.not_before, plan.until);
        assert_eq!(found, (Stop::AtTarget, Counter(*not_before), Counter(*until)), "{pieces:?}");
    }
}

#[test]
fn what_is_agreed_to_is_said_in_the_engines_own_words() {
    let commits = vec![(0..28).map(|at| Some(1000 + 10 * at)).collect(); REELS];
    let pieces = vec![(1, 0, 5), (1, 5, 9), (2, 0, 9), (1, 11, 14)];
    let world = World { commits, pieces, bases: vec![(1, 2, 4, 1, true), (2, 2, 4, 1, true)] };
    let archive = world.archive();
    let plan = planned(&archive, 1, &Goal::Latest).unwrap();
    let agreed = Agreed::<Tape> {
        base: &plan.base,
        consistent: plan.consistent,
        lineage: plan.lineage,
        target: "the end of the log",
        path: &plan.path,
        warnings: &["the last reel is worn".to_owned()],
    };
    let text = format!(
        "drctl recovery plan 1\nbase {}\nconsistent 004\nreel no. 1\ntarget the end of the log\n\
         log no. 1 002\nwarning the last reel is worn\n",
        id(0)
    );
    assert_eq!(agreed.text(), text);
    let (from, until) = (Counter(9), Some(Counter(11)));
    let gap = Gap { lineage: Reel(1), from, until, why: Why::Missing };
    let behind = Goal::Position { at: Counter(12), inclusive: true };
    assert_eq!(planned(&archive, 1, &behind), Err(Reason::Gap(gap)));
    // What is replayed, and lost, is told by its measure: from the base to the gap, and behind that.
    assert_eq!(plan.log_bytes, (9 - 2) * 176_400);
    assert_eq!(plan.loses.bytes, (14 - 11) * 176_400);
}
