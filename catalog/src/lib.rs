//! The catalog: a local SQLite cache of what the bucket holds, and this host's job log.
//!
//! The bucket is the truth. A catalog that is lost, damaged or doubted is made anew with
//! [`Rebuild`]; only the job log lives nowhere else, and it is carried over as far as it can be
//! read.
//!
//! One thread owns the database; [`Catalog`] is a handle that sends it calls. Several processes
//! may have one catalog open: writes wait for each other (5 seconds, then
//! [`CatalogError::Busy`]), reads wait for nobody. Beside `catalog.db` lie SQLite's `-wal` and
//! `-shm`, a `.lock` that keeps a rebuild apart from everybody else, and, after a rebuild of a
//! damaged catalog, `.damaged`.

mod backups;
mod carried;
mod check;
mod documents;
mod error;
mod expired;
mod findings;
mod image;
mod job_notes;
mod jobs;
mod logs;
mod lost;
mod named;
mod newer;
mod notices;
mod open;
mod orphans;
mod reading;
mod rebuild;
mod removed;
mod rows;
mod schema;
mod statements;
mod table_marks;
mod thread;
mod verified;
mod waits;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use drctl_model::RepositoryId;
use rusqlite::Connection;

pub use check::{Difference, diff};
pub use error::{CatalogError, Cause};
pub use findings::Standing;
pub use job_notes::KEPT;
pub use logs::{CachedLog, LogChange};
pub use lost::{Loss, Lost, UnknownLoss, Why};
pub use named::NamedBy;
pub use newer::Newer;
pub use notices::{AlertTest, ToldNotice};
pub use open::{beside, forgotten};
pub use reading::Reading;
pub use rebuild::{Rebuild, Rebuilt};
pub use verified::{Look, Looks, Subject};

use error::Fault;
use open::Home;
use thread::Worker;

