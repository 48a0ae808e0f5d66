//! What this host notes of the log that it ships: a mark beside it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_model::{AuditLogId, Digest, NO_ENTRY};
use serde::{Deserialize, Serialize};

use super::chain::{At, Link};
use crate::host::{Setup, private, read_within};

/// What notes beside the log how much of it is in the bucket: a cache, for the bucket knows.
const MARK: &str = "audit.shipped";

/// The most bytes of it.
const MARK_BYTES: u64 = 64 << 10;

/// How many logs before it are remembered.
const MOST_BEFORE: usize = 100;

/// Up to where a log was shipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) log: AuditLogId,
    /// The last entry that was.
    pub(super) seq: u64,
    /// Its digest.
    pub(super) head: Digest,
    /// Where in the file its line ends.
    pub(super) offset: u64,
    /// Why no more of it is shipped.
    #[serde(default)]
    pub(super) problem: Option<String>,
    /// The logs before it, whose files are gone, and up to which entries they were shipped: until somebody has
    /// seen that.
    #[serde(default)]
    pub(super) before: Vec<(AuditLogId, u64)>,
}

impl Mark {
    pub(super) fn begin(log: AuditLogId) -> Self {
        Mark { log, seq: 0, head: NO_ENTRY, offset: 0, problem: None, before: Vec::new() }
    }

    /// The same that remembers a mark of another log.
    pub(super) fn after(self, other: Option<Mark>) -> Self {
        let before = other.map(Mark::shipped).unwrap_or_default();
        Mark { before, ..self }
    }

    /// All logs of which entries were shipped, and up to which.
    fn shipped(self) -> Vec<(AuditLogId, u64)> {
        let Mark { mut before, log, seq, .. } = self;
        before.retain(|(other, _)| *other != log);
        before.drain(..before.len().saturating_sub(MOST_BEFORE));
        before.extend((seq > 0).then_some((log, seq)));
        before
    }

    pub(super) fn at(&self) -> At {
        At { log: Some(self.log.clone()), seq: self.seq, head: self.head }
    }

    /// The same behind more entries, of what was read from its offset on.
    pub(super) fn behind(&self, link: &Link) -> Self {
        Mark {
            log: self.log.clone(),
            seq: link.entry.seq,
            head: link.sha256,
            offset: self.offset + link.end as u64,
            problem: None,
            before: self.before.clone(),
        }
    }
}

/// The mark of this host; nothing where there is none that can be read.
pub(super) fn read_mark(setup: &Setup) -> Option<Mark> {
    let text =
        read_within(&setup.config.paths.state_dir.join(MARK), MARK_BYTES, Duration::ZERO).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Up to which entry this host noted that it shipped a log.
pub(super) fn shipped(mark: Option<&Mark>, log: &AuditLogId) -> u64 {
    mark.filter(|mark| mark.log == *log).map_or(0, |mark| mark.seq)
}

/// What is to be said of logs that this host has shipped entries of, and that are not `ours`: they are gone.
pub(super) fn lost(mark: Option<Mark>, ours: Option<&AuditLogId>) -> Option<String> {
    let mut logs = mark?.shipped();
    logs.retain(|(log, _)| ours != Some(log));
    let (log, last) = logs.last()?;
    let more = match logs.len() - 1 {
        0 => String::new(),
        1 => " (and of another log before it)".to_owned(),
        more => format!(" (and of {more} other logs before it)"),
    };
    Some(format!(
        "this host shipped entries of the audit log {log} up to {last}{more}, and has none of it any more: find \
         out who or what removed it. `drctl audit verify --bucket` looks at what was shipped; when it is \
         explained, remove {MARK} from the state directory"
    ))
}

/// Keeps it.
pub(super) fn keep(setup: &Setup, mark: &Mark) -> Result<()> {
    let path = setup.config.paths.state_dir.join(MARK);
    private::directory(&setup.config.paths.state_dir)?;
    let text = serde_json::to_vec(mark).context("a mark is always JSON")?;
    private::store(&path, text).with_context(|| format!("write {}", path.display()))
}
