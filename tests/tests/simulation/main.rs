//! Years of backups, removals and log in a second: the shipped scheduler, catalog and removal, under a clock and
//! over a bucket that are made up, through crashes at any request or call of the catalog, faults, outages and lost
//! catalogs, all by a seed. What must hold is judged from the words of the policy and the calendar.
//!
//! `tests/simulate` lives through more, or through one seed again.

mod cluster;
mod host;
mod life;
mod oracle;
mod plan;
mod random;
mod store;
mod truth;
mod years;

use std::time::Instant;

use drctl_model::PLANTED;
use jiff::SignedDuration;
use life::{Length, Told, dies_without_a_catalog, is_away_without_a_catalog, life};

/// The seeds of the suite.
const SEEDS: std::ops::Range<u64> = 0..4;

/// Those that planted faults are looked for with.
const PLANTED_SEEDS: std::ops::Range<u64> = 0..20;

/// How long each has trouble.
const LENGTH: Length = Length { days: 14 };

/// The planted faults, and which seed of the suite finds each soonest.
const FOUND_BY: [(&str, u64); 19] = [
    ("attempt-never-settled", 1),
    ("blackout-ignored", 0),
    ("chain-cut", 0),
    ("data-before-the-manifest", 0),
    ("day-of-another-zone", 3),
    ("doubled-after-a-restart", 0),
    ("floor-forgotten", 0),
    ("freeze-ignored", 6),
    ("log-behind-the-floor", 0),
    ("log-from-the-newest-base", 0),
    ("mass-removal-unasked", 1),
    ("missed-and-not-made-up-for", 0),
    ("orphan-too-young", 4),
    ("pin-ignored", 0),
    ("rest-forgotten", 0),
    ("row-left", 0),
    ("tombstone-behind-the-data", 0),
    ("two-at-once", 1),
    ("window-forgotten", 1),
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn again(seed: u64) -> String {
    format!("`tests/simulate {seed}` does it again")
}

fn is_well(seed: u64, told: &Told) {
    if let Some(wrong) = &told.wrong {
        panic!("seed {seed}: {wrong}\n{}", again(seed));
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "figures for whoever asks")]
fn what_is_shipped_keeps_its_promises_through_crashes_and_faults() {
    let first = number("DRCTL_SIMULATION_SEED").unwrap_or(SEEDS.start);
    let count = number("DRCTL_SIMULATION_SEEDS").unwrap_or(SEEDS.end - SEEDS.start);
    let most = number("DRCTL_SIMULATION_EFFECTS").unwrap_or(u64::MAX);
    let began = Instant::now();
    let (mut effects, mut runs, mut seeds) = (0, 0, 0);
    for seed in first..first + count {
        let told = life(seed, LENGTH, None);
        is_well(seed, &told);
        (effects, runs, seeds) = (effects + told.effects, runs + told.runs, seeds + 1);
        if effects >= most {
            break;
        }
    }
    let took = began.elapsed();
    let a_second = u128::from(effects) * 1_000 / took.as_millis().max(1);
    println!("{seeds} seeds, {runs} runs, {effects} effects in {took:.1?}: {a_second} a second");
    assert!(count < SEEDS.end || effects > 10_000, "{effects} effects are few");
}

/// A host that died between a manifest and its record, and lost its catalog: the job never ended. And a person who
/// pinned a backup while it was about to be removed, which ends that removal.
#[test]
fn seeds_that_found_a_fault_in_a_longer_run_are_well() {
    for seed in [279, 608] {
        is_well(seed, &life(seed, LENGTH, None));
    }
}

/// Which seed finds a planted fault: one of the suite, the likeliest first.
#[expect(clippy::print_stdout, reason = "what finds what, for whoever asks")]
fn finds(fault: &'static str, likely: u64) -> Result<(), String> {
    for seed in [likely].into_iter().chain(PLANTED_SEEDS.filter(|seed| *seed != likely)) {
        if let Some(wrong) = life(seed, LENGTH, Some(fault)).wrong {
            let line = wrong.lines().next().unwrap_or_default();
            println!("{fault}, by seed {seed}: {line}");
            return Ok(());
        }
    }
    Err(format!("no seed finds {fault}"))
}

#[test]
fn every_planted_fault_is_found_by_a_seed_of_the_suite() {
    let names: Vec<&str> = FOUND_BY.iter().map(|(fault, _)| *fault).collect();
    assert_eq!(names, PLANTED);
    let half = |which: usize| {
        let some = FOUND_BY.iter().skip(which).step_by(2);
        some.filter_map(|(fault, seed)| finds(fault, *seed).err()).collect::<Vec<String>>()
    };
    let missed = std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        [half(0), other.join().expect("it ends")].concat()
    });
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn a_seed_does_the_same_again() {
    let length = Length { days: 5 };
    let seed = number("DRCTL_SIMULATION_SEED").unwrap_or(3);
    let (once, twice) = (life(seed, length, None), life(seed, length, None));
    assert_eq!((once.effects, once.runs, once.hash), (twice.effects, twice.runs, twice.hash));
}

#[test]
fn a_catalog_whose_filling_died_has_no_run_begin_twice() {
    for at in (1..46).step_by(2) {
        assert_eq!(dies_without_a_catalog(10, at), None, "{at}");
    }
}

#[test]
fn what_was_missed_is_made_up_for_without_a_catalog() {
    for seed in [2, 7, 9] {
        let away = SignedDuration::from_hours(40);
        assert_eq!(is_away_without_a_catalog(seed, away), None, "{seed}");
    }
}
