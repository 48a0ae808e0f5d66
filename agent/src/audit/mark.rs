//! What this host notes of the log that it ships: a mark beside it.

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_model::{AuditLogId, Digest, NO_ENTRY, shown};
use serde::{Deserialize, Serialize};

use super::chain::{At, Break, BreakKind, Link, Walked};
use crate::host::{AgentError, Setup, private, read_within};

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

    /// It, where it is of this log; else that it is of another one.
    pub(super) fn of(self, log: &AuditLogId) -> (Option<Self>, Option<Self>) {
        if self.log == *log { (Some(self), None) } else { (None, Some(self)) }
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

/// The mark of this host; nothing where there is none.
///
/// # Errors
/// [`AgentError::AuditBroken`] for one that cannot be read: it is not taken for none, and not written anew.
pub(super) fn read_mark(setup: &Setup) -> Result<Option<Mark>> {
    let path = setup.config.paths.state_dir.join(MARK);
    let read = match read_within(&path, MARK_BYTES, Duration::ZERO) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| error.to_string()),
    };
    let mark = read.and_then(|text| serde_json::from_slice(&text).map_err(|why| why.to_string()));
    mark.map(Some).map_err(|why| {
        let text = format!(
            "what this host has shipped of its audit log is not known: {} cannot be read ({}). Find out who or \
             what changed it; `drctl audit verify --bucket` compares the log with the bucket. When it is \
             explained, remove the file: `drctl audit ship` finds its place in the bucket again",
            path.display(),
            shown(&why, 200)
        );
        AgentError::AuditBroken(text).into()
    })
}

/// Up to which entry this host noted that it shipped a log.
pub(super) fn shipped(mark: Option<&Mark>, log: &AuditLogId) -> u64 {
    let mark = mark.map(|mark| mark.clone().shipped()).unwrap_or_default();
    mark.into_iter().find(|(of, _)| of == log).map_or(0, |(_, seq)| seq)
}

/// That a log ends before what was shipped of it, or has another entry there.
pub(super) fn before_mark(walked: &Walked, mark: Option<&Mark>) -> Option<Break> {
    let last = walked.links.last().filter(|_| walked.broken.is_none())?;
    let (log, seq) = (&last.entry.log, last.entry.seq);
    let shipped = shipped(mark, log);
    if seq < shipped {
        return Some(cut(seq, shipped));
    }
    let mark = mark.filter(|mark| mark.log == *log)?;
    let there = walked.links.iter().find(|link| link.entry.seq == mark.seq)?;
    if there.sha256 != mark.head {
        return Some(forked(mark.seq));
    }
    let (end, noted) = (there.end as u64, mark.offset);
    // The end of the last line may be cut, which the next one who writes adds.
    let is_open = walked.unfinished && there.entry.seq == seq && end + 1 == noted;
    (end != noted && !is_open).then(|| {
        let text = format!(
            "entry {} ends at byte {end}, and {MARK} says at byte {noted}: that note was changed",
            mark.seq
        );
        Break::new(mark.seq, BreakKind::Altered, text)
    })
}

/// That a log ends with this entry, and more was shipped.
pub(super) fn cut(seq: u64, shipped: u64) -> Break {
    let text =
        format!("the local log ends with entry {seq}, and entries up to {shipped} were shipped");
    Break::new(seq + 1, BreakKind::Cut, text)
}

/// That the last entry that was shipped is another one here.
pub(super) fn forked(seq: u64) -> Break {
    let text = format!("the local entry {seq} is another one than the one that was shipped");
    Break::new(seq, BreakKind::Fork, text)
}

/// What is to be said of logs that this host has shipped entries of, and that are not `ours`: they are gone.
pub(super) fn lost(mark: Option<&Mark>, ours: Option<&AuditLogId>) -> Option<String> {
    let mut logs = mark?.clone().shipped();
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

/// Keeps it, unless another process has come further meanwhile.
pub(super) fn keep(setup: &Setup, mark: &Mark) -> Result<()> {
    if read_mark(setup)?.is_some_and(|there| there.log == mark.log && there.seq > mark.seq) {
        return Ok(());
    }
    let path = setup.config.paths.state_dir.join(MARK);
    private::directory(&setup.config.paths.state_dir)?;
    let text = serde_json::to_vec(mark).context("a mark is always JSON")?;
    private::store(&path, text).with_context(|| format!("write {}", path.display()))
}
