//! What a tool writes, as it is read.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::process::ChildStdout;

/// How soon a thread that waits for more looks whether anybody still wants it.
const LOOK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// How much was read of what a tool writes.
#[derive(Debug, Default)]
pub(super) struct Taken(AtomicU64);

impl Taken {
    /// So many bytes more; none is its end.
    fn add(&self, n: usize) {
        match n {
            0 => self.0.store(u64::MAX, Ordering::Relaxed),
            n => {
                self.0.fetch_add(n as u64, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether it was read to its end: nothing holds it open.
    pub(super) fn is_all(&self) -> bool {
        self.count() == u64::MAX
    }
}

/// The output of a tool, for us to read.
#[derive(Debug)]
pub(crate) struct ToolOutput {
    pipe: ChildStdout,
    taken: Arc<Taken>,
}

impl ToolOutput {
    pub(super) fn new(pipe: ChildStdout, taken: Arc<Taken>) -> Self {
        ToolOutput { pipe, taken }
    }

    /// The same for a thread that reads it. It ends with an error soon after the handle is gone: something
    /// else may hold the output open for as long as it likes.
    pub(crate) fn blocking(self) -> io::Result<(BlockingOutput, Wanted)> {
        let pipe = File::from(self.pipe.into_owned_fd()?);
        fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        let wanted = Arc::new(AtomicBool::new(true));
        let output = BlockingOutput { pipe, taken: self.taken, wanted: Arc::clone(&wanted) };
        Ok((output, Wanted(wanted)))
    }
}

impl AsyncRead for ToolOutput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buf))?;
        self.taken.add(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

/// Whoever wants what a thread reads.
pub(crate) struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// The output of a tool, for a thread to read; its pipe does not block.
pub(crate) struct BlockingOutput {
    pipe: File,
    taken: Arc<Taken>,
    wanted: Arc<AtomicBool>,
}

impl Read for BlockingOutput {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.pipe.read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => {
                    let n = read?;
                    self.taken.add(n);
                    return Ok(n);
                }
            }
            if !self.wanted.load(Ordering::Relaxed) {
                return Err(io::Error::other("nobody waits for it any more"));
            }
            match poll(&mut [PollFd::new(&self.pipe, PollFlags::IN)], Some(&LOOK)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
