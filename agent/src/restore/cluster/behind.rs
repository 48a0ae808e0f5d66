//! Commits of an earlier time that a recovery to a time does not hold: they stand behind the place
//! in the WAL at which it stopped.
//!
//! The server stops before the first commit, in the order of the WAL, that is later than the time.
//! Commits overtake each other between the moment whose time they tell and their place in the WAL,
//! and a clock that was set back makes many of them earlier than what stands before them.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use drctl_engines::pg::wal::{Commit, Commits};
use drctl_model::Lsn;
use drctl_policies::recovery::Target;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Proof, RecoverRequest};
use crate::engine::wal::Segment;

/// The most segments that are read behind the one in which it stopped.
const MOST: usize = 64;

/// Commits of the time or earlier that are not in the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overtaken {
    /// How many were found.
    pub commits: u64,
    /// The latest time of them.
    pub latest: Timestamp,
    /// The transaction that stands last in the WAL: up to it all of them are in the result.
    pub xid: u32,
    /// Where its commit ends.
    pub lsn: Lsn,
}

impl Overtaken {
    fn add(found: &mut Option<Overtaken>, commit: Commit) {
        let one = found.get_or_insert(Overtaken {
            commits: 0,
            latest: commit.time,
            xid: commit.xid,
            lsn: commit.end,
        });
        one.commits = one.commits.saturating_add(1);
        one.latest = one.latest.max(commit.time);
        (one.xid, one.lsn) = (commit.xid, commit.end);
    }
}

/// Reads the WAL behind the stop: the segment in which it stopped, the next one, and all that are
/// known to hold commits of the time or earlier.
pub(super) async fn overtaken(
    request: &RecoverRequest<'_>,
    proof: &Proof,
) -> Result<Option<Overtaken>> {
    let (Target::Time(at), Some(_)) = (&request.plan.target, &proof.stopped) else {
        return Ok(None);
    };
    let base = request.known.base(&request.plan.base).context("the plan's base is gone")?;
    let size = base.segment_size;
    let mut legs = request.plan.path.iter();
    let leg = legs.rfind(|leg| leg.from <= proof.replayed);
    let timeline = leg.map_or(request.plan.timeline, |leg| leg.timeline);
    let first = size.start_of(proof.replayed);
    let mut starts = BTreeSet::from([first, first.plus(size.bytes())]);
    for (from, until) in request.known.archive.early(timeline, proof.replayed, *at) {
        let segments = std::iter::successors(Some(size.start_of(from)), |start| {
            Some(start.plus(size.bytes())).filter(|next| *next < until)
        });
        starts.extend(segments.filter(|start| *start >= first).take(MOST));
    }
    let (archives, of) = (request.log_archives(None)?, (request.known.system_id, timeline));
    let (mut found, mut walk): (_, Option<(Lsn, Commits)>) = (None, None);
    for start in starts.into_iter().take(MOST) {
        let read = archives.segment(&Segment { of, size, start, need: None }).await?;
        let Some(bytes) = read else { continue };
        // A record may begin in one and end in the next.
        let going = walk.take().filter(|(next, _)| *next == start).map(|(_, commits)| commits);
        let mut commits = going.unwrap_or_else(|| Commits::new(timeline, start, size));
        let missing = |commit: &Commit| commit.at >= proof.replayed && commit.time <= *at;
        // Where a piece ends within a record nothing more can be told of it.
        let fed = commits.feed(&bytes, |commit| {
            if missing(&commit) {
                Overtaken::add(&mut found, commit);
            }
        });
        walk = fed.is_ok().then(|| (start.plus(size.bytes()), commits));
    }
    Ok(found)
}
