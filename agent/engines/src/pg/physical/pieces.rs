//! A stream of pieces as something to read from.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::stream::BoxStream;
use tokio::io::{AsyncRead, ReadBuf};

use crate::common::EngineError;

/// Pieces as they come.
pub(super) type Pieces = BoxStream<'static, Result<Bytes, EngineError>>;

/// Reads them one after the other.
pub(super) struct StreamRead {
    pieces: Pieces,
    current: Bytes,
}

impl StreamRead {
    /// Before the first.
    pub(super) fn new(pieces: Pieces) -> Self {
        StreamRead { pieces, current: Bytes::new() }
    }
}

impl AsyncRead for StreamRead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match ready!(self.pieces.as_mut().poll_next(cx)) {
                Some(Ok(bytes)) => self.current = bytes,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let taken = self.current.len().min(buf.remaining());
        buf.put_slice(&self.current[..taken]);
        self.current.advance(taken);
        Poll::Ready(Ok(()))
    }
}
