//! A backup tried, and all that was made for that removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_engines::sandbox::Limits;
use drctl_model::{BackupKind, Digest, DrillOutcome, DrillPhase, DrillPoint, SourceId};
use drctl_store::{Identities, open_facts};
use jiff::Timestamp;
use tokio::time::timeout;

use super::choose::Chosen;
use super::clocks::{Clocks, Watched};
use super::scratch_dir::ScratchDir;
use super::{Came, DrillRequest, Wanted, blame, cluster, dump, floor};
use crate::host::{AgentError, Failure, Meter, Setup, Stop};
use crate::restore::Tried;

/// All that is known of a drill at its end.
pub(super) struct Done {
    pub(super) source: SourceId,
    pub(super) came: Came,
    pub(super) tried: Tried,
    pub(super) hint: Option<String>,
    pub(super) point: DrillPoint,
    pub(super) manifest_sha256: Option<Digest>,
    pub(super) lost_ms: Option<u64>,
    pub(super) cleaned: bool,
    /// Who can open the backup.
    pub(super) recipients: Vec<String>,
    /// Those of them whose identities did, each alone.
    pub(super) opened_by: Vec<String>,
}

/// What a recovery kit must give: without one of these it is not enough, whatever the backup is worth.
const OF_KIT: &[&str] = &[
    "bad_configuration",
    "bad_key",
    "malformed",
    "no_backup",
    "no_identity",
    "not_a_repository",
    "other_repository",
    "untrusted",
    "wrong_key",
];

impl Done {
    /// The same of one with a recovery kit that did not give what it must.
    pub(super) fn of_kit(mut self) -> Self {
        if let DrillOutcome::Inconclusive { error } = &self.came.outcome
            && OF_KIT.contains(&error.as_str())
        {
            let first = "the recovery kit is not enough".to_owned();
            self.came.why.insert(0, first);
            self.came.outcome = DrillOutcome::Failed { error: error.clone() };
        }
        self
    }

    /// What it comes to where an error ended it.
    pub(super) fn broke_off(
        (source, point): (&SourceId, DrillPoint),
        error: &anyhow::Error,
        phase: DrillPhase,
    ) -> Self {
        let failure = Failure::of(error);
        let (outcome, why) = (blame::outcome(error, phase), blame::why(&failure));
        let target = point.wanted.as_str().to_owned();
        Done {
            source: source.clone(),
            came: Came::of(outcome, why),
            tried: Tried { system_id: None, timeline: None, base: None, target },
            hint: blame::hint(failure),
            point,
            manifest_sha256: None,
            lost_ms: None,
            cleaned: false,
            recipients: Vec::new(),
            opened_by: Vec::new(),
        }
    }
}

/// The recipients of a backup whose identities are at hand, and open it.
fn opened_by(setup: &Setup, request: &DrillRequest, chosen: &Chosen) -> Vec<String> {
    let manifest = &chosen.backup.manifest;
    let identities = setup.identities(request.identity.as_deref()).ok().flatten();
    let all = identities.map(|ours| ours.one_by_one()).unwrap_or_default().into_iter();
    let opens = |(recipient, alone): (String, Identities)| {
        let is_one = manifest.recipients.contains(&recipient);
        (is_one && open_facts(manifest, &alone).is_ok()).then_some(recipient)
    };
    all.filter_map(opens).collect()
}

/// Tries it, and removes all that was made for that.
///
/// # Errors
/// [`AgentError::Interrupted`] alone: whatever else fails is what it came to.
pub(super) async fn try_and_clean(
    setup: &Setup,
    (request, chosen): (&DrillRequest, &Chosen),
    (scratch, started): (ScratchDir, Timestamp),
    (clocks, meter): (&mut Clocks, &Meter),
    stop: &Stop,
) -> Result<Done> {
    let tried = try_it(setup, (request, chosen), &scratch, (clocks, meter), stop).await;
    let phase = clocks.phase();
    clocks.next(DrillPhase::Cleaning);
    meter.label("cleaning up");
    let cleaned = scratch.remove().await;
    let point = chosen.point.clone();
    let source = request.source.clone();
    let mut done = match tried {
        Ok((came, tried)) => {
            let shows = shows(&came.outcome, chosen, request);
            let lost = shows.map(|at| started.duration_since(at).as_millis());
            let lost_ms = lost.map(|ms| u64::try_from(ms).unwrap_or(0));
            let opened_by = match came.outcome.is_proven() {
                true => opened_by(setup, request, chosen),
                false => Vec::new(),
            };
            Done {
                source,
                came,
                tried,
                hint: None,
                point,
                manifest_sha256: None,
                lost_ms,
                cleaned: false,
                recipients: Vec::new(),
                opened_by,
            }
        }
        // What fails because it is ended was ended.
        Err(_) if stop.is_requested() => {
            let interrupted = Err(AgentError::Interrupted.into());
            return match cleaned {
                Ok(()) => interrupted,
                Err(error) => interrupted.context(format!("{error:#}")),
            };
        }
        Err(error) => {
            let of = (&request.source, point);
            Done { tried: named(chosen), ..Done::broke_off(of, &error, phase) }
        }
    };
    if chosen.in_future && request.wanted == Wanted::Latest {
        let text = "the backup is dated in the future: how much would have been lost is not known";
        done.came.deviations.push(text.to_owned());
        done.lost_ms = None;
    }
    if let Err(error) = &cleaned {
        done.came.why.push(format!("{error:#}"));
    }
    if done.came.server.is_empty() {
        let tools = &chosen.backup.manifest.tools;
        done.came.server = tools.get("server").cloned().unwrap_or_default();
    }
    let recipients = chosen.backup.manifest.recipients.clone();
    let manifest_sha256 = Some(chosen.backup.sha256);
    Ok(Done { manifest_sha256, recipients, cleaned: cleaned.is_ok(), ..done })
}

