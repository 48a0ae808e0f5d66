use serde::{Deserialize, Serialize};

use crate::BackupKind;

/// A line for each: its name in the program, its name elsewhere, the first version of drctl that has it,
/// and the kinds of its backups.
macro_rules! engines {
    ($($(#[$about:meta])* $engine:ident = $name:literal since $since:expr, makes $kinds:pat,)*) => {
        /// The tool or protocol that takes the backups of a source.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Engine {
            $($(#[$about])* #[serde(rename = $name)] $engine,)*
        }

        impl Engine {
            /// All that this program knows.
            pub const ALL: &[Engine] = &[$(Engine::$engine,)*];

            /// The name as it stands in configuration and manifests, and the feature that its
            /// manifests name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Engine::$engine => $name,)*
                }
            }

            /// The first version of drctl that has it: major, minor, patch.
            #[must_use]
            pub fn since(self) -> (u16, u16, u16) {
                match self {
                    $(Engine::$engine => $since,)*
                }
            }

            /// Whether its backups are of such a kind.
            #[must_use]
            pub fn makes(self, kind: &BackupKind) -> bool {
                match self {
                    $(Engine::$engine => matches!(kind, $kinds),)*
                }
            }
        }
    };
}

engines! {
    /// `pg_dump` in custom format, a stream for each database, and the globals.
    PgDump = "pg_dump" since (0, 1, 0), makes BackupKind::Logical(_),
    /// PostgreSQL's replication protocol (`BASE_BACKUP`): all files of a cluster, with the WAL
    /// that makes them consistent.
    BaseBackup = "base_backup" since (0, 1, 0), makes BackupKind::Full(_) | BackupKind::Incremental(_),
    /// pgBackRest, which keeps its backups in a repository of its own.
    Pgbackrest = "pgbackrest" since (0, 1, 0), makes BackupKind::External(_),
}

impl Engine {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Engine> {
        Self::ALL.iter().copied().find(|engine| engine.as_str() == name)
    }
}
