//! What became of a job, as the catalog keeps it.

use anyhow::Result;
use drctl_catalog::{Catalog, CatalogError};
use drctl_model::{BackupId, BackupSummary, JobEvent, JobId, SourceId, planted};

use super::record::failure;
use crate::host::Setup;
use crate::repository::Repository;
use crate::repository::faults::is_bad_manifest;

/// An attempt that failed when its manifest may have been in the bucket already: only the bucket
/// knows.
pub(crate) struct Unsettled<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) repository: &'a Repository,
    pub(crate) catalog: &'a Catalog,
    pub(crate) source: &'a SourceId,
    pub(crate) backup: &'a BackupId,
    pub(crate) job: JobId,
    /// What a manifest makes of it, in a word.
    pub(crate) word: &'static str,
    /// What is left without one, where something is.
    pub(crate) left: Option<&'static str>,
}

impl Unsettled<'_> {
    /// Success where the bucket holds the manifest, signed and whole; where it cannot be asked the
    /// record stays open for the next run to settle.
    ///
    /// # Errors
    /// `error`, with what is known of the backup.
    pub(crate) async fn look_again(&self, error: anyhow::Error) -> Result<BackupSummary> {
        let (backup, word) = (self.backup, self.word);
        match self.repository.manifest(self.source, backup).await {
            Ok(Some(found)) => {
                let summary = found.summary();
                let now = self.setup.clock.now();
                match self.catalog.found_committed(self.job, now, &summary).await {
                    Ok(()) => {
                        tracing::warn!("the backup is {word} despite an error: {error:#}");
                    }
                    // The bucket decides. Whoever works next records it.
                    Err(unrecorded) => tracing::warn!(
                        "the backup {backup} is {word} in the bucket and counts, but is not \
                         recorded in the catalog ({:#}): when that is mended, the next backup \
                         or `drctl catalog rebuild` records it",
                        anyhow::Error::from(unrecorded)
                    ),
                }
                Ok(summary)
            }
            Ok(None) => {
                record_failure(self.setup, self.catalog, self.job, &error).await;
                Err(match self.left {
                    Some(left) => error.context(left),
                    None => error,
                })
            }
            Err(_) => Err(error.context(format!(
                "whether it is {word} is not known; the next backup or `drctl catalog rebuild` finds \
                 out"
            ))),
        }
    }
}

/// Tells the truth about attempts to back a source up whose process is gone; we hold the source's lock,
/// so all are but our own.
pub(crate) async fn settle(
    setup: &Setup,
    repository: &Repository,
    catalog: &Catalog,
    (source, own): (&SourceId, &BackupId),
) -> Result<()> {
    for job in catalog.unfinished_jobs().await? {
        let id = job.backup.filter(|id| job.source == *source && id != own);
        let Some(backup) = id.filter(|_| !planted("attempt-never-settled")) else { continue };
        let now = setup.clock.now();
        match committed(repository, source, &backup).await? {
            Some(found) => {
                tracing::warn!(%backup, "a backup was committed by a process that died");
                unless_kept(catalog.found_committed(job.id, now, &found).await);
            }
            None => {
                tracing::warn!(%backup, "an earlier attempt died and left no backup");
                unless_kept(catalog.append(job.id, now, &JobEvent::FoundDead).await);
            }
        }
    }
    Ok(())
}

/// What the bucket holds of an attempt: somebody else's manifest in its place does not make it a backup.
///
/// # Errors
/// The store's.
pub(crate) async fn committed(
    repository: &Repository,
    source: &SourceId,
    backup: &BackupId,
) -> Result<Option<BackupSummary>> {
    match repository.manifest(source, backup).await {
        Err(error) if is_bad_manifest(&error) => {
            tracing::warn!(%backup, "its manifest is not the one that drctl wrote: {error:#}");
            Ok(None)
        }
        found => Ok(found?.map(|found| found.summary())),
    }
}

/// Tells that a step of a job is not on record, which stops nothing: the catalog is a cache, and the
/// bucket decides.
pub(crate) fn unless_kept<T>(kept: Result<T, CatalogError>) {
    if let Err(error) = kept {
        tracing::warn!("the job's record is behind: {:#}", anyhow::Error::from(error));
    }
}

pub(crate) async fn record_failure(
    setup: &Setup,
    catalog: &Catalog,
    job: JobId,
    error: &anyhow::Error,
) {
    // What failed first is what the operator must read; the next run settles the record.
    if let Err(unrecorded) = catalog.append(job, setup.clock.now(), &failure(error)).await {
        tracing::error!("the failure is not recorded: {:#}", anyhow::Error::from(unrecorded));
    }
}
