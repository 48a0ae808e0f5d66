use std::collections::BTreeMap;

use drctl_model::{Holds, LogEntry};
use proptest::prelude::*;

use super::*;

const SIZE: u64 = 1 << 20;

/// What a segment holds: the times of its first and its last commit.
type Times = Option<(i64, i64)>;

/// Times that grow along the log; some segments have none.
fn segments() -> impl Strategy<Value = Vec<Times>> {
    let one = (0..4i64, 0..3i64, prop::bool::weighted(0.7));
    prop::collection::vec(one, 1..60).prop_map(|steps| {
        let mut now = 100;
        let segment = |(before, within, some): (i64, i64, bool)| {
            let first = now + before;
            now = if some { first + within } else { now };
            some.then_some((first, now))
        };
        steps.into_iter().map(segment).collect()
    })
}

fn holds(times: Times) -> Holds {
    Holds { commits: times.map(|(first, last)| (at(first), at(last))), ..Holds::default() }
}

/// Reads what has to be read; gives how many that were, and the archive.
fn learnt(segments: &[Times], want: Want) -> (usize, Archive) {
    let start = Lsn(16 * SIZE);
    let mut run = Run::new(tl(1), start, SIZE, segments.len());
    let mut reads = 0;
    while let Some(index) = run.next(want) {
        run.learn(index, &holds(segments[index]));
        reads += 1;
        assert!(reads <= segments.len(), "one is read twice");
    }
    let entries = run.entries(want);
    let mut reach = start;
    for entry in &entries {
        assert!(entry.start == reach && entry.end > reach, "{entries:?}");
        reach = entry.end;
    }
    assert_eq!(reach, run.at(segments.len()));
    (reads, archive(entries))
}

fn archive(entries: Vec<LogEntry>) -> Archive {
    let (start, stop) = (17 * SIZE - 40, 17 * SIZE - 9);
    let bases = vec![base(1, 1, start..stop, 99)];
    Archive::of(bases, BTreeMap::from([(tl(1), entries)]), Vec::new(), Vec::new())
}

proptest! {
    #[test]
    fn a_few_segments_tell_of_a_time_what_all_of_them_tell(
        segments in segments(), time in 95..400i64,
    ) {
        let target = Target::Time(at(time));
        let (_, full) = learnt(&segments, Want::All);
        let (_, few) = learnt(&segments, Want::of(Some(&target)));
        match (plan(&full, &target, None), plan(&few, &target, None)) {
            (Ok(full), Ok(few)) => {
                prop_assert_eq!(few.stop, full.stop);
                prop_assert!(few.not_before <= full.not_before && few.until >= full.until);
                prop_assert_eq!(few.reach, full.reach);
                prop_assert_eq!(few.loses.until, full.loses.until);
                // Never more than there is; and what a segment shows that was read.
                prop_assert!(few.last_commit.not_before <= full.last_commit.not_before);
                prop_assert!(few.last_commit.not_after <= full.last_commit.not_after);
            }
            (Err(full), Err(few)) => prop_assert_eq!(full.reason, few.reason),
            (full, few) => prop_assert!(false, "{full:?} {few:?}"),
        }
    }

    #[test]
    fn the_last_commits_tell_of_the_end_what_all_tell(segments in segments()) {
        let (_, full) = learnt(&segments, Want::All);
        let (reads, few) = learnt(&segments, Want::of(Some(&Target::Latest)));
        let idle = segments.iter().rev().take_while(|times| times.is_none()).count();
        prop_assert!(reads <= idle + 1);
        match (plan(&full, &Target::Latest, None), plan(&few, &Target::Latest, None)) {
            (Ok(full), Ok(few)) => {
                prop_assert_eq!((few.until, few.reach), (full.until, full.reach));
                prop_assert_eq!((few.stop, few.not_before), (full.stop, full.not_before));
                prop_assert_eq!(few.last_commit.not_before, full.last_commit.not_before);
                prop_assert_eq!(few.last_commit.not_after, full.last_commit.not_after);
                prop_assert_eq!(few.loses.until, full.loses.until);
            }
            (Err(full), Err(few)) => prop_assert_eq!(full.reason, few.reason),
            (full, few) => prop_assert!(false, "{full:?} {few:?}"),
        }
    }

    #[test]
    fn a_position_is_as_near_as_its_segment(segments in segments(), lsn in 0..80 * SIZE) {
        let target = up_to(lsn);
        let (_, full) = learnt(&segments, Want::All);
        let (reads, few) = learnt(&segments, Want::of(Some(&target)));
        let idle = segments.iter().filter(|times| times.is_none()).count();
        prop_assert!(reads <= 3 + idle);
        match (plan(&full, &target, None), plan(&few, &target, None)) {
            (Ok(full), Ok(few)) => {
                prop_assert_eq!((few.until, few.reach), (full.until, full.reach));
            }
            (Err(full), Err(few)) => prop_assert_eq!(full.reason, few.reason),
            (full, few) => prop_assert!(false, "{full:?} {few:?}"),
        }
    }
}

#[test]
fn a_time_in_a_hundred_thousand_segments_needs_few_of_them() {
    let segments: Vec<Times> = (0..100_000).map(|n| Some((n * 10, n * 10 + 8))).collect();
    for time in [105, 5_000, 499_999, 500_000, 999_990] {
        let (reads, few) = learnt(&segments, Want::Time(drctl_model::micros(at(time))));
        assert!(reads <= 21, "{reads}");
        let found = plan(&few, &Target::Time(at(time)), None).unwrap();
        assert_eq!(found.until.since(found.not_before), SIZE, "{found:?}");
    }
}

#[test]
fn on_an_idle_way_several_are_likely_to_be_asked_for() {
    let mut run = Run::new(tl(1), Lsn(16 * SIZE), SIZE, 10);
    assert_eq!(run.likely(9, 4), [9]);
    run.learn(9, &holds(None));
    assert_eq!(run.likely(8, 4), [8, 7, 6, 5]);
    run.learn(5, &holds(Some((1, 2))));
    assert_eq!(run.likely(8, 4), [8, 7, 6], "what is known is not read again");
    run.learn(0, &holds(None));
    assert_eq!(run.likely(1, 3), [1, 2, 3]);
    assert_eq!(run.likely(4, 4), [4], "behind commits nothing more is likely");
    assert_eq!(Run::new(tl(1), Lsn(0), SIZE, 1).likely(0, 4), [0]);
}

#[test]
fn idle_segments_cost_a_bounded_number_of_reads() {
    let mut segments: Vec<Times> = vec![None; 5_000];
    segments[0] = Some((100, 110));
    segments[4_999] = Some((900, 910));
    let (reads, few) = learnt(&segments, Want::Time(drctl_model::micros(at(500))));
    assert!(reads <= 70, "{reads}");
    let found = plan(&few, &Target::Time(at(500)), None).unwrap();
    assert_eq!((found.stop, found.until), (Stop::AtTarget, Lsn(5_016 * SIZE)));
    // No commit at all: what was not read is not claimed to have none.
    segments[0] = None;
    segments[4_999] = None;
    let (reads, few) = learnt(&segments, Want::Ends);
    assert!(reads <= 1_024, "{reads}");
    assert!(plan(&few, &Target::Latest, None).is_ok());
}
