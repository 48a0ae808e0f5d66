//! All that a store keeps of an object: where it keeps versions, each of them.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use object_store::path::Path;

use crate::versions::{Seen, Walk};
use crate::{Bucket, ObjectVersion, StoreError, Versions};

/// One state of an object, to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The object's key.
    pub key: Path,
    /// Which version; nothing: what a plain GET finds.
    pub version: Option<Box<str>>,
    /// Its length, where a listing told it.
    pub bytes: Option<u64>,
}

impl Stored {
    /// What a plain GET finds.
    #[must_use]
    pub fn newest(key: &Path) -> Self {
        Stored { key: key.clone(), version: None, bytes: None }
    }
}

/// What is kept of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Its states, the one that was written first the first.
    pub states: Vec<Stored>,
    /// Whether the newest word on it is that it was deleted.
    pub deleted: bool,
}

/// One state of an object as a listing shows it; of one object the newest comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The object's key.
    pub key: Path,
    /// Its length.
    pub bytes: u64,
    /// Which version, where the store keeps any.
    pub version: Option<String>,
    /// Whether it is what a plain GET finds.
    pub latest: bool,
    /// Whether it only says that the object was deleted.
    pub deleted: bool,
    /// When the store got it, by its own clock; nothing where it does not tell.
    pub stored: Option<Timestamp>,
}

impl State {
    /// The same, to be read.
    #[must_use]
    pub fn stored(&self) -> Stored {
        let version = self.version.clone().map(String::into_boxed_str);
        Stored { key: self.key.clone(), version, bytes: Some(self.bytes) }
    }
}

impl From<ObjectVersion> for State {
    fn from(of: ObjectVersion) -> State {
        State {
            key: of.key,
            bytes: of.bytes,
            version: Some(of.id),
            latest: of.latest,
            deleted: of.delete_marker,
            stored: of.stored,
        }
    }
}

const NOT_KNOWN: &str = "whether the bucket keeps older versions is not known";

impl Bucket {
    /// The verbs for versions, where the store keeps versions and lets us ask for them; asked once.
    pub async fn keeps_versions(&self) -> Option<&Versions> {
        let versions = self.versions()?;
        let ask = || async {
            match versions.keeps().await {
                Ok(keeps) => keeps,
                // Not every store that speaks S3 knows the question, and not everybody may ask it.
                Err(error) => {
                    // Of a store that fails it was told already.
                    match self.fails.load(Ordering::Relaxed) {
                        true => tracing::debug!("{NOT_KNOWN}: {error}"),
                        false => tracing::warn!("{NOT_KNOWN}: {error}"),
                    }
                    false
                }
            }
        };
        self.keeps.get_or_init(ask).await.then_some(versions)
    }

    /// All that is kept of one object; nothing where it was never there.
    ///
    /// # Errors
    /// [`StoreError::S3`].
    pub async fn kept(&self, key: &Path) -> Result<Kept, StoreError> {
        let Some(versions) = self.keeps_versions().await else {
            return Ok(Kept { states: vec![Stored::newest(key)], deleted: false });
        };
        let mut kept = Kept::default();
        for version in versions.of(key).await? {
            kept.deleted |= version.latest && version.delete_marker;
            if !version.delete_marker {
                let id = Some(version.id.into_boxed_str());
                kept.states.push(Stored {
                    key: version.key,
                    version: id,
                    bytes: Some(version.bytes),
                });
            }
        }
        kept.states.reverse();
        Ok(kept)
    }

    /// Lists every state of what lies below `prefix` under names that sort behind `after`, until
    /// `each` has enough. With versions this costs no more requests than without.
    ///
    /// # Errors
    /// [`StoreError::Failed`], [`StoreError::S3`].
    pub async fn list_states(
        &self,
        prefix: &Path,
        after: Option<&str>,
        mut each: impl FnMut(State) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if let Some(versions) = self.keeps_versions().await {
            let below = format!("{prefix}/");
            let prefix = if prefix.as_ref().is_empty() { "" } else { &below };
            let walk = Walk { prefix, after, folders: false };
            return versions
                .walk(&walk, &mut |seen| match seen {
                    Seen::Folder(_) => ControlFlow::Continue(()),
                    Seen::Version(version) => each(version.into()),
                })
                .await;
        }
        let mut listing = match after {
            Some(after) => self.list_from(prefix, after),
            None => self.list(Some(prefix).filter(|prefix| !prefix.as_ref().is_empty())),
        };
        while let Some(entry) = listing.try_next().await? {
            let state = State {
                key: entry.key,
                bytes: entry.bytes,
                version: None,
                latest: true,
                deleted: false,
                stored: entry.stored,
            };
            if each(state).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Reads one state of an object, of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_stored(&self, stored: &Stored, limit: u64) -> Result<Bytes, StoreError> {
        self.ready().await;
        let found = self.retry(|| self.get_now(stored, limit)).await;
        self.moved(found.as_ref().map_or(0, Bytes::len));
        found
    }

    /// Reads an object whose first line tells how long it is, and no more of it than that; the line
    /// has at most `most` bytes. `head` is given what begins with the line, and says of it what is
    /// read, and the length of the whole. An object of another length comes cut.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Failed`]; those of `head` are in the answer.
    pub async fn get_headed<T, E>(
        &self,
        stored: &Stored,
        most: usize,
        head: impl Fn(&[u8]) -> Result<(T, u64), E>,
    ) -> Result<Result<(T, Bytes), E>, StoreError> {
        self.ready().await;
        self.retry(|| async {
            let found = self.open(stored).await?;
            let there = found.meta.size;
            let failed = |source| self.failed("get", &stored.key, source);
            let mut stream = found.into_stream();
            let mut bytes = Vec::new();
            while bytes.len() < most && !bytes.contains(&b'\n') {
                match stream.try_next().await.map_err(failed)? {
                    Some(more) => bytes.extend_from_slice(&more),
                    None => break,
                }
            }
            let (value, whole) = match head(&bytes) {
                Ok(read) => read,
                Err(error) => return Ok(Err(error)),
            };
            if there == whole {
                let room = usize::try_from(whole).unwrap_or(usize::MAX).saturating_sub(bytes.len());
                bytes.reserve(room);
                while let Some(more) = stream.try_next().await.map_err(failed)? {
                    bytes.extend_from_slice(&more);
                    if bytes.len() as u64 > whole {
                        break;
                    }
                }
            }
            self.moved(bytes.len());
            Ok(Ok((value, Bytes::from(bytes))))
        })
        .await
    }
}
