//! The WAL that a recovering server asks for, out of a socket of this recovery alone: the server
//! and all that runs beside it in its sandbox have no key, no configuration and no bucket. What asks is
//! the same account, by the kernel's word, each time; it may ask for names of this WAL and for
//! nothing else, and what it is given was looked at before.

use std::convert::Infallible;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use drctl_engines::Below;
use drctl_model::{Timeline, WalSegmentSize};
use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use super::command::{ahead, segments};
use super::log_ahead::expected;
use super::spaces::Spaces;
use super::{ABSENT, DELIVERED, FAILED, LEFT, PLACED, RecoverRequest, is_placed, placed};
use crate::engine::wal::{Ahead, Fetched, LogRequest};
use crate::host::files::discard;
use crate::host::{AgentError, Failure};
use crate::log::is_damaged;
use crate::repository::Notebook;

/// The socket in the server's private directory.
const SOCKET: &str = "log";

/// Where files of the WAL lie for a moment, in the recovery's directory.
const SCRATCH: &str = "serving";

/// Where the server keeps the WAL that it has, there too.
const OWN_LOG: &str = "data/pg_wal";

/// A standby that has asked for the same segment so often waits for it.
const ASKED_IN_VAIN: u32 = 3;

/// How many are answered at once; a server asks for one file after the other.
const AT_ONCE: usize = 4;

/// How long a request may take to come, and an answer to be read.
const ASK_WAIT: Duration = Duration::from_secs(30);
const READ_WAIT: Duration = Duration::from_secs(600);

/// The longest request: a name and the end of its line.
const LONGEST: u64 = 64;

/// Answers a recovering server.
pub(super) struct Serving<'a> {
    request: &'a RecoverRequest<'a>,
    size: WalSegmentSize,
    scratch: PathBuf,
    count: AtomicU64,
    listener: Mutex<Option<Arc<UnixListener>>>,
    spaces: Spaces<'a>,
    /// Why the server was not given what it asked for last.
    unusable: Mutex<Option<anyhow::Error>>,
    /// The segment that is not there and that it asked for last, and how often it did.
    absent: Mutex<(String, u32)>,
}

