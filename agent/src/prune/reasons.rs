//! Why nothing of a source may go now, for whoever asks without a plan: what the catalog knows is not read again.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use drctl_catalog::{Catalog, Lost};
use drctl_model::{BackupId, BackupSummary, SourceId, newest_first};
use drctl_store::layout;
use futures_util::{StreamExt as _, stream};

use super::blocked::{Doubts, Reasons, blocked, forbidden, unknown};
use super::holdings::{Weight, still_lost, weights, without_manifest, without_strangers};
use crate::host::Setup;
use crate::jobs::own_attempts;
use crate::repository::drills::newest_in_doubt;
use crate::repository::faults::{is_bad_manifest, is_newer};
use crate::repository::losses::is_of;
use crate::repository::statements::Statements;
use crate::repository::{MANIFESTS_AT_ONCE, Memory, Repository};

/// How many attempts are looked at that the catalog does not know, newest first.
const UNKNOWN: usize = 100;

/// The reasons, as the plan of a removal has them: what was `said` of the source, and what is
/// `lost` of it, was looked for just now.
///
/// # Errors
/// The store's, the catalog's.
pub(crate) async fn reasons(
    setup: &Setup,
    repository: &Repository,
    catalog: &Catalog,
    (source, said, lost): (&SourceId, &Statements, Vec<Lost>),
) -> Result<Reasons> {
    let now = setup.clock.now();
    let (mut doubts, mut backups) = (Doubts::default(), catalog.backups(Some(source)).await?);
    let weights = read(repository, source, (&mut backups, &lost), &mut doubts).await?;
    without_strangers(catalog, (source, now), &mut doubts).await?;
    Memory::of(catalog, Some(source)).await?.mark(&mut backups);
    let backups = newest_first(backups);
    let (_, unfinished) = without_manifest(repository, catalog, source, &weights).await?;
    let attempts: Vec<BackupId> = unfinished.iter().map(|(id, _)| id.clone()).collect();
    let own = own_attempts(setup, catalog, (source, &attempts), None).await?;
    doubts.unfinished = unknown(source, unfinished, (&own, &lost));
    doubts.drill = newest_in_doubt(repository, source, now).await?;
    doubts.lost = still_lost(catalog, source, lost).await?;
    let mut found = blocked(setup, repository, catalog, (source, &backups), doubts).await?;
    found.lasting.extend(forbidden(said));
    Ok(found)
}

/// Reads the manifests of attempts that the catalog does not know, and of backups that are lost or not what
/// they were; gives what lies there of attempts that have none.
async fn read(
    repository: &Repository,
    source: &SourceId,
    (backups, lost): (&mut Vec<BackupSummary>, &[Lost]),
    doubts: &mut Doubts,
) -> Result<BTreeMap<BackupId, Weight>> {
    let known: BTreeSet<BackupId> = backups.iter().map(|one| one.backup.clone()).collect();
    let is_lost = |one: &BackupSummary| lost.iter().any(|lost| is_of(lost, one));
    let (gone, there) = std::mem::take(backups).into_iter().partition::<Vec<_>, _>(is_lost);
    *backups = there;
    let mut wanted = repository.attempts(source).await?;
    wanted.retain(|id| !known.contains(id));
    wanted.truncate(UNKNOWN);
    wanted.extend(gone.into_iter().map(|one| one.backup));
    let reading = wanted.into_iter().map(|id| async move {
        let found = repository.manifest(source, &id).await;
        (found, id)
    });
    let mut reading = stream::iter(reading).buffered(MANIFESTS_AT_ONCE);
    let mut open = Vec::new();
    while let Some((found, id)) = reading.next().await {
        match found {
            Ok(Some(proven)) => backups.push(proven.summary()),
            Ok(None) => open.push(id),
            Err(error) if is_newer(&error) => doubts.newer.push(id),
            Err(error) if is_bad_manifest(&error) => doubts.refused.push(id),
            Err(error) => return Err(error),
        }
    }
    drop(reading);
    let mut found = BTreeMap::new();
    for id in open {
        let of_it = weights(repository, &layout::backup(source, &id)).await;
        found.extend(of_it.context("list an attempt")?);
    }
    Ok(found)
}
