use drctl_model::{Lsn, Timeline};
use jiff::Timestamp;

use super::archive::{Archive, Micros, commits};
use super::bounds::Bounds;
use super::path::Path;

/// Commits at a time or before that lie on another timeline alone, where the path has none as late:
/// which timeline, and the last of them.
pub(super) fn left_behind(
    archive: &Archive,
    path: &Path<'_>,
    bounds: &Bounds,
    at: Micros,
) -> Option<(Timeline, Timestamp)> {
    let shows = bounds.latest();
    let mut found: Option<(Micros, Timeline)> = None;
    for (timeline, log) in &archive.logs {
        let begins = match (path.history.holds(*timeline), path.history.left(*timeline)) {
            (true, None) => continue,
            (true, Some(left)) => left,
            // What it has of a common ancestor is no commit of its own.
            (false, _) => archive.histories.get(timeline).map_or(Lsn(0), |own| own.begins()),
        };
        let own = log.entries.iter().filter(|entry| entry.start >= begins);
        let timed = own.filter_map(commits).filter(|(first, _)| *first <= at);
        let last = timed.map(|(_, last)| last.min(at)).max().filter(|last| Some(*last) > shows);
        found = found.max(last.map(|last| (last, *timeline)));
    }
    found.and_then(|(last, timeline)| Some((timeline, last.time()?)))
}
