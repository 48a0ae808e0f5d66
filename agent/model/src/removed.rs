use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::kind::decimal_or_none;
use crate::{BackupId, Digest, Header, Lineage, LogAt, ManifestError, RepositoryId, SourceId};

/// What is signed when a backup is about to be removed, because no rule of its policy keeps it. Without
/// one a manifest that is gone is a loss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// What is read before the rest.
    #[serde(flatten)]
    pub header: Header,
    /// The repository it was written into.
    pub repository: RepositoryId,
    /// The source of the backup.
    pub source: SourceId,
    /// Which backup.
    pub backup: BackupId,
    /// The digest of its manifest object: this very one was removed.
    pub manifest_sha256: Digest,
    /// Of which cluster it was, where its manifest told.
    #[serde(default, with = "decimal_or_none", skip_serializing_if = "Option::is_none")]
    pub system_id: Option<u64>,
    /// The host that removed it.
    pub host: String,
    /// When (clock of the host).
    pub removed: Timestamp,
}

/// What is signed when the log of a lineage is about to be removed up to a position, because no base
/// backup that stays needs it. Without one log that was known and is gone is a loss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFloor {
    /// What is read before the rest.
    #[serde(flatten)]
    pub header: Header,
    /// The repository it was written into.
    pub repository: RepositoryId,
    /// The source of the log.
    pub source: SourceId,
    /// Which lineage.
    pub lineage: Lineage,
    /// Pieces that end here or before are removed.
    pub before: LogAt,
    /// The host that removed them.
    pub host: String,
    /// When (clock of the host).
    pub removed: Timestamp,
}

impl Tombstone {
    /// Whether it lies where it says that it belongs.
    ///
    /// # Errors
    /// [`ManifestError::Misplaced`].
    pub fn check(
        &self,
        repository: &RepositoryId,
        (source, backup): (&SourceId, &BackupId),
    ) -> Result<(), ManifestError> {
        match &self.repository == repository && &self.source == source && &self.backup == backup {
            true => Ok(()),
            false => Err(ManifestError::Misplaced(format!(
                "the tombstone of {}/{} in repository {}",
                self.source, self.backup, self.repository
            ))),
        }
    }
}

impl LogFloor {
    /// Whether it lies where it says that it belongs.
    ///
    /// # Errors
    /// [`ManifestError::Misplaced`].
    pub fn check(
        &self,
        repository: &RepositoryId,
        (source, lineage, before): (&SourceId, &Lineage, LogAt),
    ) -> Result<(), ManifestError> {
        let same = &self.repository == repository
            && &self.source == source
            && &self.lineage == lineage
            && self.before == before;
        match same {
            true => Ok(()),
            false => Err(ManifestError::Misplaced(format!(
                "the removal of {}'s log {} up to {} in repository {}",
                self.source, self.lineage, self.before, self.repository
            ))),
        }
    }
}
