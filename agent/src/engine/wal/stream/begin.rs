//! Where a stream of log begins: behind what the bucket holds, on the timeline on which that ends.

use std::collections::{BTreeSet, VecDeque};

use anyhow::{Context as _, Result, bail};
use drctl_engines::pg::replication::{Identity, Replication, WalStream};
use drctl_model::{LogPlace, Lsn, Timeline, TimelineHistory, WalSegmentSize, outermost};
use futures_util::{StreamExt as _, stream};

use crate::engine::wal::cutter::{Check, Cutter};
use crate::engine::wal::of_history;
use crate::engine::wal::taken::{history_taken, tell_history};
use crate::log::{LogStore, is_damaged};
use crate::repository::faults::is_missing;

/// Which way to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResumeFrom {
    /// Behind what the bucket holds.
    Resume,
    /// Where the server said that the log goes on.
    Next(Timeline, Lsn),
    /// Behind the last log that the bucket holds, whatever is missing before that.
    Behind,
    /// From where on the slot kept the log before it heard of older log: what is missing before
    /// that is gone.
    Slot(Lsn),
}

/// Of holes up to this size at the end of the log the rest is asked for: pieces that were under
/// way together when the host died need not have arrived in order.
const HOLE: u64 = 1 << 30;

/// Where no slot tells what was confirmed, so many pieces at the end of the log are in doubt.
const IN_DOUBT: usize = 16;

/// So many pieces of the last two segments are compared with what the server sends.
const MOST_CHECKS: usize = 64;

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
    /// From where on the slot kept the log when it began.
    pub(super) kept: Lsn,
    /// Whether the slot was there, and older log is asked for than it keeps.
    pub(super) earlier: bool,
    /// Where it goes on, if it was asked for a segment before that the slot does not keep.
    pub(super) unsure: Option<Unsure>,
}

/// Where a stream goes on behind a segment that is to be compared, and that the server need not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unsure {
    pub(super) from: Lsn,
    /// Whether the slot is new: then nothing but that segment tells whose log it is.
    pub(super) is_new: bool,
}

/// Begins a stream; `cluster` is the one that was streamed before. `walk_back` asks for the segment
/// before it too, to compare it, also where the slot does not keep that.
///
/// # Errors
/// The server's, the store's; another cluster than before.
pub(super) async fn begin(
    log_store: &LogStore,
    mut connection: Replication,
    slot: &str,
    (resume, walk_back): (ResumeFrom, bool),
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
    let history = history(log_store, &mut connection, system_id, timeline).await?;
    let kept = size.start_of(restart.unwrap_or(flushed));
    let there = There { log_store, system_id, size, history: &history };
    let (timeline, from) = match resume {
        ResumeFrom::Next(timeline, from) => (timeline, from),
        ResumeFrom::Slot(before) => (history.timeline_at(before.max(kept)), before.max(kept)),
        ResumeFrom::Behind => {
            there.behind_last().await?.unwrap_or((history.timeline_at(kept), kept))
        }
        ResumeFrom::Resume if !is_new => there.behind_slot_and_before(kept).await?,
        ResumeFrom::Resume => {
            there.behind_whole(Lsn(0)).await?.unwrap_or((history.timeline_at(kept), kept))
        }
    };
    let from = size.start_of(from);
    let earlier = !is_new && from < kept;
    // The slot may have been moved back since, by the question for older log.
    let keeps = if let ResumeFrom::Slot(before) = resume { before.max(kept) } else { kept };
    // The segment before is compared, and not stored again. The slot may keep it; if it does not, the
    // server may have it all the same.
    let before = Lsn(from.0.saturating_sub(size.bytes()));
    let is_kept = keeps <= before;
    let begins =
        lineage(&history).iter().find(|(of, _)| *of == timeline).map(|(_, begins)| *begins);
    let is_there = begins.is_some_and(|begins| size.start_of(begins) <= before) && before < from;
    let walked = if is_there && (is_kept || walk_back) { before } else { from };
    let checks = there.checks(timeline, walked, from.plus(size.bytes())).await?;
    let has_before = checks.iter().any(|check| check.at <= from);
    let walked_from = if is_kept || has_before { walked } else { from };
    let unsure = walked_from < from && !is_kept;
    if checks.iter().any(|check| flushed < check.at) && timeline == history.timeline {
        tracing::warn!("the bucket has WAL after {flushed}, where the WAL of this server ends");
    }
    let cutter = Cutter::new(system_id, timeline, from, size).comparing(walked_from, checks);
    let stream = connection.start(Some(slot), walked_from, timeline).await?;
    tracing::info!("streaming the WAL of timeline {timeline} from {from}");
    let unsure = unsure.then_some(Unsure { from, is_new });
    Ok(Begun { stream, cutter, system_id, size, kept, earlier, unsure })
}

