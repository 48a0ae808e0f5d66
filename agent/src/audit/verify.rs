//! Whether audit logs are what was written: the local one by itself, against the bucket, and in files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use drctl_model::{AuditEntry, AuditLogId, RepositoryId, shown};
use drctl_store::{MAX_AUDIT_BATCH_BYTES, decode_audit_batch};

use super::bucket::{Part, Parts, Signed, listed, newest, signed};
use super::chain::{At, Break, BreakKind, Walked, differs, walk};
use super::file::Log;
use super::mark::{Mark, before_mark, lost, read_mark, shipped};
use crate::host::{AgentError, Setup, waited};
use crate::repository::Repository;

/// How many other logs of this host are looked at.
const OTHERS: usize = 1_000;

/// What was found of one log.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    pub(crate) log: Option<AuditLogId>,
    /// How many local entries there are, up to the first break.
    pub(crate) entries: u64,
    /// How many signed entries there are, where they were looked at.
    pub(crate) signed: Option<u64>,
    /// Whose keys signed them.
    pub(crate) signers: Vec<String>,
    /// What is wrong, the first place first.
    pub(crate) breaks: Vec<Break>,
    /// What is to be known beside it.
    pub(crate) notes: Vec<String>,
}

impl Verified {
    fn of_local(walked: &Walked) -> Self {
        let mut found = Verified {
            log: walked.links.first().map(|link| link.entry.log.clone()),
            entries: walked.links.len() as u64,
            breaks: walked.broken.iter().cloned().collect(),
            ..Verified::default()
        };
        let healed = |after: &u64| {
            format!("a line behind entry {after} was cut: the entry behind it names it")
        };
        found.notes.extend(walked.healed.iter().map(healed));
        let open = match (walked.unfinished, walked.is_cut) {
            (false, _) => None,
            (true, true) => Some("the last line was begun and not ended: the next entry names it"),
            (true, false) => {
                Some("the last entry is whole, but its line has no end: drctl adds it")
            }
        };
        found.notes.extend(open.map(str::to_owned));
        found
    }

    /// What is signed of it beside it; `local` is nothing where only that is looked at.
    fn with(mut self, local: Option<&Walked>, found: &Signed, setup: &Setup) -> Result<Self> {
        let trust = setup.trust()?;
        self.signed = Some(found.links.len() as u64);
        self.signers = found.keys.iter().map(|key| trust.name(key)).collect();
        self.breaks.extend(found.broken.clone());
        self.notes.extend(found.strangers.clone());
        // Behind its own first break a log has nothing that could be compared.
        let compared = local.and_then(|local| differs(&local.links, &found.links));
        let known = local.and_then(|local| local.broken.as_ref()).map(|at| at.seq);
        let news = compared.filter(|at| known.is_none_or(|seq| at.seq < seq));
        self.breaks.extend(news);
        self.breaks.sort_by_key(|at| at.seq);
        Ok(self)
    }
}

/// That its last entry is of another host: that was renamed, or the log is not its own.
fn of_another_host(walked: &Walked, setup: &Setup) -> Option<String> {
    let (last, ours) = (&walked.links.last()?.entry, setup.host());
    (last.host != ours).then(|| {
        format!(
            "its last entry is of the host {}, and this one is {ours}: it was renamed, or the log is another \
             host's",
            shown(&last.host, 100)
        )
    })
}

/// The local log, by itself.
///
/// # Errors
/// The file system's.
pub(crate) fn verify_local(setup: &Setup) -> Result<Verified> {
    // First: what is shipped meanwhile may be of a log that is new.
    let (mark, unread) = noted(setup);
    let text = Log::of(setup).read(0)?;
    let walked = walk(text.as_deref().unwrap_or_default(), At::begin());
    let mut found = Verified::of_local(&walked);
    found.notes.extend(of_another_host(&walked, setup));
    found.breaks.extend(before_mark(&walked, mark.as_ref()));
    let ours = ours(setup)?;
    found.breaks.extend(unread.or_else(|| gone(mark.as_ref(), ours.as_ref())));
    found.breaks.sort_by_key(|at| at.seq);
    if text.is_none() && found.breaks.is_empty() {
        let text = "this host has no audit log, and no note that it shipped one: whether there was one, \
                    `drctl audit verify --bucket` tells";
        found.notes.push(text.to_owned());
    }
    Ok(found)
}

/// Which log is here, by its last entry that can be read.
fn ours(setup: &Setup) -> Result<Option<AuditLogId>> {
    Ok(Log::of(setup).tail()?.and_then(|tail| tail.last).map(|last| last.entry.log))
}

/// What this host noted of what it shipped; that this cannot be read.
fn noted(setup: &Setup) -> (Option<Mark>, Option<Break>) {
    match read_mark(setup) {
        Ok(mark) => (mark, None),
        Err(why) => (None, Some(Break::new(0, BreakKind::Altered, format!("{why:#}")))),
    }
}

/// That a log of this host is gone of which entries were shipped.
fn gone(mark: Option<&Mark>, ours: Option<&AuditLogId>) -> Option<Break> {
    Some(Break::new(1, BreakKind::Cut, lost(mark, ours)?))
}

