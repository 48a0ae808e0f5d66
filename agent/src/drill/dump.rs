//! A dump, restored into a scratch server and compared row by row.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_engines::pg::physical::{Layout, Scratch};
use drctl_engines::pg::server_program;
use drctl_engines::sandbox::Limits;
use drctl_model::{
    DrillNames, DrillOutcome, DrillPhase, Equal, Manifest, ProvenTable, StreamId, shown, total,
};

use super::checks::questions;
use super::clocks::Clocks;
use super::{Came, DrillRequest, blame, checks, checks_of, floor};
use crate::host::figures::count;
use crate::host::{Meter, Setup, Stop};
use crate::restore::{
    BackupRequest, Destination, Restored, check_room, hidden_from_servers, plan_backup,
    restore_backup, sandbox,
};

/// What a scratch server takes beside the data that it is given.
const SERVER_ROOM: u64 = 1 << 30;

/// The most things that are told of what is not equal.
const TOLD: usize = 10;

/// A server into which a dump is restored.
pub(crate) struct Empty {
    pub(crate) scratch: Scratch,
    layout: Layout,
    /// What the sandbox does without.
    lacks: Option<String>,
}

/// Makes a scratch server for a dump below a directory, if there is room for it.
///
/// # Errors
/// Whatever kept it from being made.
pub(crate) async fn provision(
    setup: &Setup,
    (request, manifest, directory): (&DrillRequest, &Manifest, &Path),
    limits: Option<&Arc<Limits>>,
    (clocks, meter): (&mut Clocks, &Meter),
    stop: &Stop,
) -> Result<Empty> {
    let bin_dir = programs(setup, request, manifest).await?;
    let sandbox = sandbox(limits).await?;
    // Rows are wider in a table than in a dump, and indexes are made anew; and some has to stay free.
    let needed = manifest.plain_bytes().saturating_mul(3).saturating_add(SERVER_ROOM);
    check_room(directory, needed.saturating_add(floor::least_free(directory)), false)?;
    clocks.next(DrillPhase::Provisioning);
    meter.label("making a scratch server");
    let layout = Layout::new(directory);
    let hidden = hidden_from_servers(setup, request.identity.as_deref());
    let starting = async { Ok(Scratch::start(&layout, &bin_dir, (&sandbox, hidden)).await?) };
    let scratch = stop.unless(starting).await?;
    Ok(Empty { scratch, layout, lacks: sandbox.lacks })
}

/// Where the server's programs of a backup's version are.
///
/// # Errors
/// Where there are none.
pub(crate) async fn programs(
    setup: &Setup,
    request: &DrillRequest,
    manifest: &Manifest,
) -> Result<PathBuf> {
    let version = manifest.tools.get("server").map_or("", String::as_str);
    let configured = setup.config.sources.get(&request.source);
    let bin_dir = configured.and_then(|source| source.engine.server()?.bin_dir.clone());
    let program = server_program(bin_dir.as_deref(), version).await?;
    Ok(program.parent().context("find the server's programs")?.to_owned())
}

/// Restores the backup below a directory, and compares it.
///
/// # Errors
/// Whatever kept it from being tried, or from being equal.
pub(super) async fn run(
    setup: &Setup,
    (request, manifest, directory): (&DrillRequest, &Manifest, &Path),
    limits: Option<&Arc<Limits>>,
    (clocks, meter): (&mut Clocks, &Meter),
    stop: &Stop,
) -> Result<Came> {
    let what = (request, manifest, directory);
    let empty = provision(setup, what, limits, (&mut *clocks, meter), stop).await?;
    let of = (setup, request, manifest);
    let loaded = load(of, &empty, true, (clocks, meter), stop).await;
    let Empty { scratch, lacks, .. } = empty;
    let asked = checks_of(setup, &request.source);
    let answers = match loaded.is_ok() && !asked.is_empty() {
        true => {
            meter.label("asking checks");
            stop.unless(async { Ok(scratch.ask_all(&questions(asked)).await) }).await
        }
        false => Ok(Vec::new()),
    };
    let stopped = scratch.stop().await;
    let (planned, restored) = loaded?;
    let answers: Vec<_> = answers?
        .into_iter()
        .map(|one| one.map_err(|error| format!("{:#}", anyhow::Error::new(error))))
        .collect();
    let mut came = checks::judged(judged(&restored), asked, &answers);
    came.server = manifest.tools.get("server").cloned().unwrap_or_default();
    came.bytes = manifest.plain_bytes();
    came.deviations.extend(lacks.map(|lacks| format!("its sandbox: {lacks}")));
    came.deviations.extend(planned.notes());
    came.deviations.extend(stopped.err().map(|error| format!("its server did not end: {error}")));
    Ok(came)
}

