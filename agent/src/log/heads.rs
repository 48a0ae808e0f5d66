//! What is signed of a cluster's log, with the fewest requests: what the catalog knows is not
//! asked for, an index tells of many pieces at once, and only the rest is read piece by piece.
//! Whichever way it is learnt, the answer is the same.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use drctl_catalog::{CachedLog, Catalog};
use drctl_model::{
    Digest, Holds, IndexPlace, IndexedPiece, Lineage, LogEntry, LogIndex, LogNotes, LogPart,
    LogPlace, Lsn, NotedBreak, NotedPoint, Timeline, outermost,
};
use drctl_store::{MAX_LOG_INDEX_BYTES, Stored, Trust, decode_log_index, digest, layout};
use futures_util::{StreamExt as _, stream};

use super::LogStore;
use super::cached::cached_log;
use super::listing::Listed;
use super::pieces::Measured;
use super::sizes::Sizes;
use super::vanished::note_lost;
use crate::repository::Repository;
use crate::repository::faults::is_bad_manifest;
use crate::repository::first::first_of;

/// How many heads or indexes are fetched at once.
const AT_ONCE: usize = 32;

/// A range of log.
type Range = (Lsn, Lsn);

/// One timeline's log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    /// The pieces that do not lie wholly within another one.
    pub(crate) entries: Vec<LogEntry>,
    /// What else is known of it.
    pub(crate) notes: LogNotes,
    /// Where it ended once, if there is an index of pieces behind the last piece that is there.
    pub(crate) once: Option<Lsn>,
}

/// What was read of pieces that the catalog did not know.
type Fresh = BTreeMap<Range, Learnt>;

/// What was read of a piece.
struct Learnt {
    entry: LogEntry,
    points: Vec<NotedPoint>,
    breaks: Vec<NotedBreak>,
}

/// What stands for the keys that are believed: what was learnt under others is learnt anew.
pub(crate) fn trust_digest(trust: &Trust) -> Digest {
    let keys: BTreeSet<String> = trust
        .signers()
        .map(|signer| {
            let (sources, roles) = (&signer.sources, &signer.roles);
            format!("{} {sources:?} {roles:?}", signer.key.keyid())
        })
        .collect();
    digest(keys.into_iter().collect::<Vec<_>>().join(" ").as_bytes())
}

/// All that is signed of a cluster's log, by timeline. What does not count is told in `refused`.
///
/// # Errors
/// The store's. A catalog that fails is done without.
pub(crate) async fn heads(
    log_store: &LogStore,
    system_id: u64,
    cache: Option<&Catalog>,
    refused: &mut Vec<String>,
) -> Result<BTreeMap<Timeline, Log>> {
    let trust = trust_digest(&log_store.repository.trust);
    let mut known = match cache {
        Some(cache) => {
            cached_log(cache, &log_store.source, system_id, trust).await.unwrap_or_else(|error| {
                tracing::warn!("what the catalog knows of the WAL is not used: {error}");
                BTreeMap::new()
            })
        }
        None => BTreeMap::new(),
    };
    let mut found = BTreeMap::new();
    for (timeline, listed) in log_store.listed(system_id).await? {
        let before = known.remove(&timeline).unwrap_or_default();
        let of = (system_id, timeline);
        let mut learning = Learning { log_store, of, before: &before, refused, doubtful: false };
        let log = learning.read(listed).await?;
        remember(log_store, cache, (system_id, timeline), trust, &before, &log).await;
        found.insert(timeline, log);
    }
    for (timeline, before) in known {
        let nothing = Log::default();
        remember(log_store, cache, (system_id, timeline), trust, &before, &nothing).await;
    }
    Ok(found)
}

/// Learns a cluster's log again, so that its catalog notes what is gone.
///
/// # Errors
/// The store's.
pub(crate) async fn look_again(
    log_store: &LogStore,
    system_id: u64,
    cache: &Catalog,
) -> Result<()> {
    heads(log_store, system_id, Some(cache), &mut Vec::new()).await.map(drop)
}

/// Tells the catalog; that it cannot be told costs time and nothing else.
async fn remember(
    log_store: &LogStore,
    cache: Option<&Catalog>,
    of: (u64, Timeline),
    trust: Digest,
    before: &CachedLog,
    log: &Log,
) {
    let change = before.change(&log.entries, &log.notes);
    let Some((cache, change)) = cache.zip(change) else { return };
    // First of all what is gone, so that it is never forgotten.
    if let Err(error) = note_lost(log_store, cache, of, before, &log.entries).await {
        tracing::debug!("the catalog does not learn what is lost: {error}");
        return;
    }
    let lineage = Lineage::of_timeline(of.0, of.1);
    if let Err(error) = cache.change_log(&log_store.source, &lineage, trust, change).await {
        tracing::debug!("the catalog does not learn of the WAL: {error}");
    }
}

