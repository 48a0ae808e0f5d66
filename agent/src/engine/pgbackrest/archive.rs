//! pgBackRest's archive as the planner wants it: a listing tells which segments are there; only
//! segments that are read tell which times are in them.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use drctl_engines::backrest::{ClusterArchive, SegmentName, Walk};
use drctl_model::{Lsn, Timeline, TimelineHistory, WalSegmentSize};
use drctl_policies::recovery::{RestorePoint, Run, Want};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::StanzaArchive;
use super::read::{Looked, Reader, Sha};
use crate::engine::log_archive::{ArchivedLog, Extent};
use crate::engine::wal::Ahead;

/// Segments that are read at once, where all of them are.
const AT_ONCE: usize = 4;

/// The WAL of a cluster in a stanza's archive.
///
/// # Errors
/// pgBackRest's. Segments that are damaged are missing, and told of.
pub(super) async fn log(
    of: &StanzaArchive<'_>,
    system_id: u64,
    Extent { size, want, since }: Extent,
) -> Result<ArchivedLog> {
    let (mut found, stanza) = (ArchivedLog::default(), &of.seen);
    let Some((cluster, archive)) = stanza.cluster(system_id).zip(stanza.archive(system_id)) else {
        return Ok(found);
    };
    let reader = Reader::new(&stanza.backrest, cluster, size, of.folder());
    histories(&reader, archive, &mut found).await?;
    let walk = Walk::over(archive, size).context("check pgBackRest's archive for gaps")?;
    for name in &walk.doubles {
        found.refused.push(format!(
            "{name}: the archive has two segments of this name that differ (split brain); \
             pgBackRest delivers neither"
        ));
    }
    let holes: Vec<(Timeline, Lsn)> = walk
        .doubles
        .iter()
        .map(|name| Ok((name.timeline, name.start(size)?)))
        .collect::<Result<_, drctl_model::LsnError>>()?;
    let mut cuts = cuts(&found.histories, size);
    let mut waiting = Vec::new();
    for run in &walk.runs {
        cuts.insert((run.timeline, size.start_of(since)));
        waiting.extend(pieces((run.timeline, run.from, run.to), &holes, &cuts, size));
    }
    let digests = Digests(archive);
    found.pieces = archive.segments.len() as u64;
    while let Some(run) = waiting.pop() {
        if run.at(run.count) <= since {
            found.entries.entry(run.timeline).or_default().extend(run.entries(want));
            continue;
        }
        let Some(bad) = explore(&reader, &digests, run, want, &mut found).await? else { continue };
        waiting.extend(bad);
    }
    Ok(found)
}

async fn histories(
    reader: &Reader<'_>,
    archive: &ClusterArchive,
    found: &mut ArchivedLog,
) -> Result<()> {
    for timeline in &archive.histories {
        let name = format!("{:08X}.history", timeline.id());
        let Some(text) = reader.text(&name).await? else { continue };
        match TimelineHistory::parse(*timeline, &text) {
            Ok(history) => found.histories.push(history),
            Err(error) => found.refused.push(format!("{name}: {error}")),
        }
    }
    Ok(())
}

/// Where runs are told of apart: at the segments in which a timeline was left.
fn cuts(histories: &[TimelineHistory], size: WalSegmentSize) -> BTreeSet<(Timeline, Lsn)> {
    let left = histories.iter().flat_map(|history| &history.ancestors);
    left.flat_map(|ancestor| {
        let start = size.start_of(ancestor.until);
        [(ancestor.timeline, start), (ancestor.timeline, start.plus(size.bytes()))]
    })
    .collect()
}

/// A range of segments, cut and without holes.
fn pieces(
    (timeline, from, to): (Timeline, Lsn, Lsn),
    holes: &[(Timeline, Lsn)],
    cuts: &BTreeSet<(Timeline, Lsn)>,
    size: WalSegmentSize,
) -> Vec<Run> {
    let mut ends: BTreeSet<Lsn> = cuts
        .range((timeline, from)..(timeline, to))
        .map(|(_, at)| *at)
        .filter(|at| *at > from)
        .collect();
    ends.insert(to);
    let inside = |(of, start): &&(Timeline, Lsn)| *of == timeline && *start >= from && *start < to;
    for (_, start) in holes.iter().filter(inside) {
        ends.extend([*start, start.plus(size.bytes())]);
    }
    let (mut runs, mut at) = (Vec::new(), from);
    for end in ends {
        let count = usize::try_from(end.since(at) / size.bytes()).unwrap_or(usize::MAX);
        if count > 0 && !holes.contains(&(timeline, at)) {
            runs.push(Run::new(timeline, at, size.bytes(), count));
        }
        at = at.max(end);
    }
    runs
}

