//! Tablespaces that WAL on the disk makes. A server that is started by hand replays it without a
//! sandbox, and makes them where the source has them.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use drctl_model::{Lsn, Timeline, WalSegmentSize};

use super::Layout;
use super::surroundings::open_plain;
use crate::pg::wal::{Requirement, WalWalker};

/// What a segment asks of the server that replays it, walked over from its first byte on or on from
/// where `walk` ended. What is not WAL is left to the server to judge.
pub fn requirements_of(path: &Path, walk: &mut WalWalker) -> Vec<Requirement> {
    let Some(mut file) = open_plain(path) else { return Vec::new() };
    let mut chunk = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut chunk).unwrap_or_default();
        if read == 0 || walk.feed(&chunk[..read]).is_err() {
            return walk.take_summary().requirements;
        }
    }
}

/// The places of the tablespaces made by the WAL that a base backup has brought along, from the
/// position at which its replay begins.
#[must_use]
pub fn made_by_own_log(layout: &Layout, timeline: Timeline, from: Lsn) -> Vec<PathBuf> {
    let folder = layout.data().join("pg_wal");
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    let (mut found, mut walk): (Vec<PathBuf>, Option<WalWalker>) = (Vec::new(), None);
    for path in names.iter().map(|name| folder.join(name)) {
        let Some((start, size)) = segment(&path) else { continue };
        let goes_on = walk.take().filter(|walk| walk.at() == start);
        let mut now = goes_on.unwrap_or_else(|| WalWalker::new(timeline, start, size));
        let requirements = requirements_of(&path, &mut now);
        let replayed = requirements.iter().filter(|requirement| requirement.at >= from);
        found.extend(replayed.filter_map(Requirement::place).map(Path::to_owned));
        walk = Some(now);
    }
    found
}

/// Where a segment begins, and how large it is.
fn segment(path: &Path) -> Option<(Lsn, WalSegmentSize)> {
    let size = WalSegmentSize::new(path.metadata().ok()?.len())?;
    let (_, start) = size.parse_file_name(path.file_name()?.to_str()?).ok()?;
    Some((start, size))
}
