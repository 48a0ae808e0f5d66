//! Where every source stands, and what to do next.

use drctl_catalog::Catalog;
use drctl_model::{BackupSummary, Job, JobState, SourceId, shown};
use drctl_policies::Source;
use jiff::{SignedDuration, Timestamp};

use anyhow::Result;

use crate::Setup;
use crate::chain::Family;
use crate::repository::CLOCKS_APART;

/// Where one source stands.
#[derive(Debug, Clone)]
pub struct SourceStatus {
    /// The source.
    pub source: SourceId,
    /// Its newest backup that nothing speaks against.
    pub newest_good: Option<BackupSummary>,
    /// Its newest backup, when that is suspect.
    pub suspect: Option<BackupSummary>,
    /// Why its newest backup cannot be restored, when the chain that it stands on does not hold.
    pub broken: Option<String>,
    /// How old the newest good one is: what would be lost now.
    pub age: Option<SignedDuration>,
    /// What may be lost at the most, where an objective says so.
    pub rpo: Option<SignedDuration>,
    /// The last job that this host ran for it.
    pub last_job: Option<Job>,
    /// When the schedule asks for the next one.
    pub next: Option<Timestamp>,
}

/// How a source is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// There is a good backup, young enough as far as an objective says.
    Good,
    /// Something needs attention: the last job failed, the newest backup is suspect.
    Attention,
    /// The objective is breached, or there is no good backup at all.
    Breached,
}

impl Health {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Good => "good",
            Health::Attention => "attention",
            Health::Breached => "breached",
        }
    }
}

impl SourceStatus {
    /// How it is doing, and in a sentence why and what to do.
    #[must_use]
    pub fn judge(&self) -> (Health, String) {
        let Some(age) = self.age else {
            let text = format!("no good backup: run `drctl backup {}`", self.source);
            return (Health::Breached, text);
        };
        if age < -CLOCKS_APART {
            let text = "the newest good backup is dated in the future: set the clock right; \
                        `drctl list` shows what was taken since";
            return (Health::Attention, text.to_owned());
        }
        if let Some(rpo) = self.rpo.filter(|rpo| age > *rpo) {
            let text = format!(
                "the newest good backup is older than the RPO of {rpo:#}: run `drctl backup {}`",
                self.source
            );
            return (Health::Breached, text);
        }
        if let Some(suspect) = &self.suspect {
            let why = shown(&suspect.suspect.join("; "), 500);
            let text =
                format!("{} is suspect ({why}): look at it with `drctl show`", suspect.backup);
            return (Health::Attention, text);
        }
        if let Some(why) = &self.broken {
            let text = format!(
                "the newest backup cannot be restored ({why}): run `drctl backup {} --full`",
                self.source
            );
            return (Health::Attention, text);
        }
        match self.last_job.as_ref().filter(|job| job.state != JobState::Committed) {
            Some(job) if job.state == JobState::Failed => {
                let why = job.message.as_deref().unwrap_or("for an unknown reason");
                (Health::Attention, format!("the last job failed: {why}"))
            }
            Some(job) if job.state == JobState::Cancelled => {
                (Health::Attention, "the last job was stopped".to_owned())
            }
            Some(job) if job.state == JobState::Interrupted => {
                (Health::Attention, "the last job's process died".to_owned())
            }
            Some(job) => (Health::Good, format!("a backup runs, or died, since {}", job.started)),
            None => (Health::Good, String::new()),
        }
    }
}

/// Where every configured source stands, from the catalog alone.
///
/// # Errors
/// The catalog's.
pub async fn status(setup: &Setup, catalog: &Catalog) -> Result<Vec<SourceStatus>> {
    let now = setup.clock.now();
    let mut all = Vec::new();
    for (id, source) in &setup.config.sources {
        all.push(one(catalog, id, source, now).await?);
    }
    Ok(all)
}

async fn one(
    catalog: &Catalog,
    id: &SourceId,
    source: &Source,
    now: Timestamp,
) -> Result<SourceStatus> {
    let newest_good = catalog.newest_good(id).await?;
    let all = catalog.backups(Some(id)).await?;
    let broken = all.first().and_then(|newest| Family::of(&all).broken(newest));
    let newest = all.into_iter().next();
    let age = newest_good.as_ref().map(|good| now.duration_since(good.started));
    let rpo = source.policy.objectives.rpo.and_then(|rpo| SignedDuration::try_from(rpo).ok());
    let next = source.policy.schedule.as_ref().filter(|_| source.enabled);
    Ok(SourceStatus {
        source: id.clone(),
        newest_good,
        suspect: newest.filter(|backup| !backup.is_good()),
        broken,
        age,
        rpo,
        last_job: catalog.last_job(id).await?,
        next: next.and_then(|schedule| schedule.next_after(now)),
    })
}
