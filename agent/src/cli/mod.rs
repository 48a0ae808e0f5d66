//! The command line: arguments, what is printed, and how a command ends.

mod accept;
mod agent;
mod args;
mod audit;
mod audited;
mod backups;
mod check;
mod check_beside;
mod check_words;
mod clone;
mod custody;
mod discover;
mod doctor;
mod drill;
mod drill_bundle;
mod drill_together;
mod forecast;
mod hand_over;
mod heard;
mod init;
mod journal;
mod kept;
mod keys;
mod kinds;
mod lost;
mod man;
mod newer;
mod notify;
mod outside_words;
mod policy;
mod progress;
mod prune;
mod recover;
mod recover_handed;
mod recovery_failed;
mod recovery_request;
mod recovery_words;
mod report;
mod report_drills;
mod report_page;
mod report_plots;
mod restore;
mod role;
mod runtime;
mod screen;
mod show;
mod stanza;
mod state;
mod statement_subject;
mod statements;
mod status;
mod streams;
mod take_over;
mod timeline;
mod told;
mod wal;
mod watch;
mod when;

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use clap::error::ErrorKind as Misuse;
use clap::{CommandFactory as _, Parser as _};
use drctl_engines::kill_tools;
use drctl_engines::pg::goodbye;
use drctl_model::SourceId;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

pub use args::Cli;
use args::{ConfigVerb, DrillVerb, KeysVerb, Verb};
use heard::heard_within;
use role::{Role, role_of, role_of_arguments};
use screen::Screen;

use crate::backup::RequestedKind;
use crate::host::{AgentError, Exit, Failure, Setup, Stop, waits_for_long};

/// Runs the program; the only place that ends the process.
#[must_use]
pub fn main() -> ExitCode {
    crate::host::private::begin();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = usage(&error);
            return role_of_arguments().failure(error.use_stderr()).map_or(code, ExitCode::from);
        }
    };
    let is_agent = matches!(cli.verb, Verb::Agent | Verb::JobHelper { .. });
    told::begin(cli.quiet, is_agent);
    let screen = Screen { json: cli.json, quiet: cli.quiet };
    let role = role_of(&cli.verb);
    let running = AssertUnwindSafe(|| {
        hand_over::by_agent(&cli, screen)
            .unwrap_or_else(|| hand_over::after_agent(run_here(cli, screen, role)))
    });
    // A panic's own exit code is one that PostgreSQL takes for the end of the log.
    let Ok(done) = catch_unwind(running) else {
        return ExitCode::from(role.failure(true).unwrap_or(PANICKED));
    };
    let failed = done.is_err();
    let exit = done.unwrap_or_else(|error| {
        let failure = Failure::of(&error);
        told::fail(screen, is_agent, &failure);
        failure.exit
    });
    if let Some(code) = role.failure(failed) {
        return ExitCode::from(code);
    }
    // A reader that went away is no reason to fail; an answer that is cut on a full disk is.
    match screen.lost() {
        Some(kind)
            if kind != ErrorKind::BrokenPipe
                && exit == Exit::Success
                && !HUNG_UP.load(Ordering::Relaxed) =>
        {
            screen.say(format!("error: the answer could not be written in full: {kind}"));
            ExitCode::from(Exit::Failure.code())
        }
        _ => ExitCode::from(exit.code()),
    }
}

/// Does what is asked for in this process.
fn run_here(cli: Cli, screen: Screen, role: Role) -> Result<Exit> {
    let runtime = runtime::full().context("start the runtime")?;
    let done = runtime.block_on(async {
        let done = run(cli, screen, role).await;
        // Servers hear that we go; else they note clients that were lost.
        goodbye().await;
        done
    });
    // A thread may be stuck in a write to a reader that does not read: it ends with us.
    runtime.shutdown_background();
    done
}

/// Whether the terminal went away while we went on without it.
static HUNG_UP: AtomicBool = AtomicBool::new(false);

/// What a process that panics ends with.
const PANICKED: u8 = 101;

/// A wrong command line; in JSON mode (as far as one can tell) an object, like every error.
fn usage(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    let screen = Screen { json: true, quiet: true };
    if wants_json && error.kind() == Misuse::DisplayVersion {
        let version = env!("CARGO_PKG_VERSION");
        let object = json!({ "version": version, "format": drctl_model::FORMAT_VERSION });
        screen.answer("drctl.version/1", object, String::new);
        return ExitCode::SUCCESS;
    }
    if error.kind() == Misuse::DisplayHelp || !wants_json {
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()));
    }
    // What a person reads, without the summary of the syntax behind it.
    let text = error.to_string();
    let told = text.split("\n\nUsage:").next().unwrap_or_default();
    let told = told.split("\n\nFor more information").next().unwrap_or_default();
    let failure = Failure {
        code: "usage",
        exit: Exit::Usage,
        messages: vec![told.trim_start_matches("error: ").trim().to_owned()],
        hint: Some("`drctl help` and `drctl COMMAND --help` show what there is".to_owned()),
    };
    screen.fail(&failure);
    ExitCode::from(Exit::Usage.code())
}

