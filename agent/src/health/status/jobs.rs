//! What is told of a source's jobs: backups that count, and others that are worth knowing.

use drctl_model::{FindingCode, Job, JobKind, JobState, shown};

use super::findings::Judged;
use super::{Health, SourceStatus};
use crate::jobs::LastJob;

/// How much of an error is told.
const WHY: usize = 700;

impl SourceStatus {
    /// When the last attempt was begun, where it failed, and why.
    pub(super) fn last_failure(&self) -> Option<String> {
        let job = self.last_job.as_ref().filter(|job| job.state == JobState::Failed)?;
        Some(format!("the one of {:.0}, which failed ({})", job.started, shown(why(job), WHY)))
    }

    /// That a run of its schedule was due and has not begun.
    pub(super) fn of_schedule(&self) -> Option<Judged> {
        let due = self.overdue?;
        let text = format!(
            "a run was due at {due:.0} and has not begun{}: check that the agent runs \
             (`systemctl status drctl`), or the timer that you use, or run `drctl backup {}`",
            self.last_failure().map(|failed| format!(" since {failed}")).unwrap_or_default(),
            self.source
        );
        Some(Judged::attention(FindingCode::Overdue, "", text).since(due))
    }

    /// Whether a backup of it runs: how it ends is not known yet.
    pub(super) fn is_backed_up_now(&self) -> bool {
        let unfinished = self.last_job.as_ref().is_some_and(|job| !job.state.is_final());
        unfinished && self.running == Some(true)
    }

    /// How the last attempt to back it up went.
    pub(super) fn of_jobs(&self) -> Option<Judged> {
        let job = self.last_job.as_ref().filter(|job| job.state != JobState::Committed)?;
        let (again, since) = (format!("run `drctl backup {}`", self.source), job.started);
        let (code, text) = match job.state {
            JobState::Failed => {
                let why = why(job);
                let text = format!("the last backup failed: {why}; when that is mended {again}");
                (FindingCode::JobFailed, text)
            }
            JobState::Cancelled => {
                (FindingCode::JobStopped, format!("the last backup was stopped: {again}"))
            }
            JobState::Interrupted => {
                (FindingCode::JobDied, format!("the process of the last backup died: {again}"))
            }
            _ if self.running == Some(false) => {
                // The bucket was asked where it can be.
                let left = match &self.unreadable {
                    None => "has died and left no backup",
                    Some(_) => {
                        "has died; whether it left a backup is not known, as the bucket cannot be read"
                    }
                };
                let text = format!("the backup that was begun at {since:.0} {left}: {again}");
                (FindingCode::JobDied, text)
            }
            _ if self.running.is_none() => {
                let text = format!(
                    "a backup that began at {since:.0} runs, or has died: check whether drctl \
                     runs, or {again}"
                );
                (FindingCode::JobUnclear, text)
            }
            _ => {
                let text = format!("a backup has been running since {since:.0}");
                let runs = Judged::new(Health::Good, FindingCode::JobRuns, "", text);
                return Some(runs.since(since));
            }
        };
        Some(Judged::attention(code, "", text).since(since))
    }

    /// Looks, drills and streams of log that did not end well. None speaks against a backup, so that
    /// they are told and the source is as good as before; but for a drill whose evidence does.
    pub(super) fn of_other_jobs(&self) -> impl Iterator<Item = Judged> {
        let of_jobs: Vec<Judged> = self.of_each_job().collect();
        let is_told = of_jobs.iter().any(|one| one.code == FindingCode::DrillFailed);
        of_jobs.into_iter().chain(self.of_evidence().filter(|_| !is_told))
    }

    /// A drill that failed, on whatever host, by its evidence.
    fn of_evidence(&self) -> Option<Judged> {
        let failed = self.drill.failed.as_ref()?;
        let source = &self.source;
        let text = format!(
            "the drill {failed}, which is the newest one, did not prove the data; until one does nobody knows that \
             they can be restored: `drctl drill show {source} --identity FILE` tells why"
        );
        Some(Judged::attention(FindingCode::DrillFailed, "", text))
    }

    fn of_each_job(&self) -> impl Iterator<Item = Judged> {
        self.jobs.iter().filter_map(|last| match last.job.kind {
            JobKind::Verify => self.of_look(last.ended.as_ref()?),
            JobKind::Drill => self.of_drill(last.ended.as_ref()?),
            JobKind::LogStream => self.of_stream(last),
            // One that fails costs time only, and the agent tells of it.
            JobKind::Backup
            | JobKind::Restore
            | JobKind::Prune
            | JobKind::Replicate
            | JobKind::LogIndex
            | JobKind::Report => None,
        })
    }

    fn of_look(&self, job: &Job) -> Option<Judged> {
        let text = format!("{}; look again with `drctl verify {}`", bad(job)?, self.source);
        Some(told(FindingCode::VerifyFailed, job, text))
    }

    fn of_drill(&self, job: &Job) -> Option<Judged> {
        let text = format!(
            "{}; that it can be recovered is not proven until a drill ends well: when that is \
             mended repeat it with `drctl drill run {}`",
            bad(job)?,
            self.source
        );
        let told = told(FindingCode::DrillFailed, job, text);
        let speaks = self.drill.failed.is_some();
        Some(if speaks { Judged { health: Health::Attention, ..told } } else { told })
    }

