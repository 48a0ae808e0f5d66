//! A database on its way back into a server: loaded, counted, proven equal.

use std::time::Instant;

use anyhow::{Context as _, Result};
use drctl_engines::Leftover;
use drctl_engines::pg::{
    DatabaseTarget, Equality, PgServer, RestoreOptions, RowDifference, compare_rows,
};
use drctl_model::{DatabaseFacts, total};

use super::plan::APPLICATION;
use super::{Item, RestoreRequest, into_tool};
use crate::host::{AgentError, Stop};
use crate::transfer::Outlet;

/// A database that was loaded, counted, and proven where that was asked for.
pub(super) struct Loaded {
    pub(super) counted: (u64, u64),
    pub(super) equal: Option<Equality>,
    pub(super) failed: Vec<String>,
    /// How long it took to count and to compare.
    pub(super) proving_seconds: f64,
}

pub(super) async fn into_database(
    outlet: &Outlet,
    request: &RestoreRequest,
    item: &Item,
    server: &PgServer,
    facts: &DatabaseFacts,
    stop: &Stop,
) -> Result<Loaded> {
    let options = RestoreOptions {
        jobs: request.jobs,
        spool_dir: request.spool_dir.clone(),
        owner: request.owner,
        prove: request.prove,
    };
    let name = format!("{APPLICATION}/{:016x}", rand::random::<u64>());
    let target =
        DatabaseTarget::new(server.clone(), facts.clone(), item.target.clone(), options, name);
    let loaded = stop.unless(into_tool(outlet, request, item, &target)).await;
    if let Err(error) = loaded {
        return Err(match target.discard().await {
            Ok(Leftover::Nothing) => error,
            Ok(left) => error.context(format!("database {}: {left}", item.target)),
            Err(left) => {
                error.context(format!("{} may be left half restored: {left}", item.target))
            }
        });
    }
    let began = Instant::now();
    outlet.meter.label(format!("counting {}", item.target));
    let uncounted = || {
        format!(
            "{} was loaded, but its rows were not counted: it stays closed, and marked as \
             incomplete",
            item.target
        )
    };
    let found = tokio::select! {
        found = target.count() => found.with_context(uncounted)?,
        () = stop.requested() => {
            return Err(anyhow::Error::new(AgentError::Interrupted).context(uncounted()));
        }
    };
    let equal = match request.prove {
        true => prove(&target, (outlet, item), stop).await?,
        false => None,
    };
    let differences = compare_rows(&facts.together(&facts.tables), &facts.together(&found));
    // Also where rows are missing: it has come to its end, and what is missing is told.
    let closed = || format!("{} was loaded and counted, and stays closed", item.target);
    target.open().await.with_context(closed)?;
    if !differences.is_empty() {
        let text = describe(&item.target, &differences, &target.failed());
        return Err(AgentError::Mismatch(text).into());
    }
    if let Some(unlike) = equal.as_ref().map(|equal| &equal.unlike).filter(|all| !all.is_empty()) {
        let text = unequal(&item.target, unlike, &target.failed());
        return Err(AgentError::Mismatch(text).into());
    }
    let counted = (found.len() as u64, total(found.iter().map(|table| table.rows)));
    let proving_seconds = began.elapsed().as_secs_f64();
    Ok(Loaded { counted, equal, failed: target.failed(), proving_seconds })
}

/// Compares a database that was loaded with its dump, row by row.
///
/// # Errors
/// As [`DatabaseTarget::prove`]: it stays closed, and marked.
async fn prove(
    target: &DatabaseTarget,
    (outlet, item): (&Outlet, &Item),
    stop: &Stop,
) -> Result<Option<Equality>> {
    outlet.meter.label(format!("proving {}", item.target));
    let proving = async { Ok(target.prove().await?) };
    stop.unless(proving).await.with_context(|| {
        format!(
            "{} was loaded and counted, but not compared with its dump: it stays closed, and marked as \
             incomplete",
            item.target
        )
    })
}

fn unequal(database: &str, unlike: &[String], failed: &[String]) -> String {
    format!(
        "{database} was loaded and is kept, but is not equal to what was dumped: {}{}{}",
        unlike[..unlike.len().min(10)].join("; "),
        match unlike.len().saturating_sub(10) {
            0 => String::new(),
            more => format!("; and {more} more"),
        },
        failures(failed)
    )
}

fn describe(database: &str, differences: &[RowDifference], failed: &[String]) -> String {
    let shown: Vec<String> = differences.iter().take(10).map(ToString::to_string).collect();
    let more = differences.len().saturating_sub(shown.len());
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!(
        "{database} was loaded and is kept, but {} table(s) have other rows than were dumped: \
         {}{rest}{}",
        differences.len(),
        shown.join("; "),
        failures(failed)
    )
}

/// Statements that failed, behind a sentence.
fn failures(failed: &[String]) -> String {
    match failed {
        [] => String::new(),
        failed => format!(
            "; {} statement(s) failed: {}",
            failed.len(),
            failed[..failed.len().min(10)].join("; ")
        ),
    }
}
