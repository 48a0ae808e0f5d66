//! `drctl prune`: what no policy keeps, shown, and removed with --yes.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use drctl_model::{SourceId, total};
use drctl_policies::retention::Reason;
use serde_json::{Value, json};

use super::args::PruneArgs;
use super::screen::{Screen, count, line, table};
use crate::host::figures::{bytes, number};
use crate::host::{AgentError, Exit, Setup, Stop};
use crate::prune::{LogCut, Orphan, Planned, PrunePlan, Pruned, plan, remove};

/// `drctl prune`.
pub(super) async fn prune(
    screen: Screen,
    setup: &Setup,
    args: &PruneArgs,
    stop: &Stop,
) -> Result<Exit> {
    let sources: Vec<SourceId> = match &args.source {
        Some(name) => vec![setup.source(name)?.0.clone()],
        None => setup.config.sources.keys().cloned().collect(),
    };
    // The command line asks for a source where this is given.
    if let (Some(yes), [source]) = (&args.yes, sources.as_slice()) {
        return remove_shown(screen, setup, (source, yes, args.backups), stop).await;
    }
    let repository = setup.repository().await?;
    let catalog = setup.catalog(&repository).await?;
    let mut plans = Vec::new();
    for source in &sources {
        let planned = plan(setup, &repository, &catalog, source, None).await;
        plans.push(planned.with_context(|| format!("plan what of {source} may go"))?);
    }
    let object =
        json!({ "sources": plans.iter().map(|plan| object(plan, None)).collect::<Vec<_>>() });
    screen.answer("drctl.prune/1", object, || {
        let texts: Vec<String> = plans.iter().map(text).collect();
        texts.join("\n\n")
    });
    Ok(Exit::Success)
}

/// Removes what was shown, if it is what would still be removed.
async fn remove_shown(
    screen: Screen,
    setup: &Setup,
    (source, yes, backups): (&SourceId, &str, Option<u64>),
    stop: &Stop,
) -> Result<Exit> {
    let meant = |plan: &PrunePlan| is_meant(plan, yes, backups).map(|()| true);
    let (plan, done) = remove(setup, source, meant, stop).await?;
    let object = json!({ "sources": [object(&plan, Some(&done))] });
    screen.answer("drctl.prune/1", object, || done_text(&plan, &done));
    Ok(match (done.stopped, done.left.is_empty()) {
        (true, _) => Exit::Interrupted,
        (false, false) => Exit::Degraded,
        (false, true) => Exit::Success,
    })
}

/// Whether somebody saw this very plan, and said how many backups go where that is much.
fn is_meant(plan: &PrunePlan, yes: &str, backups: Option<u64>) -> Result<()> {
    plan.may_go()?;
    if plan.is_empty() {
        let text = format!("nothing of {} would go any more; nothing was removed", plan.source);
        return Err(AgentError::Usage(text).into());
    }
    let digest = plan.digest();
    if yes != digest {
        let text = format!(
            "{yes} is not the digest of what would go of {} now: run this without --yes, and read \
             what it shows. Nothing was removed",
            plan.source
        );
        return Err(AgentError::Usage(text).into());
    }
    let going = plan.going().len() as u64;
    match (plan.is_much(), backups) {
        (_, Some(said)) if said != going => {
            let going = count(going, "backup");
            let text = format!("{going} would go, not {said}; nothing was removed");
            Err(AgentError::Usage(text).into())
        }
        (Some(why), None) => {
            let text = format!("{why}: add --backups {going} if you mean it; nothing was removed");
            Err(AgentError::Usage(text).into())
        }
        _ => Ok(()),
    }
}

fn object(plan: &PrunePlan, done: Option<&Pruned>) -> Value {
    let backup = |one: &Planned| {
        json!({
            "backup": one.summary.backup, "taken": one.summary.taken(), "goes": one.goes(),
            "objects": one.objects, "bytes": one.bytes,
            "reasons": reasons(one),
        })
    };
    let cut = |cut: &LogCut| {
        json!({
            "lineage": cut.lineage, "before": cut.before, "objects": cut.objects,
            "bytes": cut.bytes, "why": cut.why,
        })
    };
    let rest = plan.rest.iter();
    let rest = rest
        .map(|rest| json!({ "backup": rest.backup, "objects": rest.objects, "bytes": rest.bytes }));
    let orphan = |orphan: &Orphan| {
        json!({
            "backup": orphan.backup, "objects": orphan.objects, "bytes": orphan.bytes,
            "from": orphan.from, "goes": orphan.goes,
        })
    };
    let done = done.map(|done| {
        let all = |all: &[(String, String)]| {
            let one = |(what, why): &(String, String)| json!({ "what": what, "why": why });
            all.iter().map(one).collect::<Vec<_>>()
        };
        json!({
            "gone": done.gone, "also": done.also, "objects": done.objects, "bytes": done.bytes,
            "retained": all(&done.retained), "left": all(&done.left), "stopped": done.stopped,
        })
    });
    json!({
        "source": plan.source, "policy": plan.policy, "blocked": plan.blocked,
        "unattended": plan.unattended,
        "backups": plan.backups.iter().map(backup).collect::<Vec<_>>(),
        "log": plan.log.iter().map(cut).collect::<Vec<_>>(),
        "rest": rest.collect::<Vec<_>>(),
        "orphans": plan.orphans.iter().map(orphan).collect::<Vec<_>>(),
        "digest": may_go(plan).then(|| plan.digest()), "much": plan.is_much(), "done": done,
    })
}

