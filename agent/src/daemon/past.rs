//! What is known of earlier runs: the scheduler goes on where the last agent, or a person, left off.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::JobState;
use drctl_policies::scheduler::{JobKey, Outcome, PastRun};
use jiff::Timestamp;

use crate::host::Setup;
use crate::jobs::{Past, past_runs};

/// For how long somebody else may have the catalog when the agent starts.
const PATIENCE: Duration = Duration::from_secs(30);

/// The earlier runs of these jobs, the one begun last first; none of what this host never did.
///
/// # Errors
/// The catalog's; none where there is no catalog yet.
pub(super) async fn past(
    setup: &Setup,
    keys: impl Iterator<Item = &JobKey>,
) -> Result<BTreeMap<JobKey, Vec<PastRun>>> {
    let path = setup.catalog_path();
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let catalog = Catalog::open_read_only_within(&path, PATIENCE).await?;
    let mut all = BTreeMap::new();
    for key in keys {
        let runs = past_runs(setup, &catalog, (key.kind, &key.source)).await?;
        all.insert(key.clone(), runs.iter().map(run).collect());
    }
    Ok(all)
}

/// A job of the log, as the scheduler sees it.
fn run(past: &Past) -> PastRun {
    let job = &past.job;
    let outcome = match job.state {
        JobState::Committed | JobState::Succeeded => Outcome::Succeeded,
        JobState::Cancelled => Outcome::Stopped,
        JobState::Failed => Outcome::Failed,
        JobState::New | JobState::Running | JobState::Committing | JobState::Interrupted => {
            Outcome::Died
        }
    };
    PastRun { begun: job.started, ended: (!past.runs).then_some((job.changed, outcome)) }
}

/// Since when the configuration has been as it is: what was due since then and never ran was missed.
pub(super) fn configured_since(setup: &Setup) -> Timestamp {
    let policies = setup.policy_files().unwrap_or_default();
    let changed = policies.iter().chain([&setup.path]).filter_map(|path| {
        let changed = std::fs::metadata(path).and_then(|found| found.modified()).ok()?;
        Timestamp::try_from(changed).ok()
    });
    changed.max().unwrap_or_else(|| setup.clock.now())
}
