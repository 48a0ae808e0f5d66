//! The catalog as it is used: what was read and is wrong is set aside and made anew from the bucket; one
//! that cannot be read, or that a newer drctl wrote, is left alone, and work goes on without.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use drctl_catalog::{Catalog, CatalogError, Rebuild, beside};
use drctl_model::SourceId;
use rustix::fs::Access;
use rustix::io::Errno;

use super::named::note;
use super::{Inventory, Repository, inventory, meanwhile};
use crate::host::{Setup, SourceLock, crash_point, private};

/// Files that lie beside a catalog and belong to it.
pub(super) const BESIDE: [&str; 4] = ["-wal", "-shm", "-journal", ".lock"];

/// The catalog, for writing; made where there is none.
pub(crate) async fn open(setup: &Setup, repository: &Repository) -> Result<Catalog> {
    match setup.private_directory(&setup.config.paths.state_dir) {
        Err(error) if is_unwritable(&error) => {
            return elsewhere(setup, repository, &format!("{error:#}")).await;
        }
        placed => placed?,
    }
    let path = setup.catalog_path();
    let wrong = match sound(&path).await {
        Ok(catalog) => return fill_in_place(setup, catalog, repository).await,
        Err(error) => error,
    };
    let odd = [""].iter().chain(&BESIDE).any(|suffix| is_odd(&beside(&path, suffix)));
    match if odd { Remedy::Anew } else { remedy(&wrong) } {
        Remedy::None => Err(wrong).context("open the catalog"),
        Remedy::Elsewhere => elsewhere(setup, repository, &wrong.to_string()).await,
        Remedy::Anew => match in_place_of(&path, repository, &wrong).await {
            Err(error) if is_unwritable(&error) => {
                elsewhere(setup, repository, &wrong.to_string()).await
            }
            made => made,
        },
    }
}

/// The catalog, to be looked at; one that is wrong is first made anew, where the bucket can be read.
pub(crate) async fn known(setup: &Setup) -> Result<Catalog> {
    let path = setup.catalog_path();
    if doubtful(setup).exists()
        && let Err(error) = believe(setup).await
    {
        tracing::warn!("which backups count now was not checked again: {error:#}");
    }
    match rustix::fs::access(&path, Access::READ_OK) {
        Ok(()) => {}
        Err(errno @ (Errno::ACCESS | Errno::PERM)) => {
            let source = Box::new(io::Error::from(errno));
            return Err(CatalogError::Denied { path, source }).context("look into the catalog");
        }
        Err(_) if path.exists() => {}
        Err(_) => {
            return Err(CatalogError::Missing { path })
                .context("look into the catalog of this host");
        }
    }
    believed(setup)?;
    let looked = async {
        let catalog = Catalog::open_read_only(&path).await?;
        catalog.soundness().await?;
        Ok::<_, CatalogError>(catalog)
    };
    let wrong = match looked.await {
        Ok(catalog) if catalog.repository().await?.is_some() => {
            return meanwhile::caught_up(setup, catalog).await;
        }
        Ok(catalog) => {
            drop(catalog);
            return unfilled(setup).await;
        }
        Err(error) => error,
    };
    if remedy(&wrong) == Remedy::None {
        return Err(wrong).context("open the catalog");
    }
    match setup.repository().await {
        Ok(repository) => open(setup, &repository).await,
        Err(error) => {
            tracing::warn!(
                "the catalog cannot be made anew, as the bucket cannot be read: {error:#}"
            );
            Err(wrong).context("open the catalog")
        }
    }
}

/// That nobody but its owner can have written what the catalog says: whoever may could call a good
/// backup BAD, or a bad one good.
pub(crate) fn believed(setup: &Setup) -> Result<()> {
    let path = setup.catalog_path();
    private::believed(&path, private::author(&path)).context("use the catalog")
}

/// A catalog that was begun when the bucket was not reached yet: what that holds is learned now.
async fn unfilled(setup: &Setup) -> Result<Catalog> {
    let filled = async { open(setup, &setup.repository().await?).await };
    match filled.await {
        Ok(catalog) => Ok(catalog),
        Err(error) => {
            tracing::warn!(
                "the catalog knows no backup, as the bucket was not read since it was made: {error:#}"
            );
            Catalog::open_read_only(&setup.catalog_path()).await.context("open the catalog")
        }
    }
}

/// There as long as the bucket holds manifests that were not believed when the host joined, or not
/// understood: more of them may be, once the keys are right, and drctl is new enough.
fn doubtful(setup: &Setup) -> PathBuf {
    setup.config.paths.state_dir.join("not-all-believed")
}

