use std::fs::File;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// Where restored bytes go.
pub enum Sink {
    /// Into a tool.
    Tool(Pin<Box<dyn AsyncWrite + Send>>),
    /// Into a file, written on the blocking pool, and synced at the end.
    File(Arc<File>),
    /// To standard output or another pipe, written on the blocking pool.
    Pipe(Arc<File>),
}

impl Sink {
    /// Writes a segment's plain bytes and gives their buffer back.
    ///
    /// # Errors
    /// What the file or the pipe gives.
    pub async fn write(&mut self, plain: Vec<u8>) -> Result<Vec<u8>> {
        match self {
            Sink::Tool(input) => {
                input.write_all(&plain).await.context("feed the restoring tool")?;
                Ok(plain)
            }
            Sink::File(file) | Sink::Pipe(file) => {
                let file = Arc::clone(file);
                let work = move || (&*file).write_all(&plain).map(|()| plain);
                tokio::task::spawn_blocking(work).await?.context("write the restored file")
            }
        }
    }

    /// Ends the stream: the tool sees its end, the file is on the disk.
    ///
    /// # Errors
    /// What the file or the pipe gives.
    pub async fn finish(self) -> Result<()> {
        match self {
            Sink::Tool(mut input) => input.shutdown().await.context("close the tool's input"),
            Sink::File(file) => {
                let work = move || file.sync_all();
                tokio::task::spawn_blocking(work).await?.context("sync the restored file")
            }
            Sink::Pipe(_) => Ok(()),
        }
    }
}
