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
    Key::optional(
        "ping_url",
        Secret,
        "Where the agent tells every five minutes that it lives, as healthchecks.io takes it.",
    ),
];

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
    /// How much it gives way to other processes. 0 to 19.
    pub nice: i32,
    /// Where it tells metrics; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Where it tells that it lives.
    pub ping_url: Option<SecretRef>,
}

/// Reads `[agent]`.
pub(crate) fn read(reader: &Reader<'_>) -> Option<AgentSettings> {
    let (jobs_at_once, nice) = (reader.number("jobs_at_once"), reader.number("nice"));
    let stop_timeout = reader.duration("stop_timeout");
    let (socket_group, metrics) = (read_group(reader), read_metrics(reader));
    Some(AgentSettings {
        jobs_at_once: jobs_at_once?,
        stop_timeout: stop_timeout?,
        socket: reader.path("socket"),
        socket_group,
        nice: nice?,
        metrics,
        ping_url: reader.secret("ping_url"),
    })
}

fn read_group(reader: &Reader<'_>) -> Option<String> {
    let text = reader.text("socket_group")?;
    let word = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if text.value.len() <= 32 && text.value.chars().all(word) {
        return Some(text.value.to_owned());
    }
    let message = format!("`{}` is no name of a group", show(text.value));
    reader.report.advise(&text.span, message, "write one name, as /etc/group has it");
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
