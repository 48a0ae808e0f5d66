//! What a recovery says: its plan, and what it came to.

use std::fmt::Write as _;
use std::path::Path;

use drctl_engines::pg::physical::{HostReport, Undecided};
use drctl_model::{shown, total};
use drctl_policies::recovery::{NoPlan, RecoveryPlan, Target};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::args::RestoreArgs;
use super::screen::{NAME_SHOWN, count, line};
use crate::host::figures::{bytes, number, span};
use crate::host::shell::word;
use crate::host::{AgentError, zone};
use crate::restore::cluster::{Rate, Recovered, forks, left_out};
use crate::restore::known::OtherCluster;

/// How many prepared transactions are named to a person.
const NAMED: usize = 20;

/// What was found out of a plan beside the bucket's own words.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    /// What this host has of what the cluster needs.
    pub(super) host: HostReport,
    /// Why it would be refused as it is.
    pub(super) refused: Option<String>,
    /// Bytes that the directory needs at least.
    pub(super) room: Option<u64>,
    /// Seconds to fetch and lay out the copy, judging by one segment.
    pub(super) fetch: Option<f64>,
    /// How fast log was replayed the last time.
    pub(super) replay: Option<Rate>,
}

impl Outlook {
    fn replay_seconds(&self, plan: &RecoveryPlan) -> Option<f64> {
        self.replay.map(|rate| rate.seconds_for(plan.log_bytes))
    }

    /// For scripts.
    pub(super) fn object(&self, plan: &RecoveryPlan) -> (Value, Value) {
        let checks = json!({
            "refused": self.refused, "missing": self.host.missing, "notes": self.host.notes,
            "room_bytes": self.room,
        });
        let estimate = json!({
            "fetch_seconds": self.fetch, "replay_seconds": self.replay_seconds(plan),
        });
        (checks, estimate)
    }

    fn write(&self, plan: &RecoveryPlan, text: &mut String) {
        if let Some(room) = self.room {
            let _ = write!(
                text,
                "\n  needs {} of room, and as much more as the log adds to the data",
                bytes(room)
            );
        }
        let _ = match self.fetch {
            Some(seconds) => write!(
                text,
                "\n  time: about {} to lay the copy out, judging by one segment",
                span(seconds)
            ),
            None => write!(text, "\n  time: to lay the copy out unknown"),
        };
        let _ = match (self.replay_seconds(plan), self.replay) {
            (Some(seconds), Some(rate)) => write!(
                text,
                "; about {} to replay, as fast as the last replay here ({} in {})",
                span(seconds),
                bytes(rate.bytes),
                span(rate.seconds)
            ),
            _ => write!(text, "; to replay unknown: none was measured on this host"),
        };
        for thing in &self.host.missing {
            let _ = write!(text, "\n  MISSING: {}", line(thing));
        }
        for note in &self.host.notes {
            let _ = write!(text, "\n  note: {}", line(note));
        }
        if let Some(why) = &self.refused {
            let _ = write!(text, "\n  WOULD BE REFUSED: {}", line(why));
        }
    }
}

/// A moment in UTC and in the machine's own time zone.
pub(super) fn both(at: Timestamp) -> String {
    let here = at.to_zoned(zone::shown_in());
    format!("{at} ({})", here.strftime("%Y-%m-%d %H:%M:%S %Z"))
}

pub(super) fn plan_text(plan: &RecoveryPlan, digest: &str, outlook: &Outlook) -> String {
    let mut text = format!("recover to {}", plan.target);
    if let Target::Time(at) = plan.target {
        text = format!("recover to time {}", both(at));
    }
    text.push_str(match plan.target {
        Target::Time(_) => {
            "; it ends before the first commit in the log that is later: a commit at that very \
             time is in it"
        }
        Target::Lsn { inclusive: false, .. } => "; what begins there is not in it",
        Target::Lsn { .. } | Target::Xid { .. } | Target::Name(_) | Target::Latest => "",
    });
    let _ = write!(text, "\n  from the copy {}, consistent at {}", plan.base, plan.consistent);
    for leg in &plan.path {
        let _ = write!(text, "\n  log of timeline {}: {} to {}", leg.timeline, leg.from, leg.until);
    }
    let _ = write!(text, "\n  {} of log to replay", bytes(plan.log_bytes));
    if let Some(last) = plan.last_commit.not_after {
        let _ = write!(text, "\n  last commit that it holds: no later than {}", both(last));
    }
    if let Some(until) = plan.loses.until {
        let _ = write!(
            text,
            "\n  not in it: commits up to {}, {} of log",
            both(until),
            bytes(plan.loses.bytes)
        );
    }
    for warning in &plan.warnings {
        let _ = write!(text, "\n  note: {}", line(&warning.to_string()));
    }
    outlook.write(plan, &mut text);
    let _ = write!(text, "\n  plan {digest}: --yes={digest} runs this one and no other");
    text
}

