//! What leads on where a recovery failed.

use drctl_engines::EngineError;
use drctl_engines::backrest::BackRestError;
use drctl_engines::pg::physical::{is_beyond_this_host, is_unusable_place};
use drctl_model::BackupId;
use drctl_policies::recovery::{Target, plan};
use jiff::Timestamp;

use super::Planned;
use crate::engine::pgbackrest::StanzaView;
use crate::host::{Exit, Failure};
use crate::repository::Memory;
use crate::repository::faults::is_newer;
use crate::restore::cluster::Step;

/// What leads on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WayOn {
    /// A table that was to be taken out is not there: look at what there is.
    Look,
    /// The target, or what comes before it, around log that cannot be used, in a new directory.
    Around(Around),
    /// The same in another, new directory: this one is in the way of what the log makes.
    Elsewhere,
    /// The same, planned again, in a new directory: the base is not there any more.
    Anew,
    /// The same on a host that has the memory, in a new directory.
    LargerHost,
    /// The same again goes on where it ended.
    GoOn,
    /// The same from this older backup, in a new directory.
    Older(BackupId),
    /// This earlier time, in a new directory.
    Earlier(Timestamp),
    /// The base without any log, in a new directory.
    BaseAlone,
}

/// What leads around log that is damaged, or that only a newer drctl reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Around {
    /// The same request, now that it is known.
    Same,
    /// All before it, with the time of the last commit.
    Before(Option<Timestamp>),
}

/// What leads on where a recovery failed for this reason, and came no further than `step`.
pub async fn way_on(planned: &Planned<'_>, error: &anyhow::Error, step: Step) -> WayOn {
    let code = Failure::of(error).code;
    if code == "no_table" {
        return WayOn::Look;
    }
    let plan = &planned.plan;
    if step > Step::Extracting
        && let Some(around) = around(planned).await
    {
        return WayOn::Around(around);
    }
    // The server's last words have those of whoever brings it the log in them.
    if is_unusable_place(&format!("{error:#}")) {
        return WayOn::Elsewhere;
    }
    if code == "host_memory" && is_beyond_this_host(&format!("{error:#}")) {
        return WayOn::LargerHost;
    }
    if base_is_gone(planned).await {
        return WayOn::Anew;
    }
    // A restored server that lets nobody in does so again.
    if !is_lasting(error) && code != "auth" {
        return WayOn::GoOn;
    }
    let older = if step == Step::Extracting { older(planned) } else { None };
    match (older, plan.earlier) {
        (Some(older), _) => WayOn::Older(older),
        (None, Some(at)) => WayOn::Earlier(at),
        (None, None) => WayOn::BaseAlone,
    }
}

/// Whether pgBackRest has the base no more: it was expired meanwhile, or its stanza was made anew.
async fn base_is_gone(planned: &Planned<'_>) -> bool {
    if planned.known.stanza.is_none() {
        return false;
    }
    let Planned { setup, repository, request, plan, .. } = planned;
    let Ok(Some(base)) = repository.manifest(&request.source, &plan.base).await else {
        return false;
    };
    let stanza = StanzaView::of(setup, request.source.as_str()).await;
    match (base.manifest.kind.external(), stanza) {
        (Some(external), Ok(Some(stanza))) => !stanza.has(external),
        _ => false,
    }
}

/// An older backup that leads to the same target.
fn older(planned: &Planned<'_>) -> Option<BackupId> {
    let rest = planned.known.archive.clone().without(&planned.plan.base);
    let older = plan(&rest, &planned.plan.target, Some(planned.plan.timeline));
    older.ok().map(|plan| plan.base)
}

/// By now it may be known that log on the way is damaged, or only for a newer drctl.
async fn around(planned: &Planned<'_>) -> Option<Around> {
    let Planned { setup, repository, known, request, plan: planned, .. } = planned;
    let source = &request.source;
    let memory = Memory::at_hand(setup, repository, source).await;
    let (archive, _) = known.avoiding(repository, source, &memory).await;
    let leads = |target: &Target| plan(&archive, target, Some(planned.timeline)).ok();
    let before = leads(&Target::Latest).filter(|before| before.reach < planned.reach)?;
    let same = planned.target != Target::Latest && leads(&planned.target).is_some();
    Some(if same { Around::Same } else { Around::Before(before.last_commit.not_after) })
}

/// Whether the same again would fail in the same way: what is in the bucket, or what was reached,
/// is not what it must be.
fn is_lasting(error: &anyhow::Error) -> bool {
    // The server's last words have those of `wal fetch` in them.
    let words = format!("{error:#}");
    let told = ["is not what the manifest says", "and a later part is there"];
    let is_damaged = |cause: &(dyn std::error::Error + 'static)| {
        let own = cause.downcast_ref().and_then(EngineError::own);
        matches!(own, Some(BackRestError::Failed { exit, .. }) if exit.is_damage())
    };
    Failure::of(error).exit == Exit::Verification
        || is_newer(error)
        || told.iter().any(|text| words.contains(text))
        || error.chain().any(is_damaged)
}
