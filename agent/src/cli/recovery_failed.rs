//! What a recovery that failed says: what is safe, and the command that leads on.

use std::fmt::Write as _;
use std::path::Path;

use drctl_model::BackupId;
use drctl_policies::recovery::RecoveryPlan;

use super::args::RestoreArgs;
use crate::host::Failure;
use crate::host::shell::word;
use crate::repository::faults::is_newer;
use crate::restore::recovery::{Around, WayOn};

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
        [("--despite-missing", args.despite_missing), ("--without-sandbox", args.without_sandbox)]
    {
        if given {
            let _ = write!(text, " {flag}");
        }
    }
    text
}

/// The same with another base backup to begin with, into a new directory.
fn from_older(args: &RestoreArgs, older: &BackupId) -> String {
    let typed = command(args, Path::new("NEW"));
    match &args.backup {
        Some(backup) => {
            typed.replace(&format!(" --backup {}", word(backup)), &format!(" --backup {older}"))
        }
        None => format!("{typed} --backup {older}"),
    }
}

/// What going on comes to, where a chain of backups has still to be combined or where not.
fn go_on(chain: bool) -> &'static str {
    match chain {
        true => "continue: the chain of backups is extracted again, unless it was combined",
        false => "continue where it ended: complete parts are not done again",
    }
}

/// The command that leads around log that is damaged, or that only a newer drctl reads, and what that
/// comes to.
fn instead(args: &RestoreArgs, around: Around, newer: bool) -> (String, String) {
    let (what, aim) = match (around, newer) {
        (Around::Same, false) => {
            ("the same target, avoiding the damaged WAL".to_owned(), aim(args))
        }
        (Around::Same, true) => {
            ("the same target, avoiding what a newer drctl wrote".to_owned(), aim(args))
        }
        (Around::Before(last), _) => {
            let last = last.map(|at| format!(", the last commit at {at}")).unwrap_or_default();
            let what = if newer { "a newer drctl wrote" } else { "is damaged" };
            (format!("all WAL before what {what}{last}"), " --to-end --accept-loss".to_owned())
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
    (directory, way): (&Path, &WayOn),
    chain: bool,
) -> anyhow::Error {
    let (newer, failed) = (is_newer(&error), Failure::of(&error).messages.join(": "));
    let (best, command) = alternative(args, plan, (directory, way), (chain, newer));
    let lines = [
        format!("the recovery to {} failed: {failed}", plan.target),
        format!(
            "safe: the backups and the WAL in the bucket; do not use {} yet, see drctl.log and \
             recovery.log in it",
            directory.display()
        ),
        "the source was not touched".to_owned(),
        format!("best alternative: {best}"),
        format!("command: {command}"),
    ];
    let text = lines.join("\n  ");
    error.context(text)
}

fn alternative(
    args: &RestoreArgs,
    plan: &RecoveryPlan,
    (directory, way): (&Path, &WayOn),
    (chain, newer): (bool, bool),
) -> (String, String) {
    let restore = || format!("drctl restore {}", word(&args.source));
    let cluster = args.system_id.map(|id| format!(" --system-id {id}")).unwrap_or_default();
    let said = |best: &str, command: String| (best.to_owned(), command);
    match way {
        WayOn::Look => {
            let open = command_as(args, &aim(args), directory, false);
            let best = "look at what there is, and name tables that hold rows";
            said(best, format!("{open} --resume --open"))
        }
        WayOn::Around(around) => instead(args, *around, newer),
        WayOn::Elsewhere => said(
            "the same in a new directory elsewhere, neither below that place nor above it; do not use \
             what is in this one",
            command(args, Path::new("NEW")),
        ),
        WayOn::LargerHost => said(
            "the same on a host with more memory, or where this account may have more of it (`ulimit -v`, \
             the container's limit): here going on would fail again",
            command(args, Path::new("NEW")),
        ),
        WayOn::Anew => said(
            "plan it again, in a new directory: pgBackRest has expired this base backup, and the \
             plan uses another one, if there is one; do not use what is in this one",
            command(args, Path::new("NEW")),
        ),
        WayOn::GoOn => said(go_on(chain), format!("{} --resume", command(args, directory))),
        WayOn::Older(older) => said(
            "the same from an older base backup, in a new directory; do not use what is in this \
             one",
            from_older(args, older),
        ),
        WayOn::Earlier(at) => said(
            "an earlier time, in a new directory; do not use what is in this one",
            format!("{}{cluster} --to-time {at} --to-directory NEW", restore()),
        ),
        WayOn::BaseAlone => said(
            "only the base backup, without later WAL, in a new directory; do not use what is in \
             this one",
            format!("{} --backup {} --to-directory NEW", restore(), plan.base),
        ),
    }
}
