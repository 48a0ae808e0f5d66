//! `drctl audit`: what was done on this host, and whether the log of it is what was written.

use std::fmt::Write as _;

use anyhow::Result;
use drctl_model::AuditEntry;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::args::AuditVerb;
use super::screen::{Screen, count, line, table};
use crate::audit::{
    Break, Standing, Verified, entries, ship, standing, verify_bucket, verify_files, verify_local,
};
use crate::host::{Exit, Setup};
use crate::restore::cluster::time_of;

/// `drctl audit`.
pub(super) async fn audit(screen: Screen, setup: &Setup, verb: &AuditVerb) -> Result<Exit> {
    match verb {
        AuditVerb::Show { source, since } => {
            show(screen, setup, (source.as_deref(), since.as_deref()))
        }
        AuditVerb::Verify { bucket: true, .. } => {
            let found = verify_bucket(setup, &setup.repository().await?).await?;
            Ok(verified(screen, setup, &[found]))
        }
        AuditVerb::Verify { files, .. } if files.is_empty() => {
            let found = verify_local(setup)?;
            Ok(verified(screen, setup, &[found]))
        }
        AuditVerb::Verify { files, .. } => {
            let found = verify_files(setup, files)?;
            Ok(verified(screen, setup, &found))
        }
        AuditVerb::Ship => {
            let shipped = ship(setup, &setup.repository().await?).await?;
            let standing = standing(setup);
            let object = json!({ "shipped": shipped, "standing": standing_json(&standing) });
            screen.answer("drctl.audit-ship/1", object, || {
                let problem = standing.problem.as_ref().map(|problem| line(problem));
                let shipped = format!("{} shipped", entries_text(shipped));
                [Some(shipped), problem].into_iter().flatten().collect::<Vec<_>>().join("\n")
            });
            Ok(if standing.problem.is_some() { Exit::Verification } else { Exit::Success })
        }
    }
}

/// So many entries.
fn entries_text(many: u64) -> String {
    match many {
        1 => "1 entry".to_owned(),
        many => format!("{} entries", crate::host::figures::number(many)),
    }
}

/// `drctl audit show`.
fn show(
    screen: Screen,
    setup: &Setup,
    (source, since): (Option<&str>, Option<&str>),
) -> Result<Exit> {
    let source = source.map(super::source_id).transpose()?;
    let since = since.map(time_of).transpose()?;
    let (mut all, broken) = entries(setup)?;
    all.retain(|entry| {
        source.as_ref().is_none_or(|source| entry.is_of(source))
            && since.is_none_or(|since: Timestamp| entry.at >= since)
    });
    let broken = broken.as_ref();
    let object = json!({ "entries": all.iter().map(entry_json).collect::<Vec<_>>(), "break": broken.map(break_json) });
    screen.answer("drctl.audit/1", object, || show_text(&all, broken));
    Ok(if broken.is_some() { Exit::Verification } else { Exit::Success })
}

fn entry_json(entry: &AuditEntry) -> Value {
    let AuditEntry { log, seq, at, host, actor, verb, outcome, act, .. } = entry;
    json!({
        "log": log, "seq": seq, "prev": entry.prev, "at": at, "host": host,
        "actor": {
            "uid": actor.uid, "account": actor.account, "process": actor.process, "socket": actor.socket,
        },
        "verb": verb, "outcome": outcome, "act": act, "source": entry.source, "object": entry.object,
        "config": entry.config, "details": entry.details,
    })
}

fn break_json(found: &Break) -> Value {
    json!({ "seq": found.seq, "kind": found.kind.as_str(), "text": found.text })
}

fn show_text(all: &[AuditEntry], broken: Option<&Break>) -> String {
    let head = ["NO", "AT", "BY", "WHAT", "OUTCOME", "SOURCE", "OBJECT", "DETAILS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let or_none = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), line);
    rows.extend(all.iter().map(|entry| {
        let by = if entry.actor.socket { " (socket)" } else { "" };
        let details = entry.details.iter().map(|(what, value)| format!("{what}={value}"));
        vec![
            entry.seq.to_string(),
            format!("{:.0}", entry.at),
            format!("{}{by}", line(&entry.actor.account)),
            line(&entry.verb),
            entry.outcome.as_str().to_owned(),
            or_none(&entry.source),
            or_none(&entry.object),
            line(&details.collect::<Vec<_>>().join(" ")),
        ]
    }));
    let mut text = match rows.len() {
        1 => "nothing is on record".to_owned(),
        _ => table(&rows),
    };
    if let Some(found) = broken {
        let _ = write!(text, "\n{}", break_text(found));
    }
    text
}

fn break_text(found: &Break) -> String {
    format!("BROKEN at entry {} ({}): {}", found.seq, found.kind.as_str(), line(&found.text))
}

/// `drctl audit verify`.
fn verified(screen: Screen, setup: &Setup, all: &[Verified]) -> Exit {
    let entry = |one: &Verified| {
        json!({
            "log": one.log, "entries": one.entries, "signed": one.signed, "signers": one.signers,
            "breaks": one.breaks.iter().map(break_json).collect::<Vec<_>>(), "notes": one.notes,
        })
    };
    let standing = standing(setup);
    let object = json!({
        "logs": all.iter().map(entry).collect::<Vec<_>>(), "standing": standing_json(&standing),
    });
    screen.answer("drctl.audit-verify/1", object, || {
        let texts: Vec<String> = all.iter().map(verified_text).collect();
        texts.join("\n")
    });
    let is_good = all.iter().all(|one| one.breaks.is_empty());
    if is_good { Exit::Success } else { Exit::Verification }
}

fn verified_text(one: &Verified) -> String {
    let log = one.log.as_ref().map_or("no log".to_owned(), |log| format!("log {log}"));
    let mut text = format!("{log}: {}", entries_text(one.entries));
    if let Some(signed) = one.signed {
        let signers: Vec<String> = one.signers.iter().map(|name| line(name)).collect();
        let by =
            if signers.is_empty() { String::new() } else { format!(" by {}", signers.join(", ")) };
        let _ = write!(text, ", {} signed{by}", entries_text(signed));
    }
    match one.breaks.len() {
        0 => text.push_str(": each follows the one before"),
        many => {
            let _ = write!(text, ": {}", count(many as u64, "break"));
        }
    }
    for found in &one.breaks {
        let _ = write!(text, "\n{}", break_text(found));
    }
    for note in &one.notes {
        let _ = write!(text, "\nnote: {}", line(note));
    }
    text
}

/// How the log stands against the bucket.
pub(super) fn standing_json(standing: &Standing) -> Value {
    json!({
        "log": standing.log, "last": standing.last, "shipped": standing.shipped,
        "since": standing.since, "problem": standing.problem,
    })
}

/// What is to be said of that; nothing where all is in the bucket.
pub(super) fn standing_text(standing: &Standing) -> Option<String> {
    if let Some(problem) = &standing.problem {
        return Some(line(problem));
    }
    let since = standing.since?;
    let many = standing.last.saturating_sub(standing.shipped);
    Some(format!(
        "audit log: {} not in the bucket yet, the oldest from {since:.0}: the agent ships them, or `drctl \
         audit ship`",
        entries_text(many)
    ))
}
