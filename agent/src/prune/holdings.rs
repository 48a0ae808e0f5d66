//! What the bucket has of a source, as it is read before anything of it may go.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use anyhow::{Context as _, Result};
use drctl_catalog::{Catalog, Lost};
use drctl_model::{
    BackupId, BackupSummary, DrillOutcome, InForce, Lineage, LogAt, LogPart, Named, SourceId,
    Tombstone, newest_first, planted, shown,
};
use drctl_store::layout::{self, Kind};
use drctl_store::{Key, State};
use futures_util::TryStreamExt as _;
use jiff::Timestamp;

use super::blocked::{Doubts, blocked, forbidden, unknown};
use super::orphans::{Orphan, orphans};
use super::plan::Rest;
use crate::host::Setup;
use crate::host::locks::SourceLock;
use crate::jobs::own_attempts;
use crate::log::is_of_log;
use crate::repository::chain::Family;
use crate::repository::drills::NewestDrill;
use crate::repository::faults::is_newer;
use crate::repository::losses::{is_lost, look_for_losses};
use crate::repository::memory::NEWER;
use crate::repository::removed::{OnPurpose, tombstone, tombstones};
use crate::repository::statements::statements;
use crate::repository::{Memory, Repository, drills, everything, horizon};
use crate::restore::known::{Copies, Known, learn};

/// All that retention has to know of a source.
pub(super) struct Holdings {
    pub(super) source: SourceId,
    /// Its backups, the newest first.
    pub(super) backups: Vec<BackupSummary>,
    /// Those that count.
    pub(super) count: BTreeSet<BackupId>,
    /// Those that a drill has restored, with a good end.
    pub(super) proven: BTreeSet<BackupId>,
    /// What lies in the bucket of each attempt.
    pub(super) weights: BTreeMap<BackupId, Weight>,
    /// Its base backups and log, where there are any.
    pub(super) known: Option<Known>,
    /// Pieces and indexes of each lineage's log.
    pub(super) log: BTreeMap<Lineage, Vec<Piece>>,
    /// What is left of backups that were removed.
    pub(super) rest: Vec<Rest>,
    /// What attempts have left that never became backups.
    pub(super) orphans: Vec<Orphan>,
    /// What somebody said of it that stands: what is pinned, or on legal hold.
    pub(super) in_force: InForce,
    /// Why nothing may go now.
    pub(super) blocked: Vec<String>,
    /// Why nothing goes unless a person says so.
    pub(super) unattended: Option<String>,
}

/// What lies in the bucket of an attempt to back up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weight {
    pub(super) objects: u64,
    pub(super) bytes: u64,
    /// When the store first got its manifest; nothing where it does not tell, or there is none.
    pub(super) stored: Option<Timestamp>,
    /// When the store got the newest of its objects.
    pub(super) newest: Option<Timestamp>,
    /// Whether its manifest is there, in some state.
    pub(super) committed: bool,
}

/// A piece of log, or an index over some.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) end: LogAt,
    pub(super) bytes: u64,
}

/// Reads all of it.
///
/// # Errors
/// The store's, the catalog's: what cannot be read in full is no ground to remove anything.
pub(super) async fn holdings(
    setup: &Setup,
    repository: &Repository,
    catalog: &Catalog,
    (source, ours): (&SourceId, Option<&SourceLock>),
) -> Result<Holdings> {
    repository.bucket.removes_for_good().await?;
    let lost = look_for_losses(setup, repository, catalog, source).await?;
    let memory = Memory::of(catalog, Some(source)).await?;
    let mut doubts = Doubts::default();
    let mut backups = Vec::new();
    let mut all = everything(repository, vec![source.clone()]);
    while let Some((_, id, proven)) = all.try_next().await? {
        match proven {
            Ok(proven) => backups.push(proven.summary()),
            Err(error) if is_newer(&error) => doubts.newer.push(id),
            Err(_) => doubts.refused.push(id),
        }
    }
    drop(all);
    let now = setup.clock.now();
    without_strangers(catalog, (source, now), &mut doubts).await?;
    memory.mark(&mut backups);
    let backups = newest_first(backups);
    let family = Family::of(&backups);
    let counts = |one: &&BackupSummary| {
        one.is_good() && family.broken(one).is_none() && !is_lost(&lost, one)
    };
    let count = backups.iter().filter(counts).map(|one| one.backup.clone()).collect();
    drop(family);
    let weights = weights(repository, &layout::backups(source)).await?;
    let (rest, unfinished) = without_manifest(repository, catalog, source, &weights).await?;
    let attempts: Vec<BackupId> = unfinished.iter().map(|(id, _)| id.clone()).collect();
    let own = own_attempts(setup, catalog, (source, &attempts), ours).await?;
    let orphans = left_behind(setup, catalog, (source, &weights), (&attempts, &own)).await?;
    let log = listed_log(repository, source).await?;
    let copies = Copies::of(&backups, &mut Vec::new()).marked(source, &memory);
    let cache = Some(catalog);
    let known = learn(repository, source, (copies, None), cache, Vec::new(), None).await?;
    let proven = proven(repository, (source, now), &mut doubts).await?;
    doubts.unfinished = unknown(source, unfinished, (&own, &lost));
    doubts.stored = stored(&weights);
    doubts.lost = still_lost(catalog, source, lost).await?;
    let said = statements(repository, source).await?;
    let reasons = blocked(setup, repository, catalog, (source, &backups), doubts).await?;
    let forbidden = forbidden(&said).into_iter().map(|one| one.text);
    let blocked = reasons.all().cloned().chain(forbidden).collect();
    let unattended = reasons.unattended.map(|reason| reason.text);
    let (source, in_force) = (source.clone(), said.in_force);
    Ok(Holdings {
        source,
        backups,
        count,
        proven,
        weights,
        known,
        log,
        rest,
        orphans,
        in_force,
        blocked,
        unattended,
    })
}

