//! A cluster's WAL by timelines: what is read in the lineages, positions and heads that the log of any
//! engine has.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use drctl_catalog::{CachedLog, Catalog, CatalogError, Lost};
use drctl_model::{
    Digest, Holds, Lineage, LogAt, LogNotes, LogPlace, Lsn, NoteName, NotedBreak, NotedPoint,
    SourceId, Timeline, WalNotes, WalSegmentSize,
};

use crate::log::heads::{self, Log};
use crate::log::{LogEngine, LogStore, gap_named, lost_at};

/// PostgreSQL, as the common rooms of the log ask it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wal;

/// What is signed of a timeline's log.
pub(crate) type WalLog = Log<Wal>;

impl LogEngine for Wal {
    type At = Lsn;
    type Notes = WalNotes;

    const LOG: &'static str = "WAL";

    fn called(lineage: &Lineage) -> String {
        match lineage.timeline() {
            Some((_, timeline)) => format!("timeline {timeline}"),
            None => lineage.to_string(),
        }
    }

    fn note() -> Option<NoteName> {
        Some(NoteName::history())
    }

    fn is_possible((start, end): (LogAt, LogAt), segment: u64) -> bool {
        start < end && start.0 / segment == (end.0 - 1) / segment
    }

    fn begins(start: LogAt, segment: u64) -> bool {
        start.0.is_multiple_of(segment)
    }

    fn read(notes: &LogNotes) -> Option<WalNotes> {
        WalNotes::read(notes)
    }

    fn written(notes: &WalNotes) -> serde_json::Map<String, serde_json::Value> {
        notes.written()
    }

    fn learn(notes: &mut WalNotes, range: (Lsn, Lsn), holds: &Holds) {
        notes.points.extend(NotedPoint::of(range, holds));
        notes.breaks.extend(NotedBreak::of(range, holds));
    }

    fn join(old: WalNotes, fresh: WalNotes, is_there: impl Fn((Lsn, Lsn)) -> bool) -> WalNotes {
        let here = |point: &NotedPoint| is_there((point.start, point.end));
        let points = old.points.into_iter().chain(fresh.points).filter(here);
        let points: BTreeSet<NotedPoint> = points.collect();
        let here = |one: &NotedBreak| is_there((one.start, one.end));
        let breaks = old.breaks.into_iter().chain(fresh.breaks).filter(here);
        let breaks: BTreeSet<NotedBreak> = breaks.collect();
        WalNotes {
            history: None,
            points: points.into_iter().collect(),
            breaks: breaks.into_iter().collect(),
        }
    }

    fn keep_note(notes: &mut WalNotes, from: &WalNotes) -> bool {
        notes.history.clone_from(&from.history);
        notes.history.is_some()
    }

    fn learn_note(notes: &mut WalNotes, holds: &Holds) {
        notes.history = Some(holds.ancestors().to_vec());
    }
}

/// Those of these lineages that are none of a cluster: log of another engine.
pub(crate) fn no_timeline(of: &BTreeSet<Lineage>) -> impl Iterator<Item = &Lineage> {
    of.iter().filter(|lineage| lineage.timeline().is_none())
}

/// The name of a gap in a timeline's log, by where it begins.
pub(crate) fn gap_at(timeline: Timeline, from: Lsn) -> String {
    gap_named(&format!("timeline {timeline}"), from)
}

/// Whose log lies at a place, for people.
pub(super) fn whose(place: &LogPlace) -> String {
    match place.lineage.timeline() {
        Some((system_id, timeline)) => format!("cluster {system_id} timeline {timeline}"),
        None => format!("log {}", place.lineage),
    }
}

/// The clusters that these lineages are of.
pub(crate) fn clusters(of: &BTreeSet<Lineage>) -> impl Iterator<Item = u64> {
    of.iter().filter_map(Lineage::timeline).map(|(id, _)| id)
}

/// Whether a lineage is of this cluster.
fn of_cluster(system_id: u64) -> impl Fn(&Lineage) -> bool + Clone + Send + 'static {
    move |of| of.timeline().is_some_and(|(id, _)| id == system_id)
}

fn by_timeline<T>(all: BTreeMap<Lineage, T>) -> BTreeMap<Timeline, T> {
    all.into_iter().filter_map(|(of, one)| Some((of.timeline()?.1, one))).collect()
}

/// All that is signed of a cluster's log, by timeline. What does not count is told in `refused`.
///
/// # Errors
/// The store's. A catalog that fails is done without.
pub(crate) async fn cluster_log(
    log_store: &LogStore,
    system_id: u64,
    cache: Option<&Catalog>,
    refused: &mut Vec<String>,
) -> Result<BTreeMap<Timeline, WalLog>> {
    heads::heads(log_store, of_cluster(system_id), cache, refused).await.map(by_timeline)
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
    cluster_log(log_store, system_id, Some(cache), &mut Vec::new()).await.map(drop)
}

