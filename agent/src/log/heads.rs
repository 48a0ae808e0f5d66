//! What is signed of a source's log, with the fewest requests: what the catalog knows is not
//! asked for, an index tells of many pieces at once, and only the rest is read piece by piece.
//! Whichever way it is learnt, the answer is the same.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;

use anyhow::{Context as _, Result};
use drctl_catalog::{CachedLog, Catalog, CatalogError};
use drctl_model::{
    Digest, Holds, IndexPlace, IndexedPiece, Lineage, LogAt, LogEntry, LogNotes, LogPart, LogPlace,
    NoteName, Position, outermost,
};
use drctl_store::layout;
use futures_util::{StreamExt as _, stream};

use super::LogStore;
use super::documents::look_for_documents;
use super::indexed::contradicted;
use super::listing::{Listed, Range};
use super::log_engine::LogEngine;
use super::log_store::trust_digest;
use super::newer::NewerLog;
use super::pieces::Measured;
use super::sizes::Sizes;
use super::vanished::note_lost;
use crate::repository::faults::{is_bad_manifest, is_missing, is_newer};

/// How many heads or indexes are fetched at once.
const AT_ONCE: usize = 32;

/// One lineage's log.
#[derive(Debug, Clone)]
pub(crate) struct Log<E: LogEngine> {
    /// The pieces that do not lie wholly within another one.
    pub(crate) entries: Vec<LogEntry<E::At>>,
    /// What else its engine knows of it.
    pub(crate) notes: E::Notes,
    /// What stands for the lengths of its objects, where these are beyond doubt.
    bytes: Option<u64>,
    /// Where it ended once, if there is an index of pieces behind the last piece that is there.
    pub(crate) once: Option<E::At>,
    /// Up to where there are objects with its names that are altered, or of somebody else, if any.
    pub(crate) unbelieved: Option<E::At>,
    /// What of it only a newer drctl reads.
    pub(crate) newer: NewerLog<E::At>,
}

impl<E: LogEngine> Default for Log<E> {
    fn default() -> Self {
        let (notes, newer) = (E::Notes::default(), NewerLog::default());
        let (once, unbelieved) = (None, None);
        Log { entries: Vec::new(), notes, bytes: None, once, unbelieved, newer }
    }
}

/// What was read of pieces that the catalog did not know.
struct Fresh<E: LogEngine> {
    entries: BTreeMap<Range, LogEntry<E::At>>,
    notes: E::Notes,
}

impl<E: LogEngine> Fresh<E> {
    fn new() -> Self {
        Fresh { entries: BTreeMap::new(), notes: E::Notes::default() }
    }

    fn learn(&mut self, range: Range, holds: &Holds, bytes: Digest) {
        if let Entry::Vacant(place) = self.entries.entry(range) {
            let at = positions(range);
            place.insert(LogEntry::of(at, holds).with_bytes(holds, bytes));
            E::learn(&mut self.notes, at, holds);
        }
    }
}

/// A range as its engine has it.
pub(super) fn positions<P: Position>((start, end): Range) -> (P, P) {
    (P::of(start.0), P::of(end.0))
}

/// A range as keys have it.
pub(super) fn numbers<P: Position>((start, end): (P, P)) -> Range {
    (LogAt(start.number()), LogAt(end.number()))
}

