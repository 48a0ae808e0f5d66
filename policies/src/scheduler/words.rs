use std::collections::BTreeMap;
use std::time::Duration;

use drctl_model::{JobKind, SourceId};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::schedule::Schedule;
use crate::window::{Blackout, Window};

/// A job of a source: of each kind there is one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct JobKey {
    /// The source that it works for.
    pub source: SourceId,
    /// What it does.
    pub kind: JobKind,
}

/// When a job runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one for each job")]
pub enum Rhythm {
    /// At the times of a schedule.
    At(Schedule),
    /// All the time: a stream.
    Always,
}

/// What is configured of a job. A kind has the same rhythm for as long as the scheduler lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// When it runs.
    pub rhythm: Rhythm,
    /// In which part of the day a run may begin; `None`: at any time.
    pub window: Option<Window>,
    /// On which dates none begins.
    pub blackout: Vec<Blackout>,
    /// The zone of window and blackout.
    pub zone: TimeZone,
    /// By how much a run begins later than it is due: this host's part, see
    /// [`part_of_jitter`](super::part_of_jitter).
    pub jitter: Duration,
    /// How often a run that fails is tried.
    pub attempts: u32,
    /// What is promised of the source. Of a backup that has it, a breach opens the window.
    pub rpo: Option<Duration>,
}

/// A run that is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastRun {
    /// When it began, by the clock of that time.
    pub begun: Timestamp,
    /// When it ended, and how; `None`: it runs, or nobody knows, which counts as [`Outcome::Died`].
    pub ended: Option<(Timestamp, Outcome)>,
    /// Whether another process does it still: what comes of it is not known, and no failure.
    pub runs: bool,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It came to its end.
    Succeeded,
    /// It failed.
    Failed,
    /// It was stopped on purpose.
    Stopped,
    /// Its process was killed.
    Died,
}

/// What the scheduler is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// A run that it had started ended.
    Ended {
        /// Of which job.
        key: JobKey,
        /// How.
        outcome: Outcome,
    },
    /// The promise for a source is broken, or is kept again.
    RpoBreached {
        /// The source.
        source: SourceId,
        /// Whether it is broken.
        breached: bool,
    },
    /// A person wants a run at once: window, blackout and a pause do not hold it, a running job of
    /// the source and `at_once` do. Nothing happens where it runs already.
    Run {
        /// Of which job.
        key: JobKey,
    },
    /// A person pauses a job, or all (`None`). What runs goes on, but for a stream. A run that
    /// comes due in a pause is missed.
    Pause {
        /// Which job.
        of: Option<JobKey>,
    },
    /// The end of a pause.
    Resume {
        /// Of which job.
        of: Option<JobKey>,
    },
    /// A person stops a run, or forgoes one that waits. It is not made up for. A stream is begun
    /// again: pause it to have none.
    Cancel {
        /// Of which job.
        key: JobKey,
    },
    /// The configuration was read again. What runs goes on, but for a stream that is not in it any
    /// more. For a schedule that is new only what comes due from now on counts.
    Reload {
        /// All jobs there are now.
        specs: BTreeMap<JobKey, JobSpec>,
        /// How many run at once.
        at_once: usize,
    },
    /// The agent ends: nothing begins any more, and what is stopped now is made up for later.
    Stopping,
}

/// What is to be done, or told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A run is to begin.
    Start {
        /// Of which job.
        key: JobKey,
        /// The newest due time that this run is for; `None`: none was due, or a stream.
        due: Option<Timestamp>,
        /// Why it begins.
        why: Why,
    },
    /// A run is to be stopped; it is told as ended as any other.
    Cancel {
        /// Of which job.
        key: JobKey,
    },
    /// Runs could not begin when they were due. Told once of each by one scheduler.
    Missed {
        /// Of which job.
        key: JobKey,
        /// Which.
        missed: Missed,
    },
    /// All attempts of a run failed, or the next run came due before all were made.
    GaveUp {
        /// Of which job.
        key: JobKey,
        /// How many failed.
        attempts: u32,
    },
    /// A stream has failed for five minutes. Told once, until it is back.
    StreamDown {
        /// Which.
        key: JobKey,
        /// Since when.
        since: Timestamp,
    },
    /// A stream of which that was told has run for ten minutes.
    StreamBack {
        /// Which.
        key: JobKey,
    },
}

/// Why a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It is due.
    Scheduled,
    /// It makes up for runs that were missed, or for one that the agent's end has stopped.
    CatchUp,
    /// So many attempts have failed.
    Retry(u32),
    /// A person wants it.
    ByHand,
    /// A stream runs always.
    Stream,
}

/// Runs that did not begin when they were due. One run makes up for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Missed {
    /// When the first was due.
    pub first: Timestamp,
    /// When the last was due.
    pub last: Timestamp,
    /// How many; counting ends at 1 000.
    pub count: u64,
    /// Why.
    pub why: WhyMissed,
}

/// Why a run was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyMissed {
    /// The agent was not there: stopped, asleep with the host, or the clock went past it.
    AgentAway,
    /// The job was paused.
    Paused,
    /// It still waited for something, such as its window or another job, when the next run came due.
    Waited,
}

/// How a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Which job.
    pub key: JobKey,
    /// What it does or waits for.
    pub state: State,
    /// When the next run begins at the earliest, as far as is known.
    pub next: Option<Timestamp>,
    /// Since when a run is owed; of a stream, since when it has failed.
    pub due: Option<Timestamp>,
    /// When the last run ended, and how.
    pub last: Option<(Timestamp, Outcome)>,
    /// What was missed since the last run that came to its end.
    pub missed: Option<Missed>,
}

/// What a job does or waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing is due.
    Idle,
    /// A run is due, and nothing is in its way: it begins with the next event.
    Due,
    /// For its window.
    WaitsForWindow,
    /// For the end of a blackout.
    WaitsForBlackout,
    /// For another job of the source.
    WaitsForJob(JobKind),
    /// For one of the jobs that run at once to end; a verify or a report: for that of another source.
    WaitsForPlace,
    /// A run has failed and is tried again then.
    RetryAt(Timestamp),
    /// It runs.
    Running,
    /// It is paused.
    Paused,
}
