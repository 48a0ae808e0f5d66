//! Log fetched ahead of a recovering server: into a private directory beside its data, by the
//! process that watches the recovery. What lies there is a help and never an answer: `wal fetch`
//! takes a file from it only when it is whole, and else does all that it would do without.

use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_model::{Lsn, Timeline, WalSegmentSize};
use drctl_store::Identities;
use futures_util::{StreamExt as _, stream};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::Expected;
use super::fetch::{Assembled, Segment, assemble, cover};
use crate::host::private;
use crate::log::LogStore;

/// The most bytes of log that wait to be asked for: many of the usual segments, and at least one
/// of any size.
const ROOM: u64 = 256 << 20;

/// The most segments that wait.
const MOST: u64 = 32;

/// The bytes of the segments that are fetched at once; each is held in memory as a whole.
const AT_ONCE: u64 = 64 << 20;

/// How often it is looked whether there is room again.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How much of a file is read at once: what the processor's own memory holds.
const READ_BYTES: usize = 256 << 10;

/// The length of a segment's name: timeline and position, in hexadecimal.
const SEGMENT_NAME: usize = 24;

/// The name of the file that tells which segment the server asked for last.
const ASKED: &str = "asked";

/// How the name ends of a segment that makes no tablespace.
const QUIET: &str = ".quiet";

/// A segment that a server was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Whether it is known that it makes no tablespace; not known: it may.
    pub quiet: bool,
}

/// Where log waits for a recovering server.
#[derive(Debug, Clone)]
pub struct Ahead(PathBuf);

impl Ahead {
    /// The directory `at`, which need not be there.
    #[must_use]
    pub fn new(at: &Path) -> Self {
        Ahead(at.to_owned())
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it new and empty: what a process left that was killed is not looked at.
    ///
    /// # Errors
    /// [`std::io::Error`] where it cannot be made.
    pub fn begin(&self) -> Result<()> {
        self.end();
        let made = DirBuilder::new().mode(0o700).create(&self.0);
        made.with_context(|| format!("make the directory {}", self.0.display()))
    }

    /// Removes it with all that it holds.
    pub fn end(&self) {
        // Files that stay cost room and nothing else: they are never believed by their presence.
        let _ = fs::remove_dir_all(&self.0);
    }

    /// Gives the segment `name` to the server at `to` if it waits here, whole: of the right size,
    /// and of the bytes that its own name tells. Anything else than a whole file is as if it were not
    /// there.
    #[must_use]
    pub fn take(&self, name: &str, segment_bytes: u64, to: &Path) -> Option<Taken> {
        // A history is asked for at any time, and tells nothing of how far the server is.
        if name.len() != SEGMENT_NAME || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        self.asked(name);
        let file = self.waiting().into_iter().find(|file| file.name == name)?;
        let path = self.0.join(file.file_name());
        let whole = size_and_digest(&path).is_ok_and(|found| found == (segment_bytes, file.digest));
        if whole && fs::rename(&path, to).is_ok() {
            return Some(Taken { quiet: file.quiet });
        }
        let _ = fs::remove_file(&path);
        None
    }

    /// Fetches segments by `fetch`, `fetches` at once, each once there is room for it and unless the
    /// server is behind it; whether more can be kept. What `fetch` gives inside is that nothing can
    /// be kept any more; a segment that it cannot have is left to the server's own command.
    pub(crate) async fn fetch<W>(
        &self,
        (size, fetches): (WalSegmentSize, usize),
        wanted: impl IntoIterator<Item = (String, W)>,
        fetch: impl AsyncFn(&str, W) -> Result<std::io::Result<()>>,
    ) -> bool {
        let fetch = &fetch;
        let one = |(name, wanted): (String, W)| async move {
            if !self.is_wanted(&name, size).await {
                return Ok(());
            }
            fetch(&name, wanted).await.unwrap_or_else(|error| {
                tracing::debug!("{name} is not fetched ahead: {error:#}");
                Ok(())
            })
        };
        let at_once = Self::at_once(size, fetches);
        let mut done = stream::iter(wanted.into_iter().map(one)).buffered(at_once);
        while let Some(kept) = done.next().await {
            if let Err(error) = kept {
                tracing::debug!("no more is fetched ahead: {error}");
                return false;
            }
        }
        true
    }

    /// How many segments are fetched at once.
    pub(crate) fn at_once(size: WalSegmentSize, fetches: usize) -> usize {
        usize::try_from(AT_ONCE / size.bytes()).unwrap_or(1).clamp(1, fetches.max(1))
    }

    /// Waits until there is room for another segment; whether the server is not behind it yet.
    async fn is_wanted(&self, name: &str, size: WalSegmentSize) -> bool {
        let most = (ROOM / size.bytes()).clamp(1, MOST);
        let mut tick = tokio::time::interval(LOOK_EVERY);
        while self.tidy() >= most {
            tick.tick().await;
        }
        !self.is_behind(name)
    }

    /// Keeps a segment for the server, unless it is behind it by now.
    ///
    /// # Errors
    /// The file system's.
    pub(super) async fn keep(&self, name: &str, read: Assembled) -> std::io::Result<()> {
        let (ahead, name) = (self.clone(), name.to_owned());
        let write = move || match ahead.is_behind(&name) {
            true => Ok(()),
            false => ahead.put(&name, &read),
        };
        tokio::task::spawn_blocking(write).await.unwrap_or_else(|_| Err(ErrorKind::Other.into()))
    }

    /// Keeps a segment that lies in a file of its own, in the same directory: it is given away.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn keep_file(&self, name: &str, file: &Path, quiet: bool) -> std::io::Result<()> {
        if self.is_behind(name) {
            return Ok(());
        }
        let (_, digest) = size_and_digest(file)?;
        let waiting = Waiting { name: name.to_owned(), digest, quiet };
        fs::rename(file, self.0.join(waiting.file_name()))
    }