/// The history of the server's timeline, which is kept: without it nothing leads to its log.
async fn history(
    log_store: &LogStore,
    connection: &mut Replication,
    system_id: u64,
    timeline: Timeline,
) -> Result<TimelineHistory> {
    if timeline == Timeline::FIRST {
        return Ok(TimelineHistory::of_first(timeline));
    }
    let (bytes, history) = connection.history(timeline).await?;
    let place = LogPlace::of_history((system_id, timeline));
    match log_store.keep(place, bytes, of_history(&history)).await {
        Err(error) if history_taken(&error) => tell_history(&error),
        kept => drop(kept?),
    }
    Ok(history)
}

/// The log in the bucket of one cluster, by timeline.
struct There<'a> {
    log_store: &'a LogStore,
    system_id: u64,
    size: WalSegmentSize,
    /// Of the server's timeline.
    history: &'a TimelineHistory,
}

impl There<'_> {
    /// The pieces of a timeline from `from` on that belong to the server's past.
    async fn pieces(&self, timeline: Timeline, from: Lsn, most: usize) -> Result<Vec<Range>> {
        let of = (self.system_id, timeline);
        let mut ranges =
            self.log_store.ranges(of, self.size, self.size.start_of(from), None).await?;
        if let Some(left) = self.history.left(timeline) {
            ranges.retain(|(start, _)| *start < left);
        }
        sound(self.log_store, of, self.size, ranges, most).await
    }

    /// What the bucket's heads tell of its log at positions behind `from` and up to `until`.
    async fn checks(&self, timeline: Timeline, from: Lsn, until: Lsn) -> Result<VecDeque<Check>> {
        let of = (self.system_id, timeline);
        let mut ranges = self.log_store.ranges(of, self.size, from, Some(until)).await?;
        // What was written behind a promotion is nobody's log any more.
        let until = self.history.left(timeline).map_or(until, |left| left.min(until));
        ranges.retain(|(start, end)| *start >= from && *end <= until);
        let newest = ranges.len().saturating_sub(MOST_CHECKS);
        let mut checks = Vec::new();
        for (start, end) in ranges.split_off(newest) {
            let place = LogPlace::of_wal(of, (start, end));
            let head = match self.log_store.head(&place).await {
                Err(error) if is_damaged(&error) || is_missing(&error) => continue,
                head => head?,
            };
            let begins = self.size.start_of(start) == start;
            let digest = if begins { Some(head.plain_sha256) } else { head.holds.after };
            checks.extend(digest.map(|digest| Check { at: end, digest, head: Box::new(head) }));
        }
        checks.sort_by_key(|check| check.at);
        Ok(checks.into())
    }

    /// The same, and behind what the bucket holds before that, where something is missing in between:
    /// whoever made the slot may have ended before the log was there that the server had from
    /// before it.
    async fn behind_slot_and_before(&self, kept: Lsn) -> Result<(Timeline, Lsn)> {
        let by_slot = self.behind_slot(kept).await?;
        let before = self.behind_whole(Lsn(kept.0.saturating_sub(HOLE))).await?;
        Ok(before.filter(|(_, at)| *at < by_slot.1).unwrap_or(by_slot))
    }

    /// From where a slot keeps the log, on as far as the bucket holds it, through all timelines.
    async fn behind_slot(&self, kept: Lsn) -> Result<(Timeline, Lsn)> {
        let (mut timeline, mut from) = (self.history.timeline_at(kept), kept);
        loop {
            let pieces = self.pieces(timeline, from, usize::MAX).await?;
            let (next, at) = behind(self.history, timeline, first_reach(&pieces, from));
            if next == timeline {
                return Ok((timeline, at));
            }
            (timeline, from) = (next, at);
        }
    }

    /// Behind the last log that there is, on the newest timeline of which there is any.
    async fn behind_last(&self) -> Result<Option<(Timeline, Lsn)>> {
        for (timeline, _) in lineage(self.history) {
            let pieces = self.pieces(timeline, Lsn(0), IN_DOUBT).await?;
            if let Some(reach) = last_reach(&pieces, 0) {
                return Ok(Some(behind(self.history, timeline, reach)));
            }
        }
        Ok(None)
    }

    /// Behind the last log without a hole from `from` on, where there is any. That there is log of a
    /// timeline does not mean that its beginning is there, or the end of the timeline that it came from.
    async fn behind_whole(&self, from: Lsn) -> Result<Option<(Timeline, Lsn)>> {
        let (mut found, mut needs) = (None, None);
        for (timeline, begins) in lineage(self.history) {
            let pieces = self.pieces(timeline, from, IN_DOUBT).await?;
            let Some((first, reach)) = pieces.first().zip(last_reach(&pieces, HOLE)) else {
                continue;
            };
            let here = self.history.left(timeline).map_or(reach, |left| left.min(reach));
            if needs.is_none_or(|needs| here < needs) {
                found = Some(behind(self.history, timeline, reach));
            }
            let segment = self.size.start_of(begins.max(from));
            let is_whole = first.0 <= segment;
            // Whatever is missing before that much is missing for good.
            if is_whole && here.since(begins) > HOLE {
                break;
            }
            // The new timeline's first segment holds what it has of the old one.
            needs = Some(if is_whole { segment } else { first.0 });
        }
        Ok(found)
    }
}

