//! Restore drills: a backup is restored into a scratch server, proven there, and thrown away; what that came
//! to is kept as signed evidence. What could not be tried is neither passed nor failed.

mod blame;
mod clocks;
mod cluster;
mod dump;
mod floor;
mod scratch_dir;
mod which;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use drctl_model::{
    BackupId, BackupKind, BackupSummary, Digest, Drill, DrillHost, DrillObjectives, DrillOutcome,
    DrillPhase, DrillPoint, DrillRun, SourceId, Verdict, shown,
};
use futures_util::TryStreamExt as _;
use jiff::Timestamp;

use self::clocks::Clocks;
use self::scratch_dir::ScratchDir;
pub use self::which::Wanted;
use crate::host::{AgentError, Exit, Failure, Meter, Setup, Stop};
use crate::repository::losses::find;
use crate::repository::{Memory, Proven, Repository, everything};
use crate::restore::{Drilling, Tried};

/// What is to be tried.
#[derive(Debug, Clone)]
pub struct DrillRequest {
    /// The source, which need not be configured here, unless it has a log.
    pub source: SourceId,
    /// Which backup or moment.
    pub wanted: Wanted,
    /// The file of the identity; without one that of the configuration.
    pub identity: Option<PathBuf>,
    /// Below which directory it is restored; without one that of the configuration.
    pub scratch: Option<PathBuf>,
}

/// What a drill came to.
#[derive(Debug, Clone)]
pub struct DrillDone {
    /// The evidence, as it lies in the bucket.
    pub drill: Drill,
    /// Why it did not pass, for people: may name what only a key holder may read.
    pub why: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl DrillDone {
    /// Whether all that it made is gone.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.drill.run.as_ref().is_none_or(|run| run.cleaned)
    }

    /// What is on record of it: nothing where it passed, and left nothing behind.
    pub(crate) fn amiss(&self) -> Option<(String, String)> {
        let verdict = self.drill.verdict();
        let code = match (verdict, self.is_clean()) {
            (Verdict::Pass, true) => return None,
            (Verdict::Pass, false) => "not_removed",
            (verdict, _) => verdict.as_str(),
        };
        let what = if self.is_clean() { verdict.words() } else { "what it made is not removed" };
        let why = self.why.first().map_or_else(String::new, |why| format!(": {}", shown(why, 400)));
        Some((code.to_owned(), format!("{what}{why}")))
    }
}

/// What was found out by trying.
struct Came {
    outcome: DrillOutcome,
    /// Why it did not pass, for people.
    why: Vec<String>,
    /// The version of the scratch server.
    server: String,
    /// How it differs from what a drill should be.
    deviations: Vec<String>,
}

/// What is tried.
struct Chosen {
    backup: Proven,
    point: DrillPoint,
    /// Up to which moment the log is replayed, where that is not its end.
    until: Option<Timestamp>,
}

/// Tries a backup, and keeps what that came to.
///
/// # Errors
/// What kept it from being begun: no key to sign with, no bucket, a scratch directory that is not fit; no
/// backup of a source that nobody knows. [`AgentError::Interrupted`]: it came to nothing, and nothing is kept.
/// The store's, where the evidence cannot be kept.
pub async fn drill(
    setup: &Setup,
    request: &DrillRequest,
    meter: &Meter,
    stop: &Stop,
) -> Result<DrillDone> {
    let drilling = Drilling::begin(setup)?;
    let mut clocks = Clocks::begin(DrillPhase::Planning);
    meter.label("choosing a backup");
    let repository = unless(stop, setup.repository()).await?;
    let chosen = unless(stop, choose(setup, &repository, request)).await;
    let done = match chosen {
        Ok(chosen) => {
            let scratch = ScratchDir::make(setup, &root(setup, request)?, drilling.id())?;
            let at = (scratch, drilling.started());
            Box::pin(try_and_clean(setup, (request, &chosen), at, (&mut clocks, meter), stop))
                .await?
        }
        Err(error) if is_worth_evidence(setup, request, &error) => {
            let point = DrillPoint { wanted: request.wanted.point(), seed: None, of: 0 };
            Done { cleaned: true, ..Done::broke_off(point, &error) }
        }
        Err(error) => return Err(error),
    };
    let run = DrillRun {
        point: done.point,
        manifest_sha256: done.manifest_sha256,
        phases: clocks.end(),
        on: host(done.came.server),
        objectives: objectives(setup, &request.source),
        lost_ms: done.lost_ms,
        deviations: done.came.deviations,
        cleaned: done.cleaned,
    };
    let why = done.came.why;
    let (source, outcome) = (&request.source, done.came.outcome);
    let kept = drilling.keep(&repository, source, (done.tried, Some(run)), outcome).await;
    let drill = kept.inspect_err(|_| {
        for line in &why {
            tracing::error!("the drill, whose evidence could not be kept: {line}");
        }
    })?;
    Ok(DrillDone { drill, why, hint: done.hint })
}

