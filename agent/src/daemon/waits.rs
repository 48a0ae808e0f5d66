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
use crate::jobs::{noted, past_runs};

/// How often is looked whether the other one has ended.
const EVERY: Duration = Duration::from_secs(2);

/// Waits until no other process works on the source. Whether the other one did what was due meanwhile:
/// nothing is left to do then.
///
/// # Errors
/// [`AgentError::Interrupted`] when the end is wished for.
pub(super) async fn until_free(
    setup: &Setup,
    key: &JobKey,
    due: Option<Timestamp>,
    stop: &Stop,
) -> Result<bool> {
    let state = &setup.config.paths.state_dir;
    let mut waited = false;
    while is_held(state, &key.source) == Some(true) {
        if !waited {
            tracing::info!(source = %key.source, "another drctl works on it: waiting until it ends");
        }
        waited = true;
        if timeout(EVERY, stop.requested()).await.is_ok() {
            return Err(AgentError::Interrupted.into());
        }
    }
    match due {
        Some(due) if waited => Ok(was_done(setup, key, due).await.unwrap_or(false)),
        _ => Ok(false),
    }
}

/// Whether somebody did it since it was due.
async fn was_done(setup: &Setup, key: &JobKey, due: Timestamp) -> Result<bool> {
    let noted = noted(setup);
    let catalog = Catalog::open_read_only(&setup.catalog_path()).await?;
    let runs = past_runs(setup, &catalog, (key.kind, &key.source), &noted).await?;
    let good = |state| matches!(state, JobState::Committed | JobState::Succeeded);
    Ok(runs.iter().any(|run| good(run.job.state) && run.job.started >= due))
}
