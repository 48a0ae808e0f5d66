use std::fmt::Write as _;

use anyhow::Result;
use drctl_model::{BackupId, JobKind, SourceId};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::agent::{agent_notes, ask_of};
use super::audit::{standing_json, standing_text};
use super::discover::name;
use super::lost::lost_json;
use super::progress::Progress;
use super::screen::{Screen, alarms_json, line, table};
use super::state::known_catalog;
use crate::audit::standing;
use crate::daemon::control::Request;
use crate::daemon::is_running;
use crate::health::{Bad, Health, Judged, LogStatus, SourceStatus, discover, status as look};
use crate::host::figures::span;
use crate::host::{Exit, Failure, Meter, Setup};
use crate::jobs::LastJob;
use crate::notify::{Unanswered, unanswered};

/// `drctl status`.
pub(super) async fn status(screen: Screen, setup: &Setup, strict: bool) -> Result<Exit> {
    let meter = Meter::default();
    meter.label("looking at the bucket");
    let progress = screen.is_terminal().then(|| Progress::show(screen, &meter));
    let catalog = known_catalog(setup).await?;
    let all = look(setup, &catalog).await?;
    let silent = unanswered(setup, &catalog).await;
    drop(progress);
    let judged: Vec<(&SourceStatus, Vec<Judged>)> =
        all.iter().map(|one| (one, one.findings())).collect();
    let (agent, silent_agent) = agent(setup).await;
    let unprotected = unprotected(setup).await;
    let streams = streams(setup, &judged);
    let in_vain = waits_in_vain(setup, (&judged, streams), agent.as_ref());
    let logged = standing(setup);
    let object = json!({
        "audit": standing_json(&logged), "agent": agent, "agent_missing": in_vain.is_some(),
        "agent_silent": silent_agent.is_some(),
        "sources": judged.iter().map(entry).collect::<Vec<_>>(),
        "unprotected": unprotected, "notifications": silent.iter().map(silent_json).collect::<Vec<_>>(),
    });
    screen.answer("drctl.status/1", object, || {
        let mut text = text(&judged, agent.as_ref(), &unprotected);
        if let Some(why) = in_vain {
            let _ = write!(text, "\n{why}");
        }
        if let Some(why) = &silent_agent {
            let _ = write!(text, "\n{}", line(why));
        }
        for one in &silent {
            let _ = write!(text, "\n{}", line(&one.text()));
        }
        if let Some(said) = standing_text(&logged) {
            let _ = write!(text, "\n{said}");
        }
        text
    });
    // A schedule is told as overdue; of WAL that nobody streams nothing else tells while commits wait.
    let waits = in_vain.is_some() && streams;
    let is_amiss =
        waits || silent_agent.is_some() || !silent.is_empty() || logged.problem.is_some();
    let of_host = (is_amiss || complains(agent.as_ref())).then_some(Health::Attention);
    let of_sources = judged.iter().map(|(_, findings)| Health::of(findings));
    let worst = of_sources.chain(of_host).max();
    Ok(match worst {
        Some(Health::Breached) if strict => Exit::Objective,
        Some(Health::Attention) if strict => Exit::Degraded,
        _ => Exit::Success,
    })
}