/// Whether that no backup could be chosen is kept as evidence: it speaks against the backups of a source
/// that this host knows.
fn is_worth_evidence(setup: &Setup, request: &DrillRequest, error: &anyhow::Error) -> bool {
    let known = setup.config.sources.contains_key(&request.source);
    let named = matches!(request.wanted, Wanted::Named(_));
    known && !named && matches!(blame::outcome(error), DrillOutcome::Failed { .. })
}

/// All that is known of a drill at its end.
struct Done {
    came: Came,
    tried: Tried,
    hint: Option<String>,
    point: DrillPoint,
    manifest_sha256: Option<Digest>,
    lost_ms: Option<u64>,
    cleaned: bool,
}

impl Done {
    /// What it comes to where an error ended it.
    fn broke_off(point: DrillPoint, error: &anyhow::Error) -> Self {
        let failure = Failure::of(error);
        let (outcome, why) = (blame::outcome(error), failure.messages);
        let target = point.wanted.as_str().to_owned();
        Done {
            came: Came { outcome, why, server: String::new(), deviations: Vec::new() },
            tried: Tried { system_id: None, timeline: None, base: None, target },
            hint: failure.hint,
            point,
            manifest_sha256: None,
            lost_ms: None,
            cleaned: false,
        }
    }
}

/// Tries it, and removes all that was made for that.
///
/// # Errors
/// [`AgentError::Interrupted`] alone: whatever else fails is what it came to.
async fn try_and_clean(
    setup: &Setup,
    (request, chosen): (&DrillRequest, &Chosen),
    (scratch, started): (ScratchDir, Timestamp),
    (clocks, meter): (&mut Clocks, &Meter),
    stop: &Stop,
) -> Result<Done> {
    let tried = try_it(setup, (request, chosen), &scratch, (clocks, meter), stop).await;
    clocks.next(DrillPhase::Cleaning);
    meter.label("cleaning up");
    let cleaned = scratch.remove();
    let point = chosen.point.clone();
    let mut done = match tried {
        Ok((came, tried)) => {
            let shows = shows(&came.outcome, chosen, request);
            let lost = shows.map(|at| started.duration_since(at).as_millis());
            let lost_ms = lost.map(|ms| u64::try_from(ms).unwrap_or(0));
            let (hint, manifest_sha256, cleaned) = (None, None, false);
            Done { came, tried, hint, point, manifest_sha256, lost_ms, cleaned }
        }
        Err(error) if Failure::of(&error).exit == Exit::Interrupted => return Err(error),
        Err(error) => Done { tried: named(chosen), ..Done::broke_off(point, &error) },
    };
    if let Err(error) = &cleaned {
        done.came.why.push(format!("{error:#}"));
    }
    if done.came.server.is_empty() {
        let tools = &chosen.backup.manifest.tools;
        done.came.server = tools.get("server").cloned().unwrap_or_default();
    }
    Ok(Done { manifest_sha256: Some(chosen.backup.sha256), cleaned: cleaned.is_ok(), ..done })
}

/// Below which directory it is restored.
fn root(setup: &Setup, request: &DrillRequest) -> Result<PathBuf> {
    let root = request.scratch.as_ref().unwrap_or(&setup.config.paths.scratch_dir);
    std::path::absolute(root).context("find the scratch directory")
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
    match outcome {
        DrillOutcome::Proven { shows, .. } => shows.filter(|_| newest),
        DrillOutcome::Equal { .. } => Some(chosen.backup.summary().taken()).filter(|_| newest),
        DrillOutcome::Failed { .. } | DrillOutcome::Inconclusive { .. } => None,
    }
}

