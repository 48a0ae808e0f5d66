//! What the bucket has of a cluster's log, through its timelines: behind what a stream goes on, and what
//! it is compared with.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Context as _, Result};
use drctl_model::{LogPlace, Lsn, Timeline, TimelineHistory, WalSegmentSize, outermost};
use futures_util::{StreamExt as _, stream};

use super::begin::ResumeFrom;
use crate::engine::wal::cutter::Check;
use crate::log::{LogStore, is_damaged};
use crate::repository::faults::is_missing;

/// Of holes up to this size at the end of the log the rest is asked for: pieces that were under
/// way together when the host died need not have arrived in order.
const HOLE: u64 = 1 << 30;

/// Where no slot tells what was confirmed, so many pieces at the end of the log are in doubt.
const IN_DOUBT: usize = 16;

/// So many pieces of the last segments are compared with what the server sends, and whole ones.
const MOST_CHECKS: usize = 64;

/// How many pieces are read at once to see whether they hold.
const AT_ONCE: usize = 4;

/// A range of log.
type Range = (Lsn, Lsn);

/// The log in the bucket of one cluster, by timeline.
pub(super) struct There<'a> {
    log_store: &'a LogStore,
    system_id: u64,
    size: WalSegmentSize,
    /// Of the server's timeline.
    history: &'a TimelineHistory,
    /// What was listed of timelines, and from where on.
    listed: BTreeMap<Timeline, (Lsn, Sound)>,
}

/// The pieces of a timeline in order, without those that were weighed and do not count.
#[derive(Default)]
struct Sound {
    ranges: Vec<Range>,
    weighed: BTreeSet<Range>,
}

impl<'a> There<'a> {
    pub(super) fn new(
        log_store: &'a LogStore,
        system_id: u64,
        size: WalSegmentSize,
        history: &'a TimelineHistory,
    ) -> Self {
        There { log_store, system_id, size, history, listed: BTreeMap::new() }
    }

    /// Where a stream goes on; a new slot tells nothing of what is stored.
    pub(super) async fn goes_on(
        &mut self,
        resume: ResumeFrom,
        kept: Lsn,
        is_new: bool,
    ) -> Result<(Timeline, Lsn)> {
        let by_slot = (self.history.timeline_at(kept), kept);
        Ok(match resume {
            ResumeFrom::Next(timeline, from) => (timeline, from),
            ResumeFrom::Slot(before) => {
                (self.history.timeline_at(before.max(kept)), before.max(kept))
            }
            ResumeFrom::Behind => self.behind_last().await?.unwrap_or(by_slot),
            ResumeFrom::Resume if !is_new => self.behind_slot_and_before(kept).await?,
            ResumeFrom::Resume => self.behind_whole(Lsn(0)).await?.unwrap_or(by_slot),
        })
    }

    /// The pieces of a timeline from `from` on that belong to the server's past; the last `most` of them
    /// are weighed, each once.
    async fn pieces(&mut self, timeline: Timeline, from: Lsn, most: usize) -> Result<Vec<Range>> {
        let (of, from) = ((self.system_id, timeline), self.size.start_of(from));
        if self.listed.get(&timeline).is_none_or(|(listed, _)| from < *listed) {
            let mut ranges = self.log_store.ranges(of, self.size, from, None).await?;
            if let Some(left) = self.history.left(timeline) {
                ranges.retain(|(start, _)| *start < left);
            }
            self.listed.insert(timeline, (from, Sound { ranges, ..Sound::default() }));
        }
        let Some((_, sound)) = self.listed.get_mut(&timeline) else { return Ok(Vec::new()) };
        sound.weigh((self.log_store, of, self.size), from, most).await?;
        Ok(sound.from(from).to_vec())
    }

