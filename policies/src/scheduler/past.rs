//! What the record of runs says of a job when the agent begins.

use drctl_model::planted;
use jiff::Timestamp;

use super::job::{Job, Owed};
use super::retry::pause_after;
use super::slots::{Slots, is_far_ahead, shortly_before_last};
use super::{Action, JobKey, JobSpec, Outcome, PastRun};

/// A job as its runs left it, and what is to be told of it. The runs are given newest first, which
/// is the order of the record, whatever their dates say.
///
/// A run that has no end, and whose process is gone, counts as one that died. One that another process
/// does still leaves its due time open: a backup or a removal waits for that process. One that was
/// stopped leaves it open as well: the record does not tell whether a person or the end of the agent
/// stopped it, and a backup too many is better than one that is missing.
pub(super) fn recall(
    key: &JobKey,
    spec: JobSpec,
    newest_first: &[PastRun],
    (configured, now): (Timestamp, Timestamp),
    told: &mut Vec<Action>,
) -> Job {
    let mut runs: Vec<PastRun> = Vec::new();
    for run in newest_first.iter().rev() {
        // Whoever began this run had a clock that belies what lies far ahead of it.
        runs.retain(|before| !is_far_ahead(before.begun, run.begun));
        runs.push(*run);
    }
    let (aside, runs): (Vec<PastRun>, Vec<PastRun>) =
        runs.into_iter().partition(|run| is_far_ahead(run.begun, now));
    let dates = |runs: &[PastRun]| runs.iter().map(|run| run.begun).collect::<Vec<_>>();
    let (earlier, aside) = (dates(&runs), dates(&aside));
    let mut job = match earlier.iter().max() {
        // It never ran: what has come due since it was there to be run counts.
        None => {
            let since = configured.min(now);
            Job::new(Slots::of_dates(since, vec![since], aside, &spec), spec)
        }
        Some(touched) => {
            let mut slots = Slots::of_dates(served(&runs, &spec), earlier.clone(), aside, &spec);
            let owed = slots.take(*touched, now, &spec).map(|due| owed(&runs, due.last, &spec));
            slots.began(*touched, &spec);
            let mut job = Job::new(slots, spec);
            job.owed = owed.filter(|owed| owed.failed < job.spec.attempts);
            // Nobody was there to tell it when the process of the last attempt died.
            let last = newest_first.iter().find(|run| !run.runs);
            let died =
                last.is_none_or(|last| last.ended.is_none_or(|(_, how)| how == Outcome::Died));
            if let (Some(owed), None, true) = (owed, job.owed, died) {
                told.push(Action::GaveUp { key: key.clone(), attempts: owed.failed });
            }
            job
        }
    };
    job.last = newest_first.iter().find_map(|run| run.ended);
    job.notice(key, now, told);
    job
}

/// Up to when nothing is owed, whatever became of later runs.
fn served(runs: &[PastRun], spec: &JobSpec) -> Timestamp {
    let is_good = |run: &&PastRun| matches!(run.ended, Some((_, Outcome::Succeeded)));
    let good = runs.iter().filter(is_good).filter(|_| !planted("doubled-after-a-restart"));
    let oldest = || {
        // What the oldest run was for counts; when that was due its schedule tells.
        let oldest = runs.iter().map(|run| run.begun).min().unwrap_or(Timestamp::MIN);
        let schedule = spec.schedule();
        let before = schedule.and_then(|at| shortly_before_last(at, oldest, Timestamp::MIN));
        before.unwrap_or(oldest)
    };
    good.map(|run| run.begun).max().unwrap_or_else(oldest)
}

/// What is owed of a due time that had runs, none of which came to its end.
fn owed(runs: &[PastRun], slot: Timestamp, spec: &JobSpec) -> Owed {
    let failures: Vec<Timestamp> = runs
        .iter()
        .filter(|run| run.begun >= slot)
        .filter_map(|run| match run.ended {
            Some((at, Outcome::Failed | Outcome::Died)) => Some(at),
            Some(_) => None,
            None => (!run.runs).then_some(run.begun),
        })
        .collect();
    let failed = u32::try_from(failures.len()).unwrap_or(u32::MAX);
    let retry_at = failures.iter().max().and_then(|at| at.checked_add(pause_after(failed)).ok());
    Owed { slot, since: spec.begins(slot), late: true, failed, retry_at }
}