/// The local log, and what the bucket has of it.
///
/// # Errors
/// The file system's, the store's.
pub(crate) async fn verify_bucket(setup: &Setup, repository: &Repository) -> Result<Verified> {
    // The bucket before the log, and the mark before both: others write and ship meanwhile.
    let ((mark, unread), ours) = (noted(setup), ours(setup)?);
    let mut all = listed(repository, None).await?;
    // The first log of a host may have been begun and shipped meanwhile.
    let ours = ours.map_or_else(|| self::ours(setup), |ours| Ok(Some(ours)))?;
    let parts = ours.as_ref().and_then(|log| all.remove(log)).unwrap_or_default();
    let there = match &ours {
        Some(log) => Some((log, signed(repository, log, &parts).await?)),
        None => None,
    };
    let text = Log::of(setup).read(0)?.unwrap_or_default();
    let walked = walk(&text, At::begin());
    let mut found = Verified::of_local(&walked);
    found.notes.extend(of_another_host(&walked, setup));
    if let Some((log, signed)) = &there {
        found = found.with(Some(&walked), signed, setup)?;
        found.breaks.extend(cut_off(signed, shipped(mark.as_ref(), log)));
    }
    found.breaks.extend(unread.or_else(|| gone(mark.as_ref(), ours.as_ref())));
    for (log, parts) in all.iter().take(OTHERS) {
        let Some((there, _)) = newest(repository, log, parts, |_| true).await? else { continue };
        if there.host != setup.host() {
            continue;
        }
        let text = format!(
            "the bucket has another log of {}, {log}, with entries up to {} at {:.0}",
            there.host, there.last, there.at
        );
        if ours.is_some() {
            found.notes.push(format!(
                "{text}: an earlier installation, or somebody removed the file that held it"
            ));
            continue;
        }
        // That is told already.
        if shipped(mark.as_ref(), log) > 0 {
            continue;
        }
        let text = format!("{text}, and there is none here");
        found.breaks.push(Break::new(1, BreakKind::Cut, text));
    }
    found.breaks.sort_by_key(|at| at.seq);
    if let more @ 1.. = all.len().saturating_sub(OTHERS) {
        found.notes.push(format!("the bucket has {more} more logs, which were not looked at"));
    }
    Ok(found)
}

/// That the bucket lacks what this host shipped last: nothing that is left there tells of it.
fn cut_off(signed: &Signed, shipped: u64) -> Option<Break> {
    let last = signed.links.len() as u64;
    (signed.broken.is_none() && last < shipped).then(|| {
        let text = format!(
            "this host shipped entries up to {shipped}, and the bucket has none behind entry {last}: somebody \
             removed them. When that is explained, remove audit.shipped from the state directory, and `drctl \
             audit ship` ships them again"
        );
        Break::new(last + 1, BreakKind::Removed, text)
    })
}

/// Logs and signed parts in files, without the bucket. A local log among them is compared with its parts.
///
/// # Errors
/// The file system's; [`AgentError::Usage`] where the identifier of the repository is not configured.
pub(crate) fn verify_files(setup: &Setup, files: &[PathBuf]) -> Result<Vec<Verified>> {
    let (mut locals, mut parts) = (Vec::new(), BTreeMap::new());
    let mut refused = Vec::new();
    for file in files {
        let text = waited(|| std::fs::read(file));
        let text = text.with_context(|| format!("read {}", file.display()))?;
        if !is_envelope(&text) {
            let mut walked = walk(&text, At::begin());
            if walked.links.is_empty() && walked.broken.is_none() {
                let text = format!("{} holds no entry of an audit log", file.display());
                walked.broken = Some(Break::new(1, BreakKind::Altered, text));
            }
            locals.push(walked);
            continue;
        }
        match read_part(setup, &text)? {
            Ok(part) => {
                let of: &mut Parts = parts.entry(part.0.log.clone()).or_default();
                of.good.push((part.0.first, part));
            }
            Err(why) => {
                let text = format!("{} is not believed: {why}", file.display());
                let broken = Break::new(0, BreakKind::Signature, text);
                refused.push(Verified { breaks: vec![broken], ..Verified::default() });
            }
        }
    }
    let mut all = refused;
    for walked in &locals {
        let found = Verified::of_local(walked);
        let signed = found.log.as_ref().and_then(|log| parts.remove(log)).map(Signed::of);
        all.push(match signed {
            Some(signed) => found.with(Some(walked), &signed, setup)?,
            None => found,
        });
    }
    for (log, parts) in parts {
        let found = Verified { log: Some(log), ..Verified::default() };
        all.push(found.with(None, &Signed::of(parts), setup)?);
    }
    Ok(all)
}

/// Whether a text is one signed envelope, and no lines of a log.
fn is_envelope(text: &[u8]) -> bool {
    let object = serde_json::from_slice::<serde_json::Value>(text);
    object.is_ok_and(|object| object.get("payloadType").is_some())
}

/// A part in a file; why it is not believed.
fn read_part(setup: &Setup, bytes: &[u8]) -> Result<Result<Part, String>> {
    let Some(id): Option<&RepositoryId> = setup.config.repository.id.as_ref() else {
        let text = "signed parts are of a repository: set repository.id to its identifier";
        return Err(AgentError::Usage(text.to_owned()).into());
    };
    if bytes.len() > MAX_AUDIT_BATCH_BYTES {
        return Ok(Err(format!("it has more than {MAX_AUDIT_BATCH_BYTES} bytes")));
    }
    let read = decode_audit_batch(bytes, &setup.trust()?, id, None);
    Ok(read.map_err(|error| format!("{:#}", anyhow::Error::from(error))))
}

/// The entries of the local log up to the first break, and that.
///
/// # Errors
/// The file system's.
pub(crate) fn entries(setup: &Setup) -> Result<(Vec<AuditEntry>, Option<Break>)> {
    let (mark, unread) = noted(setup);
    let text = Log::of(setup).read(0)?.unwrap_or_default();
    let (walked, ours) = (walk(&text, At::begin()), ours(setup)?);
    let before = before_mark(&walked, mark.as_ref());
    let gone = before.or(unread).or_else(|| gone(mark.as_ref(), ours.as_ref()));
    let broken = walked.broken.or(gone);
    Ok((walked.links.into_iter().map(|link| link.entry).collect(), broken))
}
