//! A cluster, recovered in a scratch directory to a point that its log leads to, and compared there with the next
//! base backup of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use drctl_engines::pg::Equality;
use drctl_engines::pg::physical::{ClusterShape, Soundness};
use drctl_engines::sandbox::Limits;
use drctl_model::{DrillNames, DrillOutcome, DrillPhase, Equal, Manifest, RowKey, shown};
use drctl_policies::recovery::Target;
use jiff::Timestamp;

use super::blame::LeadsNowhere;
use super::checks::questions;
use super::clocks::Clocks;
use super::scratch_dir::clear;
use super::which::Next;
use super::{Came, DrillRequest, amcheck_of, blame, checks, checks_of};
use crate::host::figures::count;
use crate::host::{Failure, Meter, Setup, Stop};
use crate::restore::cluster::{Choice, Proved, Proving};
use crate::restore::recovery::{RecoveryRequest, Refusal, plan, prepare, refused, replay, resume};
use crate::restore::{Tried, outcome};

/// The most things that are told of what is not equal.
const TOLD: usize = 10;

/// A cluster that was recovered.
pub(crate) struct Recovered {
    pub(crate) tried: Tried,
    outcome: DrillOutcome,
    deviations: Vec<String>,
    /// Bytes of the WAL that was replayed.
    log_bytes: u64,
    /// What was found by looking at it.
    proved: Proved,
}

/// What is needed for one recovery.
pub(crate) struct Place<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) request: &'a DrillRequest,
    pub(crate) system_id: Option<u64>,
    pub(crate) directory: &'a Path,
    pub(crate) limits: Option<&'a Arc<Limits>>,
    pub(crate) meter: &'a Meter,
    pub(crate) stop: &'a Stop,
}

/// What becomes of a cluster that is looked at.
fn looked_at(how: Proving) -> Choice {
    match how == Proving::default() {
        true => Choice::Stop,
        false => Choice::Prove(Box::new(how)),
    }
}

/// Recovers the cluster below a directory: with the newest backup to the end of its log; with any other one to
/// the end of the next base backup, which is then recovered to the same position, and both are compared.
///
/// # Errors
/// Whatever kept it from being tried, or its server from its target.
pub(super) async fn run(
    setup: &Setup,
    (request, manifest, directory): (&DrillRequest, &Manifest, &Path),
    (at, next, limits): (Option<Timestamp>, Option<&Next>, Option<&Arc<Limits>>),
    clocks: &mut Clocks,
    meter: &Meter,
    stop: &Stop,
) -> Result<(Came, Tried)> {
    let system_id = manifest.kind.coordinates().map(|at| at.system_id);
    let place = Place { setup, request, system_id, directory, limits, meter, stop };
    let server = manifest.tools.get("server").cloned().unwrap_or_default();
    // So that who has seen one digest can tell nothing of another.
    let key = next.map(|_| RowKey(rand::random()));
    let to = match (at, next) {
        (Some(at), _) => Target::Time(at),
        (_, Some(next)) => Target::Lsn { lsn: next.stop, inclusive: false },
        (_, None) => Target::Latest,
    };
    let asked = checks_of(setup, &request.source);
    let amcheck = amcheck_of(setup, &request.source);
    let how = Proving { digest: key, questions: questions(asked), amcheck };
    let how = (to.clone(), looked_at(how));
    let one = recovered(&place, manifest.backup.as_str(), how, Some(clocks)).await?;
    let Recovered { tried, outcome, deviations, log_bytes, proved } = one;
    let bytes = manifest.plain_bytes().saturating_add(log_bytes);
    let Proved { shape, answers, soundness, took } = proved;
    if !took.is_zero() {
        clocks.next_since(DrillPhase::Verifying, took);
    }
    let mut came = Came { bytes, server, deviations, ..Came::of(outcome, Vec::new()) };
    if let (Some(next), Some(found)) = (next, shape) {
        clocks.next(DrillPhase::Comparing);
        came = compared(&place, (came, next), (found, to, key)).await?;
    }
    let came = sound(came, soundness);
    Ok((checks::judged(came, asked, &answers), tried))
}

/// What it comes to with what PostgreSQL's own module says of indexes and tables.
fn sound(mut came: Came, found: Option<Soundness>) -> Came {
    let Some(found) = found else { return came };
    came.deviations.extend(found.gaps());
    if found.bad.is_empty() || !came.outcome.is_proven() {
        return came;
    }
    let first = "what was recovered is not sound".to_owned();
    came.why = std::iter::once(first).chain(found.bad).collect();
    Came { outcome: DrillOutcome::Failed { error: "amcheck".to_owned() }, ..came }
}

