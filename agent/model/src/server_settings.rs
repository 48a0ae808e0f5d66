use serde::{Deserialize, Serialize};

/// How much a server writes into its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalLevel {
    /// Too little to replay it: bulk loads are left out.
    Minimal,
    /// Enough for recoveries and standbys.
    Replica,
    /// Enough for logical replication too.
    Logical,
}

/// Settings that a server writes into its log when it starts with others than before: one that
/// replays it needs at least as much of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSettings {
    /// `max_connections`.
    pub max_connections: u32,
    /// `max_worker_processes`.
    pub max_worker_processes: u32,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`.
    pub max_prepared_transactions: u32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_transaction: u32,
    /// `wal_level`.
    pub wal_level: WalLevel,
}

impl ServerSettings {
    /// The larger of each number; of `wal_level` the lower one, which decides.
    #[must_use]
    pub fn most(self, other: ServerSettings) -> ServerSettings {
        let ServerSettings { wal_level, .. } = other;
        ServerSettings {
            max_connections: self.max_connections.max(other.max_connections),
            max_worker_processes: self.max_worker_processes.max(other.max_worker_processes),
            max_wal_senders: self.max_wal_senders.max(other.max_wal_senders),
            max_prepared_transactions: self
                .max_prepared_transactions
                .max(other.max_prepared_transactions),
            max_locks_per_transaction: self
                .max_locks_per_transaction
                .max(other.max_locks_per_transaction),
            wal_level: self.wal_level.min(wal_level),
        }
    }
}
