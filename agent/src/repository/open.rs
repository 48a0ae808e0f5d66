//! Repository and catalog, as the configuration names them.

use std::path::PathBuf;
use std::sync::Once;

use anyhow::Result;
use drctl_catalog::Catalog;

use super::{Repository, cache};
use crate::host::Setup;

/// Why what this host remembered is not known.
#[derive(Debug, Clone)]
pub enum Forgotten {
    /// The catalog that lies here cannot be used.
    Unread(PathBuf),
    /// One that was damaged, empty or deleted was made anew, and nobody has taken note of that yet.
    MadeAnew,
}

impl Setup {
    /// The repository, its marker read.
    ///
    /// # Errors
    /// As [`Setup::bucket`] and [`Repository::open`].
    pub async fn repository(&self) -> Result<Repository> {
        Repository::open(self.bucket()?, self.trust()?, self.config.repository.id.as_ref()).await
    }

    /// The catalog, for writing; made where there is none, made anew where it is wrong, and elsewhere
    /// for a while where its directory cannot be written.
    ///
    /// # Errors
    /// [`CatalogError`](drctl_catalog::CatalogError).
    pub async fn catalog(&self, repository: &Repository) -> Result<Catalog> {
        Ok(self.believing(cache::open(self, repository).await?))
    }

    /// A catalog that judges by the keys that are trusted here.
    pub(crate) fn believing(&self, catalog: Catalog) -> Catalog {
        catalog.trusting(self.trust().map(|trust| trust.digest()).unwrap_or_default())
    }

    /// The catalog, to be looked at.
    ///
    /// # Errors
    /// The catalog's, where there is none, or one that is wrong and cannot be made anew.
    pub(crate) async fn known_catalog(&self) -> Result<Catalog> {
        Ok(self.believing(cache::known(self).await?))
    }

    /// Whether a catalog is the one that remembers: one in another place knows only what the bucket
    /// holds now, and nothing of what is gone, failed or was refused.
    pub(crate) fn remembers(&self, catalog: &Catalog) -> bool {
        catalog.path() == self.catalog_path()
    }

    /// Why what this host remembered is not known, or not in full; nothing where it is.
    pub(crate) fn forgotten(&self, catalog: &Catalog) -> Option<Forgotten> {
        let path = self.catalog_path();
        if !self.remembers(catalog) {
            return Some(Forgotten::Unread(path));
        }
        drctl_catalog::forgotten(&path).exists().then_some(Forgotten::MadeAnew)
    }

    /// The catalog, for writing what a look found; none where there is none, or none that this account
    /// may write.
    pub(crate) async fn writable_catalog(&self) -> Option<Catalog> {
        let path = self.catalog_path();
        // What root writes into the directory of another account, that account could not use.
        let ours = path.exists() && self.private_directory(&self.config.paths.state_dir).is_ok();
        let opened = match ours {
            true => Catalog::open(&path).await,
            false => return None,
        };
        opened.inspect_err(|error| tracing::debug!("nothing is noted in the catalog: {error}")).ok()
    }

    /// The catalog, to remember in it what was verified of logs. None where there is none, or one
    /// of another repository; one that cannot be written is still read. All that it holds of logs
    /// can be had from the bucket, so that its failures are no errors.
    pub async fn log_cache(&self, repository: &Repository) -> Option<Catalog> {
        let path = self.catalog_path();
        if !path.exists() {
            return None;
        }
        let opened = match self.writable_catalog().await {
            Some(catalog) => Ok(catalog),
            None => match cache::believed(self) {
                Ok(()) => Catalog::open_read_only(&path).await.map_err(anyhow::Error::from),
                Err(error) => Err(error),
            },
        };
        let catalog = opened.inspect_err(forgotten).ok()?;
        let owner = catalog.repository().await.ok().flatten();
        owner.filter(|owner| *owner == repository.id).map(|_| self.believing(catalog))
    }
}

/// Tells, once, that what a catalog remembers is not known. It is heard with `--quiet` too: a choice
/// among backups may be another one than with it.
fn forgotten(error: &anyhow::Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::error!(
            "this host's record of lost and damaged backups cannot be read, so backups that are LOST or BAD are \
             not marked: {error:#}"
        );
    });
}
