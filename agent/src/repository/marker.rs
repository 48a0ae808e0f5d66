//! The marker that makes a bucket a repository: read, missed, pinned.

use anyhow::{Context as _, Result};
use drctl_model::{Marker, MarkerError, RepositoryId};
use drctl_store::{Bucket, FormatError, MAX_MARKER_BYTES, Stored, decode_marker, layout};

use super::Repository;
use super::faults::{is_bad_manifest, is_missing, is_newer};
use super::first::first;
use crate::host::{AgentError, Setup};

/// The marker that counts: with an identifier the first one that says it, else the first.
pub(crate) async fn read_marker(bucket: &Bucket, pinned: Option<&RepositoryId>) -> Result<Marker> {
    let key = layout::marker();
    let read = |stored: Stored| async move {
        let bytes = bucket.get_stored(&stored, MAX_MARKER_BYTES).await?;
        let marker = decode_marker(&bytes);
        let named = match &marker {
            Ok(marker) => Some(&marker.repository),
            Err(FormatError::Marker(MarkerError::TooNew { repository, .. })) => repository.as_ref(),
            Err(_) => None,
        };
        match pinned.zip(named).filter(|(pinned, named)| pinned != named) {
            Some((pinned, named)) => Err(AgentError::OtherRepository {
                url: bucket.url().to_owned(),
                found: named.clone(),
                pinned: pinned.clone(),
            }
            .into()),
            None => Ok::<_, anyhow::Error>(marker?),
        }
    };
    // The usual case needs no versions: nothing could be more right than this.
    if pinned.is_some()
        && let Ok(marker) = read(Stored::newest(&key)).await
    {
        return Ok(marker);
    }
    let same = |one: &Marker, other: &Marker| one.repository == other.repository;
    match first(bucket, &key, read, same).await {
        Err(error) if is_missing(&error) => {
            Err(AgentError::NotARepository { url: bucket.url().to_owned() }.into())
        }
        Err(error) if error.downcast_ref::<AgentError>().is_some() => Err(error),
        read => read.context("read the repository's marker"),
    }
}

/// What is to be said where the configuration does not pin the repository, and what to do.
pub(crate) fn unpinned(setup: &Setup, repository: &Repository) -> Option<(&'static str, String)> {
    let text = "the configuration does not say which repository it must be: another one with the \
                same keys would be accepted";
    let hint = || format!("write id = \"{}\" into [repository]", repository.id);
    setup.config.repository.id.is_none().then(|| (text, hint()))
}

/// Whether there is anything of any source.
pub(crate) async fn holds_backups(bucket: &Bucket) -> Result<bool> {
    let sources = bucket.list_folders(&layout::sources()).await.context("list the sources")?;
    Ok(!sources.is_empty())
}

/// Whether a marker is gone or damaged; not, that it is another one, or a newer drctl's.
pub(crate) fn is_lost(error: &anyhow::Error) -> bool {
    is_bad_manifest(error) && !is_newer(error)
        || matches!(error.downcast_ref(), Some(AgentError::NotARepository { .. }))
}

/// Whether some other program's object is in its place.
pub(super) fn is_foreign(error: &anyhow::Error) -> bool {
    let foreign =
        |error: &FormatError| matches!(error, FormatError::Marker(MarkerError::Foreign(_)));
    error.chain().any(|cause| cause.downcast_ref().is_some_and(foreign))
}
