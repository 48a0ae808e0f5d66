//! What the tests of this crate share.

use std::path::PathBuf;

use drctl_model::{
    BackupId, BackupKind, BackupSummary, Digest, Dumped, Engine, JobEvent, JobId, JobKind,
    RepositoryId, SourceId,
};
use jiff::{Timestamp, ToSpan};
use tempfile::TempDir;

use crate::Catalog;

/// A directory for one test and the path of the catalog in it.
pub(crate) fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.db");
    (directory, path)
}

pub(crate) fn repository() -> RepositoryId {
    RepositoryId::new(7)
}

pub(crate) fn source(name: &str) -> SourceId {
    name.parse().unwrap()
}

/// The `hour`th hour of the tests' year.
pub(crate) fn at(hour: u32) -> Timestamp {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    start + i64::from(hour).hours()
}

/// The backup that a source began in the `hour`th hour.
pub(crate) fn backup(name: &str, hour: u32) -> BackupSummary {
    BackupSummary {
        source: source(name),
        backup: BackupId::new(at(hour), u64::from(hour) << 40 | 0xABC),
        engine: Engine::PgDump,
        kind: BackupKind::Logical(Dumped::default()),
        host: "db1.example.org".to_owned(),
        started: at(hour),
        finished: at(hour) + 123_456_789.nanoseconds(),
        plain_bytes: 1 << 30,
        sealed_bytes: 1 << 28,
        segments: 64,
        suspect: Vec::new(),
        manifest_sha256: Digest([u8::try_from(hour % 251).unwrap(); 32]),
        accepted: None,
        signer: String::new(),
        objects: None,
    }
}

pub(crate) const STORED: JobEvent = JobEvent::Stored { plain_bytes: 1 << 30 };

/// Runs the job of a backup to its good end.
pub(crate) async fn commit(catalog: &Catalog, backup: &BackupSummary) -> JobId {
    let job = catalog
        .begin_job(backup.started, JobKind::Backup, &backup.source, Some(&backup.backup))
        .await
        .unwrap();
    catalog.append(job, backup.finished, &STORED).await.unwrap();
    catalog.commit_backup(job, backup.finished, backup).await.unwrap();
    job
}
