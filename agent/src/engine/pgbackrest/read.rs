//! Segments of a stanza's archive, read one by one: whether they are the WAL that was written, and
//! what they hold.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use drctl_engines::EngineError;
use drctl_engines::backrest::{BackRest, Cluster, Got};
use drctl_engines::pg::wal::WalWalker;
use drctl_model::{Digest, Holds, Lsn, Timeline, WalSegmentSize, shown};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use super::StanzaView;
use crate::engine::wal::{Segment, holds};

/// How much of a segment is read at once.
const CHUNK: usize = 1 << 20;

/// The digest by which pgBackRest tells segments apart: SHA-1 of its plain bytes.
pub(crate) type Sha = [u8; 20];

/// What was found under a segment's name.
#[derive(Debug, Clone)]
pub(crate) enum Looked {
    /// The WAL that was written.
    Holds(Box<Holds>),
    /// Something else, or nothing: in words.
    Bad(String),
}

/// A file that goes when this does.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A name in a directory that nobody else uses.
    pub(crate) fn new(folder: &Path, name: &str) -> Scratch {
        Scratch(folder.join(format!("{name}.{:016x}", rand::random::<u64>())))
    }

    /// Where it is, or will be.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Reads segments of one cluster, each once.
pub(crate) struct Reader<'a> {
    backrest: &'a BackRest,
    cluster: &'a Cluster,
    size: WalSegmentSize,
    folder: PathBuf,
    seen: Mutex<HashMap<(Timeline, Lsn), Looked>>,
}

impl<'a> Reader<'a> {
    /// With a private directory for what is being read.
    pub(crate) fn new(
        backrest: &'a BackRest,
        cluster: &'a Cluster,
        size: WalSegmentSize,
        folder: &Path,
    ) -> Self {
        let seen = Mutex::new(HashMap::new());
        Reader { backrest, cluster, size, folder: folder.to_owned(), seen }
    }

    /// Bytes of a segment.
    pub(crate) fn size(&self) -> WalSegmentSize {
        self.size
    }

    /// What the segment that begins at `start` holds. A segment that is damaged is no error: it is
    /// as good as missing.
    ///
    /// # Errors
    /// Whatever keeps it from being read without telling anything of the segment itself.
    pub(crate) async fn look(
        &self,
        timeline: Timeline,
        start: Lsn,
        sha1: Option<Sha>,
    ) -> Result<Looked> {
        if let Some(known) =
            self.seen.lock().ok().and_then(|seen| seen.get(&(timeline, start)).cloned())
        {
            return Ok(known);
        }
        let name = self.size.file_name(timeline, start);
        let file = Scratch::new(&self.folder, &name);
        let looked = match self.backrest.get_segment(Some(self.cluster), &name, file.path()).await {
            Ok(Got::Missing) => Looked::Bad("it is not there any more".to_owned()),
            Ok(Got::Delivered) => {
                let (path, size, id) = (file.path().to_owned(), self.size, self.cluster.system_id);
                let work = move || whole(&path, (timeline, start, size), id, sha1);
                match tokio::task::spawn_blocking(work).await?? {
                    Ok(holds) => Looked::Holds(Box::new(holds)),
                    Err(why) => Looked::Bad(why),
                }
            }
            Err(error) if is_damage(&error) => Looked::Bad(shown(&error.to_string(), 300)),
            Err(error) => return Err(error).with_context(|| format!("read the segment {name}")),
        };
        if let Ok(mut seen) = self.seen.lock() {
            seen.insert((timeline, start), looked.clone());
        }
        Ok(looked)
    }

    /// A small file of the archive, as text: a history.
    ///
    /// # Errors
    /// pgBackRest's. Nothing where it is not there.
    pub(crate) async fn text(&self, name: &str) -> Result<Option<String>> {
        let file = Scratch::new(&self.folder, name);
        let got = self.backrest.get_segment(Some(self.cluster), name, file.path()).await;
        match got.with_context(|| format!("read {name}"))? {
            Got::Missing => Ok(None),
            Got::Delivered => {
                let bytes = std::fs::read(file.path()).with_context(|| format!("read {name}"))?;
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
        }
    }
}

/// The bytes of a segment of a stanza's archive, put into `folder` while it is read; nothing where
/// it is not there, or is not the WAL that was written.
///
/// # Errors
/// pgBackRest's; the file system's.
pub(super) async fn segment(
    stanza: &StanzaView,
    &Segment { of: (system_id, timeline), size, start, .. }: &Segment,
    folder: &Path,
) -> Result<Option<Vec<u8>>> {
    let name = size.file_name(timeline, start);
    let file = Scratch::new(folder, &name);
    let cluster = stanza.cluster(system_id);
    let got = stanza.backrest.get_segment(cluster, &name, file.path()).await;
    if got.with_context(|| format!("read the segment {name}"))? == Got::Missing {
        return Ok(None);
    }
    let bytes = std::fs::read(file.path()).with_context(|| format!("read the segment {name}"))?;
    Ok((bytes.len() as u64 == size.bytes()).then_some(bytes))
}

/// Whether pgBackRest says that the file itself is damaged, and not that it cannot be reached.
fn is_damage(error: &EngineError) -> bool {
    let text = error.to_string();
    let mut causes = std::iter::successors(std::error::Error::source(error), |e| e.source());
    let words = ["[FormatError]", "[ChecksumError]", "duplicates found"];
    let has = |text: &str| words.iter().any(|word| text.contains(word));
    has(&text) || causes.any(|cause| has(&cause.to_string()))
}

/// As [`examine`]; what was found also has the digest of the whole segment. WAL that drctl itself
/// stored behind it is bound to that digest.
fn whole(
    path: &Path,
    of: (Timeline, Lsn, WalSegmentSize),
    system_id: u64,
    sha1: Option<Sha>,
) -> Result<Result<Holds, String>> {
    let holds = match examine(path, of, system_id, sha1)? {
        Ok(holds) => holds,
        Err(why) => return Ok(Err(why)),
    };
    let reading = || format!("read {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        let n = file.read(&mut buffer).with_context(reading)?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
    }
    Ok(Ok(Holds { after: Some(Digest(hasher.finalize().into())), ..holds }))
}

/// Whether a file is the whole segment that its name tells: its length, its digest where one is
/// known, and every record in it. In words what it is otherwise.
///
/// # Errors
/// The file system's.
pub(crate) fn examine(
    path: &Path,
    (timeline, start, size): (Timeline, Lsn, WalSegmentSize),
    system_id: u64,
    sha1: Option<Sha>,
) -> Result<Result<Holds, String>> {
    let reading = || format!("read {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    let (mut walker, mut hasher) = (WalWalker::new(timeline, start, size), Sha1::new());
    let (mut buffer, mut length) = (vec![0; CHUNK], 0u64);
    loop {
        let n = file.read(&mut buffer).with_context(reading)?;
        if n == 0 {
            break;
        }
        length = length.saturating_add(n as u64);
        hasher.update(&buffer[..n]);
        if let Err(error) = walker.feed(&buffer[..n]) {
            return Ok(Err(error.to_string()));
        }
    }
    if length != size.bytes() {
        return Ok(Err(format!("it has {length} bytes and not {}", size.bytes())));
    }
    if sha1.is_some_and(|sha1| hasher.finalize().as_slice() != sha1) {
        return Ok(Err("its content does not match the SHA-1 in its name".to_owned()));
    }
    let summary = walker.summary();
    if summary.system_id.is_some_and(|found| found != system_id) {
        return Ok(Err("it is the WAL of another cluster".to_owned()));
    }
    Ok(Ok(holds(&summary, size)))
}
