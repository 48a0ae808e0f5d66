//! What the bucket holds, as far as its manifests tell.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use anyhow::{Context as _, Result};
use drctl_catalog::{Catalog, Lost, Newer};
use drctl_model::{BackupId, BackupSummary, Named, SourceId};
use drctl_store::layout::{self, Kind};
use drctl_store::{Alarm, Key, State};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::chain::Family;
use super::count_and_size::Seen;
use super::deleted::tell;
use super::faults::{is_bad_manifest, is_newer};
use super::losses::is_lost;
use super::named::name_once;
use super::{Closed, MANIFESTS_AT_ONCE, Repository, everything};
use crate::host::Failure;

/// How many foreign keys an inventory names; a bucket may be full of them.
const FOREIGN_NAMED: usize = 1000;

/// What the bucket holds, as far as its manifests tell.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// Every backup that counts.
    pub backups: Vec<BackupSummary>,
    /// Every manifest that does not, with the reason.
    pub refused: Vec<(SourceId, BackupId, String)>,
    /// Every manifest that only a newer drctl understands, with what to install.
    pub newer: Newer,
    /// The same of the repository's marker.
    pub newer_marker: Option<String>,
    /// Attempts without a manifest: they never ended, or still run.
    pub orphans: Vec<(SourceId, BackupId)>,
    /// Keys that drctl did not write, the first thousand of them.
    pub foreign: Vec<String>,
    /// How many objects have such keys.
    pub foreign_objects: u64,
    /// Manifests behind a delete marker: the backup counts, and somebody tried to remove it.
    pub deleted: Vec<(SourceId, BackupId)>,
    /// Objects that were deleted and of which no state ever counted, where the bucket keeps them.
    pub(crate) never_counted: Vec<Key>,
    /// Incremental backups whose chain does not hold, with the reason: they cannot be restored.
    pub broken: Vec<(SourceId, BackupId, String)>,
    /// Backups of which other objects are listed than their manifests name, with what differs.
    pub lacking: Vec<(SourceId, BackupId, String)>,
    /// What the manifests of each source name, each once, and which one does.
    pub named: BTreeMap<SourceId, Vec<(Named, String)>>,
    /// What may not be looked into: its sources are left out.
    pub closed: Closed,
    /// What was seen of objects that somebody meddled with.
    pub alarms: Vec<Alarm>,
    /// Objects that were looked at.
    pub objects: u64,
}

/// Reads the whole bucket's list and every manifest in it, all versions where it keeps them.
///
/// # Errors
/// [`StoreError`](drctl_store::StoreError) of a bucket that cannot be read, also in part. What is wrong
/// with single manifests is in the inventory.
pub async fn inventory(repository: &Repository) -> Result<Inventory> {
    let found = inventory_of_open(repository).await?;
    found.closed.none()?;
    Ok(found)
}

/// The same of the sources of which all may be looked into.
///
/// # Errors
/// As [`inventory`].
pub(crate) async fn inventory_of_open(repository: &Repository) -> Result<Inventory> {
    let newer_marker = repository.newer_marker.clone();
    let closed = Closed::of(repository).await?;
    let mut found = Inventory { newer_marker, closed, ..Inventory::default() };
    let (mut seen, bucket) = (Seen::default(), &repository.bucket);
    let mut deleted = Vec::new();
    let each = |state: State| {
        found.take(&mut deleted, &mut seen, state);
        ControlFlow::Continue(())
    };
    bucket.list_states(&Key::default(), None, each).await.context("list the bucket")?;
    let Seen { data, manifests, hidden, .. } = seen;
    let sources: BTreeSet<SourceId> = manifests
        .iter()
        .chain(data.keys())
        .chain(&hidden)
        .map(|(source, _)| source.clone())
        .collect();
    let (mut committed, mut named) = (BTreeSet::new(), BTreeMap::new());
    let sources = sources.into_iter().filter(|source| !found.closed.holds(source));
    let sources: Vec<SourceId> = sources.collect();
    let mut all = everything(repository, sources);
    while let Some((source, id, proven)) = all.try_next().await? {
        committed.insert((source.clone(), id.clone()));
        match proven {
            Ok(proven) => {
                let at = (source, id);
                let there = data.get(&at).copied().unwrap_or_default();
                if let Some(why) = there.lacks(bucket, &at, proven.manifest.objects()) {
                    found.lacking.push((at.0.clone(), at.1, why));
                }
                name_once(named.entry(at.0).or_default(), &proven.manifest);
                found.backups.push(proven.summary());
            }
            Err(error) => {
                let why = Failure::of(&error).messages.join(": ");
                match is_newer(&error) {
                    true => drop(found.newer.insert((source, id), why)),
                    false => found.refused.push((source, id, why)),
                }
            }
        }
    }
    drop(all);
    let in_order = |names: HashMap<_, _>| {
        let mut names = Vec::from_iter(names);
        names.sort_unstable();
        names
    };
    found.named = named.into_iter().map(|(source, names)| (source, in_order(names))).collect();
    found.deleted = hidden.into_iter().filter(|at| committed.contains(at)).collect();
    found.never_counted = tell(repository, deleted).await?;
    let orphans = data.into_keys().filter(|at| !committed.contains(at));
    found.orphans = orphans.filter(|(source, _)| !found.closed.holds(source)).collect();
    found.backups.sort_by(|a, b| (&a.source, &a.backup).cmp(&(&b.source, &b.backup)));
    let family = Family::of(&found.backups);
    let broken = |backup: &BackupSummary| {
        let why = family.broken(backup)?;
        Some((backup.source.clone(), backup.backup.clone(), why))
    };
    let broken = found.backups.iter().filter_map(broken).collect();
    found.broken = broken;
    found.alarms = bucket.alarms();
    Ok(found)
}

