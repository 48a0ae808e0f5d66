//! What was done for a source in a time, and where it stands at its end.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use drctl_catalog::{Catalog, KEPT};
use drctl_model::{BackupId, BackupSummary, Drill, Job, JobKind, JobState, SourceId, shown};
use jiff::Timestamp;

use super::drill_record::OfSource;
use super::{DrillRecord, Health, Judged, SourceStatus, status};
use crate::host::Setup;
use crate::host::figures::{bytes, number, span};
use crate::jobs::{Past, last_runs, noted};
use crate::repository::chain::Family;
use crate::repository::inventory::there;
use crate::repository::{Memory, drills};

/// So many backups are looked at; of other jobs the catalog itself keeps so few that all are.
const LOOKED_AT: usize = 1_000;

/// So much of a finding is told.
const TEXT_TOLD: usize = 1_500;

/// So many findings are told.
const FINDINGS: usize = 10;

/// What was done for a source, and where it stands.
pub struct Report {
    /// Where it stands.
    pub status: SourceStatus,
    /// What is amiss, the worst first.
    pub findings: Vec<Judged>,
    /// From when on it is told what was done.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
    /// The backups of that time that are there.
    pub made: Backups,
    /// All that are there.
    pub kept: Backups,
    /// The drills of that time, wherever they were run; why they are not known.
    pub drills: Result<DrillRecord, String>,
    /// What ran on this host, one of each kind of which anything did; nothing where that is not known.
    pub runs: Option<Vec<Runs>>,
}

/// Some backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backups {
    /// How many count as good.
    pub good: u64,
    /// How many are suspect.
    pub suspect: u64,
    /// Their bytes in the bucket.
    pub sealed_bytes: u64,
}

/// The runs of one kind of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runs {
    /// What they do.
    pub kind: JobKind,
    /// How many came to their end.
    pub succeeded: u64,
    /// How many failed, or died.
    pub failed: u64,
    /// How many were stopped.
    pub stopped: u64,
    /// How many have not ended.
    pub unfinished: u64,
    /// Whether there were more than are looked at.
    pub at_least: bool,
}

/// The reports of some sources of this host, of what was done between two times.
///
/// # Errors
/// As [`status`].
pub async fn report(
    setup: &Setup,
    catalog: &Catalog,
    sources: &[SourceId],
    (from, to): (Timestamp, Timestamp),
) -> Result<Vec<Report>> {
    let mut config = (*setup.config).clone();
    config.sources.retain(|id, _| sources.contains(id));
    let setup = Setup { config: Arc::new(config), ..setup.clone() };
    let (mut reports, noted) = (Vec::new(), noted(&setup));
    for status in status(&setup, catalog).await? {
        let mut all = there(catalog, &status.source, &status.vanished).await?;
        Memory::of(catalog, Some(&status.source)).await?.mark(&mut all);
        let family = Family::of(&all);
        let is_good = |one: &BackupSummary| one.is_good() && family.broken(one).is_none();
        let made = all.iter().filter(|one| one.finished > from && one.finished <= to);
        let (made, kept) = (backups(made, is_good), backups(&all, is_good));
        let good = all.iter().filter(|one| is_good(one)).map(|one| one.backup.clone()).collect();
        let drills = drilled(&setup, &status.source, &good, (from, to)).await;
        let mut ran = Vec::new();
        // Of reports those who read one know.
        for kind in JobKind::ALL.into_iter().filter(|kind| *kind != JobKind::Report) {
            let jobs =
                last_runs(&setup, catalog, (kind, &status.source, LOOKED_AT), &noted).await?;
            ran.extend(runs(kind, &jobs, (from, to)));
        }
        reports.push(Report {
            findings: status.findings(),
            made,
            kept,
            drills: drills.map_err(|error| format!("{error:#}")),
            runs: status.forgotten.is_none().then_some(ran),
            status,
            from,
            to,
        });
    }
    Ok(reports)
}

/// The drills of a source in a time.
async fn drilled(
    setup: &Setup,
    source: &SourceId,
    kept: &BTreeSet<BackupId>,
    time: (Timestamp, Timestamp),
) -> Result<DrillRecord> {
    let repository = setup.repository().await?;
    let found = drills(&repository, source, &mut Vec::new()).await?;
    let found: Vec<Drill> = found.into_iter().map(|(drill, _)| drill).collect();
    let policy = setup.config.sources.get(source).map(|source| &source.policy);
    let of = OfSource {
        schedule: policy.and_then(|policy| policy.drill.schedule.as_ref()),
        drills: &found,
        kept,
        rto: policy.and_then(|policy| policy.objectives.rto),
        recipients: &setup.config.keys.recipients,
    };
    Ok(DrillRecord::of(&of, time, setup.clock.now()))
}