impl<'a> Serving<'a> {
    /// Makes it ready; nobody can ask yet.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn new(request: &'a RecoverRequest<'a>, size: WalSegmentSize) -> Result<Self> {
        let scratch = request.directory.join(SCRATCH);
        discard(&scratch).context("remove what an earlier attempt left")?;
        let made = Below::open(&request.directory)
            .and_then(|below| below.directory(Path::new(SCRATCH)).map(drop));
        made.with_context(|| format!("make the directory {}", scratch.display()))?;
        let (count, listener) = (AtomicU64::new(0), Mutex::new(None));
        let spaces = Spaces::new(request, size);
        let unusable = Mutex::new(None);
        let absent = Mutex::default();
        Ok(Serving { request, size, scratch, count, listener, spaces, unusable, absent })
    }

    /// Listens in the private directory of a server; gives where.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn listen(&self, private: &Path) -> std::io::Result<PathBuf> {
        let socket = private.join(SOCKET);
        let listener = UnixListener::bind(&socket)?;
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(listener));
        Ok(socket)
    }

    fn listener(&self) -> Option<Arc<UnixListener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers for as long as it is awaited.
    pub(super) async fn run(&self) -> Infallible {
        let Some(listener) = &self.listener() else { return std::future::pending().await };
        let arrivals = stream::unfold((), |()| async move { Some((listener.accept().await, ())) });
        let each = arrivals.for_each_concurrent(AT_ONCE, |arrived| async move {
            match arrived {
                Ok((stream, _)) => self.answer(stream).await,
                // Too many files are open: it is tried again.
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        });
        each.await;
        std::future::pending().await
    }

    /// One question. Whoever asks and does not wait for the answer gets none.
    async fn answer(&self, mut stream: UnixStream) {
        let ours = rustix::process::geteuid().as_raw();
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == ours) {
            tracing::warn!("another account asked for the WAL of this recovery, and was refused");
            return;
        }
        let mut line = String::new();
        let read = BufReader::new((&mut stream).take(LONGEST));
        let asked = timeout(ASK_WAIT, { read }.read_line(&mut line)).await;
        let Some(name) = line.strip_suffix('\n').filter(|_| matches!(asked, Ok(Ok(_)))) else {
            return;
        };
        let done = self.look_for(name).await;
        if let Some(error) = done.as_ref().err().filter(|error| is_damaged(error)) {
            self.remember(error).await;
        }
        if let Ok(found) = &done {
            self.note(name, found.is_some());
        }
        let done = match done {
            Ok(found) => Ok(found.map(|file| self.place(name, file))),
            Err(error) => {
                let words = words(&error);
                // The server ends for want of what it asked for.
                *self.unusable.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Err(words)
            }
        };
        let sent = timeout(READ_WAIT, send(&mut stream, done)).await;
        if let Ok(Err(error)) = sent {
            tracing::debug!("{name} was not taken: {error}");
        }
    }

    /// Whether the server waits for WAL that is not there: it has asked for the same again and again.
    pub(super) fn waits(&self) -> bool {
        self.absent.lock().unwrap_or_else(PoisonError::into_inner).1 >= ASKED_IN_VAIN
    }

    fn note(&self, name: &str, is_there: bool) {
        if self.size.parse_file_name(name).is_err() {
            return;
        }
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        if is_there || absent.0 != name {
            *absent = (name.to_owned(), u32::from(!is_there));
        } else {
            absent.1 += 1;
        }
    }

    /// Why the server failed: it knows no more of it than that it was not given what it asked for.
    pub(super) fn blamed(&self, error: anyhow::Error) -> anyhow::Error {
        let unusable = self.unusable.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(unusable) = unusable else { return error };
        tracing::info!("{error:#}");
        unusable.context("replay the WAL")
    }

    /// What is damaged is remembered, so that plans lead around it from now on.
    async fn remember(&self, error: &anyhow::Error) {
        let RecoverRequest { setup, repository, source, .. } = self.request;
        let Ok(source) = source.parse() else { return };
        let failure = Failure::of(error);
        let problem = (failure.code.to_owned(), failure.messages.join(": "));
        Notebook::open(setup, repository).await.met(&source, problem).await;
    }

    /// A file of the WAL, in a place of ours; nothing where it is proven to be absent.
    async fn look_for(&self, name: &str) -> Result<Option<Scratch>> {
        if !is_name(name) {
            bail!(AgentError::Usage(format!("`{name}` is not the name of a WAL file")));
        }
        let file =
            Scratch(self.scratch.join(self.count.fetch_add(1, Ordering::Relaxed).to_string()));
        let (waiting, to, of) = (ahead(&self.request.directory), file.0.clone(), name.to_owned());
        let bytes = self.size.bytes();
        let taken = tokio::task::spawn_blocking(move || Ahead::take(&waiting, &of, bytes, &to));
        let own = self.request.directory.join(OWN_LOG);
        let taken = taken.await?;
        let found = match taken {
            Some(_) => Fetched::Delivered,
            None => self.fetch(name, &file.0, &own).await?,
        };
        // Without a sandbox nothing but what is read here keeps a server from the source's places.
        let quiet = taken.is_some_and(|taken| taken.quiet) && self.request.sandbox.is_some();
        if let Ok((_, start)) = self.size.parse_file_name(name)
            && !(quiet && self.spaces.is_between(start))
        {
            let read = match found {
                Fetched::Delivered => file.0.clone(),
                // The server takes its own.
                Fetched::Absent => own.join(name),
            };
            self.spaces.prepare_for(&read, start).await?;
        }
        Ok((found == Fetched::Delivered).then_some(file))
    }

    async fn fetch(&self, name: &str, to: &Path, own: &Path) -> Result<Fetched> {
        let (request, size) = (self.request, self.size);
        let (system_id, expected) = (request.known.system_id, &expected(request.plan)[..]);
        let asked = LogRequest { system_id, size, name, to, own, expected };
        let archives = request.log_archives(request.plan.bound)?;
        archives.fetch(&asked, &segments(&request.directory)).await
    }

    /// Lays a file beside the WAL that the server has, so that it needs to be renamed only; where
    /// that cannot be, it is sent.
    fn place(&self, name: &str, file: Scratch) -> Given {
        let beside = Path::new(OWN_LOG).join(placed(name));
        let scratch = Path::new(SCRATCH).join(file.0.file_name().unwrap_or_default());
        let below = Below::open(&self.request.directory);
        match below.and_then(|below| below.rename(&scratch, &beside)) {
            Ok(()) => Given::Placed,
            Err(error) => {
                tracing::debug!("{name} is sent: {error}");
                Given::Sent(file)
            }
        }
    }

    /// The tablespaces that the WAL makes.
    pub(super) fn spaces(&self) -> &Spaces<'a> {
        &self.spaces
    }

    /// Ends. A server that goes on without us finds what it may still ask for: which timelines
    /// there are, so that it does not begin an existing one.
    ///
    /// # Errors
    /// Whatever keeps the histories from being read: then nothing is left.
    pub(super) async fn leave(&self, private: &Path) -> Result<()> {
        let part = private.join("left.part");
        DirBuilder::new().mode(0o700).create(&part).context("leave the WAL's histories")?;
        let mut next = self.request.plan.timeline.id().checked_add(1).and_then(Timeline::new);
        while let Some(timeline) = next {
            let name = format!("{:08X}.history", timeline.id());
            let Some(file) = self.look_for(&name).await? else { break };
            fs::copy(&file.0, part.join(&name)).context("leave the WAL's histories")?;
            next = timeline.id().checked_add(1).and_then(Timeline::new);
        }
        fs::rename(&part, private.join(LEFT)).context("leave the WAL's histories")?;
        fs::remove_file(private.join(SOCKET)).context("end the WAL's socket")
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.scratch);
        // What a server that was killed has not taken.
        let own =
            Below::open(&self.request.directory).and_then(|below| below.enter(Path::new(OWN_LOG)));
        let Ok(own) = own else { return };
        for name in own.names().unwrap_or_default() {
            if is_placed(&name) {
                let _ = own.remove(Path::new(&name));
            }
        }
    }
}

