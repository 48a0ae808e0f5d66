//! A backup's way back: loaded, counted, proven equal.

mod backup;
pub mod cluster;
mod combine;
mod database;
mod drill;
mod emergency;
pub mod known;
mod outside;
pub(crate) mod place;
mod plan;
pub mod recovery;
mod room;
mod sandbox;
mod take_over;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use drctl_engines::pg::physical::{DirectoryTarget, Layout};
use drctl_engines::pg::{Equality, GlobalsTarget};
use drctl_engines::{Below, RestoreTarget, ToolFeed};
use drctl_model::{Content, shown};

use self::combine::restore_chain;
use self::database::into_database;
use self::plan::APPLICATION;
use crate::host::{AgentError, Exit, Failure, Limits, Meter, Stop, crash_point, private};
use crate::repository::Repository;
use crate::repository::verify::outlet;
use crate::transfer::{Outlet, Sink, fetch_stream};

pub use backup::{BackupRequest, PlannedRestore, plan_backup, restore_backup};
pub(crate) use cluster::hidden_from_servers;
pub use combine::ChainPlan;
pub use drill::Drilling;
pub(crate) use drill::{Tried, outcome};
pub use emergency::emergency_script;
pub use outside::FOLDER as CONFIGURATION;
pub use plan::{Code, Destination, Item, Kept, RestorePlan, RestoreRequest, plan};
pub use room::check_room;
pub(crate) use sandbox::sandbox;
pub use take_over::{Address, TakeOverPlan, TakeOverRequest, finish_take_over, prepare_take_over};

/// One stream that was restored and proven equal.
#[derive(Debug, Clone)]
pub struct Restored {
    /// Where it is now.
    pub target: String,
    /// What it is.
    pub content: Content,
    /// Plain bytes of the dump.
    pub plain_bytes: u64,
    /// Tables and rows that were counted afterwards, where it went into a server.
    pub counted: Option<(u64, u64)>,
    /// What of it is equal to what was dumped, row by row, where that was asked for.
    pub equal: Option<Equality>,
    /// Seconds it took, the counting included.
    pub seconds: f64,
    /// How many of these it took to count and to compare.
    pub proving_seconds: f64,
    /// What the operator should know of it.
    pub notes: Vec<String>,
    /// Statements that failed: what they should have made is missing, the rows are all there.
    pub failed: Vec<String>,
}

/// Restores what was planned, stream by stream, and proves each equal before the next begins. A
/// database that fails keeps no other from being restored.
///
/// # Errors
/// [`AgentError::Mismatch`], or whatever failed: what that means for the target; proven streams stay.
pub async fn restore(
    repository: &Repository,
    request: &RestoreRequest,
    plan: &RestorePlan,
    limits: Limits,
    meter: &Meter,
    stop: &Stop,
) -> Result<Vec<Restored>> {
    if let Some(code) = &plan.code {
        code.is_trusted(request.trusted.as_deref())?;
    }
    if let Destination::Files(directory) | Destination::Cluster(directory) = &request.destination {
        private::make_target(directory)?;
    }
    if let Some(chain) = &plan.chain {
        return restore_chain(repository, request, plan, chain, limits, meter, stop).await;
    }
    let outlet = outlet(repository, &request.backup.manifest, limits, meter);
    meter.expect(plan.plain_bytes);
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for item in &plan.items {
        meter.label(item.target.clone());
        let one = restore_one(&outlet, request, item, stop).await;
        match one.with_context(|| format!("restore {}", item.target)) {
            Ok(one) => done.push(one),
            Err(error) => {
                let goes_on = concerns_it_alone(&request.destination, &error);
                failed.push(error);
                if !goes_on {
                    break;
                }
            }
        }
    }
    let untouched = plan.items.len() - done.len() - failed.len();
    // What is not as it was backed up weighs more than what could not be tried.
    failed.sort_by_key(|error| Failure::of(error).exit != Exit::Verification);
    let mut failed = failed.into_iter();
    match failed.next() {
        None => Ok(done),
        Some(first) => Err(in_part(&done, first, failed.collect(), untouched)),
    }
}

async fn restore_one(
    outlet: &Outlet,
    request: &RestoreRequest,
    item: &Item,
    stop: &Stop,
) -> Result<Restored> {
    let began = Instant::now();
    let mut restored = Restored {
        target: item.target.clone(),
        content: item.facts.content.clone(),
        plain_bytes: item.stream.plain_bytes,
        counted: None,
        equal: None,
        seconds: 0.0,
        proving_seconds: 0.0,
        notes: Vec::new(),
        failed: Vec::new(),
    };
    match (&request.destination, &item.facts.content) {
        (Destination::Server { server, tablespaces, .. }, Content::Globals) => {
            let target =
                GlobalsTarget::new((**server).clone(), APPLICATION.to_owned(), request.missing);
            let target = target.apart(tablespaces.clone());
            stop.unless(into_tool(outlet, request, item, &target)).await?;
            (restored.notes, restored.failed) = (target.notes(), target.failed());
        }
        (Destination::Server { server, .. }, Content::Database(facts)) => {
            let loaded = into_database(outlet, request, item, server, facts, stop).await?;
            (restored.counted, restored.failed) = (Some(loaded.counted), loaded.failed);
            (restored.equal, restored.proving_seconds) = (loaded.equal, loaded.proving_seconds);
        }
        (
            Destination::Server { .. },
            Content::Tablespace(_) | Content::Listing | Content::Archive,
        ) => {
            let text = "this backup is restored into a directory";
            return Err(AgentError::Usage(text.into()).into());
        }
        (Destination::Files(directory), _) => {
            stop.unless(into_file(outlet, request, item, directory)).await?;
        }
        (Destination::Pipe(pipe), _) => {
            stop.unless(into_pipe(outlet, request, item, pipe)).await?;
        }
        (Destination::Cluster(directory), content) => {
            stop.unless(into_cluster(outlet, request, item, directory, content)).await?;
        }
    }
    restored.seconds = began.elapsed().as_secs_f64();
    Ok(restored)
}

