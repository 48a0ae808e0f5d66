//! The jobs of this host that `status` tells of: by the catalog, and by what it has not taken in yet.

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::{Job, JobKind, JobNote, JobState, SourceId};

use super::run_file::{lives, notes};
use crate::host::Setup;

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
    let mut noted = notes(state);
    noted.retain(|note| note.source == *source);
    let last_backup = jobs(catalog, (JobKind::Backup, source), &noted).await?.into_iter().next();
    let mut found = Vec::new();
    for kind in JobKind::ALL.into_iter().filter(|kind| !kind.makes_a_backup()) {
        let jobs = jobs(catalog, (kind, source), &noted).await?;
        let runs = |job: &Job| !job.state.is_final() && job.run.is_none_or(|run| lives(state, run));
        let ended = jobs.iter().find(|job| !runs(job)).cloned();
        let Some(job) = jobs.into_iter().next() else { continue };
        let running = (!job.state.is_final()).then(|| runs(&job));
        found.push(LastJob { job, running, ended });
    }
    Ok((last_backup, found))
}

/// Jobs of a kind, the one begun last first, whatever a clock said; `noted` are those that the source's
/// jobs have noted, the one begun first first.
async fn jobs(
    catalog: &Catalog,
    (kind, source): (JobKind, &SourceId),
    noted: &[JobNote],
) -> Result<Vec<Job>> {
    let mut jobs = catalog.last_jobs(kind, source, LOOKED_AT).await?;
    let noted: Vec<JobNote> = noted.iter().filter(|note| note.kind == kind).cloned().collect();
    let known = catalog.known_jobs(&noted).await?;
    // Who works with a catalog tells it first of all that was begun before: what it has not heard of was
    // begun after all that it knows.
    let mut unheard = Vec::new();
    for (note, known) in noted.iter().zip(known) {
        let Ok(note) = note.job() else { continue };
        let Some(id) = known else {
            unheard.push(note);
            continue;
        };
        // The catalog was told of its beginning alone.
        let job = jobs.iter_mut().find(|job| job.id == id);
        if let Some(job) = job.filter(|job| job.state == JobState::Running) {
            *job = Job { id, ..note };
        }
    }
    Ok(unheard.into_iter().rev().chain(jobs).collect())
}
