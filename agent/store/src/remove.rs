//! Objects that go for good: where a store keeps versions each of these, and no delete marker stays.

use std::fs;
use std::path::PathBuf;

use drctl_model::shown;
use object_store::path::Path;

use crate::error::whole;
use crate::{Bucket, State, StoreError, Stored};

/// What became of one state of an object that was to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Gone,
    /// The store keeps it because it is locked, in the store's words: that is a normal outcome.
    Retained(String),
    /// It lies behind a link, in a directory, and was left there: who knows what that leads to.
    Linked,
}

/// How stores say that an object is locked: Object Lock, immutable blobs, retention policies.
const LOCKED: [&str; 6] = [
    "WORM",
    "ObjectLocked",
    "object lock",
    "BlobImmutable",
    "retentionPolicyNotMet",
    "under active",
];

impl Bucket {
    /// Whether what is removed is gone for good can be told: whether the store keeps versions is known.
    ///
    /// # Errors
    /// [`StoreError::S3`].
    pub async fn removes_for_good(&self) -> Result<(), StoreError> {
        match self.versions() {
            Some(versions) => versions.keeps().await.map(drop),
            None => Ok(()),
        }
    }

    /// Every state of one object, delete markers too, the newest first; where the store keeps no
    /// versions, what a plain GET finds, if there is anything.
    ///
    /// # Errors
    /// [`StoreError::Failed`], [`StoreError::S3`].
    pub async fn states_of(&self, key: &Path) -> Result<Vec<State>, StoreError> {
        let Some(versions) = self.keeps_versions().await else {
            let (bytes, stored) = match self.open(&Stored::newest(key)).await {
                Ok(found) => (found.meta.size, None),
                Err(StoreError::Missing { .. }) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let (key, version) = (key.clone(), None);
            return Ok(vec![State { key, bytes, version, latest: true, deleted: false, stored }]);
        };
        Ok(versions.of(key).await?.into_iter().map(State::from).collect())
    }

    /// Removes one state of an object, as it was listed; its absence is success.
    ///
    /// # Errors
    /// [`StoreError::Failed`], [`StoreError::S3`]: whether it is gone is not known then, or we may not
    /// remove anything.
    pub async fn remove(&self, state: &State) -> Result<Removal, StoreError> {
        if self.is_behind_a_link(&state.key).await {
            return Ok(Removal::Linked);
        }
        let removed = self
            .retry(|| async {
                match (&state.version, self.versions()) {
                    (Some(version), Some(versions)) => versions.remove(&state.key, version).await,
                    _ => self.delete(&state.key).await,
                }
            })
            .await;
        match removed {
            Ok(()) => Ok(Removal::Gone),
            Err(error) if is_locked(&error) => Ok(Removal::Retained(shown(&whole(&error), 300))),
            Err(error) => Err(error),
        }
    }

    /// Whether objects may lie behind links: the store is a directory.
    #[must_use]
    pub fn may_have_links(&self) -> bool {
        self.directory().is_some()
    }

    /// Whether an object lies behind a link, in a directory: [`remove`](Self::remove) leaves it there.
    pub async fn is_behind_a_link(&self, key: &Path) -> bool {
        match self.directory() {
            Some(directory) => directory.is_behind_a_link(key).await,
            None => false,
        }
    }

    /// Removes the folders below a prefix in which nothing lies any more, where the store is a
    /// directory.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn remove_empty_folders(&self, prefix: &Path) -> Result<(), StoreError> {
        let Some(directory) = self.directory() else { return Ok(()) };
        let base = directory.place_of(prefix);
        let done = tokio::task::spawn_blocking(move || remove_empty(&base)).await;
        done.map_err(|error| {
            let source = crate::rooted::failed(error.into());
            StoreError::Failed { verb: "delete", key: prefix.clone(), source }
        })
    }
}

/// A folder in which something appears meanwhile stays: only empty ones can be removed so.
fn remove_empty(folder: &PathBuf) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        // What a link leads to is none of ours.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

/// Whether the store keeps an object because it is locked.
fn is_locked(error: &StoreError) -> bool {
    let said = whole(error).to_ascii_lowercase();
    LOCKED.iter().any(|word| said.contains(&word.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_told_from_a_right_that_is_missing() {
        let s3 = |service: &str| StoreError::S3 {
            verb: "delete an object version",
            service: service.to_owned(),
            denied: true,
        };
        for locked in [
            "Access Denied because object protected by object lock.",
            "Object is WORM protected and cannot be overwritten",
            "BlobImmutableDueToPolicy: This operation is not permitted as the blob is immutable",
            "retentionPolicyNotMet",
        ] {
            assert!(is_locked(&s3(locked)), "{locked}");
        }
        for not in ["Access Denied", "ExpiredToken", "SlowDown"] {
            assert!(!is_locked(&s3(not)), "{not}");
        }
    }
}
