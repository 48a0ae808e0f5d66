//! A source's log as it lies in the bucket: every piece, and that the pieces make one chain.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use drctl_engines::pg::wal::WalWalker;
use drctl_model::{
    LogPart, LogPiece, LogPlace, Lsn, SourceId, Timeline, WalPart, WalPlace, WalSegmentSize,
};
use drctl_store::{Identities, layout};
use futures_util::{StreamExt as _, stream};
use tokio::sync::Semaphore;

use super::LogStore;
use super::indexed::Indexed;
use super::pieces::Signer;
use crate::host::{Exit, Failure, Limits};
use crate::repository::faults::is_bad_manifest;
use crate::repository::memory::CONTRADICTS;
use crate::repository::{Repository, drills};
use crate::transfer::download::is_wrong_key;

/// What was found out about a source's log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogVerdict {
    /// Pieces that were looked at.
    pub pieces: u64,
    /// Stored bytes that were read and compared.
    pub read_bytes: u64,
    /// Whether the records in them were checked too.
    pub opened: bool,
    /// Pieces that no identity at hand opens: their stored bytes were compared.
    pub closed: u64,
    /// What is wrong, each with its stable code; empty when nothing is.
    pub problems: Vec<(String, String)>,
    /// What is missing before a later base backup: nothing that can be mended.
    pub covered: Vec<String>,
    /// How many pieces each key has signed, by what people call it.
    pub signers: BTreeMap<String, u64>,
}

impl LogVerdict {
    /// Whether an index contradicts the heads.
    #[must_use]
    pub fn is_contradicted(&self) -> bool {
        self.problems.iter().any(|(code, _)| code == CONTRADICTS)
    }
}

/// A chain of records under way.
struct Chain {
    of: (u64, Timeline),
    walker: WalWalker,
    reach: Lsn,
}

/// What was read of one piece.
enum Looked {
    /// Its head alone.
    Head,
    /// Its stored bytes, so many of them.
    Stored(u64),
    /// The same, because no identity at hand opens it.
    Closed(Result<u64>),
    /// Its plain bytes too, of so many stored ones of a log with segments of this size.
    Opened(u64, Option<WalSegmentSize>, Vec<u8>),
}

/// How much of a piece is read.
#[derive(Clone, Copy)]
enum Depth<'a> {
    Head,
    Stored,
    Opened(&'a Identities),
}

/// Looks at all log of a source: signatures and places of every piece; with `data` every stored
/// byte; with an identity every record too, across the pieces. Several pieces are read at once, and
/// told of in their order.
///
/// # Errors
/// Only what keeps it from looking: [`StoreError`](drctl_store::StoreError) of a bucket that cannot
/// be listed or read. What is wrong with the log is in the verdict.
pub async fn verify_log(
    repository: &Repository,
    source: &SourceId,
    data: bool,
    identities: Option<&Identities>,
    limits: Limits,
) -> Result<LogVerdict> {
    let opening = Some(Arc::new(Semaphore::new(limits.seals.max(1))));
    let log_store = LogStore { opening, ..LogStore::reader(repository, source) };
    let mut verdict = LogVerdict { opened: data && identities.is_some(), ..LogVerdict::default() };
    let indexes = log_store.index_places().await?;
    let mut indexed = Indexed::default();
    let reading = indexes.iter().map(async |index| (log_store.signed_index(index).await, index));
    let mut reading = stream::iter(reading).buffered(limits.fetches.max(1));
    while let Some((read, index)) = reading.next().await {
        match read {
            Ok((pieces, signer)) => indexed.add(index, &pieces, signer),
            Err(error) => note(&mut verdict, error)?,
        }
    }
    let mut refused = Vec::new();
    drills(repository, source, &mut refused).await?;
    let evidence = refused.into_iter().map(|one| (one.code.to_owned(), one.text));
    verdict.problems.extend(evidence);
    let depth = match identities {
        _ if !data => Depth::Head,
        None => Depth::Stored,
        Some(identities) => Depth::Opened(identities),
    };
    verify_pieces(&log_store, (depth, limits), &mut indexed, &mut verdict).await?;
    verdict.problems.extend(indexed.problems(&log_store));
    verdict.opened &= verdict.closed == 0;
    Ok(verdict)
}

async fn verify_pieces(
    log_store: &LogStore,
    (depth, limits): (Depth<'_>, Limits),
    indexed: &mut Indexed,
    verdict: &mut LogVerdict,
) -> Result<()> {
    let places = log_store.sized().await?;
    let at_once = at_once(places.iter().map(|(place, _)| place), depth, limits);
    let looking = places.into_iter().map(|(place, bytes)| {
        // Each tells who has signed what it read itself.
        let log_store = LogStore { signer: Signer::default(), ..log_store.clone() };
        async move {
            let looked = look(&log_store, &place, bytes, depth).await;
            (looked, log_store.signer.take(), place)
        }
    });
    let mut looking = stream::iter(looking).buffered(at_once);
    let mut chain = None;
    while let Some((looked, signer, place)) = looking.next().await {
        verdict.pieces += 1;
        let found = verdict.problems.len();
        let taken = looked.and_then(|(looked, head)| {
            head.into_iter().for_each(|head| indexed.compare(head));
            take_in(log_store, &place, looked, &mut chain, verdict)
        });
        if let Err(error) = taken {
            note(verdict, error)?;
            chain = None;
        }
        let Some(signer) = signer else { continue };
        let signer = log_store.repository.trust.name(&signer);
        for (_, message) in &mut verdict.problems[found..] {
            message.push_str(&format!("; {signer} has signed it"));
        }
        *verdict.signers.entry(signer).or_default() += 1;
    }
    Ok(())
}

/// How many pieces are read at once: as many as may be fetched at once, and of long ones no more
/// than take the room of as many segments of a backup.
fn at_once<'a>(
    places: impl Iterator<Item = &'a LogPlace>,
    depth: Depth<'_>,
    limits: Limits,
) -> usize {
    let most = limits.fetches.max(1);
    let plain = |place: &LogPlace| match place.part {
        LogPart::Range { start, end } if place.wal().is_some() => end.0 - start.0,
        LogPart::Range { .. } | LogPart::Note { .. } => 0,
    };
    match (depth, places.map(plain).max()) {
        (Depth::Stored | Depth::Opened(_), Some(longest @ 1..)) => {
            let room = limits.segment_bytes.saturating_mul(most as u64);
            usize::try_from(room / longest).unwrap_or(usize::MAX).clamp(1, most)
        }
        _ => most,
    }
}

