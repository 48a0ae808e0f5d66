//! `drctl clone`: a source as it was at a moment, as a server to use for a while.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_engines::ourselves_apart;
use drctl_engines::pg::physical::CLONE_USER;
use drctl_model::{DrillId, shown};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::interval;

use super::args::{Cli, CloneArgs, CloneVerb};
use super::progress::Progress;
use super::screen::{NAME_SHOWN, Screen, TEXT_SHOWN};
use crate::clone::{CloneRequest, CloneState, Ended, Way, clone, destroy, extend, find, list};
use crate::drill::{Wanted, root};
use crate::host::{AgentError, Exit, Meter, Setup, Stop};
use crate::restore::cluster::time_of;

/// How often it is looked whether one in the background can be used.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// `drctl clone`.
pub(super) async fn clone_verb(
    screen: Screen,
    setup: impl FnOnce() -> Result<Setup>,
    cli: &Cli,
    args: &CloneArgs,
    stop: &Stop,
) -> Result<Exit> {
    let setup = &setup()?;
    match &args.verb {
        None if args.detach => detach(screen, (setup, &cli.config), args, stop).await,
        None => make(screen, setup, args, stop).await,
        Some(CloneVerb::List { scratch }) => {
            let all = list(&root(setup, scratch.as_deref())?)?;
            let clones: Vec<Value> = all.iter().map(|(one, end)| clone_json(one, *end)).collect();
            screen.answer("drctl.clone-list/1", json!({ "clones": clones }), || {
                match all.is_empty() {
                    true => "no clones are there".to_owned(),
                    false => {
                        let texts: Vec<_> =
                            all.iter().map(|(one, end)| clone_text(one, *end)).collect();
                        texts.join("\n\n")
                    }
                }
            });
            Ok(Exit::Success)
        }
        Some(CloneVerb::Extend { clone, ttl, scratch }) => {
            let end = setup.clock.now().checked_add(*ttl).context("the time of its end")?;
            let state = extend(&root(setup, scratch.as_deref())?, clone, end)?;
            screen.answer("drctl.clone/1", clone_json(&state, end), || {
                format!("clone {} is there until {end:.0}", state.clone)
            });
            Ok(Exit::Success)
        }
        Some(CloneVerb::Destroy { clone, scratch }) => {
            let state = destroy(&root(setup, scratch.as_deref())?, clone).await?;
            let object = json!({ "clone": state.clone, "source": state.source });
            screen.answer("drctl.clone-destroyed/1", object, || {
                format!("clone {} of {} is gone", state.clone, state.source)
            });
            Ok(Exit::Success)
        }
    }
}

fn request(setup: &Setup, args: &CloneArgs) -> Result<CloneRequest> {
    let wanted = match (&args.to_time, &args.backup) {
        (Some(at), _) => Wanted::Time(time_of(at)?),
        (None, Some(id)) => Wanted::Named(id.clone()),
        (None, None) => Wanted::Latest,
    };
    let source = args.source.as_deref().context("the source is missing")?;
    let id = || DrillId::new(setup.clock.now(), rand::random());
    Ok(CloneRequest {
        source: super::source_id(source)?,
        wanted,
        ttl: args.ttl.context("the span is missing")?,
        mask: args.mask.clone().map(|file| (file, args.mask_database.clone())),
        expose: args.expose.clone(),
        identity: args.identity.clone(),
        scratch: args.scratch.clone(),
        id: args.id.clone().unwrap_or_else(id),
    })
}

/// Makes one, and keeps it until its end.
async fn make(screen: Screen, setup: &Setup, args: &CloneArgs, stop: &Stop) -> Result<Exit> {
    let request = request(setup, args)?;
    let (place, meter) = (root(setup, request.scratch.as_deref())?, Meter::default());
    let mut progress = Some(Progress::show(screen, &meter));
    let ready = |state: &CloneState| {
        progress.take();
        let wanted = state.clone.to_string();
        let end = find(&place, &wanted).map_or(state.made, |(_, end)| end);
        screen.answer("drctl.clone/1", clone_json(state, end), || clone_text(state, end));
        screen.say("it is kept by this command: Ctrl-C destroys it");
    };
    let ended = Box::pin(clone(setup, &request, &meter, ready, stop)).await;
    drop(progress);
    match ended? {
        Ended::Expired => screen.say("its time is over: the clone is gone"),
        Ended::Destroyed => screen.say("the clone is gone"),
        Ended::For(why) => {
            let text = format!("the clone is gone: {}", shown(&why, TEXT_SHOWN));
            return Err(AgentError::Target(text).into());
        }
    }
    Ok(Exit::Success)
}

