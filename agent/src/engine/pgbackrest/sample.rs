//! What pgBackRest says, made by hand, for tests.

use drctl_engines::backrest::{Backup, Cluster, Info, StanzaStatus};
use drctl_model::ExternalType;
use jiff::Timestamp;

/// A full backup of the first cluster.
pub(super) fn backup() -> Backup {
    Backup {
        label: "20260101-000000F".into(),
        backup_type: ExternalType::Full,
        prior: None,
        references: vec![],
        wal: None,
        lsn: None,
        started: Timestamp::UNIX_EPOCH,
        stopped: Timestamp::UNIX_EPOCH,
        database_id: 1,
        page_errors: false,
        bytes: 1,
        delta_bytes: 1,
        repository_delta_bytes: None,
        annotation: None,
        version: "2.45".into(),
        format: 5,
    }
}

/// A stanza of one cluster, under each of these numbers.
pub(super) fn info(ids: impl IntoIterator<Item = u32>, backups: Vec<Backup>) -> Info {
    let cluster = |id| Cluster { id, system_id: 7, version: "15".into() };
    Info {
        cipher: "none".into(),
        status: StanzaStatus { code: 0, message: "ok".into() },
        busy: false,
        clusters: ids.into_iter().map(cluster).collect(),
        archives: vec![],
        backups,
        gone: Vec::new(),
        unlisted: Vec::new(),
    }
}
