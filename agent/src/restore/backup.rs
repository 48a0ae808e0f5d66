//! A backup restored as it is, without any log: chosen, planned, restored. A command calls it, and
//! whatever else restores.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use drctl_engines::pg::physical::{
    Layout, Recovery, StopAt, UnfitSetting, made_by_own_log, prepare, unfit_settings,
};
use drctl_engines::pg::server_program;
use drctl_model::SourceId;
use drctl_store::Alarm;

use super::outside::bring;
use super::place::check_target;
use super::plan::{Destination, RestorePlan, RestoreRequest, plan};
use super::{Restored, restore};
use crate::engine::pg::another_cluster::of_restored;
use crate::host::{AgentError, Meter, Setup, Stop};
use crate::repository::losses::{add_lost, find};
use crate::repository::newest::two_servers;
use crate::repository::{Latest, Memory, Passed, Repository, words};

/// What is asked for.
#[derive(Clone)]
pub struct BackupRequest {
    /// The source, which need not be configured here.
    pub source: SourceId,
    /// The backup, by its identifier or a beginning of it; without one the newest good one.
    pub backup: Option<String>,
    /// The file of the identity; without one that of the configuration.
    pub identity: Option<PathBuf>,
    /// Only these databases; empty for all.
    pub databases: Vec<String>,
    /// Whether roles and tablespaces are restored, when all databases are.
    pub globals: bool,
    /// Where to.
    pub destination: Destination,
    /// Connections at once that load a database.
    pub jobs: u32,
    /// Whether databases that are on the server already, with all their rows, are left as they are.
    pub missing: bool,
    /// The code of the backup that may run as a superuser of the target, by its digest.
    pub trusted: Option<String>,
    /// Whether objects get their owners back.
    pub owner: bool,
    /// Whether each database is dumped once more, and compared with what was restored.
    pub prove: bool,
}

/// A restore that was planned: nothing is left to decide.
pub struct PlannedRestore<'a> {
    /// The backup, what opens it, and where it goes.
    pub request: RestoreRequest,
    /// The plan.
    pub plan: RestorePlan,
    /// Newer backups that were not chosen.
    pub passed: Vec<Passed>,
    setup: &'a Setup,
    repository: Repository,
}

/// Chooses the backup and plans its restore; with `reckon` also how long it will take, for which one
/// segment is fetched and opened. Touches nothing.
///
/// # Errors
/// [`AgentError::Target`] for a directory that is not fit; as [`Repository::latest`];
/// [`AgentError::NoBackup`] for one that is not there; [`AgentError::NoIdentity`]; as [`plan`].
pub async fn plan_backup<'a>(
    setup: &'a Setup,
    request: BackupRequest,
    reckon: bool,
) -> Result<PlannedRestore<'a>> {
    if let Destination::Files(directory) | Destination::Cluster(directory) = &request.destination {
        check_target(setup, directory)?;
    }
    let repository = setup.repository().await?;
    let (request, passed) = choose(setup, &repository, request).await?;
    let mut plan = plan(&repository, &request, setup.limits(), reckon).await?;
    plan.notes.extend(of_restored(setup, &repository, &request.backup.summary()).await);
    Ok(PlannedRestore { request, plan, passed, setup, repository })
}

async fn choose(
    setup: &Setup,
    repository: &Repository,
    request: BackupRequest,
) -> Result<(RestoreRequest, Vec<Passed>)> {
    let source = &request.source;
    let memory = Memory::at_hand(setup, repository, source).await;
    let Latest { backup, passed, outlived } = match &request.backup {
        Some(wanted) => {
            let backup = find(setup, repository, Some(source), wanted).await?;
            Latest { backup, passed: Vec::new(), outlived: None }
        }
        None => {
            let mut latest = repository.latest(source, setup.clock.now(), &memory).await?;
            add_lost(setup, repository, source, &mut latest).await?;
            latest
        }
    };
    if let Some(outlived) = outlived {
        return Err(two_servers(&backup, &outlived));
    }
    if let Some(found) = memory.bad(source, &backup.manifest.backup) {
        tracing::warn!("{}: {}", backup.manifest.backup, words(found));
    }
    let identities = setup.identities(request.identity.as_deref())?;
    let id = backup.manifest.backup.clone();
    let request = RestoreRequest {
        backup,
        identities: identities.ok_or(AgentError::NoIdentity(id))?,
        begun: false,
        extracted: false,
        spool_dir: setup.config.paths.spool_dir.clone(),
        bin_dir: bin_dir(setup, source),
        databases: request.databases,
        globals: request.globals,
        destination: request.destination,
        jobs: request.jobs,
        missing: request.missing,
        trusted: request.trusted,
        owner: request.owner,
        prove: request.prove,
    };
    Ok((request, passed))
}

