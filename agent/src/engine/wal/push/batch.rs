//! What waits behind the file that the server hands over, stored while we are at it.
//!
//! PostgreSQL asks for one file at a time and waits. So the call for a file, once that one is
//! durable, stores some of those that wait behind it, several at once, and leaves a note of each
//! that was read back; the call for such a file then ends at once. A note is believed only for the
//! very file that was read ([`super::notes`]); without one, a file goes the full way.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use drctl_model::{Digest, LogPlace, Lsn, WalPart, WalPlace, WalSegmentSize};
use futures_util::{StreamExt as _, stream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::Push;
use super::cache::{FileMark, OpenPushCache};
use super::load::{Loaded, load};
use super::waiting::{Waiting, is_segment};
use crate::engine::wal::preceding::Known;
use crate::host::{Stop, crash_point};
use crate::log::LogStore;

/// The most files that one call stores ahead.
pub(super) const MOST_FILES: usize = 64;

/// The same where the server asks for a history again and again and goes no further: those that have
/// a note are among them.
const MOST_PAST_HISTORY: usize = 16_384;

/// For how long one call begins with further files: the server hears so much later that its own
/// file is stored.
const BEGINS_WITHIN: Duration = Duration::from_secs(3);

/// When those that were begun are given up: a store that has become slow must not hold the server.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// The plain bytes of files that are on their way at once; each is held up to three times over.
const MOST_BYTES: u64 = 80 << 20;

impl Push<'_> {
    /// Stores what waits behind this file, and tells how many that were.
    pub(super) async fn ahead(
        &self,
        log_store: &LogStore,
        place: &LogPlace,
        waiting: &Waiting,
        stop: &Stop,
    ) -> u64 {
        let most = if is_segment(self.name) { MOST_FILES } else { MOST_PAST_HISTORY };
        let followers = waiting.behind(self.name, most);
        if followers.is_empty() {
            return 0;
        }
        let stored = Cell::new(0);
        let work = async {
            let (followers, other) = self.of_one_history(log_store, place, followers).await?;
            self.store(log_store, followers, &stored).await?;
            other.map_or(Ok(()), Err)
        };
        let work = timeout(ENDS_WITHIN, work);
        let done = tokio::select! {
            done = work => done.context("the store is slow").and_then(|done| done),
            () = stop.requested() => Ok(()),
        };
        // Whatever it is, it is told when the server asks for that file.
        if let Err(error) = done {
            tracing::info!("nothing more was stored ahead: {error:#}");
        }
        stored.get()
    }

    async fn store(
        &self,
        log_store: &LogStore,
        followers: &[String],
        stored: &Cell<u64>,
    ) -> Result<()> {
        let Some(cache) = self.cache.open().context("open the cache")? else {
            bail!("another process stores ahead");
        };
        let limits = self.setup.limits();
        let bytes = self.files.metadata(self.name)?.len().max(1);
        let at_once = usize::try_from(MOST_BYTES / bytes)?.min(limits.seals + limits.puts);
        let noted =
            cache.tidy(&self.files, followers, log_store.now()).context("tidy the cache up")?;
        let begun = Instant::now();
        let (failed, over) = (Cell::new(None), Cell::new(at_once == 0));
        let places = RefCell::new(Vec::new());
        let sealed = Sealed::default();
        let seals = Semaphore::new(limits.seals);
        let before = std::iter::once(self.name).chain(followers.iter().map(String::as_str));
        let pairs = before.zip(followers).filter(|(_, name)| !noted.contains(*name));
        stream::iter(pairs)
            .take_while(|_| future::ready(!over.get() && begun.elapsed() < BEGINS_WITHIN))
            .map(|(before, name)| self.follow(log_store, (&cache, &sealed), &seals, (before, name)))
            .buffer_unordered(at_once.max(1))
            .for_each(|done| {
                match done {
                    Ok(place) => {
                        stored.set(stored.get() + 1);
                        places.borrow_mut().extend(place);
                    }
                    Err(error) => {
                        failed.set(Some(error));
                        over.set(true);
                    }
                }
                future::ready(())
            })
            .await;
        // They came in any order: only now is all of it there that an index tells of.
        let mut places = places.into_inner();
        places.sort_by(|one, other| one.place.cmp(&other.place));
        if let Some((name, mark, digest)) = sealed.last() {
            self.cache.keep_last(&name, mark, digest);
        }
        for Followed { place, size, is_next } in places {
            // Where it follows what waits before it no log can be missing between them; where it
            // does not, nobody else tells: the server's call for it ends with the note.
            match is_next {
                true => log_store.settle_block(&place, size).await,
                false => log_store.settle(&place, size).await,
            }
        }
        // What was stored is told of, whatever became of the others.
        failed.take().map_or(Ok(()), Err)
    }

    /// One of them, and the one that waits before it: the same way as a file that was asked for,
    /// and a note.
    async fn follow(
        &self,
        log_store: &LogStore,
        (cache, sealed): (&OpenPushCache, &Sealed),
        seals: &Semaphore,
        (before, name): (&str, &str),
    ) -> Result<Option<Followed>> {
        let turn = seals.acquire().await?;
        let (on, title) = (log_store.clone(), name.to_owned());
        let (sealed, kept) = (sealed.clone(), self.cache.clone());
        let files = self.files.clone();
        let work = move || {
            // A file that was written just now could change without a mark.
            let now = on.now();
            if !FileMark::of(&files.metadata(&title)?).settled(now) {
                return Ok(None);
            }
            let known: Known<'_> =
                &|name, file| sealed.get(name, file).or_else(|| kept.last(name, file));
            let Loaded { place, sealed_stream, holds, mark } = load(&on, &files, &title, known)?;
            let Some(mark) = mark.filter(|mark| mark.settled(now)) else { return Ok(None) };
            sealed.learn(title, mark, sealed_stream.plain_sha256);
            let at = holds.segment_size().map(|size| (place.clone(), size));
            Ok::<_, anyhow::Error>(Some((on.ready(place, sealed_stream, holds)?, mark, at)))
        };
        let ready = tokio::task::spawn_blocking(work).await.context("seal a piece of WAL")??;
        drop(turn);
        let Some((ready, mark, at)) = ready else { bail!("{name} was written just now") };
        log_store.put(ready).await?;
        crash_point("push-ahead-stored");
        cache
            .write(name, mark, &log_store.repository().id, log_store.now())
            .context("write a note")?;
        crash_point("push-ahead-noted");
        let followed = |(place, size)| {
            let is_next = follows(&place, size, before);
            Followed { place, size, is_next }
        };
        Ok(at.map(followed))
    }
}

