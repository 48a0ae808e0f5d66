//! A source's log as it lies in the bucket: every piece, and what its engine says of their content.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use drctl_model::{Holds, Lineage, LogPart, LogPiece, LogPlace, SourceId};
use drctl_store::{Identities, layout};
use futures_util::{StreamExt as _, stream};
use tokio::sync::Semaphore;

use super::LogStore;
use super::indexed::Indexed;
use super::listing::Range;
use super::pieces::Signer;
use crate::host::{Exit, Failure, Limits};
use crate::repository::faults::{is_bad_manifest, is_missing, is_unsigned};
use crate::repository::memory::CONTRADICTS;
use crate::repository::{Repository, drills};
use crate::transfer::download::is_wrong_key;

/// So many of the longest pieces, or of the usual segments, further on no piece is ours, if none of those
/// between is there.
const FAR: u64 = 500;

/// As long as a whole unit of log is, where nobody set another size.
const USUAL: u64 = 16 << 20;

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
    /// Where it is not known whether log follows the log before it: nothing is wrong as far as is known.
    pub unproven: Vec<String>,
    /// How many pieces each key has signed, by what people call it.
    pub signers: BTreeMap<String, u64>,
    /// What is among the problems because nobody whom we trust has signed it.
    pub(crate) unsigned: Vec<Unsigned>,
}

/// Something that nobody whom we trust has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsigned {
    /// Under which keys it lies.
    pub(crate) keys: Vec<String>,
    /// Which piece it would be, where it would be one.
    pub(crate) place: Option<LogPlace>,
    /// As what it is among the problems.
    pub(crate) problem: (String, String),
    /// Whether log that is good shows that none can be missing there.
    pub(crate) needless: bool,
    /// Whether no piece of its lineage is good.
    pub(crate) alone: bool,
}

impl Unsigned {
    fn of(keys: Vec<String>, problem: (String, String)) -> Self {
        Unsigned { keys, place: None, problem, needless: false, alone: false }
    }
}

impl LogVerdict {
    /// Whether an index contradicts the heads.
    #[must_use]
    pub fn is_contradicted(&self) -> bool {
        self.problems.iter().any(|(code, _)| code == CONTRADICTS)
    }
}

/// How an engine checks what its log says, piece after piece in their order. Pieces of other engines'
/// logs may be among them: nothing is wrong with those.
pub(crate) trait Records {
    /// So many plain bytes a piece has, where its place tells; else 0.
    fn plain_bytes(&self, place: &LogPlace) -> u64;

    /// Checks the next piece; what is wrong with it, in words.
    fn check(&mut self, place: &LogPlace, holds: &Holds, plain: &[u8]) -> Result<(), String>;

    /// A piece was not read: what comes next follows nothing.
    fn interrupt(&mut self);
}

/// What was read of one piece.
enum Looked {
    /// Its head alone.
    Head,
    /// Its stored bytes, so many of them.
    Stored(u64),
    /// The same, because no identity at hand opens it.
    Closed(Result<u64>),
    /// Its plain bytes too, of so many stored ones.
    Opened(u64, Vec<u8>),
}

/// How much of a piece is read.
#[derive(Clone, Copy)]
enum Depth<'a> {
    Head,
    Stored,
    Opened(&'a Identities),
}

/// Looks at all log of a source: signatures and places of every piece; with `data` every stored
/// byte; with an identity every record too, across the pieces, by their engine. Several pieces are read at
/// once, and told of in their order.
///
/// # Errors
/// Only what keeps it from looking: [`StoreError`](drctl_store::StoreError) of a bucket that cannot
/// be listed or read. What is wrong with the log is in the verdict.
pub(crate) async fn verify(
    repository: &Repository,
    source: &SourceId,
    (data, identities, limits): (bool, Option<&Identities>, Limits),
    records: &mut impl Records,
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
            // It was deleted, and never was one.
            Err(error) if is_missing(&error) => {}
            Err(error) => {
                let unsigned = is_unsigned(&error);
                note(&mut verdict, error)?;
                let problem = verdict.problems.last().filter(|_| unsigned).cloned();
                let key = layout::log_index(source, index).to_string();
                verdict.unsigned.extend(problem.map(|problem| Unsigned::of(vec![key], problem)));
            }
        }
    }
    let mut refused = Vec::new();
    drills(repository, source, &mut refused).await?;
    for one in refused {
        let problem = (one.code.to_owned(), one.text);
        verdict.problems.push(problem.clone());
        if !one.unsigned.is_empty() {
            let keys = one.unsigned.iter().map(|id| layout::drill(source, id).to_string());
            verdict.unsigned.push(Unsigned::of(keys.collect(), problem));
        }
    }
    let depth = match identities {
        _ if !data => Depth::Head,
        None => Depth::Stored,
        Some(identities) => Depth::Opened(identities),
    };
    verify_pieces(&log_store, (depth, limits), records, &mut indexed, &mut verdict).await?;
    verdict.problems.extend(indexed.problems(&log_store));
    verdict.opened &= verdict.closed == 0;
    Ok(verdict)
}

