//! `archive_command`: one file of `pg_wal` into the bucket, durable before it is said.

mod backlog;
mod batch;
mod cache;
mod load;
mod parcel;
mod refused;
mod shorter;
mod waiting;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use drctl_model::{
    Checked, Holds, LogPlace, SourceId, Timeline, WalPart, WalPlace, WalSegmentSize,
};
use futures_util::future::try_join;
use tokio::time::timeout;

use self::backlog::{Backlog, news, room};
use self::cache::{PushCache, Scope};
use self::load::{Loaded, load, not_wal, read};
use self::waiting::{Waiting, is_segment};
use super::cutter::{Cut, Cuts, Cutter};
use super::files::Files;
use super::preceding::{Before, Known};
use super::taken::{history_taken, taken, tell_history, within};
use crate::host::{AgentError, Setup, Stop, crash_point};
use crate::log::{Kept, LogStore};

pub(crate) use parcel::{MOST_HANDED, Parcel, ParcelLabel};
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

impl Pushed {
    /// For scripts.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Pushed::Stored => "stored",
            Pushed::Present => "present",
            Pushed::Noted => "noted",
            Pushed::NotKept => "not_kept",
        }
    }
}

/// A file that PostgreSQL wants to be archived.
pub struct Push<'a> {
    setup: &'a Setup,
    files: Files,
    name: &'a str,
    cache: PushCache,
    source: SourceId,
    beside: Beside,
    waiting: Option<Waiting>,
}

/// What is known of what lies beside the file.
enum Beside {
    /// Nothing yet: it is looked at when it is asked for.
    Here,
    /// What somebody has seen who has handed the file on.
    Told { waiting: Option<Waiting>, room: Option<u64> },
}

impl<'a> Push<'a> {
    /// Looks at nothing but the file's name.
    ///
    /// # Errors
    /// [`AgentError::UnknownSource`].
    pub fn new(setup: &'a Setup, source: &str, path: &'a Path) -> Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        Push::of(setup, source, name, (Files::beside(path), Beside::Here))
    }

    /// A file that somebody else has opened, and handed on.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn handed(setup: &'a Setup, source: &str, parcel: &'a Parcel) -> Result<Self> {
        let (waiting, room) = (parcel.waiting(), parcel.room());
        Push::of(setup, source, parcel.name(), (parcel.files(), Beside::Told { waiting, room }))
    }

    fn of(
        setup: &'a Setup,
        source: &str,
        name: &'a str,
        (files, beside): (Files, Beside),
    ) -> Result<Self> {
        let (id, _) = setup.source(source)?;
        let scope = Scope { source: id.clone(), configuration: setup.digest()? };
        let cache = PushCache::new(&setup.config.paths.state_dir, scope);
        Ok(Push { setup, files, name, cache, source: id.clone(), beside, waiting: None })
    }

    /// What is known without asking the bucket: a file that is not kept, or one that the call for
    /// an earlier file has stored, read back, and left a note of.
    #[must_use]
    pub fn known(&self) -> Option<Pushed> {
        if self.name.ends_with(".backup") || self.name.ends_with(".partial") {
            return Some(Pushed::NotKept);
        }
        let noted = is_segment(self.name)
            && self.cache.take(&self.files, self.name, self.setup.clock.now());
        noted.then_some(Pushed::Noted)
    }

    /// Looks what else waits; what is to be said where that is too much, or is not any more.
    #[must_use]
    pub fn backlog(&mut self) -> Option<Checked> {
        let bytes = self.files.metadata(self.name).ok()?.len();
        let room = match &self.beside {
            Beside::Here => {
                let path = self.files.path(self.name);
                self.waiting = Waiting::beside(&path, self.name).unwrap_or_default();
                room(&path)
            }
            Beside::Told { waiting, room } => {
                self.waiting.clone_from(waiting);
                *room
            }
        };
        let files = self.waiting.as_ref()?.files;
        let backlog = Backlog { files, bytes: files.saturating_mul(bytes), room };
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
        if timeline == Timeline::FIRST || self.cache.is_kept(&name) {
            return Ok(());
        }
        if !self.files.exists(&name) {
            return Ok(());
        }
        let (on, files) = (log_store.clone(), self.files.clone());
        let work = move || {
            let Loaded { place, sealed_stream, holds, .. } =
                load(&on, &files, &name, &|_, _| None)?;
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
        self.run_into(LogStore::open(self.setup, self.source.as_str()), stop).await
    }

    /// The same into a log that is to be opened, or is open already.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) async fn run_into(
        &self,
        opening: impl Future<Output = Result<LogStore>>,
        stop: &Stop,
    ) -> Result<(Pushed, u64)> {
        let kept = async {
            let log_store = opening.await?;
            let (files, name) = (self.files.clone(), self.name.to_owned());
            let (on, cache) = (log_store.clone(), self.cache.clone());
            let work = move || {
                let known: Known<'_> = &|name, file| cache.last(name, file);
                let Loaded { place, sealed_stream, holds, mark } = load(&on, &files, &name, known)?;
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
        if let Some(of) = size {
            settle(&log_store, &place, of, stop).await;
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

/// Looks whether WAL is missing before a file that is safe: what is only told must not hold the server.
async fn settle(
    log_store: &LogStore,
    place: &LogPlace,
    (size, before): (WalSegmentSize, Before),
    stop: &Stop,
) {
    let settling = async {
        match before {
            Before::There => log_store.settle_block(place, size).await,
            Before::Unknown => log_store.settle(place, size).await,
        }
    };
    tokio::select! {
        done = timeout(SETTLES_WITHIN, settling) => if done.is_err() {
            tracing::warn!("whether WAL is missing is not known: the store is slow");
        },
        () = stop.requested() => {}
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
        let path = self.files.path(self.name);
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
        let (files, name) = (self.files.clone(), self.name.to_owned());
        let cut = move || in_pieces(cutter, (&files, &name), size);
        let parts = tokio::task::spawn_blocking(cut).await.context("cut a segment")??;
        for Cut { place, bytes, holds, .. } in parts {
            log_store.keep(place, bytes, holds).await?;
        }
        Ok(Kept::Created)
    }
}

fn in_pieces(
    mut cutter: Cutter,
    (files, name): (&Files, &str),
    size: WalSegmentSize,
) -> Result<Vec<Cut>> {
    let mut cuts = Cuts::default();
    let taken = cutter.take(&read(files, name, size.bytes())?, &mut cuts);
    taken.map_err(|error| not_wal(&files.path(name), &format!("{error:#}")))?;
    Ok(cuts.pieces)
}
