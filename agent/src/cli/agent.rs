//! `drctl agent`, and the verbs that speak with it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Error, Result};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::args::{AgentVerb, JobArgs, SomeJobs};
use super::screen::{Screen, line, table};
use super::{source_id, told};
use crate::daemon::control::{Any, Request, Which, ask};
use crate::daemon::run as run_agent;
use crate::helper;
use crate::host::{AgentError, Exit, Setup, Stop, private};

/// `drctl agent`.
pub(super) async fn agent(setup: Setup, stop: &Stop) -> Result<Exit> {
    told::of_host(setup.host());
    let (reload, reloads) = mpsc::channel(1);
    let mut hangups = signal(SignalKind::hangup()).context("listen for signals")?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            // One that is not taken yet stands for this one too.
            let _ = reload.try_send(());
        }
    });
    run_agent(setup, stop, reloads).await?;
    Ok(Exit::Success)
}

/// `drctl job-helper`.
pub(super) async fn help(allowed: &Path, stop: &Stop) -> Result<Exit> {
    helper::run(allowed, stop).await?;
    Ok(Exit::Success)
}

/// Asks the agent, and shows how its jobs stand then.
pub(super) async fn ask_agent(
    screen: Screen,
    setup: impl FnOnce() -> Result<Setup>,
    verb: &AgentVerb,
) -> Result<Exit> {
    let request = match verb {
        AgentVerb::Jobs(_) => Request::Jobs,
        AgentVerb::Run(args) => Request::Run(which(args)?),
        AgentVerb::Pause(args) => Request::Pause(some(args)?),
        AgentVerb::Resume(args) => Request::Resume(some(args)?),
        AgentVerb::Cancel(args) => Request::Cancel(which(args)?),
        AgentVerb::Reload(_) => Request::Reload,
    };
    // Whoever names the socket needs no configuration: one that is wrong is what he may ask about.
    let object = match verb.socket() {
        Some(socket) => ask(socket, owner(socket), &request).await?,
        None => {
            let setup = setup()?;
            let asked = ask_of(&setup, &request).await;
            asked.map_err(|refused| unknown(&setup, verb, refused))?
        }
    };
    let degraded = !object["refused_configuration"].is_null();
    screen.answer("drctl.jobs/1", object.clone(), || text(&object));
    Ok(if degraded { Exit::Degraded } else { Exit::Success })
}

/// That there is no such source, where a job of one was refused that the configuration does not have.
fn unknown(setup: &Setup, verb: &AgentVerb, refused: Error) -> Error {
    let named = match verb {
        AgentVerb::Run(JobArgs { source, .. }) | AgentVerb::Cancel(JobArgs { source, .. }) => {
            Some(source)
        }
        AgentVerb::Pause(SomeJobs { source, .. }) | AgentVerb::Resume(SomeJobs { source, .. }) => {
            source.as_ref()
        }
        AgentVerb::Jobs(_) | AgentVerb::Reload(_) => None,
    };
    let is_refused = matches!(refused.downcast_ref(), Some(AgentError::AgentRefused(_)));
    match named.filter(|_| is_refused).map(|name| setup.source(name)) {
        Some(Err(unknown)) => unknown,
        _ => refused,
    }
}

/// Whose the directory of a socket is: nobody else answers for it there, root and its group may ask.
pub(super) fn owner(socket: &Path) -> Option<u32> {
    Some(fs::metadata(socket.parent()?).ok()?.uid())
}

/// Asks the agent of a configuration.
///
/// # Errors
/// As [`ask`].
pub(super) async fn ask_of(setup: &Setup, request: &Request) -> Result<Value> {
    ask(&setup.agent_socket(), Some(private::author(&setup.path)), request).await
}

fn which(args: &JobArgs) -> Result<Which> {
    Ok(Which { source: source_id(&args.source)?, kind: args.kind.into() })
}

fn some(args: &SomeJobs) -> Result<Any> {
    let source = args.source.as_deref().map(source_id).transpose()?;
    Ok(Any { source, kind: args.kind.map(Into::into) })
}

fn text(object: &Value) -> String {
    let head = ["SOURCE", "JOB", "STATE", "NEXT", "LAST", "LAST ENDED"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(jobs(object).map(|job| {
        let of = |value: &Value| word(value).unwrap_or_else(|| "-".to_owned());
        let (last, next) = (&job["last"], &job["next"]);
        vec![
            of(&job["source"]),
            of(&job["kind"]),
            of(&job["state"]),
            of(next),
            of(&last["outcome"]),
            of(&last["ended"]),
        ]
    }));
    let mut text = table(&rows);
    for note in agent_notes(object) {
        text.push('\n');
        text.push_str(&note);
    }
    text
}

fn jobs(object: &Value) -> impl Iterator<Item = &Value> {
    object["jobs"].as_array().into_iter().flatten()
}

fn word(value: &Value) -> Option<String> {
    value.as_str().map(line)
}

/// What is to be said of the agent beside its table: what runs, waits, was missed, and what it did not take.
pub(super) fn agent_notes(object: &Value) -> Vec<String> {
    let mut notes = Vec::new();
    for job in jobs(object) {
        let of = |name: &str| word(&job[name]).unwrap_or_default();
        let whose = format!("{}: {}", of("source"), of("kind"));
        if job["state"] == "running" {
            notes.push(format!("{whose} runs since {}", of("since")));
        }
        notes.extend(word(&job["waits_for"]).map(|what| format!("{whose} waits for {what}")));
        notes.extend(word(&job["missed"]["text"]).map(|missed| format!("{whose} {missed}")));
    }
    notes.extend(word(&object["refused_configuration"]).map(|why| {
        format!(
            "the agent was told to read the configuration again, rejected it, and goes on with the one before. \
             Correct it, then `drctl reload`: {why}"
        )
    }));
    notes.extend(word(&object["beat_failed"]).map(|why| {
        format!(
            "the beat of this host cannot be written, so that `drctl watch` elsewhere says that the host is \
             late: {why}; `drctl doctor` tries the bucket"
        )
    }));
    notes
}
