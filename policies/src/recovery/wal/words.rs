use drctl_model::{BackupId, Digest, LogEntry, Lsn, Timeline};
use jiff::Timestamp;
use serde::Serialize;

use super::Wal;
use crate::recovery::common::{self, Stood};

/// A physical backup from which the WAL can be replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Which one.
    pub backup: BackupId,
    /// The timeline on which it was taken.
    pub timeline: Timeline,
    /// Where redo starts: the WAL is needed from here on.
    pub start: Lsn,
    /// Where it ended: consistent from here on, and no earlier.
    pub stop: Lsn,
    /// When that was.
    pub stood: Stood,
    /// Whole segments of the WAL that it brings along: the first byte, behind the last, and the
    /// digest. The WAL around it must have the same.
    pub segments: Vec<(Lsn, Lsn, Digest)>,
    /// Whether it counts; a suspect one is used only when nothing else is there, and said so.
    pub good: bool,
}

impl Base {
    /// As the common part knows it.
    pub(super) fn common(&self) -> common::Base<Wal> {
        common::Base {
            backup: self.backup.clone(),
            lineage: self.timeline,
            start: self.start,
            stop: self.stop,
            stood: self.stood,
            good: self.good,
        }
    }
}

/// A range of log in the bucket. May overlap others, be there twice, and come in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The timeline in whose WAL it lies.
    pub timeline: Timeline,
    /// Its first byte.
    pub start: Lsn,
    /// Behind its last byte.
    pub end: Lsn,
    /// The least and the greatest time of the commits and aborts in it, to the microsecond as
    /// PostgreSQL writes them; nothing where it has none.
    pub commits: Option<(Timestamp, Timestamp)>,
    /// The least and the greatest transaction that commits or aborts in it, on the ring of
    /// 2^32: the greatest may be the smaller number.
    pub xids: Option<(u32, u32)>,
}

impl Piece {
    pub(super) fn entry(&self) -> LogEntry {
        LogEntry::new((self.start, self.end), self.commits, self.xids)
    }
}

/// A named restore point (`pg_create_restore_point`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePoint {
    /// The timeline in whose WAL it lies.
    pub timeline: Timeline,
    /// Its name; servers don't keep it unique.
    pub name: String,
    /// Behind its record, as `pg_create_restore_point` tells it.
    pub lsn: Lsn,
    /// When it was made.
    pub at: Timestamp,
}

/// What a recovery is to reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// All that was committed at this time or before (to the microsecond, rounded down).
    Time(Timestamp),
    /// All records that begin before a position.
    Lsn {
        /// The position.
        lsn: Lsn,
        /// Whether the first record that begins there or later is to be in the result too.
        inclusive: bool,
    },
    /// The end of a transaction.
    Xid {
        /// Its number.
        xid: u32,
        /// Whether it is itself to be in the result.
        inclusive: bool,
    },
    /// A restore point.
    Name(String),
    /// All that there is.
    Latest,
}

/// A position in the WAL, and the time that it stands for where it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The position.
    pub lsn: Lsn,
    /// The time.
    pub at: Option<Timestamp>,
}

/// WAL that should be there and is not, or that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Whose WAL is missing first.
    pub timeline: Timeline,
    /// The first byte that is missing.
    pub from: Lsn,
    /// Where WAL is there again; nothing where all from there on is missing.
    pub until: Option<Lsn>,
    /// What is the matter with it.
    pub why: Why,
}

/// A place in the WAL of which nobody knows whether what lies behind it follows what lies before it: a
/// stream began there, and could not compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Unproven {
    /// Whose WAL it is.
    pub timeline: Timeline,
    /// The first byte behind the place.
    pub lsn: Lsn,
    /// The last commit before it, where one is known.
    pub at: Option<Timestamp>,
}

impl Gap {
    /// What is said of objects that are not believed.
    pub(super) fn refused(&self) -> String {
        let Gap { timeline, from, .. } = self;
        format!(
            "what lies under the names of WAL of timeline {timeline} from {from} on is altered, or no \
             trusted key has signed it: it may be WAL that belongs there. Put back what was altered, \
             and remove what somebody else wrote"
        )
    }
}

/// Why nothing leads across a place in the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// WAL is missing.
    Missing,
    /// The server wrote too little from there on: `wal_level = minimal`.
    Minimal,
    /// What is there follows another history than what lies before it.
    OtherHistory,
    /// What is there is not the WAL that was written: somebody has read it.
    Damaged,
    /// What is there is in a format that only a newer drctl reads.
    Newer,
    /// What lies under its names is not believed: it may be WAL, or an object of somebody else.
    Refused,
}
