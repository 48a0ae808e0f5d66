use serde::{Deserialize, Serialize};

use crate::BackupKind;

/// The tool or protocol that takes the backups of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// `pg_dump` in custom format, a stream for each database, and the globals.
    PgDump,
    /// PostgreSQL's replication protocol (`BASE_BACKUP`): all files of a cluster, with the WAL
    /// that makes them consistent.
    BaseBackup,
    /// pgBackRest, which keeps its backups in a repository of its own.
    Pgbackrest,
}

impl Engine {
    /// All that this program knows.
    pub const ALL: [Engine; 3] = [Engine::PgDump, Engine::BaseBackup, Engine::Pgbackrest];

    /// The name as it stands in configuration and manifests, and the feature that its manifests name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Engine::PgDump => "pg_dump",
            Engine::BaseBackup => "base_backup",
            Engine::Pgbackrest => "pgbackrest",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Engine> {
        Self::ALL.into_iter().find(|engine| engine.as_str() == name)
    }

    /// Whether its backups are of such a kind.
    #[must_use]
    pub fn makes(self, kind: &BackupKind) -> bool {
        match kind {
            BackupKind::Logical => self == Engine::PgDump,
            BackupKind::Full(_) | BackupKind::Incremental(_) => self == Engine::BaseBackup,
            BackupKind::External(_) => self == Engine::Pgbackrest,
        }
    }
}
