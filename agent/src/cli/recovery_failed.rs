//! What a recovery that failed says: what is safe, and the command that leads on.

use std::fmt::Write as _;
use std::path::Path;

use drctl_engines::EngineError;
use drctl_model::{BackupId, SourceId};
use drctl_policies::recovery::{RecoveryPlan, Target, plan};
use jiff::Timestamp;

use super::args::RestoreArgs;
use crate::host::shell::word;
use crate::host::{Exit, Failure, Setup};
use crate::repository::{Memory, Repository};
use crate::restore::cluster::Step;
use crate::restore::known::Known;

/// The command that was typed, as far as it says what is recovered, where to, and what then.
fn command(args: &RestoreArgs, directory: &Path) -> String {
    command_as(args, &aim(args), directory, true)
}

/// The same with another aim, or without what becomes of it.
fn command_as(args: &RestoreArgs, aim: &str, directory: &Path, then: bool) -> String {
    let mut text = command_to(args, aim, directory);
    if !then {
        return text;
    }
    for table in &args.extract {
        let _ = write!(text, " --extract {}", word(&table.to_string()));
    }
    for (flag, given) in [("--promote", args.promote), ("--open", args.open)] {
        if given {
            let _ = write!(text, " {flag}");
        }
    }
    text
}

/// What is recovered, as it was typed.
fn aim(args: &RestoreArgs) -> String {
    let mut text = String::new();
    let mut add = |flag: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(text, " {flag} {}", word(&value));
        }
    };
    add("--to-time", args.to_time.clone());
    add("--to-lsn", args.to_lsn.clone());
    add("--to-xid", args.to_xid.map(|xid| xid.to_string()));
    add("--before-xid", args.before_xid.map(|xid| xid.to_string()));
    add("--to-name", args.to_name.clone());
    for (flag, given) in [
        ("--to-end", args.to_end),
        ("--inclusive", args.inclusive),
        ("--exclusive", args.exclusive),
        ("--accept-loss", args.accept_loss),
    ] {
        if given {
            let _ = write!(text, " {flag}");
        }
    }
    text
}

/// Without what becomes of it.
fn command_to(args: &RestoreArgs, aim: &str, directory: &Path) -> String {
    let mut text = format!("drctl restore {}{aim}", word(&args.source));
    let mut add = |flag: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(text, " {flag} {}", word(&value));
        }
    };
    add("--backup", args.backup.clone());
    add("--system-id", args.system_id.map(|id| id.to_string()));
    add("--timeline", args.timeline.map(|id| id.to_string()));
    add("--to-directory", Some(directory.display().to_string()));
    add("--identity", args.identity.as_ref().map(|path| path.display().to_string()));
    for library in &args.preload {
        add("--preload", Some(library.clone()));
    }
    for (flag, given) in
        [("--despite-missing", args.despite_missing), ("--without-box", args.without_box)]
    {
        if given {
            let _ = write!(text, " {flag}");
        }
    }
    text
}

/// The same with another copy to begin with, into a new directory.
fn from_older(args: &RestoreArgs, older: &BackupId) -> String {
    let typed = command(args, Path::new("NEW"));
    match &args.backup {
        Some(backup) => {
            typed.replace(&format!(" --backup {}", word(backup)), &format!(" --backup {older}"))
        }
        None => format!("{typed} --backup {older}"),
    }
}

/// Whether the same again would fail in the same way: what is in the bucket, or what was reached,
/// is not what it must be.
fn is_lasting(error: &anyhow::Error) -> bool {
    // The server's last words have those of `wal fetch` in them.
    let words = format!("{error:#}");
    let told = ["is not what the manifest says", "and a later part is there"];
    let is_damaged = |cause: &(dyn std::error::Error + 'static)| matches!(cause.downcast_ref(), Some(EngineError::BackRest { exit, .. }) if exit.is_damage());
    Failure::of(error).exit == Exit::Verification
        || told.iter().any(|text| words.contains(text))
        || error.chain().any(is_damaged)
}

/// What going on comes to, where a chain of copies has still to be put together or where not.
fn go_on(chain: bool) -> &'static str {
    match chain {
        true => "go on: the chain of copies is laid out anew, unless it was put together",
        false => "go on where it ended: nothing that is whole is done again",
    }
}

