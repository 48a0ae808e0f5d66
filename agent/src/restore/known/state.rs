//! Where a source's log stands, for `status`.

use std::collections::HashSet;

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::SourceId;
use drctl_policies::recovery::{RecoverableUntil, Warning, recoverable_until};

use super::{Beside, Copies, Known, learn};
use crate::engine::pgbackrest::only_there;
use crate::repository::{Memory, Repository};

/// Where a source's log stands.
pub(crate) struct LogState {
    /// How far it leads; nothing where there is no base backup, or no log.
    pub(crate) recoverable_until: Option<RecoverableUntil>,
    /// What lies among it and is not believed, with the reason.
    pub(crate) refused: Vec<String>,
    /// What of it only a newer drctl reads, with what to install.
    pub(crate) newer: Vec<String>,
}

/// Where the log of a source stands; its base backups are those that the catalog knows. What
/// `cache` knows of the log is not read again.
///
/// # Errors
/// The store's, the catalog's and pgBackRest's.
pub(crate) async fn log_state(
    repository: &Repository,
    source: &SourceId,
    catalog: &Catalog,
    cache: Option<&Catalog>,
    beside: Option<Beside<'_>>,
) -> Result<LogState> {
    // A broken chain is told of by itself.
    let mut backups = catalog.backups(Some(source)).await?;
    only_there(&mut backups, beside.as_ref().map(|beside| &*beside.archive.seen));
    let memory = Memory::of(catalog, Some(source)).await?;
    memory.mark(&mut backups);
    let copies = Copies::of(&backups, &mut Vec::new()).marked(source, &memory);
    let known = learn(repository, source, (copies, None), cache, Vec::new(), beside).await?;
    let Some(known) = known else {
        return Ok(LogState { recoverable_until: None, refused: Vec::new(), newer: Vec::new() });
    };
    let is_there = known.pieces > 0 || known.uncopied.is_some();
    let mut recoverable_until = recoverable_until(&known.archive).filter(|_| is_there);
    if let Some(recoverable_until) = &mut recoverable_until {
        recoverable_until.doubts.splice(0..0, known.uncopied.map(Warning::NoCopyOf));
    }
    let Known { mut refused, newer, .. } = known;
    let told: HashSet<&String> = newer.iter().collect();
    refused.retain(|why| !told.contains(why));
    Ok(LogState { recoverable_until, refused, newer })
}
