//! Log that is handed over at the socket: stored by what `wal push` does, with what is open already.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use drctl_model::{SourceId, shown};
use drctl_policies::Config;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::control::{Answer, Refusal, Wish, receive, tell};
use super::threads::spawn;
use crate::engine;
use crate::engine::wal::{Parcel, ParcelLabel, Push, Pushed, note_refusal};
use crate::host::{AgentError, Failure, Setup, Stop, Stopper};
use crate::log::LogStore;
use crate::repository::findings::Findings;

/// How many files are taken at once: each takes memory and threads as a backup does.
const AT_ONCE: u32 = 2;

/// How many wait for that beside them; more are sent away at once.
const WAITING: usize = 32;

/// For how long one waits: whoever is sent away stores the file himself.
const WAITS: Duration = Duration::from_secs(8);

/// For how long somebody may take to hand a file over, and to hear what became of it.
const HANDS_OVER: Duration = Duration::from_secs(5);

/// For how long an opened log is used: then key, credentials and the repository's marker are read again.
const FRESH: Duration = Duration::from_secs(300);

/// All that are under way; clones are the same.
#[derive(Clone)]
pub(super) struct Pushes(Arc<Inner>);

struct Inner {
    /// The configuration of the next one; nothing as soon as the agent ends.
    setup: Mutex<Option<Setup>>,
    places: Arc<Semaphore>,
    queue: Semaphore,
    open: Mutex<BTreeMap<SourceId, Opened>>,
    ending: (Stopper, Stop),
}

