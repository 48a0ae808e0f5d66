//! What the agent leaves to the databases: bounds that change with the time of day, and pauses while the
//! host is under pressure or replicas fall behind.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use drctl_model::Clock;
use drctl_policies::scheduler::JobKey;
use drctl_policies::{Pause, Throttle as Setting, WorkLimits, limits_at};
use drctl_store::{Bounds, Pace};
use tokio::sync::watch::{Receiver, Sender};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::engine;
use crate::host::Setup;
use crate::host::nice::give_way_by;
use crate::host::pressure::highest;
use crate::log::CatchUp;

/// How often is looked which bounds are in force, and whether work pauses.
const EVERY: Duration = Duration::from_secs(5);

/// How often a server is asked how far its replicas are behind.
const ASKED_EVERY: Duration = Duration::from_secs(10);

/// Gives way to other processes by so much; its children do the same.
pub(super) fn give_way(nice: i32) {
    if nice > 0
        && let Err(error) = give_way_by(nice)
    {
        tracing::warn!("the agent does not give way to other processes: {error}");
    }
}

/// What is in force.
#[derive(Debug, Clone, Default, PartialEq)]
struct InForce {
    limits: WorkLimits,
    /// Why work pauses.
    pauses: Option<String>,
}

/// Bounds of all work that gives way, while the agent runs.
pub(super) struct Throttle {
    gives_way: GivesWay,
    settings: Sender<BTreeMap<String, Setting>>,
    watching: JoinHandle<()>,
}

impl Throttle {
    pub(super) fn begin(setup: &Setup) -> Self {
        let settings = Sender::new(setup.config.throttle.clone());
        let (pace, in_force) = (Arc::new(Pace::new(Bounds::default())), Sender::default());
        let before = Duration::ZERO;
        let gives_way =
            GivesWay { pace: Arc::clone(&pace), in_force: in_force.subscribe(), before };
        let (clock, pressure) = (Arc::clone(&setup.clock), Pause::default());
        let mut turns = Turns { clock, pace, in_force, pressure, unknown: false };
        // What begins at once is within the bounds already.
        turns.turn(Duration::ZERO, &settings.borrow());
        let watching = tokio::spawn(turns.watch(settings.subscribe()));
        Throttle { gives_way, settings, watching }
    }

    /// The configuration was read again.
    pub(super) fn reloaded(&self, setup: &Setup) {
        self.settings.send_replace(setup.config.throttle.clone());
    }

    /// For a run that gives way.
    pub(super) fn gives_way(&self) -> GivesWay {
        GivesWay { before: self.gives_way.pace.waited(), ..self.gives_way.clone() }
    }

    /// Why all that gives way pauses now.
    pub(super) fn pauses(&self) -> Option<String> {
        self.gives_way.in_force.borrow().pauses.clone()
    }

    /// From now on nothing gives way: what runs is to come to its end.
    pub(super) fn end(&self) {
        self.watching.abort();
        self.gives_way.pace.set(Bounds::default());
    }
}

/// Says which bounds are in force, whenever they change.
struct Turns {
    clock: Arc<dyn Clock>,
    pace: Arc<Pace>,
    in_force: Sender<InForce>,
    pressure: Pause,
    /// Whether it was told that this kernel tells of no pressure.
    unknown: bool,
}

impl Turns {
    async fn watch(mut self, mut settings: Receiver<BTreeMap<String, Setting>>) {
        let begun = Instant::now();
        loop {
            let idle = settings.borrow_and_update().is_empty();
            let every = if idle { Duration::MAX } else { EVERY };
            if let Ok(Err(_)) = timeout(every, settings.changed()).await {
                return;
            }
            let now = settings.borrow().clone();
            self.turn(begun.elapsed(), &now);
        }
    }

    fn turn(&mut self, since: Duration, settings: &BTreeMap<String, Setting>) {
        let limits = limits_at(settings.values(), self.clock.now());
        let pauses = self.under_pressure(since, limits.pause_above_pressure);
        self.pace.set(Bounds {
            bytes_per_second: limits.bytes_per_second,
            requests_per_second: limits.requests_per_second,
            paused: pauses.is_some(),
        });
        let now = InForce { limits, pauses };
        self.in_force.send_if_modified(|was| {
            match (&was.pauses, &now.pauses) {
                (None, Some(why)) => {
                    tracing::info!("backups, verify and WAL that can wait pause: {why}")
                }
                (Some(_), None) => tracing::info!("backups, verify and WAL that can wait go on"),
                _ => {}
            }
            let changed = *was != now;
            *was = now;
            changed
        });
    }

