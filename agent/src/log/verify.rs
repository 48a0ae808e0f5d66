//! A source's log as it lies in the bucket: every piece, and that the pieces make one chain.

use std::collections::BTreeMap;

use anyhow::Result;
use drctl_engines::pg::wal::WalWalker;
use drctl_model::{LogPart, LogPlace, Lsn, SourceId, Timeline, WalSegmentSize};
use drctl_store::{Identities, layout};

use super::Shelf;
use crate::host::{Exit, Failure};
use crate::repository::faults::is_bad_manifest;
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
    /// What is missing before a later copy: nothing that can be mended.
    pub covered: Vec<String>,
    /// How many pieces each key has signed, by what people call it.
    pub signers: BTreeMap<String, u64>,
}

/// A chain of records under way.
struct Chain {
    of: (u64, Timeline),
    walker: WalWalker,
    reach: Lsn,
}

/// Looks at all log of a source: signatures and places of every piece; with `data` every stored
/// byte; with an identity every record too, across the pieces.
///
/// # Errors
/// Only what keeps it from looking. What is wrong with the log is in the verdict.
pub async fn verify_log(
    repository: &Repository,
    source: &SourceId,
    data: bool,
    identities: Option<&Identities>,
) -> Result<LogVerdict> {
    let shelf = Shelf::reader(repository, source);
    let mut verdict = LogVerdict { opened: data && identities.is_some(), ..LogVerdict::default() };
    for index in shelf.index_places().await? {
        if let Err(error) = shelf.log_index(&index).await {
            note(&mut verdict, error)?;
        }
    }
    let mut refused = Vec::new();
    drills(repository, source, &mut refused).await?;
    let evidence = refused.into_iter().map(|why| ("malformed".to_owned(), why));
    verdict.problems.extend(evidence);
    let mut chain = None;
    for place in shelf.places().await? {
        verdict.pieces += 1;
        let (found, _) = (verdict.problems.len(), shelf.signer.take());
        let looked = look(&shelf, &place, data, identities, &mut chain, &mut verdict).await;
        if let Err(error) = looked {
            note(&mut verdict, error)?;
            chain = None;
        }
        let Some(signer) = shelf.signer.take() else { continue };
        let signer = repository.trust.name(&signer);
        for (_, message) in &mut verdict.problems[found..] {
            message.push_str(&format!("; {signer} has signed it"));
        }
        *verdict.signers.entry(signer).or_default() += 1;
    }
    verdict.opened &= verdict.closed == 0;
    Ok(verdict)
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

async fn look(
    shelf: &Shelf,
    place: &LogPlace,
    data: bool,
    identities: Option<&Identities>,
    chain: &mut Option<Chain>,
    verdict: &mut LogVerdict,
) -> Result<()> {
    if !data {
        return shelf.head(place).await.map(drop);
    }
    let Some(identities) = identities else {
        verdict.read_bytes = verdict.read_bytes.saturating_add(shelf.weigh(place).await?.sealed);
        return Ok(());
    };
    let (head, plain) = match shelf.read(place, identities).await {
        Err(error) if is_wrong_key(&error) => {
            *chain = None;
            verdict.closed = verdict.closed.saturating_add(1);
            verdict.read_bytes =
                verdict.read_bytes.saturating_add(shelf.weigh(place).await?.sealed);
            return Ok(());
        }
        read => read?,
    };
    verdict.read_bytes = verdict.read_bytes.saturating_add(head.sealed);
    if let (LogPart::Range { start, .. }, Some(size)) = (&place.part, head.holds.segment_size) {
        let done = follow(chain, (place.system_id, place.timeline), *start, size, &plain);
        if let Err(error) = done {
            let key = layout::piece(&shelf.source, place);
            let text = format!("{key}: log of timeline {}: {error}", place.timeline);
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
