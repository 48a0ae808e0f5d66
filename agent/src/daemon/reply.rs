//! What the agent says: to whoever asks at its socket, and in its log.

use drctl_model::JobKind;
use drctl_policies::scheduler::{Action, Missed, Row, State, Why, WhyMissed};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Agent;

/// How all jobs stand: what `drctl jobs` shows.
pub(super) fn state(agent: &Agent) -> Value {
    let now = agent.setup.clock.now();
    let rows = agent.scheduler.rows(now);
    let job = |row: &Row| {
        let running = agent.running.get(&row.key);
        let last = row.last.map(|(ended, outcome)| json!({ "ended": ended, "outcome": outcome }));
        json!({
            "source": row.key.source, "kind": row.key.kind, "state": word(&row.state),
            "since": running.map(|running| running.since), "waits_for": waits_for(row.key.kind, &row.state).or_else(|| gives_way(agent, row)),
            "bytes": running.map(|running| running.meter.read().plain),
            "next": row.next, "last": last, "missed": row.missed.as_ref().map(missed_json),
        })
    };
    json!({
        "host": agent.setup.host(), "version": env!("CARGO_PKG_VERSION"), "since": agent.since,
        "pid": std::process::id(), "jobs": rows.iter().map(job).collect::<Vec<_>>(),
        "looked": agent.looks.last, "beaten": agent.beats.last,
        "beat_failed": agent.beats.failed,
        "refused_configuration": agent.refused,
    })
}

/// The same in one line, for the service manager.
pub(super) fn line(agent: &Agent) -> String {
    let rows = agent.scheduler.rows(agent.setup.clock.now());
    let next = rows.iter().filter(|row| row.state != State::Running);
    let next = next.filter_map(|row| Some((row.next?, &row.key))).min();
    let next =
        next.map(|(at, key)| format!("; next: {} of {} at {at:.0}", key.kind.words(), key.source));
    format!("{} of {} jobs run{}", agent.running.len(), rows.len(), next.unwrap_or_default())
}

/// What a job does.
fn word(state: &State) -> &'static str {
    match state {
        State::Idle => "idle",
        State::Due
        | State::WaitsForWindow
        | State::WaitsForBlackout
        | State::WaitsForJob(_)
        | State::WaitsForPlace
        | State::RetryAt(_) => "due",
        State::Running => "running",
        State::Paused => "paused",
    }
}

/// Why a job that runs pauses.
fn gives_way(agent: &Agent, row: &Row) -> Option<String> {
    let gives_way = matches!(row.key.kind, JobKind::Backup | JobKind::Verify | JobKind::Drill);
    agent.throttle.pauses().filter(|_| gives_way && row.state == State::Running)
}

/// What a job that is due waits for.
fn waits_for(job: JobKind, state: &State) -> Option<String> {
    Some(match state {
        State::WaitsForWindow => "the window to open".to_owned(),
        State::WaitsForBlackout => "the blackout to end".to_owned(),
        State::WaitsForJob(kind) => format!("the {} of the source to end", kind.words()),
        State::WaitsForPlace
            if matches!(job, JobKind::Verify | JobKind::Report | JobKind::Drill) =>
        {
            format!("the {} of another source to end: one runs at a time", job.words())
        }
        State::WaitsForPlace => "another job to end: `jobs_at_once` of them run".to_owned(),
        State::RetryAt(at) => format!("the next attempt at {at:.0}: the last one failed"),
        State::Idle | State::Due | State::Running | State::Paused => return None,
    })
}

fn missed_json(missed: &Missed) -> Value {
    json!({
        "first": missed.first, "last": missed.last, "count": missed.count, "why": missed.why,
        "text": missed_text(missed),
    })
}

pub(super) fn missed_text(missed: &Missed) -> String {
    let why = match missed.why {
        WhyMissed::AgentAway => {
            "nothing could begin in time: no agent ran, the host slept, or its clock was set"
        }
        WhyMissed::Paused => "paused",
        WhyMissed::Waited => {
            "it still waited for its window, another job or a free place when the next run came due"
        }
    };
    let at = |time: Timestamp| format!("{time:.0}");
    match missed.count {
        1 => format!("missed the run of {}: {why}", at(missed.first)),
        many => {
            let many = if many >= 1000 { format!("{many} or more") } else { many.to_string() };
            format!("missed {many} runs from {} to {}: {why}", at(missed.first), at(missed.last))
        }
    }
}

/// Why a run begins.
pub(super) fn why(why: Why) -> String {
    match why {
        Why::Scheduled => "scheduled".to_owned(),
        Why::CatchUp => "makes up for what was missed".to_owned(),
        Why::Retry(attempts) => format!("again, after {attempts} failed attempt(s)"),
        Why::ByHand => "by hand".to_owned(),
        Why::Stream => "a stream runs always".to_owned(),
    }
}

/// Says in the log what is to be known and nothing to be done about.
pub(super) fn tell(action: &Action) {
    match action {
        Action::Start { .. } | Action::Cancel { .. } => {}
        Action::Missed { key, missed } => {
            let text = missed_text(missed);
            tracing::warn!(source = %key.source, job = key.kind.as_str(), "{text}");
        }
        Action::GaveUp { key, attempts } => tracing::error!(
            source = %key.source,
            job = key.kind.as_str(),
            attempts,
            "gave up after so many failed attempts; the next run begins as scheduled"
        ),
        Action::StreamDown { key, since } => tracing::error!(
            source = %key.source,
            since = %since,
            "the stream has been failing for five minutes: new WAL does not reach the bucket"
        ),
        Action::StreamBack { key } => {
            tracing::info!(source = %key.source, "the stream is back");
        }
    }
}
