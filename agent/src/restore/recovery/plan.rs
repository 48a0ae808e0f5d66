//! What there is, and the plan that leads to the target.

use std::collections::BTreeMap;

use anyhow::Result;
use drctl_model::{BackupId, SourceId};
use drctl_policies::recovery::{RecoveryPlan, Target, Want, Warning, made, plan as plan_recovery};
use jiff::Timestamp;

use super::{RecoveryRequest, Refusal};
use crate::engine::wal::lost_log;
use crate::engine::{LogArchives, Pieces, Replay};
use crate::host::Setup;
use crate::log::LogStore;
use crate::repository::removed_of::removed_of;
use crate::repository::{Passed, Repository, losses};
use crate::restore::cluster::{forks, left_out, plan_digest};
use crate::restore::known::{Known, known};
use crate::restore::place::check_target;

/// What is worth knowing while it is planned.
#[derive(Debug)]
pub enum PlanNote {
    /// A backup, or an object of the log, does not count: which, and why.
    PassedOver(String),
    /// The backup that was asked for is used, whatever was found of it.
    UsedDespite(String),
    /// Whether another cluster of the source leads to the target is not known, for this reason.
    OthersUnknown(anyhow::Error),
    /// So many segments of the log could not be read: only their replay shows what they ask for.
    SegmentsUnread(usize),
}

/// A plan, with what it was made of: nothing is left to decide.
pub struct Planned<'a> {
    /// What was asked for.
    pub request: RecoveryRequest,
    /// The plan.
    pub plan: RecoveryPlan,
    /// The digest that stands for it.
    pub digest: String,
    /// Backups that it would have begun with, and that do not count: the newest first.
    pub passed: Vec<Passed>,
    /// The current cluster, where an earlier one is recovered that nobody named: it is the only one
    /// that can have lived at the target.
    pub current: Option<u64>,
    /// The other clusters that lead to the same time, where nobody named one.
    pub also: Vec<u64>,
    pub(super) setup: &'a Setup,
    pub(super) repository: Repository,
    pub(super) known: Known,
}

/// Plans a recovery: in the cluster that was asked for, else in the current one of the source. A time
/// that the current one did not live through is looked for in the one that did, where it can be no
/// other. Needs no key, and touches nothing.
///
/// # Errors
/// [`AgentError::Target`](crate::host::AgentError::Target) for a directory where no restore may go;
/// [`AgentError::UnknownSource`](crate::host::AgentError::UnknownSource); as [`Setup::repository`]
/// and [`known`]; [`AgentError::NoBackup`](crate::host::AgentError::NoBackup) for one that is not
/// there.
pub async fn plan<'a>(
    setup: &'a Setup,
    request: RecoveryRequest,
    tell: &mut (dyn FnMut(PlanNote) + Send),
) -> Result<Result<Planned<'a>, Refusal>> {
    let (mut planned, current) = plan_in(setup, request.clone(), tell).await?;
    if let Err(Refusal::NoPlan { lived: Some(lived), .. }) = &planned
        && nothing_is_hidden(setup, &request, *lived).await?
    {
        let request = RecoveryRequest { system_id: Some(*lived), ..request };
        // Where that leads nowhere either, the refusal of what was asked for names the cluster.
        if let (Ok(earlier), _) = plan_in(setup, request, tell).await? {
            planned = Ok(Planned { current: Some(current), ..earlier });
        }
    }
    Ok(planned)
}

/// Whether all is there that this host's catalog knows of a source, and that its signed manifests name, and
/// nothing that was removed on purpose can have been of another cluster at a time: what is gone may have been
/// of one of which nothing else tells.
async fn nothing_is_hidden(setup: &Setup, request: &RecoveryRequest, lived: u64) -> Result<bool> {
    let RecoveryRequest { source, target: Target::Time(at), .. } = request else {
        return Ok(false);
    };
    let repository = setup.repository().await?;
    let Some(cache) = setup.log_cache(&repository).await else { return Ok(false) };
    // Who cannot look cannot know.
    let lost = losses::look_for_losses(setup, &repository, &cache, source).await;
    if !lost.is_ok_and(|lost| lost.is_empty()) {
        return Ok(false);
    }
    let removed = removed_of(&repository, source).await;
    Ok(removed.is_ok_and(|removed| none_hides(&removed, lived, *at)))
}

/// Whether the clusters of which something was removed are that one, or were made after a time; of each it is known
/// when the earliest backup that was removed began.
fn none_hides(removed: &BTreeMap<Option<u64>, Timestamp>, lived: u64, at: Timestamp) -> bool {
    let is_later = |of: u64, first: Timestamp| made(of).min(first) > at;
    removed.iter().all(|(of, first)| of.is_some_and(|of| of == lived || is_later(of, *first)))
}

