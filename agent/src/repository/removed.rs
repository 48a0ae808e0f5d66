//! What was removed on purpose: a signed object in the bucket says so, of a backup (its tombstone) or of a
//! lineage's log up to a position (its floor). Whatever else is gone is a loss.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use anyhow::{Context as _, Result};
use drctl_catalog::Catalog;
use drctl_model::{
    BackupId, BackupSummary, Digest, InForce, Lineage, LogAt, LogFloor, SourceId, Tombstone, shown,
};
use drctl_store::{
    Key, MAX_REMOVED_BYTES, State, Stored, VerifyingKey, decode_log_floor, decode_tombstone, layout,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use tokio::sync::OnceCell;

use super::faults::{is_bad_manifest, is_missing};
use super::first::first;
use super::statements::statements;
use super::{MANIFESTS_AT_ONCE, Repository};

/// The tombstone of a backup; nothing where there is none that is believed.
///
/// # Errors
/// The [`StoreError`](drctl_store::StoreError) of a bucket that cannot be read.
pub async fn tombstone(
    repository: &Repository,
    source: &SourceId,
    backup: &BackupId,
) -> Result<Option<Tombstone>> {
    believed(&layout::tombstone(source, backup), read_tombstone(repository, source, backup).await)
}

async fn read_tombstone(
    repository: &Repository,
    source: &SourceId,
    backup: &BackupId,
) -> Result<Tombstone> {
    Ok(signed_tombstone(repository, source, backup).await?.0)
}

async fn signed_tombstone(
    repository: &Repository,
    source: &SourceId,
    backup: &BackupId,
) -> Result<(Tombstone, VerifyingKey)> {
    let key = layout::tombstone(source, backup);
    let Repository { bucket, trust, id, .. } = repository;
    let read = |stored: Stored| async move {
        let bytes = bucket.get_stored(&stored, MAX_REMOVED_BYTES as u64).await?;
        Ok(decode_tombstone(&bytes, trust, id, (source, backup))?)
    };
    // Another host may have been faster: what counts is which manifest it is of.
    let of = |one: &(Tombstone, VerifyingKey)| one.0.manifest_sha256;
    first(bucket, &key, read, |one, other| of(one) == of(other)).await
}

/// What was read of a key; nothing where there is nothing, or nothing that is believed.
fn believed<T>(key: &Key, found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) if is_bad_manifest(&error) => {
            tracing::warn!("{key} is not believed: {error:#}");
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("read {key}")),
    }
}

/// A backup that was removed on purpose, and that is here all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Back {
    pub(crate) source: SourceId,
    pub(crate) backup: BackupId,
    /// When it was removed.
    pub(crate) at: Timestamp,
    /// What people call the key that signed this.
    pub(crate) by: String,
}

impl Back {
    /// For people. A manifest that is here counts, whatever else is: so does what could not be removed.
    pub(crate) fn text(&self) -> String {
        format!(
            "it was removed at {:.0}, signed by {}, and its manifest is here again, or could not be removed: \
             it counts. `drctl verify {2}` tells whether all of it is there; `drctl prune {2}` removes it \
             where no rule keeps it",
            self.at,
            shown(&self.by, 100),
            self.source
        )
    }
}

/// Which of some backups of a source were removed on purpose, and are here all the same.
///
/// # Errors
/// The store's.
pub(crate) async fn back(
    repository: &Repository,
    source: &SourceId,
    of: impl IntoIterator<Item = BackupId>,
) -> Result<Vec<Back>> {
    let listed = tombstones(repository, source).await?;
    let of: Vec<BackupId> = of.into_iter().filter(|id| listed.contains(id)).collect();
    if of.is_empty() {
        return Ok(Vec::new());
    }
    let newest = newest(repository, source).await?;
    let older = of.into_iter().filter(|id| newest.as_ref().is_some_and(|newest| newest > id));
    let looking = stream::iter(older).map(|id| async move {
        let key = layout::tombstone(source, &id);
        let stone = believed(&key, signed_tombstone(repository, source, &id).await)?;
        let Some((stone, signer)) = stone else { return Ok(None) };
        let there = match repository.manifest(source, &id).await {
            Err(error) if is_bad_manifest(&error) => None,
            there => there?,
        };
        let is_it = there.is_some_and(|there| there.sha256 == stone.manifest_sha256);
        let (source, by) = (source.clone(), repository.trust.name(&signer));
        Ok::<_, anyhow::Error>(is_it.then_some(Back { source, backup: id, at: stone.removed, by }))
    });
    let found: Vec<_> = looking.buffered(MANIFESTS_AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// What tells whether manifests of a source were removed on purpose; each is read once.
pub(crate) struct OnPurpose<'a> {
    repository: &'a Repository,
    source: &'a SourceId,
    newest: OnceCell<Option<BackupId>>,
    in_force: OnceCell<InForce>,
}

impl<'a> OnPurpose<'a> {
    pub(crate) fn new(repository: &'a Repository, source: &'a SourceId) -> Self {
        OnPurpose { repository, source, newest: OnceCell::new(), in_force: OnceCell::new() }
    }

    /// Whether this manifest was. The newest one never is, by any policy, and none that is pinned or on legal hold
    /// by itself: of those a tombstone says nothing. A removal that a pin or a hold stopped has left one.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn is_removed(
        &self,
        (backup, manifest_sha256): (&BackupId, Digest),
    ) -> Result<bool> {
        let found = tombstone(self.repository, self.source, backup).await?;
        let is_of_it = found.is_some_and(|tombstone| tombstone.manifest_sha256 == manifest_sha256);
        Ok(is_of_it && self.may_be_removed(backup).await?)
    }

    /// Whether a backup may have been removed on purpose.
    async fn may_be_removed(&self, backup: &BackupId) -> Result<bool> {
        let newest = self.newest.get_or_try_init(|| newest(self.repository, self.source)).await?;
        if newest.as_ref().is_none_or(|newest| newest <= backup) {
            return Ok(false);
        }
        let read = async || {
            Ok::<_, anyhow::Error>(statements(self.repository, self.source).await?.in_force)
        };
        let in_force = self.in_force.get_or_try_init(read).await?;
        Ok(!in_force.names(backup))
    }
}

