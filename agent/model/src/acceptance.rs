use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{BackupId, Digest, Header, ManifestError, RepositoryId, SourceId};

/// What is signed when a person takes a suspect backup for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// What is read before the rest.
    #[serde(flatten)]
    pub header: Header,
    /// The repository it was written into.
    pub repository: RepositoryId,
    /// The source of the backup.
    pub source: SourceId,
    /// Which backup.
    pub backup: BackupId,
    /// The digest of its manifest object: this very one was accepted.
    pub manifest_sha256: Digest,
    /// The host on which it was accepted.
    pub host: String,
    /// When (clock of the host).
    pub accepted: Timestamp,
}

impl Acceptance {
    /// Whether this program understands it, it lies where it says it belongs, and speaks of this
    /// manifest.
    ///
    /// # Errors
    /// [`ManifestError::Misplaced`]; what only newer programs understand.
    pub fn check(
        &self,
        repository: &RepositoryId,
        (source, backup): (&SourceId, &BackupId),
        manifest_sha256: Digest,
    ) -> Result<(), ManifestError> {
        let misplaced = |what: String| Err(ManifestError::Misplaced(what));
        if &self.repository != repository {
            return misplaced(format!("repository {}", self.repository));
        }
        if &self.source != source || &self.backup != backup {
            return misplaced(format!("the acceptance of {}/{}", self.source, self.backup));
        }
        if self.manifest_sha256 != manifest_sha256 {
            return misplaced(format!("the acceptance of another manifest of {backup}"));
        }
        Ok(())
    }
}
