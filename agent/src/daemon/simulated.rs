//! What a simulation drives of the agent, in test builds alone: the scheduler as an agent has it that begins,
//! and what its jobs do, by the shipped functions. Only the bytes of a backup are somebody else's.

use std::sync::Mutex;

use anyhow::{Context as _, Result};
use drctl_engines::BackupSource;
use drctl_model::{BackupId, JobKind, SourceId, Stated};
use drctl_policies::scheduler::{JobKey, Outcome, Scheduler};

use super::past;
use super::work::outcome;
use crate::backup::attempt::back_up;
use crate::backup::streamed::{Begun, Streamed};
use crate::backup::{BackedUp, RequestedKind};
use crate::engine::back_up_by;
use crate::host::{Meter, Setup, Stop};
use crate::repository::say::{Wish, state};

/// The scheduler of an agent that begins now: with the jobs of the configuration and the runs on record.
pub async fn scheduler(setup: &Setup) -> Scheduler {
    past::scheduler(setup).await.0
}

/// Backs a source up, from `bytes`, as the agent does; tells how that ended, and what went wrong.
pub async fn backup(
    setup: &Setup,
    source: &SourceId,
    bytes: Box<dyn BackupSource>,
    stop: &Stop,
) -> (Outcome, Option<String>) {
    outcome(backed_up(setup, source, bytes, stop).await.map(drop), stop)
}

async fn backed_up(
    setup: &Setup,
    source: &SourceId,
    bytes: Box<dyn BackupSource>,
    stop: &Stop,
) -> Result<BackedUp> {
    let (meter, found) = (Meter::default(), setup.source(source.as_str())?);
    let mut engine = Bytes(Mutex::new(Some(bytes)));
    let requested = RequestedKind::AsConfigured;
    back_up_by(setup, found, requested, (&meter, stop), async |order| {
        back_up(order, &mut engine).await
    })
    .await
}

/// Removes what no policy keeps, as the agent does; tells how that ended, and what went wrong.
pub async fn prune(setup: &Setup, source: &SourceId, stop: &Stop) -> (Outcome, Option<String>) {
    let key = JobKey { source: source.clone(), kind: JobKind::Prune };
    outcome(super::work::prune(setup, &key, stop).await, stop)
}

/// Says something of a source, or of a backup of it.
///
/// # Errors
/// [`AgentError::Usage`](crate::host::AgentError::Usage) for what may not be said; the store's, and the
/// catalog's.
pub async fn say(
    setup: &Setup,
    source: &SourceId,
    stated: Stated,
    backup: Option<BackupId>,
) -> Result<()> {
    let repository = setup.repository().await?;
    let catalog = setup.catalog(&repository).await?;
    let (source, reason) = (source.clone(), "simulated".to_owned());
    let wish = Wish { source, stated, backup, reason, without: Vec::new() };
    state(setup, &repository, &catalog, &wish).await.map(drop)
}

/// A source whose bytes are somebody else's.
struct Bytes(Mutex<Option<Box<dyn BackupSource>>>);

#[async_trait::async_trait(?Send)]
impl Streamed for Bytes {
    async fn open(&self, _: &Begun<'_>) -> Result<Box<dyn BackupSource>> {
        let bytes = self.0.lock().ok().and_then(|mut bytes| bytes.take());
        bytes.context("it was opened before")
    }
}