    /// What the bucket's heads tell of its log in the segments from `walked` up to `until`; `from` is where
    /// it goes on.
    pub(super) async fn checks(
        &self,
        timeline: Timeline,
        (walked, from, until): (Lsn, Lsn, Lsn),
    ) -> Result<VecDeque<Check>> {
        let of = (self.system_id, timeline);
        let mut ranges = match self.listed.get(&timeline) {
            Some((listed, sound)) if *listed <= walked => sound.from(walked).to_vec(),
            _ => self.log_store.ranges(of, self.size, walked, Some(until)).await?,
        };
        // What was written behind a promotion is nobody's log any more.
        let until = self.history.left(timeline).map_or(until, |left| left.min(until));
        ranges.retain(|(start, end)| *start >= walked && *end <= until);
        let surplus = ranges.len().saturating_sub(MOST_CHECKS);
        let mut checks = Vec::new();
        for (index, (start, end)) in ranges.into_iter().enumerate() {
            // Those that meet there tell what follows what; one that is whole tells of all of it.
            let is_whole = end.since(start) == self.size.bytes();
            if index < surplus && start != from && end != from && !is_whole {
                continue;
            }
            let place = LogPlace::of_wal(of, (start, end));
            let head = match self.log_store.head(&place).await {
                Err(error) if is_damaged(&error) || is_missing(&error) => continue,
                head => head?,
            };
            checks.extend(Check::of(head, end, self.size));
        }
        checks.sort_by_key(|check| check.at);
        Ok(checks.into())
    }

    /// The same, and behind what the bucket holds before that, where something is missing in between:
    /// whoever made the slot may have ended before the log was there that the server had from
    /// before it.
    async fn behind_slot_and_before(&mut self, kept: Lsn) -> Result<(Timeline, Lsn)> {
        let from = Lsn(kept.0.saturating_sub(HOLE));
        let before = self.behind_whole(from).await?;
        let by_slot = self.behind_slot(kept).await?;
        Ok(before.filter(|(_, at)| *at < by_slot.1).unwrap_or(by_slot))
    }

    /// From where a slot keeps the log, on as far as the bucket holds it, through all timelines.
    async fn behind_slot(&mut self, kept: Lsn) -> Result<(Timeline, Lsn)> {
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
    async fn behind_last(&mut self) -> Result<Option<(Timeline, Lsn)>> {
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
    async fn behind_whole(&mut self, from: Lsn) -> Result<Option<(Timeline, Lsn)>> {
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
pub(super) fn lineage(history: &TimelineHistory) -> Vec<(Timeline, Lsn)> {
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

impl Sound {
    /// Those that begin at a position or later.
    fn from(&self, from: Lsn) -> &[Range] {
        let first = self.ranges.partition_point(|(start, _)| *start < from);
        self.ranges.get(first..).unwrap_or_default()
    }

    /// Leaves out those of the last `most` that do not hold what is signed of them: that an object is
    /// there does not mean that it was read back before its writer died. Those in the last segment are
    /// not read, for that one is streamed anew.
    async fn weigh(
        &mut self,
        (log_store, of, size): (&LogStore, (u64, Timeline), WalSegmentSize),
        from: Lsn,
        most: usize,
    ) -> Result<()> {
        loop {
            let ranges = self.from(from);
            let reach = ranges.iter().map(|(_, end)| *end).max().map(|end| size.start_of(end));
            let mut doubtful = outermost(ranges);
            doubtful.drain(..doubtful.len().saturating_sub(most));
            doubtful.retain(|range| Some(range.0) < reach && !self.weighed.contains(range));
            if doubtful.is_empty() {
                return Ok(());
            }
            let mut weighed = stream::iter(doubtful)
                .map(|(start, end)| async move {
                    let place = LogPlace::of_wal(of, (start, end));
                    (log_store.stored_size(&place).await, (start, end))
                })
                .buffered(AT_ONCE);
            while let Some((weighed, range)) = weighed.next().await {
                self.weighed.insert(range);
                match weighed {
                    Ok(_) => {}
                    // What is within it is looked at in its place.
                    Err(error) if is_damaged(&error) || is_missing(&error) => {
                        tracing::warn!("a piece of WAL in the bucket does not count: {error:#}");
                        self.ranges.retain(|other| *other != range);
                    }
                    Err(error) => return Err(error).context("read the WAL back that is there"),
                }
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
