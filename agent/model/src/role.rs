use std::fmt;

use serde::{Deserialize, Serialize};

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Manifests of backups.
    Backup,
    /// Pieces of a cluster's log, and indexes over them.
    Log,
    /// Evidence of drills.
    Drill,
    /// What says that something was removed on purpose.
    Prune,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 4] = [Role::Backup, Role::Log, Role::Drill, Role::Prune];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Backup => "backup",
            Role::Log => "log",
            Role::Drill => "drill",
            Role::Prune => "prune",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
