//! A directory as a store, which stays the directory that it was: one that was moved away, or whose
//! file system was unmounted, is never made again in its old place.

use std::fmt;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::StoreError;
use crate::walk::{self, Stray};

/// What is said of a directory that is another one now.
#[derive(Debug, thiserror::Error)]
#[error("{} is not the same directory any more: {why}", .directory.display())]
pub(crate) struct Moved {
    directory: PathBuf,
    why: String,
}

/// A file that is no ordinary one: to open a pipe or a device may wait for ever.
#[derive(Debug, thiserror::Error)]
#[error("it is a pipe, a socket or a device, and no file")]
pub(crate) struct NoFile;

/// A directory, known by its file system and its number there.
#[derive(Debug, Clone)]
pub(crate) struct Rooted {
    inner: Arc<LocalFileSystem>,
    root: Arc<PathBuf>,
    known: (u64, u64),
}

fn known(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

impl Rooted {
    /// The directory as it is now; it has to exist.
    pub(crate) fn open(directory: &std::path::Path) -> Result<Self> {
        let inner = LocalFileSystem::new_with_prefix(directory)?.with_fsync(true);
        let root = fs::canonicalize(directory).map_err(|error| failed(error.into()))?;
        let found = root.metadata().map_err(|error| failed(error.into()))?;
        let known = known(&found);
        Ok(Rooted { inner: Arc::new(inner), root: Arc::new(root), known })
    }

    /// Whether it still is where it was.
    fn stands(&self) -> Result<()> {
        let moved =
            |why: String| failed(Box::new(Moved { directory: self.root.to_path_buf(), why }));
        match self.root.metadata() {
            Ok(found) if known(&found) == self.known => Ok(()),
            Ok(_) => Err(moved("another one is in its place".to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(moved("it is gone".to_owned()))
            }
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Whether an ordinary file is there, or nothing: what is odd is not opened.
    async fn is_file(&self, at: &Path) -> Result<()> {
        let path = self.inner.path_to_filesystem(at)?;
        // What cannot be looked at is told by whoever opens it.
        let found = tokio::task::spawn_blocking(move || fs::metadata(path)).await;
        let is_odd = |found: Metadata| !found.is_file() && !found.is_dir();
        match found.ok().and_then(io::Result::ok).is_some_and(is_odd) {
            true => Err(failed(Box::new(NoFile))),
            false => Ok(()),
        }
    }

    /// Where a key, or the folder of one, lies.
    fn base(&self, prefix: Option<&Path>) -> PathBuf {
        prefix.map_or_else(|| self.root.to_path_buf(), |prefix| self.root.join(prefix.as_ref()))
    }

    /// The place of a folder in the file system.
    pub(crate) fn place_of(&self, folder: &Path) -> PathBuf {
        self.base(Some(folder))
    }

    /// Whether the way to a key leads through a link: what lies there is somewhere else.
    pub(crate) async fn is_behind_a_link(&self, key: &Path) -> bool {
        let (mut at, key) = (self.root.to_path_buf(), key.clone());
        let work = move || {
            key.parts().any(|part| {
                at.push(part.as_ref());
                fs::symlink_metadata(&at).is_ok_and(|found| found.is_symlink())
            })
        };
        // Where nobody could look, it may lie anywhere.
        tokio::task::spawn_blocking(work).await.unwrap_or(true)
    }

    /// Files that are no objects.
    pub(crate) async fn strays(&self) -> Result<Vec<Stray>> {
        let root = self.root.to_path_buf();
        let work = move || walk::strays(root.clone(), root);
        let done = tokio::task::spawn_blocking(work).await.map_err(|error| failed(error.into()))?;
        done.map_err(|error| failed(error.into()))
    }

    /// Folders that may not be looked into, below it.
    pub(crate) async fn closed(&self) -> Result<Vec<PathBuf>> {
        let root = self.root.to_path_buf();
        let work = move || {
            let below = |path: PathBuf| path.strip_prefix(&root).map(PathBuf::from).ok();
            walk::all_closed(&root).into_iter().filter_map(below).collect()
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| failed(error.into()))
    }

    /// Removes what killed writers of this account left below `prefix` before a moment.
    pub(crate) async fn sweep(&self, prefix: &Path, before: SystemTime) -> Result<u64> {
        self.stands()?;
        let (root, base) = (self.root.to_path_buf(), self.base(Some(prefix)));
        let work = move || walk::sweep(root, base, before);
        let done = tokio::task::spawn_blocking(work).await.map_err(|error| failed(error.into()))?;
        done.map_err(|error| failed(error.into()))
    }

    /// A listing that ends well only if the directory is still what it was at its end.
    fn whole(
        &self,
        listing: impl FnOnce(&Self) -> BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Err(error) = self.stands() {
            return stream::iter([Err(error)]).boxed();
        }
        let this = self.clone();
        let end = stream::once(async move { this.stands().err().map(Err) });
        listing(self).chain(end.filter_map(|error| async move { error })).boxed()
    }
}

impl StoreError {
    /// That a folder may not be looked into.
    #[must_use]
    pub fn closed(place: &str) -> StoreError {
        let source = object_store::Error::PermissionDenied {
            path: place.to_owned(),
            source: "this account may not look into it".into(),
        };
        StoreError::Failed { verb: "look into", key: Path::from(place), source }
    }
}

pub(crate) fn failed(source: Box<dyn std::error::Error + Send + Sync>) -> object_store::Error {
    object_store::Error::Generic { store: "directory", source }
}

impl fmt::Display for Rooted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

#[async_trait]
impl ObjectStore for Rooted {
    async fn put_opts(&self, at: &Path, payload: PutPayload, o: PutOptions) -> Result<PutResult> {
        self.stands()?;
        let done = self.inner.put_opts(at, payload, o).await?;
        // What went into another directory in the meantime is not acknowledged.
        self.stands().map(|()| done)
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        o: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.stands()?;
        self.inner.put_multipart_opts(at, o).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.is_file(at).await?;
        let found = self.inner.get_opts(at, options).await;
        // What is absent from a directory that is gone is not known to be absent.
        self.stands().and(found)
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.is_file(at).await?;
        let found = self.inner.get_ranges(at, ranges).await;
        self.stands().and(found)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let base = self.base(prefix);
        self.whole(|this| walk::objects(this.root.to_path_buf(), base, None))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (base, after) = (self.base(prefix), Some(offset.clone()));
        self.whole(|this| walk::objects(this.root.to_path_buf(), base, after))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (root, base) = (Arc::clone(&self.root), self.base(prefix));
        let found = tokio::task::spawn_blocking(move || walk::directly(&root, &base)).await;
        self.stands()?;
        let found = found.map_err(|error| failed(error.into()))?;
        found.map_err(|error| failed(error.into()))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let standing = locations.and_then(move |at| {
            let stands = this.stands();
            async move { stands.map(|()| at) }
        });
        self.inner.delete_stream(standing.boxed())
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.stands()?;
        self.inner.copy_opts(from, to, options).await?;
        self.stands()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bucket;

    fn repository() -> (tempfile::TempDir, PathBuf, Bucket) {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("repository");
        fs::create_dir(&at).unwrap();
        let bucket = Bucket::new(Arc::new(Rooted::open(&at).unwrap()), "file:///repository");
        (folder, at, bucket)
    }

    fn is_moved<T: fmt::Debug>(done: std::result::Result<T, StoreError>) {
        assert_eq!(done.unwrap_err().code(), "store_moved");
    }

    #[tokio::test]
    async fn a_directory_that_went_is_not_made_again() {
        let (folder, at, bucket) = repository();
        let (key, other) = (Path::from("s/a"), Path::from("s/b"));
        bucket.put_read_back(&key, Bytes::from_static(b"one")).await.unwrap();
        fs::rename(&at, folder.path().join("elsewhere")).unwrap();
        let bytes = Bytes::from_static(b"two");
        is_moved(bucket.put_read_back(&other, bytes.clone()).await);
        is_moved(bucket.put(&other, bytes.clone()).await);
        is_moved(bucket.get(&key, 10).await);
        is_moved(bucket.list(None).try_collect::<Vec<_>>().await);
        is_moved(bucket.list(Some(&Path::from("s"))).try_collect::<Vec<_>>().await);
        is_moved(bucket.list_folders(&Path::from("s")).await);
        assert!(!at.exists(), "it was made again");
        // An empty one in its place, as a mount point is without its file system.
        fs::create_dir(&at).unwrap();
        is_moved(bucket.put_read_back(&other, bytes.clone()).await);
        is_moved(bucket.get(&key, 10).await);
        assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
        fs::remove_dir(&at).unwrap();
        fs::rename(folder.path().join("elsewhere"), &at).unwrap();
        bucket.put_read_back(&other, bytes).await.unwrap();
        assert_eq!(bucket.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 2);
    }
}
