//! The base backups of a source, of whatever clusters; and of which clusters its dumps are.

use std::collections::BTreeMap;

use drctl_model::{BackupKind, BackupSummary, Coordinates, Digest, Lsn, SourceId, WalSegmentSize};
use drctl_policies::recovery::{Base, Stood};
use jiff::{SignedDuration, Timestamp};

use crate::repository::Memory;
use crate::repository::chain::Family;

/// A source's base backups.
#[derive(Default, Clone)]
pub(crate) struct Copies(pub(super) Vec<Copy>);

/// A base backup.
#[derive(Clone)]
pub(super) struct Copy {
    pub(super) at: Coordinates,
    pub(super) base: Base,
    /// Whether the log that makes it consistent lies with it, and not in the archive alone.
    pub(super) brings_log: bool,
    /// Whether a look found it bad.
    pub(super) bad: bool,
}

impl Copies {
    /// Those among a source's backups whose chains hold; of the others it says why they do not.
    pub(crate) fn of(backups: &[BackupSummary], refused: &mut Vec<String>) -> Self {
        let (family, mut copies) = (Family::of(backups), Copies::default());
        for backup in backups {
            match family.broken(backup) {
                None => copies.0.extend(copy(backup)),
                Some(why) => refused.push(format!("{}: its chain is broken: {why}", backup.backup)),
            }
        }
        copies
    }

    /// The same, where this host remembers what was found of them: nothing begins with a bad one.
    pub(crate) fn marked(mut self, source: &SourceId, memory: &Memory) -> Self {
        for copy in &mut self.0 {
            copy.bad = memory.bad(source, &copy.base.backup).is_some();
        }
        self
    }

    /// The clusters that they are of.
    pub(super) fn clusters(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|copy| copy.at.system_id)
    }

    /// The size of their segments, and the first position that one of them needs.
    pub(super) fn reach(&self) -> Option<(WalSegmentSize, Lsn)> {
        let oldest = self.0.iter().map(|copy| copy.at.start).min()?;
        Some((self.0.last()?.at.segment_size, oldest))
    }

    /// Those of one cluster.
    pub(super) fn of_cluster(&self, system_id: u64) -> Self {
        Copies(self.0.iter().filter(|copy| copy.at.system_id == system_id).cloned().collect())
    }
}

fn copy(backup: &BackupSummary) -> Option<Copy> {
    let at = backup.kind.coordinates()?.clone();
    let external = matches!(backup.kind, BackupKind::External(_));
    let base = Base {
        backup: backup.backup.clone(),
        timeline: at.stop_timeline,
        start: at.start,
        stop: at.stop,
        stood: match &at.log {
            Some(log) => Stood::Log { last_commit: log.last_commit, checkpoint: log.checkpoint },
            // pgBackRest asks the server, and tells whole seconds.
            None if external => {
                Stood::Server(backup.finished.saturating_add(SignedDuration::from_secs(1)).ok()?)
            }
            None => Stood::Host(backup.finished),
        },
        segments: segments(&at),
        good: backup.is_good(),
    };
    Some(Copy { at, base, brings_log: !external, bad: false })
}

/// The whole segments of the log that a base backup brings along.
fn segments(at: &Coordinates) -> Vec<(Lsn, Lsn, Digest)> {
    let told = at.log.iter().flat_map(|log| &log.segments);
    told.map(|(start, digest)| (*start, start.plus(at.segment_size.bytes()), *digest)).collect()
}

/// The clusters that dumps are of, and when the first of each began; without an identifier those that do not
/// tell.
pub(super) fn dumped(backups: &[BackupSummary]) -> BTreeMap<Option<u64>, Timestamp> {
    let mut first = BTreeMap::new();
    for backup in backups {
        if let BackupKind::Logical(dumped) = &backup.kind {
            let at = first.entry(dumped.system_id).or_insert(backup.started);
            *at = backup.started.min(*at);
        }
    }
    first
}
