//! What a recovery says: its plan, and what it came to.

use std::fmt::Write as _;
use std::path::Path;

use drctl_engines::pg::physical::{Undecided, UnfitSetting};
use drctl_model::{shown, total};
use drctl_policies::recovery::{RecoveryPlan, Target};
use serde_json::{Value, json};

use super::forecast::{forecast_json, forecast_words};
use super::screen::{NAME_SHOWN, count, line};
use crate::host::figures::{bytes, number, span};
use crate::host::shell::word;
use crate::host::zone::both;
use crate::repository::Passed;
use crate::restore::cluster::{Recovered, left_out};
use crate::restore::recovery::{Outlook, PlanNote, Planned};

/// How many prepared transactions are named to a person.
const NAMED: usize = 20;

/// What is to be known where the server gets no sandbox.
pub(super) const NO_SANDBOX: &str = "WITHOUT A SANDBOX, as you asked: the restored server, and \
                                 any code in the data that it runs, can read the keys, use the \
                                 network, and read and write everything that this account can";

/// What is worth knowing while it is planned.
pub(super) fn noted(note: &PlanNote) -> String {
    match note {
        PlanNote::PassedOver(reason) => format!("passed over: {}", line(reason)),
        PlanNote::UsedDespite(reason) => format!("used because it was named: {}", line(reason)),
        PlanNote::OthersUnknown(error) => {
            let error = line(&format!("{error:#}"));
            format!("whether another cluster reaches the target is not known: {error}")
        }
        PlanNote::SegmentsUnread(unread) => format!(
            "{} of WAL were not searched for wal_level = minimal: only the replay will show \
             whether it was set",
            count(*unread as u64, "segment")
        ),
    }
}

fn replay_seconds(plan: &RecoveryPlan, outlook: &Outlook) -> Option<f64> {
    outlook.replay.map(|rate| rate.seconds_for(plan.log_bytes))
}

/// What a host is said to be, beside what it lacks.
fn notes(outlook: &Outlook) -> impl Iterator<Item = &str> {
    let without_sandbox = outlook.without_sandbox.then_some(NO_SANDBOX);
    outlook.host.notes.iter().map(String::as_str).chain(without_sandbox)
}

/// What was found out beside a plan, and why it would be refused as it is: checks and estimates, for
/// scripts.
pub(super) fn checks(plan: &RecoveryPlan, outlook: &Outlook, why: Option<&str>) -> (Value, Value) {
    let checks = json!({
        "refused": why, "missing": outlook.host.missing,
        "notes": notes(outlook).collect::<Vec<_>>(), "room_bytes": outlook.room,
    });
    let estimate = json!({
        "fetch_seconds": outlook.fetch, "replay_seconds": replay_seconds(plan, outlook),
        "drills": outlook.drills.as_ref().map(forecast_json),
    });
    (checks, estimate)
}

/// The same for people.
fn write_outlook(plan: &RecoveryPlan, outlook: &Outlook, why: Option<&str>, text: &mut String) {
    if let Some(room) = outlook.room {
        let _ = write!(
            text,
            "\n  needs {} of disk space, and what the WAL adds to the data",
            bytes(room)
        );
    }
    let _ = match outlook.fetch {
        Some(seconds) => write!(
            text,
            "\n  time: about {} to extract the base backup, estimated from one segment",
            span(seconds)
        ),
        None => write!(text, "\n  time: not known for extracting the base backup"),
    };
    let _ = match (replay_seconds(plan, outlook), outlook.replay) {
        (Some(seconds), Some(rate)) => write!(
            text,
            "; about {} to replay, as fast as the last replay here ({} in {})",
            span(seconds),
            bytes(rate.bytes),
            span(rate.seconds)
        ),
        _ => write!(text, "; not known for the replay: none was measured on this host yet"),
    };
    if let Some(told) = &outlook.drills {
        let _ = write!(text, "\n  by drills: {}", forecast_words(told));
    }
    for thing in &outlook.host.missing {
        let _ = write!(text, "\n  MISSING: {}", line(thing));
    }
    for note in notes(outlook) {
        let _ = write!(text, "\n  note: {}", line(note));
    }
    if let Some(why) = why {
        let _ = write!(text, "\n  WOULD BE REFUSED: {}", line(why));
    }
}

/// That a plan chose an earlier cluster by itself.
pub(super) fn earlier(planned: &Planned<'_>) -> Option<String> {
    let (system_id, current) = (planned.system_id(), planned.current?);
    Some(format!(
        "EARLIER cluster {system_id} (system identifier): no other cluster of this source is known from that \
         time; the current one is {current}"
    ))
}

