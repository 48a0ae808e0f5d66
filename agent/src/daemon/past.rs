//! What is known of earlier runs: the scheduler goes on where the last agent, or a person, left off.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::{JobState, newest};
use drctl_policies::scheduler::{JobKey, Outcome, PastRun, Scheduler};
use jiff::Timestamp;

use super::specs::specs;
use crate::host::Setup;
use crate::jobs::{self, noted, past_runs};

/// For how long somebody else may have the catalog when the agent starts.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is known of the past.
struct Past {
    /// The earlier runs of each job, the one begun last first.
    runs: BTreeMap<JobKey, Vec<PastRun>>,
    /// Since when what was due counts of a job that never ran.
    configured: Timestamp,
}

/// The scheduler of an agent that begins now, and what the clock shows: with the jobs of the configuration and
/// the runs on record.
pub(super) async fn scheduler(setup: &Setup) -> (Scheduler, Timestamp) {
    let specs = specs(&setup.config, &setup.host());
    let past = past(setup, specs.keys()).await;
    let (at_once, now) = (setup.config.agent.jobs_at_once, setup.clock.now());
    (Scheduler::new(specs, &past.runs, at_once, (past.configured, now)), now)
}

/// What is known of the past of these jobs. Without a catalog nothing is: what comes due from now on counts.
async fn past(setup: &Setup, keys: impl Iterator<Item = &JobKey>) -> Past {
    let nothing = || Past { runs: BTreeMap::new(), configured: setup.clock.now() };
    if !setup.catalog_path().exists() {
        return nothing();
    }
    match known(setup, keys).await {
        Ok(runs) => Past { runs, configured: setup.configured_since() },
        Err(error) => {
            tracing::warn!("earlier runs are not known, so that none is made up for: {error:#}");
            nothing()
        }
    }
}

async fn known(
    setup: &Setup,
    keys: impl Iterator<Item = &JobKey>,
) -> Result<BTreeMap<JobKey, Vec<PastRun>>> {
    let noted = noted(setup);
    let catalog = Catalog::open_read_only_within(&setup.catalog_path(), PATIENCE).await?;
    let mut all = BTreeMap::new();
    for key in keys {
        let runs = past_runs(setup, &catalog, (key.kind, &key.source), &noted).await?;
        let mut runs: Vec<PastRun> = runs.iter().map(run).collect();
        if runs.is_empty() && key.kind.makes_a_backup() {
            // A catalog that was made anew knows the bucket's backups, and no job of this host.
            let backups = catalog.backups(Some(&key.source)).await?;
            runs.extend(newest(backups.iter()).map(|backup| PastRun {
                begun: backup.started,
                ended: Some((backup.finished, Outcome::Succeeded)),
            }));
        }
        all.insert(key.clone(), runs);
    }
    Ok(all)
}

/// A job of the log, as the scheduler sees it.
fn run(past: &jobs::Past) -> PastRun {
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
