//! Whether the last backups of this host failed one after the other: what there is may be all that there will be.

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::{BackupSummary, Job, JobKind, JobState, SourceId};
use drctl_policies::Schedule;
use jiff::Timestamp;

use super::blocked::Reason;
use crate::host::Setup;
use crate::jobs::has_died;
use crate::repository::horizon;

/// So many runs in a row that fail are a streak.
const STREAK: usize = 3;

/// So many jobs are looked at for it.
const LOOKED_AT: usize = 100;

/// That they did, and no other host made a good one meanwhile; nothing else.
///
/// # Errors
/// The catalog's.
pub(super) async fn failures(
    setup: &Setup,
    catalog: &Catalog,
    (source, backups): (&SourceId, &[BackupSummary]),
    now: Timestamp,
) -> Result<Option<Reason>> {
    let jobs = catalog.last_jobs(JobKind::Backup, source, LOOKED_AT).await?;
    let configured = setup.configured(source.as_str());
    let schedule = configured.and_then(|(_, one)| one.policy.schedule.as_ref());
    let is_there = |job: &Job| backups.iter().any(|one| Some(&one.backup) == job.backup.as_ref());
    let died = jobs.first().filter(|job| has_died(setup, job));
    // It died behind its manifest, and nobody has noted that yet.
    if died.is_some_and(is_there) {
        return Ok(None);
    }
    let died = died.is_some();
    let Some(streak) = streak((&jobs, died), schedule, horizon(now)) else { return Ok(None) };
    let elsewhere = made_elsewhere(catalog, backups, (streak.since, horizon(now))).await?;
    Ok((!elsewhere).then(|| streak.reason()))
}

/// Runs that failed, each as often as it was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Streak {
    /// A good backup of another host that was begun later ends it.
    since: Timestamp,
    /// When the first one failed.
    first: Timestamp,
}

impl Streak {
    fn reason(self) -> Reason {
        let text = format!(
            "every backup of this host since {:.0} failed: until one is made only a person removes something",
            self.first
        );
        Reason::untold("failures", text)
    }
}

/// The streak by these jobs of this host; `died`: the newest has not ended, and its process is gone. Their order
/// is that of their numbers, whatever the clock said.
fn streak(
    (newest_first, died): (&[Job], bool),
    schedule: Option<&Schedule>,
    horizon: Timestamp,
) -> Option<Streak> {
    // What somebody stopped says nothing, nor what runs.
    let told = newest_first.iter().enumerate().filter(|(at, job)| match job.state {
        JobState::New | JobState::Running | JobState::Committing => died && *at == 0,
        JobState::Cancelled => false,
        JobState::Committed | JobState::Succeeded | JobState::Failed | JobState::Interrupted => {
            true
        }
    });
    let has_failed = |job: &Job| !matches!(job.state, JobState::Committed | JobState::Succeeded);
    let told: Vec<&Job> = told.map(|(_, job)| job).collect();
    let begun: Vec<Timestamp> =
        told.iter().take_while(|job| has_failed(job)).map(|job| job.started).collect();
    let since = *begun.get(first_of_streak(&begun, schedule)?)?;
    // Of failures that a wrong clock dated in the future, or before the last backup, that one tells.
    let before = told.get(begun.len()).map_or(Timestamp::MIN, |job| job.started);
    let since = if since > horizon { before } else { since.max(before) };
    Some(Streak { since, first: *begun.last()? })
}

/// Which of these failures, the newest first, is the first of the last [`STREAK`] runs; nothing where there are
/// fewer. What is tried again before the next run is due is the same run; without a schedule each is one.
fn first_of_streak(failed: &[Timestamp], schedule: Option<&Schedule>) -> Option<usize> {
    let is_next = |(older, newer): &(Timestamp, Timestamp)| {
        let is_due =
            |schedule: &Schedule| schedule.next_after(*older).is_some_and(|due| due <= *newer);
        // Where a clock was set back between them nobody knows.
        newer < older || schedule.is_none_or(is_due)
    };
    let pairs = failed.iter().skip(1).copied().zip(failed.iter().copied());
    let begins = pairs.enumerate().filter(|(_, pair)| is_next(pair)).map(|(at, _)| at);
    let first = failed.len().checked_sub(1);
    begins.chain(first).nth(STREAK - 1)
}

