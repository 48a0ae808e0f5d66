//! A bucket in memory whose clock is made up. Each request is an effect: before it or behind it the process may
//! die, and it may fail, all by the seed. What is removed or written is judged at once ([`Truth`]).

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::future::{pending, poll_fn};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::task::{Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use drctl_model::{Clock, HearsCalls};
use drctl_store::Bucket;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};

use crate::random::Random;
use crate::truth::Truth;

/// How many of the last effects are told of a seed that failed.
const TOLD: usize = 40;

/// What lies in the bucket, by its key, and when the store got it.
pub(crate) type Objects = BTreeMap<String, (Bytes, Timestamp)>;

/// Everything that is made up of one world, but for the host.
pub(crate) struct State {
    /// What the clock shows.
    pub(crate) now: Timestamp,
    pub(crate) random: Random,
    pub(crate) objects: Objects,
    pub(crate) truth: Truth,
    /// Requests and calls of the catalog so far.
    pub(crate) effects: u64,
    /// At which of them the process dies, and whether behind it.
    pub(crate) dies_at: Option<(u64, bool)>,
    /// How many effects behind the next removal of a manifest it dies.
    pub(crate) dies_in_removal: Option<u64>,
    pub(crate) dead: bool,
    /// Of so many requests one fails; of none where it is 0.
    pub(crate) faults: u64,
    /// Whether nothing is answered well.
    pub(crate) outage: bool,
    /// Until when the run that is driven now sleeps.
    pub(crate) asleep: Option<Timestamp>,
    /// Whether it may.
    pub(crate) may_sleep: bool,
    /// Who sleeps in it.
    sleepers: Vec<Waker>,
    last: Vec<String>,
    hash: u64,
}

/// A world that store, clock and host share.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<State>>);

/// What becomes of an effect.
enum Step {
    Does,
    Dies,
    DoesAndDies,
    Fails(Error),
    DoesAndFails(Error),
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        self.state().now
    }
}

impl HearsCalls for World {
    /// Time-outs by the runtime's clock, which goes on by itself when nobody does anything, wait as long as
    /// somebody works on its blocking pool.
    fn begins(&self) -> Box<dyn Any + Send> {
        let (ended, until) = mpsc::channel::<()>();
        drop(tokio::task::spawn_blocking(move || until.recv()));
        Box::new(ended)
    }

    fn ended(&self) -> bool {
        let mut state = self.state();
        state.note("call", "");
        state.dead |= state.dies_at.is_some_and(|(at, _)| at <= state.effects);
        state.dead
    }
}