/// Whether a failure says nothing of what is still to be restored.
fn concerns_it_alone(destination: &Destination, error: &anyhow::Error) -> bool {
    let apart = matches!(destination, Destination::Server { .. } | Destination::Files(_));
    let failure = Failure::of(error);
    let of_all = matches!(failure.exit, Exit::Interrupted | Exit::Key)
        || ["connect", "auth", "pooler", "store_denied", "store_failed"].contains(&failure.code);
    apart && !of_all
}

/// What an operator must know of the others where one stream failed.
fn in_part(
    done: &[Restored],
    first: anyhow::Error,
    others: Vec<anyhow::Error>,
    untouched: usize,
) -> anyhow::Error {
    let names: Vec<&str> = done.iter().map(|one| one.target.as_str()).collect();
    let mut text = match names.as_slice() {
        [] => String::new(),
        names => format!("restored and proven, and kept: {}; ", shown(&names.join(", "), 500)),
    };
    for other in &others {
        let words = Failure::of(other).messages.join(": ");
        text += &format!("failed as well: {}; ", shown(&words, 300));
    }
    match (text.is_empty(), untouched) {
        (true, 0) => return first,
        (_, 0) => text += "this failed",
        _ => text += "the rest is missing",
    }
    first.context(text)
}

/// A file under a name of its own while it is written, gone unless it was proven.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // After the renaming there is none.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Into a file that has its name only when it is whole and proven.
async fn into_file(
    outlet: &Outlet,
    request: &RestoreRequest,
    item: &Item,
    directory: &Path,
) -> Result<()> {
    let below = Below::make(directory).context("make the directory")?;
    let (part_name, name) = (format!("{}.part", item.target), Path::new(&item.target));
    let (part_name, part) = (Path::new(&part_name), directory.join(&part_name));
    let file = below.create_new(part_name, 0o600);
    let mut sink = Sink::file(file.with_context(|| format!("write {}", part.display()))?);
    let _part = Part(part.clone());
    let digest = fetch_stream(outlet, &item.stream, &request.identities, &mut sink).await?;
    check_digest(item, &digest)?;
    sink.finish().await?;
    if below.has(name).with_context(|| format!("look into {}", directory.display()))? {
        return Err(AgentError::Exists(directory.join(name)).into());
    }
    below.rename(part_name, name).with_context(|| format!("rename {}", part.display()))?;
    below.sync().context("sync the directory")
}

/// An archive of a cluster, extracted below a directory; the server's list of its files beside it.
async fn into_cluster(
    outlet: &Outlet,
    request: &RestoreRequest,
    item: &Item,
    directory: &Path,
    content: &Content,
) -> Result<()> {
    let layout = Layout::new(directory);
    let oid = match content {
        Content::Tablespace(facts) => facts.oid,
        _ => return into_file(outlet, request, item, &layout.data()).await,
    };
    let mut sink = Sink::files(DirectoryTarget::new(&layout, oid)?);
    let digest = fetch_stream(outlet, &item.stream, &request.identities, &mut sink).await?;
    crash_point("recovery-in-stream");
    check_digest(item, &digest)?;
    sink.finish().await
}

/// To a reader that sees every authenticated segment at once, and the end only when all was right:
/// it must look at our exit code.
async fn into_pipe(
    outlet: &Outlet,
    request: &RestoreRequest,
    item: &Item,
    pipe: &Arc<File>,
) -> Result<()> {
    let mut sink = Sink::pipe(Arc::clone(pipe));
    let digest = fetch_stream(outlet, &item.stream, &request.identities, &mut sink).await?;
    check_digest(item, &digest)?;
    sink.finish().await
}

async fn into_tool(
    outlet: &Outlet,
    request: &RestoreRequest,
    item: &Item,
    target: &dyn RestoreTarget,
) -> Result<()> {
    let ToolFeed { input, outcome } = target.start().await?;
    let mut sink = Sink::tool(input);
    let fed = match fetch_stream(outlet, &item.stream, &request.identities, &mut sink).await {
        Ok(digest) => check_digest(item, &digest),
        Err(error) => Err(error),
    };
    let fed = match fed {
        Ok(()) => sink.finish().await,
        error => error,
    };
    match fed {
        Ok(()) => Ok(outcome.await?),
        // The tool went away first: it knows why.
        Err(error) if is_broken_pipe(&error) => Err(outcome.await.err().map_or(error, Into::into)),
        // What came from the bucket is no good: the tool must not see a clean end.
        Err(error) => {
            drop(outcome);
            Err(error)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

fn check_digest(item: &Item, digest: &str) -> Result<()> {
    if digest == item.facts.plain_xxh128 {
        return Ok(());
    }
    let text = format!("the plain bytes of {} are not those that were dumped", item.target);
    Err(AgentError::Mismatch(text).into())
}
