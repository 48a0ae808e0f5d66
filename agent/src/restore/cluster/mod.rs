//! A cluster brought to a point in time: extracted, replayed, looked at, and only then believed.

mod aim;
mod base;
mod behind;
mod choose;
mod command;
mod history;
mod log_ahead;
mod own;
mod rate;
mod serve;
mod spaces;
pub(crate) mod stanza_base;
mod state;
mod take;
mod target_reached;
mod unfit;
mod watch;
mod whose;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use drctl_engines::pg::physical::{
    ClusterShape, Layout, PickedTable, Question, Recovering, Recovery, Soundness, Surroundings,
    Undecided, UnfitSetting, prepare,
};
use drctl_engines::sandbox::Sandbox;
use drctl_model::{Lsn, RowKey, TableRows};
use drctl_policies::recovery::RecoveryPlan;
use drctl_store::Identities;

pub use aim::{bound_digest, forks, left_out, plan_digest, time_of, timeline_of};
pub use base::extract_base;
pub use behind::Overtaken;
pub use log_ahead::with_log_ahead;
pub use own::{end_own, is_own};
pub use rate::{Rate, last_rate};
pub use state::{Identity, Kept, Proof, RecoveryState, Step, is_begun, kept, waits};
pub(crate) use take::{ABSENT, DELIVERED, FAILED, LEFT, PLACED, is_placed, placed, take};
pub use whose::{Whose, whose_number};

pub(crate) use self::command::hidden_from_servers;
use self::command::{hidden, note_stanza, restore_command, take_command};
use self::history::leave_history;
use self::serve::Serving;
use super::known::Known;
use crate::engine::{LogArchives, Pieces};
use crate::host::{AgentError, Meter, Setup, Stop, crash_point};
use crate::log::LogStore;
use crate::repository::Repository;

/// How long its last checkpoint may take.
pub(crate) const STOP_PATIENCE: Duration = Duration::from_secs(600);

/// How often it is started again since the WAL asks for larger settings: each change of them in the
/// WAL is one, and a cluster sees few.
const STARTS: usize = 50;

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
    /// It is looked at; then its server is stopped.
    Prove(Box<Proving>),
}

/// How a cluster is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proving {
    /// With this key all that it holds is digested.
    pub digest: Option<RowKey>,
    /// What is asked of it.
    pub questions: Vec<Question>,
    /// Whether its indexes and tables are checked by PostgreSQL's own module.
    pub amcheck: bool,
}

/// That the cluster was recovered, and could not be looked at, said beside what kept it from that.
#[derive(Debug)]
pub struct WhileProving;

impl std::fmt::Display for WhileProving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("digest what was recovered")
    }
}

/// What was found by that.
#[derive(Debug, Clone, Default)]
pub struct Proved {
    /// What it holds, where that was digested.
    pub shape: Option<ClusterShape>,
    /// Whether its indexes and tables are sound, where that was checked.
    pub soundness: Option<Soundness>,
    /// Of each question the answer, or what kept it from being given.
    pub answers: Vec<Result<Option<String>, String>>,
    /// How long that took.
    pub took: Duration,
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
    /// How many tables were locked by transactions that had not ended at the target, where it was
    /// made a cluster of its own so that it can be read.
    pub released: Option<u64>,
    /// What was prepared and not decided in it, where it was made a cluster of its own.
    pub prepared: Vec<Undecided>,
    /// Where its server is reached, where that was left open.
    pub open: Option<Opened>,
    /// The tables that were taken out.
    pub extracted: Vec<Extracted>,
    /// What was found by looking at it.
    pub proved: Option<Box<Proved>>,
    /// Settings of its own with which its server does not start on this host.
    pub unfit: Vec<UnfitSetting>,
    /// Where files are that lay outside of what its base copied, and what is missing of such.
    pub outside: Vec<String>,
}

/// How a server that was left open is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The directory of its socket.
    pub socket: PathBuf,
    /// A role that it lets in.
    pub user: String,
    /// A database that it has.
    pub database: String,
}

impl Recovered {
    fn of(proof: Proof) -> Self {
        Recovered {
            proof,
            promoted: false,
            released: None,
            prepared: Vec::new(),
            open: None,
            extracted: Vec::new(),
            proved: None,
            unfit: Vec::new(),
            outside: Vec::new(),
        }
    }
}

/// What is to be recovered, and how.
pub struct RecoverRequest<'a> {
    /// The configuration.
    pub setup: &'a Setup,
    /// Where the WAL lies.
    pub repository: &'a Repository,
    /// The source's name, as the WAL is fetched by it.
    pub source: &'a str,
    /// What the bucket holds.
    pub known: &'a Known,
    /// The plan.
    pub plan: &'a RecoveryPlan,
    /// The directory into which the base was extracted.
    pub directory: PathBuf,
    /// The file of the identity that opens the WAL, and the same, read; nothing where all WAL lies
    /// in pgBackRest's archive, which opens it by itself.
    pub identity: Option<(PathBuf, Identities)>,
    /// The role as which the recovering server is asked.
    pub user: String,
    /// Where the server's programs of the base's version are.
    pub bin_dir: PathBuf,
    /// What becomes of it then.
    pub choice: Choice,
    /// How a sandbox is made for its server; nothing where it is to do without.
    pub sandbox: Option<Sandbox>,
    /// Libraries that its server loads.
    pub preload: Vec<String>,
}