/// What is tried of a backup, before more is known.
fn named(chosen: &Chosen) -> Tried {
    let manifest = &chosen.backup.manifest;
    let at = manifest.kind.coordinates();
    Tried {
        system_id: at.map(|at| at.system_id),
        timeline: at.map(|at| at.stop_timeline),
        base: Some(manifest.backup.clone()),
        target: chosen.point.wanted.as_str().to_owned(),
    }
}

/// The newest moment that was restored, where the newest was wanted.
fn shows(outcome: &DrillOutcome, chosen: &Chosen, request: &DrillRequest) -> Option<Timestamp> {
    let newest = request.wanted == Wanted::Latest;
    let taken = chosen.backup.summary().taken();
    match outcome {
        // Its log may tell of nothing that was committed behind it.
        DrillOutcome::Proven { shows, .. } => (*shows).max(Some(taken)).filter(|_| newest),
        DrillOutcome::Equal(_) => Some(taken).filter(|_| newest),
        DrillOutcome::Failed { .. } | DrillOutcome::Inconclusive { .. } => None,
    }
}

/// What is tried, and where.
type What<'a> = (&'a DrillRequest, &'a Chosen, &'a Path);

/// Why a drill is ended that nobody interrupted.
enum Ends {
    /// Somebody wishes for the end.
    Interrupted,
    /// It must not go on: why.
    For(String),
}

/// Tries it, until somebody wishes for the end, a disk that others need is nearly full, or it takes too long:
/// then it ends as it does by itself, its server too.
async fn try_it(
    setup: &Setup,
    (request, chosen): (&DrillRequest, &Chosen),
    scratch: &ScratchDir,
    (clocks, meter): (&mut Clocks, &Meter),
    stop: &Stop,
) -> Result<(Came, Tried)> {
    let directory = scratch.path().join("restored");
    let places = vec![scratch.path(), setup.config.paths.state_dir.clone()];
    let full = |places: &[PathBuf]| places.iter().find_map(|place| floor::nearly_full(place));
    if let Some(why) = full(&places) {
        return Err(AgentError::DrillSkipped(why).into());
    }
    let (stopper, ours) = Stop::new();
    let what = (request, chosen, directory.as_path());
    let phases = clocks.watched();
    let limits = Limits::make(scratch.name()).map(Arc::new);
    let mut trying = Box::pin(by_kind(setup, (what, &limits), (clocks, meter), &ours));
    let ends = tokio::select! {
        tried = &mut trying => {
            // A server may fill a disk faster than anybody looks.
            return tried.map_err(|error| match full(&places) {
                Some(why) => AgentError::DrillAborted(why).into(),
                None => error,
            });
        }
        ends = ends((places.clone(), request.within), phases, stop) => ends,
    };
    stopper.stop();
    let tried = trying.await;
    match ends {
        Ends::Interrupted => tried,
        Ends::For(why) => tried.map_err(|_| AgentError::DrillAborted(why).into()),
    }
}

/// Waits until it has to end.
async fn ends(
    (places, within): (Vec<PathBuf>, Duration),
    mut phases: Watched,
    stop: &Stop,
) -> Ends {
    let bound = async {
        let full = floor::reached(places);
        let too_long = || "it took longer than `max_duration` of [drill]".to_owned();
        timeout(within, full).await.unwrap_or_else(|_| too_long())
    };
    tokio::select! {
        () = stop.requested() => Ends::Interrupted,
        why = phases.too_long() => Ends::For(why),
        why = bound => Ends::For(why),
    }
}

async fn by_kind(
    setup: &Setup,
    ((request, chosen, directory), limits): (What<'_>, &Result<Arc<Limits>, String>),
    (clocks, meter): (&mut Clocks, &Meter),
    stop: &Stop,
) -> Result<(Came, Tried)> {
    let manifest = &chosen.backup.manifest;
    let (what, within) = ((request, manifest, directory), limits.as_ref().ok());
    let (mut came, tried) = match &manifest.kind {
        BackupKind::Logical(_) => {
            let clocks = (clocks, meter);
            let came = Box::pin(dump::run(setup, what, within, clocks, stop)).await?;
            (came, named(chosen))
        }
        BackupKind::Full(_) | BackupKind::Incremental(_) | BackupKind::External(_) => {
            let how = (chosen.at, chosen.next.as_ref(), within);
            Box::pin(cluster::run(setup, what, how, clocks, meter, stop)).await?
        }
        BackupKind::Snapshot(_) => {
            let text = "no drill is known for what its own engine makes an archive of";
            return Err(AgentError::Usage(text.to_owned()).into());
        }
    };
    let missing = Limits::missing(limits);
    let told = missing.map(|why| format!("its server was not limited in what it takes: {why}"));
    came.deviations.extend(told);
    Ok((came, tried))
}
