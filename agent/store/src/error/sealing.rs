//! What goes wrong with segments and keys.

use std::io;

/// What went wrong while a segment was made or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Compression failed.
    #[error("compress")]
    Compress(#[source] io::Error),
    /// Encryption failed.
    #[error("encrypt")]
    Encrypt(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The object is not the one that the manifest names.
    #[error("the stored bytes are not those that were written ({what})")]
    Altered {
        /// Which comparison failed.
        what: &'static str,
    },
    /// None of our identities opens it.
    #[error("none of the identities at hand opens it")]
    WrongKey,
    /// It is not an intact age file.
    #[error("the encryption is damaged")]
    Decrypt(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is more of it than any reader would take.
    #[error("{what} have {bytes} bytes, more than the {limit} that can be read back")]
    TooMuch {
        /// What is to be sealed.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// It is not one intact zstd frame of the right length.
    #[error("the compressed frame is damaged ({what})")]
    Decompress {
        /// What is wrong with it.
        what: String,
    },
}

impl SealError {
    /// A stable name for scripts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            SealError::WrongKey => "wrong_key",
            SealError::Compress(_) | SealError::Encrypt(_) => "seal_failed",
            SealError::TooMuch { .. } => "too_much",
            _ => "damaged",
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self.code() {
            "wrong_key" => Some(
                "use the identity of one of the recipients that `drctl show` lists: \
                 --identity FILE, or keys.identity in the configuration",
            ),
            "too_much" => Some(
                "nothing was committed; divide the databases among several sources, with \
                 `databases` or `exclude_databases`",
            ),
            "damaged" => Some(
                "this backup cannot be restored in full from this repository; `drctl verify \
                 --data` shows what else is damaged, `drctl list` what other backups there are",
            ),
            _ => None,
        }
    }
}

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct KeyError {
    /// Which key.
    pub what: &'static str,
    /// What is wrong with it; never holds the key itself.
    pub why: String,
}

impl KeyError {
    pub(crate) fn new(what: &'static str, why: impl Into<String>) -> Self {
        KeyError { what, why: why.into() }
    }

    /// A stable name for scripts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "bad_key"
    }
}
