//! Where a stream of log begins: behind what the bucket holds, on the timeline on which that ends.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use drctl_engines::pg::replication::{Identity, Replication, WalStream};
use drctl_model::{LogPart, LogPlace, Lsn, Timeline, TimelineHistory, WalSegmentSize, outermost};
use futures_util::{StreamExt as _, stream};

use super::Shelf;
use super::cutter::Cutter;
use super::shelf::{is_damaged, is_missing, of_history};

/// Which way to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Road {
    /// Behind what the bucket holds.
    Resume,
    /// Where the server said that the log goes on.
    Next(Timeline, Lsn),
    /// From where on the slot keeps the log: what is missing before that is gone.
    Slot,
}

/// Of holes up to this size at the end of the log the rest is asked for: pieces that were under
/// way together when the host died need not have arrived in order.
const HOLE: u64 = 1 << 30;

/// Where no slot tells what was confirmed, so many pieces at the end of the log are in doubt.
const IN_DOUBT: usize = 16;

/// How many pieces are read at once to see whether they hold.
const AT_ONCE: usize = 4;

/// A range of log.
type Range = (Lsn, Lsn);

/// A stream that has begun, and what cuts it.
pub(super) struct Begun {
    pub(super) stream: WalStream,
    pub(super) cutter: Cutter,
    pub(super) system_id: u64,
    pub(super) size: WalSegmentSize,
}

/// Begins a stream; `cluster` is the one that was streamed before.
///
/// # Errors
/// The server's, the store's; another cluster than before.
pub(super) async fn begin(
    shelf: &Shelf,
    mut connection: Replication,
    slot: &str,
    road: Road,
    cluster: Option<u64>,
) -> Result<Begun> {
    let Identity { system_id, timeline, flushed } = connection.identify().await?;
    if let Some(other) = cluster.filter(|other| *other != system_id) {
        bail!("the server is another cluster now: {system_id} instead of {other}");
    }
    let size = connection.segment_size().await?;
    let mut found = connection.slot(slot).await?;
    // A slot that was there keeps what it never heard to be safe; a new one, what there happens to
    // be from the last checkpoint on.
    let is_new = found.is_none_or(|found| found.restart.is_none());
    if found.is_none() {
        connection.create_slot(slot).await.context("make the slot")?;
        found = connection.slot(slot).await?;
    }
    let restart = found.and_then(|found| found.restart);
    let history = history(shelf, &mut connection, system_id, timeline).await?;
    let kept = size.start_of(restart.unwrap_or(flushed));
    let (timeline, from) = match road {
        Road::Next(timeline, from) => (timeline, from),
        Road::Slot => (history.timeline_at(kept), kept),
        Road::Resume => {
            let found = resume(shelf, system_id, &history, size, (!is_new).then_some(kept)).await?;
            found.unwrap_or_else(|| (history.timeline_at(kept), kept))
        }
    };
    let from = size.start_of(from);
    let cutter = Cutter::new(system_id, timeline, from, size);
    let stream = connection.start(Some(slot), from, timeline).await?;
    tracing::info!("streaming the log of timeline {timeline} from {from}");
    Ok(Begun { stream, cutter, system_id, size })
}

/// The history of the server's timeline, which is kept: without it nothing leads to its log.
async fn history(
    shelf: &Shelf,
    connection: &mut Replication,
    system_id: u64,
    timeline: Timeline,
) -> Result<TimelineHistory> {
    if timeline == Timeline::FIRST {
        return Ok(TimelineHistory::of_first(timeline));
    }
    let (bytes, history) = connection.history(timeline).await?;
    let place = LogPlace { system_id, timeline, part: LogPart::History };
    shelf.keep(place, bytes, of_history(&history)).await?;
    Ok(history)
}

/// Looks from the newest timeline back for one of which the bucket holds log.
async fn resume(
    shelf: &Shelf,
    system_id: u64,
    history: &TimelineHistory,
    size: WalSegmentSize,
    kept: Option<Lsn>,
) -> Result<Option<(Timeline, Lsn)>> {
    let ancestors = history.ancestors.iter().rev().map(|ancestor| ancestor.timeline);
    for timeline in std::iter::once(history.timeline).chain(ancestors) {
        let from = kept.unwrap_or(Lsn(0));
        let ranges = shelf.ranges((system_id, timeline), from, None).await?;
        let most = kept.map_or(IN_DOUBT, |_| usize::MAX);
        let ranges = sound(shelf, (system_id, timeline), size, ranges, most).await?;
        if let Some(reach) = reach(&ranges, kept) {
            return Ok(Some(behind(history, timeline, reach)));
        }
    }
    Ok(None)
}