/// What leads where a recovery that failed did not.
#[derive(Debug, Default)]
pub(super) struct Instead {
    /// An older copy that leads to the same target.
    pub(super) older: Option<BackupId>,
    /// What leads around log that is damaged.
    pub(super) around: Option<Around>,
}

/// What leads around log that is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Around {
    /// The same command, now that it is known.
    Same,
    /// All before it, with the time of the last commit.
    Before(Option<Timestamp>),
}

/// What leads on where a recovery came no further than `step`.
pub(super) async fn lead_on(
    (setup, repository, source): (&Setup, &Repository, &SourceId),
    known: &Known,
    planned: &RecoveryPlan,
    step: Step,
) -> Instead {
    let timeline = Some(planned.timeline);
    if step == Step::LayingOut {
        let rest = known.archive.clone().without(&planned.base);
        let older = plan(&rest, &planned.target, timeline).ok();
        return Instead { older: older.map(|plan| plan.base), around: None };
    }
    // By now it may be known that log on the way is damaged.
    let memory = Memory::at_hand(setup, repository, source).await;
    let archive = known.around(&memory.damaged_log(source));
    let leads = |target: &Target| plan(&archive, target, timeline).ok();
    let before = leads(&Target::Latest).filter(|before| before.reach < planned.reach);
    let around = before.map(|before| {
        let same = planned.target != Target::Latest && leads(&planned.target).is_some();
        if same { Around::Same } else { Around::Before(before.last_commit.not_after) }
    });
    Instead { older: None, around }
}

/// The command that leads around damaged log, and what that comes to.
fn instead(args: &RestoreArgs, around: Around) -> (String, String) {
    let (what, aim) = match around {
        Around::Same => ("the same around the damaged log".to_owned(), aim(args)),
        Around::Before(last) => {
            let last = last.map(|at| format!(", the last commit at {at}")).unwrap_or_default();
            (format!("all log before what is damaged{last}"), " --to-end --accept-loss".to_owned())
        }
    };
    let best = format!("{what}, in a new directory; do not use what is in this one");
    (best, command_as(args, &aim, Path::new("NEW"), true))
}

/// What a person needs at three in the morning: always these five lines, in this order.
pub(super) fn failed(
    error: anyhow::Error,
    args: &RestoreArgs,
    plan: &RecoveryPlan,
    (directory, instead_of): (&Path, &Instead),
    chain: bool,
) -> anyhow::Error {
    let (best, command) = alternative(&error, args, plan, (directory, instead_of), chain);
    let text = format!(
        "the recovery to {} failed: {error:#}\n  \
         safe: the backups and the log in the bucket; {} is not to be used yet, drctl.log and \
         recovery.log in it tell more\n  \
         the source was not touched\n  \
         best alternative: {best}\n  \
         command: {command}",
        plan.target,
        directory.display()
    );
    error.context(text)
}

fn alternative(
    error: &anyhow::Error,
    args: &RestoreArgs,
    plan: &RecoveryPlan,
    (directory, instead_of): (&Path, &Instead),
    chain: bool,
) -> (String, String) {
    let restore = || format!("drctl restore {}", word(&args.source));
    let said = |best: &str, command: String| (best.to_owned(), command);
    if Failure::of(error).code == "no_table" {
        let open = command_as(args, &aim(args), directory, false);
        let best = "look at what there is, and name tables that hold rows";
        return said(best, format!("{open} --resume --open"));
    }
    if let Some(around) = instead_of.around {
        return instead(args, around);
    }
    if !is_lasting(error) {
        return said(go_on(chain), format!("{} --resume", command(args, directory)));
    }
    match (&instead_of.older, plan.earlier) {
        (Some(older), _) => said(
            "the same from an older copy, in a new directory; do not use what is in this one",
            from_older(args, older),
        ),
        (None, Some(at)) => said(
            "an earlier time, in a new directory; do not use what is in this one",
            format!("{} --to-time {at} --to-directory NEW", restore()),
        ),
        (None, None) => said(
            "the copy alone, in a new directory; do not use what is in this one",
            format!("{} --backup {} --to-directory NEW", restore(), plan.base),
        ),
    }
}
