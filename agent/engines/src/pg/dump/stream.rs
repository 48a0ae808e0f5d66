//! The bytes between a tool and us, watched while they flow.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::{DumpShape, DumpWalker, WalkError};
use crate::common::EngineError;
use crate::pg::dump::DumpError;
use crate::pg::server::address::ACTIVITY;

/// Something that sees every byte of a stream and judges the whole at its end.
pub(crate) trait Watch: Send + 'static {
    type Shape;
    fn push(&mut self, bytes: &[u8]) -> Result<(), WalkError>;
    fn finish(self) -> Result<Self::Shape, WalkError>;
}

impl Watch for DumpWalker {
    type Shape = DumpShape;

    fn push(&mut self, bytes: &[u8]) -> Result<(), WalkError> {
        DumpWalker::push(self, bytes)
    }

    fn finish(self) -> Result<DumpShape, WalkError> {
        DumpWalker::finish(self)
    }
}

/// A watcher that the stream and its outcome share.
pub(crate) struct Watcher<W>(Arc<Mutex<Result<W, WalkError>>>);

impl<W> Clone for Watcher<W> {
    fn clone(&self) -> Self {
        Watcher(Arc::clone(&self.0))
    }
}

impl<W: Watch + Default> Watcher<W> {
    pub(crate) fn new() -> Self {
        Watcher::by(W::default())
    }

    /// One that watches by this.
    pub(crate) fn by(watch: W) -> Self {
        Watcher(Arc::new(Mutex::new(Ok(watch))))
    }

    fn push(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(watch) = &mut *state
            && let Err(error) = watch.push(bytes)
        {
            *state = Err(error);
        }
        match &*state {
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error.clone())),
        }
    }

    /// The judgement; what has not flowed by now counts as missing.
    pub(crate) fn finish(&self) -> Result<W::Shape, WalkError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *state, Ok(W::default())).and_then(W::finish)
    }

    /// The judgement of what a tool wrote.
    pub(crate) fn written(&self, tool: &'static str, what: &str) -> Result<W::Shape, EngineError> {
        let what = what.to_owned();
        self.finish()
            .map_err(|source| EngineError::from(DumpError::Structure { tool, what, source }))
    }

    /// The judgement of what was read from a backup.
    pub(crate) fn read(&self, what: &str) -> Result<W::Shape, EngineError> {
        let what = what.to_owned();
        self.finish().map_err(|source| EngineError::from(DumpError::Damaged { what, source }))
    }
}

/// The output of a tool, some of which may have been read already.
pub(crate) struct WatchedRead<R, W> {
    first: io::Cursor<Vec<u8>>,
    inner: R,
    watcher: Watcher<W>,
    /// How long it may say nothing while somebody reads, and when that is over.
    silence: Option<(&'static str, Duration)>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<R, W> WatchedRead<R, W> {
    pub(crate) fn new(first: Vec<u8>, inner: R, watcher: Watcher<W>) -> Self {
        let first = io::Cursor::new(first);
        WatchedRead { first, inner, watcher, silence: None, alarm: None }
    }

    /// The same, with an end to its silence.
    pub(crate) fn within(mut self, tool: &'static str, silence: Duration) -> Self {
        self.silence = Some((tool, silence));
        self
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some((tool, waited)) = self.silence else { return Poll::Pending };
        ready!(self.alarm.get_or_insert_with(|| Box::pin(sleep(waited))).as_mut().poll(cx));
        Poll::Ready(io::Error::other(EngineError::Silent {
            tool,
            waited,
            activity: Some(ACTIVITY),
        }))
    }
}

impl<R: AsyncRead + Unpin, W: Watch + Default> AsyncRead for WatchedRead<R, W> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.first).poll_read(cx, buf))?;
        if buf.filled().len() == before {
            match Pin::new(&mut this.inner).poll_read(cx, buf) {
                Poll::Pending => return this.poll_silence(cx).map(Err),
                Poll::Ready(read) => read?,
            }
        }
        this.alarm = None;
        let pushed = this.watcher.push(&buf.filled()[before..]);
        if pushed.is_err() {
            buf.set_filled(before);
        }
        Poll::Ready(pushed)
    }
}

/// The input of a tool. Closed, and not only flushed, when it is shut down.
pub(crate) struct WatchedWrite<I, W> {
    inner: Option<I>,
    watcher: Watcher<W>,
}

impl<I, W> WatchedWrite<I, W> {
    pub(crate) fn new(inner: I, watcher: Watcher<W>) -> Self {
        WatchedWrite { inner: Some(inner), watcher }
    }
}

impl<I: AsyncWrite + Unpin, W: Watch + Default> AsyncWrite for WatchedWrite<I, W> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let written = ready!(Pin::new(inner).poll_write(cx, buf))?;
        Poll::Ready(this.watcher.push(&buf[..written]).map(|()| written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Some(inner) => Pin::new(inner).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(inner) = &mut this.inner {
            ready!(Pin::new(inner).poll_shutdown(cx))?;
            this.inner = None;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const DUMP: &[u8] = include_bytes!("../../../tests/data/odd.dump");

    #[tokio::test]
    async fn nothing_is_lost_on_the_way() {
        for split in [0, 1, 100, DUMP.len()] {
            let watcher = Watcher::<DumpWalker>::new();
            let (first, rest) = DUMP.split_at(split);
            let mut output = WatchedRead::new(first.to_vec(), rest, watcher.clone());
            let mut read = Vec::new();
            output.read_to_end(&mut read).await.unwrap();
            assert!(read == DUMP);
            assert_eq!(watcher.written("pg_dump", "x").unwrap().large_objects, 2);
        }
    }

    #[tokio::test]
    async fn damage_stops_the_stream() {
        let watcher = Watcher::<DumpWalker>::new();
        let mut output = WatchedRead::new(b"PGDMQ".to_vec(), &[0; 100][..], watcher.clone());
        let error = output.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(watcher.written("pg_dump", "x").unwrap_err().code(), "structure");
    }

    #[tokio::test]
    async fn a_silence_has_an_end() {
        let (_near, far) = tokio::io::duplex(64);
        let watcher = Watcher::<DumpWalker>::new();
        let output = WatchedRead::new(DUMP[..20].to_vec(), far, watcher);
        let mut output = output.within("pg_dump", Duration::from_millis(50));
        let error = output.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.downcast::<EngineError>().unwrap().code(), "silent");
    }

    #[tokio::test]
    async fn an_input_is_closed_by_its_shutdown() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut input = WatchedWrite::new(near, Watcher::<DumpWalker>::new());
        input.write_all(&DUMP[..20]).await.unwrap();
        input.shutdown().await.unwrap();
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, &DUMP[..20]);
        assert!(input.write_all(b"x").await.is_err());
    }
}
