use drctl_model::{Lsn, Timeline};
use jiff::Timestamp;

use super::archive::{Archive, Micros};
use super::path::Path;
use super::planner::leads;
use super::view::{Reachable, reachable};
use super::{NoPlan, Place, Reason, Target};

/// Places that are tried in each direction until one is found that a plan leads to.
const TRIES: usize = 4;

/// Other timelines that are tried.
const TIMELINES: usize = 8;

/// What is refused, and why.
pub(super) struct Refused<'a> {
    pub(super) target: &'a Target,
    pub(super) timeline: Timeline,
    pub(super) path: Option<&'a Path<'a>>,
    pub(super) reason: Reason,
}

/// Finds what is nearest to what is refused.
pub(super) fn refuse(archive: &Archive, refused: Refused<'_>) -> Box<NoPlan> {
    let Refused { target, timeline, path, reason } = refused;
    let (before, after) = path.map_or((None, None), |path| nearest(archive, path, target));
    Box::new(NoPlan {
        target: target.clone(),
        timeline,
        reason,
        before,
        after,
        elsewhere: elsewhere(archive, timeline, target),
    })
}

fn elsewhere(archive: &Archive, timeline: Timeline, target: &Target) -> Vec<Timeline> {
    let others = archive.histories.keys().rev().filter(|other| **other != timeline);
    let paths = others.take(TIMELINES).filter_map(|other| Path::to(archive, *other));
    paths.filter(|path| leads(archive, path, target)).map(|path| path.history.timeline).collect()
}

fn nearest(archive: &Archive, path: &Path<'_>, target: &Target) -> (Option<Place>, Option<Place>) {
    let mut ranges = reachable(path);
    // A base that nothing follows leads to the end of the log only, which is no position.
    ranges.retain(|range| range.from < range.until);
    match target {
        Target::Time(at) => {
            let at = Micros::of(*at).time().unwrap_or(*at);
            let (before, after) = by_time(&ranges, at);
            let led =
                |place: &Place| place.at.is_some_and(|at| leads(archive, path, &Target::Time(at)));
            let find = |places: Vec<Place>| places.into_iter().take(TRIES).find(led);
            let (before, after) = (find(before), find(after));
            // Without any time there is still the end of the log.
            let untimed = || ranges.iter().rev().find(|r| r.times.is_none()).map(last_of);
            let neither = before.is_none() && after.is_none();
            (if neither { untimed() } else { before }, after)
        }
        Target::Lsn { lsn, .. } => by_position(&ranges, *lsn),
        _ => (ranges.last().map(last_of), None),
    }
}

/// Candidates before and behind a time, the nearest first.
fn by_time(ranges: &[Reachable], at: Timestamp) -> (Vec<Place>, Vec<Place>) {
    let timed = || ranges.iter().filter_map(|range| range.times.map(|times| (range, times)));
    let before = timed().filter(|(_, (_, until))| *until <= at);
    let after = timed().filter(|(_, (from, _))| *from >= at);
    let mut before: Vec<Place> = before.map(|(range, _)| last_of(range)).collect();
    let mut after: Vec<Place> = after.map(|(range, _)| first_of(range)).collect();
    before.sort_by_key(|place| std::cmp::Reverse(place.at));
    after.sort_by_key(|place| place.at);
    (before, after)
}

fn by_position(ranges: &[Reachable], lsn: Lsn) -> (Option<Place>, Option<Place>) {
    let before = ranges.iter().rev().find(|range| range.until <= lsn);
    let after = ranges.iter().find(|range| range.from > lsn);
    (before.map(last_of), after.map(first_of))
}

fn first_of(range: &Reachable) -> Place {
    Place { lsn: range.from, at: range.times.map(|(from, _)| from) }
}

/// The last byte: what lies behind it is no target any more.
fn last_of(range: &Reachable) -> Place {
    let lsn = Lsn(range.until.0.saturating_sub(1)).max(range.from);
    Place { lsn, at: range.times.map(|(_, until)| until) }
}
