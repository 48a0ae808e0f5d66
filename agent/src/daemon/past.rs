//! What is known of earlier runs: the scheduler goes on where the last agent, or a person, left off.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::{BackupSummary, JobState, SourceId, newest};
use drctl_policies::scheduler::{JobKey, Outcome, PastRun, Scheduler};
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::specs::specs;
use crate::host::Setup;
use crate::jobs::settle::committed;
use crate::jobs::{self, noted, past_runs};
use crate::repository::{Repository, dated, horizon};

/// For how long somebody else may have the catalog when the agent starts.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many attempts of a source are looked at, the newest first.
const LOOKED_AT: usize = 20;

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

/// What is known of the past of these jobs. Without a catalog only the bucket tells of it, and of backups alone:
/// else what comes due from now on counts.
async fn past(setup: &Setup, keys: impl Iterator<Item = &JobKey>) -> Past {
    let nothing = || Past { runs: BTreeMap::new(), configured: setup.clock.now() };
    match known(setup, keys).await {
        Ok((runs, true)) => Past { runs, configured: setup.configured_since() },
        Ok((runs, false)) => Past { runs, ..nothing() },
        Err(error) => {
            tracing::warn!("earlier runs are not known, so that none is made up for: {error:#}");
            nothing()
        }
    }
}

/// The runs of each job, and whether there is a catalog that knows what the bucket holds: one that was begun while
/// the bucket was not reached, or whose filling died, has none of its backups, or a part of them.
async fn known(
    setup: &Setup,
    keys: impl Iterator<Item = &JobKey>,
) -> Result<(BTreeMap<JobKey, Vec<PastRun>>, bool)> {
    let (noted, path) = (noted(setup), setup.catalog_path());
    let catalog = match path.exists() {
        true => Some(Catalog::open_read_only_within(&path, PATIENCE).await?),
        false => None,
    };
    let is_filled = match &catalog {
        Some(catalog) => catalog.repository().await?.is_some(),
        None => false,
    };
    let mut bucket = Bucket { setup, repository: None, until: Instant::now() + PATIENCE };
    let mut all = BTreeMap::new();
    for key in keys {
        let mut runs = Vec::new();
        if let Some(catalog) = &catalog {
            let of = (key.kind, &key.source);
            runs.extend(past_runs(setup, catalog, of, &noted).await?.iter().map(run));
        }
        if runs.is_empty() && key.kind.makes_a_backup() {
            // A catalog that was made anew knows the bucket's backups, and no job of this host.
            let newest = match catalog.as_ref().filter(|_| is_filled) {
                Some(catalog) => {
                    let known = catalog.backups(Some(&key.source)).await?;
                    newest(dated(&known, setup.clock.now(), |_| true).iter()).cloned()
                }
                None => bucket.newest(&key.source).await,
            };
            runs.extend(newest.map(|backup| PastRun {
                begun: backup.started,
                ended: Some((backup.finished, Outcome::Succeeded)),
                runs: false,
            }));
        }
        all.insert(key.clone(), runs);
    }
    Ok((all, is_filled))
}

/// The bucket, as long as it answers soon: the agent begins whether it does or not.
struct Bucket<'a> {
    setup: &'a Setup,
    repository: Option<Repository>,
    until: Instant,
}

impl Bucket<'_> {
    /// The newest backup of a source; nothing where it has none, or that cannot be told.
    async fn newest(&mut self, source: &SourceId) -> Option<BackupSummary> {
        let until = self.until;
        let why = match timeout_at(until, self.look(source)).await {
            Ok(Ok(newest)) => return newest,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "the bucket is very slow".to_owned(),
        };
        tracing::warn!(%source, "its earlier backups are not known, so that none is made up for: {why}");
        None
    }

    async fn look(&mut self, source: &SourceId) -> Result<Option<BackupSummary>> {
        let repository = match self.repository.take() {
            Some(repository) => repository,
            None => self.setup.repository().await?,
        };
        let repository = self.repository.insert(repository);
        let (horizon, mut future) = (horizon(self.setup.clock.now()), None);
        for id in repository.attempts(source).await?.into_iter().take(LOOKED_AT) {
            // One that never ended, or that is not believed, is no backup.
            match committed(repository, source, &id).await? {
                Some(found) if found.started <= horizon => return Ok(Some(found)),
                // Dated by a wrong clock: one behind it says more.
                found => future = future.or(found),
            }
        }
        Ok(future)
    }
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
    let ended = (!past.runs).then_some((job.changed, outcome));
    PastRun { begun: job.started, ended, runs: past.runs }
}