/// Plans a recovery in one cluster, and tells which, whose base has all its objects, and whose log can
/// be replayed as far as its records tell: a backup that is known not to be whole is passed over, and
/// the next older one that leads there is used. Needs no key, and touches nothing.
///
/// # Errors
/// As [`plan`].
async fn plan_in<'a>(
    setup: &'a Setup,
    request: RecoveryRequest,
    tell: &mut (dyn FnMut(PlanNote) + Send),
) -> Result<(Result<Planned<'a>, Refusal>, u64)> {
    if let Some(directory) = &request.directory {
        check_target(setup, directory)?;
    }
    // It tells where the server's programs are: without it no plan could be run.
    setup.source(request.source.as_str())?;
    let repository = setup.repository().await?;
    let cache = setup.log_cache(&repository).await;
    let wanted = (Want::of(Some(&request.target)), request.system_id);
    let mut known = known(setup, &repository, &request.source, cache.as_ref(), wanted).await?;
    // What is missing may have lived at any time.
    let remembers = cache.as_ref().is_some_and(|cache| setup.forgotten(cache).is_none());
    let mut all_known =
        remembers && known.refused.is_empty() && known.newer.is_empty() && !known.had_more();
    if let Some(cache) = &cache {
        let lost = lost_log(cache, &request.source, known.system_id).await?;
        known.archive = known.archive.once_up_to(lost);
        all_known &= cache.lost(Some(&request.source)).await?.is_empty();
    }
    if let Some(backup) = &request.backup {
        let chosen = losses::find(setup, &repository, Some(&request.source), backup).await?;
        known.archive = known.archive.only(&chosen.manifest.backup);
    }
    let chosen = request.backup.as_ref().and(known.archive.chosen());
    let despite = chosen.and_then(|base| known.told_of(base));
    for reason in &known.refused {
        tell(match despite.as_ref() == Some(reason) {
            true => PlanNote::UsedDespite(reason.clone()),
            false => PlanNote::PassedOver(reason.clone()),
        });
    }
    let with = (&repository, all_known);
    let planned = plan_on_whole(setup, with, &request, &mut known, tell).await?;
    let system_id = known.system_id;
    let planned = planned.map(|mut plan| {
        plan.warnings.extend(known.uncopied.map(Warning::NoCopyOf));
        let (digest, passed) = (plan_digest(&plan), known.passed_by(&plan));
        // Each cluster has a timeline 1.
        let is_named = request.system_id.is_some() || request.backup.is_some();
        let also = if is_named { Vec::new() } else { known.also(&request.target) };
        Planned { request, plan, digest, passed, current: None, also, setup, repository, known }
    });
    Ok((planned, system_id))
}

async fn plan_on_whole(
    setup: &Setup,
    (repository, mut all_known): (&Repository, bool),
    request: &RecoveryRequest,
    known: &mut Known,
    tell: &mut (dyn FnMut(PlanNote) + Send),
) -> Result<Result<RecoveryPlan, Refusal>> {
    let RecoveryRequest { source, target, timeline, .. } = request;
    loop {
        let planned = match plan_recovery(&known.archive, target, *timeline) {
            Ok(planned) => planned,
            Err(no) => {
                if let Err(error) = known.look_at_others(setup, source, target).await {
                    tell(PlanNote::OthersUnknown(error));
                }
                let leads = known.others.iter().filter(|other| other.reaches(&no.target, None));
                let elsewhere: Vec<u64> = leads.map(|other| other.system_id).collect();
                // Nobody but who names a bad one begins with it.
                let despite = known.archive.clone().despite_bad();
                let despite = plan_recovery(&despite, target, *timeline).ok().map(|plan| plan.base);
                let bad = despite.and_then(|base| known.told_of(&base));
                let lived = match (&elsewhere[..], &bad) {
                    ([only], None) if all_known && !is_named(request) => {
                        known.lived_alone(*only, target)
                    }
                    _ => None,
                };
                let before = elsewhere.is_empty() && !is_named(request);
                let known_before = known.known_before(target).filter(|_| before);
                return Ok(Err(Refusal::NoPlan { no, elsewhere, lived, known_before, bad }));
            }
        };
        if let Some(why) = lacks((repository, known), source, &planned.base).await? {
            tell(PlanNote::PassedOver(format!("the base backup {}: {why}", planned.base)));
            let at = known.base(&planned.base).cloned();
            let backup = planned.base.clone();
            known.passed.extend(at.map(|at| (at, Passed { backup, why })));
            known.archive = known.archive.clone().without(&planned.base);
            all_known = false;
            continue;
        }
        let Some(size) = known.base(&planned.base).map(|at| at.segment_size) else {
            return Ok(Ok(planned));
        };
        let log_store = LogStore::reader(repository, source);
        let own = Pieces { log_store, cache: None, identities: None };
        let archives = LogArchives::of(setup, known.stanza.as_ref(), own)?;
        let replay = Replay { system_id: known.system_id, size, legs: &planned.path };
        let (mut breaks, mut unread) = (Vec::new(), 0);
        for archive in archives.all() {
            let found = archive.requirements(&replay).await?;
            breaks.extend(found.breaks);
            unread += found.unread;
        }
        if breaks.is_empty() {
            if unread > 0 {
                tell(PlanNote::SegmentsUnread(unread));
            }
            return Ok(Ok(planned));
        }
        known.archive = known.archive.clone().broken_at(breaks);
    }
}

