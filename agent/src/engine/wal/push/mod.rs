//! `archive_command`: one file of `pg_wal` into the bucket, durable before it is said.

mod backlog;
mod batch;
mod cache;
mod refused;
mod shorter;
mod waiting;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use drctl_engines::pg::wal::{WalError, WalWalker};
use drctl_model::{
    Checked, Holds, LogPlace, MAX_HISTORY_BYTES, SourceId, Timeline, TimelineHistory, WalPart,
    WalPlace, WalSegmentSize,
};
use drctl_store::SealedStream;
use futures_util::future::try_join;
use tokio::time::timeout;

use self::backlog::{Backlog, news, room};
use self::cache::{FileMark, PushCache, Scope};
use self::waiting::{Waiting, is_segment};
use super::cutter::{Cut, Cuts, Cutter};
use super::preceding::{Before, Known, digest_before};
use super::taken::{history_taken, taken, tell_history, within};
use super::{holds, of_history};
use crate::host::{AgentError, Setup, Stop, crash_point};
use crate::log::{Kept, LogStore};

pub(crate) use refused::note_refusal;

/// Bytes of a segment that are read, checked and sealed at a time: they stay in the processor's
/// cache.
const READ: usize = 256 << 10;

/// For how long a file that is stored is looked behind, before the server hears that it is.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the bucket.
    Stored,
    /// The same was there already.
    Present,
    /// The call for an earlier file stored it and read it back, not long ago.
    Noted,
    /// Its content is kept elsewhere: a backup's own file, or the copy of an unfinished segment
    /// that the new timeline's first segment holds too.
    NotKept,
}

/// A file that PostgreSQL wants to be archived.
pub struct Push<'a> {
    setup: &'a Setup,
    path: &'a Path,
    name: &'a str,
    cache: PushCache,
    source: SourceId,
    waiting: Option<Waiting>,
}

impl<'a> Push<'a> {
    /// Looks at nothing but the file's name.
    ///
    /// # Errors
    /// [`AgentError::UnknownSource`].
    pub fn new(setup: &'a Setup, source: &str, path: &'a Path) -> Result<Self> {
        let (id, _) = setup.source(source)?;
        let configuration = drctl_store::digest(&serde_json::to_vec(&*setup.config)?);
        let scope = Scope { source: id.clone(), configuration };
        let cache = PushCache::new(&setup.config.paths.state_dir, scope);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        Ok(Push { setup, path, name, cache, source: id.clone(), waiting: None })
    }

    /// What is known without asking the bucket: a file that is not kept, or one that the call for
    /// an earlier file has stored, read back, and left a note of.
    #[must_use]
    pub fn known(&self) -> Option<Pushed> {
        if self.name.ends_with(".backup") || self.name.ends_with(".partial") {
            return Some(Pushed::NotKept);
        }
        let noted =
            is_segment(self.name) && self.cache.take(self.path, self.name, self.setup.clock.now());
        noted.then_some(Pushed::Noted)
    }

    /// Looks what else waits; what is to be said where that is too much, or is not any more.
    #[must_use]
    pub fn backlog(&mut self) -> Option<Checked> {
        let bytes = std::fs::metadata(self.path).ok()?.len();
        self.waiting = Waiting::beside(self.path, self.name).unwrap_or_default();
        let files = self.waiting.as_ref()?.segments.len() as u64;
        let backlog = Backlog { files, bytes: files.saturating_mul(bytes), room: room(self.path) };
        let memory = self.memory();
        let _ = self.setup.private_directory(&self.setup.config.paths.state_dir);
        news(&backlog, &self.source, &memory, self.setup.clock.now())
    }

    /// Where the last warning is remembered.
    fn memory(&self) -> PathBuf {
        self.setup.config.paths.state_dir.join(format!("{}.log-warning", self.source))
    }