/// That other clusters lead to the same time.
pub(super) fn also(planned: &Planned<'_>) -> Option<String> {
    let ids: Vec<String> = planned.also.iter().map(u64::to_string).collect();
    (!ids.is_empty()).then(|| {
        format!(
            "ANOTHER cluster of this source leads to that time too: this is {}; give --system-id with the one \
             that was the server then ({})",
            planned.system_id(),
            ids.join(", ")
        )
    })
}

pub(super) fn plan_text(planned: &Planned<'_>, outlook: &Outlook, why: Option<&str>) -> String {
    let (plan, digest) = (&planned.plan, &planned.digest);
    let mut text = format!("recover to {}", plan.target);
    if let Target::Time(at) = plan.target {
        text = format!("recover to time {}", both(at));
    }
    text.push_str(match plan.target {
        Target::Time(_) => {
            "; it ends before the first later commit in the WAL: commits at exactly that time are \
             in it"
        }
        Target::Lsn { inclusive: false, .. } => "; the record that begins there is not in it",
        Target::Lsn { .. } | Target::Xid { .. } | Target::Name(_) | Target::Latest => "",
    });
    if let Some(earlier) = earlier(planned) {
        let _ = write!(text, "\n  of the {earlier}");
    }
    if let Some(also) = also(planned) {
        let _ = write!(text, "\n  {also}");
    }
    let _ =
        write!(text, "\n  from the base backup {}, consistent at {}", plan.base, plan.consistent);
    for leg in &plan.path {
        let _ = write!(text, "\n  WAL of timeline {}: {} to {}", leg.timeline, leg.from, leg.until);
    }
    let _ = write!(text, "\n  {} of WAL to replay", bytes(plan.log_bytes));
    if let Some(last) = plan.last_commit.not_after {
        let _ = write!(text, "\n  last commit that it holds: no later than {}", both(last));
    }
    if let Some(until) = plan.loses.until {
        let _ = write!(
            text,
            "\n  not in it: commits up to {}, {} of WAL",
            both(until),
            bytes(plan.loses.bytes)
        );
    }
    for Passed { backup, why } in &planned.passed {
        let _ = write!(text, "\n  NEWER, and passed over: {backup}: {}", line(why));
    }
    for warning in &plan.warnings {
        let _ = write!(text, "\n  note: {}", line(&warning.to_string()));
    }
    write_outlook(plan, outlook, why, &mut text);
    let _ = write!(text, "\n  plan {digest}: --yes={digest} runs exactly this plan");
    text
}

/// Who signed the base backup that a plan begins with, a line of it.
pub(super) fn signed_text(signer: Option<String>) -> String {
    signer.map_or_else(String::new, |name| {
        format!("\n  its base backup is signed by {}", drctl_model::shown(&name, 80))
    })
}

/// For scripts.
pub(super) fn done_object(plan: &RecoveryPlan, done: &Recovered, directory: &Path) -> Value {
    let extracted: Vec<Value> = done
        .extracted
        .iter()
        .map(|one| {
            json!({
                "table": one.table.to_string(), "file": one.file, "tables": one.rows.len(),
                "rows": total(one.rows.iter().map(|table| table.rows)),
            })
        })
        .collect();
    json!({
        "base": plan.base, "target": plan.target, "timeline": plan.timeline,
        "replayed": done.proof.replayed, "shows": done.proof.shows, "stopped": done.proof.stopped,
        "overtaken": done.proof.overtaken, "left_out": left_out(plan), "loses": plan.loses,
        "promoted": done.promoted, "released_locks": done.released, "prepared": done.prepared,
        "extracted": extracted, "unfit_settings": unfit_settings(&done.unfit),
        "outside": done.outside,
        "unproven": plan.unproven().collect::<Vec<_>>(),
        "socket": done.open.as_ref().map(|open| &open.socket),
        "directory": directory,
    })
}

