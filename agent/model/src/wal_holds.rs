use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::holds::either;
use crate::{Holds, Lsn, ServerSettings, Timeline, WalSegmentSize};

/// What only PostgreSQL's log tells of a piece.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WalHolds {
    /// The cluster's segment size.
    pub segment_size: Option<WalSegmentSize>,
    /// The least and greatest transaction that was committed or rolled back, on the ring of 2³².
    pub xids: Option<(u32, u32)>,
    /// Of a history file: the ancestors, oldest first, and where each was left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<(Timeline, Lsn)>,
    /// Restore points: name, end of the record, time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restore_points: Vec<(String, Lsn, Timestamp)>,
    /// Settings with which the server was started, where they changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<ChangedSettings>,
    /// Tablespaces that are made: their numbers, and where their records begin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tablespaces: Vec<(u32, Lsn)>,
}

/// Settings with which a server was started, as its log tells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedSettings {
    /// Where the record begins.
    pub at: Lsn,
    /// Where the record before it ends.
    pub behind: Lsn,
    /// What they are from there on.
    #[serde(flatten)]
    pub settings: ServerSettings,
}

impl WalHolds {
    /// What both hold, where `next` is told of the bytes right behind these.
    pub(crate) fn followed_by(mut self, next: &WalHolds) -> WalHolds {
        self.segment_size = self.segment_size.or(next.segment_size);
        self.xids = either(self.xids, next.xids, |one, other| {
            let least = if xid_precedes(other.0, one.0) { other.0 } else { one.0 };
            let greatest = if xid_precedes(one.1, other.1) { other.1 } else { one.1 };
            (least, greatest)
        });
        self.ancestors.extend(next.ancestors.iter().copied());
        self.restore_points.extend(next.restore_points.iter().cloned());
        self.settings.extend(next.settings.iter().copied());
        self.tablespaces.extend(next.tablespaces.iter().copied());
        self
    }
}

/// What PostgreSQL's log tells of a piece; nothing of another engine's.
impl Holds {
    /// The cluster's segment size.
    #[must_use]
    pub fn segment_size(&self) -> Option<WalSegmentSize> {
        self.wal.as_ref()?.segment_size
    }

    /// The least and greatest transaction.
    #[must_use]
    pub fn xids(&self) -> Option<(u32, u32)> {
        self.wal.as_ref()?.xids
    }

    /// Of a history file: the ancestors.
    #[must_use]
    pub fn ancestors(&self) -> &[(Timeline, Lsn)] {
        self.wal.as_ref().map(|wal| &*wal.ancestors).unwrap_or_default()
    }

    /// Restore points.
    #[must_use]
    pub fn restore_points(&self) -> &[(String, Lsn, Timestamp)] {
        self.wal.as_ref().map(|wal| &*wal.restore_points).unwrap_or_default()
    }

    /// Settings that changed.
    #[must_use]
    pub fn settings(&self) -> &[ChangedSettings] {
        self.wal.as_ref().map(|wal| &*wal.settings).unwrap_or_default()
    }

    /// Tablespaces that are made.
    #[must_use]
    pub fn tablespaces(&self) -> &[(u32, Lsn)] {
        self.wal.as_ref().map(|wal| &*wal.tablespaces).unwrap_or_default()
    }
}

/// Whether a transaction is earlier than another one: their numbers begin anew after 2³² - 1
/// (`TransactionIdPrecedes` in `transam.c`).
#[must_use]
pub fn xid_precedes(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}
