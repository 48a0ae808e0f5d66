//! A cluster, recovered in a scratch directory to a point that its log leads to.

use std::path::Path;

use anyhow::Result;
use drctl_model::{DrillPhase, Lsn, Manifest};
use drctl_policies::recovery::Target;

use super::blame::LeadsNowhere;
use super::clocks::Clocks;
use super::{Came, DrillRequest};
use crate::host::figures::count;
use crate::host::{Meter, Setup, Stop};
use crate::restore::cluster::Choice;
use crate::restore::recovery::{RecoveryRequest, Refusal, plan, prepare, refused, replay, resume};
use crate::restore::{Tried, outcome};

/// Recovers the cluster below a directory: with the newest backup to the end of its log, with any other one
/// up to a position.
///
/// # Errors
/// Whatever kept it from being tried, or its server from its target.
pub(super) async fn run(
    setup: &Setup,
    (request, manifest, directory): (&DrillRequest, &Manifest, &Path),
    until: Option<Lsn>,
    clocks: &mut Clocks,
    meter: &Meter,
    stop: &Stop,
) -> Result<(Came, Tried)> {
    let recovery = RecoveryRequest {
        source: request.source.clone(),
        target: until.map_or(Target::Latest, |lsn| Target::Lsn { lsn, inclusive: false }),
        timeline: None,
        system_id: manifest.kind.coordinates().map(|at| at.system_id),
        // Named, so that no other one is used where this one is damaged.
        backup: Some(manifest.backup.to_string()),
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
    let mut told = |note| tracing::debug!("drill: {note:?}");
    let planning = async {
        let planned = Box::pin(plan(setup, recovery, &mut told)).await?.map_err(blamed)?;
        planned.complete().map_err(blamed)?;
        Ok(planned)
    };
    let planned = stop.unless(planning).await?;
    let preparing = async {
        let prepared = Box::pin(prepare(&planned, false)).await?;
        prepared.fits(&planned).map_err(refused)?;
        Ok(prepared)
    };
    let prepared = stop.unless(preparing).await?;
    // They name databases.
    let differs = prepared.outlook.host.notes.len() as u64;
    let deviations = (differs > 0)
        .then(|| format!("{} of this host differ from the source's", count(differs, "property")));
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
    let deviations = deviations.into_iter().collect();
    Ok((Came { outcome, why: Vec::new(), server, deviations }, tried))
}

/// Why no recovery begins: where log is missing, or nothing leads to the point, the backup is to blame; which of
/// several servers is meant only people know.
fn blamed(refusal: Refusal) -> anyhow::Error {
    let nowhere = match &refusal {
        Refusal::LeavesOut(_) => true,
        Refusal::NoPlan { elsewhere, .. } => elsewhere.is_empty(),
        Refusal::Forks(_) | Refusal::Changed { .. } | Refusal::HostLacks(_) => false,
    };
    let error = refused(refusal);
    if nowhere { error.context(LeadsNowhere) } else { error }
}