/// All that is signed of the log of some lineages, which are of one engine. What does not count is told
/// in `refused`.
///
/// # Errors
/// The store's. A catalog that fails is done without.
pub(crate) async fn heads<E: LogEngine>(
    log_store: &LogStore,
    of: impl Fn(&Lineage) -> bool + Clone + Send + 'static,
    cache: Option<&Catalog>,
    refused: &mut Vec<String>,
) -> Result<BTreeMap<Lineage, Log<E>>> {
    let trust = trust_digest(&log_store.repository.trust);
    let cached = match cache {
        Some(cache) => cache.logs(&log_store.source, of.clone(), trust).await,
        None => Ok(BTreeMap::new()),
    };
    let unused = |error: &CatalogError| {
        tracing::warn!("what the catalog knows of the {} is not used: {error}", E::LOG);
    };
    let mut known: BTreeMap<Lineage, CachedLog<E::At>> =
        cached.inspect_err(unused).unwrap_or_default();
    let contradicted = contradicted(log_store, cache).await;
    let mut found = BTreeMap::new();
    let listed = log_store.listed(of.clone()).await?;
    look_for_documents(log_store, cache, &of, (&listed, &contradicted)).await;
    for (lineage, mut listed) in listed {
        listed.indexes.retain(|index| !contradicted.contains(index));
        let before = known.remove(&lineage).unwrap_or_default();
        let noted = E::read(&before.notes);
        let of = &lineage;
        let mut learning = Learning::<E> {
            log_store,
            of,
            // Notes that cannot be read are learnt anew, and that is of all pieces.
            before: noted.as_ref().map(|_| &*before.entries).unwrap_or_default(),
            bytes: before.notes.bytes,
            noted: noted.unwrap_or_default(),
            refused,
            newer: NewerLog::default(),
            unbelieved: None,
            doubtful: false,
        };
        let log = learning.read(listed).await?;
        remember(log_store, cache, of, trust, &before, &log).await;
        found.insert(lineage, log);
    }
    for (lineage, before) in known {
        remember::<E>(log_store, cache, &lineage, trust, &before, &Log::default()).await;
    }
    Ok(found)
}

/// Tells the catalog; that it cannot be told costs time and nothing else.
async fn remember<E: LogEngine>(
    log_store: &LogStore,
    cache: Option<&Catalog>,
    of: &Lineage,
    trust: Digest,
    before: &CachedLog<E::At>,
    log: &Log<E>,
) {
    let notes = LogNotes { bytes: log.bytes, own: E::written(&log.notes) };
    let change = before.change(&log.entries, &notes);
    let Some((cache, change)) = cache.zip(change) else { return };
    // First of all what is gone, so that it is never forgotten.
    let mut there: Vec<_> = log.entries.iter().copied().chain(log.newer.entries()).collect();
    there.sort_unstable_by_key(LogEntry::range);
    if let Err(error) = note_lost::<E>(log_store, cache, of, before, &there).await {
        tracing::debug!("the catalog could not record what is lost: {error}");
        return;
    }
    if let Err(error) = cache.change_log(&log_store.source, of, trust, change).await {
        tracing::debug!("the catalog could not record the {}: {error}", E::LOG);
    }
}

/// The log of one lineage while it is learnt.
struct Learning<'a, E: LogEngine> {
    log_store: &'a LogStore,
    of: &'a Lineage,
    /// What the catalog knows of its pieces, of the lengths of their objects, and of notes.
    before: &'a [LogEntry<E::At>],
    bytes: Option<u64>,
    noted: E::Notes,
    refused: &'a mut Vec<String>,
    newer: NewerLog<E::At>,
    unbelieved: Option<E::At>,
    /// Whether a piece is not as long as is signed: all is learnt anew until it is.
    doubtful: bool,
}

