//! What an engine knows of the sources that it backs up.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use drctl_model::SourceId;

use super::handed::HandsLog;
use super::pg::Gone;
use crate::backup::{BackedUp, Order, RequestedKind};
use crate::host::{Checks, Setup, Stop};
use crate::log::{CatchUp, HeldLog, LogStore};
use crate::repository::Repository;

/// A source whose server is to be replaced by a restored cluster.
pub(crate) struct Replaced<'a> {
    pub(crate) setup: &'a Setup,
    /// The source's name.
    pub(crate) source: &'a str,
    /// Where the cluster's data lie.
    pub(crate) data: &'a Path,
    /// Whether its log is streamed, and not archived by a command.
    pub(crate) streamed: bool,
}

/// A source that `doctor` looks at.
pub(crate) struct Looked<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) id: &'a SourceId,
    /// The bucket, where it can be used.
    pub(crate) repository: Option<&'a Repository>,
}

/// How log is to be streamed: an engine takes of it what it has.
pub(crate) struct StreamOptions {
    /// How long written log may wait until it is stored.
    pub(crate) interval: Duration,
    /// Whether commits wait until their log is stored.
    pub(crate) synchronous: bool,
    /// How many pieces may be on their way at once.
    pub(crate) puts: usize,
    /// What keeps the log on the server until it is stored; without a name the usual one.
    pub(crate) slot: Option<String>,
    /// How often something is committed, so that the log of an idle server tells the time.
    pub(crate) heartbeat: Option<Duration>,
    /// Whether that is a row of a table.
    pub(crate) heartbeat_table: bool,
    /// For how long a server that was reached once may be away, until the stream ends as failed; nothing:
    /// for ever.
    pub(crate) bears: Option<Duration>,
    /// What it gives way to while no commit waits for it; nothing: to nothing.
    pub(crate) catch_up: Option<CatchUp>,
    /// Where it says what the server holds because it is not stored yet.
    pub(crate) held: HeldLog,
}

/// A source whose log is streamed.
pub(crate) struct Streaming<'a> {
    pub(crate) setup: &'a Setup,
    /// Where it is kept.
    pub(crate) log_store: &'a LogStore,
    pub(crate) options: &'a StreamOptions,
    /// Tells people that it begins, and how.
    pub(crate) say: &'a dyn Fn(String),
    pub(crate) stop: &'a Stop,
}

/// The engine of one source, with its settings: whatever differs from engine to engine is asked here.
#[async_trait::async_trait(?Send)]
pub(crate) trait SourceEngine: Send + Sync {
    /// Whether a backup of this kind can be made, by the account that we run as.
    ///
    /// # Errors
    /// [`AgentError::Usage`](crate::host::AgentError::Usage).
    fn can_be(&self, requested: RequestedKind) -> Result<()>;

    /// Takes a backup and commits it.
    ///
    /// # Errors
    /// Whatever kept it from being a backup.
    async fn back_up(&self, order: Order<'_>) -> Result<BackedUp>;

    /// Whether log is of any use to the source. Nothing is begun on its server where it is none: a
    /// slot that nobody reads fills the server's disk. `left` says how things are then.
    ///
    /// # Errors
    /// [`AgentError::Usage`](crate::host::AgentError::Usage).
    fn has_log(&self, source: &str, left: &str) -> Result<()> {
        let _ = (source, left);
        Ok(())
    }

    /// Streams the source's log into the bucket, until somebody wishes for the end.
    ///
    /// # Errors
    /// The source's; the store's.
    async fn stream_log(&self, streaming: &Streaming<'_>) -> Result<()>;

    /// How its log is handed to what is restored, where drctl does that; nothing where a restored
    /// server fetches it, or there is none.
    fn hands_log(&self) -> Option<&dyn HandsLog> {
        None
    }

    /// The command by which a restored cluster that takes the place of the source's server archives
    /// its log; nothing where that is streamed.
    ///
    /// # Errors
    /// [`AgentError::Usage`](crate::host::AgentError::Usage) where none can.
    fn archive_command(&self, replaced: &Replaced<'_>) -> Result<Option<String>>;

    /// Whether what is restored of it runs in a server of ours.
    fn runs_restored(&self) -> bool {
        false
    }

    /// Databases that its backups had, and have no more.
    fn gone(&self, setup: &Setup, source: &SourceId) -> Vec<Gone> {
        let _ = (setup, source);
        Vec::new()
    }

    /// How far the furthest of its replicas is behind; zero where it has none, or nobody knows of any.
    ///
    /// # Errors
    /// The server's; that we may not see it.
    async fn replica_lag(&self, setup: &Setup) -> Result<Duration> {
        let _ = setup;
        Ok(Duration::ZERO)
    }

    /// Looks whether it can be backed up.
    async fn look(&self, looked: &Looked<'_>, found: &mut Checks);
}
