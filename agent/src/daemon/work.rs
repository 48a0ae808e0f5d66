//! One run of a job, on a thread of its own: it does what the command does, by the same functions. The
//! thread shares the runtime with all others; a panic in it is the end of that run and of nothing else.

use anyhow::{Context as _, Result, bail};
use drctl_model::{JobKind, shown};
use drctl_policies::scheduler::{JobKey, Outcome};
use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;
use tracing::field::Empty;
use tracing::{Instrument as _, Span, error_span};

use super::Told;
use super::reports::send;
use super::streams::options;
use super::threads::spawn;
use super::throttle::GivesWay;
use super::waits::until_free;
use crate::backup::RequestedKind;
use crate::drill::{DrillRequest, drill_on_record, weighted};
use crate::engine::{backup, index, stream};
use crate::health::scrub;
use crate::host::{AgentError, Failure, Meter, Setup, Stop, Stopper};
use crate::log::HeldLog;
use crate::prune::remove_unattended;

/// A run that is under way.
pub(super) struct Running {
    /// Since when.
    pub(super) since: Timestamp,
    /// How far it is.
    pub(super) meter: Meter,
    /// What log its server holds, where it streams that.
    pub(super) held: HeldLog,
    stopper: Stopper,
    /// What records say of it, beside their own fields.
    pub(super) span: Span,
}

impl Running {
    /// Has it end as soon as it can, with a true record.
    pub(super) fn stop(&self) {
        self.stopper.stop();
    }
}

/// How a run ended.
pub(super) struct Ended {
    pub(super) key: JobKey,
    pub(super) outcome: Outcome,
    /// What went wrong, for people.
    pub(super) why: Option<String>,
    /// The code of that.
    pub(super) code: Option<&'static str>,
    /// Whether it made a backup that does not count as good, or found one.
    pub(super) suspect: bool,
}

/// Begins a run; `tell` hears how it ended, whatever becomes of it. `due` is since when the job was due.
///
/// # Errors
/// The system's, where it has no thread left.
pub(super) fn begin(
    setup: &Setup,
    (key, due): (JobKey, Option<Timestamp>),
    gives_way: GivesWay,
    tell: UnboundedSender<Told>,
) -> std::io::Result<Running> {
    let (stopper, stop) = Stop::new();
    let meter = Meter::default();
    let (source, job) = (key.source.as_str(), key.kind.as_str());
    let span = error_span!("run", source, job, run = Empty, code = Empty);
    let since = setup.clock.now();
    let held = HeldLog::default();
    let running =
        Running { since, meter: meter.clone(), held: held.clone(), stopper, span: span.clone() };
    let name = format!("{} {}", key.kind.as_str(), key.source);
    let (setup, of, until) = (setup.clone(), key.clone(), stop.clone());
    let work = async move || {
        let run = async {
            let done = work(&setup, (&of, due), &gives_way, (&meter, held, &until)).await;
            gives_way.tell(&of);
            done
        };
        run.instrument(span).await
    };
    let ended = move |done| {
        let suspect = matches!(done, Ok(Made::Suspect));
        let (outcome, failed) = judged(done, &stop);
        let (why, code) = failed.unzip();
        // Nobody hears it only where the agent itself is gone.
        let _ = tell.send(Told::Ended(Ended { key, outcome, why, code, suspect }));
    };
    spawn(name, work, ended)?;
    Ok(running)
}

/// What a run that came to its end made.
enum Made {
    /// All that was asked for.
    Whole,
    /// A backup that does not count as good; or it found that something is not as it was stored.
    Suspect,
}