/// A source by its name, which need not be configured.
///
/// # Errors
/// [`AgentError::Usage`] for a text that names none.
fn source_id(text: &str) -> Result<SourceId> {
    Ok(text.parse().map_err(|error| AgentError::Usage(format!("{error}")))?)
}

async fn run(cli: Cli, screen: Screen, role: Role) -> Result<Exit> {
    let stop = match cli.verb {
        // It asks questions, and waits for answers in a way that nothing here can end.
        Verb::Init(_) => Stop::new().1,
        // Hours of work do not end with the terminal that they were begun on.
        Verb::Restore(ref args) if args.is_to_point() => stop_on_signals(screen, role, true)?,
        // Its time ends it, and no terminal.
        Verb::Clone(_) => stop_on_signals(screen, role, true)?,
        // A hangup has it read its configuration again.
        Verb::Agent => stop_on_signals(screen, role, true)?,
        _ => stop_on_signals(screen, role, false)?,
    };
    // These end by themselves when it is wished for; all others change nothing that could be left half done.
    if matches!(
        cli.verb,
        Verb::Backup { .. }
            | Verb::Restore(_)
            | Verb::Verify(_)
            | Verb::Prune(_)
            | Verb::Drill { .. }
            | Verb::Clone(_)
            | Verb::Agent
            | Verb::JobHelper { .. }
            | Verb::Wal { verb: args::WalVerb::Push { .. } | args::WalVerb::Stream { .. } }
    ) {
        return Box::pin(dispatch(cli, screen, &stop)).await;
    }
    tokio::select! {
        done = Box::pin(dispatch(cli, screen, &stop)) => done,
        () = stop.requested() => Err(AgentError::Interrupted.into()),
    }
}

async fn dispatch(cli: Cli, screen: Screen, stop: &Stop) -> Result<Exit> {
    let Some(asked) = asked(&cli.verb) else {
        if !audited::is_on_record(&cli.verb) {
            return Box::pin(execute(&cli, None, screen, stop)).await;
        }
        let setup = Setup::load(&cli.config)?;
        let work = execute(&cli, Some(setup.clone()), screen, stop);
        return audited::audited(&cli.verb, &setup, Box::pin(work)).await;
    };
    let setup = Setup::load(&cli.config)?;
    let patience = match asked {
        Asked::Short => setup.patience(),
        Asked::Data => setup.patience_with_data(),
    };
    let work = execute(&cli, Some(setup.clone()), screen, stop);
    let work = Box::pin(heard_within(&setup, patience, Box::pin(work)));
    audited::audited(&cli.verb, &setup, work).await
}

/// What a command asks the bucket for that may be ended anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// No more than what is short.
    Short,
    /// Also what is large.
    Data,
}

/// What a command asks the bucket for; nothing where a bucket that is silent must not end it.
fn asked(verb: &Verb) -> Option<Asked> {
    match verb {
        Verb::Show(_) | Verb::Doctor { .. } | Verb::Timeline { .. } => Some(Asked::Short),
        Verb::Catalog { .. } | Verb::Accept { .. } | Verb::Say(_) => Some(Asked::Short),
        Verb::Policy { .. } | Verb::Watch(_) => Some(Asked::Short),
        Verb::Keys { verb: KeysVerb::Test { .. } | KeysVerb::Custody } | Verb::Audit { .. } => {
            Some(Asked::Short)
        }
        Verb::Restore(args) => args.plan.then_some(Asked::Short),
        Verb::Drill { verb: DrillVerb::List { .. } | DrillVerb::Show { .. } } => Some(Asked::Short),
        Verb::Drill { verb: DrillVerb::Export(_) } => Some(Asked::Short),
        Verb::Prune(args) => args.yes.is_none().then_some(Asked::Short),
        Verb::When(_) | Verb::TakeOver(_) | Verb::Stanza { .. } => Some(Asked::Data),
        Verb::Wal { verb: args::WalVerb::Index { .. } } => Some(Asked::Data),
        _ => None,
    }
}