/// A file that is gone when it was sent.
struct Scratch(PathBuf);

/// How a server gets a file.
enum Given {
    Placed,
    Sent(Scratch),
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Why there is no answer, and what to do.
fn words(error: &anyhow::Error) -> String {
    let failure = Failure::of(error);
    let hint = failure.hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    failure.messages.join(": ") + &hint
}

async fn send(stream: &mut UnixStream, done: Result<Option<Given>, String>) -> std::io::Result<()> {
    match done {
        Ok(Some(Given::Placed)) => stream.write_u8(PLACED).await?,
        Ok(Some(Given::Sent(file))) => {
            let mut from = tokio::fs::File::open(&file.0).await?;
            let length = from.metadata().await?.len();
            stream.write_u8(DELIVERED).await?;
            stream.write_u64(length).await?;
            let mut chunk = vec![0; 256 << 10];
            loop {
                match from.read(&mut chunk).await? {
                    0 => break,
                    n => stream.write_all(&chunk[..n]).await?,
                }
            }
        }
        Ok(None) => stream.write_u8(ABSENT).await?,
        Err(words) => {
            stream.write_u8(FAILED).await?;
            stream.write_all(words.as_bytes()).await?;
        }
    }
    stream.flush().await
}

/// A segment, or a timeline's history.
fn is_name(name: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    match name.strip_suffix(".history") {
        Some(timeline) => timeline.len() == 8 && hex(timeline),
        None => name.len() == 24 && hex(name),
    }
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn only_names_of_log_are_asked_for() {
        for name in ["000000010000000000000003", "0000000A.history"] {
            assert!(is_name(name), "{name}");
        }
        for name in
            ["", "../../etc/passwd", "00000001000000000000000g", "0000000a.history", ".history"]
        {
            assert!(!is_name(name), "{name}");
        }
    }
}