/// For people.
pub(super) fn done_text(
    (plan, done): (&RecoveryPlan, &Recovered),
    directory: &Path,
    seconds: f64,
) -> String {
    let data = word(&directory.join("data").display().to_string());
    let shows = done.proof.shows.map_or("none of the WAL".to_owned(), both);
    let mut text = format!(
        "the last commit in {data}: {shows}; replayed up to {} in {}",
        done.proof.replayed,
        span(seconds)
    );
    if let Some(line) = &done.proof.stopped {
        let _ = write!(text, "\n  the server says: {line}");
    }
    for one in left_out(plan) {
        let _ = write!(text, "\n  NOT IN IT: {one}");
    }
    text.extend(plan.unproven().map(|place| format!("\n  NOT PROVEN: {place}")));
    if let Some(behind) = &done.proof.overtaken {
        let _ = write!(
            text,
            "\n  NOT IN IT: {} of that time or earlier, which come after the stop in the WAL, the \
             latest at {}: {} includes them, and everything before them",
            count(behind.commits, "commit"),
            both(behind.latest),
            match behind.xid {
                0 => format!("--to-lsn {}", behind.lsn),
                xid => format!("--to-xid {xid}"),
            }
        );
    }
    if done.released == Some(0) {
        text.push_str(
            "\n  note: a transaction with more than 64 subtransactions had not ended there, and a standby \
             shows nothing then. So the cluster was promoted, which rolled it back; nobody has written to it",
        );
    } else if let Some(locks) = done.released {
        let _ = write!(
            text,
            "\n  note: open transactions had locked {}. So the cluster was promoted, which rolled \
             them back; nobody has written to it",
            count(locks, "relation")
        );
    }
    text.push_str(&undecided(&done.prepared));
    text.push_str(&unfit_text(&done.unfit));
    text.extend(done.outside.iter().map(|note| format!("\n  note: {}", line(note))));
    for one in &done.extracted {
        let rows = total(one.rows.iter().map(|table| table.rows));
        let _ = write!(
            text,
            "\n  {} is in {}: {}, counted; `pg_restore` loads it",
            one.table,
            one.file.display(),
            count(rows, "row")
        );
    }
    text + &next(done)
}

/// What was prepared and not decided, and what to do about it.
fn undecided(prepared: &[Undecided]) -> String {
    let mut text = String::new();
    let name = |name: &Option<String>| match name {
        Some(name) => shown(name, NAME_SHOWN),
        None => "that is gone".to_owned(),
    };
    for one in prepared.iter().take(NAMED) {
        let _ = write!(
            text,
            "\n  UNDECIDED: the prepared transaction {} of the role {} in the database {}{}",
            one.literal(),
            name(&one.owner),
            name(&one.database),
            one.since.map_or_else(String::new, |at| format!(", since {}", both(at)))
        );
    }
    if let Some(more) = prepared.len().checked_sub(NAMED).filter(|more| *more > 0) {
        let _ = write!(text, "\n  UNDECIDED: {} more (pg_prepared_xacts)", number(more as u64));
    }
    if !prepared.is_empty() {
        text.push_str(
            "\n  their changes are invisible and their locks stay, until somebody who knows how \
             each ended runs COMMIT PREPARED or ROLLBACK PREPARED in its database",
        );
    }
    text
}

/// Settings with which a restored cluster's server does not start here, for scripts.
fn unfit_settings(unfit: &[UnfitSetting]) -> Vec<Value> {
    let one = |UnfitSetting { name, file, line, why }: &UnfitSetting| json!({ "name": name, "file": file, "line": line, "why": why });
    unfit.iter().map(one).collect()
}

/// The same for people.
fn unfit_text(unfit: &[UnfitSetting]) -> String {
    let mut text = String::new();
    for one in unfit.iter().take(NAMED) {
        let _ = write!(text, "\n  UNFIT HERE: {}", line(&one.to_string()));
    }
    if let Some(more) = unfit.len().checked_sub(NAMED).filter(|more| *more > 0) {
        let _ = write!(text, "\n  UNFIT HERE: {more} more (--json has all of them)");
    }
    if !unfit.is_empty() {
        text.push_str(
            "\n  the recovery did without these settings of the source. The cluster's own server does \
             not start on this host until you change these lines",
        );
    }
    text
}

/// What can be done with it from there.
fn next(done: &Recovered) -> String {
    if let Some(open) = &done.open {
        let socket = word(&open.socket.display().to_string());
        let (user, database) = (word(&open.user), word(&open.database));
        let mut text = format!(
            "\n  its server runs, read-only: psql -h {socket} -U {user} {database}\n  stop it: the \
             same command with --resume, without --open"
        );
        if !done.promoted {
            text.push_str("\n  or promote it: the same command with --resume and --promote");
        }
        return text;
    }
    let text = match (done.promoted, done.released, done.proof.stopped.is_some()) {
        (true, None, _) => {
            "\n  it is promoted and stopped: start it with pg_ctl. First check what in the \
             source's configuration runs code (shared_preload_libraries and the like, \
             archive_command, triggers): none of it has run here\n  if it is to replace the \
             source's server: drctl take-over"
        }
        (true, Some(_), _) => {
            "\n  it is stopped. The same command with --resume and --open or --extract reads it \
             again, as long as nobody has written to it; with --resume and --promote it is yours \
             to use"
        }
        // There is nothing in the log to stop at: started again it would follow what comes.
        (false, _, false) => {
            "\n  it is a standby, stopped. The same command with --resume and --open, --extract or \
             --promote continues from here, with the WAL that is in the bucket then"
        }
        (false, _, true) => {
            "\n  it is stopped at that point. The same command with --resume and --open, --extract \
             or --promote continues from here"
        }
    };
    text.to_owned()
}
