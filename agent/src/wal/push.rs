//! `archive_command`: one file of `pg_wal` into the bucket, durable before it is said.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use drctl_engines::pg::wal::WalWalker;
use drctl_model::{
    Holds, LogPart, LogPlace, MAX_HISTORY_BYTES, Timeline, TimelineHistory, WalSegmentSize,
};

use super::shelf::{Kept, Shelf, holds, of_history};
use crate::problem::Problem;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the bucket.
    Stored,
    /// The same was there already.
    Present,
    /// Its content is kept elsewhere: a backup's own file, or the copy of an unfinished segment
    /// that the new timeline's first segment holds too.
    NotKept,
}

/// Stores a file that PostgreSQL wants to be archived; returns only when it was read back.
///
/// # Errors
/// A file that is not what its name says, log that is damaged, other log under the same name, the
/// store's. PostgreSQL then keeps the file and tries again.
pub async fn push(shelf: &Shelf, path: &Path) -> Result<Pushed> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.ends_with(".backup") || name.ends_with(".partial") {
        return Ok(Pushed::NotKept);
    }
    let (place, bytes, holds) = match name.strip_suffix(".history") {
        Some(id) => history(path, id)?,
        None => segment(path, name)?,
    };
    let (at, size) = (place.clone(), holds.segment_size);
    let kept = shelf.keep(place, bytes, holds).await?;
    if let Some(size) = size {
        shelf.settle(&at, size).await;
    }
    Ok(match kept {
        Kept::Created => Pushed::Stored,
        Kept::Present => Pushed::Present,
    })
}

fn not_wal(path: &Path, why: &str) -> anyhow::Error {
    Problem::NotWal { path: path.to_owned(), why: why.to_owned() }.into()
}

fn history(path: &Path, id: &str) -> Result<(LogPlace, Vec<u8>, Holds)> {
    let timeline = u32::from_str_radix(id, 16).ok().and_then(Timeline::new);
    let timeline = timeline.ok_or_else(|| not_wal(path, "its name is none of a history file"))?;
    let bytes = read(path, MAX_HISTORY_BYTES)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| not_wal(path, "it is no text"))?;
    let history = TimelineHistory::parse(timeline, text);
    let history = history.map_err(|error| not_wal(path, &error.to_string()))?;
    let system_id = control_system_id(path)?;
    Ok((LogPlace { system_id, timeline, part: LogPart::History }, bytes, of_history(&history)))
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

fn segment(path: &Path, name: &str) -> Result<(LogPlace, Vec<u8>, Holds)> {
    let bytes = read(path, 1 << 30)?;
    let size = WalSegmentSize::new(bytes.len() as u64)
        .ok_or_else(|| not_wal(path, "its length is none of a segment"))?;
    let (timeline, start) =
        size.parse_file_name(name).map_err(|error| not_wal(path, &error.to_string()))?;
    let mut walker = WalWalker::new(timeline, start, size);
    walker.feed(&bytes).map_err(|error| not_wal(path, &error.to_string()))?;
    let summary = walker.summary();
    let Some(system_id) = summary.system_id else {
        bail!(not_wal(path, "it names no cluster"));
    };
    let part = LogPart::Range { start, end: start.plus(size.bytes()) };
    Ok((LogPlace { system_id, timeline, part }, bytes, holds(&summary, size)))
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
