use std::collections::BTreeMap;

use drctl_model::Lsn;

use super::{Path, Place, Reason, RestorePoint, Target};
use crate::recovery::common::Goal;

impl Target {
    /// Where it is on a path, as far as the pieces and the restore points tell.
    pub(super) fn on(&self, path: &Path<'_>, points: &[RestorePoint]) -> Result<Goal<Lsn>, Reason> {
        match self {
            Target::Time(at) => Ok(Goal::Time(*at)),
            Target::Lsn { lsn, inclusive } => {
                Ok(Goal::Position { at: *lsn, inclusive: *inclusive })
            }
            Target::Xid { xid, .. } => by_xid(path, *xid),
            Target::Name(name) => by_name(points, path, name),
            Target::Latest => Ok(Goal::Latest),
        }
    }
}

fn by_name(points: &[RestorePoint], path: &Path<'_>, name: &str) -> Result<Goal<Lsn>, Reason> {
    let left = |timeline| path.left(timeline).unwrap_or(Lsn(u64::MAX));
    let named = points.iter().filter(|point| point.name == name);
    let on = named.filter(|p| path.holds(p.timeline) && p.lsn <= left(p.timeline));
    let places: BTreeMap<Lsn, Place> =
        on.map(|point| (point.lsn, Place { lsn: point.lsn, at: Some(point.at) })).collect();
    let places: Vec<Place> = places.into_values().collect();
    match places[..] {
        [] => Err(Reason::NameNotFound),
        [Place { lsn, .. }] => Ok(Goal::Within { lo: lsn, hi: lsn, pieces: 0 }),
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

fn by_xid(path: &Path<'_>, xid: u32) -> Result<Goal<Lsn>, Reason> {
    let mut found: BTreeMap<u64, Candidates> = BTreeMap::new();
    let mut newest = None;
    for seen in path.pieces() {
        let Some((least, width)) = seen.transactions else { continue };
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
        (Some(only), None) => Ok(Goal::Within { lo: only.lo, hi: only.hi, pieces: only.pieces }),
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