impl World {
    pub(crate) fn new(random: Random, now: Timestamp, truth: Truth) -> Self {
        World(Arc::new(Mutex::new(State {
            now,
            random,
            objects: Objects::new(),
            truth,
            effects: 0,
            dies_at: None,
            dies_in_removal: None,
            dead: false,
            faults: 0,
            outage: false,
            asleep: None,
            may_sleep: false,
            sleepers: Vec::new(),
            last: Vec::new(),
            hash: 0xcbf2_9ce4_8422_2325,
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics while it is held")
    }

    /// Waits as long by the made-up clock, where whoever runs may.
    pub(crate) async fn rest(&self, length: SignedDuration) {
        let wake = {
            let state = self.state();
            if !state.may_sleep {
                return;
            }
            state.now + length
        };
        poll_fn(|cx| {
            let mut state = self.state();
            if state.now >= wake {
                return Poll::Ready(());
            }
            state.asleep = Some(wake);
            state.sleepers.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn step(&self, verb: &'static str, at: &Path) -> Step {
        let mut state = self.state();
        if state.dead {
            return Step::Dies;
        }
        let took = state.random.below(40) + 1;
        state.now += SignedDuration::from_millis(took.cast_signed());
        state.note(verb, at.as_ref());
        if verb == "delete"
            && at.as_ref().ends_with("/manifest.json")
            && let Some(n) = state.dies_in_removal.take()
        {
            state.dies_at = Some((state.effects + n, false));
        }
        if let Some((n, behind)) = state.dies_at
            && n <= state.effects
        {
            state.dead = !behind;
            return if behind { Step::DoesAndDies } else { Step::Dies };
        }
        let generic = || Error::Generic { store: "made up", source: format!("{verb} {at}").into() };
        if state.outage {
            return Step::Fails(generic());
        }
        let faults = state.faults;
        if faults == 0 || state.random.below(faults) != 0 {
            return Step::Does;
        }
        state.note("fault", "");
        let (path, source) = (at.to_string(), "made up".into());
        match (state.random.below(5), verb) {
            (0, _) => Step::Fails(Error::Unauthenticated { path, source }),
            (1 | 2, _) => Step::Fails(generic()),
            (3, "put") => Step::DoesAndFails(Error::AlreadyExists { path, source }),
            _ => Step::DoesAndFails(generic()),
        }
    }

    fn dies(&self) {
        self.state().dead = true;
    }
}

impl State {
    /// Whoever sleeps is to look at the clock again.
    pub(crate) fn rouse(&mut self) -> Vec<Waker> {
        self.asleep = None;
        std::mem::take(&mut self.sleepers)
    }

    /// Notes an effect, without what is random in it whatever the seed.
    fn note(&mut self, verb: &str, key: &str) {
        self.effects += 1;
        let told = key.split('/').map(told).collect::<Vec<_>>().join("/");
        let line = format!("{} {verb} {told}", self.now);
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if verb != "call" && verb != "get" {
            self.say(line);
        }
    }

    /// Says what happens, for whoever looks at a seed that failed.
    #[expect(clippy::print_stdout, reason = "for whoever asks for all of it")]
    pub(crate) fn say(&mut self, line: String) {
        if std::env::var_os("DRCTL_SIMULATION_TELL").is_some() {
            println!("{line}");
        }
        if self.last.len() == TOLD {
            self.last.remove(0);
        }
        self.last.push(line);
    }

    /// What stands for all effects so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn last(&self) -> String {
        self.last.join("\n")
    }

    /// A sleep of no more than so many seconds, now and then.
    fn some_time(&mut self) -> SignedDuration {
        let seconds = if self.random.chance(10) { self.random.below(1_500) } else { 0 };
        SignedDuration::from_secs(seconds.cast_signed())
    }
}

/// A part of a key without its random bits.
fn told(part: &str) -> &str {
    let stamped = part.len() >= 33 && part.as_bytes()[8] == b'T' && part.as_bytes()[15] == b'Z';
    match part.len() {
        _ if stamped => &part[..16],
        32 if part.bytes().all(|byte| byte.is_ascii_hexdigit()) => "random",
        _ => part,
    }
}

/// The bucket of a world; what is in it outlives every process.
#[derive(Clone)]
pub(crate) struct Store {
    world: World,
    inner: Arc<InMemory>,
}

impl Store {
    pub(crate) fn new(world: &World) -> Self {
        Store { world: world.clone(), inner: Arc::new(InMemory::new()) }
    }

    /// The bucket as a new process opens it.
    pub(crate) fn bucket(&self) -> Bucket {
        Bucket::new(Arc::new(self.clone()), "memory://simulation")
    }

    /// What is listed, with the time at which the store of this world got it.
    fn dated(&self, mut meta: ObjectMeta) -> ObjectMeta {
        let stored = self.world.state().objects.get(meta.location.as_ref()).map(|object| object.1);
        let off = stored.map_or(0, |at| at.as_second() - meta.last_modified.timestamp());
        let by = Duration::from_secs(off.unsigned_abs());
        match off < 0 {
            true => meta.last_modified -= by,
            false => meta.last_modified += by,
        }
        meta
    }

    async fn put_now(&self, at: &Path, payload: PutPayload, o: PutOptions) -> Result<PutResult> {
        let bytes = Bytes::from(payload.clone());
        let done = self.inner.put_opts(at, payload, o).await?;
        let mut state = self.world.state();
        let State { now, objects, truth, .. } = &mut *state;
        truth.written(objects, at, &bytes);
        objects.insert(at.to_string(), (bytes, *now));
        Ok(done)
    }

    async fn delete_now(&self, at: &Path) -> Result<()> {
        {
            let mut state = self.world.state();
            let State { now, objects, truth, .. } = &mut *state;
            truth.removed(objects, at, *now);
            objects.remove(at.as_ref());
        }
        self.inner.delete(at).await
    }

    async fn delete_one(&self, at: Path) -> Result<Path> {
        match self.world.step("delete", &at) {
            Step::Dies => return pending().await,
            Step::Fails(error) => return Err(error),
            Step::Does => self.delete_now(&at).await?,
            Step::DoesAndFails(error) => {
                self.delete_now(&at).await?;
                return Err(error);
            }
            Step::DoesAndDies => {
                self.delete_now(&at).await?;
                self.world.dies();
                return pending().await;
            }
        }
        Ok(at)
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

#[async_trait]
impl ObjectStore for Store {
    async fn put_opts(&self, at: &Path, payload: PutPayload, o: PutOptions) -> Result<PutResult> {
        let length = self.world.state().some_time();
        self.world.rest(length).await;
        match self.world.step("put", at) {
            Step::Dies => pending().await,
            Step::Fails(error) => Err(error),
            Step::Does => self.put_now(at, payload, o).await,
            Step::DoesAndFails(error) => {
                self.put_now(at, payload, o).await?;
                Err(error)
            }
            Step::DoesAndDies => {
                let _ = self.put_now(at, payload, o).await;
                self.world.dies();
                pending().await
            }
        }
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        match self.world.step("get", at) {
            Step::Dies => pending().await,
            Step::DoesAndDies => {
                self.world.dies();
                pending().await
            }
            Step::Fails(error) | Step::DoesAndFails(error) => Err(error),
            Step::Does => {
                let found = self.inner.get_opts(at, options).await?;
                let meta = self.dated(found.meta.clone());
                Ok(GetResult { meta, ..found })
            }
        }
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(at, ranges).await
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.world.step("list", &prefix.cloned().unwrap_or_default()) {
            Step::Dies => stream::pending().boxed(),
            Step::DoesAndDies => {
                self.world.dies();
                stream::pending().boxed()
            }
            Step::Fails(error) => stream::iter([Err(error)]).boxed(),
            // It ends in the middle.
            Step::DoesAndFails(error) => {
                self.inner.list(prefix).take(2).chain(stream::iter([Err(error)])).boxed()
            }
            Step::Does => {
                let this = self.clone();
                self.inner.list(prefix).map_ok(move |meta| this.dated(meta)).boxed()
            }
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.world.step("list", &prefix.cloned().unwrap_or_default()) {
            Step::Dies => pending().await,
            Step::DoesAndDies => {
                self.world.dies();
                pending().await
            }
            Step::Fails(error) | Step::DoesAndFails(error) => Err(error),
            Step::Does => self.inner.list_with_delimiter(prefix).await,
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let one = move |at| {
            let this = this.clone();
            async move { this.delete_one(at).await }
        };
        locations.and_then(one).boxed()
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::Generic { store: "made up", source: format!("no parts: {at}").into() })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
