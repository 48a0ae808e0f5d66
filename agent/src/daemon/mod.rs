//! The service: the scheduler says what is due, and what the commands do is done, on time and on record.
//!
//! One process of one runtime. It keeps nothing that catalog and bucket do not have: whoever starts it again
//! goes on from there.

mod alarm;
mod asked;
mod beats;
pub(crate) mod control;
mod look;
mod metrics;
mod past;
mod pushes;
mod reply;
mod reports;
#[cfg(feature = "crash-points")]
pub mod simulated;
mod single;
mod specs;
mod streams;
mod systemd;
mod telling;
mod threads;
mod throttle;
mod waits;
mod work;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use drctl_policies::scheduler::{Action, Event, JobKey, Outcome, Scheduler, Why};
use jiff::Timestamp;
use tokio::sync::mpsc::{self, Receiver, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout_at};
use tracing::Span;

use self::alarm::Alarm;
use self::beats::{Beaten, Beats};
use self::control::{Asked, Refusal, Request, Rights, Server};
use self::look::{Look, Looks};
use self::metrics::Metrics;
use self::pushes::Pushes;
use self::single::Single;
use self::telling::Telling;
use self::throttle::Throttle;
use self::work::{Ended, Running};
use crate::audit::{Act, Log, Logged, as_agent};
use crate::health::Health;
use crate::host::{Setup, Stop};

pub(crate) use self::single::is_running;

/// What a run is given beside the time to stop: what it has begun to write is written.
const LAST_MOMENTS: Duration = Duration::from_secs(20);

/// The agent, while it runs.
struct Agent {
    setup: Setup,
    since: Timestamp,
    scheduler: Scheduler,
    running: BTreeMap<JobKey, Running>,
    alarm: Alarm,
    /// Why the configuration that lies there now was not taken.
    refused: Option<String>,
    tell: UnboundedSender<Told>,
    told: UnboundedReceiver<Told>,
    looks: Looks,
    beats: Beats,
    telling: Telling,
    metrics: Metrics,
    throttle: Throttle,
    asked: Receiver<Asked>,
    pushes: Pushes,
    /// When the service manager next wants to hear of us.
    alive: Option<Interval>,
    listening: Server,
    _single: Single,
}

/// What its own threads tell it.
enum Told {
    Ended(Ended),
    Looked(Look),
    Beaten(Beaten),
}

/// What the agent hears.
enum Heard {
    Rung,
    Told(Told),
    LookDue,
    BeatDue,
    Asked(Asked),
    Reload,
    Alive,
    Stop,
}

/// Runs the agent until the end is wished for. `reload` tells that the configuration is to be read again.
///
/// # Errors
/// [`AgentError::SecondAgent`](crate::host::AgentError::SecondAgent); a place of its own that it cannot use;
/// the clock's. What fails in a job ends the job, and never the agent.
pub async fn run(setup: Setup, stop: &Stop, mut reload: Receiver<()>) -> Result<()> {
    as_agent();
    let mut agent = Agent::begin(setup).await?;
    let logged = Logged::begin(&agent.setup, Act::new("agent"));
    agent.handle(Event::Tick);
    systemd::ready();
    tracing::info!(sources = agent.setup.config.sources.len(), "the agent is ready");
    loop {
        agent.arm().await?;
        match agent.hear(stop, &mut reload).await {
            Heard::Rung => agent.handle(Event::Tick),
            Heard::Told(Told::Ended(ended)) => agent.ended(ended),
            Heard::Told(Told::Looked(look)) => agent.looked(look),
            Heard::Told(Told::Beaten(beaten)) => agent.beaten(&beaten),
            Heard::LookDue => agent.looks.begin(&agent.setup, agent.tell.clone()),
            Heard::BeatDue => {
                let jobs = (beats::jobs(&agent), agent.since);
                agent.beats.begin(&agent.setup, jobs, agent.tell.clone());
            }
            Heard::Asked(asked) => {
                let answer = agent.answer(&asked);
                // Whoever asked may have gone.
                let _ = asked.answer.send(answer);
            }
            Heard::Reload => drop(agent.reload()),
            Heard::Alive => systemd::alive(),
            Heard::Stop => {
                let ended = agent.end().await;
                logged.end(&ended, |(), _| {});
                return ended;
            }
        }
    }
}

