use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    BackupId, DrillId, Header, Lsn, ManifestError, Named, RepositoryId, SourceId, Timeline,
};

/// What is signed of a restore drill: that a recovery reached its target and was proven, or that
/// it did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// What is read before the rest.
    #[serde(flatten)]
    pub header: Header,
    /// The repository it was written into.
    pub repository: RepositoryId,
    /// The source whose data were recovered.
    pub source: SourceId,
    /// Which drill.
    pub drill: DrillId,
    /// The host that recovered.
    pub host: String,
    /// When it began (clock of the host).
    pub started: Timestamp,
    /// How long it took, in milliseconds: from the command to its end.
    pub took_ms: u64,
    /// The cluster's system identifier.
    #[serde(with = "crate::kind::decimal")]
    pub system_id: u64,
    /// The timeline that was followed.
    pub timeline: Timeline,
    /// The base backup that was extracted.
    pub base: BackupId,
    /// The newest manifest of the source that was there when it was signed, where one was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Named>,
    /// What was asked for, in words.
    pub target: String,
    /// What it came to.
    #[serde(flatten)]
    pub outcome: DrillOutcome,
}

/// What a drill came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum DrillOutcome {
    /// The recovered cluster stood at its target.
    Proven {
        /// How far the log was replayed.
        replayed: Lsn,
        /// The time of the last commit that the data show, where the log told one.
        shows: Option<Timestamp>,
        /// Tables that were taken out and counted, and their rows; no names.
        #[serde(default)]
        counted: Vec<u64>,
        /// What of all that there is was left out, in words, where that was accepted.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left_out: Vec<String>,
    },
    /// It did not get there.
    Failed {
        /// The error's name, as `--json` tells it. Its words stay on the host: they may tell of
        /// the data.
        error: String,
    },
}

impl Drill {
    /// Whether this program understands it, and it lies where it says it belongs.
    ///
    /// # Errors
    /// [`ManifestError::Misplaced`]; what only newer programs understand.
    pub fn check(
        &self,
        repository: &RepositoryId,
        source: &SourceId,
        drill: &DrillId,
    ) -> Result<(), ManifestError> {
        let misplaced = |what: String| Err(ManifestError::Misplaced(what));
        if &self.repository != repository {
            return misplaced(format!("repository {}", self.repository));
        }
        if &self.source != source || &self.drill != drill {
            return misplaced(format!("drill {} of {}", self.drill, self.source));
        }
        Ok(())
    }
}
