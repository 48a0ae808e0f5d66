//! The jobs of this host that `status` tells of: by the catalog, and by what it has not taken in yet.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::{BackupId, BackupSummary, Job, JobKind, JobNote, JobState, SourceId};
use jiff::Timestamp;

use super::run_file::{lives, notes};
use crate::host::Setup;
use crate::host::locks::{SourceLock, is_held};
use crate::repository::horizon;

/// How many jobs of a kind are looked at: those that run are passed over.
const LOOKED_AT: usize = 20;

/// The last job of one kind, and how things stand since.
#[derive(Debug, Clone)]
pub struct LastJob {
    /// The job that was begun last.
    pub job: Job,
    /// Whether its process lives, where it has not ended.
    pub running: Option<bool>,
    /// The last one that does not run any more: it, or one before it.
    pub ended: Option<Job>,
}

/// The last attempt to back a source up, and its last jobs of the other kinds, one each.
pub(crate) async fn latest(
    setup: &Setup,
    catalog: &Catalog,
    source: &SourceId,
) -> Result<(Option<Job>, Vec<LastJob>)> {
    let state = &setup.config.paths.state_dir;
    // The notes first: what is taken in meanwhile is in the catalog then.
    let noted = noted(setup);
    let now = setup.clock.now();
    let backups = jobs(catalog, (JobKind::Backup, source, LOOKED_AT), (&noted, now)).await?;
    let last_backup = backups.into_iter().next();
    let mut found = Vec::new();
    for kind in JobKind::ALL.into_iter().filter(|kind| !kind.makes_a_backup()) {
        let jobs = jobs(catalog, (kind, source, LOOKED_AT), (&noted, now)).await?;
        let ended = jobs.iter().find(|job| !runs(state, job)).cloned();
        let Some(job) = jobs.into_iter().next() else { continue };
        let running = (!job.state.is_final()).then(|| runs(state, &job));
        found.push(LastJob { job, running, ended });
    }
    Ok((last_backup, found))
}

/// The backup of this host's last job, where that is suspect, and only a date lets the `newest` stand before
/// it, which this host made earlier: a clock was set back.
pub(crate) async fn set_back(
    catalog: &Catalog,
    known: &[BackupSummary],
    (last, newest): (Option<&Job>, Option<&BackupSummary>),
) -> Result<Option<BackupSummary>> {
    let last = last.filter(|job| job.state == JobState::Committed);
    let (Some(last), Some(newest)) = (last, newest) else { return Ok(None) };
    let of_last = |one: &&BackupSummary| Some(&one.backup) == last.backup.as_ref();
    let Some(found) = known.iter().find(of_last).filter(|one| !one.is_good()) else {
        return Ok(None);
    };
    let before = catalog.job_of(&newest.source, &newest.backup).await?;
    Ok(before.filter(|before| before.id < last.id).map(|_| found.clone()))
}

/// A job of this host's log, and whether its process lives.
pub(crate) struct Past {
    pub(crate) job: Job,
    pub(crate) runs: bool,
}

/// What this host's jobs have noted, whether a catalog knows it yet or not.
pub(crate) fn noted(setup: &Setup) -> Vec<JobNote> {
    notes(&setup.config.paths.state_dir)
}

/// The last jobs of a kind of a source, the one begun last first; `noted` was asked for before the catalog.
///
/// # Errors
/// The catalog's.
pub(crate) async fn past_runs(
    setup: &Setup,
    catalog: &Catalog,
    (kind, source): (JobKind, &SourceId),
    noted: &[JobNote],
) -> Result<Vec<Past>> {
    last_runs(setup, catalog, (kind, source, LOOKED_AT), noted).await
}

/// The same of so many that the catalog knows.
///
/// # Errors
/// The catalog's.
pub(crate) async fn last_runs(
    setup: &Setup,
    catalog: &Catalog,
    of: (JobKind, &SourceId, usize),
    noted: &[JobNote],
) -> Result<Vec<Past>> {
    let state = &setup.config.paths.state_dir;
    let jobs = jobs(catalog, of, (noted, setup.clock.now())).await?.into_iter();
    Ok(jobs.map(|job| Past { runs: runs(state, &job), job }).collect())
}

/// Whether a job has not ended, and its process is gone.
pub(crate) fn has_died(setup: &Setup, job: &Job) -> bool {
    !job.state.is_final() && !runs(&setup.config.paths.state_dir, job)
}

/// Whether its process lives. One of which that cannot be told is not taken for dead.
fn runs(state: &Path, job: &Job) -> bool {
    !job.state.is_final() && job.run.is_none_or(|run| lives(state, run))
}

/// Those of some attempts to back a source up that this host began, and whether each is known to be over
/// without a backup: it failed, was stopped, or its process is gone. Of another host's nothing is known.
/// `ours` is the source's lock, where the caller has it: no backup of it runs on this host then.
pub(crate) async fn own_attempts(
    setup: &Setup,
    catalog: &Catalog,
    (source, attempts): (&SourceId, &[BackupId]),
    ours: Option<&SourceLock>,
) -> Result<BTreeMap<BackupId, bool>> {
    let state = &setup.config.paths.state_dir;
    let mut noted = noted(setup);
    noted.retain(|note| note.source == *source);
    // Of one without a file the lock alone tells.
    let is_free = ours.is_some() || is_held(&setup.config.paths, source) == Some(false);
    let is_dead = |job: &Job| {
        is_free && !job.state.is_final() && job.run.is_none_or(|run| !lives(state, run))
    };
    let is_over = |job: &Job| job.state.is_final() || is_dead(job);
    let mut found = BTreeMap::new();
    for id in attempts {
        let of_it = noted.iter().filter(|note| note.backup.as_ref() == Some(id));
        let noted = of_it.filter_map(|note| note.job().ok());
        let jobs: Vec<Job> = noted.chain(catalog.job_of(source, id).await?).collect();
        // One that was committed has a manifest, or had one.
        let committed = jobs.iter().any(|job| job.state == JobState::Committed);
        if !jobs.is_empty() {
            found.insert(id.clone(), !committed && jobs.iter().any(is_over));
        }
    }
    Ok(found)
}

/// Jobs of a kind, the one begun last first, in the order of the record, whatever their dates say: a clock
/// may have been wrong. `noted` is what this host's jobs have noted; those of which the record does not
/// know are put among the others by their dates.
async fn jobs(
    catalog: &Catalog,
    (kind, source, count): (JobKind, &SourceId, usize),
    (noted, now): (&[JobNote], Timestamp),
) -> Result<Vec<Job>> {
    let noted = noted.iter().filter(|note| (note.kind, &note.source) == (kind, source));
    let mut jobs = catalog.last_jobs(kind, source, count).await?;
    for note in noted.filter_map(|note| note.job().ok()) {
        match jobs.iter_mut().find(|job| job.run == note.run) {
            // The catalog was told of its beginning alone.
            Some(known) if known.state == JobState::Running => {
                *known = Job { id: known.id, ..note };
            }
            Some(_) => {}
            None => {
                let is_older =
                    |job: &Job| job.started <= note.started || job.started > horizon(now);
                let at = jobs.iter().position(is_older).unwrap_or(jobs.len());
                jobs.insert(at, note);
            }
        }
    }
    Ok(jobs)
}
