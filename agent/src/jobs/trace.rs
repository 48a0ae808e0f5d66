//! An attempt that ends before it is a job leaves one too: what failed must be seen afterwards.

use anyhow::{Context as _, Result};
use drctl_catalog::Catalog;
use drctl_model::{BackupId, SourceId};
use jiff::Timestamp;

use super::settle::record_failure;
use crate::host::Setup;

/// Records an attempt that was begun at this time and failed, unless it has its job already. The
/// source's lock is held by the caller, so that nobody else begins one.
pub(crate) async fn trace(
    setup: &Setup,
    source: &SourceId,
    began: Timestamp,
    error: &anyhow::Error,
) {
    if let Err(unrecorded) = record(setup, source, began, error).await {
        tracing::warn!("the failure is not recorded: {unrecorded:#}");
    }
}

async fn record(
    setup: &Setup,
    source: &SourceId,
    began: Timestamp,
    error: &anyhow::Error,
) -> Result<()> {
    // The bucket may be what failed: one that is new learns later what that holds.
    let catalog = Catalog::open(&setup.catalog_path()).await.context("open the catalog")?;
    if catalog.last_job(source).await?.is_some_and(|job| job.started >= began) {
        return Ok(());
    }
    let id = BackupId::new(began, rand::random());
    let job = catalog.begin_job(began, source, &id).await.context("record the job")?;
    record_failure(setup, &catalog, job, error).await;
    Ok(())
}
