//! What was done while the catalog's place took no writes, told by the catalog that was kept elsewhere
//! meanwhile, and by the bucket.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use drctl_catalog::{Catalog, beside};
use drctl_model::{Job, JobEvent, JobKind, JobNote, JobState};
use tokio::time::timeout;

use super::cache::{BESIDE, tell};
use super::inventory;
use crate::host::Setup;

/// How many jobs of a kind are taken over.
const JOBS: usize = 20;

/// Where a catalog is kept for a while.
pub(super) fn path(setup: &Setup) -> PathBuf {
    setup.config.paths.runtime_dir.join("catalog.db")
}

/// The catalog with what was done meanwhile: for good where it can be written by now, else in memory.
pub(super) async fn caught_up(setup: &Setup, catalog: Catalog) -> Result<Catalog> {
    let path = path(setup);
    let is_in_memory = catalog.is_in_memory().await?;
    if !is_in_memory && !path.exists() {
        return Ok(catalog);
    }
    if path.exists()
        && let Some(writable) = setup.writable_catalog().await
        && learn(setup, &writable).await.is_ok()
    {
        for suffix in [""].iter().chain(&BESIDE) {
            let _ = fs::remove_file(beside(&path, suffix));
        }
        return Ok(catalog);
    }
    tracing::warn!(
        "{} takes no writes, or what was done since cannot be learned: what it remembers is read, and \
         nothing is noted in it",
        catalog.path().display()
    );
    let image = match is_in_memory {
        true => catalog,
        false => Catalog::open_in_memory(catalog.path()).await.context("read the catalog")?,
    };
    if let Err(error) = learn(setup, &image).await {
        tracing::warn!("what was done since is not known: {error:#}");
    }
    Ok(image)
}

async fn learn(setup: &Setup, catalog: &Catalog) -> Result<()> {
    jobs(setup, catalog).await?;
    let asking = async {
        let repository = setup.repository().await?;
        catalog.claim(&repository.id).await?;
        let found = inventory(&repository).await?;
        tell(catalog, &found).await.context("tell the catalog what counts")
    };
    timeout(setup.patience(), asking).await.context("the bucket is very slow")?
}

/// Takes over the jobs that were recorded elsewhere.
async fn jobs(setup: &Setup, catalog: &Catalog) -> Result<()> {
    let path = path(setup);
    if !path.exists() {
        return Ok(());
    }
    let other = Catalog::open_read_only(&path).await.context("open the catalog kept meanwhile")?;
    for source in setup.config.sources.keys() {
        for kind in JobKind::ALL {
            let all = other.last_jobs(kind, source, JOBS).await?;
            let notes: Vec<JobNote> = all.into_iter().rev().filter_map(noted).collect();
            catalog.note_jobs(&notes).await.context("take over the jobs kept meanwhile")?;
        }
    }
    Ok(())
}

/// What is noted of a job that has ended and left no backup: of one that did the bucket tells.
fn noted(job: Job) -> Option<JobNote> {
    let event = match job.state {
        JobState::Failed => {
            JobEvent::Failed { code: job.code?, message: job.message.unwrap_or_default() }
        }
        JobState::Cancelled => JobEvent::Cancelled,
        JobState::Interrupted => JobEvent::FoundDead,
        JobState::Succeeded => JobEvent::Succeeded,
        _ => return None,
    };
    let Job { kind, source, backup, started, changed, run, .. } = job;
    Some(JobNote { run: run?, kind, source, backup, started, ended: Some((changed, event)) })
}
