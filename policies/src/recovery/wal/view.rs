use drctl_model::{BackupId, Lsn, Timeline};
use jiff::Timestamp;
use serde::Serialize;

use super::{Archive, Gap, Path, Unproven};
use crate::recovery::common::{self, Micros, commits as times_in, consistent_since, cut, times};

/// What there is of one timeline, and what can be reached on the way to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineView {
    /// Its number.
    pub timeline: Timeline,
    /// Whether its history is known; nothing can be recovered on it otherwise.
    pub known: bool,
    /// The timeline that it branched off from, and where.
    pub parent: Option<(Timeline, Lsn)>,
    /// The last commit before that, where one is known.
    pub branched: Option<Timestamp>,
    /// Its own WAL, also what its descendants left behind.
    pub spans: Vec<Span>,
    /// What is missing between its beginning and the end of its WAL.
    pub gaps: Vec<Gap>,
    /// Where it is not known whether its WAL follows the WAL before it.
    pub unproven: Vec<Unproven>,
    /// The bases taken on it, by the position of their end.
    pub bases: Vec<BaseOn>,
    /// What can be recovered on it, the ancestors' part included.
    pub reachable: Vec<Reachable>,
}

/// A stretch of WAL without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Its first byte.
    pub from: Lsn,
    /// Behind its last byte.
    pub until: Lsn,
    /// The earliest and the last commit in it.
    pub commits: Option<(Timestamp, Timestamp)>,
}

/// A base on a timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BaseOn {
    /// Which one.
    pub backup: BackupId,
    /// Where it ended.
    pub stop: Lsn,
    /// The earliest time that it leads to.
    pub stopped: Timestamp,
    /// Whether it counts.
    pub good: bool,
    /// Whether it was found bad: nothing begins with it.
    pub bad: bool,
    /// Whether it follows another history than the WAL around it: it leads nowhere then.
    pub other_history: bool,
}

/// A stretch of WAL in which every target can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reachable {
    /// The earliest position: where its first base ended.
    pub from: Lsn,
    /// Behind the last position.
    pub until: Lsn,
    /// The earliest and the last time; nothing where no commit follows the base.
    pub times: Option<(Timestamp, Timestamp)>,
    /// Whether all its bases are suspect.
    pub suspect: bool,
}

/// All timelines, oldest first.
#[must_use]
pub fn timeline_view(archive: &Archive) -> Vec<TimelineView> {
    let mut timelines: Vec<Timeline> = archive.histories().timelines().collect();
    timelines.extend(archive.log.logs.keys());
    timelines.extend(archive.log.all_bases().map(|base| base.lineage));
    timelines.sort_unstable();
    timelines.dedup();
    timelines.into_iter().map(|timeline| view(archive, timeline)).collect()
}

fn view(archive: &Archive, timeline: Timeline) -> TimelineView {
    let path = Path::to(&archive.log, timeline);
    let gaps = |path: &Path<'_>| {
        let mut gaps = path.gaps();
        // Behind all that is there, or before it: what a base needs all the same.
        let own = archive.log.bases.iter().filter(|base| base.lineage == timeline);
        let own = own.filter(|base| path.holds(base.lineage) && path.foreign(base).is_none());
        for gap in own.filter_map(|base| cut(path, base)) {
            if !gaps.iter().any(|known| known.from == gap.from) {
                gaps.push(gap);
            }
        }
        gaps.sort_by_key(|gap| gap.from);
        gaps.into_iter().map(Gap::from).collect()
    };
    TimelineView {
        timeline,
        known: path.is_some() && !archive.histories().assumed.contains(&timeline),
        parent: path.as_ref().and_then(|path| path.ancestors().last().copied()),
        branched: path.as_ref().and_then(branched),
        spans: spans(archive, timeline),
        gaps: path.as_ref().map(gaps).unwrap_or_default(),
        unproven: path.as_ref().map(|path| unproven(path, timeline)).unwrap_or_default(),
        bases: bases(archive, timeline, path.as_ref()),
        reachable: path.as_ref().map(reachable).unwrap_or_default(),
    }
}

fn unproven(path: &Path<'_>, timeline: Timeline) -> Vec<Unproven> {
    let own = path.unproven().into_iter().filter(|place| place.lineage == timeline);
    own.map(Unproven::from).collect()
}

fn branched(path: &Path<'_>) -> Option<Timestamp> {
    let at = path.begins();
    let before = path.pieces().filter(|seen| seen.end <= at).filter_map(|seen| seen.last());
    before.max().and_then(Micros::time)
}

fn spans(archive: &Archive, timeline: Timeline) -> Vec<Span> {
    let Some(log) = archive.log.logs.get(&timeline) else { return Vec::new() };
    let mut entries = log.entries.iter().peekable();
    let mut spans = Vec::new();
    for span in &log.spans {
        let mut commits: Option<(Micros, Micros)> = None;
        while let Some(entry) = entries.next_if(|entry| entry.start < span.end) {
            let Some((first, last)) = times_in(entry) else { continue };
            commits = Some(commits.map_or((first, last), |(f, l)| (f.min(first), l.max(last))));
        }
        spans.push(Span { from: span.start, until: span.end, commits: times(commits) });
    }
    spans
}

fn bases(archive: &Archive, timeline: Timeline, path: Option<&Path<'_>>) -> Vec<BaseOn> {
    let since = |base| path.and_then(|path| consistent_since(path, base).time());
    let bad = archive.log.bad.iter().map(|base| (base, true));
    let all = archive.log.bases.iter().map(|base| (base, false)).chain(bad);
    let mut bases: Vec<BaseOn> = all
        .filter(|(base, _)| base.lineage == timeline)
        .map(|(base, bad)| BaseOn {
            backup: base.backup.clone(),
            stop: base.stop,
            stopped: since(base).unwrap_or(base.stood.told()),
            good: base.good && !bad,
            bad,
            other_history: archive.log.foreign.contains_key(&base.backup),
        })
        .collect();
    bases.sort_by(|a, b| (a.stop, &a.backup).cmp(&(b.stop, &b.backup)));
    bases
}

/// What the bases of a path lead to, by position.
fn reachable(path: &Path<'_>) -> Vec<Reachable> {
    let told = |range: common::Reachable<Lsn>| Reachable {
        from: range.from,
        until: range.until,
        times: range.times,
        suspect: range.suspect,
    };
    common::reachable(path).into_iter().map(told).collect()
}