/// A log that is open, under which configuration and since when.
struct Opened {
    config: Arc<Config>,
    since: Instant,
    log_store: LogStore,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pushes {
    pub(super) fn new(setup: &Setup) -> Self {
        Pushes(Arc::new(Inner {
            setup: Mutex::new(Some(setup.clone())),
            places: Arc::new(Semaphore::new(AT_ONCE as usize)),
            queue: Semaphore::new(WAITING),
            open: Mutex::default(),
            ending: Stop::new(),
        }))
    }

    /// Whatever comes next has this configuration.
    pub(super) fn turn(&self, setup: &Setup) {
        let mut now = locked(&self.0.setup);
        if now.is_some() {
            *now = Some(setup.clone());
        }
        drop(now);
        locked(&self.0.open).clear();
    }

    /// Takes no more.
    pub(super) fn close(&self) {
        *locked(&self.0.setup) = None;
    }

    /// Waits for those that are under way.
    pub(super) async fn wait(&self, deadline: Instant) {
        let _ = timeout_at(deadline, self.0.places.acquire_many(AT_ONCE)).await;
    }

    /// Has them end, and waits for that: whoever has handed a file over hears that it is not stored.
    pub(super) async fn stop(&self, deadline: Instant) {
        self.0.ending.0.stop();
        self.wait(deadline).await;
    }

    /// Serves somebody who may hand log over, to the end.
    pub(super) async fn serve(&self, stream: &mut UnixStream, wish: &Wish) {
        let answer = match self.place(wish).await {
            Ok((setup, place)) => {
                let answer = self.take(stream, &setup, wish).await;
                let answer = self.told(stream, &answer).await;
                drop(place);
                return answer;
            }
            Err(refusal) => Err(refusal),
        };
        self.told(stream, &answer).await;
    }

    async fn told(&self, stream: &mut UnixStream, answer: &Answer) {
        let _ = timeout(HANDS_OVER, tell(stream, answer)).await;
    }

    /// Waits for a place, if what is wished for can be done.
    async fn place(&self, wish: &Wish) -> Result<(Setup, OwnedSemaphorePermit), Refusal> {
        let _ = self.setup(wish)?;
        let busy = |_| Refusal::new("busy", "more is handed over than the agent can take");
        let waiting = self.0.queue.try_acquire().map_err(busy)?;
        let place = timeout(WAITS, Arc::clone(&self.0.places).acquire_owned()).await;
        drop(waiting);
        let busy = || Refusal::new("busy", "no place became free in time");
        let place = place.ok().and_then(Result::ok).ok_or_else(busy)?;
        Ok((self.setup(wish)?, place))
    }

    /// The configuration of one that begins now.
    fn setup(&self, wish: &Wish) -> Result<Setup, Refusal> {
        let setup = locked(&self.0.setup).clone();
        let setup = setup.ok_or_else(|| Refusal::new("stopping", "the agent is ending"))?;
        let ours = setup.digest().ok();
        if wish.configuration.is_some() && wish.configuration != ours {
            let text = "the agent has another configuration: `drctl reload`";
            return Err(Refusal::new("configuration", text));
        }
        if setup.configured(wish.source.as_str()).is_none() {
            let text = format!("the agent has no source {}", wish.source);
            return Err(Refusal::new("unknown_source", text));
        }
        Ok(setup)
    }

    /// Takes a file, and has it stored.
    async fn take(&self, stream: &mut UnixStream, setup: &Setup, wish: &Wish) -> Answer {
        let bad = |why: String| Refusal::new("bad_request", why);
        tell(stream, &Ok(json!({ "ready": true })))
            .await
            .map_err(|error| bad(error.to_string()))?;
        let (line, files) = match timeout(HANDS_OVER, receive(stream)).await {
            Ok(received) => received.map_err(|error| bad(error.to_string()))?,
            Err(_) => return Err(bad("no file came in time".to_owned())),
        };
        let label: ParcelLabel =
            serde_json::from_str(&line).map_err(|error| bad(error.to_string()))?;
        let parcel = Parcel::open(label, files).map_err(|error| bad(format!("{error:#}")))?;
        let done = self.stored(stream, setup, &wish.source, parcel).await;
        match done {
            Ok(done) => Ok(done),
            Err(error) if matches!(error.downcast_ref(), Some(AgentError::Interrupted)) => {
                Err(Refusal::new("stopping", "the agent has not stored it: it is ending"))
            }
            Err(error) => {
                // Whatever it was: the next one reads keys and marker again.
                locked(&self.0.open).remove(&wish.source);
                let failure = Failure::of(&error);
                let source = wish.source.as_str();
                let text = shown(&failure.messages.join(": "), 500);
                tracing::warn!(
                    source,
                    "WAL is not stored, and the server keeps it: {text} ({})",
                    failure.code
                );
                let exit = failure.exit.code();
                let Failure { code, messages, hint, .. } = failure;
                let failed =
                    json!({ "code": code, "exit": exit, "messages": messages, "hint": hint });
                Ok(json!({ "failed": failed }))
            }
        }
    }

    /// Stores it on a thread of its own. It is ended when the agent is, and when nobody waits for it.
    async fn stored(
        &self,
        stream: &mut UnixStream,
        setup: &Setup,
        source: &SourceId,
        parcel: Parcel,
    ) -> Result<Value> {
        let (stopper, stop) = Stop::new();
        let (tell, mut told) = oneshot::channel();
        let (all, setup, of) = (self.clone(), setup.clone(), source.clone());
        let work = async move || all.push(&setup, &of, &parcel, &stop).await;
        spawn(format!("push {source}"), work, |done| drop(tell.send(done)))?;
        let gone = |_| AgentError::Interrupted;
        tokio::select! {
            done = &mut told => return done.map_err(gone)?,
            // Nothing comes from whoever waits but his end.
            _ = stream.read_u8() => {}
            () = self.0.ending.1.requested() => {}
        }
        stopper.stop();
        told.await.map_err(gone)?
    }

    async fn push(
        &self,
        setup: &Setup,
        source: &SourceId,
        parcel: &Parcel,
        stop: &Stop,
    ) -> Result<Value> {
        let (id, configured) = setup.source(source.as_str())?;
        let kept = "Nothing was stored: the server keeps the file";
        engine::of(configured).has_log(source.as_str(), kept)?;
        let mut push = Push::handed(setup, source.as_str(), parcel)?;
        if let Some(done) = push.known() {
            return Ok(outcome((done, 0), &[]));
        }
        let (findings, mut said) = (Findings::of(setup, id), Vec::new());
        if let Some(checked) = push.backlog() {
            said.extend(checked.found.iter().map(|finding| finding.line()));
            findings.note(checked);
        }
        let (pushed, ()) =
            tokio::join!(push.run_into(self.log_store(setup, id), stop), findings.keep());
        if let Err(error) = &pushed {
            let at = parcel.pg_wal().display().to_string();
            let whose = format!("pushed from {} on host {}", shown(&at, 500), setup.host());
            note_refusal(setup, &whose, error).await;
        }
        Ok(outcome(pushed?, &said))
    }

    /// The log of a source, opened a while ago or now.
    async fn log_store(&self, setup: &Setup, source: &SourceId) -> Result<LogStore> {
        let known = locked(&self.0.open).get(source).and_then(|opened| {
            let fits = Arc::ptr_eq(&opened.config, &setup.config) && opened.since.elapsed() < FRESH;
            fits.then(|| opened.log_store.anew(setup))
        });
        if let Some(known) = known {
            return Ok(known);
        }
        let since = Instant::now();
        let log_store = LogStore::open(setup, source.as_str()).await?;
        let (config, kept) = (Arc::clone(&setup.config), log_store.clone());
        locked(&self.0.open).insert(source.clone(), Opened { config, since, log_store: kept });
        Ok(log_store)
    }
}

/// What became of a file, and what its server is to hear.
fn outcome((done, ahead): (Pushed, u64), said: &[String]) -> Value {
    json!({ "done": done.word(), "ahead": ahead, "said": said })
}
