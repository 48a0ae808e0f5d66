//! A backup of a source, by its engine.

use anyhow::Result;
use drctl_model::{Checked, FindingCode, JobKind, SourceId};
use drctl_policies::Source;

use crate::audit::{Act, Logged};
use crate::backup::{BackedUp, Order, RequestedKind};
use crate::host::{Meter, Setup, Stop};
use crate::jobs::open_job::OpenJob;
use crate::jobs::{Came, hooked};
use crate::repository::cache;
use crate::repository::findings::{Findings, suspect};

/// Takes a backup of the source `name` and commits it.
///
/// # Errors
/// [`AgentError::UnknownSource`], [`AgentError::Usage`] and [`AgentError::Busy`] before anything is tried;
/// then [`EngineError`](drctl_engines::EngineError) of the server or its tools,
/// [`StoreError`](drctl_store::StoreError) of the bucket, [`AgentError::Incomplete`],
/// [`AgentError::Interrupted`]: nothing of it counts, and the job's record says so.
///
/// [`AgentError::UnknownSource`]: crate::host::AgentError::UnknownSource
/// [`AgentError::Usage`]: crate::host::AgentError::Usage
/// [`AgentError::Busy`]: crate::host::AgentError::Busy
/// [`AgentError::Incomplete`]: crate::host::AgentError::Incomplete
/// [`AgentError::Interrupted`]: crate::host::AgentError::Interrupted
pub async fn backup(
    setup: &Setup,
    name: &str,
    requested: RequestedKind,
    meter: &Meter,
    stop: &Stop,
) -> Result<BackedUp> {
    let (id, source) = setup.source(name)?;
    let engine = super::of(source);
    engine.can_be(requested)?;
    let by_engine = async |order: Order<'_>| engine.back_up(order).await;
    back_up_by(setup, (id, source), requested, (meter, stop), by_engine).await
}

/// The same, whoever makes the bytes.
///
/// # Errors
/// As [`backup`].
pub(crate) async fn back_up_by(
    setup: &Setup,
    (id, source): (&SourceId, &Source),
    requested: RequestedKind,
    (meter, stop): (&Meter, &Stop),
    by: impl AsyncFnOnce(Order<'_>) -> Result<BackedUp>,
) -> Result<BackedUp> {
    let _lock = cache::lock(setup, id)?;
    let logged = Logged::begin(setup, Act::new("backup").of(id.as_str()));
    let job = OpenJob::begin(setup, id).await;
    let work = Box::pin(async {
        // Whoever cannot sign or encrypt hears it before anything is asked of server and bucket.
        let (recipients, key) = (setup.recipients()?, setup.signing_key()?);
        let job = &job;
        by(Order { setup, job, source, recipients, key, requested, meter, stop }).await
    });
    let made = |done: &BackedUp| Came {
        backup: Some(done.summary.backup.to_string()),
        suspect: !done.summary.is_good(),
        stopped: false,
    };
    let done = hooked((setup, JobKind::Backup, id), stop, work, made).await;
    logged.end(&done, |done, act| act.put("backup", done.summary.backup.as_str()));
    match &done {
        Ok(done) => {
            job.done();
            let found = suspect(&done.summary).into_iter().collect();
            let findings = Findings::of(setup, id);
            findings.note(Checked::all(&[FindingCode::BackupSuspect], found));
            findings.keep().await;
        }
        Err(error) => job.failed(error).await,
    }
    done
}
