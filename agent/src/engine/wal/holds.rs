//! What a walk over log found, as it is signed.

use drctl_engines::pg::wal::{Required, Requirement, WalSummary, may_be_of_tablespace};
use drctl_model::{ChangedSettings, Holds, LogAt, Lsn, TimelineHistory, WalHolds, WalSegmentSize};

/// The length of a restore point's record (`xl_restore_point` behind its headers, aligned).
const RESTORE_POINT_BYTES: u64 = 104;

/// What a history file tells, as it is signed.
#[must_use]
pub(crate) fn of_history(history: &TimelineHistory) -> Holds {
    let ancestors = history.ancestors.iter().map(|a| (a.timeline, a.until)).collect();
    let wal = WalHolds { ancestors, ..WalHolds::default() };
    Holds { wal: Some(wal), ..Holds::default() }
}

/// What a walk over a piece found, as it is signed.
#[must_use]
pub(crate) fn holds(summary: &WalSummary, size: WalSegmentSize) -> Holds {
    let at = |(one, other): (Lsn, Lsn)| (LogAt::from(one), LogAt::from(other));
    let wal = WalHolds {
        segment_size: Some(size),
        xids: summary.min_xid.zip(summary.max_xid),
        ancestors: Vec::new(),
        restore_points: summary
            .restore_points
            .iter()
            .map(|point| (point.name.clone(), point.lsn.plus(RESTORE_POINT_BYTES), point.time))
            .collect(),
        settings: summary.requirements.iter().filter_map(changed).collect(),
        tablespaces: summary.requirements.iter().filter_map(tablespace).collect(),
    };
    Holds {
        records: summary.records,
        first_record: summary.first_record.zip(summary.first_follows).map(at),
        last_record: summary.last_record.zip(summary.next_record).map(at),
        commits: summary.first_commit.zip(summary.last_commit),
        wal: Some(wal),
        ..Holds::default()
    }
}

/// Whether no tablespace is made by what ends in the segment that begins at `start`, nor by what begins
/// in it: what was found in the whole of it tells the one, its own byte tells the other.
#[must_use]
pub(crate) fn makes_no_tablespace(
    holds: &Holds,
    start: Lsn,
    size: WalSegmentSize,
    byte: impl FnOnce(u64) -> Option<u8>,
) -> bool {
    let last = holds.last_record.filter(|_| holds.tablespaces().is_empty());
    last.is_some_and(|(_, next)| !may_be_of_tablespace(size, Lsn::from(next).since(start), byte))
}

fn changed(requirement: &Requirement) -> Option<ChangedSettings> {
    let Required::Settings(settings) = requirement.what else { return None };
    Some(ChangedSettings { at: requirement.at, behind: requirement.behind, settings })
}

/// Its number alone: where it lies is for those who can read the log.
fn tablespace(requirement: &Requirement) -> Option<(u32, Lsn)> {
    match requirement.what {
        Required::Tablespace { oid, .. } => Some((oid, requirement.at)),
        Required::Settings(_) | Required::TablespaceDrop { .. } => None,
    }
}
