//! Restore drills: a backup is restored into a scratch server, proven there, and thrown away; what that came
//! to is kept as signed evidence. What could not be tried is neither passed nor failed.

mod attempt;
mod blame;
mod bundle;
mod checks;
pub(crate) mod choose;
pub(crate) mod clocks;
pub(crate) mod cluster;
pub(crate) mod dump;
pub(crate) mod floor;
mod kit;
pub(crate) mod scratch_dir;
mod together;
mod which;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_model::{
    CheckDone, Drill, DrillHost, DrillNames, DrillObjectives, DrillOutcome, DrillPhase, DrillPoint,
    DrillRun, JobKind, Named, SourceId, Together, Verdict, shown,
};
use drctl_policies::DrillCheck;
use drctl_store::{Recipients, seal_drill_names};

use self::attempt::{Done, try_and_clean};
pub use self::bundle::{Look, VerifiedBundle, bundle, verify_bundle};
use self::choose::{Chosen, choose};
use self::clocks::Clocks;
use self::scratch_dir::ScratchDir;
pub use self::together::{AllDone, drill_together};
pub use self::which::{Wanted, weighted};
use crate::host::{Exit, Failure, Meter, Setup, Stop};
use crate::jobs::run;
use crate::repository::Repository;
use crate::restore::Drilling;

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
    /// What takes longer is ended.
    pub within: Duration,
    /// With which others it is done at once.
    pub together: Option<Together>,
    /// Try it with nothing but this recovery kit and the bucket, as on a host that has nothing else.
    pub kit: Option<PathBuf>,
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
        let left = if self.is_clean() { "" } else { "; and what it made is not removed" };
        let why = self.why.first().map_or_else(String::new, |why| format!(": {}", shown(why, 400)));
        Some((code.to_owned(), format!("{}{why}{left}", self.drill.says())))
    }
}

/// What was found out by trying.
struct Came {
    outcome: DrillOutcome,
    /// The base backup with which it was compared.
    with: Option<Named>,
    /// What was asked of it.
    checks: Vec<CheckDone>,
    /// What was compared, by its names.
    names: DrillNames,
    /// Why it did not pass, for people.
    why: Vec<String>,
    /// Bytes of the backup, and of the WAL that was replayed; 0 where nothing was restored.
    bytes: u64,
    /// The version of the scratch server.
    server: String,
    /// How it differs from what a drill should be.
    deviations: Vec<String>,
}

impl Came {
    fn of(outcome: DrillOutcome, why: Vec<String>) -> Self {
        Came {
            outcome,
            with: None,
            checks: Vec::new(),
            names: DrillNames::default(),
            why,
            bytes: 0,
            server: String::new(),
            deviations: Vec::new(),
        }
    }
}

/// The same as [`drill`], as a job on record.
///
/// # Errors
/// As [`drill`].
pub async fn drill_on_record(
    setup: &Setup,
    request: &DrillRequest,
    meter: &Meter,
    stop: &Stop,
) -> Result<DrillDone> {
    let of = (JobKind::Drill, vec![request.source.clone()]);
    let work = Box::pin(drill(setup, request, meter, stop));
    run(setup, of, work, |done, _| done.amiss()).await
}

/// Tries a backup, and keeps what that came to.
///
/// # Errors
/// What kept it from being begun: no key to sign with, no bucket, a scratch directory that is not fit; no
/// backup of a source that nobody knows. [`AgentError::Interrupted`](crate::host::AgentError::Interrupted): it came to nothing, and nothing is kept.
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
    let repository = stop.unless(setup.repository()).await?;
    let own = (scratch_dir::DRILL, drilling.id());
    let scratch = ScratchDir::make(setup, &root(setup, request.scratch.as_deref())?, own)?;
    // The identity on the kit's sheet, unless another one is named.
    let identity = request.identity.clone().or_else(|| request.kit.clone());
    let request = &DrillRequest { identity, ..request.clone() };
    let chosen = stop.unless(chosen_by((setup, &repository), request, &scratch)).await;
    let done = match chosen {
        Ok((by, chosen)) => {
            let at = (scratch, drilling.started());
            let tried = try_and_clean(&by, (request, &chosen), at, (&mut clocks, meter), stop);
            let done = Box::pin(tried).await?;
            unless_removed(&repository, done).await
        }
        Err(error) if is_worth_evidence(setup, request, &error) => {
            let cleaned = scratch.remove().await.is_ok();
            let point = DrillPoint { wanted: request.wanted.point(), seed: None, of: 0 };
            let of = (&request.source, point);
            Done { cleaned, ..Done::broke_off(of, &error, DrillPhase::Planning) }
        }
        Err(error) => return Err(error),
    };
    let done = if request.kit.is_some() { done.of_kit() } else { done };
    let sealed = sealed(&done);
    let run = DrillRun {
        point: done.point,
        with: done.came.with,
        bytes: Some(done.came.bytes).filter(|bytes| *bytes > 0),
        manifest_sha256: done.manifest_sha256,
        phases: clocks.end(),
        on: host(done.came.server),
        objectives: objectives(setup, &request.source),
        lost_ms: done.lost_ms,
        together: request.together.clone(),
        by_kit: request.kit.is_some(),
        opened_by: done.opened_by,
        checks: done.came.checks,
        deviations: done.came.deviations,
        cleaned: done.cleaned,
        sealed,
    };
    let why = done.came.why;
    let (source, outcome) = (&request.source, done.came.outcome);
    let said = what(&outcome, &why);
    let kept = drilling.keep(&repository, source, (done.tried, Some(run)), outcome).await;
    let drill = kept.with_context(|| {
        format!("the drill came to its end, but its evidence could not be stored: {said}")
    })?;
    Ok(DrillDone { drill, why, hint: done.hint })
}

