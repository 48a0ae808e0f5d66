//! Work that is a job and no backup: on record from before the bucket is asked to how it ended.

use std::pin::Pin;

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::{JobEvent, JobKind, SourceId};

use super::record::{PATIENCE, Record, failure};
use crate::host::Setup;
use crate::repository::find::named;
use crate::repository::leases::leased;

/// Work that came to its end, and what is on record of it for a source: nothing where all is well, else
/// the code and the message of what is not.
pub(crate) type Amiss = Option<(String, String)>;

/// Does the work as a job of a kind, for each of these sources. What cannot be recorded keeps nothing
/// from being done.
///
/// # Errors
/// Those of the work.
pub(crate) async fn run<T>(
    setup: &Setup,
    (kind, sources): (JobKind, Vec<SourceId>),
    work: Pin<Box<impl Future<Output = Result<T>>>>,
    amiss: impl Fn(&T, &SourceId) -> Amiss,
) -> Result<T> {
    let of = sources.iter().map(|source| (source.clone(), None));
    let record = Record::begin(setup, (kind, setup.clock.now()), of).await;
    let done = leased(setup, (kind, &sources), work).await;
    let ended = |source: &SourceId| match &done {
        Ok(done) => match amiss(done, source) {
            None => JobEvent::Succeeded,
            Some((code, message)) => JobEvent::Failed { code, message },
        },
        Err(error) => failure(error),
    };
    if let Err(unrecorded) = record.end(ended).await {
        tracing::debug!("how the job ended is not recorded: {unrecorded:#}");
    }
    done
}

/// The sources that are meant by the name of one or by a backup: of no name all that this host has. Of
/// what neither configuration nor catalog know the bucket tells whose it is.
///
/// # Errors
/// As [`Setup::repository`]; [`AgentError::NoBackup`](crate::host::AgentError::NoBackup) for what is not
/// there either.
pub(crate) async fn meant(setup: &Setup, what: Option<&str>) -> Result<Vec<SourceId>> {
    let Some(what) = what else { return Ok(setup.config.sources.keys().cloned().collect()) };
    if let Some((source, _)) = setup.configured(what) {
        return Ok(vec![source.clone()]);
    }
    let (path, (source, wanted)) = (setup.catalog_path(), named(None, what)?);
    let found = async { Catalog::open_read_only_within(&path, PATIENCE).await?.find(wanted).await };
    if let Ok(backup) = found.await
        && source.is_none_or(|source| source == backup.source)
    {
        return Ok(vec![backup.source]);
    }
    let repository = setup.repository().await?;
    let sources = repository.sources().await?;
    if let Some(source) = sources.into_iter().find(|source| source.as_str() == what) {
        return Ok(vec![source]);
    }
    Ok(vec![repository.find(None, what).await?.manifest.source])
}