fn backups<'a>(
    all: impl IntoIterator<Item = &'a BackupSummary>,
    is_good: impl Fn(&BackupSummary) -> bool,
) -> Backups {
    all.into_iter().fold(Backups::default(), |mut sum, one| {
        let good = is_good(one);
        sum.good += u64::from(good);
        sum.suspect += u64::from(!good);
        sum.sealed_bytes = sum.sealed_bytes.saturating_add(one.sealed_bytes);
        sum
    })
}

/// How the jobs of a kind that ran in a time, or in a part of it, ended by its end, of the last ones, the newest first;
/// nothing where there were none. One that ended later is told by the next report, and by this one as not ended.
fn runs(kind: JobKind, newest_first: &[Past], (from, to): (Timestamp, Timestamp)) -> Option<Runs> {
    let (mut succeeded, mut failed, mut stopped, mut unfinished) = (0, 0, 0, 0);
    let is_over = |job: &Job| job.state.is_final() && job.changed <= from;
    for Past { job, runs } in newest_first {
        match job.state {
            _ if job.started > to || is_over(job) => {}
            _ if job.state.is_final() && job.changed > to => unfinished += 1,
            JobState::Committed | JobState::Succeeded => succeeded += 1,
            JobState::Failed | JobState::Interrupted => failed += 1,
            JobState::Cancelled => stopped += 1,
            JobState::New | JobState::Running | JobState::Committing => match runs {
                true => unfinished += 1,
                false => failed += 1,
            },
        }
    }
    let known = if kind.makes_a_backup() { LOOKED_AT } else { KEPT };
    // What still runs is kept beside so many that ended.
    let ended = newest_first.iter().map(|past| &past.job).filter(|job| job.state.is_final());
    let oldest = ended.clone().next_back().filter(|_| ended.count() >= known);
    let at_least = oldest.is_some_and(|job| job.started > from);
    (succeeded + failed + stopped + unfinished > 0).then_some(Runs {
        kind,
        succeeded,
        failed,
        stopped,
        unfinished,
        at_least,
    })
}

impl Report {
    /// How the source is doing.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::of(&self.findings)
    }

    /// For people, in lines.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.facts();
        let amiss = self.amiss();
        let told = amiss.iter().take(FINDINGS);
        lines.extend(
            told.map(|one| format!("{}: {}", one.health.as_str(), shown(&one.text, TEXT_TOLD))),
        );
        if amiss.len() > FINDINGS {
            lines.push(format!("and {} more: `drctl status`", amiss.len() - FINDINGS));
        }
        lines
    }

    /// What is amiss, the worst first: its words may name what is in the databases.
    #[must_use]
    pub fn amiss(&self) -> Vec<&Judged> {
        self.findings.iter().filter(|one| one.health != Health::Good).collect()
    }

    /// The same without what is amiss: nothing of it names what is in the databases.
    #[must_use]
    pub fn facts(&self) -> Vec<String> {
        let Report { status, made, kept, .. } = self;
        let (from, to, health) = (self.from, self.to, self.health().as_str());
        let mut lines = vec![
            format!("{}, from {from:.0} to {to:.0}: {health}", status.source),
            format!("backups from this time: {}; in all: {}", made.words(), kept.words()),
        ];
        lines.push(match (&status.newest_good, status.age) {
            (Some(good), Some(age)) => {
                format!("newest good backup: {}, {} old", good.backup, span(age.as_secs_f64()))
            }
            (Some(good), None) => format!("newest good backup: {}", good.backup),
            (None, _) => "newest good backup: none".to_owned(),
        });
        lines.extend(status.log.as_ref().map(|log| match log {
            Ok(log) => format!(
                "WAL: recoverable up to {:.0}, {} ago",
                log.recoverable_until.shows,
                span(log.age.as_secs_f64())
            ),
            Err(why) => format!("WAL: where it stands is not known: {}", shown(why, TEXT_TOLD)),
        }));
        lines.push(match &self.drills {
            Ok(drills) => drills.words(),
            Err(why) => format!("drills: not known: {}", shown(why, TEXT_TOLD)),
        });
        let runs = self.runs.as_ref().map(|runs| runs.iter().map(Runs::words).collect::<Vec<_>>());
        let runs = runs
            .map(|runs| if runs.is_empty() { "none on record".into() } else { runs.join("; ") });
        let unknown = "not known: what this host remembered is lost, or in part";
        lines.push(format!("runs on this host: {}", runs.as_deref().unwrap_or(unknown)));
        lines
    }
}