/// Called at each of [`CRASH_POINTS`] and at [`CLAIMED`], so that a test can end the process there.
pub type Hook = fn(&'static str);

/// The moments at which a crash is most telling, in the order of a job and of a rebuild.
pub const CRASH_POINTS: &[&str] = &[
    "catalog-job-begun",
    "catalog-before-commit",
    "catalog-after-commit",
    "rebuild-before-rename",
    "rebuild-after-rename",
];

/// The moment at which a new catalog has just become that of its repository: whatever it knows by then is all
/// that it learns of what was before.
pub const CLAIMED: &str = "catalog-claimed";

pub(crate) fn no_hook(_: &'static str) {}

/// A handle of an open catalog; its clones are handles of the same.
///
/// Every verb is one transaction. A call whose future is dropped is either never made or made
/// whole. Dropping the last handle waits for the calls under way and closes the database.
#[derive(Clone)]
pub struct Catalog {
    worker: Arc<Worker<Home>>,
    /// How long each call waits for others.
    patience: Duration,
    hook: Hook,
    trust: String,
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog").field("path", &self.path()).finish_non_exhaustive()
    }
}

impl Catalog {
    /// Opens the catalog at `path` and brings it to the present version; makes it where there is
    /// none, readable by its owner only.
    ///
    /// A new one has no [`repository`](Self::repository): what the bucket holds is not in it yet.
    ///
    /// # Errors
    /// [`NoDirectory`](CatalogError::NoDirectory), [`Network`](CatalogError::Network),
    /// [`Foreign`](CatalogError::Foreign), [`Newer`](CatalogError::Newer); and those of any write.
    pub async fn open(path: &Path) -> Result<Self, CatalogError> {
        Self::open_within(path, open::PATIENCE).await
    }

    /// The same where no more than `patience` is waited for others, by this and by every write: for
    /// whoever must not be held up.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_within(path: &Path, patience: Duration) -> Result<Self, CatalogError> {
        let within = waits::patience(path, patience);
        let started = Worker::start(path, move |path| open::read_write(path, within)).await;
        Ok(Catalog::by(waits::noted(path, within, started)?, patience))
    }

    /// Opens an existing catalog for reading, also while another process writes to it. Where its place
    /// takes no writes, which SQLite needs to read as well, it is read into memory.
    ///
    /// # Errors
    /// [`Missing`](CatalogError::Missing), [`Older`](CatalogError::Older); and those of
    /// [`open`](Self::open). Verbs that write are refused with
    /// [`ReadOnly`](CatalogError::ReadOnly).
    pub async fn open_read_only(path: &Path) -> Result<Self, CatalogError> {
        Self::open_read_only_within(path, open::PATIENCE).await
    }

    /// The same where no more than `patience` is waited for one that is being rebuilt.
    ///
    /// # Errors
    /// As [`open_read_only`](Self::open_read_only).
    pub async fn open_read_only_within(
        path: &Path,
        patience: Duration,
    ) -> Result<Self, CatalogError> {
        let worker = Worker::start(path, move |path| open::read_only(path, patience)).await?;
        Ok(Catalog::by(worker, open::PATIENCE))
    }

    /// Reads an existing catalog into memory: what is written to it is lost when it is closed.
    ///
    /// # Errors
    /// As [`open_read_only`](Self::open_read_only).
    pub async fn open_in_memory(path: &Path) -> Result<Self, CatalogError> {
        let worker = Worker::start(path, open::in_memory).await?;
        Ok(Catalog::by(worker, open::PATIENCE))
    }

    fn by(worker: Worker<Home>, patience: Duration) -> Self {
        let worker = Arc::new(worker);
        Catalog { worker, patience, hook: no_hook, trust: String::new() }
    }

    /// Whether it was read into memory: what is written to it is lost when it is closed.
    ///
    /// # Errors
    /// [`Stopped`](CatalogError::Stopped).
    pub async fn is_in_memory(&self) -> Result<bool, CatalogError> {
        self.call(|connection| Ok(connection.path().is_none_or(str::is_empty))).await
    }

    /// Calls `hook` at the crash points, on the database's thread.
    #[must_use]
    pub fn with_hook(mut self, hook: Hook) -> Self {
        self.hook = hook;
        self
    }

    /// Tells who is trusted, as a digest: what others did not believe is not remembered against
    /// anything.
    #[must_use]
    pub fn trusting(mut self, trust: String) -> Self {
        self.trust = trust;
        self
    }

    /// The catalog's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.worker.path()
    }

    /// The repository that the catalog belongs to; none before the first
    /// [`claim`](Self::claim).
    ///
    /// # Errors
    /// [`Corrupt`](CatalogError::Corrupt), [`Busy`](CatalogError::Busy), [`Io`](CatalogError::Io).
    pub async fn repository(&self) -> Result<Option<RepositoryId>, CatalogError> {
        self.call(|connection| schema::repository(connection)).await
    }

    /// Makes sure that the catalog is that of `repository`; a new one becomes it.
    ///
    /// # Errors
    /// [`OtherRepository`](CatalogError::OtherRepository); and those of any write.
    pub async fn claim(&self, repository: &RepositoryId) -> Result<(), CatalogError> {
        let (path, repository, hook) = (self.path().to_owned(), repository.clone(), self.hook);
        self.call(move |connection| {
            // Most calls find it claimed: no write lock for those.
            if schema::repository(connection)?.as_ref() == Some(&repository) {
                return Ok(());
            }
            let transaction = schema::write(connection)?;
            schema::claim(&transaction, &path, &repository)?;
            transaction.commit()?;
            hook(CLAIMED);
            Ok(())
        })
        .await
    }

    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, CatalogError> {
        let within = waits::patience(self.path(), self.patience);
        let done = self.worker.call(move |home| {
            home.connection.busy_timeout(within)?;
            work(&mut home.connection)
        });
        let done = waits::noted(self.path(), within, done.await);
        if matches!(done, Err(CatalogError::Corrupt { .. })) {
            open::note_doubt(self.path());
        }
        done
    }
}