impl<E: LogEngine> Learning<'_, E> {
    async fn read(&mut self, listed: Listed) -> Result<Log<E>> {
        let Listed { mut ranges, notes, mut indexes, odd_indexes, odd, odd_notes, sizes } = listed;
        self.weigh_indexes(odd_indexes).await;
        let sizes = Sizes(sizes);
        // What the catalog knows counts as long as its pieces have the lengths that they had.
        let known = match self.bytes == Some(sizes.of_all(self.before)) {
            true => self.before,
            false => &[],
        };
        let mut fresh = Fresh::new();
        let once = self.once(&ranges, &indexes).await;
        // Whatever is known of these: all of their states are looked at.
        self.pieces(odd.into_iter().collect(), &mut ranges, &sizes, &mut fresh).await?;
        loop {
            let wanted = outermost(&ranges);
            let missing = unknown(&wanted, known, &fresh.entries);
            if missing.is_empty() {
                let entries = entries(&wanted, known, &fresh.entries);
                let note = E::note().filter(|name| notes.contains(name));
                let is_odd = note.as_ref().is_some_and(|name| odd_notes.contains(name));
                let notes = self.notes((note, is_odd), &wanted, fresh.notes).await?;
                let bytes = (!self.doubtful).then(|| sizes.of_all(&entries));
                let (unbelieved, newer) = (self.unbelieved, take(&mut self.newer));
                return Ok(Log { entries, notes, bytes, once, unbelieved, newer });
            }
            let helps = |index: &IndexPlace| {
                let at = missing.partition_point(|range| range.0 < index.start);
                missing.get(at).is_some_and(|range| range.1 <= index.end)
            };
            let (helpful, rest) = indexes.into_iter().partition::<Vec<_>, _>(helps);
            indexes = rest;
            if helpful.is_empty() {
                self.pieces(missing, &mut ranges, &sizes, &mut fresh).await?;
            } else {
                self.indexes(helpful, &ranges, &sizes, &mut fresh).await;
            }
        }
    }

    /// Reads all states of indexes: that they differ is an alarm, whether anybody needs them or not.
    async fn weigh_indexes(&self, odd: Vec<IndexPlace>) {
        let mut read = stream::iter(odd)
            .map(|place| async move { (self.log_store.log_index(&place).await, place) })
            .buffered(AT_ONCE);
        while let Some((index, place)) = read.next().await {
            if let Err(error) = index {
                passed_over::<E>(&place, &error);
            }
        }
    }

    /// Where the log ended once, as a signed index tells whose pieces are not there any more.
    async fn once(&self, ranges: &[Range], indexes: &[IndexPlace]) -> Option<E::At> {
        let end = ranges.iter().map(|(_, end)| *end).max().unwrap_or(LogAt(0));
        let last = indexes.iter().filter(|index| index.end > end).max_by_key(|index| index.end)?;
        let read = self.log_store.log_index(last).await;
        read.inspect_err(|error| tracing::warn!("an index is passed over: {error:#}")).ok()?;
        Some(E::At::of(last.end.0))
    }

    /// Reads indexes. One that is not believed, or cannot be had, is passed over: its pieces are
    /// read one by one.
    async fn indexes(
        &self,
        places: Vec<IndexPlace>,
        listed: &[Range],
        sizes: &Sizes,
        fresh: &mut Fresh<E>,
    ) {
        let mut read = stream::iter(places)
            .map(|place| async move { (self.log_store.log_index(&place).await, place) })
            .buffered(AT_ONCE);
        while let Some((index, place)) = read.next().await {
            match index {
                Ok(pieces) => {
                    for IndexedPiece { start, end, plain_sha256, sealed, head, holds, .. } in pieces
                    {
                        // What is not in the bucket any more, or of another length, is a gap,
                        // whatever an index says.
                        let range = (start, end);
                        if listed.binary_search(&range).is_ok() && sizes.fits(range, sealed, head) {
                            fresh.learn(range, &holds, plain_sha256);
                        }
                    }
                }
                Err(error) => passed_over::<E>(&place, &error),
            }
        }
    }

    /// Reads heads. Somebody else's object is none of our log: a gap where it lies, and said so.
    async fn pieces(
        &mut self,
        missing: Vec<Range>,
        ranges: &mut Vec<Range>,
        sizes: &Sizes,
        fresh: &mut Fresh<E>,
    ) -> Result<()> {
        let (log_store, lineage) = (self.log_store, self.of);
        let mut strange = BTreeSet::new();
        let mut read = stream::iter(missing)
            .map(|(start, end)| async move {
                let part = LogPart::Range { start, end };
                let place = LogPlace { lineage: lineage.clone(), part };
                (log_store.measured(&place).await, (start, end))
            })
            .buffered(AT_ONCE);
        while let Some((head, range)) = read.next().await {
            if head.as_ref().is_err_and(|error| log_store.is_none(lineage, range, error)) {
                strange.insert(range);
                continue;
            }
            let newer = head.as_ref().is_err_and(is_newer);
            if newer {
                self.newer.ranges.push(positions(range));
            }
            match self.believed(head)?.filter(|head| self.fits(head, range, sizes)) {
                Some((head, _)) => {
                    fresh.learn(range, &head.holds, head.plain_sha256);
                }
                None => {
                    self.unbelieved = self.unbelieved.max((!newer).then(|| positions(range).1));
                    strange.insert(range);
                }
            }
        }
        ranges.retain(|range| !strange.contains(range));
        Ok(())
    }

    /// Whether a piece is long enough to be looked at. One that is not as long as is signed of it is
    /// told each time; it was there, so that no plan takes what lies before it for the end of the log.
    fn fits(&mut self, (head, length): &Measured, range: Range, sizes: &Sizes) -> bool {
        let fits = sizes.fits(range, head.sealed, None);
        if !sizes.fits(range, head.sealed, Some(*length)) {
            self.doubtful = true;
            let key = layout::piece(&self.log_store.source, &head.place);
            self.refuse(&format!("{key} is cut, or too long"));
        }
        fits
    }

    fn refuse(&mut self, why: &str) {
        self.refused.push(format!("{} of {}: {why}", E::LOG, E::called(self.of)));
    }

    fn believed<T>(&mut self, head: Result<T>) -> Result<Option<T>> {
        match head {
            Ok(head) => Ok(Some(head)),
            Err(error) if is_bad_manifest(&error) => {
                self.refuse(&format!("{error:#}"));
                self.newer.words.extend(self.refused.last().filter(|_| is_newer(&error)).cloned());
                Ok(None)
            }
            Err(error) => Err(error).context(format!("read what is known of the {}", E::LOG)),
        }
    }

    async fn notes(
        &mut self,
        (note, is_odd): (Option<NoteName>, bool),
        wanted: &[Range],
        fresh: E::Notes,
    ) -> Result<E::Notes> {
        let is_there = |range| wanted.binary_search(&numbers(range)).is_ok();
        let mut notes = E::join(self.noted.clone(), fresh, is_there);
        let Some(name) = note else { return Ok(notes) };
        if is_odd || !E::keep_note(&mut notes, &self.noted) {
            let part = LogPart::Note { name };
            let place = LogPlace { lineage: self.of.clone(), part };
            let head = self.log_store.head(&place).await;
            let is_nothing = |error| self.log_store.is_nothing(&place, error);
            if !head.as_ref().is_err_and(is_nothing)
                && let Some(head) = self.believed(head)?
            {
                E::learn_note(&mut notes, &head.holds);
            }
        }
        Ok(notes)
    }
}

