//! `wal push` by the running agent: before anything heavy is begun, and only if it says that it has stored
//! the file, or why nobody can store it. In every other case `wal push` does it itself.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use drctl_model::shown;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::agent::owner;
use super::args::{Verb, WalVerb};
use super::screen::Screen;
use super::{Cli, source_id};
use crate::daemon::control::{Wish, hand_over};
use crate::engine::wal::Parcel;
use crate::host::{AgentError, Exit, Failure, Setup, private};

/// Has the agent store a file; nothing where there is none that did.
pub(super) fn by_agent(cli: &Cli, screen: Screen) -> Option<Result<Exit>> {
    let Verb::Wal { verb: WalVerb::Push { source, path, socket } } = &cli.verb else {
        return None;
    };
    let id = source_id(source).ok()?;
    let (socket, author, configuration) = match socket {
        Some(socket) => (socket.clone(), owner(socket), None),
        None => {
            // What is wrong with it is told by whoever needs it.
            let setup = Setup::load(&cli.config).ok()?;
            let author = private::author(&setup.path);
            (setup.agent_socket(), Some(author), Some(setup.digest().ok()?))
        }
    };
    let given = matches!(&cli.verb, Verb::Wal { verb: WalVerb::Push { socket: Some(_), .. } });
    if let Err(error) = socket.symlink_metadata() {
        if given {
            not_by_agent(Some(&socket), &error.to_string());
        }
        return None;
    }
    let runtime = super::runtime::light().ok()?;
    let done = runtime.block_on(async {
        let wish = Wish { source: id, configuration };
        let handing = hand_over(&socket, author, wish, || Parcel::gather(path));
        tokio::select! {
            done = handing => Ok(done),
            stopped = stopped() => Err(stopped),
        }
    });
    match done {
        Err(error) => Some(Err(error)),
        Ok(Ok(answer)) => told(screen, (path, given.then_some(&socket)), &answer),
        Ok(Err(error)) => {
            not_by_agent(given.then_some(&socket), &format!("{error:#}"));
            None
        }
    }
}

/// Why the agent that was named did not store the file.
static NOT_BY_AGENT: OnceLock<String> = OnceLock::new();

/// Notes that this command does it itself; where the agent was named there may be no configuration for that.
fn not_by_agent(named: Option<&PathBuf>, why: &str) {
    match named {
        Some(socket) => {
            let text = format!("the agent at {} did not store it: {why}", socket.display());
            tracing::info!("{text}");
            drop(NOT_BY_AGENT.set(text));
        }
        None => tracing::info!("the agent did not store it: {why}"),
    }
}

/// The failure of this command after that of the agent that was named.
pub(super) fn after_agent(done: Result<Exit>) -> Result<Exit> {
    match NOT_BY_AGENT.get() {
        Some(why) => done.context(format!("{why}; nor could this command")),
        None => done,
    }
}

/// A signal that wishes for the end.
async fn stopped() -> anyhow::Error {
    let listen = |kind| signal(kind).context("listen for signals");
    let all = (|| {
        let (one, two) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok::<_, anyhow::Error>((one, two, listen(SignalKind::hangup())?))
    })();
    let (mut interrupt, mut terminate, mut hangup) = match all {
        Ok(all) => all,
        Err(error) => return error,
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    AgentError::Interrupted.into()
}

/// Whether it failed for what holds for whoever stores the file: what it is, what lies in its place, a bucket
/// that does not take it. Keys and whatever else the agent may lack are its own.
fn is_of_the_file(failed: &Value) -> bool {
    [Exit::Verification, Exit::Usage, Exit::Storage]
        .iter()
        .any(|exit| failed["exit"] == exit.code())
}

/// Tells what the agent answered; nothing where that is no answer.
fn told(
    screen: Screen,
    (path, named): (&Path, Option<&PathBuf>),
    answer: &Value,
) -> Option<Result<Exit>> {
    let words = |value: &Value| -> Vec<String> {
        let all = value.as_array().into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let failed = &answer["failed"];
    if failed.is_object() && !is_of_the_file(failed) {
        let what = words(&failed["messages"]).join(": ");
        not_by_agent(named, &shown(&what, 500));
        return None;
    }
    if failed.is_object() {
        let exit = Exit::TABLE.iter().map(|(exit, ..)| *exit);
        let exit = exit.filter(|exit| *exit != Exit::Success);
        let mut exit = exit.filter(|exit| failed["exit"] == exit.code());
        screen.fail(&Failure {
            // As long as the process, which ends now.
            code: failed["code"].as_str().unwrap_or("failure").to_owned().leak(),
            exit: exit.next().unwrap_or(Exit::Failure),
            messages: words(&failed["messages"]),
            hint: failed["hint"].as_str().map(str::to_owned),
        });
        return Some(Ok(Exit::Failure));
    }
    let done = answer["done"].as_str()?;
    // The server's log has it, however quiet we are to be.
    words(&answer["said"]).iter().for_each(|line| screen.warn(line));
    let object = json!({ "file": path, "done": done, "ahead": answer["ahead"], "agent": true });
    screen.answer("drctl.wal-push/1", object, String::new);
    Some(Ok(Exit::Success))
}