/// The log of one timeline while it is learnt.
struct Learning<'a> {
    log_store: &'a LogStore,
    of: (u64, Timeline),
    before: &'a CachedLog,
    refused: &'a mut Vec<String>,
    /// Whether a piece is not as long as is signed: all is learnt anew until it is.
    doubtful: bool,
}

impl Learning<'_> {
    async fn read(&mut self, listed: Listed) -> Result<Log> {
        let Listed { mut ranges, history, mut indexes, odd_indexes, odd, odd_history, sizes } =
            listed;
        self.weigh_indexes(odd_indexes).await;
        let sizes = Sizes(sizes);
        // What the catalog knows counts as long as its pieces have the lengths that they had.
        let before = &self.before.entries;
        let known = match self.before.notes.bytes == Some(sizes.of_all(before)) {
            true => before.as_slice(),
            false => &[],
        };
        let mut fresh = Fresh::new();
        let once = self.once(&ranges, &indexes).await;
        // Whatever is known of these: all of their states are looked at.
        self.pieces(odd.into_iter().collect(), &mut ranges, &sizes, &mut fresh).await?;
        loop {
            let wanted = outermost(&ranges);
            let missing = unknown(&wanted, known, &fresh);
            if missing.is_empty() {
                let entries = entries(&wanted, known, &fresh);
                let mut notes = self.notes((history, odd_history), &wanted, &fresh).await?;
                notes.bytes = (!self.doubtful).then(|| sizes.of_all(&entries));
                return Ok(Log { entries, notes, once });
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
                passed_over(&place, &error);
            }
        }
    }

    /// Where the log ended once, as a signed index tells whose pieces are not there any more.
    async fn once(&self, ranges: &[Range], indexes: &[IndexPlace]) -> Option<Lsn> {
        let end = ranges.iter().map(|(_, end)| *end).max().unwrap_or(Lsn(0));
        let last = indexes.iter().filter(|index| index.end > end).max_by_key(|index| index.end)?;
        let read = self.log_store.log_index(last).await;
        read.inspect_err(|error| tracing::warn!("an index is passed over: {error:#}")).ok()?;
        Some(last.end)
    }

    /// Reads indexes. One that is not believed, or cannot be had, is passed over: its pieces are
    /// read one by one.
    async fn indexes(
        &self,
        places: Vec<IndexPlace>,
        listed: &[Range],
        sizes: &Sizes,
        fresh: &mut Fresh,
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
                            let learnt = || learnt(range, &holds, plain_sha256);
                            fresh.entry(range).or_insert_with(learnt);
                        }
                    }
                }
                Err(error) => passed_over(&place, &error),
            }
        }
    }

    /// Reads heads. Somebody else's object is none of our log: a gap where it lies, and said so.
    async fn pieces(
        &mut self,
        missing: Vec<Range>,
        ranges: &mut Vec<Range>,
        sizes: &Sizes,
        fresh: &mut Fresh,
    ) -> Result<()> {
        let (log_store, (system_id, timeline)) = (self.log_store, self.of);
        let mut strange = BTreeSet::new();
        let mut read = stream::iter(missing)
            .map(|(start, end)| async move {
                let part = LogPart::Range { start, end };
                (log_store.measured(&LogPlace { system_id, timeline, part }).await, (start, end))
            })
            .buffered(AT_ONCE);
        while let Some((head, range)) = read.next().await {
            match self.believed(head)?.filter(|head| self.fits(head, range, sizes)) {
                Some((head, _)) => {
                    fresh.insert(range, learnt(range, &head.holds, head.plain_sha256));
                }
                None => drop(strange.insert(range)),
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
            let (timeline, key) = (self.of.1, layout::piece(&self.log_store.source, &head.place));
            self.refused.push(format!("WAL of timeline {timeline}: {key} is cut, or too long"));
        }
        fits
    }

    fn believed<T>(&mut self, head: Result<T>) -> Result<Option<T>> {
        match head {
            Ok(head) => Ok(Some(head)),
            Err(error) if is_bad_manifest(&error) => {
                self.refused.push(format!("WAL of timeline {}: {error:#}", self.of.1));
                Ok(None)
            }
            Err(error) => Err(error).context("read what is known of the WAL"),
        }
    }

    async fn notes(
        &mut self,
        (history, is_odd): (bool, bool),
        wanted: &[Range],
        fresh: &Fresh,
    ) -> Result<LogNotes> {
        let (system_id, timeline) = self.of;
        let known = self.before.notes.history.clone().filter(|_| history && !is_odd);
        let history = match known {
            None if history => {
                let place = LogPlace { system_id, timeline, part: LogPart::History };
                let head = self.log_store.head(&place).await;
                self.believed(head)?.map(|head| head.holds.ancestors)
            }
            known => known,
        };
        let here = |point: &&NotedPoint| wanted.binary_search(&(point.start, point.end)).is_ok();
        let old = self.before.notes.points.iter().filter(here);
        let new = fresh.values().flat_map(|learnt| &learnt.points).filter(here);
        let points: BTreeSet<NotedPoint> = old.chain(new).cloned().collect();
        let here = |one: &&NotedBreak| wanted.binary_search(&(one.start, one.end)).is_ok();
        let old = self.before.notes.breaks.iter().filter(here);
        let new = fresh.values().flat_map(|learnt| &learnt.breaks).filter(here);
        let breaks: BTreeSet<NotedBreak> = old.chain(new).copied().collect();
        let (points, breaks) = (points.into_iter().collect(), breaks.into_iter().collect());
        Ok(LogNotes { history, points, breaks, bytes: None })
    }
}