/// Of pieces in order, those of which the last `most` hold what is signed of them: that an object
/// is there does not say that it was read back before whoever stored it died. Those in the last
/// segment are not read, for that one is streamed anew.
async fn sound(
    shelf: &Shelf,
    (system_id, timeline): (u64, Timeline),
    size: WalSegmentSize,
    mut ranges: Vec<Range>,
    most: usize,
) -> Result<Vec<Range>> {
    let mut seen = BTreeSet::new();
    loop {
        let reach = ranges.iter().map(|(_, end)| *end).max().map(|end| size.start_of(end));
        let mut doubtful = outermost(&ranges);
        doubtful.drain(..doubtful.len().saturating_sub(most));
        doubtful.retain(|range| Some(range.0) < reach && !seen.contains(range));
        if doubtful.is_empty() {
            return Ok(ranges);
        }
        let mut weighed = stream::iter(doubtful)
            .map(|(start, end)| async move {
                let part = LogPart::Range { start, end };
                (shelf.weigh(&LogPlace { system_id, timeline, part }).await, (start, end))
            })
            .buffered(AT_ONCE);
        while let Some((weighed, range)) = weighed.next().await {
            seen.insert(range);
            match weighed {
                Ok(_) => {}
                // What is within it is looked at in its place.
                Err(error) if is_damaged(&error) || is_missing(&error) => {
                    tracing::warn!("a piece of log in the bucket does not count: {error:#}");
                    ranges.retain(|other| *other != range);
                }
                Err(error) => return Err(error).context("read the log back that is there"),
            }
        }
    }
}

/// How far the log of a timeline reaches, from where a slot keeps it, or of all there is.
fn reach(ranges: &[(Lsn, Lsn)], kept: Option<Lsn>) -> Option<Lsn> {
    let mut runs: Vec<(Lsn, Lsn)> = Vec::new();
    for (start, end) in ranges {
        match runs.last_mut() {
            Some(last) if *start <= last.1 => last.1 = last.1.max(*end),
            _ => runs.push((*start, *end)),
        }
    }
    if let Some(kept) = kept {
        let first = runs.first()?;
        return Some(if first.0 <= kept { first.1 } else { kept });
    }
    let mut last = runs.pop()?;
    while let Some(before) = runs.pop().filter(|before| last.0.since(before.1) <= HOLE) {
        last = before;
    }
    Some(last.1)
}

/// Where the log goes on behind `reach` on `timeline`: on its descendant where it was left.
fn behind(history: &TimelineHistory, timeline: Timeline, reach: Lsn) -> (Timeline, Lsn) {
    match history.left(timeline) {
        Some(left) if reach >= left => (history.timeline_at(left), left),
        _ => (timeline, reach),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lsns(list: &[(u64, u64)]) -> Vec<(Lsn, Lsn)> {
        list.iter().map(|(start, end)| (Lsn(*start), Lsn(*end))).collect()
    }

    #[test]
    fn a_stream_goes_on_where_the_log_ends_without_a_hole() {
        type Case<'a> = (&'a [(u64, u64)], Option<u64>, Option<u64>);
        let far = HOLE * 2;
        let cases: &[Case<'_>] = &[
            (&[], None, None),
            (&[], Some(10), None),
            (&[(10, 20), (20, 30)], Some(10), Some(30)),
            // One that was under way arrived, and the one before it did not.
            (&[(10, 20), (25, 30)], Some(10), Some(20)),
            (&[(15, 30)], Some(10), Some(10)),
            (&[(10, 20), (25, 30), (30, 40)], None, Some(20)),
            (&[(10, 20), (15, 40), (40, 41)], None, Some(41)),
            // That old a gap is one for good.
            (&[(10, 20), (far, far + 1)], None, Some(far + 1)),
        ];
        for (ranges, kept, expected) in cases {
            let found = reach(&lsns(ranges), kept.map(Lsn));
            assert_eq!(found, expected.map(Lsn), "{ranges:?} {kept:?}");
        }
    }

    #[test]
    fn a_timeline_that_was_left_goes_on_in_its_descendant() {
        let timeline = |id| Timeline::new(id).unwrap();
        let text = "1\t0/300\tx\n2\t0/500\tx\n";
        let history = TimelineHistory::parse(timeline(4), text).unwrap();
        let at = |id, reach| {
            let (timeline, from) = behind(&history, timeline(id), Lsn(reach));
            (timeline.id(), from.0)
        };
        assert_eq!(at(1, 0x2ff), (1, 0x2ff));
        assert_eq!(at(1, 0x300), (2, 0x300));
        assert_eq!(at(2, 0x600), (4, 0x500));
        assert_eq!(at(4, 0x700), (4, 0x700));
    }
}
