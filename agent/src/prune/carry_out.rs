//! Removes what a plan names, in an order that a crash at any point leaves sound: the tombstone, the
//! manifest, the data, the catalog's row. What was begun is brought to its end by the next run.

use std::ops::ControlFlow;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_catalog::Catalog;
use drctl_model::{BackupId, BackupSummary, Header, LogAt, LogFloor, Role, Tombstone, planted};
use drctl_store::layout::{self, Kind};
use drctl_store::{Key, SigningKey, State, StoreError, encode_log_floor, encode_tombstone};
use futures_util::{StreamExt as _, stream};

use super::blocked::forbidden;
use super::holdings::range_at;
use super::orphans::Orphan;
use super::plan::{LogCut, PrunePlan};
use super::pruned::{Kept, Pruned};
use crate::host::{AgentError, Setup, Stop, crash_point};
use crate::repository::removed::{log_floor, tombstone};
use crate::repository::statements::statements;
use crate::repository::{Repository, documents, leases};

/// How many objects are removed at once.
const AT_ONCE: usize = 16;

/// How many are listed before they are removed: a backup may have hundreds of thousands.
const LISTED: usize = 10_000;

/// Told where the store does not let an object of our own be removed.
const MAY_NOT: &str = "try to remove an object: credentials that may delete are needed, as they are or as \
    [repository.prune]; nothing was removed";

/// Removes what the plan names.
///
/// # Errors
/// [`AgentError::Usage`] for a source whose removals are blocked, and for a key that may not say that something is
/// removed; the store's: what was begun is brought to its end by the next run.
pub async fn carry_out(
    setup: &Setup,
    repository: &Repository,
    catalog: &Catalog,
    plan: &PrunePlan,
    stop: &Stop,
) -> Result<Pruned> {
    plan.may_go()?;
    let key = setup.signing_key()?;
    if !repository.trust.believes(&key.verifying_key(), &plan.source, Role::Prune) {
        let text = format!(
            "the signing key of this host may not sign removals for {}: its entry in `verifying_keys` \
             has `sources` without {}, or `roles` without `prune`; nothing was removed",
            plan.source, plan.source
        );
        return Err(AgentError::Usage(text).into());
    }
    repository.may_write().await?;
    let mut work = Work { setup, repository, catalog, plan, key, stop, done: Pruned::default() };
    match (work.all().await, work.done.so_far()) {
        (Ok(()), _) => Ok(work.done),
        (Err(error), Some(so_far)) => Err(error.context(so_far)),
        (Err(error), None) => Err(error),
    }
}

struct Work<'a> {
    setup: &'a Setup,
    repository: &'a Repository,
    catalog: &'a Catalog,
    plan: &'a PrunePlan,
    key: SigningKey,
    stop: &'a Stop,
    done: Pruned,
}