impl RecoverRequest<'_> {
    /// The WAL of the cluster, wherever it lies; drctl's own up to `bound`.
    fn log_archives(&self, bound: Option<Lsn>) -> Result<LogArchives<'_>> {
        let source = self.source.parse().context("read the source's name")?;
        let log_store = LogStore::reader(self.repository, &source).up_to(bound.map(Into::into));
        let log_store = log_store.without(&self.known.avoided);
        let identities = self.identity.as_ref().map(|(_, identities)| identities);
        let own = Pieces { log_store, cache: None, identities };
        LogArchives::of(self.setup, self.known.stanza.as_ref(), own)
    }
}

/// What a server of this recovery is given.
struct Given<'a> {
    around: &'a Surroundings<'a>,
    serving: &'a Serving<'a>,
}

/// Replays the WAL onto a base that was extracted, proves where that came to, and does with it what
/// was chosen. Goes on where an earlier attempt ended: PostgreSQL replays from its own last point
/// of restart, and all is proven again.
///
/// # Errors
/// [`AgentError::Mismatch`] where the target was not reached: what is there is not to be used.
pub async fn recover(
    request: &RecoverRequest<'_>,
    state: &mut RecoveryState,
    meter: &Meter,
    stop: &Stop,
) -> Result<Recovered> {
    let layout = Layout::new(&request.directory);
    let base = request.known.base(&request.plan.base).context("the plan's base is gone")?;
    let serving = Serving::new(request, base.segment_size)?;
    let log = |private: &Path, program: &Path| {
        serving.listen(private).map(|socket| take_command(&socket, program))
    };
    let mut around = Surroundings {
        sandbox: request.sandbox.as_ref(),
        hidden: hidden(request),
        outlives: request.choice == Choice::Open,
        preload: request.preload.clone(),
        log: &log,
        led: Vec::new(),
    };
    let given = Given { around: &around, serving: &serving };
    if let Some(done) = own::already(request, state, &layout, (&given, meter)).await? {
        return Ok(Recovered { unfit: unfit::unfit(request, &layout), ..done });
    }
    let recovery = Recovery {
        restore_command: restore_command(request, base.segment_size.bytes())?,
        timeline: request.plan.timeline,
        stop: aim::stop_at(request.plan),
    };
    prepare(&layout, &recovery).context("prepare the cluster")?;
    note_stanza(request)?;
    leave_history(request, &layout)?;
    // Before hours of replay: whoever is to start it afterwards may need as long to decide.
    let unfit = unfit::told(request, &layout);
    let done = replayed(request, state, (&serving, &mut around), meter, stop).await?;
    Ok(Recovered { unfit, ..done })
}

/// The log replayed, proven, and what was chosen done.
async fn replayed(
    request: &RecoverRequest<'_>,
    state: &mut RecoveryState,
    (serving, around): (&Serving<'_>, &mut Surroundings<'_>),
    meter: &Meter,
    stop: &Stop,
) -> Result<Recovered> {
    let layout = Layout::new(&request.directory);
    for _ in 0..STARTS {
        around.led = serving.spaces().led();
        meter.label("starting the restored server");
        let mut server = Recovering::start(&layout, &request.bin_dir, &request.user, around)?;
        // Until all is left: a question that is cut off before ends the server.
        let mut answers = std::pin::pin!(serving.run());
        let done = tokio::select! {
            done = prove_and_choose(&mut server, request, (state, &layout, serving), meter) => done,
            never = &mut answers => match never {},
            () = stop.requested() => Err(AgentError::Interrupted.into()),
        };
        let done = match done {
            Ok(None) => {
                tracing::info!("the WAL needs larger settings: the server is restarted");
                server.stop(STOP_PATIENCE).await?;
                continue;
            }
            Ok(Some(done)) => Ok(done),
            Err(error) if serving.spaces().wants_another_sandbox() && !is_interrupted(&error) => {
                tracing::info!("the server is restarted in another sandbox: {error:#}");
                server.stop(STOP_PATIENCE).await?;
                continue;
            }
            Err(error) if is_interrupted(&error) => Err(error),
            Err(error) => Err(serving.blamed(error)),
        };
        return tokio::select! {
            ended = choose::end(server, request, serving, done) => ended,
            never = answers => match never {},
        };
    }
    bail!("the WAL asked {STARTS} times for larger settings of the server that replays it")
}

fn is_interrupted(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(AgentError::Interrupted))
}

/// Nothing where the WAL asks for larger settings than the server has.
async fn prove_and_choose(
    server: &mut Recovering,
    request: &RecoverRequest<'_>,
    (state, layout, serving): (&mut RecoveryState, &Layout, &Serving<'_>),
    meter: &Meter,
) -> Result<Option<Recovered>> {
    let of = (&mut *state, layout, serving);
    let Some((arrived, rate)) = watch::arrive(server, request, of, meter).await? else {
        return Ok(None);
    };
    let mut proof = watch::prove(request, &arrived, server.stopped())?;
    proof.overtaken = behind::overtaken(request, &proof).await.unwrap_or_else(|error| {
        tracing::warn!(
            "whether commits of an earlier time come after the stop was not checked: {error:#}"
        );
        None
    });
    if arrived.in_recovery {
        rate.keep(&request.setup.config.paths.state_dir);
    }
    state.prove(proof)?;
    crash_point("recovery-proven");
    choose::choose(server, request, (state, layout), !arrived.in_recovery, meter).await.map(Some)
}