/// The digests of the segments that one call has sealed.
#[derive(Clone, Default)]
struct Sealed(Arc<Mutex<BTreeMap<String, (FileMark, Digest)>>>);

impl Sealed {
    fn learn(&self, name: String, mark: FileMark, digest: Digest) {
        if let Ok(mut all) = self.0.lock() {
            all.insert(name, (mark, digest));
        }
    }

    fn get(&self, name: &str, file: &Metadata) -> Option<Digest> {
        let (mark, digest) = *self.0.lock().ok()?.get(name)?;
        (mark == FileMark::of(file)).then_some(digest)
    }

    fn last(&self) -> Option<(String, FileMark, Digest)> {
        let all = self.0.lock().ok()?;
        all.last_key_value().map(|(name, (mark, digest))| (name.clone(), *mark, *digest))
    }
}

/// A segment that was stored ahead, and whether it is the next one to what waited before it.
struct Followed {
    place: LogPlace,
    size: WalSegmentSize,
    is_next: bool,
}

/// Whether a segment is the one right behind the one with this name.
fn follows(place: &LogPlace, size: WalSegmentSize, before: &str) -> bool {
    let Some(WalPlace { timeline, part: WalPart::Range { start, .. }, .. }) = place.wal() else {
        return false;
    };
    let previous = start.0.checked_sub(size.bytes()).map(Lsn);
    previous.is_some_and(|previous| size.file_name(timeline, previous) == before)
}
