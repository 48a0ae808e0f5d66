mod classified;
mod hints;
mod plain;
mod sealing;

use std::io;

use drctl_model::{ManifestError, MarkerError, Role, SourceId, shown};
use object_store::path::Path;

use plain::plain;
pub use sealing::{KeyError, SealError};

use crate::answers::{Elsewhere, NoListing};
use crate::listing::Endless;
use crate::rooted::Moved;

/// What went wrong between us and the bucket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store said no, or said nothing.
    #[error("{verb} {key}")]
    Failed {
        /// What was tried.
        verb: &'static str,
        /// The object's key.
        key: Path,
        /// The store's own words.
        source: object_store::Error,
    },
    /// A create-only object exists and holds something else.
    #[error("{key} already holds other bytes")]
    Conflict {
        /// The object's key.
        key: Path,
    },
    /// There is no such object.
    #[error("{key} is not in the bucket")]
    Missing {
        /// The object's key.
        key: Path,
    },
    /// There is no such bucket or container.
    #[error("there is no such bucket: {url}{}", at(endpoint.as_deref()))]
    NoBucket {
        /// The repository's URL, which names it.
        url: String,
        /// Where it was looked for, where that is not the provider's own place.
        endpoint: Option<String>,
    },
    /// An object is larger than it can rightly be.
    #[error("{key} has {bytes} bytes, more than the {limit} that it can have")]
    TooLarge {
        /// The object's key.
        key: Path,
        /// Its length.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// Where an object should be is something that cannot be read as one.
    #[error("{key} is a pipe, a socket or a device, and no object")]
    NoObject {
        /// The object's key.
        key: Path,
    },
    /// What was read back is not what was written.
    #[error("{key} reads back other bytes than were written")]
    ReadBack {
        /// The object's key.
        key: Path,
    },
    /// Nothing was heard of it for so long that whoever asks has to know.
    #[error("the bucket has not answered for {seconds} s")]
    Silent {
        /// For how many seconds.
        seconds: u64,
    },
    /// The location cannot be opened at all.
    #[error("open the repository at {url}")]
    Open {
        /// The repository's URL.
        url: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The listing of an S3-only request does not go on.
    #[error("list object versions: the page repeats the one before")]
    Repeats,
    /// What answers an S3-only request is no bucket.
    #[error("list object versions: what answers is no listing of a bucket")]
    NoListing,
    /// What answers an S3-only request sends it to another place.
    #[error("{verb}: {said}")]
    Elsewhere {
        /// What was tried.
        verb: &'static str,
        /// What was answered.
        said: String,
    },
    /// An S3-only request failed.
    #[error("{verb} ({service})")]
    S3 {
        /// What was tried.
        verb: &'static str,
        /// The service's own words.
        service: String,
        /// Whether it says that we may not.
        denied: bool,
    },
}

/// Behind the name of a bucket: where it was looked for.
fn at(endpoint: Option<&str>) -> String {
    endpoint.map_or_else(String::new, |endpoint| format!(" at {endpoint}"))
}

/// What a store's client says, with all that is behind it, in plain words; nothing of another error.
#[must_use]
pub fn said_by_client(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    error.downcast_ref::<object_store::Error>().map(|said| whole(said))
}

/// An error with all that is behind it, in plain words, each once.
pub(crate) fn whole(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    plain(&text)
}

/// How a refusal is told that comes without a kind of its own: by object_store, when it lists; by
/// S3, of credentials that were good once, with status 400.
const DENIED: &[&str] = &[
    "status code: 401 ",
    "status code: 403 ",
    // What S3 answers for one of several objects that were to be removed at once.
    "(code: AccessDenied)",
    "ExpiredToken",
    "TokenRefreshRequired",
    "RequestExpired",
];

impl StoreError {
    /// A stable name for scripts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            StoreError::Conflict { .. } => "store_conflict",
            StoreError::Missing { .. } => "store_missing",
            StoreError::NoBucket { .. } => "store_no_bucket",
            StoreError::TooLarge { .. } => "store_too_large",
            StoreError::NoObject { .. } => "store_no_object",
            StoreError::ReadBack { .. } => "store_read_back",
            StoreError::Open { .. } => "store_open",
            StoreError::Silent { .. } => "store_silent",
            StoreError::Repeats => "store_endless",
            StoreError::NoListing => "store_no_listing",
            StoreError::Elsewhere { .. } => "store_elsewhere",
            StoreError::S3 { denied: true, .. } => "store_denied",
            StoreError::S3 { denied: false, .. } => "store_failed",
            StoreError::Failed { source, .. } => match source {
                object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. } => "store_denied",
                object_store::Error::NotFound { .. } => "store_missing",
                other if is_caused_by::<Moved>(other) => "store_moved",
                other if is_caused_by::<Endless>(other) => "store_endless",
                other if is_caused_by::<NoListing>(other) => "store_no_listing",
                other if is_caused_by::<Elsewhere>(other) => "store_elsewhere",
                other if says_denied(other) => "store_denied",
                other if is_bad_key(other) => "store_bad_key",
                other => match io_kind(other) {
                    Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => "store_full",
                    Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
                        "store_denied"
                    }
                    _ => "store_failed",
                },
            },
        }
    }

    /// Whether trying again cannot help.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.code() != "store_failed"
    }
}

