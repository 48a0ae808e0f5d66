use drctl_model::{Lsn, Timeline};
use jiff::Timestamp;

use super::{Archive, Path, Wal, Warning};
use crate::recovery::common::{Base, Bounds, Micros, Stood, commits};

/// Commits at a time or before that lie on another timeline alone, where the path has none as late:
/// which timeline, and the last of them.
pub(super) fn left_behind(
    archive: &Archive,
    path: &Path<'_>,
    bounds: &Bounds<Lsn>,
    at: Micros,
) -> Option<(Timeline, Timestamp)> {
    let shows = bounds.latest();
    let mut found: Option<(Micros, Timeline)> = None;
    for (timeline, log) in &archive.log.logs {
        let Some(begins) = parted(archive, path, *timeline) else { continue };
        let own = log.entries.iter().filter(|entry| entry.start >= begins);
        let timed = own.filter_map(commits).filter(|(first, _)| *first <= at);
        let last = timed.map(|(_, last)| last.min(at)).max().filter(|last| Some(*last) > shows);
        found = found.max(last.map(|last| (last, *timeline)));
    }
    found.and_then(|(last, timeline)| Some((timeline, last.time()?)))
}

/// From where on a timeline has what a path has not; nothing for the path's own.
fn parted(archive: &Archive, path: &Path<'_>, timeline: Timeline) -> Option<Lsn> {
    match path.holds(timeline) {
        true => path.left(timeline),
        // What it has of a common ancestor is no commit of its own.
        false => Some(archive.history(timeline).map_or(Lsn(0), |own| own.begins())),
    }
}

/// What another timeline has behind the place where it and a path parted.
struct Tail {
    timeline: Timeline,
    /// Up to where its WAL or its bases lead.
    end: Lsn,
    /// The last that is known to have happened on it, if that is later than all on the path.
    lived: Micros,
    /// The last that surely happened behind that place.
    behind: Option<Micros>,
}

/// Whether a recovery of all that there is has to be told which timeline is meant, and what it
/// leaves behind: a timeline that lived on for longer than the followed one is no dead branch,
/// unless somebody `named` the followed one.
pub(super) fn forks(archive: &Archive, path: &Path<'_>, named: bool) -> Vec<Warning> {
    let shows = lived(path);
    let mut found = Vec::new();
    for Tail { timeline, end, lived, behind } in tails(archive, path) {
        let longer = shows.is_none_or(|shows| lived > shows);
        let last = if longer { Some(lived) } else { behind };
        let Some(until) = last.and_then(Micros::time) else { continue };
        if longer && !named {
            let (followed, reach) = (path.lineage, path.end());
            let shows = shows.and_then(Micros::time);
            found.push(Warning::Fork { timeline, end, until, followed, reach, shows });
        } else if longer || path.holds(timeline) {
            found.push(Warning::LeftBehind { timeline, until });
        }
    }
    found
}

fn tails(archive: &Archive, path: &Path<'_>) -> Vec<Tail> {
    let of_bases = archive.log.bases.iter().map(|base| base.lineage);
    let mut timelines: Vec<Timeline> = archive.log.logs.keys().copied().chain(of_bases).collect();
    timelines.sort_unstable();
    timelines.dedup();
    // What is known of no history is told by itself.
    timelines.retain(|timeline| archive.history(*timeline).is_some());
    timelines.into_iter().filter_map(|timeline| tail(archive, path, timeline)).collect()
}

fn tail(archive: &Archive, path: &Path<'_>, timeline: Timeline) -> Option<Tail> {
    let parted = parted(archive, path, timeline)?;
    let entries = archive.log.entries(timeline);
    // One that lies on both sides has commits of its own where they are later than all that the path's
    // own copy of its beginning holds.
    let apart = |start: Lsn| start >= parted || path.has_copy(timeline, start);
    let entries = entries.iter().filter(|entry| entry.end > parted && apart(entry.start));
    let log = entries.filter_map(|one| Some((one.start >= parted, one.end, commits(one)?.1)));
    let on = archive.log.bases.iter().filter(|base| base.lineage == timeline);
    let bases = on.filter(|base| base.stop > parted);
    let bases = bases.filter_map(|base| Some((true, base.stop, life(base)?)));
    let all: Vec<(bool, Lsn, Micros)> = log.chain(bases).collect();
    Some(Tail {
        timeline,
        end: all.iter().map(|(_, end, _)| *end).max()?,
        lived: all.iter().map(|(.., at)| *at).max()?,
        behind: all.iter().filter(|(sure, ..)| *sure).map(|(.., at)| *at).max(),
    })
}

/// The last that is known to have happened on a path, by the clocks of its servers.
fn lived(path: &Path<'_>) -> Option<Micros> {
    let log = path.pieces().filter_map(|seen| seen.last());
    log.chain(path.bases.iter().filter_map(|base| life(base))).max()
}

/// When the server lived that a base was taken of: by its own clock, and never by that of the host.
fn life(base: &Base<Wal>) -> Option<Micros> {
    match base.stood {
        Stood::Log { last_commit, checkpoint } => {
            Some(Micros::of(last_commit.map_or(checkpoint, |at| at.max(checkpoint))))
        }
        Stood::Server(at) => Some(Micros::of(at)),
        Stood::Host(_) => None,
    }
}
