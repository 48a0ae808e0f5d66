//! A host of its own: configuration and keys in a directory in memory, the agent's scheduler, and its runs.

use std::collections::BTreeMap;
use std::fs;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use drctl::daemon::simulated;
use drctl::host::{Setup, Stop, simulate};
use drctl_model::{JobKind, Marker, RepositoryId, SourceId, hear_calls};
use drctl_policies::RetentionPolicy;
use drctl_policies::scheduler::{Action, Event, JobKey, Outcome, PastRun, Scheduler, Why};
use drctl_store::{SigningKey, encode_marker, layout, new_identity};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

use crate::cluster::{Copying, ship, write_log};
use crate::plan::Plan;
use crate::random::Random;
use crate::store::{Store, World};
use crate::truth::{OfSource, Truth};

/// The sources of the host.
pub(crate) const SOURCES: [&str; 2] = ["blog", "shop"];

/// How often a cluster writes and ships log.
const LOG_EVERY: SignedDuration = SignedDuration::from_hours(5);

type Work = Pin<Box<dyn Future<Output = (Outcome, Option<String>)>>>;

/// A run that is under way.
struct Live {
    work: Work,
    wakes: Timestamp,
}

/// What became of work that was driven.
enum Driven<T> {
    Ended(T),
    Sleeps(Timestamp),
    Died,
}

/// The host.
pub(crate) struct Host {
    pub(crate) world: World,
    pub(crate) plan: Plan,
    pub(crate) store: Store,
    pub(crate) setup: Setup,
    pub(crate) directory: TempDir,
    agent: Option<Scheduler>,
    live: BTreeMap<JobKey, Live>,
    /// Runs of the past, as the host's record must have them.
    pub(crate) record: BTreeMap<JobKey, Vec<PastRun>>,
    /// When a run of each job last began, whether the host remembers that or not.
    last_begun: BTreeMap<JobKey, Timestamp>,
    /// From when on runs of a kind are known to an agent that began without a catalog.
    known_from: BTreeMap<JobKind, Timestamp>,
    /// Whether there is no catalog yet, or it was lost, and no run has made it anew.
    pub(crate) lost_catalog: bool,
    /// At which effect of the run that begins next the process dies.
    pub(crate) dies_in_next_run: Option<u64>,
    /// Since when the agent is there, and nothing fails.
    pub(crate) quiet_since: Timestamp,
    log_due: Timestamp,
    /// How many runs began.
    pub(crate) starts: u64,
}

fn sources() -> impl Iterator<Item = SourceId> {
    SOURCES.iter().map(|name| name.parse().expect("a name"))
}

/// The state directories of a host lie in memory, where there is any.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = tempfile::Builder::new().prefix("drctl-sim-").tempdir_in(memory);
    made.or_else(|_| tempfile::tempdir()).expect("a temporary directory")
}

/// Writes the configuration and gives its path.
fn configure(directory: &Path, plan: &Plan, key: &SigningKey, id: &RepositoryId) -> PathBuf {
    let at = |name: &str| directory.join(name).display().to_string();
    let [one, other] = [(); 2].map(|()| new_identity("2026-01-01T00:00:00Z").1);
    let mut text = format!(
        "version = 1\nhost = \"db1\"\n[repository]\nurl = \"file://{}\"\nid = \"{id}\"\n\
         [keys]\nrecipients = [\"{one}\", \"{other}\"]\nsigning_key = {{ file = \"{}\" }}\n\
         verifying_keys = [{{ key = \"{}\", roles = [\"backup\", \"log\", \"prune\"] }}]\n\
         [paths]\nstate_dir = \"{}\"\nruntime_dir = \"{}\"\nspool_dir = \"{}\"\n\
         [limits]\nsegment_bytes = \"64KiB\"\n[agent]\njobs_at_once = {}\nbeat = \"0s\"\n",
        at("repository"),
        at("signing.key"),
        key.verifying_key(),
        at("state"),
        at("run"),
        at("spool"),
        plan.at_once,
    );
    for source in SOURCES {
        text += &format!(
            "[sources.{source}]\nengine = \"base_backup\"\npolicy = \"p\"\nhost = \"/nowhere\"\n\
             user = \"postgres\"\nlog = \"push\"\n"
        );
    }
    fs::create_dir_all(directory.join("policies.d")).expect("a folder");
    fs::write(directory.join("signing.key"), key.to_secret_text()).expect("the key");
    fs::write(directory.join("policies.d/p.toml"), plan.policy()).expect("the policy");
    let path = directory.join("drctl.toml");
    fs::write(&path, text).expect("the configuration");
    for written in [path.clone(), directory.join("policies.d/p.toml")] {
        let file = fs::File::options().write(true).open(written).expect("a file");
        file.set_modified(plan.begin.into()).expect("its time");
    }
    path
}