/// Does it; `known` is the configuration, where it was read already.
async fn execute(cli: &Cli, known: Option<Setup>, screen: Screen, stop: &Stop) -> Result<Exit> {
    let setup = || known.map_or_else(|| Setup::load(&cli.config), Ok);
    match &cli.verb {
        Verb::Init(args) => Box::pin(init::init(screen, &cli.config, args)).await,
        Verb::Backup { source, full, incremental } => {
            let requested = match (full, incremental) {
                (true, _) => RequestedKind::Full,
                (false, true) => RequestedKind::Incremental,
                (false, false) => RequestedKind::AsConfigured,
            };
            Box::pin(backups::backup(screen, &setup()?, source, requested, stop)).await
        }
        Verb::List { source } => {
            Box::pin(backups::list(screen, &setup()?, source.as_deref())).await
        }
        Verb::Accept { backup } => Box::pin(accept::accept(screen, &setup()?, backup)).await,
        Verb::Show(args) => Box::pin(show::show(screen, &setup()?, args)).await,
        Verb::Restore(args) => Box::pin(restore::restore(screen, &setup()?, args, stop)).await,
        Verb::Drill { verb } => Box::pin(drill::drill_verb(screen, setup, verb, stop)).await,
        Verb::Clone(args) => Box::pin(clone::clone_verb(screen, setup, cli, args, stop)).await,
        Verb::TakeOver(args) => Box::pin(take_over::take_over(screen, &setup()?, args)).await,
        Verb::Verify(args) => Box::pin(check::verify(screen, &setup()?, args, stop)).await,
        Verb::Status { check } => Box::pin(status::status(screen, &setup()?, *check)).await,
        Verb::Doctor { source, identity } => {
            Box::pin(doctor::doctor(screen, &setup()?, source.as_deref(), identity.as_deref()))
                .await
        }
        Verb::Report(args) => Box::pin(report::report(screen, &setup()?, args)).await,
        Verb::Watch(args) => Box::pin(watch::watch(screen, &setup()?, args)).await,
        Verb::Discover => discover::discover(screen, &cli.config).await,
        Verb::Policy { verb } => Box::pin(policy::policy(screen, &setup()?, verb)).await,
        Verb::Config { verb: ConfigVerb::Check } => state::config_check(screen, &setup()?),
        Verb::Config { verb: ConfigVerb::Show } => state::config_show(screen, &setup()?),
        Verb::Config { verb: ConfigVerb::Schema } => {
            let schema = drctl_policies::schema();
            let object = json!({ "json_schema": schema });
            screen.answer("drctl.config-schema/1", object, || format!("{schema:#}"));
            Ok(Exit::Success)
        }
        // The server waits for it: what is there already needs no configuration and no bucket.
        Verb::Wal { verb: args::WalVerb::Fetch(args) } if wal::waits(args) => Ok(Exit::Success),
        Verb::Wal { verb: args::WalVerb::Take { socket, name, to } } => {
            wal::take_one(socket, name, to)
        }
        Verb::Wal { verb } => Box::pin(wal::wal(screen, &setup()?, verb, stop)).await,
        Verb::Stanza { verb } => Box::pin(stanza::stanza(screen, &setup()?, verb)).await,
        Verb::Timeline { source } => Box::pin(timeline::timeline(screen, &setup()?, source)).await,
        Verb::When(args) => Box::pin(when::when(screen, &setup()?, args)).await,
        Verb::Prune(args) => {
            Box::pin(prune::prune(screen, &setup()?.for_prune(), args, stop)).await
        }
        Verb::Audit { verb } => Box::pin(audit::audit(screen, &setup()?, verb)).await,
        Verb::Notify { verb } => Box::pin(notify::notify(screen, &setup()?, verb)).await,
        Verb::Say(verb) => Box::pin(statements::say(screen, &setup()?, verb)).await,
        Verb::Agent => Box::pin(agent::agent(setup()?, stop)).await,
        Verb::JobHelper { allowed } => agent::help(allowed, stop).await,
        Verb::Ask(verb) => agent::ask_agent(screen, setup, verb).await,
        Verb::Catalog { verb } => Box::pin(state::catalog(screen, &setup()?, verb)).await,
        Verb::Keys { verb } => Box::pin(keys::keys(screen, setup, verb)).await,
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "drctl", &mut script);
            let script = String::from_utf8(script).context("print completions")?;
            let object = json!({ "shell": shell.to_string(), "script": script });
            screen.answer("drctl.completions/1", object, || script.clone());
            Ok(Exit::Success)
        }
        Verb::Man { directory } => man::man(screen, directory.as_deref()),
    }
}

/// Ends where the wish for it is not heard: a pipe is read that nobody writes into.
async fn end_of_waiting(screen: Screen, role: Role) {
    waits_for_long().await;
    screen.fail(&Failure::of(&AgentError::Interrupted.into()));
    end_now(role)
}

/// Ends, whatever is under way.
fn end_now(role: Role) -> ! {
    kill_tools();
    let code = role.failure(true).unwrap_or(Exit::Interrupted.code());
    std::process::exit(i32::from(code))
}

/// SIGINT, SIGTERM and SIGHUP wish for the end; a second one ends at once. Where the work
/// `outlives` its terminal SIGHUP says no more than that nobody reads along.
fn stop_on_signals(screen: Screen, role: Role, outlives: bool) -> Result<Stop> {
    let (stopper, stop) = Stop::new();
    let (stopper, wishes) = (Arc::new(stopper), Arc::new(AtomicUsize::new(0)));
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signals = signal(kind).context("listen for signals")?;
        let (stopper, wishes) = (Arc::clone(&stopper), Arc::clone(&wishes));
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if outlives && kind == SignalKind::hangup() {
                    HUNG_UP.store(true, Ordering::Relaxed);
                    continue;
                }
                stopper.stop();
                if wishes.fetch_add(1, Ordering::Relaxed) > 0 {
                    end_now(role);
                }
                tokio::spawn(end_of_waiting(screen, role));
            }
        });
    }
    Ok(stop)
}
