//! A recovery by log that drctl itself hands over: of engines whose servers fetch none.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use drctl_model::{LogPart, LogPlace, SourceId, shown};
use drctl_policies::recovery::Target;

use super::{Refusal, named};
use crate::engine::{self, Choices, HandsLog, Route};
use crate::host::{AgentError, Meter, Setup, Stop};
use crate::log::LogStore;
use crate::repository::Memory;
use crate::restore::known::remembered;
use crate::restore::{BackupRequest, Destination, plan_backup, restore_backup};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct HandedRequest {
    /// Whose data.
    pub source: SourceId,
    /// The point to recover to.
    pub target: Target,
    /// The directory in which it is done, new or empty; a plan needs none.
    pub directory: Option<PathBuf>,
    /// The file of the identity; without one that of the configuration.
    pub identity: Option<PathBuf>,
    /// Whether a recovery of all that there is may leave something out.
    pub accept_loss: bool,
}

/// A recovery that was planned.
pub struct HandedPlan<'a> {
    /// What was asked for.
    pub request: HandedRequest,
    /// How it is done.
    pub route: Route,
    setup: &'a Setup,
    log_store: LogStore,
}

/// Whether the log of a source is handed over by drctl.
///
/// # Errors
/// [`AgentError::UnknownSource`].
pub fn is_handed(setup: &Setup, source: &SourceId) -> Result<bool> {
    let (_, source) = setup.source(source.as_str())?;
    Ok(engine::of(source).hands_log().is_some())
}

/// Chooses the snapshot and the log that lead to the target. Touches nothing.
///
/// # Errors
/// [`AgentError::UnknownSource`]; [`AgentError::NoPlan`] where nothing leads there; the store's.
pub async fn plan_handed(
    setup: &Setup,
    request: HandedRequest,
) -> Result<Result<HandedPlan<'_>, Refusal>> {
    let (_, source) = setup.source(request.source.as_str())?;
    let engine = engine::of(source);
    let hands = hands(engine.hands_log())?;
    let repository = setup.repository().await?;
    let memory = Memory::at_hand(setup, &repository, &request.source).await;
    let (backups, mut refused) = remembered(&repository, &request.source, &memory).await?;
    let cache = setup.log_cache(&repository).await;
    let log_store = LogStore::reader(&repository, &request.source);
    let choices = Choices { backups: &backups, log_store: &log_store, cache: cache.as_ref() };
    let hint = "`drctl list` shows the backups, `drctl verify` what of the log counts";
    let mut route = match hands.route(&choices, &request.target).await? {
        Ok(route) => route,
        Err(why) => return Err(AgentError::NoPlan(why, hint).into()),
    };
    route.refused.append(&mut refused);
    if !route.left_out.is_empty() && !request.accept_loss {
        return Ok(Err(Refusal::LeavesOut(route.left_out)));
    }
    Ok(Ok(HandedPlan { request, route, setup, log_store }))
}

fn hands(engine: Option<&dyn HandsLog>) -> Result<&dyn HandsLog> {
    let text = "a restored server of this source fetches its log by itself";
    Ok(engine.ok_or_else(|| AgentError::Usage(text.to_owned()))?)
}

/// Restores the snapshot, hands the log over, and proves that this came to the end of the route. Gives the
/// directory in which it is.
///
/// # Errors
/// As [`restore_backup`]; log that cannot be read or does not follow; [`AgentError::Mismatch`] where
/// the target was not reached: what is there is not to be used.
pub async fn replay_handed<'a>(
    planned: &'a HandedPlan<'_>,
    meter: &Meter,
    stop: &Stop,
) -> Result<&'a Path> {
    let HandedPlan { request, route, setup, log_store } = planned;
    let directory = named(request.directory.as_deref())?;
    let base = BackupRequest {
        source: request.source.clone(),
        backup: Some(route.base.to_string()),
        identity: request.identity.clone(),
        databases: Vec::new(),
        globals: true,
        destination: Destination::Files(directory.to_owned()),
        jobs: 1,
        missing: false,
        trusted: None,
        owner: true,
        prove: false,
    };
    let base = tokio::select! {
        planned = plan_backup(setup, base, false) => planned?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    restore_backup(&base, meter, stop).await?;
    let (_, source) = setup.source(request.source.as_str())?;
    let engine = engine::of(source);
    let hands = hands(engine.hands_log())?;
    let handing = hand_over((hands, directory), route, log_store, &base.request.identities);
    tokio::select! {
        handed = handing => handed?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    }
    let reached = hands.reached(directory).context("look how far the log was replayed")?;
    if reached != route.until {
        let text =
            format!("the log was replayed up to {reached}, and the plan ends at {}", route.until);
        return Err(AgentError::Mismatch(text).into());
    }
    Ok(directory)
}

async fn hand_over(
    (hands, directory): (&dyn HandsLog, &Path),
    route: &Route,
    log_store: &LogStore,
    identities: &drctl_store::Identities,
) -> Result<()> {
    for (start, end) in &route.pieces {
        let part = LogPart::Range { start: *start, end: *end };
        let place = LogPlace { lineage: route.lineage.clone(), part };
        let (_, bytes) = log_store.read(&place, identities).await?;
        hands.hand(directory, &bytes, route.until).with_context(|| {
            format!("replay the log of {} from {start}", shown(route.lineage.as_str(), 64))
        })?;
    }
    Ok(())
}
