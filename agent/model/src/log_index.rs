use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Digest, Header, Holds, Lineage, LogAt, ManifestError, RepositoryId, SourceId};

/// The most pieces in an index.
pub const MAX_INDEX_PIECES: usize = 1024;

/// What is signed of a run of pieces that follow each other, so that their own heads need not be
/// read. Makes nothing believed that is not in the bucket: it saves time, and no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogIndex {
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
    /// Which run.
    #[serde(flatten)]
    pub place: IndexPlace,
    /// The pieces, in order; none lies wholly within another one.
    pub pieces: Vec<IndexedPiece>,
}

/// Where an index belongs; all of its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IndexPlace {
    /// Whose log it is.
    pub lineage: Lineage,
    /// Where its first piece begins.
    pub start: LogAt,
    /// Where its last one ends.
    pub end: LogAt,
}

/// A piece in an index: what its own head says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedPiece {
    /// Where it begins.
    pub start: LogAt,
    /// Where the next one begins.
    pub end: LogAt,
    /// SHA-256 of the plain bytes.
    pub plain_sha256: Digest,
    /// Stored bytes behind the head.
    pub sealed: u64,
    /// Bytes of the head before these; unknown in older indexes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<u32>,
    /// SHA-256 of the stored ones.
    pub sealed_sha256: Digest,
    /// What of the log it holds.
    #[serde(default)]
    pub holds: Holds,
}

impl LogIndex {
    /// Whether this program understands it, it lies where it says it belongs, and its pieces make
    /// one run.
    ///
    /// # Errors
    /// Every [`ManifestError`].
    pub fn check(
        &self,
        repository: &RepositoryId,
        source: &SourceId,
        place: &IndexPlace,
    ) -> Result<(), ManifestError> {
        if &self.repository != repository {
            return Err(ManifestError::Misplaced(format!("repository {}", self.repository)));
        }
        if &self.source != source || &self.place != place {
            let log = self.place.lineage.words().log;
            return Err(ManifestError::Misplaced(format!("the {log} of {}", self.source)));
        }
        self.place.lineage.check(&self.header)?;
        let wrong = |what: &str| Err(ManifestError::Inconsistent(what.to_owned()));
        if self.pieces.len() > MAX_INDEX_PIECES {
            return wrong("it has too many pieces");
        }
        let mut reach = place.start;
        let mut before = None;
        for piece in &self.pieces {
            let grows = before.is_none_or(|before| piece.start > before);
            if piece.start > reach || piece.end <= reach || !grows {
                return wrong("its pieces make no run");
            }
            (reach, before) = (piece.end, Some(piece.start));
        }
        match before.is_some() && reach == place.end && self.pieces[0].start == place.start {
            true => Ok(()),
            false => wrong("its pieces are not its range"),
        }
    }
}
