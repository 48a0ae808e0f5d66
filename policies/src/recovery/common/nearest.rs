use drctl_model::Position as _;
use jiff::Timestamp;

use super::aim::Goal;
use super::archive::Micros;
use super::path::Path;
use super::reachable::{Reachable, reachable};
use super::search::leads;
use super::{Lines, Place};

/// Places that are tried in each direction until one is found that a plan leads to.
const TRIES: usize = 4;

/// What is nearest to a target that cannot be reached, before and behind it; the last place of all
/// where the target has none in the order.
pub(crate) fn nearest<L: Lines>(
    path: &Path<'_, L>,
    goal: Option<&Goal<L::At>>,
) -> (Option<Place<L>>, Option<Place<L>>) {
    let mut ranges = reachable(path);
    // A base that nothing follows leads to the end of the log only, which is no position.
    ranges.retain(|range| range.from < range.until);
    match goal {
        Some(Goal::Time(at)) => {
            let at = Micros::of(*at).time().unwrap_or(*at);
            let (before, after) = by_time(&ranges, at);
            let led = |place: &Place<L>| place.at.is_some_and(|at| leads(path, &Goal::Time(at)));
            let find = |places: Vec<Place<L>>| places.into_iter().take(TRIES).find(led);
            let (before, after) = (find(before), find(after));
            // Without any time there is still the end of the log.
            let untimed = || ranges.iter().rev().find(|r| r.times.is_none()).map(last_of);
            let neither = before.is_none() && after.is_none();
            (if neither { untimed() } else { before }, after)
        }
        Some(Goal::Position { at, .. }) => by_position(&ranges, *at),
        _ => (ranges.last().map(last_of), None),
    }
}

/// Candidates before and behind a time, the nearest first.
fn by_time<L: Lines>(ranges: &[Reachable<L::At>], at: Timestamp) -> (Vec<Place<L>>, Vec<Place<L>>) {
    let timed = || ranges.iter().filter_map(|range| range.times.map(|times| (range, times)));
    let before = timed().filter(|(_, (_, until))| *until <= at);
    let after = timed().filter(|(_, (from, _))| *from >= at);
    let mut before: Vec<Place<L>> = before.map(|(range, _)| last_of(range)).collect();
    let mut after: Vec<Place<L>> = after.map(|(range, _)| first_of(range)).collect();
    before.sort_by_key(|place| std::cmp::Reverse(place.at));
    after.sort_by_key(|place| place.at);
    (before, after)
}

fn by_position<L: Lines>(
    ranges: &[Reachable<L::At>],
    at: L::At,
) -> (Option<Place<L>>, Option<Place<L>>) {
    let before = ranges.iter().rev().find(|range| range.until <= at);
    let after = ranges.iter().find(|range| range.from > at);
    (before.map(last_of), after.map(first_of))
}

fn first_of<L: Lines>(range: &Reachable<L::At>) -> Place<L> {
    Place { position: range.from, at: range.times.map(|(from, _)| from) }
}

/// The last byte: what lies behind it is no target any more.
fn last_of<L: Lines>(range: &Reachable<L::At>) -> Place<L> {
    let last = L::At::of(range.until.number().saturating_sub(1));
    Place { position: last.max(range.from), at: range.times.map(|(_, until)| until) }
}
