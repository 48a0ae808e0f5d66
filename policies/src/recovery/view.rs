use drctl_model::{BackupId, Lsn, Timeline};
use jiff::Timestamp;
use serde::Serialize;

use super::aim::{consistent, consistent_since};
use super::archive::{Archive, Micros, Range, commits as times_in};
use super::path::Path;
use super::{Base, Gap};

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
    /// Its own log, also what its descendants left behind.
    pub spans: Vec<Span>,
    /// What is missing between its beginning and the end of its log.
    pub gaps: Vec<Gap>,
    /// The bases taken on it, by the position of their end.
    pub bases: Vec<BaseOn>,
    /// What can be recovered on it, the ancestors' part included.
    pub reachable: Vec<Reachable>,
}

/// A stretch of log without a gap.
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
    /// Whether it follows another history than the log around it: it leads nowhere then.
    pub other_history: bool,
}

/// A stretch of log in which every target can be reached.
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
    let mut timelines: Vec<Timeline> = archive.histories.keys().copied().collect();
    timelines.extend(archive.logs.keys());
    timelines.extend(archive.bases.iter().map(|base| base.timeline));
    timelines.sort_unstable();
    timelines.dedup();
    timelines.into_iter().map(|timeline| view(archive, timeline)).collect()
}

fn view(archive: &Archive, timeline: Timeline) -> TimelineView {
    let path = Path::to(archive, timeline);
    let last = path.as_ref().and_then(|path| path.history.ancestors.last());
    TimelineView {
        timeline,
        known: path.is_some() && !archive.assumed.contains(&timeline),
        parent: last.map(|ancestor| (ancestor.timeline, ancestor.until)),
        branched: path.as_ref().and_then(branched),
        spans: spans(archive, timeline),
        gaps: path.as_ref().map(gaps).unwrap_or_default(),
        bases: bases(archive, timeline, path.as_ref()),
        reachable: path.as_ref().map(reachable).unwrap_or_default(),
    }
}

fn branched(path: &Path<'_>) -> Option<Timestamp> {
    let at = path.history.begins();
    let before = path.pieces().filter(|seen| seen.end <= at).filter_map(|seen| seen.last());
    before.max().and_then(Micros::time)
}

fn spans(archive: &Archive, timeline: Timeline) -> Vec<Span> {
    let Some(log) = archive.logs.get(&timeline) else { return Vec::new() };
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

fn times(of: Option<(Micros, Micros)>) -> Option<(Timestamp, Timestamp)> {
    let (first, last) = of?;
    first.time().zip(last.time())
}

/// Those between the stretches of the path that end on the timeline itself.
fn gaps(path: &Path<'_>) -> Vec<Gap> {
    let between = path.spans.windows(2).filter_map(|pair| match pair {
        [before, after] => Some((before.end, after.start)),
        _ => None,
    });
    // One right before the branch is nobody else's: the ancestor's log ends there.
    let (begins, own_from) = (path.history.begins(), path.own_from());
    let own = between.filter(|(_, until)| *until > begins || Some(*until) == own_from);
    own.map(|(from, _)| path.gap_at(from)).chain(path.lost_end()).collect()
}

fn bases(archive: &Archive, timeline: Timeline, path: Option<&Path<'_>>) -> Vec<BaseOn> {
    let since = |base| path.and_then(|path| consistent_since(path, base).time());
    let on = archive.bases.iter().filter(|base| base.timeline == timeline);
    let mut bases: Vec<BaseOn> = on
        .map(|base| BaseOn {
            backup: base.backup.clone(),
            stop: base.stop,
            stopped: since(base).unwrap_or(base.stood.told()),
            good: base.good,
            other_history: archive.foreign.contains_key(&base.backup),
        })
        .collect();
    bases.sort_by(|a, b| (a.stop, &a.backup).cmp(&(b.stop, &b.backup)));
    bases
}

/// A base that can be made consistent.
struct Usable<'a> {
    base: &'a Base,
    span: Range,
    since: Micros,
    /// The last commit behind it, as far as its log leads.
    last: Option<Micros>,
}

/// What the bases of a path lead to, by position.
pub(super) fn reachable(path: &Path<'_>) -> Vec<Reachable> {
    let mut reachable: Vec<(Range, Reachable)> = Vec::new();
    for usable in usable(path) {
        let Usable { base, span, since, last } = usable;
        let own = times(last.filter(|last| *last >= since).map(|last| (since, last)));
        match reachable.last_mut().filter(|(of, _)| *of == span) {
            Some((_, range)) => {
                range.suspect = range.suspect && !base.good;
                range.times = match (range.times, own) {
                    (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
                    (one, other) => one.or(other),
                };
            }
            None => {
                let (from, until, suspect) = (base.stop, span.end, !base.good);
                reachable.push((span, Reachable { from, until, times: own, suspect }));
            }
        }
    }
    reachable.into_iter().map(|(_, range)| range).collect()
}

/// Those that can be used, by the position of their end.
fn usable<'a>(path: &Path<'a>) -> Vec<Usable<'a>> {
    let mut usable: Vec<Usable<'a>> = path
        .bases
        .iter()
        .filter_map(|base| {
            let span = consistent(path, base).ok()?;
            Some(Usable { base, span, since: consistent_since(path, base), last: None })
        })
        .collect();
    usable.sort_by_key(|usable| usable.base.stop);
    // The end of the piece before, and how many bases had ended before that.
    let (mut reached, mut after) = (Lsn(0), 0);
    path.pieces().for_each(|seen| {
        let Some(last) = seen.last() else { return };
        // The newest base that ended before it; what it says holds for the older ones too. Pieces come
        // in order, so that it is nearly always the one of the piece before.
        let from = if seen.end < reached { 0 } else { after };
        let rest = usable.get(from..).unwrap_or_default();
        let ended = rest.iter().take_while(|usable| usable.base.stop < seen.end).count();
        after = from.saturating_add(ended);
        reached = seen.end;
        let newest = after.checked_sub(1).and_then(|index| usable.get_mut(index));
        if let Some(newest) = newest.filter(|newest| seen.start < newest.span.end) {
            newest.last = newest.last.max(Some(last));
        }
    });
    let mut later: Option<(Range, Option<Micros>)> = None;
    for usable in usable.iter_mut().rev() {
        let same = later.filter(|(span, _)| *span == usable.span);
        usable.last = usable.last.max(same.and_then(|(_, last)| last));
        later = Some((usable.span, usable.last));
    }
    usable
}
