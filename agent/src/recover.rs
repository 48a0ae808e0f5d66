//! A cluster brought to a point in time: laid out, replayed, looked at, and only then believed.

mod aim;
mod begun;
mod command;
mod rate;
mod watch;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_engines::pg::physical::{
    Layout, PickedTable, Progress, Recovering, Recovery, end_left, look_again, pick_table, prepare,
};
use drctl_model::{Content, TableRows};
use drctl_policies::recovery::{Leg, RecoveryPlan, Target};
use drctl_store::Identities;

pub use aim::{plan_digest, time_of, timeline_of};
pub use begun::{Begun, Identity, Kept, Proof, Step, is_begun, kept, waits};
pub use rate::{Rate, last_rate};

use self::command::{ahead, note_stanza, restore_command};
use crate::backrest::fetch_ahead as fetch_archived;
use crate::combine::discard_chain;
use crate::crash::crash_point;
use crate::problem::Problem;
use crate::restore::restore;
use crate::wal::{Ahead, Expected, Known, Shelf, fetch_ahead};
use crate::{Limits, Meter, Repository, RestorePlan, RestoreRequest, Setup, Stop};

/// How long its last checkpoint may take.
pub(crate) const STOP_PATIENCE: Duration = Duration::from_secs(600);

/// The name under which the recovering server sees us.
const APPLICATION: &str = "drctl/recovery";

/// What becomes of the cluster once it is proven to be at its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Its server is stopped there.
    Stop,
    /// Its server stays open, read-only, when we end.
    Open,
    /// These tables are dumped into files; then its server is stopped.
    Extract(Vec<PickedTable>),
    /// It becomes a cluster of its own; then its server is stopped.
    Promote,
}

/// A table that was taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted {
    /// Which one.
    pub table: PickedTable,
    /// The dump.
    pub file: PathBuf,
    /// The rows of each table in it: its partitions are tables too.
    pub rows: Vec<TableRows>,
}

/// What a recovery came to.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// What was proven.
    pub proof: Proof,
    /// Whether it was made a cluster of its own.
    pub promoted: bool,
    /// The directory of its server's socket, where that was left open.
    pub open: Option<PathBuf>,
    /// The tables that were taken out.
    pub extracted: Vec<Extracted>,
}

/// What is to be recovered, and how.
pub struct RecoverRequest<'a> {
    /// The configuration.
    pub setup: &'a Setup,
    /// Where the log lies.
    pub repository: &'a Repository,
    /// The source's name, as the log is fetched by it.
    pub source: &'a str,
    /// What the bucket holds.
    pub known: &'a Known,
    /// The plan.
    pub plan: &'a RecoveryPlan,
    /// The directory into which the base was laid out.
    pub directory: PathBuf,
    /// The file of the identity that opens the log, and the same, read; nothing where all log lies
    /// in pgBackRest's archive, which opens it by itself.
    pub identity: Option<(PathBuf, Identities)>,
    /// The role as which the recovering server is asked.
    pub user: String,
    /// Where the server's programs of the base's version are.
    pub bin_dir: PathBuf,
    /// What becomes of it then.
    pub choice: Choice,
}

/// Lays a copy out, stream by stream, each noted once all of it is on the disk. What an earlier
/// attempt has noted is kept, and then compared with the server's list of files; where it differs
/// all of it is laid out anew.
///
/// # Errors
/// As [`restore`].
pub async fn lay_out(
    repository: &Repository,
    request: &RestoreRequest,
    plan: &RestorePlan,
    (begun, limits): (&mut Begun, Limits),
    meter: &Meter,
    stop: &Stop,
) -> Result<()> {
    if begun.step() != Step::LayingOut {
        return Ok(());
    }
    end_left(&Layout::new(begun.directory()), STOP_PATIENCE).await?;
    if plan.chain.is_some() {
        return lay_out_chain(repository, request, plan, (begun, limits), meter, stop).await;
    }
    let kept = plan.items.iter().any(|item| begun.has(&item.stream.id));
    lay_out_rest(repository, request, plan, (begun, limits), meter, stop).await?;
    if kept {
        meter.label("comparing what was kept with the server's list");
        let layout = Layout::new(begun.directory());
        let work = move || look_again(&layout).map_err(anyhow::Error::from);
        if let Err(error) = tokio::task::spawn_blocking(work).await? {
            tracing::warn!("what an earlier attempt laid out is not whole: {error:#}: once more");
            begun.forget()?;
            lay_out_rest(repository, request, plan, (begun, limits), meter, stop).await?;
        }
    }
    crash_point("recovery-laid-out");
    begun.reach(Step::Replaying)
}

