//! What a backup is made of, where in a cluster's log it stands, and what it is based on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{BackupId, Digest, External, Lineage, LogPosition, Lsn, Timeline, WalSegmentSize};

/// What a backup is made of, and what it is based on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum BackupKind {
    /// Statements and rows, no pages: stands alone, knows no log position.
    Logical(Dumped),
    /// All files of a cluster: stands alone, and any log from its end on can be replayed on it.
    Full(Coordinates),
    /// Of all files of a cluster what has changed since another base backup: worth nothing without
    /// it.
    Incremental(Increment),
    /// A base backup that another tool keeps in a repository of its own.
    External(Box<External>),
    /// All of a source at one moment, by the means of its own engine: stands alone, and any log from
    /// its end on can be replayed on it.
    Snapshot(Snapshot),
}

impl BackupKind {
    /// The word for it, as in manifests.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            BackupKind::Logical(_) => "logical",
            BackupKind::Full(_) => "full",
            BackupKind::Incremental(_) => "incremental",
            BackupKind::External(_) => "external",
            BackupKind::Snapshot(_) => "snapshot",
        }
    }

    /// Where in its cluster's log it stands, for a base backup of the files.
    #[must_use]
    pub fn coordinates(&self) -> Option<&Coordinates> {
        match self {
            BackupKind::Logical(_) | BackupKind::Snapshot(_) => None,
            BackupKind::Full(at) => Some(at),
            BackupKind::Incremental(increment) => Some(&increment.at),
            BackupKind::External(external) => Some(&external.at),
        }
    }

    /// The system identifier of the cluster that it is of, as far as it tells.
    #[must_use]
    pub fn system_id(&self) -> Option<u64> {
        match self {
            BackupKind::Logical(dumped) => dumped.system_id,
            _ => self.coordinates().map(|at| at.system_id),
        }
    }

    /// The base backup that it is based on, for an incremental one.
    #[must_use]
    pub fn parent(&self) -> Option<&Parent> {
        match self {
            BackupKind::Incremental(increment) => Some(&increment.parent),
            _ => None,
        }
    }

    /// What another tool keeps, for a backup that is in its repository.
    #[must_use]
    pub fn external(&self) -> Option<&External> {
        match self {
            BackupKind::External(external) => Some(external),
            _ => None,
        }
    }
}

/// Dumps of databases.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dumped {
    /// Of which cluster. Dumps of earlier versions do not tell, nor those of a role that may not ask.
    #[serde(default, with = "decimal_or_none", skip_serializing_if = "Option::is_none")]
    pub system_id: Option<u64>,
    /// The rows of all its tables. Dumps of earlier versions do not tell.
    #[serde(default, with = "decimal_or_none", skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// Where in the log of its source a backup of one moment stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The log in which its positions count.
    pub lineage: Lineage,
    /// From where log is replayed on it.
    #[serde(with = "decimal")]
    pub start: u64,
    /// The log up to here must be replayed before it is consistent; `start`, where it is at once.
    #[serde(with = "decimal")]
    pub stop: u64,
}

/// An incremental backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Increment {
    /// What it is based on.
    pub parent: Parent,
    /// Where in the log it stands itself.
    #[serde(flatten)]
    pub at: Coordinates,
}

/// The base backup that an incremental one is based on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its identifier.
    pub backup: BackupId,
    /// The digest of its manifest object: this very backup, and no other under the same name.
    pub manifest_sha256: Digest,
}

/// Where in a cluster's WAL a base backup of its files stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinates {
    /// Of which cluster.
    #[serde(with = "decimal")]
    pub system_id: u64,
    /// The size of its WAL segments.
    pub segment_size: WalSegmentSize,
    /// The timeline on which replay begins.
    pub timeline: Timeline,
    /// From where the WAL is replayed.
    pub start: Lsn,
    /// The WAL up to here must be replayed before the base backup is consistent.
    pub stop: Lsn,
    /// The timeline of that position.
    pub stop_timeline: Timeline,
    /// The digest of the server's list of its files (`backup_manifest`): what an incremental backup
    /// is made from later. Base backups of earlier versions do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listing_sha256: Option<Digest>,
    /// What the WAL tells that it brings along. Base backups of earlier versions and of other tools
    /// do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<CopiedLog>,
}

/// What the WAL tells that a base backup brings along, from its start to its stop: by the clock of
/// the server that wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedLog {
    /// When the checkpoint was begun that the base backup begins with, in whole seconds.
    pub checkpoint: Timestamp,
    /// The latest time of a commit or abort in it.
    pub last_commit: Option<Timestamp>,
    /// Its whole segments, the last few of them: where each begins, and the SHA-256 of its bytes.
    /// The archive must have the same.
    #[serde(default)]
    pub segments: Vec<(Lsn, Digest)>,
}

impl Coordinates {
    /// Where its log begins.
    #[must_use]
    pub fn begins(&self) -> LogPosition {
        LogPosition {
            lineage: Lineage::of_timeline(self.system_id, self.timeline),
            at: self.start.0,
        }
    }

    /// Where it is consistent.
    #[must_use]
    pub fn ends(&self) -> LogPosition {
        let lineage = Lineage::of_timeline(self.system_id, self.stop_timeline);
        LogPosition { lineage, at: self.stop.0 }
    }

    /// When it was, by the clock of the server, as exactly as it tells itself: no commit before its
    /// stop is surely later. Nothing where it does not tell.
    #[must_use]
    pub fn told(&self) -> Option<Timestamp> {
        self.log.as_ref().map(|log| log.last_commit.unwrap_or(log.checkpoint))
    }
}

/// As text: many readers of JSON take numbers for floating ones, which are too short.
pub(crate) mod decimal {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(id: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// The same of a number that may be missing.
pub(crate) mod decimal_or_none {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(id: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => to.collect_str(id),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumps_tell_their_cluster_or_nothing() {
        let cases = [
            (r#"{"type":"logical"}"#, Dumped::default()),
            (
                r#"{"type":"logical","system_id":"18446744073709551615","rows":"18446744073709551615"}"#,
                Dumped { system_id: Some(u64::MAX), rows: Some(u64::MAX) },
            ),
        ];
        for (text, dumped) in cases {
            let kind = BackupKind::Logical(dumped);
            assert_eq!(serde_json::to_string(&kind).unwrap(), text);
            assert_eq!(serde_json::from_str::<BackupKind>(text).unwrap(), kind);
        }
        assert!(
            serde_json::from_str::<BackupKind>(r#"{"type":"logical","system_id":"x"}"#).is_err()
        );
    }
}
