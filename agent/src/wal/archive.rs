//! What the bucket holds of a cluster's copies and log, as the planner wants it.

use anyhow::{Context as _, Result};
use drctl_model::{
    Ancestor, BackupId, BackupSummary, Coordinates, LogPart, LogPiece, Lsn, SourceId, Timeline,
    TimelineHistory,
};
use drctl_policies::recovery::{Archive, Base, Piece, RestorePoint};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Shelf;
use crate::chain::Family;
use crate::problem::Problem;
use crate::repository::is_bad_manifest;
use crate::{Repository, everything};

/// How many heads of pieces are fetched at once.
const HEADS_AT_ONCE: usize = 32;

/// A cluster's copies and log, as signed heads and manifests tell them.
pub struct Known {
    /// For the planner.
    pub archive: Archive,
    /// Which cluster: of several that a source has had, that of the newest copy.
    pub system_id: u64,
    /// The copies.
    pub bases: Vec<(BackupId, Coordinates)>,
    /// Where the last record of each piece ends, by timeline and the piece's own end.
    pub ends: Vec<(Timeline, Lsn, Lsn)>,
    /// Pieces and manifests that do not count, with the reason.
    pub refused: Vec<String>,
}

/// Reads all manifests and heads of a source; needs no key.
///
/// # Errors
/// The store's; [`Problem::NoBackup`] where there is no copy of a cluster.
pub async fn known(repository: &Repository, source: &SourceId) -> Result<Known> {
    let (mut summaries, mut refused) = (Vec::new(), Vec::new());
    let mut all = everything(repository, vec![source.clone()]);
    while let Some((_, id, proven)) = all.try_next().await? {
        match proven {
            Ok(proven) => summaries.push(proven.summary()),
            Err(error) => refused.push(format!("{id}: {error:#}")),
        }
    }
    drop(all);
    let mut copies = Vec::new();
    let family = Family::of(&summaries);
    for summary in &summaries {
        match family.broken(summary) {
            None => copies.extend(copy(summary)),
            Some(why) => refused.push(format!("{}: its chain is broken: {why}", summary.backup)),
        }
    }
    copies.sort_by(|a, b| a.0.cmp(&b.0));
    let Some(system_id) = copies.last().map(|(_, at, _)| at.system_id) else {
        let text = format!("there is no copy of a cluster of `{source}` from which to recover");
        return Err(Problem::NoBackup(text).into());
    };
    copies.retain(|(_, at, _)| at.system_id == system_id);
    let heads = heads(repository, source, system_id, &mut refused).await?;
    Ok(assemble(system_id, copies, &heads, refused))
}

type Copy = (BackupId, Coordinates, Base);

fn copy(backup: &BackupSummary) -> Option<Copy> {
    let at = backup.kind.coordinates()?.clone();
    let base = Base {
        backup: backup.backup.clone(),
        timeline: at.stop_timeline,
        start: at.start,
        stop: at.stop,
        stopped: backup.finished,
        good: backup.is_good(),
    };
    Some((backup.backup.clone(), at, base))
}

async fn heads(
    repository: &Repository,
    source: &SourceId,
    system_id: u64,
    refused: &mut Vec<String>,
) -> Result<Vec<LogPiece>> {
    let shelf = &Shelf::reader(repository, source);
    let places = shelf.places().await?.into_iter().filter(|place| place.system_id == system_id);
    let mut read = stream::iter(places)
        .map(|place| async move { (shelf.head(&place).await, place) })
        .buffered(HEADS_AT_ONCE);
    let mut heads = Vec::new();
    while let Some((head, place)) = read.next().await {
        match head {
            Ok(head) => heads.push(head),
            // Somebody else's object is none of our log: a gap where it lies, and said so.
            Err(error) if is_bad_manifest(&error) => {
                refused.push(format!("log of timeline {}: {error:#}", place.timeline));
            }
            Err(error) => return Err(error).context("read what is known of the log"),
        }
    }
    Ok(heads)
}

fn assemble(system_id: u64, copies: Vec<Copy>, heads: &[LogPiece], refused: Vec<String>) -> Known {
    let (mut pieces, mut points, mut histories, mut ends) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for head in heads {
        let timeline = head.place.timeline;
        match head.place.part {
            LogPart::History => histories.push(history(timeline, &head.holds.ancestors)),
            LogPart::Range { start, end } => {
                let (commits, xids) = (head.holds.commits, head.holds.xids);
                pieces.push(Piece { timeline, start, end, commits, xids });
                ends.extend(head.holds.last_record.map(|(_, next)| (timeline, end, next)));
                for (name, lsn, at) in &head.holds.restore_points {
                    let (name, lsn, at) = (name.clone(), *lsn, *at);
                    points.push(RestorePoint { timeline, name, lsn, at });
                }
            }
        }
    }
    // A copy brings the log along that it needs.
    pieces.extend(copies.iter().map(|(_, at, _)| Piece {
        timeline: at.stop_timeline,
        start: at.segment_size.start_of(at.start),
        end: at.stop,
        commits: None,
        xids: None,
    }));
    let bases = copies.iter().map(|(id, at, _)| (id.clone(), at.clone())).collect();
    let archive = Archive::new(
        copies.into_iter().map(|(_, _, base)| base).collect(),
        pieces,
        points,
        histories,
    );
    Known { archive, system_id, bases, ends, refused }
}

fn history(timeline: Timeline, ancestors: &[(Timeline, Lsn)]) -> TimelineHistory {
    let ancestor = |(timeline, until): &(Timeline, Lsn)| Ancestor {
        timeline: *timeline,
        until: *until,
        reason: String::new(),
    };
    TimelineHistory { timeline, ancestors: ancestors.iter().map(ancestor).collect() }
}

impl Known {
    /// Where the last record ends that a replay of `timeline`'s log up to `reach` comes to.
    #[must_use]
    pub fn last_record(&self, timeline: Timeline, reach: Lsn) -> Option<Lsn> {
        let ends = self.ends.iter().filter(|(of, end, _)| *of == timeline && *end <= reach);
        ends.map(|(_, _, next)| *next).max()
    }

    /// The coordinates of a copy.
    #[must_use]
    pub fn base(&self, backup: &BackupId) -> Option<&Coordinates> {
        self.bases.iter().find(|(id, _)| id == backup).map(|(_, at)| at)
    }
}
