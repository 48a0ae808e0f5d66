//! Who begins next.

use drctl_model::{JobKind, planted};
use jiff::Timestamp;

use super::{JobKey, Scheduler};

impl Scheduler {
    /// The job that begins now: what a person wants first, then what waits for longest, so that no
    /// job keeps another one from running for ever. Of those that wait since the same time backups
    /// are first, then prune, then verify, then indexes, then reports, and of these the one that has not run for
    /// longest.
    pub(super) fn next_to_begin(&self, now: Timestamp) -> Option<JobKey> {
        let candidates = self.jobs.iter().filter_map(|(key, job)| {
            let since = job.wants(key, now, &self.breached)?;
            let free = self.has_place(key.kind) && self.before(key).is_none();
            let last = job.last.map(|(ended, _)| ended);
            free.then_some((job.by_hand.is_none(), since, rank(key.kind), last, key))
        });
        candidates.min().map(|(.., key)| key.clone())
    }

    /// Whether one more may run. What reads slowly for long, or only tells, is apart: of each such kind one runs,
    /// and takes no place from others.
    pub(super) fn has_place(&self, kind: JobKind) -> bool {
        let running = self.jobs.iter().filter(|(_, job)| job.running.is_some());
        let beside = running.filter(|(key, _)| lane(key.kind) == lane(kind)).count();
        beside < if is_apart(kind) { 1 } else { self.at_once }
    }

    /// What runs for a source and has to end before this job begins; streams are apart.
    pub(super) fn before(&self, job: &JobKey) -> Option<JobKind> {
        let mut running = self.jobs.iter().filter(|(_, job)| job.running.is_some());
        let is_in_the_way =
            |key: &JobKey| key.source == job.source && lane(key.kind) == lane(job.kind);
        let is_in_the_way = |key: &JobKey| is_in_the_way(key) && !planted("two-at-once");
        running.find(|(key, _)| is_in_the_way(key)).map(|(key, _)| key.kind)
    }
}

/// Whether a job keeps no backup waiting, and waits for none: of each such kind one runs at a time.
fn is_apart(kind: JobKind) -> bool {
    lane(kind) != 0
}

/// Jobs of one lane wait for each other.
fn lane(kind: JobKind) -> u8 {
    match kind {
        JobKind::Verify => 1,
        JobKind::Report => 2,
        JobKind::Drill => 3,
        _ => 0,
    }
}

fn rank(kind: JobKind) -> u8 {
    match kind {
        JobKind::Backup => 0,
        JobKind::Prune => 1,
        JobKind::Verify => 2,
        JobKind::LogIndex => 3,
        _ => 4,
    }
}