    /// Leaves a word for whoever fetches ahead; nothing depends on it.
    fn asked(&self, name: &str) {
        let part = self.0.join(format!("{ASKED}.part"));
        if private::write(&part, name).is_ok() {
            let _ = fs::rename(&part, self.0.join(ASKED));
        }
    }

    /// The files that wait under their final names.
    fn waiting(&self) -> Vec<Waiting> {
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|file| Waiting::of(&file)).collect()
    }

    /// Drops what lies behind the server, and tells how many segments wait.
    fn tidy(&self) -> u64 {
        let asked = fs::read_to_string(self.0.join(ASKED)).unwrap_or_default();
        let (behind, ahead): (Vec<_>, Vec<_>) =
            self.waiting().into_iter().partition(|file| file.name <= asked);
        for file in behind {
            let _ = fs::remove_file(self.0.join(file.file_name()));
        }
        ahead.len() as u64
    }

    /// Whether the server has asked for this segment, or a later one.
    fn is_behind(&self, name: &str) -> bool {
        fs::read_to_string(self.0.join(ASKED)).is_ok_and(|asked| name <= asked.as_str())
    }

    /// Under its final name, which tells its bytes. Nothing is synced: what a host that died has
    /// left is not looked at.
    fn put(&self, name: &str, read: &Assembled) -> std::io::Result<()> {
        let Assembled { bytes, quiet } = read;
        let part = self.0.join(format!("{name}.part"));
        let mut file = private::rewrite(&part)?;
        if let Err(error) = std::io::Write::write_all(&mut file, bytes) {
            let _ = fs::remove_file(&part);
            return Err(error);
        }
        let waiting = Waiting { name: name.to_owned(), digest: xxh3_128(bytes), quiet: *quiet };
        fs::rename(&part, self.0.join(waiting.file_name()))
    }
}

/// A file that waits: its name, and what its bytes come to. The directory is ours alone: the digest
/// is there for what a disk or a full one did to a file, not for what somebody did.
struct Waiting {
    name: String,
    digest: u128,
    quiet: bool,
}

impl Waiting {
    fn of(file: &str) -> Option<Waiting> {
        let (name, digest) = file.split_once('.')?;
        let (digest, quiet) = digest.strip_suffix(QUIET).map_or((digest, false), |d| (d, true));
        let digest = u128::from_str_radix(Some(digest).filter(|d| d.len() == 32)?, 16).ok()?;
        Some(Waiting { name: name.to_owned(), digest, quiet })
    }