/// Whether there is a good backup that was begun in a time, and that no job of this host made: of those the order
/// of its jobs tells.
async fn made_elsewhere(
    catalog: &Catalog,
    backups: &[BackupSummary],
    (since, horizon): (Timestamp, Timestamp),
) -> Result<bool> {
    let is_meant =
        |one: &&BackupSummary| one.is_good() && one.started > since && one.started <= horizon;
    for one in backups.iter().filter(is_meant) {
        if catalog.job_of(&one.source, &one.backup).await?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use drctl_model::{BackupId, BackupKind, Digest, Dumped, Engine, JobId};

    use super::*;

    fn hour(hour: f64) -> Timestamp {
        Timestamp::from_second((hour * 3600.0) as i64).unwrap()
    }

    /// Backups of this host that were begun at these hours and failed, the newest first.
    fn failed(hours: &[f64]) -> Vec<Job> {
        (0..).zip(hours).map(|(n, at)| job(n, hour(*at), JobState::Failed)).collect()
    }

    fn job(n: i64, started: Timestamp, state: JobState) -> Job {
        Job {
            id: JobId(n),
            kind: JobKind::Backup,
            source: "shop".parse().unwrap(),
            backup: None,
            state,
            started,
            changed: started,
            code: None,
            message: None,
            run: None,
        }
    }

    #[test]
    fn three_runs_that_failed_are_a_streak_however_often_each_was_tried() {
        let daily = Schedule::new("0 2 * * *", jiff::tz::TimeZone::UTC).unwrap();
        let since = |hours: &[f64], schedule| {
            streak((&failed(hours), false), schedule, Timestamp::MAX).map(|found| found.since)
        };
        let thrice = [50.4, 50.1, 50.0, 26.4, 26.1, 26.0, 2.4, 2.1, 2.0];
        assert_eq!(since(&thrice, Some(&daily)), Some(hour(2.0)));
        assert_eq!(since(&thrice[..6], Some(&daily)), None, "two nights, each tried three times");
        // Windows that close, and runs by hand: fewer tries than are allowed.
        assert_eq!(since(&[74.0, 50.0, 26.0, 2.0], Some(&daily)), Some(hour(26.0)));
        assert_eq!(since(&[26.3, 26.2, 26.1, 26.0, 2.0], Some(&daily)), None);
        assert_eq!(since(&[2.2, 2.1], None), None);
        assert_eq!(
            since(&[2.2, 2.1, 2.0], None),
            Some(hour(2.0)),
            "without a schedule each is a run"
        );
        assert_eq!(since(&[], None), None);
    }

    #[test]
    fn a_streak_is_told_by_the_order_of_jobs_and_what_was_stopped_or_runs_says_nothing() {
        let of = |states: &[JobState], died| {
            let jobs = (0..).zip(states).map(|(n, state)| job(-n, hour(100.0 - n as f64), *state));
            let jobs: Vec<Job> = jobs.collect();
            streak((&jobs, died), None, Timestamp::MAX).is_some()
        };
        use JobState::{Cancelled, Committed, Failed, Interrupted, Running};
        assert!(of(&[Failed, Cancelled, Interrupted, Failed], false));
        assert!(!of(&[Failed, Failed, Committed, Failed], false));
        assert!(of(&[Running, Failed, Failed, Failed], false));
        assert!(!of(&[Running, Failed, Failed], false), "it may come to a good end");
        assert!(of(&[Running, Failed, Failed], true), "it died");
        // A clock that was ahead when they failed: whatever came after the last good one may have come since.
        let ahead = [9_000.0, 8_000.0, 7_000.0].map(|at| job(2, hour(at), Failed));
        let before = job(1, hour(10.0), Committed);
        let jobs = [&ahead[..], &[before]].concat();
        let found = |jobs: &[Job]| streak((jobs, false), None, hour(100.0)).unwrap();
        assert_eq!((found(&jobs).since, found(&jobs).first), (hour(10.0), hour(7_000.0)));
        assert_eq!(found(&ahead).since, Timestamp::MIN);
        // One that was behind: what is older than the last good one did not come since.
        let behind = [3.0, 2.0, 1.0].map(|at| job(2, hour(at), Failed));
        let before = job(1, hour(50.0), Committed);
        assert_eq!(found(&[&behind[..], &[before]].concat()).since, hour(50.0));
        assert_eq!(found(&[1.0, 2.0, 3.0].map(|at| job(2, hour(at), Failed))).since, hour(3.0));
    }

    #[tokio::test]
    async fn a_backup_of_another_host_ends_a_streak_wherever_it_lies_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&directory.path().join("catalog.db")).await.unwrap();
        let made = |n: u64, at: f64, suspect: bool| BackupSummary {
            source: "shop".parse().unwrap(),
            backup: BackupId::new(hour(at), n),
            engine: Engine::PgDump,
            kind: BackupKind::Logical(Dumped::default()),
            host: "db1".to_owned(),
            started: hour(at),
            finished: hour(at),
            plain_bytes: 0,
            sealed_bytes: 0,
            segments: 0,
            suspect: suspect.then(|| "it is small".to_owned()).into_iter().collect(),
            manifest_sha256: Digest([0; 32]),
            accepted: None,
            signer: String::new(),
            objects: None,
        };
        let own = made(1, 30.0, false);
        let begun = catalog.begin_job(hour(30.0), JobKind::Backup, &own.source, Some(&own.backup));
        let _ = begun.await.unwrap();
        let is_elsewhere = async |all: &[BackupSummary]| {
            made_elsewhere(&catalog, all, (hour(26.0), hour(80.0))).await.unwrap()
        };
        assert!(!is_elsewhere(std::slice::from_ref(&own)).await);
        assert!(is_elsewhere(&[own.clone(), made(2, 26.1, false)]).await);
        for other in [made(2, 26.0, false), made(2, 81.0, false), made(2, 40.0, true)] {
            assert!(!is_elsewhere(&[own.clone(), other.clone()]).await, "{other:?}");
        }
    }
}