/// Whether the words of an error, or of a cause of it, are those of a refusal.
pub(crate) fn says_denied(error: &dyn std::error::Error) -> bool {
    let words = error.to_string();
    DENIED.iter().any(|said| words.contains(said)) || error.source().is_some_and(says_denied)
}

/// Whether what is absent is the bucket and not the object, as S3, Azure and Google say it.
pub(crate) fn says_no_bucket(error: &dyn std::error::Error) -> bool {
    let words = error.to_string();
    let said = ["NoSuchBucket", "ContainerNotFound", "specified bucket does not exist"];
    said.iter().any(|said| words.contains(said)) || error.source().is_some_and(says_no_bucket)
}

/// Whether a listing ended at a key that object_store's `Path` cannot hold (a control character,
/// an empty or dotted segment): it then gives none of the others either.
fn is_bad_key(error: &object_store::Error) -> bool {
    is_caused_by::<object_store::path::Error>(error) || whole(error).contains("invalid path")
}

/// Whether an error of ours is behind one of the client's.
fn is_caused_by<E: std::error::Error + 'static>(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        cause = error.source();
    }
    None
}

/// What is wrong with bytes that came from the bucket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Longer than it can rightly be.
    #[error("the {what} has more than {limit} bytes")]
    TooLarge {
        /// What was read.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// Not the JSON that it has to be.
    #[error("the {what} cannot be read")]
    Json {
        /// What was read.
        what: &'static str,
        /// The parser's words.
        source: JsonError,
    },
    /// Neither an envelope nor anything else that drctl writes signed.
    #[error("it is no signed document of drctl")]
    NoEnvelope {
        /// The parser's words.
        source: JsonError,
    },
    /// An envelope around something else.
    #[error("the envelope holds another kind of document")]
    PayloadType,
    /// Base64 or a signature's length is wrong.
    #[error("the {what} is malformed")]
    Malformed {
        /// What was read.
        what: &'static str,
    },
    /// No key that we trust signed it.
    #[error("no trusted key signed it (it names {named})")]
    Untrusted {
        /// The beginnings of the identifiers of the keys that it names, which prove nothing.
        named: String,
    },
    /// A key signed it that we trust with something else.
    #[error(
        "the key {signer} signed it, which keys.verifying_keys does not allow for {source_id} ({role})"
    )]
    WrongSigner {
        /// The key.
        signer: String,
        /// The source.
        source_id: SourceId,
        /// What it is.
        role: Role,
    },
    /// Signed, but not usable.
    #[error("it is signed, and cannot be used")]
    Manifest(#[from] ManifestError),
    /// Not our repository.
    #[error("the repository's marker does not fit")]
    Marker(#[from] MarkerError),
    /// A page other than the manifest names.
    #[error("page {n} of the segment list is not the one that the manifest names")]
    Page {
        /// The page's number.
        n: u64,
    },
}

/// A parser's words about a text from the bucket, which they quote: bounded, and printable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

impl From<&serde_json::Error> for JsonError {
    fn from(error: &serde_json::Error) -> Self {
        let words = error.to_string();
        // What is quoted may be long: where it is stands at the end.
        let at = words.rfind(" at line ").filter(|_| words.chars().count() > 200);
        let at = at.map_or("", |at| &words[at..]);
        JsonError(shown(&words, 200) + &shown(at, 60))
    }
}

impl FormatError {
    pub(crate) fn json(what: &'static str, error: &serde_json::Error) -> Self {
        FormatError::Json { what, source: error.into() }
    }

    /// Whether nothing is known against an object but that a newer drctl has written it.
    #[must_use]
    pub fn is_newer(&self) -> bool {
        self.code() == "format_newer"
    }

    /// A stable name for scripts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            FormatError::Untrusted { .. } => "untrusted",
            FormatError::WrongSigner { .. } => "wrong_signer",
            FormatError::Manifest(
                ManifestError::TooNew { .. } | ManifestError::UnknownFeature { .. },
            )
            | FormatError::Marker(MarkerError::TooNew { .. }) => "format_newer",
            FormatError::Marker(MarkerError::Foreign(_)) => "not_a_repository",
            _ => "malformed",
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self.code() {
            "untrusted" => {
                "do not restore from it: it was altered, or signed by a host whose key is not in \
                 keys.verifying_keys; add that key only if you know whose it is"
            }
            "wrong_signer" => {
                "do not restore from it: a host signed for another one's source. If it may do \
                 that, add the source to that key's `sources` in keys.verifying_keys"
            }
            "format_newer" => {
                "install the newer drctl here, or restore on a host that has it; nothing was changed"
            }
            "not_a_repository" => {
                "check the URL and prefix; `drctl init` makes a repository in an empty place"
            }
            _ => "the object was altered or cut; take another backup (`drctl list`)",
        })
    }
}

/// Whether something else lies where an object was not made, by what was `found` there then; in a `directory`
/// also where it is no file, but a directory or a link that leads nowhere.
pub(crate) fn is_taken(
    found: &Result<bytes::Bytes, StoreError>,
    refused: &object_store::Error,
    directory: bool,
) -> bool {
    match found {
        Ok(_) | Err(StoreError::TooLarge { .. } | StoreError::NoObject { .. }) => true,
        Err(StoreError::Missing { .. }) => {
            directory && matches!(refused, object_store::Error::AlreadyExists { .. })
        }
        Err(_) => false,
    }
}