    fn file_name(&self) -> String {
        format!("{}.{:032x}{}", self.name, self.digest, if self.quiet { QUIET } else { "" })
    }
}

/// The bytes of a file, and what they come to.
fn size_and_digest(path: &Path) -> std::io::Result<(u64, u128)> {
    let (mut file, mut buffer) = (fs::File::open(path)?, vec![0; READ_BYTES]);
    let (mut bytes, mut digest) = (0, Xxh3::new());
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((bytes, digest.digest128())),
            read => {
                bytes += read as u64;
                digest.update(&buffer[..read]);
            }
        }
    }
}

/// A segment that a plan needs and the bucket holds as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    timeline: Timeline,
    start: Lsn,
    /// The pieces that hold something of it.
    pieces: Vec<(Lsn, Lsn)>,
}

/// The segments of a stretch of log that pieces cover as a whole; all others are left to `wal
/// fetch`, which knows what their absence means.
fn wanted(leg: &Expected, size: WalSegmentSize, there: &[(Lsn, Lsn)]) -> Vec<Wanted> {
    let (mut from, mut found) = (0, Vec::new());
    for start in leg.segments(size) {
        let end = start.plus(size.bytes());
        // They are in order, and one that begins a segment before may reach into this one.
        while there.get(from).is_some_and(|(_, until)| *until <= start) {
            from += 1;
        }
        let pieces = there[from..].iter().take_while(|(begin, _)| *begin < end);
        let pieces: Vec<_> = pieces.copied().collect();
        if cover(&pieces, start, end).last().is_some_and(|(_, until)| *until >= end) {
            found.push(Wanted { timeline: leg.timeline, start, pieces });
        }
    }
    found
}

/// Fetches what `legs` need ahead of a server that asks for it, `fetches` segments at once, until
/// all of it was fetched. Never fails: a segment that cannot be had is left to `wal fetch`, and
/// with a disk that is full it is given up.
pub async fn fetch_ahead(
    ahead: &Ahead,
    log_store: &LogStore,
    (system_id, size): (u64, WalSegmentSize),
    legs: &[Expected],
    fetches: usize,
    identities: &Identities,
) {
    for leg in legs {
        let from = size.start_of(leg.from);
        let there =
            match log_store.ranges((system_id, leg.timeline), size, from, Some(leg.until)).await {
                Ok(there) => there,
                Err(error) => {
                    tracing::debug!("nothing is fetched ahead: {error:#}");
                    return;
                }
            };
        let named = |wanted: Wanted| (size.file_name(wanted.timeline, wanted.start), wanted);
        let wanted = wanted(leg, size, &there).into_iter().map(named);
        let fetch = async |name: &str, Wanted { timeline, start, pieces }: Wanted| {
            let need = Some(leg.until.min(start.plus(size.bytes())));
            let segment = Segment { of: (system_id, timeline), size, start, need };
            let read = assemble(log_store, &segment, pieces, identities).await?;
            Ok(ahead.keep(name, read).await)
        };
        if !ahead.fetch((size, fetches), wanted, fetch).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_as_a_whole_is_wanted() {
        let size = WalSegmentSize::new(1 << 20).unwrap();
        let at = |quarters: u64| Lsn(quarters << 18);
        let leg = |from, until| Expected { timeline: Timeline::FIRST, from, until, last: false };
        let starts = |leg, there: &[(Lsn, Lsn)]| -> Vec<Lsn> {
            wanted(&leg, size, there).into_iter().map(|wanted| wanted.start).collect()
        };
        let all = [(at(4), at(6)), (at(6), at(8)), (at(8), at(12)), (at(12), at(14))];
        assert_eq!(starts(leg(at(5), at(13)), &all), [at(4), at(8)]);
        assert_eq!(starts(leg(at(8), at(9)), &all), [at(8)]);
        assert_eq!(starts(leg(at(4), at(13)), &all[1..]), [at(8)]);
        assert_eq!(starts(leg(at(4), at(4)), &all), [Lsn(0); 0]);
        let ends = |until| Expected { last: true, ..leg(at(4), until) };
        assert_eq!(starts(ends(at(11)), &all), [at(4)]);
        assert_eq!(starts(ends(at(12)), &all), [at(4), at(8)]);
    }
}
