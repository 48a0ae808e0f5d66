//! Attempts whose processes are gone: the bucket is asked before any is called dead.

use anyhow::anyhow;
use drctl_catalog::Catalog;
use drctl_model::JobState;
use tokio::time::{Instant, timeout_at};

use super::{SourceStatus, one, why};
use crate::host::Setup;
use crate::jobs::settle::committed;
use crate::repository::Repository;

/// Asks it of every source, for as long as there is time.
pub(super) async fn settle(
    with: (&Setup, &Repository, &Catalog),
    all: &mut [SourceStatus],
    deadline: Instant,
) {
    for status in all {
        if within(Some(deadline), ask(with, status)).await.is_none() {
            status.unreadable = Some(why(&late()));
        }
    }
}

/// Asks the bucket what became of an attempt whose process is gone: one that is committed there counts,
/// whatever could be recorded of it here.
async fn ask(
    (setup, repository, catalog): (&Setup, &Repository, &Catalog),
    status: &mut SourceStatus,
) {
    let job = status.last_job.as_mut().filter(|job| !job.state.is_final());
    let Some(job) = job.filter(|_| status.running == Some(false)) else { return };
    let Some(id) = job.backup.clone() else { return };
    let found = match committed(repository, &status.source, &id).await {
        Ok(Some(found)) => found,
        Ok(None) => return,
        Err(error) => {
            status.unreadable = Some(why(&error));
            return;
        }
    };
    let now = setup.clock.now();
    let writable = setup.writable_catalog().await.filter(|_| setup.remembers(catalog));
    if let Some(writable) = writable {
        let kept = writable.found_committed(job.id, now, &found).await;
        let source = setup.config.sources.get(&status.source);
        if let (Ok(()), Some(source)) = (kept, source)
            && let Ok(anew) = one(setup, catalog, &status.source, source, now).await
        {
            *status = anew;
            return;
        }
    }
    (job.state, status.running) = (JobState::Committed, None);
    if !found.is_good() {
        status.suspect = Some(found);
    } else if status.newest_good.as_ref().is_none_or(|good| found.newer(good).is_gt()) {
        (status.age, status.newest_good) = (Some(now.duration_since(found.taken())), Some(found));
    }
}

/// What work comes to, if it ends in time.
pub(super) async fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = T>,
) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline, work).await.ok(),
        None => Some(work.await),
    }
}

/// What is said of a bucket that did not answer in time.
pub(super) fn late() -> anyhow::Error {
    anyhow!("it does not answer, or is very slow: the check was ended")
}
