//! A file of `pg_wal`, read, proven to be what its name says, and sealed.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use drctl_engines::pg::wal::{WalError, WalWalker};
use drctl_model::{Holds, LogPlace, MAX_HISTORY_BYTES, Timeline, TimelineHistory, WalSegmentSize};
use drctl_store::SealedStream;

use super::READ;
use super::cache::FileMark;
use crate::engine::wal::files::{CONTROL, Files};
use crate::engine::wal::preceding::{Known, digest_before};
use crate::engine::wal::{holds, of_history};
use crate::host::AgentError;
use crate::log::LogStore;

/// A file, proven to be what its name says, and sealed.
pub(super) struct Loaded {
    pub(super) place: LogPlace,
    pub(super) sealed_stream: SealedStream,
    pub(super) holds: Holds,
    /// The file as it was all the while it was read; nothing where it was not.
    pub(super) mark: Option<FileMark>,
}

/// Reads a file, checks and seals it. Takes processor time: for the blocking pool.
pub(super) fn load(
    log_store: &LogStore,
    files: &Files,
    name: &str,
    known: Known<'_>,
) -> Result<Loaded> {
    match name.strip_suffix(".history") {
        Some(id) => history(log_store, (files, name), id),
        None => segment(log_store, files, name, known),
    }
}

pub(super) fn not_wal(path: &Path, why: &str) -> anyhow::Error {
    AgentError::NotWal { path: path.to_owned(), why: why.to_owned() }.into()
}

fn history(log_store: &LogStore, (files, name): (&Files, &str), id: &str) -> Result<Loaded> {
    let path = &files.path(name);
    let timeline = u32::from_str_radix(id, 16).ok().and_then(Timeline::new);
    let timeline = timeline.ok_or_else(|| not_wal(path, "its name is none of a history file"))?;
    let bytes = read(files, name, MAX_HISTORY_BYTES)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| not_wal(path, "it is no text"))?;
    let history = TimelineHistory::parse(timeline, text);
    let history = history.map_err(|error| not_wal(path, &error.to_string()))?;
    let system_id = control_system_id(files)?;
    let place = LogPlace::of_history((system_id, timeline));
    let mut sealer = log_store.sealer(bytes.len() as u64)?;
    sealer.add(&bytes)?;
    Ok(Loaded { place, sealed_stream: sealer.finish()?, holds: of_history(&history), mark: None })
}

/// The first eight bytes of `global/pg_control` (`ControlFileData`), as the machine holds them.
fn control_system_id(files: &Files) -> Result<u64> {
    let mut bytes = [0; 8];
    let read = files.open(CONTROL).and_then(|mut file| file.read_exact(&mut bytes));
    read.with_context(|| {
        format!("read the cluster's identity from {}", files.control().display())
    })?;
    Ok(u64::from_le_bytes(bytes))
}

/// What a file holds that is no log. Behind the last record of one that the server still writes lies
/// what was in the file before, in other pages.
fn not_log((files, name): (&Files, &str), error: &WalError) -> anyhow::Error {
    match *error {
        WalError::AfterEnd { ended: at, .. } | WalError::PageAddress { at, .. }
            if !files.is_handed_over(name) =>
        {
            AgentError::Unfinished { path: files.path(name), at }.into()
        }
        _ => not_wal(&files.path(name), &error.to_string()),
    }
}

fn segment(log_store: &LogStore, files: &Files, name: &str, known: Known<'_>) -> Result<Loaded> {
    let path = &files.path(name);
    let mut file = files.open(name).with_context(|| format!("open {}", path.display()))?;
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
        walker.feed(&buffer[..n]).map_err(|error| not_log((files, name), &error))?;
        sealer.add(&buffer[..n])?;
        left -= n as u64;
    }
    let (before, after) = (FileMark::of(&before), FileMark::of(&file.metadata()?));
    let summary = walker.summary();
    if let Some(at) = summary.ended.filter(|_| !files.is_handed_over(name)) {
        return Err(AgentError::Unfinished { path: path.to_owned(), at }.into());
    }
    let Some(system_id) = summary.system_id else {
        bail!(not_wal(path, "it names no cluster"));
    };
    let place = LogPlace::of_wal((system_id, timeline), (start, start.plus(size.bytes())));
    let mark = (before == after).then_some(before);
    let before = digest_before(files, timeline, start, size, known);
    let holds = Holds { before, ..holds(&summary, size) };
    Ok(Loaded { place, sealed_stream: sealer.finish()?, holds, mark })
}

pub(super) fn read(files: &Files, name: &str, most: u64) -> Result<Vec<u8>> {
    let (path, mut bytes) = (&files.path(name), Vec::new());
    let file = files.open(name).with_context(|| format!("open {}", path.display()))?;
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("read {}", path.display()))?;
    if bytes.len() as u64 > most {
        return Err(not_wal(path, "it is too long"));
    }
    Ok(bytes)
}