/// Leaves out what is dated in the future and nobody whom we trust has signed, unless a manifest that this
/// host knows, or that others name, is in its place: it hides nothing, and would freeze the source for ever.
pub(super) async fn without_strangers(
    catalog: &Catalog,
    (source, now): (&SourceId, Timestamp),
    doubts: &mut Doubts,
) -> Result<()> {
    let horizon = BackupId::new(horizon(now), u64::MAX);
    if doubts.refused.iter().all(|id| *id <= horizon) {
        return Ok(());
    }
    let named = catalog.named(source).await?.into_iter().map(|one| one.named.backup);
    let known = catalog.backups(Some(source)).await?.into_iter().map(|one| one.backup);
    let ever: BTreeSet<BackupId> = named.chain(known).collect();
    doubts.refused.retain(|id| *id <= horizon || ever.contains(id));
    Ok(())
}

/// The backups that drills have restored, with a good end; and what the newest drill puts in doubt.
async fn proven(
    repository: &Repository,
    (source, now): (&SourceId, Timestamp),
    doubts: &mut Doubts,
) -> Result<BTreeSet<BackupId>> {
    let mut refused = Vec::new();
    let drills = drills(repository, source, &mut refused).await?;
    let refused = refused.iter().filter_map(|one| Some((one.drill.as_ref()?, one.code == NEWER)));
    doubts.drill = NewestDrill::of(drills.iter().map(|(drill, _)| drill), refused, now);
    let proven = drills.into_iter().filter_map(|(drill, _)| match drill.outcome {
        DrillOutcome::Proven { .. } | DrillOutcome::Equal(_) => drill.base,
        DrillOutcome::Inconclusive { .. } | DrillOutcome::Failed { .. } => None,
    });
    Ok(proven.collect())
}

/// What is lost, each in a few words: what was `found` before the log was read, and what of the log is gone
/// by what was read since, which the catalog was told.
pub(super) async fn still_lost(
    catalog: &Catalog,
    source: &SourceId,
    mut found: Vec<Lost>,
) -> Result<Vec<String>> {
    let is_log = |one: &Lost| is_of_log(source, &one.key);
    // What is only not trusted here is told as a manifest that is not believed.
    found.retain(|one| !is_log(one) && !one.is_distrusted());
    let kept = catalog.lost(Some(source)).await?.into_iter().filter(is_log);
    let log = kept.map(|one| shown(&one.why, 300));
    Ok(found.iter().map(|one| shown(&one.key, 200)).chain(log).collect())
}

/// When the store first got each manifest, where it tells.
fn stored(weights: &BTreeMap<BackupId, Weight>) -> BTreeMap<BackupId, Timestamp> {
    weights.iter().filter_map(|(id, weight)| Some((id.clone(), weight.stored?))).collect()
}

/// What a listing shows of each attempt.
pub(super) async fn weights(
    repository: &Repository,
    below: &Key,
) -> Result<BTreeMap<BackupId, Weight>> {
    let mut found: BTreeMap<BackupId, Weight> = BTreeMap::new();
    let each = |state: State| {
        let (id, is_manifest) = match layout::classify(&state.key) {
            Kind::Manifest(_, id) => (id, true),
            Kind::Data(_, id) => (id, false),
            _ => return ControlFlow::Continue(()),
        };
        let weight = found.entry(id).or_default();
        weight.objects += 1;
        weight.bytes = weight.bytes.saturating_add(state.bytes);
        weight.newest = weight.newest.max(state.stored);
        if is_manifest && !state.deleted {
            weight.committed = true;
            let earliest = weight.stored.into_iter().chain(state.stored).min();
            weight.stored = earliest;
        }
        ControlFlow::Continue(())
    };
    repository.bucket.list_states(below, None, each).await.context("list the backups")?;
    Ok(found)
}

