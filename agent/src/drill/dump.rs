//! A dump, restored into a scratch server and compared row by row.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_engines::pg::physical::{Layout, Scratch};
use drctl_engines::pg::server_program;
use drctl_engines::sandbox::look_for_sandbox;
use drctl_model::{BackupId, DrillOutcome, DrillPhase, Manifest, shown, total};

use super::clocks::Clocks;
use super::{Came, DrillRequest};
use crate::host::{AgentError, Meter, Setup, Stop};
use crate::restore::{
    BackupRequest, Destination, Restored, check_room, hidden_from_servers, plan_backup,
    restore_backup,
};

/// What a scratch server takes beside the data that it is given.
const SERVER_ROOM: u64 = 512 << 20;

/// The most things that are told of what is not equal.
const TOLD: usize = 10;

/// Restores the backup below a directory, and compares it.
///
/// # Errors
/// Whatever kept it from being tried, or from being equal.
pub(super) async fn run(
    setup: &Setup,
    (request, manifest, directory): (&DrillRequest, &Manifest, &Path),
    clocks: &mut Clocks,
    meter: &Meter,
    stop: &Stop,
) -> Result<Came> {
    let version = manifest.tools.get("server").map_or("", String::as_str);
    let configured = setup.config.sources.get(&request.source);
    let bin_dir = configured.and_then(|source| source.engine.server()?.bin_dir.clone());
    let program = server_program(bin_dir.as_deref(), version).await?;
    let bin_dir = program.parent().context("find the server's programs")?.to_owned();
    let sandbox = look_for_sandbox().await;
    let sandbox = sandbox.map_err(|no| AgentError::NoSandbox(no.missing, no.hint))?;
    let plain = total(manifest.streams.iter().map(|stream| stream.plain_bytes));
    // Indexes are made anew.
    check_room(directory, plain + plain / 2 + SERVER_ROOM, false)?;
    clocks.next(DrillPhase::Provisioning);
    meter.label("making a scratch server");
    let layout = Layout::new(directory);
    let hidden = hidden_from_servers(setup, request.identity.as_deref());
    let scratch = Scratch::start(&layout, &bin_dir, (&sandbox, hidden)).await?;
    let loading =
        load((setup, request, &manifest.backup), (&scratch, &layout), clocks, meter, stop);
    let loaded = loading.await;
    let stopped = scratch.stop().await;
    let (planned, restored) = loaded?;
    stopped?;
    let mut came = judged(&restored);
    came.server = version.to_owned();
    came.deviations.extend(sandbox.lacks.iter().map(|lacks| format!("its sandbox: {lacks}")));
    came.deviations.extend(planned.notes());
    Ok(came)
}

/// What is told of the plan.
struct Told {
    runs_code: usize,
}

impl Told {
    fn notes(&self) -> Option<String> {
        (self.runs_code > 0).then(|| {
            format!(
                "code of {} owners in the databases ran as a superuser of the scratch server, in its sandbox",
                self.runs_code
            )
        })
    }
}

async fn load(
    (setup, request, backup): (&Setup, &DrillRequest, &BackupId),
    (scratch, layout): (&Scratch, &Layout),
    clocks: &mut Clocks,
    meter: &Meter,
    stop: &Stop,
) -> Result<(Told, Vec<Restored>)> {
    let destination = Destination::Server {
        server: Box::new(scratch.server().clone()),
        rename: None,
        tablespaces: Some(layout.tablespaces()),
    };
    let restore = BackupRequest {
        source: request.source.clone(),
        backup: Some(backup.to_string()),
        identity: request.identity.clone(),
        databases: Vec::new(),
        globals: true,
        destination,
        jobs: 1,
        missing: false,
        trusted: None,
        owner: true,
        prove: true,
    };
    let mut planned = tokio::select! {
        planned = plan_backup(setup, restore, false) => planned?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    // What it runs, it runs in a sandbox, on data that are thrown away.
    let code = planned.plan.code.clone();
    planned.request.trusted = code.as_ref().map(|code| code.digest.clone());
    clocks.next(DrillPhase::Loading);
    let restored = restore_backup(&planned, meter, stop).await?;
    let proving: f64 = restored.iter().map(|one| one.proving_seconds).sum();
    clocks.next_since(DrillPhase::Verifying, Duration::from_secs_f64(proving));
    Ok((Told { runs_code: code.map_or(0, |code| code.runs.len()) }, restored))
}

/// What a restore comes to that came to its end: what is other than it was dumped ended it before.
fn judged(restored: &[Restored]) -> Came {
    let failed: Vec<&String> = restored.iter().flat_map(|one| &one.failed).collect();
    let equal = || restored.iter().filter_map(|one| one.equal.as_ref());
    let tables = total(restored.iter().filter_map(|one| one.counted).map(|(tables, _)| tables));
    let compared = total(equal().map(|one| one.tables));
    let outcome = match failed.is_empty() {
        false => DrillOutcome::Failed { error: "statements_failed".to_owned() },
        true => DrillOutcome::Equal {
            tables: compared,
            rows: total(equal().map(|one| one.rows)),
            others: total(equal().map(|one| one.others)),
            only_counted: tables.saturating_sub(compared),
        },
    };
    let told = failed.iter().take(TOLD).map(|text| shown(text, 300));
    Came { outcome, why: told.collect(), server: String::new(), deviations: Vec::new() }
}