    /// Keeps the history of the timeline that a segment is of, where it lies beside it: a cluster that
    /// was on it before it was archived the first time does not hand it over. Once.
    async fn keep_history(&self, log_store: &LogStore, place: &LogPlace) -> Result<()> {
        let Some(WalPlace { timeline, part: WalPart::Range { .. }, .. }) = place.wal() else {
            return Ok(());
        };
        let name = format!("{:08X}.history", timeline.id());
        let path = self.path.with_file_name(&name);
        if timeline == Timeline::FIRST || self.cache.is_kept(&name) {
            return Ok(());
        }
        if !path.exists() {
            return Ok(());
        }
        let on = log_store.clone();
        let work = move || {
            let Loaded { place, sealed_stream, holds, .. } = load(&on, &path, &name, &|_, _| None)?;
            on.ready(place, sealed_stream, holds).map(|ready| (ready, name))
        };
        let (ready, name) = tokio::task::spawn_blocking(work).await.context("seal a history")??;
        match log_store.put(ready).await {
            Err(error) if history_taken(&error) => {
                tell_history(&error);
                return Ok(());
            }
            kept => drop(kept.context("store the history of the timeline")?),
        }
        self.cache.keep(&name);
        Ok(())
    }

    /// Stores the file and reads it back; then, for a while, files that wait behind it
    /// (`batch`), of which the number is given too. Nothing that becomes of those changes
    /// what becomes of this one.
    ///
    /// # Errors
    /// [`AgentError::NotWal`] and [`AgentError::Unfinished`] for a file that is not what its name says;
    /// [`AgentError::OtherLog`], [`AgentError::OtherHistory`], [`AgentError::NameTaken`] for what lies in
    /// its place; [`StoreError`](drctl_store::StoreError); [`AgentError::Interrupted`] before the file
    /// was stored. PostgreSQL then keeps the file and tries again.
    pub async fn run(&self, stop: &Stop) -> Result<(Pushed, u64)> {
        let kept = async {
            let log_store = LogStore::open(self.setup, self.source.as_str()).await?;
            let (path, name) = (self.path.to_owned(), self.name.to_owned());
            let (on, cache) = (log_store.clone(), self.cache.clone());
            let work = move || {
                let known: Known<'_> = &|name, file| cache.last(name, file);
                let Loaded { place, sealed_stream, holds, mark } = load(&on, &path, &name, known)?;
                let at = holds.segment_size().map(|size| (place.clone(), size));
                let last =
                    mark.filter(|_| at.is_some()).map(|mark| (mark, sealed_stream.plain_sha256));
                let told = (place.clone(), holds.clone());
                Ok::<_, anyhow::Error>((on.ready(place, sealed_stream, holds)?, (at, last), told))
            };
            let sealed = tokio::task::spawn_blocking(work).await;
            let (ready, (at, last), (place, holds)) = sealed.context("seal a piece of WAL")??;
            self.keep_history(&log_store, &place).await?;
            let follows = log_store.compare_before(&place, &holds);
            let (before, ()) =
                try_join(follows, self.compare_shorter(&log_store, &place, &holds)).await?;
            let kept = match log_store.put(ready).await {
                Err(error) if taken(&error).is_some() => {
                    self.in_parts(&log_store, (&place, &holds), &error).await?
                }
                Err(error) if history_taken(&error) => {
                    return Err(self.past_history(&log_store, &place, error, stop).await);
                }
                kept => kept?,
            };
            if let Some((mark, digest)) = last {
                self.cache.keep_last(self.name, mark, digest);
            }
            let size = at.map(|(_, size)| (size, before));
            Ok::<_, anyhow::Error>((log_store, kept, place, size))
        };
        let (log_store, kept, place, size) = tokio::select! {
            kept = kept => kept?,
            () = stop.requested() => return Err(AgentError::Interrupted.into()),
        };
        crash_point("push-stored");
        if let Some((size, before)) = size {
            // The file is safe: what is only told must not hold the server.
            let settling = async {
                match before {
                    Before::There => log_store.settle_block(&place, size).await,
                    Before::Unknown => log_store.settle(&place, size).await,
                }
            };
            tokio::select! {
                done = timeout(SETTLES_WITHIN, settling) => if done.is_err() {
                    tracing::warn!("whether WAL is missing is not known: the store is slow");
                },
                () = stop.requested() => {}
            }
        }
        let done = match kept {
            Kept::Created => Pushed::Stored,
            Kept::Present => Pushed::Present,
        };
        let ahead = match &self.waiting {
            Some(waiting) if is_segment(self.name) => {
                self.ahead(&log_store, &place, waiting, stop).await
            }
            _ => 0,
        };
        log_store.findings.keep().await;
        Ok((done, ahead))
    }
}