impl Backups {
    fn words(&self) -> String {
        let suspect = match self.suspect {
            0 => String::new(),
            some => format!(", {} suspect", number(some)),
        };
        format!("{} good{suspect} ({} in the bucket)", number(self.good), bytes(self.sealed_bytes))
    }
}

impl Runs {
    fn words(&self) -> String {
        let ends = [
            (self.succeeded, "succeeded"),
            (self.failed, "FAILED"),
            (self.stopped, "stopped"),
            (self.unfinished, "not ended"),
        ];
        let ends = ends.iter().filter(|(count, _)| *count > 0);
        let ends: Vec<String> =
            ends.map(|(count, end)| format!("{} {end}", number(*count))).collect();
        let at_least = if self.at_least { " at least" } else { "" };
        format!("{}{at_least} {}", self.kind.words(), ends.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use drctl_model::JobId;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn job(started: i64, state: JobState) -> Job {
        Job {
            id: JobId(started),
            kind: JobKind::Backup,
            source: "shop".parse().unwrap(),
            backup: None,
            state,
            started: at(started),
            changed: at(started),
            code: None,
            message: None,
            run: None,
        }
    }

    fn ended(job: Job) -> Past {
        Past { job, runs: false }
    }

    #[test]
    fn runs_are_those_of_the_time_by_how_they_ended() {
        let jobs: Vec<Job> = [
            (61, JobState::Succeeded),
            (60, JobState::Committed),
            (50, JobState::Failed),
            (40, JobState::Interrupted),
            (30, JobState::Cancelled),
            (20, JobState::Running),
            (10, JobState::Committed),
            (5, JobState::Running),
        ]
        .map(|(started, state)| job(started, state))
        .into();
        let past = |died: bool| -> Vec<Past> {
            let past = |job: &Job| Past { job: job.clone(), runs: !job.state.is_final() && !died };
            jobs.iter().map(past).collect()
        };
        let found = |from, to, died| runs(JobKind::Backup, &past(died), (at(from), at(to)));
        let all = found(10, 60, false).unwrap();
        let kind = JobKind::Backup;
        let (succeeded, failed, stopped, unfinished) = (1, 2, 1, 2);
        let expected = Runs { kind, succeeded, failed, stopped, unfinished, at_least: false };
        assert_eq!(all, expected);
        assert_eq!(all.words(), "backup 1 succeeded, 2 FAILED, 1 stopped, 2 not ended");
        assert_eq!(found(10, 60, true).unwrap().failed, 4);
        assert_eq!(found(0, 1, false), None);
        // What began earlier and ended in it, too: the report before told it as not ended.
        let late = [ended(Job { changed: at(20), ..job(8, JobState::Failed) })];
        let of = |from| runs(kind, &late, (at(from), at(60))).map(|runs| runs.failed);
        assert_eq!((of(10), of(20)), (Some(1), None));
    }

    #[test]
    fn each_end_is_told_by_one_report() {
        let ended_at =
            |changed| [ended(Job { changed: at(changed), ..job(50, JobState::Succeeded) })];
        let told = |changed, from, to| {
            let runs = runs(JobKind::Backup, &ended_at(changed), (at(from), at(to)));
            runs.map(|runs| (runs.succeeded, runs.unfinished))
        };
        // It ended while the report was made: the next one begins where this one ended.
        assert_eq!(told(70, 10, 60), Some((0, 1)));
        assert_eq!(told(70, 60, 100), Some((1, 0)));
        assert_eq!(told(60, 10, 60), Some((1, 0)));
        assert_eq!(told(60, 60, 100), None);
    }

    #[test]
    fn more_runs_than_are_looked_at_are_told_as_at_least_so_many() {
        let failed = |n: i64| ended(job(2_000 - n, JobState::Failed));
        let many: Vec<Past> = (0..1_000).map(failed).collect();
        let found = |kind, from, past: &[Past]| runs(kind, past, (at(from), at(3_000))).unwrap();
        let (backup, stream) = (JobKind::Backup, JobKind::LogStream);
        assert!(found(backup, 1_000, &many).at_least && !found(backup, 1_001, &many).at_least);
        assert_eq!(found(backup, 1_000, &many).words(), "backup at least 1 000 FAILED");
        // Of others the catalog keeps fewer that ended.
        let (kept, fewer) = (&many[..KEPT], &many[..KEPT - 1]);
        assert!(found(stream, 1_000, kept).at_least && !found(stream, 1_000, fewer).at_least);
        assert!(!found(backup, 1_000, kept).at_least);
    }
}