impl Host {
    /// A new host with an empty repository, before its agent begins.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::of(&mut random);
        let directory = directory();
        let (key, id) = (SigningKey::generate(), RepositoryId::new(7));
        let path = configure(directory.path(), &plan, &key, &id);
        let setup = Setup::load(&path).unwrap_or_else(|error| panic!("{error:#}"));
        let policy = setup.config.sources.values().next().expect("a source").policy.clone();
        let truth = Truth {
            sources: sources().map(|source| (source, OfSource::default())).collect(),
            policy: RetentionPolicy::clone(&policy.retention),
            zone: TimeZone::clone(&policy.timezone),
            wrong: Vec::new(),
        };
        let world = World::new(random, plan.begin, truth);
        let store = Store::new(&world);
        let mut setup = setup;
        setup.clock = Arc::new(world.clone());
        let (opens, hears) = (store.clone(), world.clone());
        simulate(Some(Rc::new(move || opens.bucket())));
        hear_calls(Some(Rc::new(hears)));
        let begin = plan.begin;
        Host {
            world,
            plan,
            store,
            setup,
            directory,
            agent: None,
            live: BTreeMap::new(),
            record: BTreeMap::new(),
            last_begun: BTreeMap::new(),
            known_from: BTreeMap::new(),
            lost_catalog: true,
            dies_in_next_run: None,
            quiet_since: begin,
            log_due: begin,
            starts: 0,
        }
    }

    /// The repository is made, and the agent begins.
    pub(crate) async fn begin(&mut self) {
        let marker = encode_marker(&Marker::new(RepositoryId::new(7), self.now()));
        let put = self.store.bucket().put(&layout::marker(), marker.into()).await;
        put.expect("nothing fails yet");
        self.arrive().await;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.world.state().now
    }

    /// Drives work until it ends or sleeps, or the process dies in it.
    async fn drive<T>(
        &self,
        work: &mut (impl Future<Output = T> + Unpin),
        may_sleep: bool,
    ) -> Driven<T> {
        let world = &self.world;
        let sleepers = {
            let mut state = world.state();
            state.may_sleep = may_sleep;
            state.rouse()
        };
        sleepers.into_iter().for_each(Waker::wake);
        poll_fn(move |cx| {
            if world.state().dead {
                return Poll::Ready(Driven::Died);
            }
            let polled = Pin::new(&mut *work).poll(cx);
            let state = world.state();
            match polled {
                _ if state.dead => Poll::Ready(Driven::Died),
                Poll::Ready(ended) => Poll::Ready(Driven::Ended(ended)),
                Poll::Pending => match state.asleep {
                    Some(wakes) => Poll::Ready(Driven::Sleeps(wakes)),
                    None => Poll::Pending,
                },
            }
        })
        .await
    }

    /// Work that takes no time: nothing where the process died in it.
    pub(crate) async fn at_once<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = Box::pin(work);
        match self.drive(&mut work, false).await {
            Driven::Ended(ended) => Some(ended),
            Driven::Sleeps(_) => unreachable!("it may not sleep"),
            Driven::Died => None,
        }
    }

    /// The agent begins, from what is on record.
    pub(crate) async fn arrive(&mut self) {
        {
            let mut state = self.world.state();
            (state.dead, state.dies_at) = (false, None);
            let line = format!("{} the agent begins", state.now);
            state.say(line);
        }
        let setup = self.setup.clone();
        let scheduler = self.at_once(async move { simulated::scheduler(&setup).await }).await;
        self.agent = scheduler;
        self.quiet_since = self.now();
        if self.lost_catalog {
            // The bucket tells of backups, where it can be asked, and of nothing else.
            let (now, fails) = (self.now(), self.fails() || self.has_no_backup());
            self.known_from.insert(JobKind::Prune, now);
            self.known_from.extend(fails.then_some((JobKind::Backup, now)));
        }
        self.tell(Event::Tick);
    }

    /// Everything of the host's processes is gone; they come back later.
    pub(crate) async fn die(&mut self, away: SignedDuration) {
        self.agent = None;
        let now = self.now();
        for (key, live) in std::mem::take(&mut self.live) {
            drop(live.work);
            self.ended(&key, now, Outcome::Died);
        }
        {
            let mut state = self.world.state();
            let line = format!("{now} the host dies");
            state.say(line);
            state.now += away;
            (state.dead, state.dies_at) = (false, None);
            for of in state.truth.sources.values_mut() {
                of.removing = None;
            }
        }
        self.arrive().await;
    }

    /// Whether a run of the past came to a good end.
    fn ended(&mut self, key: &JobKey, now: Timestamp, outcome: Outcome) {
        let runs = self.record.entry(key.clone()).or_default();
        if let Some(run) = runs.last_mut().filter(|run| run.ended.is_none()) {
            run.ended = Some((now, outcome));
        }
    }

    fn tell(&mut self, event: Event) {
        let now = self.now();
        let Some(agent) = &mut self.agent else { return };
        let actions = agent.handle(now, event);
        for action in actions {
            if let Action::Start { key, due, why } = action {
                self.start(key, due, why);
            }
        }
    }

    /// Says that something must never be, and was.
    pub(crate) fn wrong(&self, why: String) {
        self.world.state().truth.wrong.push(why);
    }

    fn start(&mut self, key: JobKey, due: Option<Timestamp>, why: Why) {
        let now = self.now();
        self.starts += 1;
        if self.live.keys().any(|other| other.source == key.source) {
            self.wrong(format!("{key:?} begins at {now} beside another job of the source"));
        }
        if self.live.len() >= self.plan.at_once {
            self.wrong(format!("{key:?} begins at {now} as one too many"));
        }
        if let Some(why) = self.plan.forbids(now) {
            self.wrong(format!("{key:?} begins at {now} {why}"));
        }
        let served = |run: &&PastRun| {
            matches!(run.ended, Some((_, Outcome::Succeeded)))
                && due.is_some_and(|due| run.begun >= due)
        };
        let runs = self.record.entry(key.clone()).or_default();
        if let Some(run) = runs.iter().find(served) {
            let text = format!(
                "{key:?} of {due:?} is doubled at {now} ({why:?}): it ran at {}",
                run.begun
            );
            self.wrong(text);
        }
        let runs = self.record.entry(key.clone()).or_default();
        runs.push(PastRun { begun: now, ended: None, runs: false });
        self.last_begun.insert(key.clone(), now);
        if let Some(n) = self.dies_in_next_run.take() {
            let mut state = self.world.state();
            state.dies_at = Some((state.effects + n, false));
        }
        let (setup, source) = (self.setup.clone(), key.source.clone());
        self.world.state().say(format!("{now} begins {} {source}: {why:?}", key.kind.as_str()));
        let work: Work = match key.kind {
            JobKind::Backup => {
                let bytes = Box::new(Copying::begin(&self.world, &source));
                Box::pin(async move {
                    let (_stopper, stop) = Stop::new();
                    simulated::backup(&setup, &source, bytes, &stop).await
                })
            }
            _ => {
                let mut state = self.world.state();
                let state = &mut *state;
                let of = state.truth.of(&source);
                of.removal_begins(&state.objects, &source, true);
                Box::pin(async move {
                    let (_stopper, stop) = Stop::new();
                    simulated::prune(&setup, &source, &stop).await
                })
            }
        };
        self.live.insert(key, Live { work, wakes: now });
    }

    /// Lets time pass, with all that happens by itself; no longer than until `until`, and not beyond the death
    /// of the host. Whether it lives.
    pub(crate) async fn live(&mut self, until: Timestamp) -> bool {
        while self.now() < until {
            let now = self.now();
            let wake = self.agent.as_ref().and_then(|agent| agent.next_wake(now));
            let wakes = self.live.values().map(|live| live.wakes).min();
            let next = [Some(until), wake, wakes, Some(self.log_due)].into_iter().flatten().min();
            let next = next.unwrap_or(until).max(now);
            self.world.state().now = next;
            if self.log_due <= next && !self.write_and_ship().await {
                return false;
            }
            self.tell(Event::Tick);
            if !self.drive_those_awake().await {
                return false;
            }
            self.is_not_silent();
        }
        true
    }

    async fn write_and_ship(&mut self) -> bool {
        let now = self.now();
        self.log_due = now + LOG_EVERY;
        for source in sources() {
            write_log(self.world.state().truth.of(&source), now);
            let (setup, world, of) = (self.setup.clone(), self.world.clone(), source.clone());
            let shipped = self.at_once(async move { ship(&setup, &world, &of).await }).await;
            match shipped {
                Some(None) => {}
                Some(Some(error)) => self.failed(&format!("to ship log of {source}"), &error),
                None => return false,
            }
        }
        true
    }

    async fn drive_those_awake(&mut self) -> bool {
        loop {
            let now = self.now();
            let awake = self.live.iter().filter(|(_, live)| live.wakes <= now);
            let Some(key) = awake.min_by_key(|(_, live)| live.wakes).map(|(key, _)| key.clone())
            else {
                return true;
            };
            let mut live = self.live.remove(&key).expect("it lives");
            match self.drive(&mut live.work, true).await {
                Driven::Sleeps(wakes) => drop(self.live.insert(key, Live { wakes, ..live })),
                Driven::Died => {
                    self.live.insert(key, live);
                    return false;
                }
                Driven::Ended((outcome, why)) => self.came(key, outcome, why),
            }
        }
    }

    /// A run came to its end.
    fn came(&mut self, key: JobKey, outcome: Outcome, why: Option<String>) {
        let now = self.now();
        self.world.state().say(format!(
            "{now} ended {} {}: {outcome:?} {}",
            key.kind.as_str(),
            key.source,
            why.as_deref().unwrap_or("")
        ));
        self.ended(&key, now, outcome);
        self.lost_catalog &= outcome != Outcome::Succeeded;
        let mut stopped = false;
        if key.kind == JobKind::Prune {
            let removing = self.world.state().truth.of(&key.source).removing.take();
            // A removal ends where somebody pins what it was about to remove.
            stopped = removing.is_some_and(|removing| removing.pinned)
                && why.as_ref().is_some_and(|why| why.contains("has to stay"));
            self.window_is_reached(&key.source);
        }
        if let Some(why) = why.filter(|_| !stopped) {
            self.failed(&format!("{} {}", key.kind.as_str(), key.source), &why);
        }
        self.tell(Event::Ended { key, outcome });
    }

    /// Something failed: it may only while something is made to fail.
    fn failed(&mut self, what: &str, why: &str) {
        // Much goes only when a person says how much.
        if !self.fails() && !why.contains("more than half of the") {
            self.wrong(format!("{what} failed at {} without a fault: {why}", self.now()));
        }
        self.quiet_since = self.now();
    }

    /// Whether something is made to fail.
    fn fails(&self) -> bool {
        let state = self.world.state();
        state.faults > 0 || state.outage
    }

    /// Whether the bucket has nothing yet of some source.
    fn has_no_backup(&self) -> bool {
        self.world.state().truth.sources.values().any(|of| of.made.is_empty())
    }

    fn window_is_reached(&self, source: &SourceId) {
        let mut state = self.world.state();
        let state = &mut *state;
        let of = &state.truth.sources[source];
        let lost = crate::oracle::unreachable(&state.truth.policy, of, &state.objects, source);
        if let Some(first) = lost.first() {
            let text = format!(
                "{} moments of the recovery window of {source} are not reached any more, {first} for one",
                lost.len()
            );
            state.truth.wrong.push(text);
        }
    }

    /// Nothing that is due is forgotten: whatever could begin for hours has begun.
    fn is_not_silent(&self) {
        let now = self.now();
        let since = now - SignedDuration::from_hours(4);
        if self.agent.is_none() || self.quiet_since > since || !self.plan.open_from(since, now) {
            return;
        }
        for source in sources() {
            for (kind, schedule) in
                [(JobKind::Backup, &self.plan.backups), (JobKind::Prune, &self.plan.prunes)]
            {
                let Some(slot) = self.plan.last_due(schedule, since) else { continue };
                let key = JobKey { source: source.clone(), kind };
                let last = self.last_begun.get(&key);
                let known_from = self.known_from.get(&kind).unwrap_or(&self.plan.begin);
                if slot > *known_from && last.is_none_or(|last| *last < slot) {
                    self.wrong(format!(
                        "{key:?} was due at {slot}, and it is {now}: nothing began"
                    ));
                }
            }
        }
    }

    /// How many runs are under way.
    pub(crate) fn runs(&self) -> usize {
        self.live.len()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.live.clear();
        simulate(None);
        hear_calls(None);
    }
}
