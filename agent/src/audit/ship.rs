//! Ships entries into the bucket: what is there was written once, and is signed.

use std::fs::File;
use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use drctl_model::{
    AuditBatch, AuditLogId, Header, MAX_AUDIT_ENTRIES, MAX_AUDIT_SHIFT, NO_ENTRY, shown,
};
use drctl_store::{StoreError, encode_audit_batch, layout};
use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};

use super::bucket::{entries_of, listed, newest, part};
use super::chain::{At, Break, BreakKind, Link, differs, walk};
use super::file::Log;
use super::mark::{Mark, cut, forked, keep, lost, read_mark, shipped};
use crate::host::locks::wait_for;
use crate::host::{AgentError, Setup};
use crate::repository::Repository;
use crate::repository::faults::{is_bad_manifest, is_missing, is_newer};

/// The most bytes of the lines of one part.
const MOST: usize = 512 << 10;

/// For how long a command stays for it that is done otherwise.
const SOON: Duration = Duration::from_secs(10);

/// How long another process may ship before that is an error, and how soon it is looked again.
const OTHERS: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(50);

/// How the log stands against the bucket, as far as this host knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The log; nothing where there is none.
    pub(crate) log: Option<AuditLogId>,
    /// Its last entry.
    pub(crate) last: u64,
    /// The last one that is in the bucket.
    pub(crate) shipped: u64,
    /// When the oldest was written that is not.
    pub(crate) since: Option<Timestamp>,
    /// What is wrong with it.
    pub(crate) problem: Option<String>,
}

/// Looks how the log stands.
pub(crate) fn standing(setup: &Setup) -> Standing {
    looked(setup).unwrap_or_else(|error| Standing {
        problem: Some(match error.downcast_ref() {
            Some(AgentError::AuditBroken(text)) => text.clone(),
            _ => format!("the audit log cannot be read: {error:#}"),
        }),
        ..Standing::default()
    })
}

