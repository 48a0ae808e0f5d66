//! A source is worked on by one process at a time: the agent waits for whoever has it.

use std::time::Duration;

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::JobState;
use drctl_policies::scheduler::JobKey;
use jiff::Timestamp;
use tokio::time::timeout;

use crate::host::locks::is_held;
use crate::host::{AgentError, Setup, Stop};
use crate::jobs::{Past, noted, past_runs};
use crate::repository::horizon;

/// How often is looked whether the other one has ended.
const EVERY: Duration = Duration::from_secs(2);

/// Waits until no other process works on the source. Whether somebody has done since it was due what is due: nothing
/// is left to do then.
///
/// # Errors
/// [`AgentError::Interrupted`] when the end is wished for.
pub(super) async fn until_free(
    setup: &Setup,
    key: &JobKey,
    due: Option<Timestamp>,
    stop: &Stop,
) -> Result<bool> {
    let mut waited = false;
    while is_held(&setup.config.paths, &key.source) == Some(true) {
        if !waited {
            tracing::info!(source = %key.source, "another drctl works on it: waiting until it ends");
        }
        waited = true;
        if timeout(EVERY, stop.requested()).await.is_ok() {
            return Err(AgentError::Interrupted.into());
        }
    }
    match due {
        Some(due) => Ok(was_done(setup, key, due).await.unwrap_or(false)),
        None => Ok(false),
    }
}

/// Whether somebody did it since it was due.
async fn was_done(setup: &Setup, key: &JobKey, due: Timestamp) -> Result<bool> {
    let noted = noted(setup);
    let catalog = Catalog::open_read_only(&setup.catalog_path()).await?;
    let runs = past_runs(setup, &catalog, (key.kind, &key.source), &noted).await?;
    let good = |state| matches!(state, JobState::Committed | JobState::Succeeded);
    // One that is dated in the future was made by a clock that was wrong.
    let horizon = horizon(setup.clock.now());
    let since = |run: &Past| run.job.started >= due && run.job.started <= horizon;
    Ok(runs.iter().any(|run| good(run.job.state) && since(run)))
}