/// Recovers the next base backup to the same position, and compares both.
///
/// # Errors
/// [`AgentError::Interrupted`](crate::host::AgentError::Interrupted).
async fn compared(
    place: &Place<'_>,
    (came, next): (Came, &Next),
    (found, to, key): (ClusterShape, Target, Option<RowKey>),
) -> Result<Came> {
    let with = Some(next.backup.clone());
    let expected = async {
        clear(place.directory)?;
        let how = (to, looked_at(Proving { digest: key, ..Proving::default() }));
        let other = recovered(place, next.backup.backup.as_str(), how, None).await?;
        other.proved.shape.context("the base backup that it is compared with was not digested")
    };
    match expected.await {
        Ok(expected) => Ok(Came { with, ..judged(came, next, found.compared_with(&expected)) }),
        Err(error) if place.stop.is_requested() => Err(error),
        Err(error) => {
            let outcome = blame::outcome(&error, DrillPhase::Recovering);
            let failure = Failure::of(&error);
            let mut why = blame::why(&failure);
            why.iter_mut().for_each(|why| {
                *why = format!("base backup {}, to compare it with: {why}", next.backup.backup);
            });
            if matches!(outcome, DrillOutcome::Failed { .. }) {
                return Ok(Came { with, outcome, why, ..came });
            }
            // It was recovered all the same.
            let text = match failure.code {
                "no_backup" => "it could not be compared: the next base backup was gone",
                _ => "it could not be compared with the next base backup on this host",
            };
            tracing::warn!("{text}: {}", why.join("; "));
            let mut came = Came { why, ..came };
            came.deviations.push(format!("{text} ({})", failure.code));
            Ok(came)
        }
    }
}

/// What it comes to where both were recovered, and compared.
fn judged(came: Came, next: &Next, compared: Equality) -> Came {
    if !compared.unlike.is_empty() {
        let told = compared.unlike.iter().take(TOLD).map(|text| shown(text, 300));
        let with = &next.backup.backup;
        let first = format!("its WAL does not lead to what base backup {with} holds");
        let why = std::iter::once(first).chain(told).collect();
        let outcome = DrillOutcome::Failed { error: "mismatch".to_owned() };
        return Came { outcome, why, ..came };
    }
    let DrillOutcome::Proven { replayed, shows, counted, left_out, .. } = came.outcome else {
        return came;
    };
    let equal = Some(Equal {
        tables: compared.tables,
        rows: compared.rows,
        others: compared.others,
        only_counted: compared.counted.len() as u64,
    });
    let names =
        DrillNames { tables: compared.proven, counted: compared.counted, ..DrillNames::default() };
    let outcome = DrillOutcome::Proven { replayed, shows, counted, left_out, equal };
    Came { names, outcome, ..came }
}

/// What is asked of a recovery: to a target with one backup and no other one, whatever is damaged.
pub(super) fn recovery_of(
    request: &DrillRequest,
    (backup, system_id): (&str, Option<u64>),
    (target, directory): (Target, Option<PathBuf>),
    then: Choice,
) -> RecoveryRequest {
    RecoveryRequest {
        source: request.source.clone(),
        target,
        timeline: None,
        system_id,
        backup: Some(backup.to_owned()),
        directory,
        identity: request.identity.clone(),
        then,
        confirmed: None,
        accept_loss: false,
        despite_missing: false,
        without_sandbox: false,
        limits: None,
        preload: Vec::new(),
        resume: false,
    }
}

/// Recovers a cluster to a target, and does with it what is wished.
///
/// # Errors
/// Whatever kept it from being tried, or its server from its target.
pub(crate) async fn recovered(
    place: &Place<'_>,
    backup: &str,
    (target, then): (Target, Choice),
    clocks: Option<&mut Clocks>,
) -> Result<Recovered> {
    let Place { setup, request, system_id, directory, limits, meter, stop } = place;
    let at = (target, Some(directory.to_path_buf()));
    let recovery = recovery_of(request, (backup, *system_id), at, then);
    let recovery = RecoveryRequest { limits: limits.cloned(), ..recovery };
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
    if let Some(clocks) = clocks {
        clocks.next(DrillPhase::Recovering);
    }
    let mut state = resume(&planned).await?;
    let mut done = Box::pin(replay(&planned, prepared, &mut state, meter, stop)).await?;
    let tried = Tried {
        system_id: Some(planned.system_id()),
        timeline: Some(planned.plan.timeline),
        base: Some(planned.plan.base.clone()),
        target: planned.plan.target.to_string(),
    };
    let proved = done.proved.take().map(|proved| *proved).unwrap_or_default();
    let outcome = outcome(&planned.plan, Ok(&done));
    let log_bytes = planned.plan.log_bytes;
    Ok(Recovered {
        tried,
        outcome,
        deviations: deviations.into_iter().collect(),
        log_bytes,
        proved,
    })
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
