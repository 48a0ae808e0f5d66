//! The only crate that starts database tools or speaks their protocols.
//!
//! It knows nothing of buckets, catalogs and policies: a backup is one or more streams of bytes
//! with an outcome, a restore is a place to write such a stream into, with an outcome.

pub mod backrest;
mod below;
pub mod boxed;
mod error;
pub mod pg;
mod process;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use drctl_model::{BackupKind, Child, Content, Engine, StreamFacts, StreamId, Timeline};
use tokio::io::{AsyncRead, AsyncWrite};

pub use below::{Below, stays_below};
pub use process::kill_tools;

pub use error::{Blocker, EngineError, Leftover, ServerSaid, Stderr, Unreadable};

/// A future that can be sent to another thread, such as the outcome of a tool.
pub type Outcome<T> = Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send>>;

/// A backup under way: one or more streams, one after the other.
///
/// End it with [`finish`](Self::finish) or [`abort`](Self::abort). Dropped instead, it still kills
/// the tools that it started, but does not wait until the server has noticed.
#[async_trait::async_trait]
pub trait BackupSource: Send {
    /// Starts the next stream; `None` after the last one.
    ///
    /// The stream before must have been read to its end, and its outcome awaited.
    ///
    /// # Errors
    /// Whatever keeps the stream from starting; the backup has then failed.
    async fn next_stream(&mut self) -> Result<Option<ToolRun>, EngineError>;

    /// Ends the backup and tells what is known of it as a whole; `streams` is what came.
    ///
    /// # Errors
    /// Where the engine's own last word is not that all went well.
    async fn finish(self: Box<Self>, streams: &[StreamFacts]) -> Result<Finished, EngineError>;

    /// Gives the backup up; leaves no process here and no session on the server behind.
    async fn abort(self: Box<Self>);
}

/// What is known of a backup as a whole when all its streams have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// What made it.
    pub engine: Engine,
    /// What it is made of, where in the log that is, and what it stands on.
    pub kind: BackupKind,
    /// The versions of all that took part, by name.
    pub versions: BTreeMap<String, String>,
    /// Why the backup is not to be trusted although it came whole; empty when it is good.
    pub suspect: Vec<String>,
    /// What the operator should know of it.
    pub notes: Vec<String>,
    /// What a copy of the files of a cluster brings along.
    pub brought: Option<Brought>,
}

/// What a copy of a cluster's files brings along beside these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// The server's list of its files (`backup_manifest`): a later copy can stand on it.
    pub listing: Vec<u8>,
    /// The histories of timelines that it brings along: without its own, nothing older leads to it.
    pub histories: Vec<(Timeline, Vec<u8>)>,
}

/// One stream of a backup while it runs.
pub struct ToolRun {
    /// The stream's name in the manifest.
    pub id: StreamId,
    /// What it is, for people: `database shop`.
    pub label: String,
    /// How many bytes it may become, for a progress bar; nothing relies on it.
    pub expected_bytes: Option<u64>,
    /// The bytes. Their end says nothing about success: that is the outcome's to tell.
    pub output: Pin<Box<dyn AsyncRead + Send>>,
    /// Whether they are a backup: exit status, structure, counts. To be awaited after the end of
    /// `output`; dropped before, it kills the tool.
    pub outcome: Outcome<StreamOutcome>,
}

/// What a stream that succeeded holds, and who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOutcome {
    /// The processes that took part, all with status 0.
    pub children: Vec<Child>,
    /// What is in the stream.
    pub content: Content,
}

/// A place that a stream can be restored into.
#[async_trait::async_trait]
pub trait RestoreTarget: Send + Sync {
    /// Prepares the target and starts the tool that reads the stream.
    ///
    /// # Errors
    /// Whatever keeps the tool from starting. Nothing was restored then.
    async fn start(&self) -> Result<ToolFeed, EngineError>;
}

/// A restore while it runs.
pub struct ToolFeed {
    /// Where the stream's bytes go; shut down by the caller after the last one.
    ///
    /// An error of kind `BrokenPipe` means that the tool has ended already: stop writing and
    /// await `outcome`, which tells why. Any other error (a full disk, a damaged dump) is itself
    /// the cause; `outcome` must be awaited all the same, because it cleans up.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// Whether all was restored. To be awaited after `input` was shut down (or has failed);
    /// dropped before, it kills the tool.
    pub outcome: Outcome<()>,
}

/// A password. Never shown, never in the arguments or environment of a process.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(..)");
    }
}
