use std::collections::BTreeMap;

use drctl_model::Lsn;

use super::archive::{Archive, Micros, Range};
use super::path::{Path, Seen};
use super::{Base, Gap, Place, Reason, Stood, Target};

/// How finely a checkpoint tells when it was begun, in microseconds.
const SECOND: i64 = 1_000_000;

/// A target, looked up on a path: where in the log it is, as far as the pieces tell.
pub(super) enum Aim {
    /// By time: where that is depends on the base.
    Time { at: Micros, late: Vec<Late> },
    /// Not before `lo`; the log up to `hi` holds it. Of a transaction: how many pieces may.
    Position { lo: Lsn, hi: Lsn, pieces: usize },
    /// All records that begin before `at`; the log up to `hi` shows where that is.
    Before { at: Lsn, hi: Lsn },
    /// The end.
    Latest,
}

/// A piece with commits at the target or later.
pub(super) struct Late {
    start: Lsn,
    end: Lsn,
    /// The greatest end of this and all that begin earlier.
    reach: Lsn,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Surely holds a commit later than the target.
    Later,
    /// May hold one: part of it was left behind at a promotion.
    Perhaps,
    /// Its last commit is at the target.
    Exact,
}

/// How far a base leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    /// The server does not stop earlier.
    pub(super) lo: Lsn,
    /// The log up to here is enough.
    pub(super) hi: Lsn,
    /// The end of the contiguous log.
    pub(super) reach: Lsn,
    /// Whether only the end of the log ends the replay.
    pub(super) at_end: bool,
}

/// Why a base does not lead to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Miss {
    /// It ended later.
    EndedAfter,
    /// Something is missing.
    Cut(Gap),
    /// The log ends too early.
    AfterEnd { end: Lsn },
}

impl Aim {
    pub(super) fn at(archive: &Archive, path: &Path<'_>, target: &Target) -> Result<Aim, Reason> {
        match target {
            Target::Time(at) => {
                let at = Micros::of(*at);
                let led = path.bases.iter().filter(|base| at >= consistent_since(path, base));
                let stop = led.map(|base| base.stop).max();
                Ok(Aim::Time { at, late: stop.map_or(Vec::new(), |stop| late(path, at, stop)) })
            }
            Target::Lsn { lsn, inclusive } => {
                let hi = path.end_of_piece_at(*lsn).unwrap_or(lsn.plus(1));
                Ok(match inclusive {
                    true => Aim::Position { lo: *lsn, hi, pieces: 0 },
                    false => Aim::Before { at: *lsn, hi },
                })
            }
            Target::Xid { xid, .. } => by_xid(path, *xid),
            Target::Name(name) => by_name(archive, path, name),
            Target::Latest => Ok(Aim::Latest),
        }
    }

    /// Whether and how far a base leads to it.
    pub(super) fn from(&self, path: &Path<'_>, base: &Base) -> Result<Reached, Miss> {
        if self.is_before(path, base) {
            return Err(Miss::EndedAfter);
        }
        let span = consistent(path, base)?;
        let end = span.end;
        let open = Reached { lo: end, hi: end, reach: end, at_end: true };
        match self {
            Aim::Latest => Ok(open),
            // Nothing is behind it that would end the replay.
            Aim::Before { at, .. } if *at <= end && path.is_last(*at, end) => Ok(open),
            Aim::Before { at, hi } if *hi <= end => {
                Ok(Reached { lo: *at, hi: *hi, reach: end, at_end: false })
            }
            Aim::Before { at, .. } if *at >= path.end() => Err(Miss::AfterEnd { end }),
            Aim::Before { .. } => Err(Miss::Cut(path.gap_at(end))),
            Aim::Position { lo, hi, .. } if *hi <= end => {
                Ok(Reached { lo: *lo, hi: *hi, reach: end, at_end: false })
            }
            Aim::Position { lo, .. } if *lo >= path.end() => Err(Miss::AfterEnd { end }),
            Aim::Position { .. } => Err(Miss::Cut(path.gap_at(end))),
            Aim::Time { late, .. } => match passed(late, base.stop, span) {
                Passed::Between { lo, hi } => Ok(Reached { lo, hi, reach: end, at_end: false }),
                Passed::AtLast => Ok(open),
                Passed::Never
                    if late.iter().any(|late| late.is_behind(end) || late.crosses(end)) =>
                {
                    Err(Miss::Cut(path.gap_at(end)))
                }
                Passed::Never => Err(Miss::AfterEnd { end }),
            },
        }
    }

