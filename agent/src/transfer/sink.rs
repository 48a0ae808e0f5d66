use std::fs::File;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use drctl_engines::FileTarget;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use xxhash_rust::xxh3::Xxh3;

use crate::host::AgentError;

/// Where restored bytes go; counts and digests them on the way.
pub struct Sink {
    target: Target,
    digest: Box<Xxh3>,
    bytes: u64,
}

enum Target {
    Tool(Pin<Box<dyn AsyncWrite + Send>>),
    File(Arc<File>),
    Pipe(Arc<File>),
    /// Nothing while a thread works with it.
    Files(Option<Box<dyn FileTarget>>),
}

impl Sink {
    /// Into a tool.
    #[must_use]
    pub fn tool(input: Pin<Box<dyn AsyncWrite + Send>>) -> Self {
        Self::new(Target::Tool(input))
    }

    /// Into a file, written on the blocking pool, and synced at the end.
    #[must_use]
    pub fn file(file: File) -> Self {
        Self::new(Target::File(Arc::new(file)))
    }

    /// To standard output or another pipe, written on the blocking pool.
    #[must_use]
    pub fn pipe(file: Arc<File>) -> Self {
        Self::new(Target::Pipe(file))
    }

    /// Into files that are extracted as it comes, written on the blocking pool, and synced at the end.
    #[must_use]
    pub fn files(target: impl FileTarget + 'static) -> Self {
        Self::new(Target::Files(Some(Box::new(target))))
    }

    fn new(target: Target) -> Self {
        Sink { target, digest: Box::default(), bytes: 0 }
    }

    /// Writes a segment's plain bytes and gives their buffer back.
    ///
    /// # Errors
    /// [`std::io::Error`] of the file, the pipe or the tool;
    /// [`EngineError`](drctl_engines::EngineError) of what is extracted.
    pub async fn write(&mut self, plain: Vec<u8>) -> Result<Vec<u8>> {
        self.bytes += plain.len() as u64;
        match &mut self.target {
            Target::Tool(input) => {
                self.digest.update(&plain);
                input.write_all(&plain).await.map_err(not_fed)?;
                Ok(plain)
            }
            Target::Files(target) => {
                let Some(mut files) = target.take() else { bail!("an error came before") };
                let mut digest = std::mem::take(&mut self.digest);
                let work = move || {
                    digest.update(&plain);
                    files.push(&plain)?;
                    Ok::<_, anyhow::Error>((plain, digest, files))
                };
                let (plain, digest, files) = tokio::task::spawn_blocking(work).await??;
                self.digest = digest;
                *target = Some(files);
                Ok(plain)
            }
            Target::File(file) | Target::Pipe(file) => {
                let (file, mut digest) = (Arc::clone(file), std::mem::take(&mut self.digest));
                let work = move || {
                    digest.update(&plain);
                    (&*file).write_all(&plain).map(|()| (plain, digest))
                };
                let written = tokio::task::spawn_blocking(work).await?;
                let (plain, digest) = written.map_err(not_written)?;
                self.digest = digest;
                Ok(plain)
            }
        }
    }

    /// Bytes that were written.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// XXH3-128 of the bytes that were written, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        format!("{:032x}", self.digest.digest128())
    }

    /// Ends the stream: the tool sees its end, the file is on the disk.
    ///
    /// # Errors
    /// [`std::io::Error`] of the file, the pipe or the tool;
    /// [`EngineError`](drctl_engines::EngineError) of what is extracted.
    pub async fn finish(self) -> Result<()> {
        match self.target {
            Target::Tool(mut input) => input.shutdown().await.map_err(not_fed),
            Target::File(file) => {
                let work = move || file.sync_all();
                tokio::task::spawn_blocking(work)
                    .await?
                    .with_context(|| no_room("the restored file"))
            }
            Target::Pipe(_) => Ok(()),
            Target::Files(target) => {
                let Some(mut files) = target else { bail!("an error came before") };
                Ok(tokio::task::spawn_blocking(move || Ok::<_, anyhow::Error>(files.finish()?))
                    .await??)
            }
        }
    }
}

/// Why a file, or whoever reads standard output, does not take the bytes.
fn not_written(error: io::Error) -> anyhow::Error {
    let problem = match error.kind() {
        io::ErrorKind::BrokenPipe => {
            AgentError::Target("the reader went away before the last byte".to_owned())
        }
        _ => no_room("the restored file"),
    };
    anyhow::Error::new(error).context(problem)
}

/// Why a tool, or the file that it will read, does not take the bytes.
fn not_fed(error: io::Error) -> anyhow::Error {
    let kind = error.kind();
    let error = anyhow::Error::new(error);
    match kind {
        io::ErrorKind::InvalidData => {
            error.context(AgentError::Mismatch("what was restored is no intact dump".to_owned()))
        }
        // The tool has ended, and knows why.
        io::ErrorKind::BrokenPipe => error.context("feed the restoring tool"),
        _ => error.context(no_room("the spooled dump")),
    }
}

fn no_room(what: &str) -> AgentError {
    let text = format!(
        "{what} cannot be written: free space, or choose another place; the incomplete file does \
         not have its final name"
    );
    AgentError::Target(text)
}