pub(super) fn no_plan(no: &NoPlan, others: &[OtherCluster]) -> anyhow::Error {
    let mut text = no.to_string();
    let mut hint = no.hint();
    for other in others.iter().filter(|other| other.reaches(&no.target, None)) {
        let _ = write!(
            text,
            "; another cluster of this source leads there: --system-id {}",
            other.system_id
        );
        hint = "name the cluster that is meant with --system-id";
    }
    for (word, place) in [("before it", no.before), ("after it", no.after)] {
        if let Some(place) = place {
            let at = place.at.map_or_else(|| place.lsn.to_string(), both);
            let _ = write!(text, "; the nearest {word} is {at}");
        }
    }
    AgentError::NoPlan(text, hint).into()
}

/// Refuses a recovery of all that there is which would not hold all of it, unless that is accepted:
/// who asked for everything must not take less for it. Where two timelines have commits of their own
/// nothing but the name of one of them will do.
pub(super) fn accepted(plan: &RecoveryPlan, args: &RestoreArgs) -> anyhow::Result<()> {
    let forks = forks(plan);
    if !forks.is_empty() {
        let text = format!(
            "which timeline is meant has to be said, and nothing was done: {}",
            forks.join("; ")
        );
        let hint = "look at `drctl timeline`, and name with --timeline the one whose server is the \
                    real one";
        return Err(AgentError::NoPlan(text, hint).into());
    }
    let left_out = left_out(plan);
    if left_out.is_empty() || args.accept_loss {
        return Ok(());
    }
    let text = format!(
        "the result would not hold all that the bucket has, and nothing was done: {}",
        left_out.join("; ")
    );
    let hint = "look at `drctl timeline`; --accept-loss recovers what can be had without it";
    Err(AgentError::NoPlan(text, hint).into())
}

/// Who signed the copy that a plan begins with, a line of it.
pub(super) fn signed_text(signer: Option<String>) -> String {
    signer.map_or_else(String::new, |name| {
        format!("\n  its copy is signed by {}", drctl_model::shown(&name, 80))
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
        "extracted": extracted,
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
    let shows = done.proof.shows.map_or("no commit of the log".to_owned(), both);
    let mut text = format!(
        "the data in {data} show {shows}, replayed up to {} in {}",
        done.proof.replayed,
        span(seconds)
    );
    if let Some(line) = &done.proof.stopped {
        let _ = write!(text, "\n  the server says: {line}");
    }
    for one in left_out(plan) {
        let _ = write!(text, "\n  NOT IN IT: {one}");
    }
    if let Some(behind) = &done.proof.overtaken {
        let _ = write!(
            text,
            "\n  NOT IN IT: {} of that time or earlier, which stand after the stop in the log, the \
             latest at {}: {} takes them in, and all that stands before them",
            count(behind.commits, "commit"),
            both(behind.latest),
            match behind.xid {
                0 => format!("--to-lsn {}", behind.lsn),
                xid => format!("--to-xid {xid}"),
            }
        );
    }
    if let Some(locks) = done.released {
        let _ = write!(
            text,
            "\n  note: transactions that had not ended there had locked {}. So that it can be \
             read it was made a cluster of its own, in which they are rolled back; nobody has \
             written to it",
            count(locks, "relation")
        );
    }
    text.push_str(&undecided(&done.prepared));
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
            "\n  what they wrote is not seen, and what they locked stays locked, until somebody who \
             knows how each ended says COMMIT PREPARED or ROLLBACK PREPARED in its database",
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
            "\n  its server is open, read-only: psql -h {socket} -U {user} {database}\n  \
             stop it: the same command with --resume, without --open"
        );
        if !done.promoted {
            text.push_str("\n  or make it a cluster of its own: with --resume and --promote");
        }
        return text;
    }
    let text = match (done.promoted, done.released, done.proof.stopped.is_some()) {
        (true, None, _) => {
            "\n  it is a cluster of its own now, stopped: start it with pg_ctl. Before you do, look at \
             what of the source's configuration runs code (shared_preload_libraries and its like, \
             archive_command, triggers): none of it has run here\n  \
             is it to be the source's server from now on? drctl take-over tells what that takes"
        }
        (true, Some(_), _) => {
            "\n  it is stopped. The same command with --resume and --open or --extract reads it \
             again, as long as nobody has written to it; with --resume and --promote it is yours"
        }
        // There is nothing in the log to stop at: started again it would follow what comes.
        (false, _, false) => {
            "\n  it is a standby, stopped. The same command with --resume and --open, --extract or \
             --promote goes on from here, with the log that is in the bucket then"
        }
        (false, _, true) => {
            "\n  it is stopped at that point. The same command with --resume and --open, --extract \
             or --promote goes on from here"
        }
    };
    text.to_owned()
}