    /// That no log is streamed any more, unless log has come by another way since.
    fn of_stream(&self, last: &LastJob) -> Option<Judged> {
        let LastJob { job, running, .. } = last;
        let log = self.log.as_ref().and_then(|log| log.as_ref().ok());
        // When a process died nobody knows until that is found: what it sent itself is no other way.
        let since = job.state.is_final().then_some(job.changed);
        let came = log.zip(since).is_some_and(|(log, ended)| log.recoverable_until.shows > ended);
        if *running == Some(true) || came {
            return None;
        }
        let ended = match job.state {
            JobState::Succeeded | JobState::Cancelled => {
                format!("`wal stream` was stopped at {:.0}", job.changed)
            }
            _ => bad(job)?,
        };
        let text = format!(
            "{ended}; no WAL has come since: begin it again with `drctl wal stream {}`, unless the \
             server archives by `wal push`",
            self.source
        );
        Some(told(FindingCode::LogStreamEnded, job, text))
    }
}

/// Why a job failed.
fn why(job: &Job) -> &str {
    job.message.as_deref().unwrap_or("for an unknown reason")
}

/// How a job ended badly; nothing of one that ended well, or that somebody stopped.
fn bad(job: &Job) -> Option<String> {
    let (what, begun) = (job.kind.words(), job.started);
    match job.state {
        JobState::Succeeded | JobState::Committed | JobState::Cancelled => None,
        JobState::Failed => {
            let why = shown(why(job), WHY);
            Some(format!("the last {what}, begun at {begun:.0}, failed: {why}"))
        }
        _ => Some(format!("the process of the last {what}, begun at {begun:.0}, died")),
    }
}

fn told(code: FindingCode, job: &Job, text: String) -> Judged {
    Judged::new(Health::Good, code, "", text).since(job.changed)
}

#[cfg(test)]
mod tests {
    use drctl_model::{Lsn, RunId, Timeline};
    use drctl_policies::recovery::RecoverableUntil;
    use jiff::{SignedDuration, Timestamp};

    use super::super::LogStatus;
    use super::super::judge::tests::{increment, status};
    use super::*;

    fn job(kind: JobKind, state: JobState) -> Job {
        let at = Timestamp::UNIX_EPOCH;
        Job {
            id: drctl_model::JobId(1),
            kind,
            source: "shop".parse().unwrap(),
            backup: None,
            state,
            started: at,
            changed: at,
            code: Some("store_failed".to_owned()),
            message: Some("the bucket is away".to_owned()),
            run: Some(RunId(1)),
        }
    }

    fn found(kind: JobKind, state: JobState, running: Option<bool>) -> Vec<Judged> {
        let job = job(kind, state);
        let ended = (running != Some(true)).then(|| job.clone());
        let jobs = vec![LastJob { job, running, ended }];
        let status = SourceStatus { jobs, ..status(increment()) };
        assert_eq!(status.checked().found, [], "nothing of it is kept");
        status.findings()
    }

    #[test]
    fn log_that_comes_by_another_way_is_no_end_of_all_log() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let told = |state, shows| {
            let job = Job { changed: at(5), ..job(JobKind::LogStream, state) };
            let running = (!job.state.is_final()).then_some(false);
            let jobs = vec![LastJob { ended: Some(job.clone()), job, running }];
            let recoverable_until = RecoverableUntil {
                timeline: Timeline::FIRST,
                end: Lsn(9),
                shows: at(shows),
                gaps: vec![],
                doubts: vec![],
            };
            let log = Some(Ok(LogStatus { recoverable_until, age: SignedDuration::ZERO }));
            SourceStatus { jobs, log, ..status(increment()) }.findings().len()
        };
        for state in [JobState::Failed, JobState::Cancelled, JobState::Interrupted] {
            assert_eq!((told(state, 4), told(state, 6)), (1, 0), "{state:?}");
        }
        assert_eq!(told(JobState::Running, 6), 1, "it sent that before it died");
    }

    #[test]
    fn jobs_that_are_no_backups_are_told_and_count_for_nothing() {
        use JobKind::{Drill, LogStream, Restore, Verify};
        use JobState::{Cancelled, Failed, Interrupted, Running, Succeeded};
        let cases = [
            (Verify, Failed, None, Some(("verify_failed", "the bucket is away"))),
            (Verify, Running, Some(false), Some(("verify_failed", "died"))),
            (Verify, Interrupted, None, Some(("verify_failed", "died"))),
            (Verify, Running, Some(true), None),
            (Verify, Cancelled, None, None),
            (Verify, Succeeded, None, None),
            (Drill, Failed, None, Some(("drill_failed", "is not proven"))),
            (Drill, Cancelled, None, None),
            (LogStream, Failed, None, Some(("log_stream_ended", "the bucket is away"))),
            (LogStream, Running, Some(false), Some(("log_stream_ended", "log stream, begun"))),
            (LogStream, Running, Some(true), None),
            (LogStream, Succeeded, None, Some(("log_stream_ended", "was stopped at"))),
            (Restore, Failed, None, None),
            (Restore, Running, Some(false), None),
        ];
        for (kind, state, running, told) in cases {
            let found = found(kind, state, running);
            assert_eq!(found.len(), usize::from(told.is_some()), "{kind:?} {state:?}: {found:?}");
            for (one, (code, words)) in found.iter().zip(told) {
                assert_eq!((one.code.as_str(), one.health), (code, Health::Good));
                assert!(one.text.contains(words), "{one:?}");
            }
        }
    }
}
