//! Beats: signed objects in the bucket by which whoever watches it knows that the agent lives, and how
//! its jobs stand.

use std::time::Duration;

use drctl_model::{BeatAmiss, BeatFindings, BeatJob, BeatOutcome, BeatRun, BeatState, MAX_CODES};
use drctl_policies::scheduler::{Outcome, Row, State};
use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep_until, timeout};

use super::look::Look;
use super::telling::in_a_line;
use super::threads::spawn;
use super::{Agent, Told};
use crate::health::{Health, SourceStatus};
use crate::host::{Failure, Setup};
use crate::repository::beat::{Draft, Sent, Written, write_beat};

/// How soon one that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// How long the first one waits for the first look: an agent that dies of each look soon
/// beats never.
const FIRST: Duration = Duration::from_secs(120);

/// How long one may take: a bucket that answers slowly for hours must not keep the next ones back.
const LONGEST: Duration = Duration::from_secs(300);

/// What became of a beat.
pub(super) struct Beaten {
    /// When it was begun.
    begun: Instant,
    /// What was written; why nothing was.
    pub(super) done: Result<Written, String>,
    sent: Sent,
}

/// Writes beats, one after the other.
pub(super) struct Beats {
    /// How often; zero: never.
    every: Duration,
    next: Instant,
    under_way: bool,
    sent: Sent,
    /// When the last one was written.
    pub(super) last: Option<Timestamp>,
    /// Why the one after it was not.
    pub(super) failed: Option<String>,
    /// What the last look found amiss.
    found: Option<BeatFindings>,
    /// Until when the first one waits for a look; nothing behind that.
    waits: Option<Instant>,
}

impl Beats {
    /// The first one is due behind the first look, or two minutes later.
    pub(super) fn new(setup: &Setup) -> Self {
        let every = setup.config.agent.beat;
        Beats {
            every,
            next: Instant::now(),
            under_way: false,
            sent: Sent::default(),
            last: None,
            failed: None,
            found: None,
            waits: Some(Instant::now() + FIRST),
        }
    }

    /// The configuration was read again: there may be other jobs.
    pub(super) fn reloaded(&mut self, setup: &Setup) {
        (self.every, self.next) = (setup.config.agent.beat, Instant::now());
        self.failed = self.failed.take().filter(|_| !self.every.is_zero());
    }

    /// It is known anew where the sources stand.
    pub(super) fn looked(&mut self, look: &Look) {
        if let Ok(sources) = &look.sources {
            self.waits = None;
            if self.found.is_none() {
                // One that was written before it says nothing of the sources.
                self.next = Instant::now();
            }
            let host = look.host.unanswered.first().map(|one| one.amiss().code);
            let sources = sources.iter().filter_map(amiss).collect();
            let host = host.into_iter().collect();
            self.found = Some(BeatFindings { looked: look.at, host, sources });
        }
    }

    /// Waits until one is due; for ever while one is under way, and where there are none.
    pub(super) async fn due(&self) {
        match self.under_way || self.every.is_zero() {
            true => std::future::pending().await,
            false => sleep_until(self.waits.map_or(self.next, |waits| waits.max(self.next))).await,
        }
    }

    /// Writes one, on a thread of its own; `tell` hears what became of it.
    pub(super) fn begin(
        &mut self,
        setup: &Setup,
        (jobs, started): (Vec<BeatJob>, Timestamp),
        tell: UnboundedSender<Told>,
    ) {
        let begun = Instant::now();
        self.next = begun + self.every;
        let draft = Draft { jobs, findings: self.found.clone(), started, every: self.every };
        let (setup, mut sent) = (setup.clone(), self.sent.clone());
        let work = async move || {
            let done = match timeout(LONGEST, write_beat(&setup, &draft, &mut sent)).await {
                Ok(done) => done.map_err(|error| Failure::of(&error).messages.join(": ")),
                Err(_) => Err("the bucket did not take it within five minutes".to_owned()),
            };
            Ok((done, sent))
        };
        // What is remembered is only lost where drctl is at fault; the bucket has it, too.
        let ended = move |found: anyhow::Result<_>| {
            let (done, sent) = found.unwrap_or_else(|error| {
                (Err(Failure::of(&error).messages.join(": ")), Sent::default())
            });
            let _ = tell.send(Told::Beaten(Beaten { begun, done, sent }));
        };
        match spawn("beat".to_owned(), work, ended) {
            Ok(()) => self.under_way = true,
            Err(error) => tracing::error!("no beat can be written: {error}"),
        }
    }

    /// It came to its end.
    pub(super) fn ended(&mut self, beaten: &Beaten) {
        self.under_way = false;
        self.sent = beaten.sent.clone();
        match &beaten.done {
            Ok(written) => {
                (self.last, self.failed) = (Some(written.at), None);
                if written.next > self.every {
                    self.next = self.next.max(beaten.begun + written.next);
                }
            }
            Err(why) => {
                self.next = self.next.min(Instant::now() + AGAIN);
                tracing::warn!("the beat of this host was not written: {why}");
                self.failed = Some(in_a_line(why));
            }
        }
    }
}

/// How all jobs stand, for a beat.
pub(super) fn jobs(agent: &Agent) -> Vec<BeatJob> {
    let rows = agent.scheduler.rows(agent.setup.clock.now());
    let since = |row: &Row| agent.running.get(&row.key).map(|running| running.since);
    rows.iter().map(|row| job(row, since(row))).collect()
}

/// What is amiss with a source, as `drctl status` judges it.
fn amiss(status: &SourceStatus) -> Option<BeatAmiss> {
    let findings = status.findings();
    let of = |health| findings.iter().filter(move |one| one.health == health);
    let (breached, attention) = (of(Health::Breached), of(Health::Attention));
    let mut codes: Vec<String> = Vec::new();
    for one in breached.clone().chain(attention.clone()) {
        let code = one.code.as_str();
        if codes.len() < MAX_CODES && codes.iter().all(|known| known != code) {
            codes.push(code.to_owned());
        }
    }
    let (breached, attention) = (breached.count() as u64, attention.count() as u64);
    let source = status.source.clone();
    (!codes.is_empty()).then_some(BeatAmiss { source, breached, attention, codes })
}

fn job(row: &Row, since: Option<Timestamp>) -> BeatJob {
    BeatJob {
        source: row.key.source.clone(),
        kind: row.key.kind.as_str().to_owned(),
        state: match row.state {
            State::Idle => BeatState::Idle,
            State::Due
            | State::WaitsForWindow
            | State::WaitsForBlackout
            | State::WaitsForJob(_)
            | State::WaitsForPlace
            | State::RetryAt(_) => BeatState::Due,
            State::Running => BeatState::Running,
            State::Paused => BeatState::Paused,
        },
        since,
        due: row.due,
        next: row.next,
        last: row.last.map(|(ended, outcome)| BeatRun { ended, outcome: told(outcome) }),
    }
}

fn told(outcome: Outcome) -> BeatOutcome {
    match outcome {
        Outcome::Succeeded => BeatOutcome::Succeeded,
        Outcome::Failed => BeatOutcome::Failed,
        Outcome::Stopped => BeatOutcome::Stopped,
        Outcome::Died => BeatOutcome::Died,
    }
}