/// What is told of one source.
fn entry((one, findings): &(&SourceStatus, Vec<Judged>)) -> Value {
    let finding = |one: &Judged| {
        json!({
            "health": one.health.as_str(), "text": one.text, "code": one.code.as_str(),
            "severity": one.code.level().as_str(), "subject": one.subject, "since": one.since,
        })
    };
    json!({
        "source": one.source, "health": Health::of(findings).as_str(),
        "advice": findings.first().map_or("", |worst| &worst.text),
        "findings": findings.iter().map(finding).collect::<Vec<_>>(),
        "newest_good": one.newest_good,
        "age_seconds": one.age.map(|age| age.as_secs()),
        "rpo_seconds": one.rpo.map(|rpo| rpo.as_secs()),
        "last_job": one.last_job, "jobs": jobs_json(&one.jobs), "next": one.next,
        "log": one.log.as_ref().map(|log| log_json(log, (&one.disbelieved, &one.newer))),
        "refused": uncounted(&one.refused), "newer": uncounted(&one.newer_backups),
        "lost": one.lost, "unreadable": one.unreadable, "overdue": one.overdue,
        "running": one.running, "marker_lost": one.marker_lost,
        "marker_newer": one.marker_newer, "bad": texts(&one.bad), "gone": one.gone,
        "alarms": alarms_json(&one.alarms),
        "blocked": one.kept.all().collect::<Vec<_>>(),
        "proven": one.drill.passed.as_ref().map(|passed| json!({
            "drill": passed.drill, "at": passed.at, "backup": passed.backup,
            "restore_ms": passed.restore_ms,
        })),
        "unattended": one.kept.unattended.as_ref().map(|reason| &reason.text), "vanished": lost_json(&one.vanished), "refusals": lost_json(&one.refusals),
    })
}

/// Whether the agent says of itself that something is amiss.
fn complains(agent: Option<&Value>) -> bool {
    let says = |field: &str| agent.is_some_and(|agent| agent[field].is_string());
    says("beat_failed") || says("refused_configuration")
}

/// A channel by which nobody seems to be reached.
fn silent_json(one: &Unanswered) -> Value {
    json!({ "code": "alert_path", "channel": one.channel, "sent": one.sent, "text": one.text() })
}

/// What people read.
fn text(
    judged: &[(&SourceStatus, Vec<Judged>)],
    agent: Option<&Value>,
    unprotected: &[String],
) -> String {
    let head = ["SOURCE", "HEALTH", "NEWEST GOOD", "AGE", "WAL AGE", "RPO", "NEXT DUE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (one, findings) in judged {
        rows.push(vec![
            one.source.to_string(),
            Health::of(findings).as_str().to_owned(),
            one.newest_good.as_ref().map_or("none".into(), |good| good.backup.to_string()),
            one.age.map_or("-".into(), |age| span(age.as_secs_f64())),
            log_age(one),
            one.rpo.map_or("-".into(), |rpo| span(rpo.as_secs_f64())),
            next_due(one.next, agent, &one.source),
        ]);
    }
    let mut text = table(&rows);
    if let Some(first) = unprotected.first() {
        let _ = write!(
            text,
            "\nnot backed up on this host: {} database server(s), such as {}; `drctl discover` \
             shows them",
            unprotected.len(),
            first
        );
    }
    for line in agent.map(agent_notes).unwrap_or_default() {
        let _ = write!(text, "\n{line}");
    }
    for (one, findings) in judged {
        for gone in &one.gone {
            let _ = write!(text, "\n{}: note: {}", one.source, line(&gone.text()));
        }
        for finding in findings {
            let _ = write!(text, "\n{}: {}", one.source, line(&finding.text));
        }
        if let Some(passed) = &one.drill.passed {
            let _ = write!(text, "\n{}: proven by a drill at {:.0}", one.source, passed.at);
        }
        for why in one.keeps() {
            let _ = write!(text, "\n{}: nothing of it is removed: {}", one.source, line(why));
        }
    }
    text
}

/// When the next backup of a source is due, as far as anybody may begin it.
fn next_due(next: Option<Timestamp>, agent: Option<&Value>, source: &SourceId) -> String {
    let mut jobs = agent.and_then(|agent| agent["jobs"].as_array()).into_iter().flatten();
    let of_it = |job: &&Value| job["source"] == source.as_str() && job["kind"] == "backup";
    match (next, jobs.find(of_it)) {
        (Some(_), Some(job)) if job["state"] == "paused" => "paused".to_owned(),
        (Some(next), _) => next.to_string(),
        (None, _) => "by hand".to_owned(),
    }
}