/// Where the source's programs are, if the source is configured here and says so.
fn bin_dir(setup: &Setup, source: &SourceId) -> Option<PathBuf> {
    let source = setup.config.sources.get(source)?;
    source.engine.server()?.bin_dir.clone()
}

impl PlannedRestore<'_> {
    /// What people call the key that signed the backup.
    #[must_use]
    pub fn signer(&self) -> String {
        self.repository.trust.name(&self.request.backup.signer)
    }

    /// Objects that somebody meddled with, as far as it came by them.
    #[must_use]
    pub fn alarms(&self) -> Vec<Alarm> {
        self.repository.alarms()
    }

    /// Whether the code of the backup that would run as a superuser of the target is trusted.
    ///
    /// # Errors
    /// As [`Code::is_trusted`](super::Code::is_trusted).
    pub fn trusted(&self) -> Result<()> {
        match &self.plan.code {
            Some(code) => code.is_trusted(self.request.trusted.as_deref()),
            None => Ok(()),
        }
    }
}

/// Restores what was planned, and makes a cluster ready to be started with the log that its backup
/// brought along.
///
/// # Errors
/// As [`restore`]; [`AgentError::Place`] for a tablespace that only a sandbox could bend; [`EngineError`]
/// where the directory cannot be written.
///
/// [`EngineError`]: drctl_engines::EngineError
pub async fn restore_backup(
    planned: &PlannedRestore<'_>,
    meter: &Meter,
    stop: &Stop,
) -> Result<Vec<Restored>> {
    let PlannedRestore { request, plan, setup, repository, .. } = planned;
    let done = async {
        let mut done = restore(repository, request, plan, setup.limits(), meter, stop).await?;
        let mut notes = prepare_cluster(request).await?;
        notes.extend(bring_outside(request, plan)?);
        if let Some(last) = done.last_mut() {
            last.notes.extend(notes);
        }
        Ok(done)
    };
    let done: Result<_> = done.await;
    done.with_context(|| {
        format!(
            "restore {} (the source and the bucket were not touched)",
            request.backup.manifest.backup
        )
    })
}

/// Writes what the backup holds beside what it copies, where all of it was restored into a directory.
///
/// # Errors
/// As [`bring`].
fn bring_outside(request: &RestoreRequest, plan: &RestorePlan) -> Result<Vec<String>> {
    match &request.destination {
        Destination::Cluster(directory) => bring(directory, plan.outside.as_ref()),
        Destination::Files(directory) if request.databases.is_empty() && plan.outside.is_some() => {
            bring(directory, plan.outside.as_ref())
        }
        _ => Ok(Vec::new()),
    }
}

/// Makes a cluster ready to be started with the log that its base backup brought along, where one
/// was extracted; gives what the operator should know.
///
/// # Errors
/// [`EngineError`](drctl_engines::EngineError) where the directory cannot be written.
async fn prepare_cluster(request: &RestoreRequest) -> Result<Vec<String>> {
    let (Destination::Cluster(directory), Some(at)) =
        (&request.destination, request.backup.manifest.kind.coordinates())
    else {
        return Ok(Vec::new());
    };
    let recovery = Recovery {
        // The base backup brings the log that it needs along: nothing else is asked for.
        restore_command: "false".to_owned(),
        timeline: at.stop_timeline,
        stop: StopAt::EndOfLog,
    };
    let layout = Layout::new(directory);
    // Whoever starts it does so without a sandbox.
    if let Some(place) = made_by_own_log(&layout, at.stop_timeline, at.start).into_iter().next() {
        return Err(AgentError::Place(place).into());
    }
    let mut notes = prepare(&layout, &recovery).context("prepare the cluster")?;
    notes.extend(unfit(request, &layout).await);
    Ok(notes)
}

/// Settings of the cluster with which its server does not start on this host, in words.
async fn unfit(request: &RestoreRequest, layout: &Layout) -> Vec<String> {
    let version = request.backup.manifest.tools.get("server").map_or("", String::as_str);
    let program = server_program(request.bin_dir.as_deref(), version).await;
    let unfit = program.and_then(|program| {
        let bin_dir = program.parent().unwrap_or(Path::new("/"));
        unfit_settings(bin_dir, layout)
    });
    let words = |one: &UnfitSetting| format!("its server does not start on this host: {one}");
    match unfit {
        Ok(unfit) => unfit.iter().map(words).collect(),
        Err(error) => vec![format!("whether its settings fit this host was not checked: {error}")],
    }
}
