//! Where every source stands, and what to do next.

use drctl_catalog::Catalog;
use drctl_model::{BackupSummary, Job, JobState, SourceId, shown};
use drctl_policies::Source;
use drctl_policies::recovery::{Standing, Want, Warning};
use jiff::{SignedDuration, Timestamp};

use anyhow::Result;

use crate::backrest::truth_of;
use crate::chain::Family;
use crate::problem::Failure;
use crate::repository::CLOCKS_APART;
use crate::wal::{Beside, log_state};
use crate::{Repository, Setup};

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
    /// Where its log stands, or why that is not known; nothing where there is none.
    pub log: Option<Result<LogStatus, String>>,
    /// What log is lost that no backup covers yet, of one that pgBackRest keeps.
    pub lost: Option<String>,
}

/// Where the log of a source stands.
#[derive(Debug, Clone)]
pub struct LogStatus {
    /// How far it leads.
    pub standing: Standing,
    /// How old the last moment is that can be recovered: what would be lost now.
    pub age: SignedDuration,
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
        if let Some(lost) = &self.lost {
            let text = format!(
                "log is lost: {lost}; times behind it are out of reach: run `drctl backup {} --full`",
                self.source
            );
            // The objective does not hold for what was committed since.
            let health = self.rpo.map_or(Health::Attention, |_| Health::Breached);
            return (health, text);
        }
        if let Some(text) = self.breach(age) {
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
        if let Some(text) = self.holes() {
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

impl SourceStatus {
    /// Whether its newest good backup is a copy of a cluster, full or incremental, which has log.
    fn is_cluster(&self) -> bool {
        self.newest_good.as_ref().is_some_and(|good| good.kind.coordinates().is_some())
    }

    /// Whether more would be lost now than the objective says. Where there is log, that is what
    /// came after its last commit.
    fn breach(&self, age: SignedDuration) -> Option<String> {
        let rpo = self.rpo?;
        let log = self.log.as_ref().and_then(|log| log.as_ref().ok());
        match log {
            Some(log) if log.age > rpo => Some(format!(
                "the last commit in the bucket is older than the RPO of {rpo:#}: see that the log \
                 arrives (`drctl doctor`); on an idle server `wal stream --heartbeat` commits",
            )),
            None if age > rpo => Some(format!(
                "the newest good backup is older than the RPO of {rpo:#}: run `drctl backup {}`",
                self.source
            )),
            _ => None,
        }
    }

    /// What is missing of the log, or that it is not known.
    fn holes(&self) -> Option<String> {
        match self.log.as_ref()? {
            Ok(log) => {
                let take = format!("take a copy with `drctl backup {}`", self.source);
                let gap = log.standing.gaps.first().map(|gap| format!("{gap}: {take}"));
                let doubt = || log.standing.doubts.first();
                gap.or_else(|| {
                    doubt().map(|doubt| match doubt {
                        Warning::NoCopyOf(_) => format!("{doubt}: {take}"),
                        doubt => format!(
                            "{doubt}: `drctl timeline {}` shows \
                     what can be recovered; see that the history is archived, or {take}",
                            self.source
                        ),
                    })
                })
            }
            Err(why) => Some(format!("the log cannot be looked at: {why}")),
        }
    }
}

/// Where every configured source stands: from the catalog alone, but for the log of clusters,
/// which is looked for in the bucket.
///
/// # Errors
/// The catalog's. A bucket that cannot be reached is told of the sources that it matters for.
pub async fn status(setup: &Setup, catalog: &Catalog) -> Result<Vec<SourceStatus>> {
    let now = setup.clock.now();
    let mut all = Vec::new();
    for (id, source) in &setup.config.sources {
        all.push(one(catalog, id, source, now).await?);
    }
    if all.iter().any(SourceStatus::is_cluster) {
        let opened = setup.repository().await;
        let cache = match &opened {
            Ok(repository) => setup.log_cache(repository).await,
            Err(_) => None,
        };
        for status in all.iter_mut().filter(|status| status.is_cluster()) {
            look(setup, opened.as_ref(), catalog, cache.as_ref(), status).await;
        }
    }
    Ok(all)
}

/// Looks at a cluster's log, and at what pgBackRest keeps of it.
async fn look(
    setup: &Setup,
    opened: Result<&Repository, &anyhow::Error>,
    catalog: &Catalog,
    cache: Option<&Catalog>,
    status: &mut SourceStatus,
) {
    let source = &status.source;
    // What is lost is known, whatever else may be not.
    let (stanza, lost) = match truth_of(setup, source.as_str()).await {
        Ok(found) => found.map(|(stanza, truth, _)| (stanza, truth.incident)).unzip(),
        Err(error) => {
            status.log = Some(Err(why(&error)));
            return;
        }
    };
    let looking = async {
        let repository = opened.map_err(why)?;
        let beside = stanza.map(|stanza| Beside::new(setup, stanza, Want::Last)).transpose();
        let beside = beside.map_err(|error| why(&error))?;
        let state = log_state(repository, source, catalog, cache, beside).await;
        state.map_err(|error| why(&error))
    };
    let aged = |standing: Standing| {
        let age = setup.clock.now().duration_since(standing.shows);
        LogStatus { standing, age }
    };
    status.log = looking.await.map(|state| state.map(aged)).transpose();
    status.lost = lost.flatten();
}

fn why(error: &anyhow::Error) -> String {
    shown(&Failure::of(error).messages.join(": "), 500)
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
        log: None,
        lost: None,
    })
}

#[cfg(test)]
mod tests {
    use drctl_model::{
        BackupKind, Coordinates, Digest, Engine, Increment, Lsn, Parent, Timeline, WalSegmentSize,
    };
    use drctl_policies::recovery::{Gap, Why};