    fn is_before(&self, path: &Path<'_>, base: &Base) -> bool {
        match self {
            Aim::Time { at, .. } => *at < consistent_since(path, base),
            Aim::Position { lo, .. } | Aim::Before { at: lo, .. } => *lo < base.stop,
            Aim::Latest => false,
        }
    }

    /// How far a base leads in the midst of the pieces that may hold a transaction: whether it
    /// ended behind the base only the replay shows.
    pub(super) fn perhaps(&self, path: &Path<'_>, base: &Base) -> Option<Reached> {
        let Aim::Position { lo, hi, pieces: 1.. } = self else { return None };
        let span = consistent(path, base).ok()?;
        let inside = *lo < base.stop && base.stop < *hi && *hi <= span.end;
        inside.then_some(Reached { lo: base.stop, hi: *hi, reach: span.end, at_end: false })
    }

    /// The time up to which commits are in the result, where the target is a time.
    pub(super) fn time(&self) -> Option<Micros> {
        match self {
            Aim::Time { at, .. } => Some(*at),
            _ => None,
        }
    }
}

/// The earliest time that a base can be recovered to.
///
/// That of the last commit before its end, by the log; where that tells none, when it was by the
/// clock of the server. And a server that meets a later commit before the base is consistent stops
/// there and fails.
pub(super) fn consistent_since(path: &Path<'_>, base: &Base) -> Micros {
    let inside = path.pieces_within(base.start, base.stop);
    let last = inside.filter_map(|seen| seen.last()).max();
    let stood = match base.stood {
        Stood::Log { last_commit: Some(at), .. } | Stood::Server(at) => Micros::above(at),
        Stood::Log { last_commit: None, checkpoint } => {
            // Nothing was committed while it was made, and nothing before that was later than this.
            let before = Micros::above(checkpoint).plus(SECOND);
            path.last_before(base.start).map_or(before, |last| last.min(before))
        }
        Stood::Host(at) => path.last_before(base.stop).unwrap_or(Micros::above(at)),
    };
    stood.max(last.unwrap_or(Micros(i64::MIN)))
}

/// The log that makes a base consistent, and what follows it.
pub(super) fn consistent(path: &Path<'_>, base: &Base) -> Result<Range, Miss> {
    if let Some(gap) = path.foreign(base) {
        return Err(Miss::Cut(gap));
    }
    let span = path.span_at(base.start).ok_or_else(|| Miss::Cut(path.gap_at(base.start)))?;
    if span.end < base.stop {
        return Err(Miss::Cut(path.gap_at(span.end)));
    }
    Ok(span)
}

impl Late {
    fn of(seen: Seen, at: Micros) -> Option<Late> {
        let (_, last) = seen.commits?;
        let kind = match (seen.whole, last > at) {
            (true, true) => Kind::Later,
            (false, true) => Kind::Perhaps,
            (true, false) if last == at => Kind::Exact,
            _ => return None,
        };
        Some(Late { start: seen.start, end: seen.end, reach: seen.end, kind })
    }

    /// Whether it lies on both sides of a position.
    fn crosses(&self, at: Lsn) -> bool {
        self.start < at && at < self.end
    }

    /// Whether it shows that the log behind a gap leads to the target.
    fn is_behind(&self, gap: Lsn) -> bool {
        self.start >= gap && self.kind != Kind::Perhaps
    }
}

/// The pieces with commits at the target or later, as far as they matter: the bases that are
/// asked for end at `stop` or before. Whoever comes to the first of these pieces that surely has a
/// later commit and ends behind `stop` needs nothing that begins behind it; whoever does not is
/// cut off from it.
fn late(path: &Path<'_>, at: Micros, stop: Lsn) -> Vec<Late> {
    let mut late = Vec::new();
    let mut enough = Lsn(u64::MAX);
    for part in path.parts() {
        for seen in part {
            if seen.start >= enough {
                break;
            }
            let Some(one) = Late::of(seen, at) else { continue };
            if one.kind == Kind::Later && one.end > stop {
                enough = enough.min(one.end);
            }
            late.push(one);
        }
    }
    late.sort_by_key(|late| (late.start, late.end));
    let mut reach = Lsn(0);
    for late in &mut late {
        reach = reach.max(late.end);
        late.reach = reach;
    }
    late
}