/// What lies there without a manifest: rests of removed backups, and attempts that are not finished, with
/// the time of the newest object.
pub(super) async fn without_manifest(
    repository: &Repository,
    catalog: &Catalog,
    source: &SourceId,
    weights: &BTreeMap<BackupId, Weight>,
) -> Result<(Vec<Rest>, Vec<(BackupId, Option<Timestamp>)>)> {
    let listed = tombstones(repository, source).await?;
    // A tombstone alone does not say that there ever was a manifest: the attempt may still run.
    let named = catalog.named(source).await?.into_iter().map(|one| one.named);
    let named: BTreeSet<Named> = named.collect();
    let on_purpose = OnPurpose::new(repository, source);
    let (mut rest, mut unfinished) = (Vec::new(), Vec::new());
    for (id, weight) in weights.iter().filter(|(_, weight)| !weight.committed) {
        let stone = match listed.contains(id) {
            true => tombstone(repository, source, id).await?,
            false => None,
        };
        let is_rest = match stone {
            Some(Tombstone { backup, manifest_sha256, .. }) => {
                let of = (id, manifest_sha256);
                let was_there = named.contains(&Named { backup, manifest_sha256 });
                was_there && on_purpose.is_removed(of).await?
            }
            None => false,
        };
        match is_rest && !planted("rest-forgotten") {
            true => rest.extend(removable(repository, source, (id, weight)).await?),
            false => unfinished.push((id.clone(), weight.newest)),
        }
    }
    Ok((rest, unfinished))
}

/// What is left of a backup and can be removed; nothing where all of it lies behind links.
async fn removable(
    repository: &Repository,
    source: &SourceId,
    (id, weight): (&BackupId, &Weight),
) -> Result<Option<Rest>> {
    let mut rest = Rest { backup: id.clone(), objects: weight.objects, bytes: weight.bytes };
    if !repository.bucket.may_have_links() {
        return Ok(Some(rest));
    }
    let mut states = Vec::new();
    let each = |state| {
        states.push(state);
        ControlFlow::Continue(())
    };
    repository.bucket.list_states(&layout::backup(source, id), None, each).await?;
    (rest.objects, rest.bytes) = (0, 0);
    for state in states {
        let is_ours = matches!(layout::classify(&state.key), Kind::Data(..));
        if is_ours && !repository.bucket.is_behind_a_link(&state.key).await {
            rest.objects += 1;
            rest.bytes = rest.bytes.saturating_add(state.bytes);
        }
    }
    Ok((rest.objects > 0).then_some(rest))
}

/// What is left of attempts that have ended without a manifest, and of which nobody ever knew one.
async fn left_behind(
    setup: &Setup,
    catalog: &Catalog,
    (source, weights): (&SourceId, &BTreeMap<BackupId, Weight>),
    (attempts, own): (&[BackupId], &BTreeMap<BackupId, bool>),
) -> Result<Vec<Orphan>> {
    let running = own.iter().filter(|(_, over)| !**over).map(|(id, _)| id.clone());
    let named = catalog.named(source).await?.into_iter().map(|one| one.named.backup);
    let known = catalog.backups(Some(source)).await?.into_iter().map(|backup| backup.backup);
    let ever: BTreeSet<BackupId> = named.chain(known).chain(running).collect();
    let attempts = attempts.iter().filter(|id| !ever.contains(*id));
    let attempts: Vec<BackupId> = attempts.cloned().collect();
    let now = setup.clock.now();
    let first = catalog.note_orphans(source, now, attempts.iter().cloned().collect()).await?;
    Ok(orphans(&attempts, weights, &first, now))
}

/// The pieces of each lineage's log, and the indexes over them.
async fn listed_log(
    repository: &Repository,
    source: &SourceId,
) -> Result<BTreeMap<Lineage, Vec<Piece>>> {
    let mut found: BTreeMap<Lineage, Vec<Piece>> = BTreeMap::new();
    let each = |state: State| {
        if let Some((lineage, end)) = range_at(&state) {
            found.entry(lineage).or_default().push(Piece { end, bytes: state.bytes });
        }
        ControlFlow::Continue(())
    };
    let prefix = layout::logs(source);
    repository.bucket.list_states(&prefix, None, each).await.context("list the log")?;
    Ok(found)
}

/// Whose log a piece or an index is of, and where it ends; nothing for notes, which stay.
pub(super) fn range_at(state: &State) -> Option<(Lineage, LogAt)> {
    if let Some((_, place)) = layout::piece_at(&state.key) {
        return match place.part {
            LogPart::Range { end, .. } => Some((place.lineage, end)),
            LogPart::Note { .. } => None,
        };
    }
    let (_, index) = layout::log_index_at(&state.key)?;
    Some((index.lineage, index.end))
}
