//! `[agent]`: the service itself.

use core::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::diagnostic::show;
use crate::keys::Kind::{Path, Secret, Text};
use crate::keys::{DAY, Key, duration, number};
use crate::reader::Reader;
use crate::secret::SecretRef;
use crate::units::as_seconds;

pub(crate) static AGENT: &[Key] = &[
    Key::with_default(
        "jobs_at_once",
        number(1, 64),
        "2",
        "Jobs that run at once, streams and verify apart.",
    ),
    Key::with_default(
        "stop_timeout",
        duration(1, DAY),
        "60s",
        "How long running jobs may take to end when the agent is stopped.",
    ),
    Key::optional(
        "socket",
        Path,
        "The socket at which the agent is spoken with; default: agent.sock in runtime_dir.",
    ),
    Key::optional(
        "socket_group",
        Text,
        "The group whose members may talk to the agent, beside root and its own account.",
    ),
    Key::optional(
        "admin_group",
        Text,
        "The group whose members may ask the agent to prune, verify, drill, report and reload, too.",
    ),
    Key::optional(
        "push_user",
        Text,
        "The account that may hand over WAL (`wal push`), beside root and the agent's own.",
    ),
    Key::with_default(
        "nice",
        number(0, 19),
        "0",
        "How much the agent gives way to other processes.",
    ),
    Key::optional(
        "metrics",
        Text,
        "The address and port at which the agent tells metrics, such as 127.0.0.1:9532.",
    ),
    Key::with_default(
        "beat",
        duration(0, DAY),
        "5m",
        "How often the agent writes a signed beat into the bucket, which `drctl watch` reads; 0s: never.",
    ),
    Key::optional(
        "ping_url",
        Secret,
        "Where the agent tells every five minutes that it lives, as healthchecks.io takes it.",
    ),
];

/// The shortest time from one beat to the next.
const LEAST_BEAT: Duration = Duration::from_secs(10);

/// How the service runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentSettings {
    /// Jobs that run at once, streams and verify apart. 1 to 64.
    pub jobs_at_once: usize,
    /// How long running jobs may take to end when the agent is stopped. 1 second to 1 day.
    #[serde(rename = "stop_timeout_seconds", serialize_with = "as_seconds")]
    pub stop_timeout: Duration,
    /// Where it is spoken with; `None`: `agent.sock` in the runtime directory.
    pub socket: Option<PathBuf>,
    /// The group whose members may talk to it, beside root and its own account.
    pub socket_group: Option<String>,
    /// The group whose members may also have it remove, restore in drills, and read its configuration.
    pub admin_group: Option<String>,
    /// The account that may hand over log, beside root and its own.
    pub push_user: Option<String>,
    /// How much it gives way to other processes. 0 to 19.
    pub nice: i32,
    /// Where it tells metrics; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// How often it writes a beat into the bucket. 10 seconds to 1 day; zero: never.
    #[serde(rename = "beat_seconds", serialize_with = "as_seconds")]
    pub beat: Duration,
    /// Where it tells that it lives.
    pub ping_url: Option<SecretRef>,
}

/// Reads `[agent]`.
pub(crate) fn read(reader: &Reader<'_>) -> Option<AgentSettings> {
    let (jobs_at_once, nice) = (reader.number("jobs_at_once"), reader.number("nice"));
    let (stop_timeout, beat) = (reader.duration("stop_timeout"), read_beat(reader));
    let (socket_group, metrics) =
        (read_name(reader, "socket_group", "group"), read_metrics(reader));
    let admin_group = read_name(reader, "admin_group", "group");
    let push_user = read_name(reader, "push_user", "passwd");
    Some(AgentSettings {
        jobs_at_once: jobs_at_once?,
        stop_timeout: stop_timeout?,
        socket: reader.path("socket"),
        socket_group,
        admin_group,
        push_user,
        nice: nice?,
        metrics,
        beat: beat?,
        ping_url: reader.secret("ping_url"),
    })
}

/// Each beat is an object, and a request or two.
fn read_beat(reader: &Reader<'_>) -> Option<Duration> {
    let beat = reader.duration("beat")?;
    if beat.is_zero() || beat >= LEAST_BEAT {
        return Some(beat);
    }
    let message = "`beat` is too short: each beat is an object in the bucket";
    let advice = "write 10s or more, or 0s for no beats";
    reader.report.advise(&reader.span_of_key("beat"), message, advice);
    None
}

/// The name of a group or an account, of which the file of this name below `/etc` tells.
pub(crate) fn read_name(reader: &Reader<'_>, key: &'static str, of: &str) -> Option<String> {
    let text = reader.text(key)?;
    let word = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if text.value.len() <= 32 && text.value.chars().all(word) {
        return Some(text.value.to_owned());
    }
    let what = if of == "group" { "a group" } else { "an account" };
    let message = format!("`{}` is no name of {what}", show(text.value));
    reader.report.advise(&text.span, message, format!("write one name, as /etc/{of} has it"));
    None
}

fn read_metrics(reader: &Reader<'_>) -> Option<SocketAddr> {
    let text = reader.text("metrics")?;
    let found = text.value.parse().ok();
    if found.is_none() {
        let message = format!("`{}` is no address with a port", show(text.value));
        reader.report.advise(&text.span, message, "write for example \"127.0.0.1:9532\"");
    }
    found
}
