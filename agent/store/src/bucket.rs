use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use bytes::Bytes;
use drctl_model::Segment;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode,
    PutOptions, PutPayload,
};
use tokio::sync::OnceCell;

use crate::alarm::Alarms;
use crate::error::{is_taken, says_no_bucket};
use crate::rooted::{NoFile, Rooted};
use crate::silence::{asked, listing};
use crate::{Alarm, Odd, Pace, SealError, StoreError, Stored, Stray, Versions, seal};

/// A repository's place: an object store and a prefix in it, with the verbs that we need.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    url: Arc<str>,
    endpoint: Option<Arc<str>>,
    versions: Option<Versions>,
    /// Whether it keeps versions: asked once.
    pub(crate) keeps: Arc<OnceCell<bool>>,
    alarms: Alarms,
    directory: Option<Rooted>,
    /// Whether it was told that it fails, since it last did what was asked.
    pub(crate) fails: Arc<AtomicBool>,
    /// How fast bytes may go there and come from there.
    pub(crate) paces: Arc<[Arc<Pace>]>,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key, relative to the repository.
    pub key: Path,
    /// Its length in bytes.
    pub bytes: u64,
    /// When the store got it, by its own clock.
    pub stored: Option<Timestamp>,
}

/// How a create-only write ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// We wrote it.
    Created,
    /// The very same bytes were there already.
    Present,
}

