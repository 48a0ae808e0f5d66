//! Who begins next.

use drctl_model::{JobKind, SourceId};
use jiff::Timestamp;

use super::{JobKey, Scheduler};

impl Scheduler {
    /// The job that begins now: what a person wants first, then what waits for longest, so that no
    /// job keeps another one from running for ever. Of those that wait since the same time backups
    /// are first, then prune, then verify, and of these the one that has not run for longest.
    pub(super) fn next_to_begin(&self, now: Timestamp) -> Option<JobKey> {
        if !self.has_place() {
            return None;
        }
        let candidates = self.jobs.iter().filter_map(|(key, job)| {
            let since = job.wants(key, now, &self.breached)?;
            let free = self.running_of(&key.source).is_none();
            let last = job.last.map(|(ended, _)| ended);
            free.then_some((job.by_hand.is_none(), since, rank(key.kind), last, key))
        });
        candidates.min().map(|(.., key)| key.clone())
    }

    /// Whether one more may run.
    pub(super) fn has_place(&self) -> bool {
        self.jobs.values().filter(|job| job.running.is_some()).count() < self.at_once
    }

    /// What runs for a source; streams are apart.
    pub(super) fn running_of(&self, source: &SourceId) -> Option<JobKind> {
        let mut running = self.jobs.iter().filter(|(_, job)| job.running.is_some());
        running.find(|(key, _)| key.source == *source).map(|(key, _)| key.kind)
    }
}

fn rank(kind: JobKind) -> u8 {
    match kind {
        JobKind::Backup => 0,
        JobKind::Prune => 1,
        JobKind::Verify => 2,
        _ => 3,
    }
}
