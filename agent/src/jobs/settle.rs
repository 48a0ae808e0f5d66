//! What became of a job, as the catalog keeps it.

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::{JobEvent, JobId, JobState, SourceId};

use crate::host::{Failure, Problem, Setup};
use crate::repository::Repository;
use crate::repository::faults::is_bad_manifest;

/// Whether all bytes of a job are stored, so that its manifest may be too.
pub(crate) async fn is_committing(catalog: &Catalog, job: JobId, source: &SourceId) -> bool {
    let last = catalog.last_job(source).await.ok().flatten();
    last.is_some_and(|last| last.id == job && last.state == JobState::Committing)
}

/// Tells the truth about jobs whose process is gone; we hold the source's lock, so all are.
pub(crate) async fn settle(
    setup: &Setup,
    repository: &Repository,
    catalog: &Catalog,
    source: &SourceId,
) -> Result<()> {
    for job in catalog.unfinished_jobs().await? {
        if job.source != *source {
            continue;
        }
        let now = setup.clock.now();
        let found = match repository.manifest(source, &job.backup).await {
            // Somebody else's manifest in its place does not make it a backup.
            Err(error) if is_bad_manifest(&error) => {
                tracing::warn!(backup = %job.backup, "its manifest is not ours: {error:#}");
                None
            }
            found => found?,
        };
        match found {
            Some(found) => {
                tracing::warn!(backup = %job.backup, "a backup was committed by a process that died");
                catalog.found_committed(job.id, now, &found.summary()).await?;
            }
            None => {
                tracing::warn!(backup = %job.backup, "an earlier attempt died; nothing of it counts");
                catalog.append(job.id, now, &JobEvent::FoundDead).await?;
            }
        }
    }
    Ok(())
}

pub(crate) async fn record_failure(
    setup: &Setup,
    catalog: &Catalog,
    job: JobId,
    error: &anyhow::Error,
) {
    let failure = Failure::of(error);
    let event = match error.downcast_ref() {
        Some(Problem::Interrupted) => JobEvent::Cancelled,
        _ => {
            JobEvent::Failed { code: failure.code.to_owned(), message: failure.messages.join(": ") }
        }
    };
    // What failed first is what the operator must read; the next run settles the record.
    if let Err(unrecorded) = catalog.append(job, setup.clock.now(), &event).await {
        tracing::error!("the failure is not recorded: {:#}", anyhow::Error::from(unrecorded));
    }
}