/// How many attempts of a source are looked at that a catalog does not know, newest first.
const UNKNOWN: usize = 100;

/// Manifests of a source that do not count here, with the reason, and those that only a newer drctl
/// reads: of attempts that the catalog does not know, the newest.
///
/// # Errors
/// The store's.
pub(crate) async fn not_counted(
    repository: &Repository,
    source: &SourceId,
    known: &[BackupSummary],
) -> Result<(Vec<(SourceId, BackupId, String)>, Newer)> {
    let known = known.iter().filter(|one| one.source == *source).map(|one| &one.backup);
    let known: BTreeSet<&BackupId> = known.collect();
    let mut unknown = repository.attempts(source).await?;
    unknown.retain(|id| !known.contains(id));
    unknown.truncate(UNKNOWN);
    let read = |id: BackupId| async move { (repository.manifest(source, &id).await, id) };
    let mut read = stream::iter(unknown).map(read).buffered(MANIFESTS_AT_ONCE);
    let (mut refused, mut newer) = (Vec::new(), Newer::new());
    while let Some((manifest, id)) = read.next().await {
        let error = match manifest {
            Ok(_) => continue,
            Err(error) if is_bad_manifest(&error) => error,
            Err(error) => return Err(error),
        };
        let why = Failure::of(&error).messages.join(": ");
        match is_newer(&error) {
            true => drop(newer.insert((source.clone(), id), why)),
            false => refused.push((source.clone(), id, why)),
        }
    }
    Ok((refused, newer))
}

impl Inventory {
    /// Of one object the newest state comes first.
    fn take(&mut self, deleted: &mut Vec<Key>, seen: &mut Seen, state: State) {
        let is_there = state.latest && !state.deleted;
        self.objects += u64::from(is_there);
        let kind = layout::classify(&state.key);
        match &kind {
            Kind::Marker
            | Kind::Audit
            | Kind::Log(_)
            | Kind::Drill(_)
            | Kind::Acceptance(..)
            | Kind::Removed(_)
            | Kind::Statement(_)
                if state.latest && state.deleted =>
            {
                deleted.push(state.key);
            }
            Kind::Foreign if is_there => {
                self.foreign_objects += 1;
                if self.foreign.len() < FOREIGN_NAMED {
                    self.foreign.push(state.key.to_string());
                }
            }
            kind => seen.take(kind, &state),
        }
    }
}

/// The backups of a source that a catalog knows, but for those of which it is known that they are gone.
///
/// # Errors
/// The catalog's.
pub(crate) async fn there(
    catalog: &Catalog,
    source: &SourceId,
    vanished: &[Lost],
) -> Result<Vec<BackupSummary>> {
    let mut there = catalog.backups(Some(source)).await?;
    let expired = catalog.expired(Some(source)).await?;
    there.retain(|one| {
        let name = (one.source.clone(), one.backup.clone());
        !is_lost(vanished, one) && !expired.contains_key(&name)
    });
    Ok(there)
}
