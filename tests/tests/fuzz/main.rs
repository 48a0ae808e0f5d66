//! Fuzzing of everything that parses what comes from the bucket.
//!
//! Good documents are spoilt, at random but always the same way for one seed, for a few seconds
//! a target: `DRCTL_FUZZ_SECONDS` sets how many (it counts fractions), `DRCTL_FUZZ_SEED` the seed.
//! No input may panic, take long, or cost memory without bound, and none may pass for what it is
//! not. Every target names the outcomes that it has to reach, so that none runs idle.

mod documents;
mod mutate;
mod targets;

use std::collections::BTreeMap;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use mutate::{Random, mutate};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// One target at a time: the heap's peak is that of the whole program.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// How long any one input may take: thousands of times what it should.
const PATIENCE: Duration = Duration::from_secs(1);

/// What parsing may cost at most, besides what the target allows on its own: so many times the
/// input's length, and so many bytes.
const TIMES_INPUT: usize = 100;
const HEAP_SLACK: usize = 1 << 20;

/// How much of an input is shown when it fails.
const SHOWN: usize = 2_000;

fn seconds() -> Duration {
    let set = env::var("DRCTL_FUZZ_SECONDS").ok().filter(|text| !text.is_empty());
    let seconds = set.map_or(5.0, |text| text.parse().expect("DRCTL_FUZZ_SECONDS is a number"));
    Duration::from_secs_f64(seconds)
}

fn seed() -> u64 {
    let set = env::var("DRCTL_FUZZ_SEED").ok().filter(|text| !text.is_empty());
    set.map_or(2_026, |text| text.parse().expect("DRCTL_FUZZ_SEED is a number"))
}

/// A parser under test.
struct Target<'a> {
    /// Held from before its seeds were made.
    _alone: MutexGuard<'static, ()>,
    name: &'a str,
    /// What is spoilt.
    seeds: Vec<Vec<u8>>,
    /// What it may allocate whatever the input's length, in bytes.
    heap: usize,
    /// Outcomes that have to be reached.
    reach: &'a [&'a str],
}

impl Target<'_> {
    /// Spoils for a while; `run` holds the target's own properties and names the outcome.
    #[expect(clippy::print_stdout, reason = "what was reached")]
    fn fuzz(&self, mut run: impl FnMut(&[u8], &mut Random) -> String) {
        let (seed, end) = (seed(), Instant::now() + seconds());
        let mut outcomes = BTreeMap::<String, u64>::new();
        let mut turn = 0;
        // However short the time is, something is tried.
        while turn < 2_000 || Instant::now() < end {
            let mut random = Random::new(seed.wrapping_add(turn << 20));
            let input = mutate(&self.seeds, &mut random);
            let outcome = self.try_one(&input, turn, seed, || run(&input, &mut random));
            *outcomes.entry(outcome).or_default() += 1;
            turn += 1;
        }
        println!("{}: {turn} inputs from seed {seed}: {outcomes:#?}", self.name);
        for wanted in self.reach {
            let found = outcomes.keys().any(|outcome| outcome.starts_with(wanted));
            assert!(found, "{}: no input led to `{wanted}`: {outcomes:#?}", self.name);
        }
    }

    #[expect(clippy::print_stderr, reason = "the input that fails")]
    fn try_one(&self, input: &[u8], turn: u64, seed: u64, run: impl FnOnce() -> String) -> String {
        HEAP.reset_peak_usage();
        let (before, began) = (HEAP.current_usage(), Instant::now());
        let done = catch_unwind(AssertUnwindSafe(run));
        let took = began.elapsed();
        let cost = HEAP.peak_usage().saturating_sub(before);
        let show = || {
            let start = String::from_utf8_lossy(&input[..input.len().min(SHOWN)]);
            format!("{}, seed {seed}, turn {turn}, {} bytes: {start:?}", self.name, input.len())
        };
        let outcome = done.unwrap_or_else(|panic| {
            eprintln!("fails: {}", show());
            resume_unwind(panic)
        });
        assert!(took < PATIENCE, "{took:?}: {}", show());
        let bound = self.heap + HEAP_SLACK + TIMES_INPUT * input.len();
        assert!(cost <= bound, "{cost} bytes of heap: {}", show());
        outcome
    }
}