/// Makes the catalog of a host that joins a repository, and notes whether all of that counts.
pub(crate) async fn acquaint(setup: &Setup, repository: &Repository) -> Result<Inventory> {
    let found = inventory(repository).await?;
    let forgotten = drctl_catalog::forgotten(&setup.catalog_path());
    let was_told = forgotten.exists();
    let _ = open(setup, repository).await?;
    if !was_told {
        // Whoever joins, also with a key that has signed before, knows that nothing is remembered.
        let _ = fs::remove_file(forgotten);
    }
    if !found.refused.is_empty() || !found.newer.is_empty() {
        let path = doubtful(setup);
        private::write(&path, "").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(found)
}

/// Learns what counts by now that did not when the host joined.
async fn believe(setup: &Setup) -> Result<()> {
    let repository = setup.repository().await?;
    let found = inventory(&repository).await?;
    let catalog = open(setup, &repository).await?;
    tell(&catalog, &found).await.context("tell the catalog what counts")?;
    match found.refused.first() {
        Some((source, backup, why)) => tracing::warn!(
            "{} manifest(s) do not count here, {source}/{backup} for one: {why}",
            found.refused.len()
        ),
        None if !found.newer.is_empty() => {}
        None => fs::remove_file(doubtful(setup))?,
    }
    Ok(())
}

/// The lock of a source; where the state directory takes none, in the runtime directory.
///
/// # Errors
/// [`AgentError::Busy`](crate::host::AgentError::Busy); the file system's.
pub(crate) fn lock(setup: &Setup, source: &SourceId) -> Result<SourceLock> {
    let (state, runtime) = (&setup.config.paths.state_dir, &setup.config.paths.runtime_dir);
    let taken = setup.private_directory(state);
    let taken = taken.and_then(|()| SourceLock::take_alone(state, runtime, source));
    match taken {
        Err(error) if is_unwritable(&error) => {
            tracing::warn!(
                "{} cannot be locked ({error:#}): another place is used",
                state.display()
            );
            setup.private_directory(runtime)?;
            SourceLock::take_alone(runtime, state, source)
        }
        taken => taken,
    }
}

/// A catalog that was opened and looked over.
async fn sound(path: &Path) -> Result<Catalog, CatalogError> {
    let catalog = Catalog::open(path).await?;
    catalog.soundness().await?;
    Ok(catalog)
}

/// Tells a catalog what the bucket holds, and what that names.
pub(super) async fn tell(catalog: &Catalog, found: &Inventory) -> Result<(), CatalogError> {
    catalog.adopt_all(&found.backups).await?;
    note(catalog, found).await;
    Ok(())
}

/// A new one, or one that somebody removed, learns what the bucket holds first.
async fn fill(catalog: Catalog, repository: &Repository) -> Result<Catalog> {
    fill_with(catalog, repository, |_| Ok(())).await
}

/// The same in its own place. A host that finds backups which it has signed had another one, that
/// somebody removed: nobody can tell what that remembered.
async fn fill_in_place(
    setup: &Setup,
    catalog: Catalog,
    repository: &Repository,
) -> Result<Catalog> {
    let own = setup.any_signing_key().ok().map(|key| key.verifying_key().keyid());
    let note = |found: &Inventory| {
        if !found.backups.iter().any(|backup| Some(&backup.signer) == own.as_ref()) {
            return Ok(());
        }
        let noted = private::write(&drctl_catalog::forgotten(&setup.catalog_path()), "");
        noted.context("note that a catalog was removed")
    };
    fill_with(catalog, repository, note).await
}

/// The same; `note` hears first what the bucket holds.
async fn fill_with(
    catalog: Catalog,
    repository: &Repository,
    note: impl FnOnce(&Inventory) -> Result<()>,
) -> Result<Catalog> {
    let catalog = catalog.with_hook(crash_point);
    if catalog.repository().await?.is_none() {
        let found = inventory(repository).await?;
        note(&found)?;
        tell(&catalog, &found).await.context("fill the catalog from the bucket")?;
    }
    catalog.claim(&repository.id).await.context("open the catalog")?;
    Ok(catalog)
}

/// The same in its own place. What lies beside it and is no file of a catalog is set aside by itself;
/// and that a catalog was set aside is noted, as nobody can tell what it remembered.
async fn in_place_of(
    path: &Path,
    repository: &Repository,
    wrong: &CatalogError,
) -> Result<Catalog> {
    let odd: Vec<&str> =
        BESIDE.into_iter().filter(|suffix| is_odd(&beside(path, suffix))).collect();
    if !odd.is_empty() && !is_odd(path) {
        for suffix in odd {
            let place = beside(path, suffix);
            let kept = set_aside(&place).with_context(|| format!("rename {}", place.display()))?;
            tracing::warn!("{} is no file: it was renamed to {}", place.display(), kept.display());
        }
        return fill(sound(path).await.context("open the catalog")?, repository).await;
    }
    anew(path, repository, wrong, |kept| {
        let noted =
            private::write(&drctl_catalog::forgotten(path), kept.as_os_str().as_encoded_bytes());
        noted.context("note that a catalog was set aside")
    })
    .await
}

/// Whether something is there that cannot be a file of a catalog.
fn is_odd(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(found) => !found.is_file(),
        // A link that leads nowhere, and not only one that this account may not follow.
        Err(error) => error.kind() != ErrorKind::PermissionDenied && path.is_symlink(),
    }
}

