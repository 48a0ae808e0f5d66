use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Digest, Header, Holds, Lineage, LogAt, ManifestError, NoteName, RepositoryId, SourceId,
};

/// The most plain bytes of a piece of log: a segment of PostgreSQL's may have so many.
pub const MAX_PIECE_BYTES: u64 = 1 << 30;

/// What is signed of a piece of log; the first line of its object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPiece {
    /// What is read before the rest.
    #[serde(flatten)]
    pub header: Header,
    /// The repository it was written into.
    pub repository: RepositoryId,
    /// The source whose log it is.
    pub source: SourceId,
    /// The host that wrote it.
    pub host: String,
    /// When it was written (clock of the host).
    pub written: Timestamp,
    /// Which lineage, and what of its log.
    #[serde(flatten)]
    pub place: LogPlace,
    /// Plain bytes.
    pub plain: u64,
    /// SHA-256 of the plain bytes: whether a segment that is pushed again is the same.
    pub plain_sha256: Digest,
    /// Stored bytes behind the first line.
    pub sealed: u64,
    /// SHA-256 of these.
    pub sealed_sha256: Digest,
    /// What of the log it holds; nothing for a file.
    #[serde(default)]
    pub holds: Holds,
}

/// Where a piece of log belongs; all of its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogPlace {
    /// Whose log it is.
    pub lineage: Lineage,
    /// What of it.
    #[serde(flatten)]
    pub part: LogPart,
}

/// What a piece of log is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
pub enum LogPart {
    /// The log from `start` up to `end`.
    Range {
        /// Where it begins.
        start: LogAt,
        /// Where the next piece begins.
        end: LogAt,
    },
    /// What the engine notes of the lineage beside its log.
    Note {
        /// What the engine calls it.
        name: NoteName,
    },
}

impl LogPiece {
    /// Whether this program understands it, and it lies where it says it belongs.
    ///
    /// # Errors
    /// Every [`ManifestError`].
    pub fn check(
        &self,
        repository: &RepositoryId,
        source: &SourceId,
        place: &LogPlace,
    ) -> Result<(), ManifestError> {
        if &self.repository != repository {
            return Err(ManifestError::Misplaced(format!("repository {}", self.repository)));
        }
        if &self.source != source || &self.place != place {
            let log = self.place.lineage.words().log;
            return Err(ManifestError::Misplaced(format!("the {log} of {}", self.source)));
        }
        self.place.check(&self.header, self.plain)
    }
}