impl Bucket {
    /// A bucket over `store`, shown to people as `url`.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, url: &str) -> Self {
        let (keeps, fails, alarms) = (Arc::default(), Arc::default(), Alarms::default());
        let (versions, directory, paces) = (None, None, Arc::default());
        let (url, endpoint) = (url.into(), None);
        Bucket { store, url, endpoint, versions, keeps, alarms, directory, fails, paces }
    }

    /// The same bucket, whose older versions can be asked for.
    #[must_use]
    pub fn with_versions(self, versions: Versions) -> Self {
        Bucket { versions: Some(versions), ..self }
    }

    /// The same bucket, which is not at its provider's own place.
    pub(crate) fn at(self, endpoint: Option<&str>) -> Self {
        Bucket { endpoint: endpoint.map(Into::into), ..self }
    }

    /// The same bucket, which is a directory.
    pub(crate) fn with_directory(self, directory: Rooted) -> Self {
        Bucket { directory: Some(directory), ..self }
    }

    /// The directory that it is, where it is one.
    pub(crate) fn directory(&self) -> Option<&Rooted> {
        self.directory.as_ref()
    }

    /// Files in a directory that are no objects: of killed writers, and of names that no key has.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn strays(&self) -> Result<Vec<Stray>, StoreError> {
        let Some(directory) = &self.directory else { return Ok(Vec::new()) };
        let found = directory.strays().await;
        found.map_err(|source| self.failed("list", &Path::default(), source))
    }

    /// Folders of a directory that may not be looked into, as well as they can be shown: a listing of all
    /// of it leaves them out.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn closed(&self) -> Result<Vec<String>, StoreError> {
        let Some(directory) = &self.directory else { return Ok(Vec::new()) };
        let found = directory.closed().await;
        let found = found.map_err(|source| self.failed("list", &Path::default(), source))?;
        Ok(found.iter().map(|path| path.to_string_lossy().into_owned()).collect())
    }

    /// Removes what killed writers of this account left below `prefix` before a moment; gives how
    /// many files.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn sweep(&self, prefix: &Path, before: SystemTime) -> Result<u64, StoreError> {
        let Some(directory) = &self.directory else { return Ok(0) };
        let done = directory.sweep(prefix, before).await;
        done.map_err(|source| self.failed("delete", prefix, source))
    }

    /// Where it is, for people; holds no secret.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The S3-only verbs, where the bucket is one of S3.
    #[must_use]
    pub fn versions(&self) -> Option<&Versions> {
        self.versions.as_ref()
    }

    /// What was seen of objects that somebody meddled with.
    #[must_use]
    pub fn alarms(&self) -> Vec<Alarm> {
        self.alarms.all()
    }

    /// Says that somebody meddled with an object.
    pub fn alarm(&self, key: &Path, odd: Odd) {
        self.alarms.raise(key, odd);
    }

    /// The object store underneath, to wrap it.
    #[must_use]
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// Writes an object under a key that only we use; a repeat writes the same bytes.
    ///
    /// # Errors
    /// [`StoreError::Failed`] after the last attempt.
    pub async fn put(&self, key: &Path, bytes: Bytes) -> Result<(), StoreError> {
        self.ready().await;
        self.moved(bytes.len());
        self.retry(|| async {
            self.store
                .put(key, PutPayload::from_bytes(bytes.clone()))
                .await
                .map(drop)
                .map_err(|source| StoreError::Failed { verb: "put", key: key.clone(), source })
        })
        .await
    }

    /// Writes an object that must not exist.
    ///
    /// On any error the object is read back: our own bytes are success (the answer was lost, or
    /// the client repeated the request), absence is tried again, anything else is a conflict.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]; [`StoreError::Failed`] after the last attempt.
    pub async fn put_once(&self, key: &Path, bytes: Bytes) -> Result<Put, StoreError> {
        self.ready().await;
        self.moved(bytes.len());
        self.retry(|| async {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let payload = PutPayload::from_bytes(bytes.clone());
            let Err(source) = self.store.put_opts(key, payload, options).await else {
                return Ok(Put::Created);
            };
            // Asked once: the tries of this verb are bounded, not multiplied.
            match self.get_now(&Stored::newest(key), bytes.len() as u64).await {
                Ok(found) if found == bytes => Ok(Put::Present),
                found if is_taken(&found, &source, !self.lists_in_order()) => {
                    Err(StoreError::Conflict { key: key.clone() })
                }
                _ => Err(StoreError::Failed { verb: "create", key: key.clone(), source }),
            }
        })
        .await
    }

    /// Writes an object that must not exist, reads it back and compares.
    ///
    /// # Errors
    /// As [`put_once`](Self::put_once) and [`read_back`](Self::read_back).
    pub async fn put_read_back(&self, key: &Path, bytes: Bytes) -> Result<Put, StoreError> {
        let put = self.put_once(key, bytes.clone()).await?;
        self.read_back(key, &bytes).await?;
        Ok(put)
    }

    /// Reads an object of at most `limit` bytes.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::TooLarge`] before anything is read,
    /// [`StoreError::Failed`].
    pub async fn get(&self, key: &Path, limit: u64) -> Result<Bytes, StoreError> {
        self.get_stored(&Stored::newest(key), limit).await
    }

    /// Reads the first bytes of an object, at most `length`.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Failed`].
    pub async fn get_head(&self, stored: &Stored, length: u64) -> Result<Bytes, StoreError> {
        self.retry(|| async {
            let version = stored.version.as_deref().map(str::to_owned);
            let range = Some(GetRange::Bounded(0..length));
            let options = GetOptions { range, version, ..GetOptions::default() };
            let failed = |source| self.failed("get", &stored.key, source);
            match self.store.get_opts(&stored.key, options).await.map_err(failed) {
                // Of an empty object no range can be had.
                Err(StoreError::Failed { .. }) if stored.bytes == Some(0) => Ok(Bytes::new()),
                Err(error @ StoreError::Failed { .. }) => match self.open(stored).await {
                    Ok(found) if found.meta.size == 0 => Ok(Bytes::new()),
                    _ => Err(error),
                },
                found => found?.bytes().await.map_err(failed),
            }
        })
        .await
    }

    pub(crate) fn failed(
        &self,
        verb: &'static str,
        key: &Path,
        source: object_store::Error,
    ) -> StoreError {
        match source {
            object_store::Error::NotFound { source, .. } if says_no_bucket(&*source) => {
                let endpoint = self.endpoint.as_deref().map(str::to_owned);
                StoreError::NoBucket { url: self.url.to_string(), endpoint }
            }
            object_store::Error::NotFound { .. } => StoreError::Missing { key: key.clone() },
            object_store::Error::Generic { source, .. } if source.is::<NoFile>() => {
                StoreError::NoObject { key: key.clone() }
            }
            source => StoreError::Failed { verb, key: key.clone(), source },
        }
    }

    /// Opens a state of an object: its length is known, and nothing is read yet.
    pub(crate) async fn open(&self, stored: &Stored) -> Result<GetResult, StoreError> {
        let version = stored.version.as_deref().map(str::to_owned);
        let options = GetOptions { version, ..GetOptions::default() };
        let found = self.store.get_opts(&stored.key, options).await;
        found.map_err(|source| self.failed("get", &stored.key, source))
    }

    pub(crate) async fn get_now(&self, stored: &Stored, limit: u64) -> Result<Bytes, StoreError> {
        let found = self.open(stored).await?;
        let bytes = found.meta.size;
        if bytes > limit {
            return Err(StoreError::TooLarge { key: stored.key.clone(), bytes, limit });
        }
        found.bytes().await.map_err(|source| self.failed("get", &stored.key, source))
    }

    /// Reads a segment and checks that it is the one that the list names.
    ///
    /// Bytes that differ are asked for once more, and then from older versions where the bucket
    /// keeps any: a later write of somebody else cannot hide what was stored.
    ///
    /// # Errors
    /// The store's, and [`SealError::Altered`].
    pub async fn get_segment(
        &self,
        key: &Path,
        segment: &Segment,
    ) -> Result<Result<Bytes, SealError>, StoreError> {
        let mut found = self.get_checked(key, segment).await;
        if matches!(found, Ok(Err(_))) {
            found = self.get_checked(key, segment).await;
        }
        if !matches!(found, Ok(Err(_)) | Err(StoreError::Missing { .. })) {
            return found;
        }
        match Box::pin(self.older(key, segment)).await {
            Ok(Some(bytes)) => {
                let odd = if found.is_ok() { Odd::Hidden } else { Odd::Deleted };
                self.alarm(key, odd);
                Ok(Ok(bytes))
            }
            Ok(None) => found,
            // What is wrong with the segment matters more than why no older version was found.
            Err(error) => {
                tracing::warn!(%key, %error, "older versions of it are not known");
                found
            }
        }
    }

    async fn get_checked(
        &self,
        key: &Path,
        segment: &Segment,
    ) -> Result<Result<Bytes, SealError>, StoreError> {
        match self.get(key, segment.sealed).await {
            Ok(bytes) => Ok(seal::check_sealed(segment, &bytes).map(|()| bytes)),
            Err(StoreError::TooLarge { .. }) => Ok(Err(SealError::Altered { what: "length" })),
            Err(error) => Err(error),
        }
    }

    async fn older(&self, key: &Path, segment: &Segment) -> Result<Option<Bytes>, StoreError> {
        let Some(versions) = &self.versions else { return Ok(None) };
        for version in versions.of(key).await? {
            if version.bytes == segment.sealed && !version.delete_marker {
                let bytes = Box::pin(versions.get(&version, segment.sealed)).await?;
                if seal::check_sealed(segment, &bytes).is_ok() {
                    return Ok(Some(bytes));
                }
            }
        }
        Ok(None)
    }

    /// Lists what lies below `prefix` (or everything), in no promised order.
    pub fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<Entry, StoreError>> {
        let at = prefix.cloned().unwrap_or_default();
        listing(self.store.list(prefix))
            .map_ok(entry)
            .map_err(move |source| StoreError::Failed { verb: "list", key: at.clone(), source })
            .boxed()
    }

    /// Whether listings come in the order of the keys: those of a directory do not.
    #[must_use]
    pub fn lists_in_order(&self) -> bool {
        !self.url.starts_with("file:")
    }

    /// Lists what lies below `prefix` under names that sort behind `after`; ordered where the
    /// store lists in order.
    pub fn list_from(
        &self,
        prefix: &Path,
        after: &str,
    ) -> BoxStream<'static, Result<Entry, StoreError>> {
        let at = prefix.clone();
        listing(self.store.list_with_offset(Some(prefix), &prefix.clone().join(after)))
            .map_ok(entry)
            .map_err(move |source| StoreError::Failed { verb: "list", key: at.clone(), source })
            .boxed()
    }

    /// The names directly below `prefix` that have more below them.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn list_folders(&self, prefix: &Path) -> Result<Vec<String>, StoreError> {
        if let Some(versions) = self.keeps_versions().await {
            // A plain listing may hide folders in which everything was deleted.
            return versions.folders(prefix).await;
        }
        self.retry(|| async {
            let found = self.store.list_with_delimiter(Some(prefix)).await.map_err(|source| {
                StoreError::Failed { verb: "list", key: prefix.clone(), source }
            })?;
            let name = |path: &Path| path.parts().next_back().map(|part| part.as_ref().to_owned());
            Ok(found.common_prefixes.iter().filter_map(name).collect())
        })
        .await
    }

    /// Removes an object; its absence is success.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn delete(&self, key: &Path) -> Result<(), StoreError> {
        match asked(self.store.delete(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(StoreError::Failed { verb: "delete", key: key.clone(), source }),
        }
    }
}

fn entry(meta: ObjectMeta) -> Entry {
    let stored = Timestamp::from_second(meta.last_modified.timestamp()).ok();
    Entry { key: meta.location, bytes: meta.size, stored }
}