/// The digests that the archive's names tell.
pub(super) struct Digests<'a>(pub(super) &'a ClusterArchive);

impl Digests<'_> {
    pub(super) fn of(&self, timeline: Timeline, start: Lsn, size: WalSegmentSize) -> Option<Sha> {
        let name = SegmentName::at(timeline, start, size);
        let segments = &self.0.segments;
        let at = segments.binary_search_by_key(&name, |segment| segment.name).ok()?;
        Some(segments.get(at)?.sha1)
    }
}

/// Reads of a run what is wanted and tells it; or gives what is left of it around a segment that
/// does not count.
async fn explore(
    reader: &Reader<'_>,
    digests: &Digests<'_>,
    mut run: Run,
    want: Want,
    found: &mut ArchivedLog,
) -> Result<Option<Vec<Run>>> {
    let size = reader.size();
    if want == Want::All {
        read_at_once(reader, digests, &run, 0..run.count).await?;
    }
    let mut points = Vec::new();
    while let Some(index) = run.next(want) {
        let (timeline, at) = (run.timeline, run.at(index));
        let likely = run.likely(index, AT_ONCE);
        if likely.len() > 1 {
            read_at_once(reader, digests, &run, likely).await?;
        }
        match reader.look(timeline, at, digests.of(timeline, at, size)).await? {
            Looked::Holds(holds) => {
                let point = |(name, lsn, at): &(String, Lsn, jiff::Timestamp)| RestorePoint {
                    timeline,
                    name: name.clone(),
                    lsn: *lsn,
                    at: *at,
                };
                points.extend(holds.restore_points().iter().map(point));
                run.learn(index, &holds);
            }
            Looked::Bad(why) => {
                let name = size.file_name(timeline, at);
                found.refused.push(format!("the segment {name} does not count: {why}"));
                let after = index.saturating_add(1);
                let before = Run::new(timeline, run.start, run.size, index);
                let rest = run.count.saturating_sub(after);
                let behind = Run::new(timeline, run.at(after), run.size, rest);
                return Ok(Some([before, behind].into_iter().filter(|r| r.count > 0).collect()));
            }
        }
    }
    found.points.append(&mut points);
    found.entries.entry(run.timeline).or_default().extend(run.entries(want));
    Ok(None)
}

/// Reads segments, some at once. Each is read once: whoever asks for one then finds it known.
async fn read_at_once(
    reader: &Reader<'_>,
    digests: &Digests<'_>,
    run: &Run,
    indexes: impl IntoIterator<Item = usize>,
) -> Result<()> {
    let one = |index| {
        let at = run.at(index);
        reader.look(run.timeline, at, digests.of(run.timeline, at, reader.size()))
    };
    let reading = stream::iter(indexes.into_iter().map(one));
    let at_once = Ahead::at_once(reader.size(), AT_ONCE);
    reading.buffered(at_once).try_for_each(|_| async { Ok(()) }).await
}

#[cfg(test)]
mod tests {
    use drctl_model::Ancestor;

    use super::*;

    #[test]
    fn a_range_is_cut_where_a_timeline_was_left_and_has_no_holes() {
        let size = WalSegmentSize::new(1 << 20).unwrap();
        let at = |n: u64| Lsn(n << 20);
        let two = Timeline::new(2).unwrap();
        let ancestor =
            Ancestor { timeline: Timeline::FIRST, until: at(5).plus(77), reason: String::new() };
        let history = TimelineHistory { timeline: two, ancestors: vec![ancestor] };
        let cuts = cuts(&[history], size);
        let found = |holes: &[(Timeline, Lsn)], timeline, from, to| -> Vec<(u64, usize)> {
            let runs = pieces((timeline, at(from), at(to)), holes, &cuts, size);
            runs.iter().map(|run| (run.start.0 >> 20, run.count)).collect()
        };
        assert_eq!(found(&[], Timeline::FIRST, 2, 9), [(2, 3), (5, 1), (6, 3)]);
        assert_eq!(found(&[], Timeline::FIRST, 5, 6), [(5, 1)]);
        assert_eq!(found(&[], two, 2, 9), [(2, 7)]);
        let hole = [(Timeline::FIRST, at(2)), (Timeline::FIRST, at(7)), (two, at(3))];
        assert_eq!(found(&hole, Timeline::FIRST, 2, 9), [(3, 2), (5, 1), (6, 1), (8, 1)]);
    }
}