/// Tries it, unless somebody wishes for the end, or a disk that others need is nearly full.
async fn try_it(
    setup: &Setup,
    (request, chosen): (&DrillRequest, &Chosen),
    scratch: &ScratchDir,
    (clocks, meter): (&mut Clocks, &Meter),
    stop: &Stop,
) -> Result<(Came, Tried)> {
    let manifest = &chosen.backup.manifest;
    let directory = scratch.path().join("restored");
    let places = vec![scratch.path(), setup.config.paths.state_dir.clone()];
    let nearly_full =
        |why: String| AgentError::Target(format!("{why}: the drill was ended, and removed"));
    if let Some(why) = places.iter().find_map(|place| floor::nearly_full(place)) {
        return Err(nearly_full(why).into());
    }
    let trying = async {
        let what = (request, manifest, directory.as_path());
        match &manifest.kind {
            BackupKind::Logical(_) => {
                let came = Box::pin(dump::run(setup, what, clocks, meter, stop)).await?;
                Ok((came, named(chosen)))
            }
            BackupKind::Full(_) | BackupKind::Incremental(_) | BackupKind::External(_) => {
                Box::pin(cluster::run(setup, what, chosen.until, clocks, meter, stop)).await
            }
            BackupKind::Snapshot(_) => {
                let text = "no drill is known for what its own engine makes an archive of";
                Err(AgentError::Usage(text.to_owned()).into())
            }
        }
    };
    tokio::select! {
        tried = trying => tried,
        why = floor::reached(places.clone()) => Err(nearly_full(why).into()),
    }
}

/// The backup that is wanted, and up to which moment.
///
/// # Errors
/// The store's; [`AgentError::NoBackup`].
async fn choose(setup: &Setup, repository: &Repository, request: &DrillRequest) -> Result<Chosen> {
    let source = &request.source;
    let memory = Memory::at_hand(setup, repository, source).await;
    let mut all = Vec::new();
    let mut each = everything(repository, vec![source.clone()]);
    while let Some((_, _, proven)) = each.try_next().await? {
        all.extend(proven.ok().map(|proven| proven.summary()));
    }
    drop(each);
    memory.mark(&mut all);
    let named = |wanted| DrillPoint { wanted, seed: None, of: 0 };
    let (backup, point) = match &request.wanted {
        Wanted::Named(id) => {
            (find(setup, repository, Some(source), id).await?, named(request.wanted.point()))
        }
        Wanted::Latest => {
            let latest = repository.latest(source, setup.clock.now(), &memory).await?;
            let of = all.iter().filter(|one| one.is_good()).count() as u64;
            (latest.backup, DrillPoint { of, ..named(request.wanted.point()) })
        }
        Wanted::Oldest | Wanted::Random(_) => {
            let seed = match request.wanted {
                Wanted::Random(Some(seed)) => seed,
                _ => rand::random(),
            };
            let none = || AgentError::NoBackup(format!("there is no good backup of {source}"));
            let (id, point) = which::choose(&request.wanted, &all, seed).ok_or_else(none)?;
            (find(setup, repository, Some(source), id.as_str()).await?, point)
        }
    };
    let until = until(&request.wanted, &backup.manifest.backup, &all);
    Ok(Chosen { backup, point, until })
}

/// Up to which moment the log is replayed behind a backup that is not the newest: until the next good one.
fn until(wanted: &Wanted, backup: &BackupId, all: &[BackupSummary]) -> Option<Timestamp> {
    let later = all.iter().filter(|one| one.is_good() && one.backup > *backup);
    let next = later.min_by(|a, b| a.backup.cmp(&b.backup))?;
    (*wanted != Wanted::Latest).then(|| next.taken())
}

/// What the policy of a source promises, where it is configured here.
fn objectives(setup: &Setup, source: &SourceId) -> DrillObjectives {
    let Some(configured) = setup.config.sources.get(source) else {
        return DrillObjectives::default();
    };
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let promised = &configured.policy.objectives;
    DrillObjectives { rto_ms: promised.rto.map(ms), rpo_ms: promised.rpo.map(ms) }
}

/// Where it was done.
fn host(server: String) -> DrillHost {
    let cpus = std::thread::available_parallelism().map_or(0, |cpus| cpus.get());
    let memory = rustix::system::sysinfo();
    DrillHost {
        drctl: env!("CARGO_PKG_VERSION").to_owned(),
        server,
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        memory_bytes: u64::from(memory.mem_unit).checked_mul(memory.totalram),
    }
}

/// Does the work, unless somebody wishes for the end.
async fn unless<T>(stop: &Stop, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        done = work => done,
        () = stop.requested() => Err(AgentError::Interrupted.into()),
    }
}
