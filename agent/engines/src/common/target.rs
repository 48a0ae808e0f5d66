use std::pin::Pin;

use tokio::io::AsyncWrite;

use super::{EngineError, Outcome};

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

/// Files that a stream is extracted into as it comes.
pub trait FileTarget: Send {
    /// The next bytes of the stream. Writes files: for the blocking pool.
    ///
    /// # Errors
    /// A stream that is none of this kind; also where a file cannot be written.
    fn push(&mut self, bytes: &[u8]) -> Result<(), EngineError>;

    /// Ends the stream; everything of it is on the disk then.
    ///
    /// # Errors
    /// As [`FileTarget::push`].
    fn finish(&mut self) -> Result<(), EngineError>;
}
