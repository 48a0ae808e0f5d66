//! How a source's log comes into the bucket, for engines whose sources have one.

use std::time::Duration;

use serde::Serialize;

use super::has_key;
use crate::diagnostic::show;
use crate::keys::Kind::{Choice, Flag, Text};
use crate::keys::{HOUR, Key, duration};
use crate::reader::Reader;
use crate::units::as_seconds;

pub(super) const LOG: &[Key] = &[
    Key::with_default(
        "log",
        Choice(&["none", "push", "stream", "synchronous"]),
        "none",
        "base_backup, pgbackrest: who brings WAL into drctl's bucket: nobody, the server's \
         archive_command (`wal push`), or the agent, which streams it, `synchronous` so that \
         commits may wait for it.",
    ),
    Key::optional(
        "log_slot",
        Text,
        "base_backup, pgbackrest: the replication slot of the stream; default: drctl_ and the \
         source's name.",
    ),
    Key::with_default(
        "log_heartbeat",
        duration(0, HOUR),
        "0s",
        "base_backup, pgbackrest: how often the stream commits a small message, so that you can \
         recover to a recent time on an idle server too; 0s: never.",
    ),
    Key::with_default(
        "log_heartbeat_table",
        Flag,
        "false",
        "base_backup, pgbackrest: write it into the table drctl.heartbeat, too.",
    ),
];

/// Who brings a source's log into the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogWay {
    /// Nobody.
    None,
    /// The server, segment by segment.
    Push,
    /// The agent, as it is written.
    Stream,
    /// The agent, and every flush is stored and confirmed at once, so that commits may wait for it.
    Synchronous,
}

impl LogWay {
    /// Whether the agent streams it.
    #[must_use]
    pub fn is_stream(self) -> bool {
        matches!(self, LogWay::Stream | LogWay::Synchronous)
    }
}

/// How a source's log comes into the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogSettings {
    /// Who brings it.
    #[serde(rename = "log")]
    pub way: LogWay,
    /// The stream's slot; `None`: named after the source.
    #[serde(rename = "log_slot")]
    pub slot: Option<String>,
    /// How often the stream commits a small message; 0: never. Up to 1 hour.
    #[serde(rename = "log_heartbeat_seconds", serialize_with = "as_seconds")]
    pub heartbeat: Duration,
    /// Whether it is written into a table, too.
    #[serde(rename = "log_heartbeat_table")]
    pub heartbeat_table: bool,
}

/// Reads it.
pub(super) fn read_log(reader: &Reader<'_>) -> Option<LogSettings> {
    let way = match reader.choice("log") {
        Some("push") => Some(LogWay::Push),
        Some("stream") => Some(LogWay::Stream),
        Some("synchronous") => Some(LogWay::Synchronous),
        Some(_) => Some(LogWay::None),
        None => None,
    };
    let (slot, heartbeat) = (read_slot(reader), reader.duration("log_heartbeat"));
    let heartbeat_table = reader.flag("log_heartbeat_table");
    // Keys that another engine does not know are refused as a whole.
    if has_key(reader, "log") && way.is_some_and(|way| !way.is_stream()) {
        for key in ["log_slot", "log_heartbeat", "log_heartbeat_table"] {
            if reader.has(key) {
                let message = format!("`{key}` has no effect: the agent does not stream this log");
                let advice = "remove it, or set `log = \"stream\"`";
                reader.report.advise(&reader.span_of_key(key), message, advice);
            }
        }
    } else if heartbeat_table == Some(true) && heartbeat == Some(Duration::ZERO) {
        let message = "`log_heartbeat_table` has no effect: there is no heartbeat";
        let advice = "remove it, or set `log_heartbeat`";
        reader.report.advise(&reader.span_of_key("log_heartbeat_table"), message, advice);
    }
    Some(LogSettings { way: way?, slot, heartbeat: heartbeat?, heartbeat_table: heartbeat_table? })
}

/// As PostgreSQL names slots.
fn read_slot(reader: &Reader<'_>) -> Option<String> {
    let text = reader.text("log_slot")?;
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if text.value.len() <= 63 && text.value.bytes().all(word) {
        return Some(text.value.to_owned());
    }
    let message = format!("`{}` is no name of a slot", show(text.value));
    reader.report.advise(&text.span, message, "1 to 63 of a-z, 0-9 and _");
    None
}