/// A chain is laid out as a whole, or anew: what becomes of it is no copy's own.
async fn lay_out_chain(
    repository: &Repository,
    request: &RestoreRequest,
    plan: &RestorePlan,
    (begun, limits): (&mut Begun, Limits),
    meter: &Meter,
    stop: &Stop,
) -> Result<()> {
    crash_point("recovery-begun");
    discard_chain(begun.directory())?;
    for item in &plan.items {
        begun::discard(begun.directory(), &item.facts.content)?;
    }
    restore(repository, request, plan, limits, meter, stop).await?;
    crash_point("recovery-laid-out");
    begun.reach(Step::Replaying)
}

async fn lay_out_rest(
    repository: &Repository,
    request: &RestoreRequest,
    plan: &RestorePlan,
    (begun, limits): (&mut Begun, Limits),
    meter: &Meter,
    stop: &Stop,
) -> Result<()> {
    crash_point("recovery-begun");
    let mut missing = Vec::new();
    for item in &plan.items {
        // The list lies in the data directory: it goes when that is laid out anew.
        let list = item.facts.content == Content::Listing;
        if !begun.has(&item.stream.id) || (list && !missing.is_empty()) {
            missing.push(item);
        }
    }
    meter.begin(0);
    for item in missing {
        begun::discard(begun.directory(), &item.facts.content)?;
        let one = RestorePlan {
            items: vec![item.clone()],
            chain: None,
            fetch_bytes: item.stream.sealed_bytes,
            plain_bytes: item.stream.plain_bytes,
            room: None,
            notes: Vec::new(),
            estimate: None,
        };
        restore(repository, request, &one, limits, meter, stop).await?;
        begun.laid_out(&item.stream.id)?;
        crash_point("recovery-stream-laid-out");
    }
    Ok(())
}

/// Replays the log onto a base that was laid out, proves where that came to, and does with it what
/// was chosen. Goes on where an earlier attempt ended: PostgreSQL replays from its own last point
/// of restart, and all is proven again.
///
/// # Errors
/// [`Problem::Mismatch`] where the target was not reached: what is there is not to be used.
pub async fn recover(
    request: &RecoverRequest<'_>,
    begun: &mut Begun,
    meter: &Meter,
    stop: &Stop,
) -> Result<Recovered> {
    let layout = Layout::new(&request.directory);
    end_left(&layout, STOP_PATIENCE).await?;
    if let Some(done) = own_already(request, begun, &layout, meter).await? {
        return Ok(done);
    }
    let base = request.known.base(&request.plan.base).context("the plan's base is gone")?;
    let recovery = Recovery {
        restore_command: restore_command(request, base.segment_size.bytes())?,
        timeline: request.plan.timeline,
        stop: aim::stop_at(request.plan),
    };
    prepare(&layout, &recovery).context("prepare the cluster")?;
    note_stanza(request)?;
    meter.label("starting the restored server");
    let mut server = Recovering::start(&layout, &request.bin_dir, &request.user)?;
    let done = tokio::select! {
        done = prove_and_choose(&mut server, request, begun, &layout, meter) => done,
        () = stop.requested() => Err(Problem::Interrupted.into()),
    };
    match done {
        Ok(done) if request.choice == Choice::Open => {
            Ok(Recovered { open: Some(server.leave()), ..done })
        }
        Ok(done) => server.stop(STOP_PATIENCE).await.map(|()| done).map_err(Into::into),
        Err(error) => {
            let _ = server.stop(STOP_PATIENCE).await;
            Err(error)
        }
    }
}

async fn prove_and_choose(
    server: &mut Recovering,
    request: &RecoverRequest<'_>,
    begun: &mut Begun,
    layout: &Layout,
    meter: &Meter,
) -> Result<Recovered> {
    let (arrived, rate) = watch::arrive(server, request, meter).await?;
    let proof = watch::prove(request, &arrived, server.stop_line())?;
    rate.keep(&request.setup.config.paths.state_dir);
    begun.prove(proof.clone())?;
    crash_point("recovery-proven");
    let mut done = Recovered { proof, promoted: false, open: None, extracted: Vec::new() };
    if aim::runs_to_end(request.plan) && request.choice != Choice::Promote {
        server.hold().await;
    }
    match &request.choice {
        Choice::Stop | Choice::Open => {}
        Choice::Extract(tables) => {
            for table in tables {
                meter.label(format!("extracting {table}"));
                done.extracted.push(extract(server, table, &request.directory).await?);
            }
        }
        Choice::Promote => {
            meter.label("promoting");
            begun.reach(Step::Promoting)?;
            server.promote(layout)?;
            crash_point("recovery-promoting");
            let opened = opened(server).await?;
            if aim::runs_to_end(request.plan) {
                // Nothing held it: before it opened it replayed what came since it was proven.
                let again = watch::prove(request, &opened, None);
                begun.prove_again(again.as_ref().ok().cloned())?;
                done.proof = again.context("prove the cluster again, now that it is open")?;
            }
            begun.reach(Step::Promoted)?;
            done.promoted = true;
        }
    }
    Ok(done)
}