/// What is wrong with one object is a finding; a bucket that cannot be reached is an error.
fn note(verdict: &mut LogVerdict, error: anyhow::Error) -> Result<()> {
    let failure = Failure::of(&error);
    if !matches!(failure.exit, Exit::Verification | Exit::Key) && !is_bad_manifest(&error) {
        return Err(error);
    }
    verdict.problems.push((failure.code.to_owned(), failure.messages.join(": ")));
    Ok(())
}

/// Looks at a piece whose object has this length in the list; gives its head too.
async fn look(
    log_store: &LogStore,
    place: &LogPlace,
    bytes: Option<u64>,
    depth: Depth<'_>,
) -> Result<(Looked, Option<LogPiece>)> {
    let stored = async || log_store.stored_size(place).await;
    Ok(match depth {
        Depth::Head => (Looked::Head, Some(log_store.head_of_length(place, bytes).await?)),
        Depth::Stored => {
            let head = stored().await?;
            (Looked::Stored(head.sealed), Some(head))
        }
        Depth::Opened(identities) => match log_store.read(place, identities).await {
            Ok((head, plain)) => {
                (Looked::Opened(head.sealed, head.holds.segment_size(), plain), Some(head))
            }
            Err(error) if is_wrong_key(&error) => match stored().await {
                Ok(head) => (Looked::Closed(Ok(head.sealed)), Some(head)),
                Err(error) => (Looked::Closed(Err(error)), None),
            },
            Err(error) => return Err(error),
        },
    })
}

/// What was read counts; its records, where they were read, follow those before them.
fn take_in(
    log_store: &LogStore,
    place: &LogPlace,
    looked: Looked,
    chain: &mut Option<Chain>,
    verdict: &mut LogVerdict,
) -> Result<()> {
    let (stored, size, plain) = match looked {
        Looked::Head => return Ok(()),
        Looked::Stored(bytes) => {
            verdict.read_bytes = verdict.read_bytes.saturating_add(bytes);
            return Ok(());
        }
        Looked::Closed(bytes) => {
            *chain = None;
            verdict.closed = verdict.closed.saturating_add(1);
            verdict.read_bytes = verdict.read_bytes.saturating_add(bytes?);
            return Ok(());
        }
        Looked::Opened(stored, size, plain) => (stored, size, plain),
    };
    verdict.read_bytes = verdict.read_bytes.saturating_add(stored);
    if let Some((WalPlace { system_id, timeline, part }, size)) = place.wal().zip(size)
        && let WalPart::Range { start, .. } = part
    {
        let done = follow(chain, (system_id, timeline), start, size, &plain);
        if let Err(error) = done {
            let key = layout::piece(&log_store.source, place);
            let text = format!("{key}: WAL of timeline {timeline}: {error}");
            verdict.problems.push(("log_damaged".to_owned(), text));
        }
    }
    Ok(())
}

/// Goes on with the chain where the piece does; begins anew at a segment behind a gap, which is
/// for `drctl timeline` to tell.
fn follow(
    chain: &mut Option<Chain>,
    of: (u64, Timeline),
    start: Lsn,
    size: WalSegmentSize,
    plain: &[u8],
) -> Result<(), drctl_engines::pg::wal::WalError> {
    let end = start.plus(plain.len() as u64);
    let goes_on = chain.as_ref().is_some_and(|chain| chain.of == of && start <= chain.reach);
    if !goes_on {
        *chain = (size.start_of(start) == start).then(|| Chain {
            of,
            walker: WalWalker::new(of.1, start, size),
            reach: start,
        });
    }
    let Some(under_way) = chain.as_mut().filter(|chain| end > chain.reach) else { return Ok(()) };
    let known = usize::try_from(under_way.reach.since(start)).unwrap_or(usize::MAX);
    let fed = under_way.walker.feed(plain.get(known..).unwrap_or_default());
    under_way.reach = end;
    if fed.is_err() {
        *chain = None;
    }
    fed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pieces_are_read_fewer_at_once() {
        let limits = Limits { segment_bytes: 100, fetches: 4, ..Limits::default() };
        let of = (7, Timeline::FIRST);
        let range = |bytes: u64| LogPlace::of_wal(of, (Lsn(1000), Lsn(1000 + bytes)));
        let history = LogPlace::of_history(of);
        for (bytes, expected) in [(0, 4), (1, 4), (100, 4), (101, 3), (200, 2), (201, 1), (900, 1)]
        {
            let places = [history.clone(), range(1), range(bytes), range(2)];
            assert_eq!(at_once(places.iter(), Depth::Stored, limits), expected, "{bytes}");
            // A head is short, whatever it is of.
            assert_eq!(at_once(places.iter(), Depth::Head, limits), 4);
        }
        assert_eq!(at_once([].iter(), Depth::Stored, limits), 4);
        assert_eq!(at_once([range(9)].iter(), Depth::Stored, Limits { fetches: 0, ..limits }), 1);
    }
}