/// What is told of the plan.
pub(crate) struct Told {
    runs_code: usize,
    has_roles: bool,
}

impl Told {
    pub(crate) fn notes(&self) -> Vec<String> {
        let code = (self.runs_code > 0).then(|| {
            let many = count(self.runs_code as u64, "function");
            format!("{many} of owners ran as a superuser of the scratch server, in its sandbox")
        });
        let roles =
            "the backup holds no roles: owners and privileges were neither restored nor compared";
        code.into_iter().chain((!self.has_roles).then(|| roles.to_owned())).collect()
    }
}

/// Restores all of it into the server, and compares what is there then, if that is wished.
///
/// # Errors
/// Those of a restore; what is other than it was dumped.
pub(crate) async fn load(
    (setup, request, manifest): (&Setup, &DrillRequest, &Manifest),
    empty: &Empty,
    prove: bool,
    (clocks, meter): (&mut Clocks, &Meter),
    stop: &Stop,
) -> Result<(Told, Vec<Restored>)> {
    let destination = Destination::Server {
        server: Box::new(empty.scratch.server().clone()),
        rename: None,
        tablespaces: Some(empty.layout.tablespaces()),
    };
    // Without its roles nothing can belong to them.
    let has_roles = manifest.streams.iter().any(|stream| stream.id == StreamId::globals());
    let restore = BackupRequest {
        source: request.source.clone(),
        backup: Some(manifest.backup.to_string()),
        identity: request.identity.clone(),
        databases: Vec::new(),
        globals: true,
        destination,
        jobs: 1,
        missing: false,
        trusted: None,
        owner: has_roles,
        prove,
    };
    let mut planned = stop.unless(plan_backup(setup, restore, false)).await?;
    // What it runs, it runs in a sandbox, on data that are thrown away.
    let code = planned.plan.code.clone();
    planned.request.trusted = code.as_ref().map(|code| code.digest.clone());
    clocks.next(DrillPhase::Loading);
    let restored = restore_backup(&planned, meter, stop).await?;
    let proving: f64 = restored.iter().map(|one| one.proving_seconds).sum();
    clocks.next_since(DrillPhase::Verifying, Duration::from_secs_f64(proving));
    Ok((Told { runs_code: code.map_or(0, |code| code.runs.len()), has_roles }, restored))
}

/// What a restore comes to that came to its end: what is other than it was dumped ended it before.
fn judged(restored: &[Restored]) -> Came {
    let failed: Vec<&String> = restored.iter().flat_map(|one| &one.failed).collect();
    let equal = || restored.iter().filter_map(|one| one.equal.as_ref());
    let compared = total(equal().map(|one| one.tables));
    // What is loaded through one table is compared with it; what was only counted is named, up to a bound.
    let unproven = restored.iter().filter(|one| one.counted.is_some() && one.equal.is_none());
    let unproven = total(unproven.filter_map(|one| one.counted).map(|(tables, _)| tables));
    let only_counted = unproven + equal().map(|one| one.counted.len() as u64).sum::<u64>();
    let outcome = match failed.is_empty() {
        false => blame::of_statements(&failed),
        true => DrillOutcome::Equal(Equal {
            tables: compared,
            rows: total(equal().map(|one| one.rows)),
            others: total(equal().map(|one| one.others)),
            only_counted,
        }),
    };
    let told = failed.iter().take(TOLD).map(|text| shown(text, 300));
    Came { names: names(restored), ..Came::of(outcome, told.collect()) }
}

/// The names of what was compared.
fn names(restored: &[Restored]) -> DrillNames {
    let mut names = DrillNames::default();
    for one in restored {
        let Some(equal) = &one.equal else { continue };
        let database = || shown(&one.target, 100);
        let proven = equal.proven.iter().cloned();
        names.tables.extend(proven.map(|table| ProvenTable { database: database(), ..table }));
        names.counted.extend(equal.counted.iter().map(|text| format!("{}: {text}", database())));
    }
    names
}