/// A cluster that an earlier attempt has made one of its own: its own log ends that attempt's
/// work, and nothing is replayed into it any more.
async fn own_already(
    request: &RecoverRequest<'_>,
    begun: &mut Begun,
    layout: &Layout,
    meter: &Meter,
) -> Result<Option<Recovered>> {
    let signals = ["standby.signal", "recovery.signal"];
    let waits = signals.iter().any(|name| layout.data().join(name).exists());
    if begun.step() < Step::Promoting || waits {
        return Ok(None);
    }
    let Some(proof) = begun.proof().cloned() else {
        return Err(unproven());
    };
    if request.choice != Choice::Promote {
        let text = format!(
            "{} was promoted: it is a cluster of its own, and stands at no target any more",
            layout.data().display()
        );
        return Err(Problem::Target(text).into());
    }
    if begun.step() == Step::Promoting {
        meter.label("ending the promotion");
        let mut server = Recovering::start(layout, &request.bin_dir, &request.user)?;
        opened(&mut server).await?;
        server.stop(STOP_PATIENCE).await?;
        // It broke off before it was proven again: nothing but what was proven may be in it.
        let late = |at| at > proof.replayed;
        let timed = matches!(request.plan.target, Target::Time(_)) && proof.stopped.is_none();
        if timed && watch::opened_at(&layout.data()).is_none_or(late) {
            begun.prove_again(None)?;
            return Err(unproven());
        }
        begun.reach(Step::Promoted)?;
    }
    Ok(Some(Recovered { proof, promoted: true, open: None, extracted: Vec::new() }))
}

fn unproven() -> anyhow::Error {
    let text = "it was promoted, and what it came to was not proven: it is not to be used";
    Problem::Mismatch(text.to_owned()).into()
}

async fn extract(server: &Recovering, table: &PickedTable, directory: &Path) -> Result<Extracted> {
    let folder = directory.join("extracted");
    std::fs::create_dir_all(&folder).context("make the directory")?;
    let harmless = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' };
    let name: String = table.to_string().chars().map(harmless).collect();
    // A dump of an earlier attempt stays: it was proven, or its name says that it was not.
    let free = (1..).map(|n| match n {
        1 => folder.join(format!("{name}.dump")),
        n => folder.join(format!("{name}.{n}.dump")),
    });
    let file = free.take(10_000).find(|path| !path.exists()).context("too many dumps")?;
    let mut part = file.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let _ = std::fs::remove_file(&part);
    let rows = pick_table(server.server(), table, &part, APPLICATION).await;
    let rows = rows.with_context(|| format!("extract {table}"))?;
    std::fs::rename(&part, &file).with_context(|| format!("rename {}", part.display()))?;
    Ok(Extracted { table: table.clone(), file, rows })
}

/// Waits until it has opened; gives where its replay ended, which it still tells then.
async fn opened(server: &mut Recovering) -> Result<Progress> {
    loop {
        if let Some(progress) = server.look().await.context("promote the cluster")?
            && !progress.in_recovery
        {
            return Ok(progress);
        }
    }
}

/// Does `work`, which ends with [`recover`], and meanwhile fetches the log that its server will ask
/// for. The earlier it begins the less the server waits; the room for what waits is bounded.
///
/// # Errors
/// The work's; the file system's before it has begun.
pub async fn with_log_ahead<T>(
    request: &RecoverRequest<'_>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    // A server of an earlier attempt would take what waits, and say what it asked for.
    end_left(&Layout::new(&request.directory), STOP_PATIENCE).await?;
    let ahead = ahead(&request.directory);
    ahead.begin()?;
    let done = tokio::select! {
        done = work => done,
        never = help(request, &ahead) => match never {},
    };
    ahead.end();
    done
}

/// Fetches ahead for as long as it is awaited; does not end by itself.
async fn help(request: &RecoverRequest<'_>, ahead: &Ahead) -> Infallible {
    let Some(size) = request.known.base(&request.plan.base).map(|base| base.segment_size) else {
        return std::future::pending().await;
    };
    let legs: Vec<Expected> = request.plan.path.iter().map(expected).collect();
    let fetches = request.setup.limits().fetches;
    let system_id = request.known.system_id;
    if let Some(stanza) = &request.known.stanza {
        fetch_archived(ahead, stanza, (system_id, size), &legs, fetches).await;
        return std::future::pending().await;
    }
    let (Ok(source), Some((_, identities))) = (request.source.parse(), &request.identity) else {
        return std::future::pending().await;
    };
    let shelf = Shelf::reader(request.repository, &source);
    fetch_ahead(ahead, &shelf, system_id, size, &legs, fetches, identities).await;
    std::future::pending().await
}

fn expected(leg: &Leg) -> Expected {
    Expected { timeline: leg.timeline, from: leg.from, until: leg.until }
}
