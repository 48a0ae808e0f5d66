//! A backup of a source, by its engine.

use anyhow::Result;
use drctl_policies::{Engine, Source};

use super::pgbackrest as backrest;
use crate::backup::attempt::back_up;
use crate::backup::{BackedUp, RequestedKind};
use crate::host::{AgentError, Meter, Setup, Stop};
use crate::jobs::open_job::OpenJob;
use crate::repository::cache;

/// Takes a backup of the source `name` and commits it.
///
/// # Errors
/// [`AgentError::UnknownSource`], [`AgentError::Usage`] and [`AgentError::Busy`] before anything is tried;
/// then [`EngineError`](drctl_engines::EngineError) of the server or its tools,
/// [`StoreError`](drctl_store::StoreError) of the bucket, [`AgentError::Incomplete`],
/// [`AgentError::Interrupted`]: nothing of it counts, and the job's record says so.
pub async fn backup(
    setup: &Setup,
    name: &str,
    requested: RequestedKind,
    meter: &Meter,
    stop: &Stop,
) -> Result<BackedUp> {
    let (id, source) = setup.source(name)?;
    can_be(&source.engine, requested)?;
    let _lock = cache::lock(setup, id)?;
    let job = OpenJob::begin(setup, id).await;
    let done = attempt(setup, (&job, source), requested, meter, stop).await;
    if let Err(error) = &done {
        job.failed(error).await;
    }
    done
}

/// The same with the source's lock held, and on record.
async fn attempt(
    setup: &Setup,
    (job, source): (&OpenJob<'_>, &Source),
    requested: RequestedKind,
    meter: &Meter,
    stop: &Stop,
) -> Result<BackedUp> {
    // Whoever cannot sign or encrypt hears it before anything is asked of server and bucket.
    let keys = (setup.recipients()?, setup.signing_key()?);
    match &source.engine {
        Engine::PgDump(_) | Engine::BaseBackup(_) => {
            back_up(setup, (job, source), keys, requested, meter, stop).await
        }
        Engine::Pgbackrest(settings) => {
            backrest::back_up(setup, job, (source, settings), requested, meter, stop).await
        }
    }
}

/// Whether a source of this engine can be backed up so, by whom we run as.
fn can_be(engine: &Engine, requested: RequestedKind) -> Result<()> {
    if requested != RequestedKind::AsConfigured && matches!(engine, Engine::PgDump(_)) {
        let text = "--full and --incremental are for base backups of clusters (engine = \
                    \"base_backup\" or \"pgbackrest\")";
        return Err(AgentError::Usage(text.to_owned()).into());
    }
    if matches!(engine, Engine::Pgbackrest(_)) {
        backrest::not_as_root()?;
    }
    Ok(())
}