impl Work<'_> {
    async fn all(&mut self) -> Result<()> {
        let plan = self.plan;
        self.may_remove().await?;
        for rest in &plan.rest {
            if self.ends() {
                return Ok(());
            }
            self.may_go_on().await?;
            if self.data(&rest.backup).await? {
                self.done.also.push(format!("the rest of {}", rest.backup));
            }
            self.catalog.take_out(&plan.source, [rest.backup.clone()].into()).await?;
        }
        for orphan in plan.orphans.iter().filter(|orphan| orphan.goes) {
            if self.ends() {
                return Ok(());
            }
            self.may_go_on().await?;
            self.orphan(orphan).await?;
        }
        for one in plan.going() {
            if self.ends() {
                return Ok(());
            }
            let id = &one.summary.backup;
            self.may_go_on().await?;
            let removed = self.backup(&one.summary).await;
            removed.with_context(|| format!("remove {}/{id}", plan.source))?;
        }
        for cut in &plan.log {
            let Some(before) = cut.before else { continue };
            if self.ends() {
                return Ok(());
            }
            self.may_go_on().await?;
            self.log(cut, before).await.with_context(|| format!("remove {}", cut.called))?;
        }
        leases::sweep(self.repository, &plan.source, self.setup.clock.now()).await;
        Ok(())
    }

    /// That nobody has said since it was planned that something of it has to stay. It is asked again
    /// before whatever cannot be undone; whoever says it looks for a tombstone afterwards, so that one
    /// of both sees the other.
    async fn may_go_on(&self) -> Result<()> {
        let source = &self.plan.source;
        let said = statements(self.repository, source).await?;
        let gone = said.gone(&self.catalog.statements(source).await?);
        let gone = gone.into_keys().next().map(|key| format!("{key} is gone"));
        let forbidden = forbidden(&said).into_iter().map(|reason| reason.text).next();
        let claimed = || self.plan.claimed(&said.in_force, &self.done.gone);
        let leased = leases::in_force(self.repository, source, self.setup.clock.now()).await?;
        let Some(why) = gone.or(forbidden).or_else(claimed).or(leased) else { return Ok(()) };
        let text = format!(
            "{why}. Nothing more of {source} was removed: run `drctl prune {source}` to see what may go \
             now"
        );
        Err(AgentError::Usage(text).into())
    }

    /// Tries it on an object of its own: a tombstone of what then stays would hide that it is lost later.
    async fn may_remove(&self) -> Result<()> {
        if self.plan.is_empty() {
            return Ok(());
        }
        let (bucket, probe) = (&self.repository.bucket, layout::probe(rand::random()));
        bucket.put(&probe, Bytes::from_static(b"drctl")).await.context("try to write")?;
        for state in bucket.states_of(&probe).await? {
            // A rule of the bucket may lock whatever is written, and nothing that is older.
            let _ = bucket.remove(&state).await.context(MAY_NOT)?;
        }
        Ok(())
    }

    fn ends(&mut self) -> bool {
        self.done.stopped |= self.stop.is_requested();
        self.done.stopped
    }

    async fn backup(&mut self, backup: &BackupSummary) -> Result<()> {
        let (source, id) = (&self.plan.source, &backup.backup);
        let there = self.repository.manifest(source, id).await?;
        let is_another = there.as_ref().is_some_and(|there| there.sha256 != backup.manifest_sha256);
        if is_another {
            let text = format!("the manifest of {id} is not the one that was planned for any more");
            return Err(AgentError::Mismatch(text).into());
        }
        if there.is_none() && tombstone(self.repository, source, id).await?.is_some() {
            // Another host removes the same, and brings it to its end.
            return Ok(());
        }
        let late = planted("tombstone-behind-the-data");
        if !late && let Some(why) = self.bury(backup).await? {
            self.done.left.push((id.to_string(), why));
            return Ok(());
        }
        crash_point("prune-tombstone-put");
        self.may_go_on().await?;
        if planted("data-before-the-manifest") {
            let _ = self.data(id).await?;
        }
        let manifest = self.repository.bucket.states_of(&layout::manifest(source, id)).await?;
        // The one that was written first counts: while it is kept, the backup is there.
        for state in manifest.iter().rev() {
            if let Some(kept) = self.remove(state).await? {
                self.done.note(id.to_string(), kept);
                return Ok(());
            }
        }
        if self.repository.manifest_is_there(source, id).await? {
            let text = format!("the manifest of {id} is there again");
            return Err(AgentError::Mismatch(text).into());
        }
        crash_point("prune-manifest-gone");
        let acceptance = layout::acceptance(source, id);
        for state in &self.repository.bucket.states_of(&acceptance).await? {
            self.remove(state).await?;
        }
        let _ = self.data(id).await?;
        if late {
            let _ = self.bury(backup).await?;
        }
        crash_point("prune-data-gone");
        self.catalog.take_out(source, [id.clone()].into()).await?;
        self.done.gone.push(id.clone());
        Ok(())
    }

    /// Writes the tombstone of a manifest, where there is none that is believed; gives why that could not
    /// be done, where something else is in its place.
    async fn bury(&self, of: &BackupSummary) -> Result<Option<String>> {
        let (source, backup) = (&self.plan.source, &of.backup);
        let manifest_sha256 = of.manifest_sha256;
        let is_there = async || {
            let there = tombstone(self.repository, source, backup).await?;
            Ok::<_, anyhow::Error>(there.is_some_and(|one| one.manifest_sha256 == manifest_sha256))
        };
        if is_there().await? {
            return Ok(None);
        }
        let stone = Tombstone {
            header: Header::new([]),
            repository: self.repository.id.clone(),
            source: source.clone(),
            backup: backup.clone(),
            manifest_sha256,
            system_id: of.kind.system_id(),
            host: self.setup.host(),
            removed: self.setup.clock.now(),
        };
        let bytes = encode_tombstone(&stone, &self.key).context("sign the tombstone")?;
        let place = layout::tombstone(source, backup);
        match documents::put(self.repository, self.catalog, (source, &place), bytes).await {
            // Another host may have been faster.
            Err(StoreError::Conflict { .. }) if is_there().await? => Ok(None),
            Err(StoreError::Conflict { .. }) => Ok(Some(format!(
                "{place} is in the place of its tombstone, and no trusted key has signed that; \
                 look at it, and remove it"
            ))),
            put => put.map(|()| None).context("write the tombstone"),
        }
    }

    /// Removes what an attempt has left, if it is as it was when it was planned.
    async fn orphan(&mut self, orphan: &Orphan) -> Result<()> {
        let (source, id) = (&self.plan.source, &orphan.backup);
        let mut newest = None;
        let each = |state: State| {
            newest = newest.max(state.stored);
            ControlFlow::Continue(())
        };
        let folder = layout::backup(source, id);
        self.repository.bucket.list_states(&folder, None, each).await?;
        if newest > orphan.newest || self.repository.manifest_is_there(source, id).await? {
            let text = format!("the attempt {id} of {source} goes on: nothing more was removed");
            return Err(AgentError::Mismatch(text).into());
        }
        if self.data(id).await? {
            self.done.also.push(format!("what the attempt {id} had left"));
        }
        Ok(())
    }

    /// Removes all that lies in the folder of a backup whose manifest is gone; gives whether nothing of it
    /// was kept.
    async fn data(&mut self, id: &BackupId) -> Result<bool> {
        let source = &self.plan.source;
        let folder = layout::backup(source, id);
        // What drctl has not written there is none of ours.
        let ours = Kind::Data(source.clone(), id.clone());
        let kept = self.below(&folder, |state| layout::classify(&state.key) == ours).await?;
        let is_gone = kept.is_none();
        if let Some(kept) = kept {
            self.done.note(format!("some of the data of {id}"), kept);
        }
        self.repository.bucket.remove_empty_folders(&folder).await?;
        Ok(is_gone)
    }

    async fn log(&mut self, cut: &LogCut, before: LogAt) -> Result<()> {
        let source = &self.plan.source;
        let place = layout::log_floor(source, &cut.lineage, before);
        if !planted("floor-forgotten")
            && log_floor(self.repository, source, &cut.lineage, before).await?.is_none()
        {
            let floor = LogFloor {
                header: Header::new([]),
                repository: self.repository.id.clone(),
                source: source.clone(),
                lineage: cut.lineage.clone(),
                before,
                host: self.setup.host(),
                removed: self.setup.clock.now(),
            };
            let bytes = encode_log_floor(&floor, &self.key).context("sign the removal")?;
            let put = documents::put(self.repository, self.catalog, (source, &place), bytes);
            put.await.context("write that it is removed")?;
        }
        crash_point("prune-floor-put");
        let folder = layout::lineage(source, &cut.lineage);
        // What is empty is no piece, whatever its name says: it stays for whoever looks into that.
        let behind =
            if planted("log-behind-the-floor") { LogAt(before.0 + (1 << 20)) } else { before };
        let is_below = |state: &State| {
            state.bytes > 0 && range_at(state).is_some_and(|(_, end)| end <= behind)
        };
        let is_index = |state: &State| layout::log_index_at(&state.key).is_some();
        // An index tells where log ended: it goes before the pieces that it is of.
        let indexes = self.below(&folder, |state| is_index(state) && is_below(state)).await?;
        crash_point("prune-indexes-gone");
        let pieces = self.below(&folder, |state| !is_index(state) && is_below(state)).await?;
        match indexes.or(pieces) {
            Some(kept) => self.done.note(format!("some of {}", cut.up_to(before)), kept),
            None => self.done.also.push(cut.up_to(before)),
        }
        Ok(())
    }

    /// Removes all states below a folder that are meant, and gives why one is still there, where one is.
    async fn below(
        &mut self,
        folder: &Key,
        meant: impl Fn(&State) -> bool,
    ) -> Result<Option<Kept>> {
        let mut kept = None;
        loop {
            let mut some = Vec::new();
            let each = |state: State| {
                if meant(&state) {
                    some.push(state);
                }
                if some.len() < LISTED { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            self.repository.bucket.list_states(folder, None, each).await?;
            let before = self.done.objects;
            let bucket = &self.repository.bucket;
            let removing =
                some.iter().map(|state| async move { (bucket.remove(state).await, state) });
            let mut removing = stream::iter(removing).buffer_unordered(AT_ONCE);
            while let Some((removed, state)) = removing.next().await {
                kept = self.done.count(state, removed?).or(kept);
            }
            // What is kept is listed again and again.
            if some.is_empty() || kept.is_some() || self.done.objects == before {
                return Ok(kept);
            }
        }
    }

    /// Removes one state; gives why it is still there, where it is.
    async fn remove(&mut self, state: &State) -> Result<Option<Kept>> {
        let removed = self.repository.bucket.remove(state).await?;
        Ok(self.done.count(state, removed))
    }
}