fn looked(setup: &Setup) -> Result<Standing> {
    let log = Log::of(setup);
    let (mark, unread) = match read_mark(setup) {
        Ok(mark) => (mark, None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let Some(last) = log.tail()?.and_then(|tail| tail.last) else {
        let problem = unread.or_else(|| lost(mark.as_ref(), None));
        return Ok(Standing { problem, ..Standing::default() });
    };
    let id = last.entry.log.clone();
    let back = is_short(&last, mark.as_ref()).map(|found| told(&found));
    let gone = unread.or(back).or_else(|| lost(mark.as_ref(), Some(&id)));
    let mark = mark.filter(|mark| mark.log == id);
    let mark = mark.unwrap_or_else(|| Mark::begin(id.clone()));
    let mut standing = Standing {
        log: Some(id),
        last: last.entry.seq,
        shipped: mark.seq,
        since: None,
        problem: mark.problem.clone().or(gone),
    };
    match rest(&log, &mark, &last)? {
        Ok(links) => {
            // One whose line has no end yet is not there either.
            let open = || (last.entry.seq > mark.seq).then_some(last.entry.at);
            standing.since = links.first().map(|link| link.entry.at).or_else(open);
        }
        Err(found) => standing.problem = Some(told(&found)),
    }
    Ok(standing)
}

/// What is behind a mark, in a log with this last entry.
fn rest(log: &Log, mark: &Mark, last: &Link) -> Result<Result<Vec<Link>, Break>> {
    let (seq, shipped) = (last.entry.seq, mark.seq);
    if seq < shipped {
        return Ok(Err(cut(seq, shipped)));
    }
    if seq == shipped && last.sha256 != mark.head {
        return Ok(Err(forked(seq)));
    }
    // The last entry that was shipped is known whole only where none came behind it.
    let known = if seq == shipped { format!("{}\n", last.line) } else { String::new() };
    let text = log.read(mark.offset.saturating_sub(known.len() as u64))?.unwrap_or_default();
    let behind = match text == last.line.as_bytes() && seq == shipped {
        // Its end was cut, and nothing else: the next one who writes adds it.
        true => Some(&[][..]),
        false => text.strip_prefix(known.as_bytes()),
    };
    let Some(behind) = behind else {
        let text = format!("an entry before {seq} has another length than when it was shipped");
        return Ok(Err(Break::new(seq, BreakKind::Altered, text)));
    };
    let mut walked = walk(behind, mark.at());
    let reached = walked.links.last().map_or(shipped, |link| link.entry.seq);
    if walked.broken.is_none() && reached < seq {
        let text = format!("behind entry {shipped}, which was shipped last, stands no entry");
        return Ok(Err(Break::new(shipped + 1, BreakKind::Altered, text)));
    }
    // A line without its end may still be written: it goes when the next one is behind it.
    if !behind.ends_with(b"\n") {
        walked.links.retain(|link| link.end < behind.len());
    }
    Ok(walked.broken.map_or(Ok(walked.links), Err))
}

/// That a log, which another one had followed, has come back shorter than it was shipped.
fn is_short(last: &Link, mark: Option<&Mark>) -> Option<Break> {
    let (seq, shipped) = (last.entry.seq, shipped(mark, &last.entry.log));
    (seq < shipped).then(|| cut(seq, shipped))
}

fn told(found: &Break) -> String {
    format!(
        "the audit log is not what was written: {} ({}); nothing of it is shipped any more: see `drctl audit \
         verify --bucket`",
        shown(&found.text, 300),
        found.kind.as_str()
    )
}

/// Ships what is not in the bucket yet. Gives how many entries went.
///
/// # Errors
/// A log that was changed, which status tells from then on; the store's, the key's, the file system's.
pub(crate) async fn ship(setup: &Setup, repository: &Repository) -> Result<u64> {
    let log = Log::of(setup);
    // Two at once would write parts that overlap.
    let _shipping = alone(&log).await?;
    // First: whoever writes meanwhile may be ahead of what the end of the log was.
    let mark = read_mark(setup)?;
    let Some(newest) = log.tail()?.and_then(|tail| tail.last) else {
        let gone = lost(mark.as_ref(), None);
        return gone.map_or(Ok(0), |text| Err(AgentError::AuditBroken(text).into()));
    };
    if let Some(found) = is_short(&newest, mark.as_ref()) {
        let mark = mark.unwrap_or_else(|| Mark::begin(newest.entry.log.clone()));
        return Err(refused(setup, mark, &found));
    }
    // What stays back for it is told when all else is shipped.
    let closed = log.close();
    let shipped = ship_behind(setup, repository, &log, mark, newest).await?;
    closed.map(|()| shipped)
}

/// Ships what is behind the mark, up to at least the newest entry.
async fn ship_behind(
    setup: &Setup,
    repository: &Repository,
    log: &Log,
    mark: Option<Mark>,
    mut newest: Link,
) -> Result<u64> {
    let id = newest.entry.log.clone();
    let (known, other) = mark.map_or((None, None), |mark| mark.of(&id));
    let is_there = |mark: &Mark| mark.head == newest.sha256 && mark.problem.is_none();
    if let Some(mark) = known.as_ref().filter(|mark| is_there(mark)) {
        return match rest(log, mark, &newest)? {
            Ok(_) => Ok(0),
            Err(found) => Err(refused(setup, mark.clone(), &found)),
        };
    }
    let is_new = known.is_none();
    let mut mark = match known {
        Some(mark) => mark,
        None => match found(setup, log, repository, &id).await? {
            Ok(mark) => mark.after(other),
            Err(broken) => return Err(refused(setup, Mark::begin(id).after(other), &broken)),
        },
    };
    if is_new {
        // Others may have written meanwhile.
        newest = log.tail()?.and_then(|tail| tail.last).unwrap_or(newest);
    }
    let begin = mark.seq;
    loop {
        let links = match rest(log, &mark, &newest)? {
            Ok(links) => fitting(links),
            Err(found) => return Err(refused(setup, mark, &found)),
        };
        let Some(last) = links.last() else { break };
        match put(setup, repository, &mark, &links).await? {
            Ok(()) => mark = mark.behind(last),
            Err(found) => match contradicted(&links, &found) {
                Some(broken) => return Err(refused(setup, mark, &broken)),
                // Somebody else of this host shipped these, and maybe more.
                None => {
                    let both = links
                        .iter()
                        .rfind(|link| found.iter().any(|there| there.entry.seq == link.entry.seq));
                    let both =
                        both.context("the part in the bucket holds none of these entries")?;
                    mark = mark.behind(both);
                }
            },
        }
        keep(setup, &mark)?;
        // Others may have written behind it since its end was looked at.
        if mark.seq >= newest.entry.seq {
            break;
        }
    }
    if mark.problem.take().is_some() || is_new {
        keep(setup, &mark)?;
    }
    Ok(mark.seq.saturating_sub(begin))
}

/// Waits until no other process of this host ships.
async fn alone(log: &Log) -> Result<Option<File>> {
    let Some(lock) = log.shipping()? else { return Ok(None) };
    let until = Instant::now() + OTHERS;
    loop {
        match wait_for(&lock, Duration::ZERO) {
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            taken => {
                taken.context("take the lock of whoever ships the audit log")?;
                return Ok(Some(lock));
            }
        }
        if Instant::now() >= until {
            return Err(anyhow!(
                "another process of this host ships the audit log, and takes long: try again"
            ));
        }
        sleep(AGAIN).await;
    }
}

/// Notes what is wrong, and says it.
fn refused(setup: &Setup, mark: Mark, found: &Break) -> anyhow::Error {
    let why = told(found);
    let noted = keep(setup, &Mark { problem: Some(why.clone()), ..mark });
    let _ = noted.inspect_err(|error| tracing::debug!("this is not noted: {error:#}"));
    AgentError::AuditBroken(why).into()
}

/// As many of them as one part may hold.
fn fitting(mut links: Vec<Link>) -> Vec<Link> {
    let mut bytes = 0;
    let fits = |link: &Link| {
        bytes += link.line.len();
        bytes <= MOST
    };
    let count = links.iter().map(fits).take_while(|fits| *fits).count();
    links.truncate(count.min(MAX_AUDIT_ENTRIES));
    links
}

/// Where entries are other ones than those in the bucket with their numbers.
fn contradicted(links: &[Link], there: &[Link]) -> Option<Break> {
    let last = links.last().map_or(0, |link| link.entry.seq);
    differs(links, there).filter(|broken| broken.seq <= last)
}

/// Writes a part; what this host has already written of the same entries, where it has. What somebody
/// else wrote under its number keeps it from nothing: the next number is taken.
async fn put(
    setup: &Setup,
    repository: &Repository,
    mark: &Mark,
    links: &[Link],
) -> Result<Result<(), Vec<Link>>> {
    let (key, first) = (setup.signing_key()?, mark.seq + 1);
    repository.may_write().await?;
    let batch = AuditBatch {
        header: Header::new([]),
        repository: repository.id.clone(),
        log: mark.log.clone(),
        host: setup.host(),
        first,
        last: mark.seq + links.len() as u64,
        prev: mark.head,
        head: links.last().map_or(NO_ENTRY, |link| link.sha256),
        entries: links.iter().map(|link| link.line.clone()).collect(),
        at: setup.clock.now(),
    };
    let bytes = encode_audit_batch(&batch, &key).context("sign entries of the audit log")?;
    let bytes = Bytes::from(bytes);
    for number in first..=first + MAX_AUDIT_SHIFT {
        let place = layout::audit_batch(&mark.log, number);
        match repository.bucket.put_read_back(&place, bytes.clone()).await {
            Err(StoreError::Conflict { .. }) => {}
            put => {
                put.context("write entries of the audit log")?;
                return Ok(Ok(()));
            }
        }
        match part(repository, &mark.log, number).await {
            // The part before lies here, for the same reason.
            Ok((there, by)) if there.last < first && by == key.verifying_key() => {}
            Ok((there, by)) => {
                let there = entries_of(&there);
                if by == key.verifying_key() || contradicted(links, &there).is_none() {
                    return Ok(Err(there));
                }
                let by = shown(repository.trust.name(&by).as_str(), 100);
                tracing::warn!(
                    "{place} is signed by {by} and is not from this host's audit log, which goes on behind \
                     it: find out why that key writes there"
                );
            }
            Err(error) if is_missing(&error) => {}
            Err(error) if is_bad_manifest(&error) && !is_newer(&error) => {
                let why = shown(&format!("{error:#}"), 300);
                tracing::warn!(
                    "{place} is not from this host's audit log, which goes on behind it ({why}): find out \
                     who may write into the bucket"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Err(anyhow!(
        "no number is left for entries of this host's audit log: all are taken by objects that are not from \
         it. The log stays on this host, and nothing was shipped: find out who may write into the bucket, and \
         remove these objects with the bucket's own client"
    ))
}

/// Up to where the bucket has a log, of which this host noted nothing.
async fn found(
    setup: &Setup,
    log: &Log,
    repository: &Repository,
    id: &AuditLogId,
) -> Result<Result<Mark, Break>> {
    let begin = Mark::begin(id.clone());
    let numbers = listed(repository, Some(id)).await?.remove(id).unwrap_or_default();
    if numbers.is_empty() {
        return Ok(Ok(begin));
    }
    // What others have signed says nothing of how far this host has come.
    let ours = setup.signing_key()?.verifying_key();
    let Some((there, _)) = newest(repository, id, &numbers, |part| part.1 == ours).await? else {
        return Ok(Ok(begin));
    };
    let walked = walk(&log.read(0)?.unwrap_or_default(), At::begin());
    if let Some(broken) = walked.broken.or_else(|| differs(&walked.links, &entries_of(&there))) {
        return Ok(Err(broken));
    }
    let last = walked.links.iter().find(|link| link.entry.seq == there.last);
    Ok(Ok(last.map_or(begin.clone(), |link| begin.behind(link))))
}

/// Ships at the end of a command, unless that takes long: the next one tries again.
pub(crate) async fn ship_soon(setup: &Setup) {
    let shipping = async { ship(setup, &setup.repository().await?).await };
    match timeout(SOON, shipping).await {
        Ok(Ok(_)) => {}
        // Of a bucket that cannot be written into status tells what it lacks.
        Ok(Err(error)) => {
            let noted = || read_mark(setup).ok().flatten().and_then(|mark| mark.problem);
            match error.downcast_ref() {
                Some(AgentError::AuditBroken(why)) => tracing::warn!("{why}"),
                _ => match noted() {
                    Some(why) => tracing::warn!("{why}"),
                    None => tracing::debug!("the audit log is not shipped: {error:#}"),
                },
            }
        }
        Err(_) => tracing::debug!("the audit log is not shipped: the bucket is slow"),
    }
}