    use super::*;

    fn increment() -> BackupSummary {
        let at = Coordinates {
            system_id: 7,
            segment_size: WalSegmentSize::new(1 << 20).unwrap(),
            timeline: Timeline::FIRST,
            start: Lsn(1),
            stop: Lsn(2),
            stop_timeline: Timeline::FIRST,
            listing_sha256: None,
            log: None,
        };
        let full = "20260301T000000Z-0000000000000001".parse().unwrap();
        let parent = Parent { backup: full, manifest_sha256: Digest([1; 32]) };
        BackupSummary {
            source: "shop".parse().unwrap(),
            backup: "20260302T000000Z-0000000000000002".parse().unwrap(),
            engine: Engine::BaseBackup,
            kind: BackupKind::Incremental(Increment { parent, at }),
            host: "db1".into(),
            started: Timestamp::UNIX_EPOCH,
            finished: Timestamp::UNIX_EPOCH,
            plain_bytes: 0,
            sealed_bytes: 0,
            segments: 0,
            suspect: vec![],
            manifest_sha256: Digest([2; 32]),
        }
    }

    fn status(newest_good: BackupSummary) -> SourceStatus {
        SourceStatus {
            source: newest_good.source.clone(),
            newest_good: Some(newest_good),
            suspect: None,
            broken: None,
            age: Some(SignedDuration::from_secs(5)),
            rpo: None,
            last_job: None,
            next: None,
            log: None,
            lost: None,
        }
    }

    #[test]
    fn the_log_behind_an_incremental_copy_is_looked_at_too() {
        assert!(status(increment()).is_cluster());
        assert!(!status(BackupSummary { kind: BackupKind::Logical, ..increment() }).is_cluster());
    }

    #[test]
    fn a_history_that_is_missing_needs_attention() {
        let judged = |gaps: &[Gap], doubts: &[Warning]| {
            let standing = Standing {
                timeline: Timeline::FIRST,
                end: Lsn(9),
                shows: Timestamp::UNIX_EPOCH,
                gaps: gaps.to_vec(),
                doubts: doubts.to_vec(),
            };
            let log = LogStatus { standing, age: SignedDuration::from_secs(1) };
            SourceStatus { log: Some(Ok(log)), ..status(increment()) }.judge()
        };
        let two = Timeline::new(2).unwrap();
        assert_eq!(judged(&[], &[]).0, Health::Good);
        let (health, text) = judged(&[], &[Warning::NoHistory(two)]);
        assert_eq!(health, Health::Attention);
        assert!(text.contains("not its history") && text.contains("drctl timeline shop"), "{text}");
        assert_eq!(judged(&[], &[Warning::DisputedHistory(two)]).0, Health::Attention);
        let gap = Gap { timeline: Timeline::FIRST, from: Lsn(9), until: None, why: Why::Missing };
        assert!(judged(&[gap], &[Warning::NoHistory(two)]).1.contains("is missing"), "a gap first");
    }
}