impl Agent {
    async fn begin(setup: Setup) -> Result<Self> {
        let single = Single::become_it(&setup)?;
        throttle::give_way(setup.config.agent.nice);
        setup.private_directory(&setup.config.paths.runtime_dir)?;
        let (tell, told) = mpsc::unbounded_channel();
        let (ask, asked) = mpsc::channel(16);
        let rights = Rights::of(&setup.config.agent);
        let pushes = Pushes::new(&setup);
        let listening =
            Server::listen(&setup.agent_socket(), rights, (ask, pushes.clone(), Log::of(&setup)))?;
        let (scheduler, since) = past::scheduler(&setup).await;
        let alive = systemd::alive_every().map(|every| {
            let mut alive = interval(every);
            alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
            alive
        });
        Ok(Agent {
            scheduler,
            running: BTreeMap::new(),
            alarm: Alarm::new().await?,
            refused: None,
            tell,
            told,
            looks: Looks::new(),
            beats: Beats::new(&setup),
            telling: Telling::open(&setup),
            metrics: Metrics::begin(&setup, since),
            throttle: Throttle::begin(&setup),
            asked,
            pushes,
            alive,
            since,
            setup,
            listening,
            _single: single,
        })
    }

    /// Waits for whatever comes next.
    async fn hear(&mut self, stop: &Stop, reload: &mut Receiver<()>) -> Heard {
        let alive = async {
            match &mut self.alive {
                Some(alive) => drop(alive.tick().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.requested() => Heard::Stop,
            // We have the other ends: neither is ever closed.
            Some(told) = self.told.recv() => Heard::Told(told),
            Some(asked) = self.asked.recv() => Heard::Asked(asked),
            Some(()) = reload.recv() => Heard::Reload,
            () = alive => Heard::Alive,
            () = self.alarm.rung() => Heard::Rung,
            () = self.looks.due() => Heard::LookDue,
            () = self.beats.due() => Heard::BeatDue,
        }
    }

    /// Has the clock ring when something is due.
    async fn arm(&mut self) -> Result<()> {
        let now = self.setup.clock.now();
        systemd::status(reply::line(self));
        let held =
            self.running.iter().filter_map(|(key, run)| Some((key.clone(), run.held.read()?)));
        self.metrics.turn(self.scheduler.rows(now), held.collect(), self.refused.is_some());
        self.alarm.set(now, self.scheduler.next_wake(now)).await
    }

    /// Tells the scheduler, and does what it says.
    fn handle(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.scheduler.handle(self.setup.clock.now(), event) {
                events.extend(self.act(action));
            }
        }
    }

    /// Does one thing; what came of it at once, if that is known.
    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Start { key, due, why } => return self.start(key, due, why),
            Action::Cancel { key } => {
                if let Some(running) = self.running.get(&key) {
                    tracing::info!(source = %key.source, job = key.kind.as_str(), "cancelled");
                    running.stop();
                }
            }
            other => {
                reply::tell(&other);
                self.telling.heard(self.setup.clock.now(), &other);
            }
        }
        None
    }

    fn start(&mut self, key: JobKey, due: Option<Timestamp>, why: Why) -> Option<Event> {
        let (source, job) = (key.source.to_string(), key.kind.as_str());
        let gives_way = self.throttle.gives_way();
        // Who asks for a run wants one, whatever was made meanwhile.
        let due = due.filter(|_| why != Why::ByHand);
        match work::begin(&self.setup, (key.clone(), due), gives_way, self.tell.clone()) {
            Ok(running) => {
                tracing::info!(source, job, why = reply::why(why), "begun");
                self.telling.begun(&key);
                self.running.insert(key, running);
                None
            }
            Err(error) => {
                tracing::error!(source, job, "cannot be begun: {error}");
                Some(Event::Ended { key, outcome: Outcome::Failed })
            }
        }
    }

    /// A run came to its end.
    fn ended(&mut self, ended: Ended) {
        let Ended { key, outcome, why, code, suspect } = ended;
        let running = self.running.remove(&key);
        let since = running.as_ref().map(|running| running.since);
        let took = since.map(|since| self.setup.clock.now().duration_since(since).as_secs());
        let span = running.map_or_else(Span::none, |running| running.span);
        let _ = span.record("code", code);
        let of_it = span.entered();
        let (source, job) = (key.source.to_string(), key.kind.as_str());
        let why = why.unwrap_or_default();
        match outcome {
            Outcome::Succeeded => tracing::info!(source, job, seconds = took, "done"),
            Outcome::Stopped => tracing::info!(source, job, seconds = took, "stopped"),
            Outcome::Failed => tracing::error!(source, job, seconds = took, "failed: {why}"),
            Outcome::Died => tracing::error!(source, job, seconds = took, "died: {why}"),
        }
        drop(of_it);
        self.metrics.ended(&key, outcome);
        self.looks.soon();
        self.telling.ended(&key, outcome, suspect);
        self.handle(Event::Ended { key, outcome });
    }

    /// It is known anew where the sources stand.
    fn looked(&mut self, look: Look) {
        if !self.looks.ended(&look) {
            return;
        }
        self.telling.metrics(look.at, self.metrics.failing());
        self.telling.looked(&look, &self.running);
        self.metrics.looked(&look);
        self.beats.looked(&look);
        let Ok(sources) = &look.sources else { return };
        for status in sources {
            let breached = Health::of(&status.findings()) == Health::Breached;
            self.handle(Event::RpoBreached { source: status.source.clone(), breached });
        }
    }

    /// A beat was written, or was not.
    fn beaten(&mut self, beaten: &Beaten) {
        self.beats.ended(beaten);
        let done = beaten.done.as_ref().map(|written| written.at).map_err(String::as_str);
        self.metrics.beaten(done.ok());
        self.telling.beaten(self.setup.clock.now(), done.err());
    }

    /// Takes the configuration that lies there now; one that is wrong is not taken, and the old one goes on.
    fn reload(&mut self) -> Result<(), Refusal> {
        systemd::reloading();
        let taken = Setup::load(&self.setup.path).and_then(|new| {
            specs::may_be_taken(&self.setup.config, &new.config)?;
            Ok(new)
        });
        let done = match taken {
            Ok(new) => {
                let (specs, at_once) =
                    (specs::specs(&new.config, &new.host()), new.config.agent.jobs_at_once);
                self.telling.reloaded(&self.setup, &new);
                let log = Log::of(&new);
                log.note_configuration();
                self.listening.logs_into(log);
                self.beats.reloaded(&new);
                self.metrics.reloaded(&self.setup, &new);
                self.throttle.reloaded(&new);
                self.setup = new;
                self.pushes.turn(&self.setup);
                self.refused = None;
                self.looks.soon();
                tracing::info!(
                    sources = self.setup.config.sources.len(),
                    "the configuration was read again"
                );
                self.handle(Event::Reload { specs, at_once });
                Ok(())
            }
            Err(error) => {
                let why = format!("{error:#}");
                tracing::error!("the configuration is not taken, the one before goes on: {why}");
                let line = telling::in_a_line(&why);
                self.telling.refused(self.setup.clock.now(), &line);
                self.refused = Some(line);
                let goes_on = "the agent goes on with the configuration before";
                Err(Refusal::new("configuration", format!("{why}; {goes_on}")))
            }
        };
        systemd::ready();
        done
    }

    /// Ends: what runs may come to its end within the time-out, then it is stopped, with a true record.
    async fn end(mut self) -> Result<()> {
        systemd::stopping();
        self.throttle.end();
        self.handle(Event::Stopping);
        self.pushes.close();
        let endless = self.running.iter().filter(|(key, _)| work::ends_at_once(key.kind));
        endless.for_each(|(_, running)| running.stop());
        let patience = self.setup.config.agent.stop_timeout;
        tracing::info!(running = self.running.len(), "the agent ends");
        let deadline = Instant::now() + patience;
        self.wait_for_all(deadline).await;
        self.pushes.wait(deadline).await;
        for (key, running) in &self.running {
            tracing::warn!(source = %key.source, job = key.kind.as_str(), "stopped before its end");
            running.stop();
        }
        let deadline = Instant::now() + LAST_MOMENTS;
        self.wait_for_all(deadline).await;
        self.pushes.stop(deadline).await;
        for key in self.running.keys() {
            tracing::error!(source = %key.source, job = key.kind.as_str(), "did not stop in time");
        }
        self.telling.close().await;
        Ok(())
    }

    async fn wait_for_all(&mut self, deadline: Instant) {
        while !self.running.is_empty() {
            let next = timeout_at(deadline, async {
                tokio::select! {
                    told = self.told.recv() => told.map(Heard::Told),
                    asked = self.asked.recv() => asked.map(Heard::Asked),
                }
            });
            match next.await {
                Ok(Some(Heard::Told(Told::Ended(ended)))) => self.ended(ended),
                Ok(Some(Heard::Told(Told::Looked(_) | Told::Beaten(_)))) => {}
                Ok(Some(Heard::Asked(asked))) => {
                    let answer = match asked.request {
                        Request::Jobs => Ok(reply::state(self)),
                        _ => Err(Refusal::new("stopping", "the agent is ending")),
                    };
                    let _ = asked.answer.send(answer);
                }
                _ => return,
            }
        }
    }
}
