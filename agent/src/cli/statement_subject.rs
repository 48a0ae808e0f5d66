//! Of which source or backup a statement is made, and what nothing can be stated of.

use anyhow::Result;
use drctl_model::{BackupId, InForce, SourceId, Stated};

use crate::engine;
use crate::host::{AgentError, Setup};
use crate::repository::Repository;
use crate::repository::find::named;
use crate::repository::losses::find;
use crate::repository::statements::statements;

/// Of which source or backup something is said.
pub(super) async fn subject(
    setup: &Setup,
    repository: &Repository,
    stated: Stated,
    what: &str,
) -> Result<(SourceId, Option<BackupId>)> {
    let of_source = match stated {
        Stated::Freeze | Stated::Unfreeze => true,
        Stated::Hold | Stated::Release => is_source(setup, repository, what).await?,
        Stated::Pin | Stated::Unpin => false,
    };
    if of_source {
        names_a_source(stated, what)?;
        let source = known(setup, repository, what).await?;
        if !stated.lifts() {
            let configured = setup.configured(what);
            let backups = setup.catalog(repository).await?.backups(Some(&source)).await?;
            let is_external = backups.iter().any(|one| one.kind.external().is_some());
            kept_elsewhere(
                is_external || configured.is_some_and(|(_, one)| engine::is_kept_elsewhere(one)),
                what,
            )?;
        }
        return Ok((source, None));
    }
    if stated.lifts() {
        // The backup itself may be gone.
        let (source, wanted) = named(None, what)?;
        return lifted(repository, stated, source, wanted).await;
    }
    let found = find(setup, repository, None, what).await?;
    kept_elsewhere(found.manifest.kind.external().is_some(), what)?;
    Ok((found.manifest.source, Some(found.manifest.backup)))
}

/// Refuses the name of a backup where a source is meant.
fn names_a_source(stated: Stated, what: &str) -> Result<()> {
    if !what.contains('/') && what.parse::<BackupId>().is_err() {
        return Ok(());
    }
    let text = format!(
        "`drctl {stated}` takes a source, and `{what}` is a backup: to keep one backup, `drctl pin {what}`, or \
         `drctl hold {what}`. Nothing was written"
    );
    Err(AgentError::Usage(text).into())
}

/// What another tool keeps it also expires, whatever is said here.
fn kept_elsewhere(is_external: bool, what: &str) -> Result<()> {
    if !is_external {
        return Ok(());
    }
    let text = format!(
        "pgBackRest keeps the backups of {what} and expires them by its own settings \
         (repo1-retention-full): drctl cannot keep them. Raise these settings, or copy the repository. \
         Nothing was written"
    );
    Err(AgentError::Usage(text).into())
}

async fn is_source(setup: &Setup, repository: &Repository, what: &str) -> Result<bool> {
    let Ok(source) = what.parse::<SourceId>() else { return Ok(false) };
    Ok(setup.configured(what).is_some() || repository.sources().await?.contains(&source))
}

/// A source that this host has, or the repository.
pub(super) async fn known(setup: &Setup, repository: &Repository, name: &str) -> Result<SourceId> {
    let source = super::source_id(name)?;
    if is_source(setup, repository, name).await? {
        return Ok(source);
    }
    let known = setup.config.sources.keys().cloned().collect();
    Err(AgentError::UnknownSource { source_name: name.to_owned(), known }.into())
}

/// The one backup of which something was said that can be lifted, and whose identifier begins so.
async fn lifted(
    repository: &Repository,
    stated: Stated,
    source: Option<SourceId>,
    wanted: &str,
) -> Result<(SourceId, Option<BackupId>)> {
    let sources = match source {
        Some(source) => vec![source],
        None => repository.sources().await?,
    };
    let mut found = Vec::new();
    for source in sources {
        let InForce { pins, holds, .. } = statements(repository, &source).await?.in_force;
        let of = if stated == Stated::Unpin { pins } else { holds };
        let fits = of.into_keys().filter(|id| id.as_str().starts_with(wanted));
        found.extend(fits.map(|id| (source.clone(), Some(id))));
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let is = if stated == Stated::Unpin { "pinned" } else { "on legal hold" };
            let text = format!("backup `{wanted}` is not {is}: nothing was written");
            Err(AgentError::Usage(text).into())
        }
        many => {
            let text = format!(
                "`{wanted}` fits {many} backups: give more characters, or SOURCE/BACKUP in full; nothing was written"
            );
            Err(AgentError::Usage(text).into())
        }
    }
}