/// What a run comes to.
fn judged(done: Result<Made>, stop: &Stop) -> (Outcome, Option<(String, &'static str)>) {
    match done {
        Ok(_) => (Outcome::Succeeded, None),
        Err(error) if matches!(error.downcast_ref(), Some(AgentError::Interrupted)) => {
            (Outcome::Stopped, None)
        }
        // What fails because it is ended was ended.
        Err(_) if stop.is_requested() => (Outcome::Stopped, None),
        Err(error) => {
            let failure = Failure::of(&error);
            let text = shown(&failure.messages.join(": "), 500);
            let why = format!("{text} ({})", failure.code);
            (Outcome::Failed, Some((why, failure.code)))
        }
    }
}

/// The same of a run of a simulation.
#[cfg(feature = "crash-points")]
pub(super) fn outcome(done: Result<()>, stop: &Stop) -> (Outcome, Option<String>) {
    let (outcome, failed) = judged(done.map(|()| Made::Whole), stop);
    (outcome, failed.map(|(why, _)| why))
}

/// Removes what no policy keeps, and tells what came of it.
pub(super) async fn prune(setup: &Setup, key: &JobKey, stop: &Stop) -> Result<()> {
    let source = key.source.as_str();
    let _ = until_free(setup, key, None, stop).await?;
    let (plan, done) = remove_unattended(&setup.for_prune(), &key.source, stop).await?;
    for why in plan.blocked.iter().chain(&plan.unattended) {
        tracing::warn!(source, "removal is blocked: {}", shown(why, 300));
    }
    for (what, why) in &done.retained {
        tracing::info!(source, "retained: {}: {}", shown(what, 200), shown(why, 200));
    }
    for (what, why) in &done.left {
        tracing::warn!(source, "not removed: {}: {}", shown(what, 200), shown(why, 200));
    }
    tracing::info!(source, backups = done.gone.len(), objects = done.objects, "pruned");
    if done.stopped { Err(AgentError::Interrupted.into()) } else { Ok(()) }
}

/// Reads a share of what is stored. What it finds is no failure of the run: it is on record, a finding,
/// and told here.
async fn verify(setup: &Setup, key: &JobKey, meter: &Meter, stop: &Stop) -> Result<Made> {
    let source = key.source.as_str();
    let Some(found) = scrub(setup, &key.source, meter, stop).await? else {
        tracing::info!(source, "there is nothing to verify yet");
        return Ok(Made::Whole);
    };
    let bytes = found.read_bytes();
    for what in found.strangers().iter().take(10) {
        tracing::warn!(source, "verify: {}", shown(what, 500));
    }
    if let Some((code, why)) = found.amiss(&key.source) {
        let _ = Span::current().record("code", code.as_str());
        tracing::error!(source, bytes, "verify: {why} ({code})");
        return Ok(Made::Suspect);
    }
    tracing::info!(source, bytes, "verified: nothing is amiss");
    Ok(Made::Whole)
}

/// Tries a backup in a scratch server. What that says is no failure of the run: it is evidence, on record, a
/// finding, and told here.
async fn drill(setup: &Setup, key: &JobKey, meter: &Meter, stop: &Stop) -> Result<Made> {
    let source = key.source.as_str();
    let policy = &setup.source(source)?.1.policy.drill;
    let request = DrillRequest {
        source: key.source.clone(),
        wanted: weighted(policy, rand::random()),
        identity: None,
        scratch: None,
        within: policy.max_duration,
        kit: None,
        together: None,
    };
    let done = drill_on_record(setup, &request, meter, stop).await?;
    let drill = &done.drill.drill;
    match done.amiss() {
        None => {
            tracing::info!(source, %drill, "drill: {}", done.drill.says());
            Ok(Made::Whole)
        }
        Some((code, why)) => {
            let _ = Span::current().record("code", &code);
            tracing::error!(source, %drill, "drill: {why} ({code})");
            Ok(Made::Suspect)
        }
    }
}

/// Whether a run is not waited for where the agent ends: a stream has no end of its own; a verification
/// goes on later where it was, and so do indexes; a drill removes what it made.
pub(super) fn ends_at_once(kind: JobKind) -> bool {
    use JobKind::{Drill, LogIndex, LogStream, Report, Verify};
    matches!(kind, LogStream | Verify | Drill | LogIndex | Report)
}

/// Does it.
async fn work(
    setup: &Setup,
    (key, due): (&JobKey, Option<Timestamp>),
    gives_way: &GivesWay,
    (meter, held, stop): (&Meter, HeldLog, &Stop),
) -> Result<Made> {
    let source = key.source.as_str();
    match key.kind {
        JobKind::Backup => {
            if until_free(setup, key, due, stop).await? {
                tracing::info!(source, "somebody made it since it was due: nothing is left to do");
                return Ok(Made::Whole);
            }
            let as_configured = RequestedKind::AsConfigured;
            let work =
                async |setup: &Setup| backup(setup, source, as_configured, meter, stop).await;
            let done = gives_way.work(setup, source, work).await?;
            for note in &done.notes {
                tracing::info!(source, "note: {}", shown(note, 500));
            }
            for reason in &done.summary.suspect {
                let backup = &done.summary.backup;
                tracing::warn!(source, %backup, "the backup is suspect: {}", shown(reason, 300));
            }
            Ok(if done.summary.is_good() { Made::Whole } else { Made::Suspect })
        }
        JobKind::LogStream => {
            let configured = setup.source(source)?.1;
            let log = configured.engine.log().context("the source has no log")?;
            let catch_up = gives_way.catch_up(configured.policy.objectives.rpo);
            let options = options(log, catch_up, held);
            let say = |text: String| tracing::info!(source, "{text}");
            stream(setup, source, &options, &say, stop).await?;
            if !stop.is_requested() {
                bail!("the stream ended, though nobody wished for it");
            }
            Err(AgentError::Interrupted.into())
        }
        JobKind::Prune => prune(setup, key, stop).await.map(|()| Made::Whole),
        JobKind::Verify => verify(&gives_way.setup(setup), key, meter, stop).await,
        JobKind::LogIndex => {
            let written = index(setup, source, stop).await?;
            tracing::info!(source, indexes = written, "the log is indexed");
            Ok(Made::Whole)
        }
        JobKind::Drill => drill(&gives_way.setup(setup), key, meter, stop).await,
        JobKind::Report => send(setup, &key.source, stop).await.map(|()| Made::Whole),
        other => bail!("the agent does not know how to {}", other.words()),
    }
}
