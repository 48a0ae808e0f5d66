use drctl_model::Position as _;
use jiff::Timestamp;

use super::aim::{consistent, consistent_since};
use super::archive::{Micros, Range};
use super::path::Path;
use super::{Base, Lines};

/// A stretch of log in which every target can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reachable<P> {
    /// The earliest position: where its first base ended.
    pub(crate) from: P,
    /// Behind the last position.
    pub(crate) until: P,
    /// The earliest and the last time; nothing where no commit follows the base.
    pub(crate) times: Option<(Timestamp, Timestamp)>,
    /// Whether all its bases are suspect.
    pub(crate) suspect: bool,
}

/// What can be reached, and the contiguous log in which it lies.
type Within<P> = (Range<P>, Reachable<P>);

/// Both as others write them.
pub(crate) fn times(of: Option<(Micros, Micros)>) -> Option<(Timestamp, Timestamp)> {
    let (first, last) = of?;
    first.time().zip(last.time())
}

/// A base that can be made consistent.
struct Usable<'a, L: Lines> {
    base: &'a Base<L>,
    span: Range<L::At>,
    since: Micros,
    /// The last commit behind it, as far as its log leads.
    last: Option<Micros>,
}

/// What the bases of a path lead to, by position.
pub(crate) fn reachable<L: Lines>(path: &Path<'_, L>) -> Vec<Reachable<L::At>> {
    let mut reachable: Vec<Within<L::At>> = Vec::new();
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
fn usable<'a, L: Lines>(path: &Path<'a, L>) -> Vec<Usable<'a, L>> {
    let mut usable: Vec<Usable<'a, L>> = path
        .bases
        .iter()
        .filter_map(|base| {
            let span = consistent(path, base).ok()?;
            Some(Usable { base, span, since: consistent_since(path, base), last: None })
        })
        .collect();
    usable.sort_by_key(|usable| usable.base.stop);
    // The end of the piece before, and how many bases had ended before that.
    let (mut reached, mut after) = (L::At::first(), 0);
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
    let mut later: Option<(Range<L::At>, Option<Micros>)> = None;
    for usable in usable.iter_mut().rev() {
        let same = later.filter(|(span, _)| *span == usable.span);
        usable.last = usable.last.max(same.and_then(|(_, last)| last));
        later = Some((usable.span, usable.last));
    }
    usable
}
