use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::header::install;
use crate::{FORMAT_VERSION, RepositoryId, shown};

/// What makes a bucket a repository; one object, written once by `drctl init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Always `drctl`.
    pub format: String,
    /// The version of the bucket's format.
    pub v: u32,
    /// The lowest format version whose readers understand this bucket.
    pub min_reader: u32,
    /// The repository's own identifier, which every manifest repeats.
    pub repository: RepositoryId,
    /// When it was written (clock of the host).
    pub created: Timestamp,
}

/// Why a marker does not describe a repository that this program can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarkerError {
    /// Some other program's object.
    #[error("the marker says format `{0}`, not `drctl`")]
    Foreign(String),
    /// A later format.
    #[error(
        "it is written in format {needs}, and this drctl reads up to {reads}: install {install}"
    )]
    TooNew {
        /// The format version that is needed.
        needs: u32,
        /// The newest that this program reads.
        reads: u32,
        /// What to install.
        install: String,
        /// The repository that it names, as far as that can be read.
        repository: Option<RepositoryId>,
    },
}

impl Marker {
    /// The marker of a new repository.
    #[must_use]
    pub fn new(repository: RepositoryId, created: Timestamp) -> Self {
        let format = "drctl".to_owned();
        Marker { format, v: FORMAT_VERSION, min_reader: FORMAT_VERSION, repository, created }
    }
}

/// What a marker begins with, of whatever format: it is read before the rest, which may be of a shape
/// that this program does not know.
#[derive(Debug, Clone)]
pub struct MarkerHeader {
    /// Always `drctl`.
    pub format: String,
    /// The lowest format version whose readers understand this bucket.
    pub min_reader: u32,
    /// The lowest version of drctl that does; empty where it is not said.
    pub reader: String,
    /// The repository, as far as that can be read.
    pub repository: Option<RepositoryId>,
}

impl MarkerHeader {
    /// Whether this program understands the rest.
    ///
    /// # Errors
    /// [`MarkerError::Foreign`] and [`MarkerError::TooNew`].
    pub fn check(&self) -> Result<(), MarkerError> {
        if self.format != "drctl" {
            return Err(MarkerError::Foreign(shown(&self.format, 40)));
        }
        if self.min_reader > FORMAT_VERSION {
            return Err(MarkerError::TooNew {
                needs: self.min_reader,
                reads: FORMAT_VERSION,
                install: install(&self.reader),
                repository: self.repository.clone(),
            });
        }
        Ok(())
    }
}
