//! The server of a clone: a dump, loaded into an empty one, or a cluster, recovered and opened.

use std::sync::Arc;

use anyhow::Result;
use drctl_engines::pg::physical::{Layout, Scratch};
use drctl_engines::sandbox::Limits;
use drctl_model::{BackupId, BackupKind, DrillPhase};
use drctl_policies::recovery::Target;

use super::CloneRequest;
use crate::drill::choose::{Chosen, choose};
use crate::drill::clocks::Clocks;
use crate::drill::cluster::{Place, recovered};
use crate::drill::scratch_dir::ScratchDir;
use crate::drill::{DrillRequest, dump, floor};
use crate::host::{AgentError, Meter, Setup, Stop};
use crate::restore::cluster::Choice;
use crate::restore::{hidden_from_servers, sandbox};

/// A server that was made.
pub(super) struct Made {
    pub(super) scratch: Scratch,
    pub(super) backup: BackupId,
    /// What of it is shown, in words.
    pub(super) target: String,
    /// What is worth knowing of how it was made.
    pub(super) notes: Vec<String>,
    /// What it may take of the host, for as long as it runs: what is in its group ends with this.
    _limits: Option<Arc<Limits>>,
}

/// Makes it below a directory.
///
/// # Errors
/// Whatever kept it from being made.
pub(super) async fn make(
    setup: &Setup,
    request: &CloneRequest,
    scratch: &ScratchDir,
    meter: &Meter,
    stop: &Stop,
) -> Result<Made> {
    let wished = request.as_drill();
    let places = [scratch.path(), setup.config.paths.state_dir.clone()];
    if let Some(why) = places.iter().find_map(|place| floor::nearly_full(place)) {
        return Err(AgentError::Target(format!("{why}: no clone was made")).into());
    }
    meter.label("choosing a backup");
    let repository = stop.unless(setup.repository()).await?;
    let chosen = stop.unless(choose(setup, &repository, &wished)).await?;
    let limits = Limits::make(scratch.name()).map(Arc::new);
    let (made, full) = (
        by_kind(setup, (&wished, &chosen), (scratch, limits.as_ref().ok()), meter, stop),
        floor::reached(places.to_vec()),
    );
    let mut made = tokio::select! {
        made = made => made?,
        why = full => return Err(AgentError::Target(format!("{why}: the clone was given up")).into()),
    };
    let missing = Limits::missing(&limits);
    made.notes.extend(missing.map(|why| format!("it is not limited in what it takes: {why}")));
    Ok(Made { _limits: limits.ok(), ..made })
}

async fn by_kind(
    setup: &Setup,
    (wished, chosen): (&DrillRequest, &Chosen),
    (scratch, limits): (&ScratchDir, Option<&Arc<Limits>>),
    meter: &Meter,
    stop: &Stop,
) -> Result<Made> {
    let manifest = &chosen.backup.manifest;
    let (directory, backup) = (scratch.path().join("restored"), manifest.backup.clone());
    let what = (wished, manifest, directory.as_path());
    let mut clocks = Clocks::begin(DrillPhase::Planning);
    match &manifest.kind {
        BackupKind::Logical(_) => {
            let clocks = (&mut clocks, meter);
            let empty = Box::pin(dump::provision(setup, what, limits, clocks, stop)).await?;
            let mut clocks = Clocks::begin(DrillPhase::Loading);
            let of = (setup, wished, manifest);
            let loaded = Box::pin(dump::load(of, &empty, false, (&mut clocks, meter), stop)).await;
            let (told, restored) = loaded?;
            let failed = restored.iter().flat_map(|one| one.failed.clone());
            let notes = told.notes().into_iter().chain(failed).collect();
            let target = format!("the dump of {}", chosen.backup.summary().taken());
            Ok(Made { scratch: empty.scratch, backup, target, notes, _limits: None })
        }
        BackupKind::Full(_) | BackupKind::Incremental(_) | BackupKind::External(_) => {
            let system_id = manifest.kind.coordinates().map(|at| at.system_id);
            let directory = directory.as_path();
            let place = Place { setup, request: wished, system_id, directory, limits, meter, stop };
            let how = (chosen.at.map_or(Target::Latest, Target::Time), Choice::Promote);
            let done = recovered(&place, backup.as_str(), how, Some(&mut clocks)).await?;
            meter.label("starting the clone's server");
            let bin_dir = dump::programs(setup, wished, manifest).await?;
            let sandbox = sandbox(limits).await?;
            let hidden = hidden_from_servers(setup, wished.identity.as_deref());
            let layout = Layout::new(directory);
            let starting = Scratch::of_cluster(&layout, &bin_dir, (&sandbox, hidden));
            let starting = async { Ok(starting.await?) };
            let scratch = stop.unless(starting).await?;
            Ok(Made {
                scratch,
                backup,
                target: done.tried.target,
                notes: Vec::new(),
                _limits: None,
            })
        }
        BackupKind::Snapshot(_) => {
            let text = "no clone is made of what its own engine makes an archive of";
            Err(AgentError::Usage(text.to_owned()).into())
        }
    }
}
