//! Incremental backups: whether the server makes one, and whether what came is one.
//!
//! Source: `basebackup_incremental.c` of PostgreSQL 17.

use drctl_model::{Coordinates, Lsn, Parent, WalSegmentSize, shown};

use crate::common::EngineError;
use crate::pg::dump::WalkError;
use crate::pg::replication::{BaseBackup, BaseOptions, Identity, Replication};

/// The first major version whose servers make incremental backups.
pub const FIRST_INCREMENTAL: u32 = 17;

/// An incremental backup that lists fewer files than this share of its parent's is suspect: every
/// file of the cluster is in it, whole or as what has changed of it.
const SHARE: u64 = 2;

/// The backup that an incremental one is to be based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentBackup {
    /// As the manifest of the incremental one names it.
    pub parent: Parent,
    /// The server's list of its files, as it came with it.
    pub listing: Vec<u8>,
    /// Where in the WAL it stands.
    pub at: Coordinates,
}

/// Begins a backup of what has changed since `parent`, on a connection of its own; where the server
/// makes none, tells why in words: a full backup is to be made then.
pub(super) async fn begin_on(
    mut copier: Replication,
    base: &BaseOptions,
    parent: &ParentBackup,
    cluster: &Identity,
    segment_size: WalSegmentSize,
) -> Result<BaseBackup, String> {
    let at = &parent.at;
    if copier.major().is_none_or(|major| major < FIRST_INCREMENTAL) {
        let version = copier.version();
        return Err(format!("PostgreSQL {version} cannot make one, 17 and later can"));
    }
    if cluster.system_id != at.system_id || segment_size != at.segment_size {
        return Err("the backup before it is of another cluster".to_owned());
    }
    if cluster.timeline != at.stop_timeline {
        let (now, then) = (cluster.timeline, at.stop_timeline);
        return Err(format!("the server is on timeline {now}, the backup before it on {then}"));
    }
    let summaries = copier.show("summarize_wal").await.map_err(|error| whole(&error))?;
    if summaries != "on" {
        return Err("summarize_wal is off on the server".to_owned());
    }
    copier.upload_manifest(&parent.listing).await.map_err(|error| whole(&error))?;
    let begun = copier.base_backup(base).await.map_err(|error| whole(&error))?;
    let (start, timeline) = begun.start();
    if timeline != at.stop_timeline || start < at.stop {
        return Err(format!(
            "it would begin at {start}, and the backup before it ended at {}",
            at.stop
        ));
    }
    Ok(begun)
}

/// An error with all that is behind it, on one line.
fn whole(error: &EngineError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    shown(&text, 500)
}

/// Whether a base backup says in its `backup_label` that it is based on the one that begins at
/// `parent`, or on none.
///
/// # Errors
/// [`WalkError::Contents`] where it is another one than was asked for.
pub(super) fn is_based_on(label: &[u8], parent: Option<Lsn>) -> Result<(), WalkError> {
    let text = String::from_utf8_lossy(label);
    let from = text.lines().find_map(|line| line.strip_prefix("INCREMENTAL FROM LSN: "));
    let from = from.map(|lsn| lsn.trim().parse::<Lsn>().map_err(|_| lsn)).transpose();
    if from == Ok(parent) {
        return Ok(());
    }
    let wanted = parent.map_or("none".to_owned(), |lsn| lsn.to_string());
    let found = match from {
        Ok(None) => "none".to_owned(),
        Ok(Some(lsn)) => lsn.to_string(),
        Err(odd) => shown(odd, 40),
    };
    Err(WalkError::Contents(format!(
        "its backup_label says that it is based on the backup that begins at {found}, but it \
         should begin at {wanted}"
    )))
}

/// Why an incremental backup with so many files is not to be trusted, against its parent's.
pub(super) fn shrunk(files: u64, before: u64) -> Option<String> {
    let few = files.saturating_mul(SHARE) < before;
    few.then(|| format!("it lists {files} files, and the backup that it is based on {before}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_what_was_asked_for() {
        let full = b"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n".as_slice();
        let incremental = [full, b"INCREMENTAL FROM LSN: 0/1000028\nINCREMENTAL FROM TLI: 1\n"];
        let (incremental, odd) = (incremental.concat(), b"INCREMENTAL FROM LSN: x\n");
        let parent = Some(Lsn(0x0100_0028));
        assert!(is_based_on(full, None).is_ok());
        assert!(is_based_on(&incremental, parent).is_ok());
        let refused = [(full, parent), (&incremental, None), (&incremental, Some(Lsn(1)))];
        for (label, parent) in refused.into_iter().chain([(&odd[..], parent), (&odd[..], None)]) {
            assert!(is_based_on(label, parent).is_err(), "{parent:?}");
        }
    }

    #[test]
    fn files_that_are_gone_are_noticed() {
        assert_eq!(shrunk(500, 1000), None);
        assert_eq!(shrunk(5000, 1000), None);
        assert!(shrunk(499, 1000).is_some_and(|why| why.contains("499")));
    }
}