/// Has another process make one and keep it; returns when it can be used.
async fn detach(
    screen: Screen,
    (setup, config): (&Setup, &Path),
    args: &CloneArgs,
    stop: &Stop,
) -> Result<Exit> {
    let request = request(setup, args)?;
    let place = root(setup, request.scratch.as_deref())?;
    let file = || tempfile::tempfile().context("make a file for what the other process says");
    let (mut out, mut told) = (file()?, file()?);
    let words = keeper(screen, config, (args, &request.id))?;
    let started = ourselves_apart(&words, (&out, &told));
    let mut child = started.context("start the process that keeps the clone")?;
    let mut ticks = interval(LOOK_EVERY);
    screen.say(format!("clone {} is being made", request.id));
    loop {
        if let Some(status) = child.try_wait().context("look at the other process")? {
            screen.pass_on(&all_of(&mut out)?, &all_of(&mut told)?);
            return Ok(Exit::of_code(status.code().unwrap_or(1)));
        }
        if let Ok((state, end)) = find(&place, &request.id.to_string()) {
            screen.answer("drctl.clone/1", clone_json(&state, end), || clone_text(&state, end));
            return Ok(Exit::Success);
        }
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.requested() => {
                let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
                if let Some(pid) = pid {
                    let _ = kill_process(pid, Signal::TERM);
                }
                let _ = child.wait().await;
                return Err(AgentError::Interrupted.into());
            }
        }
    }
}

fn all_of(file: &mut File) -> Result<String> {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    read.context("read what the other process said")?;
    Ok(text)
}

/// What the process is told that keeps it.
fn keeper(
    screen: Screen,
    config: &Path,
    (args, id): (&CloneArgs, &DrillId),
) -> Result<Vec<OsString>> {
    let mut words: Vec<OsString> = vec!["--config".into()];
    words.push(std::path::absolute(config).context("find the configuration")?.into());
    words.extend(screen.json.then(|| "--json".into()));
    words.push("clone".into());
    words.extend(args.source.iter().map(Into::into));
    let ttl = format!("{}s", args.ttl.unwrap_or_default().as_secs());
    let (id, port) = (
        Some(id.to_string()),
        match &args.expose {
            Some(Way::Port(port)) => Some(port.to_string()),
            _ => None,
        },
    );
    let texts = [
        ("--ttl", Some(&ttl)),
        ("--id", id.as_ref()),
        ("--to-time", args.to_time.as_ref()),
        ("--backup", args.backup.as_ref()),
        ("--mask-database", args.mask_database.as_ref()),
        ("--expose", port.as_ref()),
    ];
    for (name, value) in texts {
        words.extend(value.map(|value| format!("{name}={value}").into()));
    }
    let directory = match &args.expose {
        Some(Way::Socket(directory)) => Some(directory),
        _ => None,
    };
    let paths = [
        ("--mask", args.mask.as_ref()),
        ("--scratch", args.scratch.as_ref()),
        ("--identity", args.identity.as_ref()),
        ("--expose", directory),
    ];
    for (name, path) in paths {
        if let Some(path) = path {
            words.push(name.into());
            words.push(std::path::absolute(path).context("find a file")?.into());
        }
    }
    Ok(words)
}

fn clone_json(state: &CloneState, end: Timestamp) -> Value {
    let exposed = state.exposed.as_ref();
    json!({
        "clone": state.clone, "source": state.source, "backup": state.backup,
        "target": state.target, "made": state.made, "ends": end, "masked": state.masked,
        "socket": state.socket, "port": state.port, "user": state.user,
        "databases": state.databases, "notes": state.notes,
        "exposed": exposed.map(|exposed| json!({
            "at": exposed.at, "user": CLONE_USER, "password": exposed.password,
        })),
    })
}

fn clone_text(state: &CloneState, end: Timestamp) -> String {
    let masked = if state.masked { ", masked" } else { "" };
    let mut text = format!(
        "clone {} of {} ({}{masked}) is there until {end:.0}",
        state.clone,
        state.source,
        shown(&state.target, NAME_SHOWN)
    );
    let databases: Vec<String> =
        state.databases.iter().map(|name| shown(name, NAME_SHOWN)).collect();
    let _ = write!(text, "\n  databases: {}", databases.join(", "));
    let _ = write!(
        text,
        "\n  this account: psql -h {} -p {} -U {} DATABASE",
        state.socket.display(),
        state.port,
        shown(&state.user, NAME_SHOWN)
    );
    if let Some(exposed) = &state.exposed {
        let (host, port) = match exposed.at.rsplit_once(':') {
            Some((host, port)) if !exposed.at.starts_with('/') => (host, port),
            _ => (exposed.at.as_str(), "5432"),
        };
        let _ = write!(
            text,
            "\n  others: psql -h {host} -p {port} -U {CLONE_USER} DATABASE, with the password {}",
            exposed.password
        );
    }
    for note in &state.notes {
        let _ = write!(text, "\n  note: {}", shown(note, TEXT_SHOWN));
    }
    text
}
