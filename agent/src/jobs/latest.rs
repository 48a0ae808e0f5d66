//! The jobs of this host that `status` tells of: by the catalog, and by what it has not taken in yet.

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::{Job, JobKind, JobState, SourceId};

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

/// The last jobs of a source but its backups, a kind each.
pub(crate) async fn latest(
    setup: &Setup,
    catalog: &Catalog,
    source: &SourceId,
) -> Result<Vec<LastJob>> {
    let state = &setup.config.paths.state_dir;
    let mut found = Vec::new();
    for kind in JobKind::ALL.into_iter().filter(|kind| !kind.makes_a_backup()) {
        let jobs = jobs(setup, catalog, (kind, source)).await?;
        let runs = |job: &Job| !job.state.is_final() && job.run.is_none_or(|run| lives(state, run));
        let ended = jobs.iter().find(|job| !runs(job)).cloned();
        let Some(job) = jobs.into_iter().next() else { continue };
        let running = (!job.state.is_final()).then(|| runs(&job));
        found.push(LastJob { job, running, ended });
    }
    Ok(found)
}

/// The last attempt to back a source up.
pub(crate) async fn last_backup(
    setup: &Setup,
    catalog: &Catalog,
    source: &SourceId,
) -> Result<Option<Job>> {
    Ok(jobs(setup, catalog, (JobKind::Backup, source)).await?.into_iter().next())
}

/// Jobs of a kind, the one begun last first.
async fn jobs(
    setup: &Setup,
    catalog: &Catalog,
    (kind, source): (JobKind, &SourceId),
) -> Result<Vec<Job>> {
    // The notes first: what is taken in meanwhile is in the catalog then.
    let noted = notes(&setup.config.paths.state_dir).into_iter();
    let noted: Vec<Job> = noted
        .filter(|note| (note.kind, &note.source) == (kind, source))
        .filter_map(|note| note.job().ok())
        .collect();
    let mut jobs = catalog.last_jobs(kind, source, LOOKED_AT).await?;
    for note in noted {
        match jobs.iter_mut().find(|job| job.run == note.run) {
            // The catalog was told of its beginning alone.
            Some(known) if known.state == JobState::Running => {
                *known = Job { id: known.id, ..note };
            }
            Some(_) => {}
            None => jobs.push(note),
        }
    }
    // Numbers tell the order of those that began at once.
    jobs.sort_by_key(|job| std::cmp::Reverse((job.started, job.id)));
    Ok(jobs)
}