impl Push<'_> {
    /// The name of the history that is asked for is taken. The server asks for it again and again, and
    /// for nothing else before: what waits behind it is stored all the same.
    async fn past_history(
        &self,
        log_store: &LogStore,
        place: &LogPlace,
        error: anyhow::Error,
        stop: &Stop,
    ) -> anyhow::Error {
        let mut stored = 0;
        if let Some(waiting) = &self.waiting {
            stored = self.ahead(log_store, place, &waiting.past_history(), stop).await;
        }
        error.context(format!(
            "the history file cannot be stored, so the server keeps its WAL; {stored} segment(s) \
             that wait after it were stored"
        ))
    }

    /// Stores a segment whose name is taken by an object that nobody whom we trust has signed: in
    /// two parts, cut where nobody could guess it.
    async fn in_parts(
        &self,
        log_store: &LogStore,
        (place, holds): (&LogPlace, &Holds),
        error: &anyhow::Error,
    ) -> Result<Kept> {
        let path = self.path.to_owned();
        let Some((WalPlace { system_id, timeline, part }, size)) =
            place.wal().zip(holds.segment_size())
        else {
            bail!(not_wal(&path, "it is no segment"));
        };
        let WalPart::Range { start, end } = part else {
            bail!(not_wal(&path, "it is no segment"));
        };
        tracing::error!("{error:#}: the segment is stored in two parts");
        let cutter = Cutter::new(system_id, timeline, start, size)
            .behind(holds.before)
            .cutting_at(Some(within((start, end))));
        let cut = move || in_pieces(cutter, &path, size);
        let parts = tokio::task::spawn_blocking(cut).await.context("cut a segment")??;
        for Cut { place, bytes, holds, .. } in parts {
            log_store.keep(place, bytes, holds).await?;
        }
        Ok(Kept::Created)
    }
}

fn in_pieces(mut cutter: Cutter, path: &Path, size: WalSegmentSize) -> Result<Vec<Cut>> {
    let mut cuts = Cuts::default();
    let taken = cutter.take(&read(path, size.bytes())?, &mut cuts);
    taken.map_err(|error| not_wal(path, &format!("{error:#}")))?;
    Ok(cuts.pieces)
}

/// A file, proven to be what its name says, and sealed.
struct Loaded {
    place: LogPlace,
    sealed_stream: SealedStream,
    holds: Holds,
    /// The file as it was all the while it was read; nothing where it was not.
    mark: Option<FileMark>,
}

/// Reads a file, checks and seals it. Takes processor time: for the blocking pool.
fn load(log_store: &LogStore, path: &Path, name: &str, known: Known<'_>) -> Result<Loaded> {
    match name.strip_suffix(".history") {
        Some(id) => history(log_store, path, id),
        None => segment(log_store, path, name, known),
    }
}

fn not_wal(path: &Path, why: &str) -> anyhow::Error {
    AgentError::NotWal { path: path.to_owned(), why: why.to_owned() }.into()
}