/// A timeline and its ancestors, the oldest last, each with where it begins.
fn lineage(history: &TimelineHistory) -> Vec<(Timeline, Lsn)> {
    let mut begins = Lsn(0);
    let mut lineage = Vec::new();
    for ancestor in &history.ancestors {
        lineage.push((ancestor.timeline, begins));
        begins = ancestor.until;
    }
    lineage.push((history.timeline, begins));
    lineage.reverse();
    lineage
}

/// The pieces, in order, without those of the last `most` that do not hold what is signed of them:
/// that an object is there does not mean that it was read back before its writer died. Those in the
/// last segment are not read, for that one is streamed anew.
async fn sound(
    log_store: &LogStore,
    of: (u64, Timeline),
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
                (log_store.stored_size(&LogPlace::of_wal(of, (start, end))).await, (start, end))
            })
            .buffered(AT_ONCE);
        while let Some((weighed, range)) = weighed.next().await {
            seen.insert(range);
            match weighed {
                Ok(_) => {}
                // What is within it is looked at in its place.
                Err(error) if is_damaged(&error) || is_missing(&error) => {
                    tracing::warn!("a piece of WAL in the bucket does not count: {error:#}");
                    ranges.retain(|other| *other != range);
                }
                Err(error) => return Err(error).context("read the WAL back that is there"),
            }
        }
    }
}

/// Pieces in order, joined where they meet.
fn runs(ranges: &[Range]) -> Vec<Range> {
    let mut runs: Vec<Range> = Vec::new();
    for (start, end) in ranges {
        match runs.last_mut() {
            Some(last) if *start <= last.1 => last.1 = last.1.max(*end),
            _ => runs.push((*start, *end)),
        }
    }
    runs
}

/// How far log reaches without a gap from where a slot keeps it.
fn first_reach(ranges: &[Range], kept: Lsn) -> Lsn {
    runs(ranges).first().filter(|first| first.0 <= kept).map_or(kept, |first| first.1.max(kept))
}

/// How far all that there is reaches, up to the first of the holes of at most `hole` at its end.
fn last_reach(ranges: &[Range], hole: u64) -> Option<Lsn> {
    let mut runs = runs(ranges);
    let mut last = runs.pop()?;
    while let Some(before) = runs.pop().filter(|before| last.0.since(before.1) <= hole) {
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
        type Case<'a> = (&'a [(u64, u64)], u64, u64);
        let cases: &[Case<'_>] = &[
            (&[], 10, 10),
            (&[(10, 20), (20, 30)], 10, 30),
            // One that was under way arrived, and the one before it did not.
            (&[(10, 20), (25, 30)], 10, 20),
            (&[(15, 30)], 10, 10),
            (&[(5, 8), (15, 30)], 10, 10),
        ];
        for (ranges, kept, expected) in cases {
            assert_eq!(first_reach(&lsns(ranges), Lsn(*kept)), Lsn(*expected), "{ranges:?}");
        }
        let far = HOLE * 2;
        type Last<'a> = (&'a [(u64, u64)], Option<u64>);
        let cases: &[Last<'_>] = &[
            (&[], None),
            (&[(10, 20), (25, 30), (30, 40)], Some(20)),
            (&[(10, 20), (15, 40), (40, 41)], Some(41)),
            // That old a gap is one for good.
            (&[(10, 20), (far, far + 1)], Some(far + 1)),
        ];
        for (ranges, expected) in cases {
            assert_eq!(last_reach(&lsns(ranges), HOLE), expected.map(Lsn), "{ranges:?}");
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