async fn verify_pieces(
    log_store: &LogStore,
    (depth, limits): (Depth<'_>, Limits),
    records: &mut impl Records,
    indexed: &mut Indexed,
    verdict: &mut LogVerdict,
) -> Result<()> {
    let places = log_store.sized().await?;
    let longest = places.iter().map(|(place, _)| records.plain_bytes(place)).max();
    let at_once = at_once(longest, depth, limits);
    let looking = places.into_iter().map(|(place, bytes)| {
        // Each tells who has signed what it read itself.
        let log_store = LogStore { signer: Signer::default(), ..log_store.clone() };
        async move {
            let looked = look(&log_store, &place, bytes, depth).await;
            (looked, log_store.signer.take(), place)
        }
    });
    let mut looking = stream::iter(looking).buffered(at_once);
    let mut good: BTreeMap<Lineage, Vec<Range>> = BTreeMap::new();
    while let Some((looked, signer, place)) = looking.next().await {
        if looked.as_ref().is_err_and(|error| log_store.is_nothing(&place, error)) {
            continue;
        }
        verdict.pieces += 1;
        let found = verdict.problems.len();
        let taken = looked.and_then(|(looked, head)| {
            let taken = take_in(log_store, (&place, head.as_ref()), looked, records, verdict);
            head.into_iter().for_each(|head| indexed.compare(head));
            taken
        });
        match taken {
            Ok(()) => good.entry(place.lineage.clone()).or_default().extend(range_of(&place)),
            Err(error) => {
                let unsigned = signer.is_none() && is_unsigned(&error);
                note(verdict, error)?;
                records.interrupt();
                let problem = verdict.problems.last().filter(|_| unsigned).cloned();
                verdict.unsigned.extend(problem.map(|problem| {
                    let key = layout::piece(&log_store.source, &place).to_string();
                    Unsigned { place: Some(place.clone()), ..Unsigned::of(vec![key], problem) }
                }));
            }
        }
        let Some(signer) = signer else { continue };
        let signer = log_store.repository.trust.name(&signer);
        for (_, message) in &mut verdict.problems[found..] {
            message.push_str(&format!("; {signer} has signed it"));
        }
        *verdict.signers.entry(signer).or_default() += 1;
    }
    for one in &mut verdict.unsigned {
        let Some(place) = &one.place else { continue };
        let good = good.get(&place.lineage).map(Vec::as_slice).unwrap_or_default();
        one.alone = good.is_empty();
        one.needless = range_of(place).is_some_and(|range| is_needless(good, range));
    }
    Ok(())
}

fn range_of(place: &LogPlace) -> Option<Range> {
    match place.part {
        LogPart::Range { start, end } => Some((start, end)),
        LogPart::Note { .. } => None,
    }
}

/// Whether no log can be missing in a range: what is good, in order, holds all of it; or ends so far before
/// it that hundreds of pieces would have to be gone without a trace.
fn is_needless(good: &[Range], (start, end): Range) -> bool {
    let (mut reached, mut longest) = (start, 0);
    for (from, until) in good {
        longest = longest.max(until.0.saturating_sub(from.0));
        if *from <= reached {
            reached = reached.max(*until);
        }
    }
    let last = good.iter().map(|(_, until)| until.0).max();
    let far = last.map(|last| last.saturating_add(longest.max(USUAL).saturating_mul(FAR)));
    reached >= end || far.is_some_and(|far| start.0 >= far)
}

/// How many pieces are read at once: as many as may be fetched at once, and of long ones no more
/// than take the room of as many segments of a backup.
fn at_once(longest: Option<u64>, depth: Depth<'_>, limits: Limits) -> usize {
    let most = limits.fetches.max(1);
    match (depth, longest) {
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
            Ok((head, plain)) => (Looked::Opened(head.sealed, plain), Some(head)),
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
    (place, head): (&LogPlace, Option<&LogPiece>),
    looked: Looked,
    records: &mut impl Records,
    verdict: &mut LogVerdict,
) -> Result<()> {
    let (stored, plain) = match looked {
        Looked::Head => return Ok(()),
        Looked::Stored(bytes) => {
            verdict.read_bytes = verdict.read_bytes.saturating_add(bytes);
            return Ok(());
        }
        Looked::Closed(bytes) => {
            records.interrupt();
            verdict.closed = verdict.closed.saturating_add(1);
            verdict.read_bytes = verdict.read_bytes.saturating_add(bytes?);
            return Ok(());
        }
        Looked::Opened(stored, plain) => (stored, plain),
    };
    verdict.read_bytes = verdict.read_bytes.saturating_add(stored);
    let Some(head) = head else { return Ok(()) };
    if let Err(why) = records.check(place, &head.holds, &plain) {
        let text = format!("{}: {why}", layout::piece(&log_store.source, place));
        verdict.problems.push(("log_damaged".to_owned(), text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use drctl_model::LogAt;

    use super::*;

    #[test]
    fn large_pieces_are_read_fewer_at_once() {
        let limits = Limits { segment_bytes: 100, fetches: 4, ..Limits::default() };
        for (bytes, expected) in [(0, 4), (1, 4), (100, 4), (101, 3), (200, 2), (201, 1), (900, 1)]
        {
            assert_eq!(at_once(Some(bytes), Depth::Stored, limits), expected, "{bytes}");
            // A head is short, whatever it is of.
            assert_eq!(at_once(Some(bytes), Depth::Head, limits), 4);
        }
        assert_eq!(at_once(None, Depth::Stored, limits), 4);
        assert_eq!(at_once(Some(9), Depth::Stored, Limits { fetches: 0, ..limits }), 1);
    }

    #[test]
    fn what_good_log_holds_or_is_far_behind_it_is_none_that_is_missing() {
        let range = |start, end| (LogAt(start), LogAt(end));
        let good = [range(0, 4), range(4, 8), range(12, 16)];
        let cases = [
            ((0, 4), true),
            ((2, 8), true),
            ((6, 10), false),
            ((8, 12), false),
            ((16, 20), false),
            ((500 * USUAL + 15, 500 * USUAL + 20), false),
            ((500 * USUAL + 16, 500 * USUAL + 20), true),
        ];
        for ((start, end), needless) in cases {
            assert_eq!(is_needless(&good, range(start, end)), needless, "{start}-{end}");
            assert!(!is_needless(&[], range(start, end)));
        }
    }
}
