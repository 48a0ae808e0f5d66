//! What monitoring is told: figures of the last look, of the jobs and of the agent itself, where
//! `[agent] metrics` says.

mod exposition;
mod figures;
mod host;
mod listen;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drctl_model::Clock;
use drctl_policies::scheduler::{JobKey, Outcome, Row};
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::look::Look;
use crate::host::Setup;
use crate::log::Held;

use self::figures::Seen;

/// For how long the agent's loop may not have turned: it does so every 15 seconds at least.
const ALIVE: Duration = Duration::from_secs(60);

/// What the agent's loop tells, and a scrape reads.
#[derive(Debug)]
struct Told {
    /// When the loop last turned.
    turned: Instant,
    started: Timestamp,
    rows: Vec<Row>,
    /// The log that servers hold because nobody has stored it yet, of each stream that runs.
    held: Vec<(JobKey, Held)>,
    refused: bool,
    /// When the last look was begun that found where the sources stand, and what it found.
    sources: Option<(Timestamp, Seen)>,
    /// Whether the last look failed, and whether it does not come to its end.
    look_failed: bool,
    look_hangs: bool,
    /// Why nothing is told at the address.
    failing: Option<String>,
    /// How often beats are written; zero: never.
    beat_every: Duration,
    /// When the last beat was written.
    beat: Option<Timestamp>,
    /// Whether the last one was not.
    beat_failed: bool,
    /// How many runs ended since the agent's start, and how.
    runs: BTreeMap<(JobKey, &'static str), u64>,
}

/// A scrape's side of it.
struct Reader {
    told: Arc<Mutex<Told>>,
    clock: Arc<dyn Clock>,
}

impl Reader {
    /// Why the agent does not work, if it does not: its loop stands still, or it sees nothing any more.
    fn amiss(&self) -> Option<&'static str> {
        let told = self.told();
        if told.turned.elapsed() >= ALIVE {
            return Some("the agent's loop stands still\n");
        }
        told.look_hangs.then_some("the agent's looks at the sources do not come to their end\n")
    }

    /// All metrics, as they are told.
    fn text(&self) -> String {
        exposition::text(&figures::metrics(&self.told(), self.clock.now()))
    }

    /// Whether it is told at the address; why not, where it is not.
    fn listens(&self, failing: Option<String>) {
        self.told().failing = failing;
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The agent's side of it.
pub(super) struct Metrics {
    told: Arc<Mutex<Told>>,
    /// Serves scrapes, where an address is configured; ends with us.
    serving: Option<JoinHandle<()>>,
}

impl Metrics {
    /// Begins to serve, where the configuration says so.
    pub(super) fn begin(setup: &Setup, started: Timestamp) -> Self {
        let told = Told {
            turned: Instant::now(),
            started,
            rows: Vec::new(),
            held: Vec::new(),
            refused: false,
            sources: None,
            look_failed: false,
            look_hangs: false,
            failing: None,
            beat_every: setup.config.agent.beat,
            beat: None,
            beat_failed: false,
            runs: BTreeMap::new(),
        };
        let told = Arc::new(Mutex::new(told));
        let mut metrics = Metrics { told, serving: None };
        metrics.serve(setup);
        metrics
    }

    /// Serves at the address that a configuration names.
    fn serve(&mut self, setup: &Setup) {
        if let Some(before) = self.serving.take() {
            before.abort();
        }
        self.told().failing = None;
        let Some(address) = setup.config.agent.metrics else { return };
        let reader = Reader { told: Arc::clone(&self.told), clock: Arc::clone(&setup.clock) };
        self.serving = Some(tokio::spawn(listen::serve(address, Arc::new(reader))));
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing is told at the address, where that is so.
    pub(super) fn failing(&self) -> Option<String> {
        self.told().failing.clone()
    }

    /// The loop turns: this is how the jobs stand.
    pub(super) fn turn(&self, rows: Vec<Row>, held: Vec<(JobKey, Held)>, refused: bool) {
        let mut told = self.told();
        (told.turned, told.rows, told.held, told.refused) = (Instant::now(), rows, held, refused);
    }

    /// A look came to its end.
    pub(super) fn looked(&self, look: &Look) {
        let mut told = self.told();
        (told.look_failed, told.look_hangs) = (look.sources.is_err(), look.hangs);
        if let Ok(sources) = &look.sources {
            told.sources = Some((look.at, figures::of_look(look.at, sources, &look.host)));
        }
    }

    /// The configuration was read again.
    pub(super) fn reloaded(&mut self, old: &Setup, new: &Setup) {
        let mut told = self.told();
        told.beat_every = new.config.agent.beat;
        if told.beat_every.is_zero() {
            (told.beat, told.beat_failed) = (None, false);
        }
        drop(told);
        if old.config.agent.metrics != new.config.agent.metrics {
            self.serve(new);
        }
    }

    /// A beat was written, then; or none was.
    pub(super) fn beaten(&self, at: Option<Timestamp>) {
        let mut told = self.told();
        (told.beat, told.beat_failed) = (at.or(told.beat), at.is_none());
    }

    /// A run came to its end.
    pub(super) fn ended(&self, key: &JobKey, outcome: Outcome) {
        *self.told().runs.entry((key.clone(), word(outcome))).or_default() += 1;
    }
}

/// How a run ended, as a label says it.
fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Stopped => "stopped",
        Outcome::Died => "died",
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }
}