/// Whether something but the target says which cluster is meant.
fn is_named(request: &RecoveryRequest) -> bool {
    request.system_id.is_some() || request.timeline.is_some() || request.backup.is_some()
}

/// What the base of a plan lacks, wherever its files are kept; nothing where it lacks nothing.
async fn lacks(
    (repository, known): (&Repository, &Known),
    source: &SourceId,
    base: &BackupId,
) -> Result<Option<String>> {
    if let Some(why) = repository.is_lacking(source, base).await? {
        return Ok(Some(why));
    }
    let Some(stanza) = &known.stanza else { return Ok(None) };
    let found = repository.manifest(source, base).await?;
    match found.as_ref().and_then(|found| found.manifest.kind.external()) {
        Some(external) => stanza.lacks(external).await,
        None => Ok(None),
    }
}

impl Planned<'_> {
    /// The system identifier of the cluster that is recovered.
    #[must_use]
    pub fn system_id(&self) -> u64 {
        self.known.system_id
    }

    /// The same, where the source has had several, or it was named.
    #[must_use]
    pub fn cluster(&self) -> Option<u64> {
        let is_one = self.known.others.is_empty() && self.request.system_id.is_none();
        (!is_one).then_some(self.known.system_id)
    }

    /// What people call the key that signed the base.
    #[must_use]
    pub fn signer(&self) -> Option<String> {
        self.known.signed_by(&self.repository.trust, &self.plan.base)
    }

    /// Whether it holds all that was asked for: who asked for everything must not take less for it
    /// unless that was accepted, and where two timelines have commits of their own nothing but the name
    /// of one of them will do.
    ///
    /// # Errors
    /// [`Refusal::Forks`], [`Refusal::LeavesOut`].
    pub fn complete(&self) -> Result<(), Refusal> {
        complete(&self.plan, self.request.accept_loss)
    }

    /// Whether it is the plan that was agreed to, where one was.
    ///
    /// # Errors
    /// [`Refusal::Changed`].
    pub fn confirmed(&self) -> Result<(), Refusal> {
        match &self.request.confirmed {
            Some(confirmed) if *confirmed != self.digest => Err(Refusal::Changed {
                digest: self.digest.clone(),
                confirmed: confirmed.clone(),
                grows: self.plan.target == Target::Latest,
            }),
            _ => Ok(()),
        }
    }
}

fn complete(plan: &RecoveryPlan, accept_loss: bool) -> Result<(), Refusal> {
    let forks = forks(plan);
    if !forks.is_empty() {
        return Err(Refusal::Forks(forks));
    }
    let left_out = left_out(plan);
    match left_out.is_empty() || accept_loss {
        true => Ok(()),
        false => Err(Refusal::LeavesOut(left_out)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_hides_no_third_cluster() {
        // The identifiers of clusters that were made at these seconds.
        let [old, lived, new] = [50_u64, 100, 200].map(|second| second << 32);
        let at = Timestamp::from_second(150).unwrap();
        let (early, late) = (Timestamp::from_second(140).unwrap(), Timestamp::MAX);
        for (removed, expected) in [
            (&[][..], true),
            (&[(Some(lived), early), (Some(new), late)], true),
            (&[(Some(lived), early), (Some(old), late)], false),
            // Its host's clock was ahead when it was made.
            (&[(Some(new), early)], false),
            (&[(None, late)], false),
        ] {
            let removed = removed.iter().copied().collect();
            assert_eq!(none_hides(&removed, lived, at), expected, "{removed:?}");
        }
    }
}