/// A catalog in place of one that is wrong: made from the bucket, with this host's job log as far
/// as it can still be read; `keeps` hears where the old one is kept, if not all of it could be.
async fn anew(
    path: &Path,
    repository: &Repository,
    wrong: &CatalogError,
    keeps: impl Fn(&Path) -> Result<()>,
) -> Result<Catalog> {
    let found = inventory(repository).await?;
    if matches!(wrong, CatalogError::Corrupt { .. }) {
        let rebuilt = async {
            let new = Rebuild::start(path, &repository.id).await?.with_hook(crash_point);
            new.add(&found.backups).await?;
            new.finish().await
        };
        match rebuilt.await {
            Ok(done) => {
                done.damaged.as_deref().map(&keeps).transpose()?;
                let kept =
                    done.damaged.map(|at| format!("; the old one is kept as {}", at.display()));
                let kept = kept.unwrap_or_default();
                tracing::warn!("the catalog was damaged, and was rebuilt ({wrong}){kept}");
                let catalog = sound(path).await.context("open the catalog")?;
                note(&catalog, &found).await;
                return fill(catalog, repository).await;
            }
            Err(error @ CatalogError::Busy { .. }) => {
                return Err(error).context("open the catalog");
            }
            Err(error) => tracing::debug!("the old catalog cannot be used: {error}"),
        }
    }
    keeps(path)?;
    let kept = set_aside(path).with_context(|| format!("set {} aside", path.display()))?;
    keeps(&kept)?;
    tracing::warn!(
        "the catalog cannot be used ({wrong}): it was renamed to {}, and rebuilt from the bucket",
        kept.display()
    );
    fill(sound(path).await.context("open the catalog")?, repository).await
}

/// Gives a catalog, and all that belongs to it, a name of its own.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut names = (1..1000).map(|n| beside(path, &format!(".aside-{n}")));
    let kept = names.find(|kept| kept.symlink_metadata().is_err());
    let kept = kept.ok_or(ErrorKind::AlreadyExists)?;
    for suffix in [""].iter().chain(&BESIDE) {
        match fs::rename(beside(path, suffix), beside(&kept, suffix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(kept)
}

/// A catalog in the runtime directory, for a while: the bucket and the server are well.
pub(crate) async fn elsewhere(
    setup: &Setup,
    repository: &Repository,
    why: &str,
) -> Result<Catalog> {
    let (state, runtime) = (&setup.config.paths.state_dir, &setup.config.paths.runtime_dir);
    tracing::warn!(
        "the catalog in {} cannot be used ({why}). What is done meanwhile is recorded in {}, which a restart \
         of this host empties",
        state.display(),
        runtime.display()
    );
    setup.private_directory(runtime)?;
    let path = meanwhile::path(setup);
    let catalog = match sound(&path).await {
        Err(error) if remedy(&error) == Remedy::Anew => {
            return anew(&path, repository, &error, |_| Ok(())).await;
        }
        opened => opened.context("open a catalog in the runtime directory")?,
    };
    fill(catalog, repository).await
}

/// What helps against an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// Nothing that could be done here.
    None,
    /// Another one.
    Anew,
    /// Another place.
    Elsewhere,
}

fn remedy(error: &CatalogError) -> Remedy {
    match error.code() {
        "catalog_corrupt" | "catalog_foreign" | "catalog_older" | "catalog_internal" => {
            Remedy::Anew
        }
        // It may be a good one that remembers, and is only not for us, or not now.
        "catalog_read_only"
        | "catalog_full"
        | "catalog_no_directory"
        | "catalog_newer"
        | "catalog_io" => Remedy::Elsewhere,
        // That of another repository may be needed where it is, and locks fail on a network.
        _ => Remedy::None,
    }
}

/// Whether a place cannot be written into, for a reason that has nothing to do with what is done.
pub(crate) fn is_unwritable(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        if let Some(error) = cause.downcast_ref::<CatalogError>() {
            return remedy(error) == Remedy::Elsewhere;
        }
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(
            kind,
            Some(
                ErrorKind::PermissionDenied
                    | ErrorKind::ReadOnlyFilesystem
                    | ErrorKind::StorageFull
                    | ErrorKind::QuotaExceeded
                    | ErrorKind::NotADirectory
                    | ErrorKind::AlreadyExists
            )
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_read_and_is_wrong_is_made_anew() {
        let path = PathBuf::from("catalog.db");
        let cannot = || Box::new(io::Error::other("unable to open database file"));
        let at = || path.clone();
        let cases = [
            (CatalogError::Corrupt { path: at(), source: cannot() }, Remedy::Anew),
            (CatalogError::Foreign { path: at() }, Remedy::Anew),
            (CatalogError::Io { verb: "open", path: at(), source: cannot() }, Remedy::Elsewhere),
            (CatalogError::Newer { path: at(), found: 9, known: 8 }, Remedy::Elsewhere),
            (CatalogError::ReadOnly { path: at(), source: cannot() }, Remedy::Elsewhere),
            (CatalogError::Denied { path: at(), source: cannot() }, Remedy::None),
        ];
        for (error, helps) in cases {
            assert_eq!(remedy(&error), helps, "{error}");
        }
    }
}