/// Where a server that replays from a base passes a time.
enum Passed {
    /// At the first later commit, somewhere between.
    Between { lo: Lsn, hi: Lsn },
    /// Nowhere, but the last commit is at that very time.
    AtLast,
    /// Nowhere that is known.
    Never,
}

fn passed(late: &[Late], stop: Lsn, span: Range) -> Passed {
    let first = late.partition_point(|late| late.reach <= stop);
    let (mut lo, mut hi, mut exact) = (None, None, false);
    for late in late.get(first..).unwrap_or_default() {
        if late.start >= span.end || hi.is_some_and(|hi| late.start >= hi) {
            break;
        }
        if late.end <= stop {
            continue;
        }
        match late.kind {
            // What crosses a barrier may have its commits behind it.
            _ if late.crosses(span.end) => lo = lo.or(Some(late.start)),
            Kind::Exact => exact = true,
            Kind::Perhaps => lo = lo.or(Some(late.start)),
            Kind::Later => {
                lo = lo.or(Some(late.start));
                hi = Some(hi.map_or(late.end, |hi: Lsn| hi.min(late.end)));
            }
        }
    }
    match (lo, hi) {
        (Some(lo), Some(hi)) => Passed::Between { lo: lo.max(stop), hi },
        // What may hold a later commit makes the end of the log no answer.
        (None, _) if exact => Passed::AtLast,
        _ => Passed::Never,
    }
}

fn by_name(archive: &Archive, path: &Path<'_>, name: &str) -> Result<Aim, Reason> {
    let left = |timeline| path.history.left(timeline).unwrap_or(Lsn(u64::MAX));
    let named = archive.points.iter().filter(|point| point.name == name);
    let on = named.filter(|p| path.history.holds(p.timeline) && p.lsn <= left(p.timeline));
    let places: BTreeMap<Lsn, Place> =
        on.map(|point| (point.lsn, Place { lsn: point.lsn, at: Some(point.at) })).collect();
    let places: Vec<Place> = places.into_values().collect();
    match places[..] {
        [] => Err(Reason::NameNotFound),
        [Place { lsn, .. }] => Ok(Aim::Position { lo: lsn, hi: lsn, pieces: 0 }),
        _ => Err(Reason::NameAmbiguous { places }),
    }
}

/// The pieces that may hold a transaction.
struct Candidates {
    lo: Lsn,
    hi: Lsn,
    pieces: usize,
    first: Place,
}

fn by_xid(path: &Path<'_>, xid: u32) -> Result<Aim, Reason> {
    let mut found: BTreeMap<u64, Candidates> = BTreeMap::new();
    let mut newest = None;
    for seen in path.pieces() {
        let Some((least, width)) = seen.xids else { continue };
        let top = unrolled(newest, least.wrapping_add(width));
        newest = newest.max(Some(top));
        let offset = xid.wrapping_sub(least);
        if offset > width {
            continue;
        }
        let whole = top.saturating_sub(u64::from(width)).saturating_add(u64::from(offset));
        let place = Place { lsn: seen.start, at: seen.commits.and_then(|(at, _)| at.time()) };
        let one = Candidates { lo: seen.start, hi: seen.end, pieces: 0, first: place };
        let all = found.entry(whole).or_insert(one);
        all.lo = all.lo.min(seen.start);
        all.hi = all.hi.max(seen.end);
        all.first = all.first.min(place);
        all.pieces = all.pieces.saturating_add(1);
    }
    let mut found = found.into_values();
    match (found.next(), found.next()) {
        (None, _) => Err(Reason::XidNotFound),
        (Some(only), None) => Ok(Aim::Position { lo: only.lo, hi: only.hi, pieces: only.pieces }),
        (Some(one), Some(two)) => {
            let places = [one, two].into_iter().chain(found).map(|c| c.first).collect();
            Err(Reason::XidAmbiguous { places })
        }
    }
}

/// A number of the ring of 2^32 on a line: the nearest one to the newest that was seen.
fn unrolled(newest: Option<u64>, xid: u32) -> u64 {
    let Some(newest) = newest else { return u64::from(xid).saturating_add(1 << 32) };
    // The lower half of the number is what goes round.
    let on_ring = (newest & u64::from(u32::MAX)) as u32;
    let step = xid.wrapping_sub(on_ring).cast_signed();
    newest.saturating_add_signed(i64::from(step))
}