/// Whether `--yes` would remove anything.
fn may_go(plan: &PrunePlan) -> bool {
    plan.blocked.is_empty() && !plan.is_empty()
}

/// Why a backup stays. That removal is blocked is said once, and here only where nothing else keeps it.
fn reasons(one: &Planned) -> Vec<String> {
    let is_other = |reason: &&Reason| !matches!(reason, Reason::Blocked(_));
    let others: Vec<String> =
        one.reasons.iter().filter(is_other).map(ToString::to_string).collect();
    if others.is_empty() && !one.goes() {
        return vec!["no rule keeps it, but removal is blocked".to_owned()];
    }
    others
}

fn text(plan: &PrunePlan) -> String {
    let (source, going) = (&plan.source, plan.going().len());
    let stay = plan.backups.len() - going;
    let mut text = format!(
        "{source}, by policy {}: {} would go, {} would stay",
        plan.policy,
        count(going as u64, "backup"),
        number(stay as u64)
    );
    for why in &plan.blocked {
        let _ = write!(text, "\n  REMOVAL BLOCKED: nothing may go now: {}", line(why));
    }
    if let Some(why) = &plan.unattended {
        let _ = write!(text, "\n  NOT BY THE AGENT: it removes nothing now: {}", line(why));
    }
    text.push_str(&backups_text(plan));
    for cut in &plan.log {
        let _ = match cut.before {
            Some(before) => write!(
                text,
                "\n  goes: {}: {}, {}; {}",
                line(&cut.up_to(before)),
                count(cut.objects, "object"),
                bytes(cut.bytes),
                line(&cut.why)
            ),
            None => {
                write!(text, "\n  stays: all of {}: {}", line(&cut.called), line(&cut.why))
            }
        };
    }
    for rest in &plan.rest {
        let _ = write!(
            text,
            "\n  goes: the rest of {}, whose removal was begun: {}, {}",
            rest.backup,
            count(rest.objects, "object"),
            bytes(rest.bytes)
        );
    }
    text.push_str(&orphans_text(plan));
    if may_go(plan) {
        let digest = plan.digest();
        let number = plan.is_much().map(|_| format!(" --backups {going}")).unwrap_or_default();
        let _ = write!(text, "\n  to remove this: drctl prune {source} --yes={digest}{number}");
        if let Some(why) = plan.is_much() {
            let _ = write!(text, "\n  {why}: so --backups {going} is required");
        }
    }
    text
}

/// What attempts have left: those that go one by one, and all others together.
fn orphans_text(plan: &PrunePlan) -> String {
    let (go, stay): (Vec<&Orphan>, Vec<&Orphan>) =
        plan.orphans.iter().partition(|orphan| orphan.goes);
    let mut text = String::new();
    for orphan in go {
        let _ = write!(
            text,
            "\n  goes: what the attempt {} has left, which never became a backup: {}, {}",
            orphan.backup,
            count(orphan.objects, "object"),
            bytes(orphan.bytes)
        );
    }
    if !stay.is_empty() {
        let from = stay.iter().filter_map(|orphan| orphan.from).max();
        let from = from.map_or_else(
            || "stay: the store does not tell their age".to_owned(),
            |from| format!("go from {from:.0} on, when a backup was stored a week after them"),
        );
        let _ = write!(
            text,
            "\n  orphans, left by attempts that never became backups: {}, {}, {from}",
            count(total(stay.iter().map(|orphan| orphan.objects)), "object"),
            bytes(total(stay.iter().map(|orphan| orphan.bytes)))
        );
    }
    text
}

/// A line for each backup, why it stays behind it.
fn backups_text(plan: &PrunePlan) -> String {
    let row = |one: &Planned| {
        let verdict = if one.goes() { "goes" } else { "stays" };
        let why = if one.goes() { "no rule keeps it".to_owned() } else { reasons(one).join("; ") };
        vec![
            verdict.to_owned(),
            one.summary.backup.to_string(),
            format!("{:.0}", one.summary.taken()),
            bytes(one.bytes),
            line(&why),
        ]
    };
    let rows: Vec<Vec<String>> = plan.backups.iter().map(row).collect();
    let rows = table(&rows);
    rows.lines().filter(|row| !row.is_empty()).map(|row| format!("\n  {row}")).collect()
}

fn done_text(plan: &PrunePlan, done: &Pruned) -> String {
    let mut text = format!(
        "{} of {} removed: {}, {}",
        count(done.gone.len() as u64, "backup"),
        plan.source,
        count(done.objects, "object"),
        bytes(done.bytes)
    );
    for backup in &done.gone {
        let _ = write!(text, "\n  removed: {backup}");
    }
    for what in &done.also {
        let _ = write!(text, "\n  removed: {}", line(what));
    }
    for (what, why) in &done.retained {
        let _ = write!(text, "\n  retained: {}: the store keeps it: {}", line(what), line(why));
    }
    for (what, why) in &done.left {
        let _ = write!(text, "\n  not removed: {}: {}", line(what), line(why));
    }
    if done.stopped {
        let source = &plan.source;
        let _ = write!(
            text,
            "\n  stopped before all was removed: run `drctl prune {source}`, which shows what is left, \
             with a new digest for --yes"
        );
    }
    text
}