    /// Why work pauses, if it does.
    fn under_pressure(&mut self, since: Duration, limit: Option<u64>) -> Option<String> {
        let measured = limit.and_then(|_| highest());
        if limit.is_some() && measured.is_none() && !std::mem::replace(&mut self.unknown, true) {
            let text =
                "this kernel tells of no pressure (PSI): `pause_above_pressure` has no effect";
            tracing::warn!("{text}");
        }
        #[expect(clippy::cast_precision_loss, reason = "a percentage")]
        let limit = limit.map(|limit| limit as f64);
        let percent = measured.map(|(_, percent)| percent);
        let pauses = self.pressure.turn(since, percent, limit);
        let (what, percent) = measured.filter(|_| pauses)?;
        Some(format!("the host is under pressure: {percent:.0} % of the time some wait for {what}"))
    }
}

/// What a run that gives way goes by.
#[derive(Clone)]
pub(super) struct GivesWay {
    pace: Arc<Pace>,
    in_force: Receiver<InForce>,
    /// How long all had waited when the run began.
    before: Duration,
}

impl GivesWay {
    /// Tells how long runs waited while this one ran.
    pub(super) fn tell(&self, key: &JobKey) {
        let waited_ms = self.pace.waited().saturating_sub(self.before).as_millis();
        if waited_ms > 0 {
            let (source, job) = (key.source.as_str(), key.kind.as_str());
            tracing::info!(
                source,
                job,
                waited_ms,
                "it gave way to the databases, or others beside it did"
            );
        }
    }

    /// The configuration for a run that is within the bounds.
    pub(super) fn setup(&self, setup: &Setup) -> Setup {
        setup.at_pace(Arc::clone(&self.pace))
    }

    /// What a stream of log goes by; nothing where nobody said how much log may be lost.
    pub(super) fn catch_up(&self, rpo: Option<Duration>) -> Option<CatchUp> {
        Some(CatchUp { pace: Arc::clone(&self.pace), age: rpo? / 2 })
    }

    /// Does a source's work while its replicas are not too far behind, and within the bounds.
    pub(super) async fn work<T>(
        &self,
        setup: &Setup,
        source: &str,
        work: impl AsyncFnOnce(&Setup) -> T,
    ) -> T {
        let of_source = Arc::new(Pace::new(Bounds::default()));
        let mut replicas = Replicas {
            in_force: self.in_force.clone(),
            pace: Arc::clone(&of_source),
            begun: Instant::now(),
            pause: Pause::default(),
            unseen: false,
        };
        // Nothing is moved before it is known whether it may be.
        replicas.turn(setup, source).await;
        let setup = self.setup(setup).at_pace(Arc::clone(&of_source));
        let done = tokio::select! {
            done = work(&setup) => done,
            never = replicas.follow(&setup, source) => match never {},
        };
        let waited_ms = of_source.waited().as_millis();
        if waited_ms > 0 {
            tracing::info!(source, waited_ms, "the backup waited for replicas");
        }
        done
    }
}

/// Pauses a source's work while its replicas are too far behind.
struct Replicas {
    in_force: Receiver<InForce>,
    pace: Arc<Pace>,
    begun: Instant,
    pause: Pause,
    /// Whether it was told that nobody can see them.
    unseen: bool,
}

impl Replicas {
    async fn follow(&mut self, setup: &Setup, source: &str) -> Infallible {
        loop {
            let is_limited = self.limit().is_some();
            let every = if is_limited { ASKED_EVERY } else { Duration::MAX };
            if let Ok(Err(_)) = timeout(every, self.in_force.changed()).await {
                // The agent stops: nothing gives way any more.
                self.pace.set(Bounds::default());
                return std::future::pending().await;
            }
            self.turn(setup, source).await;
        }
    }

    fn limit(&mut self) -> Option<Duration> {
        self.in_force.borrow_and_update().limits.pause_above_replica_lag
    }

    /// Asks once, and pauses or lets go on.
    async fn turn(&mut self, setup: &Setup, source: &str) {
        let limit = self.limit();
        let lag = match limit {
            Some(_) => replica_lag(setup, source, &mut self.unseen).await,
            None => None,
        };
        let seconds = |time: Duration| time.as_secs_f64();
        let (now, was) = (self.begun.elapsed(), self.pace.bounds().paused);
        let paused = self.pause.turn(now, lag.map(seconds), limit.map(seconds));
        if paused != was {
            let what = match paused {
                true => "the backup pauses: a replica is too far behind",
                false => "the backup goes on",
            };
            tracing::info!(source, lag = lag.map(seconds), "{what}");
        }
        self.pace.set(Bounds { paused, ..Bounds::default() });
    }
}

/// How far a source's replicas are behind; nothing where it is not known, which is told once.
async fn replica_lag(setup: &Setup, source: &str, told: &mut bool) -> Option<Duration> {
    let (_, configured) = setup.source(source).ok()?;
    let asked = timeout(ASKED_EVERY, engine::of(configured).replica_lag(setup)).await;
    let error = match asked {
        Ok(Ok(lag)) => return Some(lag),
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "the server did not answer".to_owned(),
    };
    if !std::mem::replace(told, true) {
        tracing::warn!(
            source,
            "the backup does not pause for replicas, whose lag cannot be read: {error}"
        );
    }
    None
}