fn passed_over(place: &IndexPlace, error: &anyhow::Error) {
    tracing::warn!(
        "the index of timeline {} from {} is passed over: {error:#}",
        place.timeline,
        place.start
    );
}

fn learnt(range: Range, holds: &Holds, bytes: Digest) -> Learnt {
    let (start, end) = range;
    let point = |(name, lsn, at): &(String, Lsn, jiff::Timestamp)| NotedPoint {
        start,
        end,
        lsn: *lsn,
        at: *at,
        name: name.clone(),
    };
    Learnt {
        entry: LogEntry::of(range, holds).with_bytes(holds, bytes),
        points: holds.restore_points.iter().map(point).collect(),
        breaks: NotedBreak::of(range, holds),
    }
}

/// Those of `wanted` that neither the catalog nor what was read tells of.
fn unknown(wanted: &[Range], cached: &[LogEntry], fresh: &Fresh) -> Vec<Range> {
    let mut cached = cached.iter().peekable();
    let mut missing = Vec::new();
    for range in wanted {
        while cached.next_if(|entry| entry.range() < *range).is_some() {}
        let known = cached.peek().is_some_and(|entry| entry.range() == *range);
        if !known && !fresh.contains_key(range) {
            missing.push(*range);
        }
    }
    missing
}

fn entries(wanted: &[Range], cached: &[LogEntry], fresh: &Fresh) -> Vec<LogEntry> {
    let mut cached = cached.iter().peekable();
    let each = wanted.iter().filter_map(|range| {
        while cached.next_if(|entry| entry.range() < *range).is_some() {}
        let known = cached.peek().filter(|entry| entry.range() == *range).map(|entry| **entry);
        fresh.get(range).map(|learnt| learnt.entry).or(known)
    });
    each.collect()
}

impl LogStore {
    /// What an index tells of its pieces; needs no key.
    pub(super) async fn log_index(&self, place: &IndexPlace) -> Result<Vec<IndexedPiece>> {
        let key = layout::log_index(&self.source, place);
        let Repository { bucket, trust, id, .. } = &self.repository;
        let read = |stored: Stored| async move {
            let bytes = bucket.get_stored(&stored, MAX_LOG_INDEX_BYTES as u64).await?;
            Ok(decode_log_index(&bytes, trust, id, &self.source, place)?)
        };
        let kept = self.states.of(bucket, &key).await?;
        let same = |one: &LogIndex, other: &LogIndex| one.pieces == other.pieces;
        let index = first_of(bucket, &key, kept, read, same).await;
        Ok(index.with_context(|| format!("read {key}"))?.pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> Range {
        (Lsn(start), Lsn(end))
    }

    #[test]
    fn only_what_is_not_known_is_asked_for() {
        let entry = |start, end| LogEntry::new(range(start, end), None, None);
        let cached = [entry(0, 4), entry(4, 8), entry(12, 16)];
        let wanted = [range(0, 4), range(4, 9), range(9, 12), range(12, 16), range(16, 20)];
        let mut fresh = Fresh::new();
        assert_eq!(unknown(&wanted, &cached, &fresh), [range(4, 9), range(9, 12), range(16, 20)]);
        let learnt = Learnt { entry: entry(9, 12), points: Vec::new(), breaks: Vec::new() };
        fresh.insert(range(9, 12), learnt);
        assert_eq!(unknown(&wanted, &cached, &fresh), [range(4, 9), range(16, 20)]);
        let found: Vec<Range> =
            entries(&wanted, &cached, &fresh).iter().map(LogEntry::range).collect();
        assert_eq!(found, [range(0, 4), range(9, 12), range(12, 16)]);
    }
}
