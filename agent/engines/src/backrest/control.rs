//! The likeness of a data directory: `archive-get` reads a control file to know whose WAL is meant.
//!
//! The source's own may be gone with its host, or be of another cluster by now. What pgBackRest
//! reads of it (`PgControl` in its `postgres/interface.c`) is known from its `info`: system
//! identifier and version; sizes of pages and segments are looked at and must be possible.

use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::Cluster;
use crate::common::{EngineError, temporary};

/// `PG_CONTROL_FILE_SIZE`.
const BYTES: usize = 8192;

/// `BLCKSZ`, as every distribution builds it.
const PAGE: u32 = 8192;

/// A segment's bytes; pgBackRest compares them with nothing when it only fetches.
const SEGMENT: u32 = 16 << 20;

/// `blcksz` and `xlog_seg_size` in `ControlFileData`, the same from 13 to 18.
const PAGE_AT: usize = 216;
const SEGMENT_AT: usize = 228;

/// `PG_CONTROL_VERSION`, `CATALOG_VERSION_NO`, and where `crc` is in `ControlFileData`.
fn numbers(version: &str) -> Option<(u32, u32, usize)> {
    Some(match version {
        "13" => (1300, 202_007_201, 288),
        "14" => (1300, 202_107_181, 288),
        "15" => (1300, 202_209_061, 288),
        "16" => (1300, 202_307_071, 288),
        "17" => (1700, 202_406_281, 288),
        "18" => (1800, 202_506_291, 292),
        _ => return None,
    })
}

/// The bytes of a control file; nothing for a version whose form is not known.
pub(super) fn bytes(cluster: &Cluster) -> Option<Vec<u8>> {
    let (control, catalog, crc_at) = numbers(&cluster.version)?;
    let mut bytes = vec![0; BYTES];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &cluster.system_id.to_ne_bytes());
    put(8, &control.to_ne_bytes());
    put(12, &catalog.to_ne_bytes());
    put(PAGE_AT, &PAGE.to_ne_bytes());
    put(SEGMENT_AT, &SEGMENT.to_ne_bytes());
    let crc = crc32c::crc32c(&bytes[..crc_at]);
    bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_ne_bytes());
    Some(bytes)
}

/// A directory with nothing but that file, gone when it is dropped.
pub(super) fn likeness(cluster: &Cluster) -> Result<Option<TempDir>, EngineError> {
    let Some(bytes) = bytes(cluster) else { return Ok(None) };
    let place = temporary()?;
    let make = || {
        let folder = tempfile::Builder::new().prefix("drctl-control-").tempdir_in(&place)?;
        // Nothing in it is secret.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        std::fs::create_dir(folder.path().join("global"))?;
        std::fs::write(folder.path().join("global").join("pg_control"), &bytes)?;
        Ok(folder)
    };
    make().map(Some).map_err(EngineError::io("make a control file for pgbackrest"))
}
