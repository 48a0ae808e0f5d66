//! PostgreSQL's physical replication protocol, spoken directly: base backups and the write-ahead
//! log over a socket, without anything staged on the host's disk.
//!
//! Source: "Streaming Replication Protocol" in PostgreSQL's documentation, for servers from 15 on.

mod base;
mod heard;
mod login;
mod stream;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use drctl_model::{Lsn, Timeline, TimelineHistory, WalSegmentSize};
use postgres_protocol::message::backend::Message;

use crate::common::EngineError;
use crate::pg::server::options::{self, Believed};
use crate::pg::server::{PgServer, ServerError, major_of};

pub use base::{BaseBackup, BaseEvent, BaseOptions, Tablespace};
pub use stream::{WalEvent, WalStream};
use wire::{Reply, Wire};

/// The lowest major version whose protocol this client speaks.
pub const LOWEST_MAJOR: u32 = 15;

/// A connection in replication mode.
pub struct Replication {
    wire: Wire,
    parameters: BTreeMap<String, String>,
    target: String,
    /// How long the server may say nothing while it works for us.
    silence: Duration,
}

/// What a cluster says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Made at random by `initdb`; every copy of the cluster has the same.
    pub system_id: u64,
    /// The timeline it is on.
    pub timeline: Timeline,
    /// How far its WAL is flushed.
    pub flushed: Lsn,
}

/// A physical replication slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// From where on the server keeps its WAL; nothing before the slot was used first.
    pub restart: Option<Lsn>,
    /// The timeline of that position.
    pub timeline: Option<Timeline>,
}

impl Replication {
    /// Logs in for physical replication.
    ///
    /// # Errors
    /// [`ServerError::Connect`], [`ServerError::Auth`]; a server older than [`LOWEST_MAJOR`].
    pub async fn open(server: &PgServer, application: &str) -> Result<Self, EngineError> {
        let replication = Self::without_haste(server, application).await?;
        let major = replication.major();
        if major.is_none_or(|major| major < LOWEST_MAJOR) {
            return Err(EngineError::Config(format!(
                "the server is PostgreSQL {}; base backups need {LOWEST_MAJOR} or later",
                replication.version()
            )));
        }
        Ok(replication)
    }

    /// With no limit of transactions, whatever the server's is.
    async fn without_haste(server: &PgServer, application: &str) -> Result<Self, EngineError> {
        match Self::log_in(server, application, Believed::Usual).await {
            Ok(mut usual) => {
                if !usual.is_in_haste().await {
                    return Ok(usual);
                }
            }
            Err(error) if error.sqlstate() == Some(options::HASTE) => {}
            Err(error) => return Err(error),
        }
        Self::log_in(server, application, Believed::Hasty).await
    }

    async fn log_in(
        server: &PgServer,
        application: &str,
        believed: Believed,
    ) -> Result<Self, EngineError> {
        let (wire, parameters) = login::log_in(server, application, believed).await?;
        let (target, silence) = (server.target(), server.silence);
        Ok(Replication { wire, parameters, target, silence })
    }

    /// Whether the server limits our transactions: it may also end us while we ask.
    async fn is_in_haste(&mut self) -> bool {
        options::may_haste(Some(self.version()))
            && self.show("transaction_timeout").await.map_or(true, |limit| limit != "0")
    }

    /// The server's version, such as `15.18 (Debian 15.18-0+deb12u1)`.
    #[must_use]
    pub fn version(&self) -> &str {
        self.parameters.get("server_version").map_or("of an unknown version", String::as_str)
    }

    /// The server's major version.
    #[must_use]
    pub fn major(&self) -> Option<u32> {
        major_of(self.version())
    }

    /// `IDENTIFY_SYSTEM`.
    ///
    /// # Errors
    /// [`ServerError::Query`].
    pub async fn identify(&mut self) -> Result<Identity, EngineError> {
        let action = "ask the server which cluster it is";
        let row = self.one_row("IDENTIFY_SYSTEM", action).await?;
        let field = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
        let identity =
            field(0).parse().ok().zip(parse_timeline(field(1))).zip(field(2).parse().ok());
        let ((system_id, timeline), flushed) = identity.ok_or_else(|| odd(action))?;
        Ok(Identity { system_id, timeline, flushed })
    }

    /// `SHOW`: a setting of the server.
    ///
    /// # Errors
    /// [`ServerError::Query`].
    pub async fn show(&mut self, setting: &str) -> Result<String, EngineError> {
        let action = format!("ask the server for {setting}");
        let mut row = self.one_row(&format!("SHOW {setting}"), &action).await?;
        row.pop().flatten().ok_or_else(|| odd(&action))
    }

    /// The size of the cluster's WAL segments.
    ///
    /// # Errors
    /// [`ServerError::Query`].
    pub async fn segment_size(&mut self) -> Result<WalSegmentSize, EngineError> {
        let text = self.show("wal_segment_size").await?;
        let unit = |ending: &str, shift: u32| {
            let number: Option<u64> = text.strip_suffix(ending).and_then(|n| n.parse().ok());
            number.and_then(|n| n.checked_mul(1 << shift))
        };
        let bytes = unit("MB", 20).or_else(|| unit("GB", 30));
        bytes.and_then(WalSegmentSize::new).ok_or_else(|| odd("ask for the size of WAL segments"))
    }

