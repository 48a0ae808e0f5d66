use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use drctl_model::{Lsn, ServerSettings, xid_precedes};
use jiff::Timestamp;

use super::record::{Finished, Meaning};

/// Restore points of a summary that are kept; a cluster has a few.
pub(super) const MAX_RESTORE_POINTS: usize = 1000;

/// The same of what it asks for.
const MAX_REQUIREMENTS: usize = 1000;

/// What a stretch of WAL holds. A record belongs to the stretch in which it ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WalSummary {
    /// The cluster (`xlp_sysid`), once a segment began.
    pub system_id: Option<u64>,
    /// The server's major version, once a page began.
    pub major: Option<u32>,
    /// Where the first record begins.
    pub first_record: Option<Lsn>,
    /// The record before the first one (`xl_prev`), as the first one says.
    pub first_follows: Option<Lsn>,
    /// Where the last record begins.
    pub last_record: Option<Lsn>,
    /// Where the last record ends and the next one begins. If a page begins there, that page's
    /// header comes first. After a switch, the start of the next segment.
    pub next_record: Option<Lsn>,
    /// Records.
    pub records: u64,
    /// Transactions that were committed, prepared ones included.
    pub commits: u64,
    /// The earliest time of a commit or abort. They are not in order.
    pub first_commit: Option<Timestamp>,
    /// The latest time of a commit or abort.
    pub last_commit: Option<Timestamp>,
    /// The earliest transaction that was committed or rolled back, by its identifier.
    pub min_xid: Option<u32>,
    /// The latest transaction that was. Identifiers begin anew after 2³² - 1, so this
    /// may be the smaller number (`TransactionIdPrecedes` in `transam.c`).
    pub max_xid: Option<u32>,
    /// Restore points, the first thousand.
    pub restore_points: Vec<RestorePoint>,
    /// What the WAL asks of a server that replays it, in order; the first thousand.
    pub requirements: Vec<Requirement>,
    /// Whether it asks for more than the thousand.
    pub more_requirements: bool,
    /// The last checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// Whether a segment was ended early (`XLOG_SWITCH`).
    pub switched: bool,
    /// Where nothing is written any more: the records end there, and zeros follow.
    pub ended: Option<Lsn>,
}

/// A name that somebody gave to a position (`pg_create_restore_point`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePoint {
    /// The name, shown with replacement characters if not UTF-8.
    pub name: String,
    /// Where its record begins; `pg_create_restore_point` answers where it ends.
    pub lsn: Lsn,
    /// When it was made.
    pub time: Timestamp,
}

/// A record that asks something of the server that replays it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Where the record begins.
    pub at: Lsn,
    /// Where the one before it ends: who replays up to here is not asked yet.
    pub behind: Lsn,
    /// For what.
    pub what: Required,
}

/// What a record asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Required {
    /// The source's server was started with these settings: a hot standby needs as much, and
    /// nobody replays the WAL of `wal_level = minimal`.
    Settings(ServerSettings),
    /// A tablespace is made, its directory there; an empty path is one within the data directory.
    Tablespace {
        /// Its number, by which `pg_tblspc` names it.
        oid: u32,
        /// `LOCATION`, on the source.
        path: PathBuf,
    },
    /// A tablespace is dropped.
    TablespaceDrop {
        /// Its number.
        oid: u32,
    },
}

impl Requirement {
    /// The place, outside of the data directory, at which a tablespace is made.
    #[must_use]
    pub fn place(&self) -> Option<&Path> {
        match &self.what {
            Required::Tablespace { path, .. } if !path.as_os_str().is_empty() => Some(path),
            _ => None,
        }
    }
}

/// What a checkpoint tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Where its record begins.
    pub at: Lsn,
    /// When it was begun, in whole seconds of the server's clock.
    pub time: Timestamp,
    /// The number of the next transaction, on a line and no ring.
    pub next_xid: u64,
}

impl WalSummary {
    pub(super) fn add(&mut self, record: Finished) {
        let behind = self.next_record.filter(|next| *next <= record.at).unwrap_or(record.at);
        self.records += 1;
        if self.first_record.is_none() {
            self.first_record = Some(record.at);
            self.first_follows = Some(record.follows);
        }
        self.last_record = Some(record.at);
        self.next_record = Some(record.next);
        match record.meaning {
            Meaning::Other | Meaning::Overwrite { .. } => {}
            Meaning::Switch => self.switched = true,
            Meaning::Abort { time, xid } => {
                self.add_time(time);
                self.add_xid(xid);
            }
            Meaning::Checkpoint { time, next_xid } => {
                self.checkpoint = Some(Checkpoint { at: record.at, time, next_xid });
            }
            Meaning::Settings(settings) => {
                self.require(record.at, behind, Required::Settings(settings))
            }
            Meaning::Tablespace { oid, path: Some(path) } => {
                let path = PathBuf::from(OsString::from_vec(path));
                self.require(record.at, behind, Required::Tablespace { oid, path });
            }
            Meaning::Tablespace { oid, path: None } => {
                self.require(record.at, behind, Required::TablespaceDrop { oid });
            }
            Meaning::Commit { time, xid } => {
                self.commits += 1;
                self.add_time(time);
                self.add_xid(xid);
            }
            Meaning::RestorePoint { name, time } => {
                if self.restore_points.len() < MAX_RESTORE_POINTS {
                    self.restore_points.push(RestorePoint { name, lsn: record.at, time });
                }
            }
        }
    }

    fn require(&mut self, at: Lsn, behind: Lsn, what: Required) {
        match self.requirements.len() < MAX_REQUIREMENTS {
            true => self.requirements.push(Requirement { at, behind, what }),
            false => self.more_requirements = true,
        }
    }

    fn add_time(&mut self, time: Timestamp) {
        self.first_commit = Some(self.first_commit.map_or(time, |first| first.min(time)));
        self.last_commit = Some(self.last_commit.map_or(time, |last| last.max(time)));
    }

    /// A transaction that wrote nothing can be logged without an identifier (0).
    fn add_xid(&mut self, xid: u32) {
        if xid == 0 {
            return;
        }
        self.min_xid = Some(self.min_xid.filter(|min| !xid_precedes(xid, *min)).unwrap_or(xid));
        self.max_xid = Some(self.max_xid.filter(|max| !xid_precedes(*max, xid)).unwrap_or(xid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_begin_anew() {
        let mut summary = WalSummary::default();
        for xid in [u32::MAX - 1, 0, 5, u32::MAX - 7, 3] {
            summary.add_xid(xid);
        }
        assert_eq!((summary.min_xid, summary.max_xid), (Some(u32::MAX - 7), Some(5)));
    }
}