/// The newest backup whose manifest is believed, and not suspect: whatever else somebody puts there makes
/// no other one an older one.
async fn newest(repository: &Repository, source: &SourceId) -> Result<Option<BackupId>> {
    for id in repository.attempts(source).await? {
        match repository.manifest(source, &id).await {
            Ok(Some(found)) if found.summary().is_good() => return Ok(Some(id)),
            Ok(_) => {}
            Err(error) if is_bad_manifest(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The backups of a source of which there is an object in the place of a tombstone, believed or not.
///
/// # Errors
/// The store's.
pub(crate) async fn tombstones(
    repository: &Repository,
    source: &SourceId,
) -> Result<BTreeSet<BackupId>> {
    let mut found = BTreeSet::new();
    let each = |state: State| {
        found.extend(layout::tombstone_at(&state.key).map(|(_, backup)| backup));
        ControlFlow::Continue(())
    };
    let removals = layout::removals(source);
    let listing = repository.bucket.list_states(&removals, None, each);
    listing.await.context("list what was removed")?;
    Ok(found)
}

/// Up to where the log of each lineage of a source was removed on purpose. No policy removes log behind
/// the oldest base backup of its cluster that a catalog knows: nothing is believed that says so.
///
/// # Errors
/// The store's, and the catalog's.
pub(crate) async fn log_floors(
    repository: &Repository,
    catalog: &Catalog,
    source: &SourceId,
) -> Result<BTreeMap<Lineage, LogAt>> {
    let mut floors = signed_floors(repository, source).await?;
    if floors.is_empty() {
        return Ok(floors);
    }
    // What another host has removed since is still known here.
    let gone = removed(repository, catalog, source).await?;
    let mut known = catalog.backups(Some(source)).await?;
    known.retain(|backup| !gone.contains(&backup.backup));
    floors.retain(|lineage, before| {
        let cluster = lineage.timeline().map(|(system_id, _)| system_id);
        let bases = known.iter().filter_map(|backup| backup.kind.coordinates());
        let bases = bases.filter(|at| Some(at.system_id) == cluster);
        let oldest = bases.map(|at| LogAt::from(at.start)).min();
        oldest.is_some_and(|oldest| *before <= oldest)
    });
    Ok(floors)
}

/// The highest floor of each lineage that a trusted key has signed.
///
/// # Errors
/// The store's.
pub(crate) async fn signed_floors(
    repository: &Repository,
    source: &SourceId,
) -> Result<BTreeMap<Lineage, LogAt>> {
    floors_of(repository, source, log_floors_listed(repository, source).await?).await
}

/// The places of floors of each lineage at which something lies.
pub(super) async fn log_floors_listed(
    repository: &Repository,
    source: &SourceId,
) -> Result<BTreeMap<Lineage, BTreeSet<LogAt>>> {
    let mut listed: BTreeMap<Lineage, BTreeSet<LogAt>> = BTreeMap::new();
    let each = |state: State| {
        if let Some((_, lineage, before)) = layout::log_floor_at(&state.key) {
            listed.entry(lineage).or_default().insert(before);
        }
        ControlFlow::Continue(())
    };
    let removals = layout::removals(source);
    let listing = repository.bucket.list_states(&removals, None, each);
    listing.await.context("list what was removed")?;
    Ok(listed)
}

/// The highest one of each that a trusted key has signed.
pub(super) async fn floors_of(
    repository: &Repository,
    source: &SourceId,
    listed: BTreeMap<Lineage, BTreeSet<LogAt>>,
) -> Result<BTreeMap<Lineage, LogAt>> {
    let mut floors = BTreeMap::new();
    for (lineage, places) in listed {
        for before in places.into_iter().rev() {
            if log_floor(repository, source, &lineage, before).await?.is_some() {
                floors.insert(lineage, before);
                break;
            }
        }
    }
    Ok(floors)
}

/// That the log of a lineage was removed up to this very position; nothing where nobody whom we trust says
/// so.
///
/// # Errors
/// The [`StoreError`](drctl_store::StoreError) of a bucket that cannot be read.
pub async fn log_floor(
    repository: &Repository,
    source: &SourceId,
    lineage: &Lineage,
    before: LogAt,
) -> Result<Option<LogFloor>> {
    let key = layout::log_floor(source, lineage, before);
    believed(&key, read_log_floor(repository, source, (lineage, before)).await)
}

async fn read_log_floor(
    repository: &Repository,
    source: &SourceId,
    (lineage, before): (&Lineage, LogAt),
) -> Result<LogFloor> {
    let key = layout::log_floor(source, lineage, before);
    let Repository { bucket, trust, id, .. } = repository;
    let read = |stored: Stored| async move {
        let bytes = bucket.get_stored(&stored, MAX_REMOVED_BYTES as u64).await?;
        Ok(decode_log_floor(&bytes, trust, id, (source, lineage, before))?.0)
    };
    first(bucket, &key, read, |_, _| true).await
}

/// What lies in the place of tombstones and log floors and does not count, by its key.
///
/// # Errors
/// The store's.
pub(crate) async fn disbelieved(
    repository: &Repository,
    source: &SourceId,
) -> Result<Vec<(Key, anyhow::Error)>> {
    let mut keys = BTreeSet::new();
    let each = |state: State| {
        keys.insert(state.key);
        ControlFlow::Continue(())
    };
    let removals = layout::removals(source);
    let listing = repository.bucket.list_states(&removals, None, each);
    listing.await.context("list what was removed")?;
    let looking = stream::iter(keys).map(|key| async move {
        match read(repository, source, &key).await {
            Err(error) if is_bad_manifest(&error) => Ok(Some((key, error))),
            Err(error) if !is_missing(&error) => Err(error).with_context(|| format!("read {key}")),
            _ => Ok(None),
        }
    });
    let found: Vec<_> = looking.buffered(MANIFESTS_AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Whether what lies under a key counts; what is neither a tombstone nor a log floor is none of ours.
pub(super) async fn read(repository: &Repository, source: &SourceId, key: &Key) -> Result<()> {
    if let Some((_, backup)) = layout::tombstone_at(key) {
        read_tombstone(repository, source, &backup).await?;
    } else if let Some((_, lineage, before)) = layout::log_floor_at(key) {
        read_log_floor(repository, source, (&lineage, before)).await?;
    }
    Ok(())
}

/// Which of the backups that a catalog knows of a source, or that signed documents name, were removed on
/// purpose, as [`OnPurpose`] has it: the bucket has their tombstones and not their manifests.
///
/// # Errors
/// The store's, and the catalog's.
pub(crate) async fn removed(
    repository: &Repository,
    catalog: &Catalog,
    source: &SourceId,
) -> Result<BTreeSet<BackupId>> {
    let listed = tombstones(repository, source).await?;
    if listed.is_empty() {
        return Ok(BTreeSet::new());
    }
    let known = catalog.backups(Some(source)).await?;
    let row = |backup: BackupSummary| (backup.backup, backup.manifest_sha256);
    let named = catalog.named(source).await?.into_iter().filter(|one| !one.forgotten);
    let named = named.map(|one| (one.named.backup, one.named.manifest_sha256));
    let asked: BTreeSet<(BackupId, Digest)> = known.into_iter().map(row).chain(named).collect();
    let lost = catalog.lost(Some(source)).await?;
    let missed = |id: &&BackupId| {
        let key = layout::manifest(source, id);
        lost.iter().any(|one| one.key == key.as_ref())
    };
    // Of what a catalog that was made anew misses it may not know which manifest it was.
    let is_known = |id: &&BackupId| asked.iter().any(|(known, _)| known == *id);
    let missed = listed.iter().filter(missed).filter(|id| !is_known(id));
    let missed: Vec<_> = missed.map(|id| (id.clone(), None)).collect();
    let asked = asked.into_iter().filter(|(id, _)| listed.contains(id));
    let asked: Vec<_> = asked.map(|(id, digest)| (id, Some(digest))).chain(missed).collect();
    // Nearly always all of them are taken out already.
    if asked.is_empty() {
        return Ok(BTreeSet::new());
    }
    let on_purpose = OnPurpose::new(repository, source);
    let looking = stream::iter(asked).map(|(id, digest)| {
        let on_purpose = &on_purpose;
        async move {
            let found = match tombstone(repository, source, &id).await? {
                Some(found) if digest.is_none_or(|digest| digest == found.manifest_sha256) => {
                    on_purpose.may_be_removed(&id).await?
                        && !repository.manifest_is_there(source, &id).await?
                }
                _ => false,
            };
            Ok::<_, anyhow::Error>(found.then_some(id))
        }
    });
    let found: Vec<_> = looking.buffered(MANIFESTS_AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}
