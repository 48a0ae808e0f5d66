use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use drctl_model::{BackupKind, Child, Content, Engine, StreamFacts, StreamId, Timeline};
use tokio::io::AsyncRead;

use super::EngineError;

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
    /// What it is made of, where in the log that is, and what it is based on.
    pub kind: BackupKind,
    /// The versions of all that took part, by name.
    pub versions: BTreeMap<String, String>,
    /// Why the backup is not to be trusted although it came whole; empty when it is good.
    pub suspect: Vec<String>,
    /// What the operator should know of it.
    pub notes: Vec<String>,
    /// What a base backup brings along.
    pub brought: Option<Brought>,
}

/// What a base backup brings along beside the cluster's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// The server's list of its files (`backup_manifest`): a later base backup can be based on it.
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