/// What is said where a policy has a schedule, or the agent is to stream WAL, and no agent runs that would.
fn waits_in_vain(
    setup: &Setup,
    (judged, streams): (&[(&SourceStatus, Vec<Judged>)], bool),
    agent: Option<&Value>,
) -> Option<&'static str> {
    let scheduled = judged.iter().any(|(one, _)| one.next.is_some());
    let what = match (scheduled, streams) {
        (false, false) => return None,
        (false, true) => "no agent runs on this host: no WAL is streamed (systemctl status drctl)",
        (true, false) => {
            "no agent runs on this host: scheduled backups are not taken (systemctl status drctl)"
        }
        (true, true) => {
            "no agent runs on this host: neither are scheduled backups taken nor is WAL streamed (systemctl \
             status drctl)"
        }
    };
    (agent.is_none() && is_running(setup) == Some(false)).then_some(what)
}

/// Whether the agent is to stream the WAL of a source, and no command does.
fn streams(setup: &Setup, judged: &[(&SourceStatus, Vec<Judged>)]) -> bool {
    let is_streamed =
        |last: &LastJob| last.job.kind == JobKind::LogStream && last.running == Some(true);
    judged.iter().any(|(one, _)| {
        let source = setup.config.sources.get(&one.source).filter(|source| source.enabled);
        let log = source.and_then(|source| source.engine.log());
        log.is_some_and(|log| log.way.is_stream()) && !one.jobs.iter().any(is_streamed)
    })
}

/// The servers of this host that no source backs up.
async fn unprotected(setup: &Setup) -> Vec<String> {
    let found = discover(Some(setup)).await;
    found.servers.iter().filter(|one| one.is_unprotected()).map(name).collect()
}

/// How the jobs of this host's agent stand; nothing where none runs, or we are none whom it answers. And why
/// not where it answers nobody.
async fn agent(setup: &Setup) -> (Option<Value>, Option<String>) {
    if is_running(setup) != Some(true) {
        return (None, None);
    }
    match ask_of(setup, &Request::Jobs).await {
        Ok(answer) => (Some(answer), None),
        Err(error) if Failure::of(&error).code == "agent_silent" => {
            let Failure { messages, hint, .. } = Failure::of(&error);
            let hint = hint.unwrap_or_default();
            (None, Some(format!("{}, and may do nothing at all: {hint}", messages.join(": "))))
        }
        Err(error) => {
            tracing::debug!("the agent is not asked: {error:#}");
            (None, None)
        }
    }
}

/// The last job of each kind but backups.
fn jobs_json(jobs: &[LastJob]) -> Vec<serde_json::Value> {
    let entry = |last: &LastJob| {
        let mut job = json!(last.job);
        job["running"] = json!(last.running);
        job
    };
    jobs.iter().map(entry).collect()
}

fn uncounted(all: &[(BackupId, String)]) -> serde_json::Value {
    all.iter().map(|(backup, why)| json!({ "backup": backup, "why": why })).collect()
}

fn texts(bad: &[Bad]) -> Vec<&str> {
    bad.iter().map(|one| one.text.as_str()).collect()
}

fn log_json(
    log: &Result<LogStatus, String>,
    (refused, newer): (&[String], &[String]),
) -> serde_json::Value {
    let known = log.as_ref().ok();
    let recoverable_until = known.map(|log| &log.recoverable_until);
    json!({
        "timeline": recoverable_until.map(|at| at.timeline),
        "end": recoverable_until.map(|at| at.end),
        "last_commit": recoverable_until.map(|at| at.shows),
        "age_seconds": known.map(|log| log.age.as_secs()),
        "gaps": recoverable_until.map(|at| &at.gaps),
        "doubts": recoverable_until.map(|at| at.doubts.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "refused": refused, "newer": newer, "unknown": log.as_ref().err(),
    })
}

/// The age of the last moment that the log leads to.
fn log_age(one: &SourceStatus) -> String {
    match &one.log {
        None => "-".to_owned(),
        Some(Ok(log)) => span(log.age.as_secs_f64()),
        Some(Err(_)) => "unknown".to_owned(),
    }
}