/// By which configuration it is tried, and what: by this host's, or by one that comes of the recovery kit alone.
async fn chosen_by(
    (setup, repository): (&Setup, &Repository),
    request: &DrillRequest,
    scratch: &ScratchDir,
) -> Result<(Setup, Chosen)> {
    let Some(kit) = &request.kit else {
        return Ok((setup.clone(), choose(setup, repository, request).await?));
    };
    let bare = kit::bare(setup, (kit, &request.source), &scratch.path().join("kit")).await?;
    let chosen = choose(&bare, &bare.repository().await?, request).await?;
    Ok((bare, chosen))
}

/// The names, for those who can open the backup.
fn sealed(done: &Done) -> Option<String> {
    let recipients = Recipients::parse(done.recipients.iter().map(String::as_str)).ok()?;
    let why: Vec<String> = done.came.why.iter().map(|why| shown(why, 400)).collect();
    let names = DrillNames { why, ..done.came.names.clone() };
    let sealed = seal_drill_names(&names, &recipients);
    sealed.inspect_err(|error| tracing::warn!("names are left out of the evidence: {error}")).ok()
}

/// What it came to, for somebody who gets no evidence.
fn what(outcome: &DrillOutcome, why: &[String]) -> String {
    let what = outcome.verdict();
    let why = why.first().map_or_else(String::new, |why| format!(": {}", shown(why, 400)));
    format!("{}{why}", what.words())
}

/// What failed because the backup was removed meanwhile, on purpose, does not speak against it.
async fn unless_removed(repository: &Repository, done: Done) -> Done {
    let (DrillOutcome::Failed { .. }, Some(base)) = (&done.came.outcome, &done.tried.base) else {
        return done;
    };
    let there = repository.manifest(&done.source, base).await;
    if !matches!(there, Ok(None)) {
        return done;
    }
    let mut came = done.came;
    came.outcome = DrillOutcome::Inconclusive { error: "no_backup".to_owned() };
    came.why.insert(0, "the backup was removed while it was tried".to_owned());
    Done { came, ..done }
}

/// Removes what killed drills left on this host; tells what could not be removed, and why.
pub(crate) fn reap(setup: &Setup) -> Vec<String> {
    scratch_dir::sweep(&setup.config.paths.scratch_dir)
}

/// Whether that no backup could be chosen is kept as evidence: of a source that this host knows, where the bucket
/// can be read.
fn is_worth_evidence(setup: &Setup, request: &DrillRequest, error: &anyhow::Error) -> bool {
    let known = setup.config.sources.contains_key(&request.source);
    let named = matches!(request.wanted, Wanted::Named(_));
    request.kit.is_some() || known && !named && Failure::of(error).exit == Exit::NoTarget
}

/// Below which directory it is restored.
///
/// # Errors
/// The system's: the working directory is gone.
pub(crate) fn root(setup: &Setup, scratch: Option<&Path>) -> Result<PathBuf> {
    let root = scratch.unwrap_or(&setup.config.paths.scratch_dir);
    std::path::absolute(root).context("find the scratch directory")
}

/// What is asked of what was restored, by the source's policy, where it is configured here.
fn checks_of<'a>(setup: &'a Setup, source: &SourceId) -> &'a [DrillCheck] {
    let configured = setup.config.sources.get(source);
    configured.map_or(&[][..], |source| &source.policy.drill.checks)
}

/// Whether indexes and tables of a recovered cluster are checked by PostgreSQL's own module: unless the source's policy
/// says otherwise.
fn amcheck_of(setup: &Setup, source: &SourceId) -> bool {
    setup.config.sources.get(source).is_none_or(|source| source.policy.drill.amcheck)
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