    /// `TIMELINE_HISTORY`: the file's bytes, and what they say. The first timeline has none.
    ///
    /// # Errors
    /// [`ServerError::Query`], also for a file that cannot be read.
    pub async fn history(
        &mut self,
        timeline: Timeline,
    ) -> Result<(Vec<u8>, TimelineHistory), EngineError> {
        let action = format!("ask for the history of timeline {timeline}");
        let row = self.one_row(&format!("TIMELINE_HISTORY {timeline}"), &action).await?;
        let text = row.get(1).cloned().flatten().ok_or_else(|| odd(&action))?;
        let history = TimelineHistory::parse(timeline, &text).map_err(|_| odd(&action))?;
        Ok((text.into_bytes(), history))
    }

    /// `READ_REPLICATION_SLOT`; nothing where there is no such slot.
    ///
    /// # Errors
    /// [`ServerError::Query`].
    pub async fn slot(&mut self, name: &str) -> Result<Option<Slot>, EngineError> {
        let action = format!("look at the replication slot {name}");
        let row = self.one_row(&format!("READ_REPLICATION_SLOT {name}"), &action).await?;
        let field = |at: usize| row.get(at).and_then(Option::as_deref);
        if field(0).is_none() {
            return Ok(None);
        }
        let restart = field(1).map(str::parse).transpose().map_err(|_| odd(&action))?;
        Ok(Some(Slot { restart, timeline: field(2).and_then(parse_timeline) }))
    }

    /// Makes a physical slot that keeps the WAL from now on.
    ///
    /// # Errors
    /// [`ServerError::Query`].
    pub async fn create_slot(&mut self, name: &str) -> Result<(), EngineError> {
        let command = format!("CREATE_REPLICATION_SLOT {name} PHYSICAL (RESERVE_WAL true)");
        self.row(&command, &format!("make the replication slot {name}")).await.map(drop)
    }

    /// Makes the server keep its WAL from now on, for as long as this connection lives.
    ///
    /// # Errors
    /// [`ServerError::Query`].
    pub async fn keep_log(&mut self) -> Result<(), EngineError> {
        // Names are of the whole cluster; 63 bytes of a-z, 0-9 and _ at the most.
        let name = format!("drctl_{}_{:08x}", std::process::id(), fastrand());
        let command =
            format!("CREATE_REPLICATION_SLOT {name} TEMPORARY PHYSICAL (RESERVE_WAL true)");
        self.row(&command, "make the server keep its WAL for the base backup").await.map(drop)
    }

    async fn one_row(
        &mut self,
        command: &str,
        action: &str,
    ) -> Result<Vec<Option<String>>, EngineError> {
        self.row(command, action).await?.ok_or_else(|| odd(action))
    }

    /// Runs a command that answers with a row of text, or with none.
    async fn row(
        &mut self,
        command: &str,
        action: &str,
    ) -> Result<Option<Vec<Option<String>>>, EngineError> {
        in_time(action, self.silence, self.first_of_rows(command, action)).await
    }

    async fn first_of_rows(
        &mut self,
        command: &str,
        action: &str,
    ) -> Result<Option<Vec<Option<String>>>, EngineError> {
        self.wire.command(command).await.map_err(lost(action))?;
        let mut first = None;
        let mut failed = None;
        loop {
            match self.wire.next().await.map_err(lost(action))? {
                Reply::Message(Message::DataRow(row)) if first.is_none() => {
                    first = Some(wire::texts(&row).map_err(lost(action))?);
                }
                Reply::Message(Message::ErrorResponse(error)) => failed = Some(wire::said(&error)),
                Reply::Message(Message::ReadyForQuery(_)) => break,
                _ => {}
            }
        }
        match failed {
            Some(source) => {
                Err(EngineError::from(ServerError::Query { action: action.to_owned(), source }))
            }
            None => Ok(first),
        }
    }
}

/// Some number, to tell the slots of one process apart.
fn fastrand() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    let hash = RandomState::new().hash_one(0u8);
    u32::try_from(hash >> 32).unwrap_or_default()
}

fn parse_timeline(text: &str) -> Option<Timeline> {
    text.parse().ok().and_then(Timeline::new)
}

/// A connection that broke while something was done.
fn lost(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> EngineError {
    let action = action.into();
    move |error| {
        let source = crate::pg::server::ServerSaid::new(error.to_string());
        EngineError::from(ServerError::Query { action, source })
    }
}

/// An answer that comes to its end in twice the time that a silence is borne, whatever comes before that.
async fn in_time<T>(
    action: &str,
    limit: Duration,
    answer: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, "its answer has no end");
    tokio::time::timeout(limit.saturating_mul(2), answer)
        .await
        .unwrap_or_else(|_| Err(lost(action)(late())))
}

/// The server gave an answer that it never gives.
fn odd(action: &str) -> EngineError {
    let source = crate::pg::server::ServerSaid::new("its answer is not one that PostgreSQL gives");
    EngineError::from(ServerError::Query { action: action.to_owned(), source })
}