fn history(log_store: &LogStore, path: &Path, id: &str) -> Result<Loaded> {
    let timeline = u32::from_str_radix(id, 16).ok().and_then(Timeline::new);
    let timeline = timeline.ok_or_else(|| not_wal(path, "its name is none of a history file"))?;
    let bytes = read(path, MAX_HISTORY_BYTES)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| not_wal(path, "it is no text"))?;
    let history = TimelineHistory::parse(timeline, text);
    let history = history.map_err(|error| not_wal(path, &error.to_string()))?;
    let system_id = control_system_id(path)?;
    let place = LogPlace::of_history((system_id, timeline));
    let mut sealer = log_store.sealer(bytes.len() as u64)?;
    sealer.add(&bytes)?;
    Ok(Loaded { place, sealed_stream: sealer.finish()?, holds: of_history(&history), mark: None })
}

/// The first eight bytes of `global/pg_control` (`ControlFileData`), as the machine holds them.
fn control_system_id(path: &Path) -> Result<u64> {
    let data = path.parent().and_then(Path::parent).unwrap_or(Path::new(""));
    let control = data.join("global/pg_control");
    let mut bytes = [0; 8];
    let read = File::open(&control).and_then(|mut file| file.read_exact(&mut bytes));
    read.with_context(|| format!("read the cluster's identity from {}", control.display()))?;
    Ok(u64::from_le_bytes(bytes))
}

/// What a file holds that is no log. Behind the last record of one that the server still writes lies
/// what was in the file before, in other pages.
fn not_log(path: &Path, error: &WalError) -> anyhow::Error {
    match *error {
        WalError::AfterEnd { ended: at, .. } | WalError::PageAddress { at, .. }
            if !is_handed_over(path) =>
        {
            AgentError::Unfinished { path: path.to_owned(), at }.into()
        }
        _ => not_wal(path, &error.to_string()),
    }
}

/// Whether the server has said of a segment that it writes no more into it. Its records fill one, or
/// a switch ends them, but for the last one of a timeline that a standby left behind
/// (`archive_mode = always`): that is told apart from the one that is being written by this mark.
fn is_handed_over(path: &Path) -> bool {
    let status = path.with_file_name("archive_status");
    let marked = |end: &str| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(end);
        status.join(name).exists()
    };
    marked(".ready") || marked(".done")
}

fn segment(log_store: &LogStore, path: &Path, name: &str, known: Known<'_>) -> Result<Loaded> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let reading = || format!("read {}", path.display());
    let before = file.metadata().with_context(reading)?;
    let size = WalSegmentSize::new(before.len())
        .ok_or_else(|| not_wal(path, "its length is none of a segment"))?;
    let (timeline, start) =
        size.parse_file_name(name).map_err(|error| not_wal(path, &error.to_string()))?;
    let mut walker = WalWalker::new(timeline, start, size);
    let mut sealer = log_store.sealer(size.bytes())?;
    let mut buffer = vec![0; READ];
    let mut left = size.bytes();
    while left > 0 {
        let n = usize::try_from(left).unwrap_or(READ).min(READ);
        file.read_exact(&mut buffer[..n]).with_context(reading)?;
        walker.feed(&buffer[..n]).map_err(|error| not_log(path, &error))?;
        sealer.add(&buffer[..n])?;
        left -= n as u64;
    }
    let (before, after) = (FileMark::of(&before), FileMark::of(&file.metadata()?));
    let summary = walker.summary();
    if let Some(at) = summary.ended.filter(|_| !is_handed_over(path)) {
        return Err(AgentError::Unfinished { path: path.to_owned(), at }.into());
    }
    let Some(system_id) = summary.system_id else {
        bail!(not_wal(path, "it names no cluster"));
    };
    let place = LogPlace::of_wal((system_id, timeline), (start, start.plus(size.bytes())));
    let mark = (before == after).then_some(before);
    let before = digest_before(path, timeline, start, size, known);
    let holds = Holds { before, ..holds(&summary, size) };
    Ok(Loaded { place, sealed_stream: sealer.finish()?, holds, mark })
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("read {}", path.display()))?;
    if bytes.len() as u64 > most {
        return Err(not_wal(path, "it is too long"));
    }
    Ok(bytes)
}
