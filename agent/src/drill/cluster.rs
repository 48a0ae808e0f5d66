//! A cluster, recovered in a scratch directory to a point that its log leads to.

use std::path::Path;

use anyhow::Result;
use drctl_model::{DrillPhase, Manifest};
use drctl_policies::recovery::Target;
use jiff::Timestamp;

use super::clocks::Clocks;
use super::{Came, DrillRequest, Wanted, unless};
use crate::host::{Meter, Setup, Stop};
use crate::restore::cluster::Choice;
use crate::restore::recovery::{RecoveryRequest, plan, prepare, refused, replay, resume};
use crate::restore::{Tried, outcome};

/// Recovers the cluster below a directory: with the newest backup to the end of its log, with any other one
/// up to a moment.
///
/// # Errors
/// Whatever kept it from being tried, or its server from its target.
pub(super) async fn run(
    setup: &Setup,
    (request, manifest, directory): (&DrillRequest, &Manifest, &Path),
    until: Option<Timestamp>,
    clocks: &mut Clocks,
    meter: &Meter,
    stop: &Stop,
) -> Result<(Came, Tried)> {
    let recovery = RecoveryRequest {
        source: request.source.clone(),
        target: until.map_or(Target::Latest, Target::Time),
        timeline: None,
        system_id: None,
        backup: (request.wanted != Wanted::Latest).then(|| manifest.backup.to_string()),
        directory: Some(directory.to_owned()),
        identity: request.identity.clone(),
        then: Choice::Stop,
        confirmed: None,
        accept_loss: false,
        despite_missing: false,
        without_sandbox: false,
        preload: Vec::new(),
        resume: false,
    };
    let mut deviations = Vec::new();
    let mut told = |note| tracing::debug!("drill: {note:?}");
    let planning = async {
        let planned = Box::pin(plan(setup, recovery, &mut told)).await?.map_err(refused)?;
        planned.complete().map_err(refused)?;
        Ok(planned)
    };
    let planned = unless(stop, planning).await?;
    let preparing = async {
        let prepared = Box::pin(prepare(&planned, false)).await?;
        prepared.fits(&planned).map_err(refused)?;
        Ok(prepared)
    };
    let prepared = unless(stop, preparing).await?;
    deviations.extend(prepared.outlook.host.notes.iter().cloned());
    clocks.next(DrillPhase::Recovering);
    let mut state = resume(&planned).await?;
    let done = Box::pin(replay(&planned, prepared, &mut state, meter, stop)).await?;
    let tried = Tried {
        system_id: Some(planned.system_id()),
        timeline: Some(planned.plan.timeline),
        base: Some(planned.plan.base.clone()),
        target: planned.plan.target.to_string(),
    };
    let server = manifest.tools.get("server").cloned().unwrap_or_default();
    let outcome = outcome(&planned.plan, Ok(&done));
    Ok((Came { outcome, why: Vec::new(), server, deviations }, tried))
}