/// Up to where log of a cluster was there that a catalog remembers as gone, by timeline.
///
/// # Errors
/// The catalog's.
pub(crate) async fn lost_log(
    catalog: &Catalog,
    source: &SourceId,
    system_id: u64,
) -> Result<Vec<(Timeline, Lsn)>, CatalogError> {
    let lost = catalog.lost(Some(source)).await?;
    let end = |lost: &Lost| {
        let (lineage, (_, until)) = lost_at(source, &lost.key)?;
        let (of, timeline) = lineage.timeline()?;
        (of == system_id).then_some((timeline, until.into()))
    };
    Ok(lost.iter().filter_map(end).collect())
}

/// The clusters of all sources whose log a catalog knows.
///
/// # Errors
/// The catalog's.
pub(crate) async fn cached_clusters(
    catalog: &Catalog,
) -> Result<BTreeSet<(SourceId, u64)>, CatalogError> {
    let known = catalog.logged().await?.into_iter();
    Ok(known.filter_map(|(source, of)| Some((source, of.timeline()?.0))).collect())
}

/// What a catalog knows of a cluster's log, by timeline.
///
/// # Errors
/// The catalog's.
pub(crate) async fn cached_log(
    catalog: &Catalog,
    source: &SourceId,
    system_id: u64,
    trust: Digest,
) -> Result<BTreeMap<Timeline, CachedLog>, CatalogError> {
    catalog.logs(source, of_cluster(system_id), trust).await.map(by_timeline)
}

impl LogStore {
    /// The ranges of a cluster's log that are there, by timeline, in order.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn cluster_ranges(
        &self,
        system_id: u64,
    ) -> Result<BTreeMap<Timeline, Vec<(Lsn, Lsn)>>> {
        let listed = by_timeline(self.listed(of_cluster(system_id)).await?);
        Ok(listed.into_iter().map(|(timeline, listed)| (timeline, lsns(listed.ranges))).collect())
    }

    /// The ranges of one timeline's log that begin at `from` or later, in order. Where a store
    /// lists in order, no more than one of them begins at `enough` or later. Names that cross a
    /// segment's end are none of a piece.
    ///
    /// # Errors
    /// [`StoreError`](drctl_store::StoreError) of a bucket that cannot be listed.
    pub async fn ranges(
        &self,
        (system_id, timeline): (u64, Timeline),
        size: WalSegmentSize,
        from: Lsn,
        enough: Option<Lsn>,
    ) -> Result<Vec<(Lsn, Lsn)>> {
        let of = Lineage::of_timeline(system_id, timeline);
        let possible = |range: (LogAt, LogAt)| Wal::is_possible(range, size.bytes());
        let found = self.ranges_of(&of, possible, from.into(), enough.map(Into::into)).await;
        let mut found = found.map(lsns)?;
        found.retain(|range| !self.avoids(&LogPlace::of_wal((system_id, timeline), *range)));
        Ok(found)
    }

    /// After a piece was stored: tells where log is missing right before it, and writes the index
    /// that it completes.
    pub async fn settle(&self, place: &LogPlace, size: WalSegmentSize) {
        self.settle_in::<Wal>(place, size.bytes()).await;
    }

    /// Writes the index that a piece completes, if it does; never fails.
    pub(super) async fn settle_block(&self, place: &LogPlace, size: WalSegmentSize) {
        self.settle_block_in::<Wal>(place, size.bytes()).await;
    }

    /// Writes the indexes that are missing in all WAL of the source; gives how many.
    ///
    /// # Errors
    /// [`StoreError`](drctl_store::StoreError);
    /// [`AgentError::NoSigningKey`](crate::host::AgentError::NoSigningKey).
    pub async fn index_all(&self) -> Result<u64> {
        let size = |holds: &Holds| holds.segment_size().unwrap_or_default().bytes();
        self.index_lineages(|of| of.timeline().is_some(), size).await
    }
}

fn lsns(ranges: Vec<(LogAt, LogAt)>) -> Vec<(Lsn, Lsn)> {
    ranges.into_iter().map(|(start, end)| (start.into(), end.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_lies_within_one_segment() {
        let mib = 1u64 << 20;
        for (start, end, good) in [
            (0, mib, true),
            (mib, 2 * mib, true),
            (mib - 8, mib, true),
            (mib - 8, mib + 8, false),
            (0, mib + 1, false),
            (5, 5, false),
        ] {
            assert_eq!(Wal::is_possible((LogAt(start), LogAt(end)), mib), good, "{start} {end}");
        }
    }
}
