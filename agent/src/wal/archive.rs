//! What the bucket holds of a cluster's copies and log, as the planner wants it.

use std::collections::BTreeMap;

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::{
    Ancestor, BackupId, BackupSummary, Coordinates, LogEntry, Lsn, NotedPoint, SourceId, Timeline,
    TimelineHistory,
};
use drctl_policies::recovery::{Archive, Base, RestorePoint};
use futures_util::TryStreamExt as _;

use super::Shelf;
use super::heads::{Log, heads};
use crate::chain::Family;
use crate::problem::Problem;
use crate::{Repository, everything};

/// A cluster's copies and log, as signed heads and manifests tell them.
pub struct Known {
    /// For the planner.
    pub archive: Archive,
    /// Which cluster: of several that a source has had, that of the newest copy.
    pub system_id: u64,
    /// The copies.
    pub bases: Vec<(BackupId, Coordinates)>,
    /// How many pieces of log count.
    pub pieces: u64,
    /// Pieces and manifests that do not count, with the reason.
    pub refused: Vec<String>,
}

/// A source's copies of clusters.
#[derive(Default)]
pub(crate) struct Copies(Vec<(BackupId, Coordinates, Base)>);

impl Copies {
    /// Those among a source's backups whose chains hold; of the others it says why they do not.
    pub(crate) fn of(backups: &[BackupSummary], refused: &mut Vec<String>) -> Self {
        let (family, mut copies) = (Family::of(backups), Copies::default());
        for backup in backups {
            match family.broken(backup) {
                None => copies.0.extend(copy(backup)),
                Some(why) => refused.push(format!("{}: its chain is broken: {why}", backup.backup)),
            }
        }
        copies
    }

    /// Those of the cluster of the newest one, and that cluster.
    fn of_newest(mut self) -> Option<(u64, Self)> {
        self.0.sort_by(|a, b| a.0.cmp(&b.0));
        let system_id = self.0.last().map(|(_, at, _)| at.system_id)?;
        self.0.retain(|(_, at, _)| at.system_id == system_id);
        Some((system_id, self))
    }
}

fn copy(backup: &BackupSummary) -> Option<(BackupId, Coordinates, Base)> {
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

/// Reads all manifests and what is signed of the log of a source; needs no key. What `cache` knows
/// of the log is not read again.
///
/// # Errors
/// The store's; [`Problem::NoBackup`] where there is no copy of a cluster.
pub async fn known(
    repository: &Repository,
    source: &SourceId,
    cache: Option<&Catalog>,
) -> Result<Known> {
    let (mut summaries, mut refused) = (Vec::new(), Vec::new());
    let mut all = everything(repository, vec![source.clone()]);
    while let Some((_, id, proven)) = all.try_next().await? {
        match proven {
            Ok(proven) => summaries.push(proven.summary()),
            Err(error) => refused.push(format!("{id}: {error:#}")),
        }
    }
    drop(all);
    let copies = Copies::of(&summaries, &mut refused);
    let known = learn(repository, source, copies, cache, refused).await?;
    known.ok_or_else(|| {
        let text = format!("there is no copy of a cluster of `{source}` from which to recover");
        Problem::NoBackup(text).into()
    })
}

/// The same with copies that are known; nothing where there are none.
///
/// # Errors
/// The store's.
pub(crate) async fn learn(
    repository: &Repository,
    source: &SourceId,
    copies: Copies,
    cache: Option<&Catalog>,
    mut refused: Vec<String>,
) -> Result<Option<Known>> {
    let Some((system_id, copies)) = copies.of_newest() else { return Ok(None) };
    let shelf = Shelf::reader(repository, source);
    let logs = heads(&shelf, system_id, cache, &mut refused).await?;
    Ok(Some(assemble(system_id, copies, logs, refused)))
}

fn assemble(
    system_id: u64,
    Copies(copies): Copies,
    logs: BTreeMap<Timeline, Log>,
    refused: Vec<String>,
) -> Known {
    let (mut points, mut histories) = (Vec::new(), Vec::new());
    let mut pieces = 0;
    let mut all: BTreeMap<Timeline, Vec<LogEntry>> = BTreeMap::new();
    for (timeline, (entries, notes)) in logs {
        histories.extend(notes.history.map(|ancestors| history(timeline, &ancestors)));
        let point =
            |NotedPoint { lsn, at, name, .. }: NotedPoint| RestorePoint { timeline, name, lsn, at };
        points.extend(notes.points.into_iter().map(point));
        pieces += entries.len() as u64;
        all.insert(timeline, entries);
    }
    // A copy brings the log along that it needs.
    for (_, at, _) in &copies {
        let range = (at.segment_size.start_of(at.start), at.stop);
        all.entry(at.stop_timeline).or_default().push(LogEntry::new(range, None, None));
    }
    let bases = copies.iter().map(|(id, at, _)| (id.clone(), at.clone())).collect();
    let copies = copies.into_iter().map(|(_, _, base)| base).collect();
    let archive = Archive::of(copies, all, points, histories);
    Known { archive, system_id, bases, pieces, refused }
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
        self.archive.last_record(timeline, reach)
    }

    /// The coordinates of a copy.
    #[must_use]
    pub fn base(&self, backup: &BackupId) -> Option<&Coordinates> {
        self.bases.iter().find(|(id, _)| id == backup).map(|(_, at)| at)
    }
}