fn passed_over<E: LogEngine>(place: &IndexPlace, error: &anyhow::Error) {
    let (lineage, from) = (E::called(&place.lineage), E::At::of(place.start.0));
    if !is_missing(error) {
        tracing::warn!("the index of {lineage} from {from} is passed over: {error:#}");
    }
}

/// Those of `wanted` that neither the catalog nor what was read tells of.
fn unknown<P: Position>(
    wanted: &[Range],
    cached: &[LogEntry<P>],
    fresh: &BTreeMap<Range, LogEntry<P>>,
) -> Vec<Range> {
    let mut cached = cached.iter().peekable();
    let mut missing = Vec::new();
    for range in wanted {
        while cached.next_if(|entry| entry.place() < *range).is_some() {}
        let known = cached.peek().is_some_and(|entry| entry.place() == *range);
        if !known && !fresh.contains_key(range) {
            missing.push(*range);
        }
    }
    missing
}

fn entries<P: Position>(
    wanted: &[Range],
    cached: &[LogEntry<P>],
    fresh: &BTreeMap<Range, LogEntry<P>>,
) -> Vec<LogEntry<P>> {
    let mut cached = cached.iter().peekable();
    let each = wanted.iter().filter_map(|range| {
        while cached.next_if(|entry| entry.place() < *range).is_some() {}
        let known = cached.peek().filter(|entry| entry.place() == *range).map(|entry| **entry);
        fresh.get(range).copied().or(known)
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> Range {
        (LogAt(start), LogAt(end))
    }

    #[test]
    fn only_what_is_not_known_is_asked_for() {
        let entry = |start, end| LogEntry::new(range(start, end), None, None);
        let cached = [entry(0, 4), entry(4, 8), entry(12, 16)];
        let wanted = [range(0, 4), range(4, 9), range(9, 12), range(12, 16), range(16, 20)];
        let mut fresh = BTreeMap::new();
        assert_eq!(unknown(&wanted, &cached, &fresh), [range(4, 9), range(9, 12), range(16, 20)]);
        fresh.insert(range(9, 12), entry(9, 12));
        assert_eq!(unknown(&wanted, &cached, &fresh), [range(4, 9), range(16, 20)]);
        let found: Vec<Range> =
            entries(&wanted, &cached, &fresh).iter().map(LogEntry::range).collect();
        assert_eq!(found, [range(0, 4), range(9, 12), range(12, 16)]);
    }
}
