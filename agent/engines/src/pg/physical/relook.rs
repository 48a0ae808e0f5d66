//! An extracted base backup, looked at again: whether its files are those that the server listed.

use std::fs::File;
use std::io::Read as _;

use drctl_model::shown;
use sha2::{Digest as _, Sha256};

use super::Layout;
use super::listing::{Listed, MAX_LISTING_BYTES, read_listing};
use crate::common::{Below, EngineError};
use crate::pg::dump::DumpError;
use crate::pg::dump::WalkError;

/// How much of a file is read at once.
const CHUNK: usize = 256 << 10;

/// Compares every file of an extracted base backup with the server's list beside it,
/// `backup_manifest`; gives how many there are. Only before its server was started for the first
/// time. Reads all of it: for the blocking pool.
///
/// # Errors
/// [`DumpError::Damaged`] for a file that is missing or has other bytes; [`EngineError::Io`].
pub fn look_again(layout: &Layout) -> Result<u64, EngineError> {
    let what = || layout.data().display().to_string();
    let damaged = |source| EngineError::from(DumpError::Damaged { what: what(), source });
    let path = layout.data().join("backup_manifest");
    let mut text = Vec::new();
    let listing = std::path::Path::new("backup_manifest");
    let read = layout
        .below_data()
        .and_then(|data| data.read(listing))
        .and_then(|file| file.take(MAX_LISTING_BYTES as u64).read_to_end(&mut text));
    read.map_err(EngineError::io(format!("read {}", path.display())))?;
    let root = layout.root().map_err(EngineError::io(format!("open {}", what())))?;
    let mut count = 0;
    for (path, listed) in read_listing(&text).map_err(damaged)? {
        // What the WAL brings is not the list's to tell; the map leads to other places now.
        if path.starts_with("pg_wal/") || path == "tablespace_map" {
            continue;
        }
        same(&root, &path, &listed).map_err(damaged)?;
        count += 1;
    }
    Ok(count)
}

fn same(root: &Below, path: &str, listed: &Listed) -> Result<(), WalkError> {
    let wrong = |why: &str| WalkError::Contents(format!("{} {why}", shown(path, 200)));
    let file: std::io::Result<File> = root.read(&Layout::listed(path));
    let mut file = file.map_err(|_| wrong("is not there"))?;
    let (mut hash, mut bytes, mut chunk) = (Sha256::new(), 0u64, vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => {
                hash.update(&chunk[..n]);
                bytes += n as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Err(wrong("cannot be read")),
        }
    }
    let hash = drctl_model::Digest(hash.finalize().into()).to_string();
    let equal = bytes == listed.size && listed.checksum.as_deref() == Some(hash.as_str());
    if equal { Ok(()) } else { Err(wrong("has other content")) }
}
