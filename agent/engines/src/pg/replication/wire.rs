//! Messages to and from a server.

use std::io;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{DataRowBody, ErrorResponseBody, Header, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::heard::{Heard, Notice};
use crate::pg::server::ServerSaid;
use crate::pg::server::leave;
use crate::pg::server::link::Link;

/// The most bytes of one message: WAL comes in pieces of 128 KiB, backups in such of 32 KiB, a
/// history file in one of its length.
const MAX_MESSAGE: i32 = 64 << 20;

/// How much is read at once.
const READ: usize = 256 << 10;

/// What the server sends.
pub(super) enum Reply {
    /// A message that every client knows.
    Message(Message),
    /// Copying in both directions begins: only replication has it.
    CopyBoth,
}

/// A connection, message by message.
pub(super) struct Wire {
    /// There until it is dropped.
    socket: Option<Link>,
    input: BytesMut,
    output: BytesMut,
    /// What was said beside the answers.
    pub(super) heard: Heard,
}

impl Wire {
    pub(super) fn new(socket: Link) -> Self {
        let heard = Heard::default();
        Wire { socket: Some(socket), input: BytesMut::new(), output: BytesMut::new(), heard }
    }

    /// The next message; notices are heard, and passed over. Cancel-safe.
    pub(super) async fn next(&mut self) -> io::Result<Reply> {
        loop {
            match self.parse()? {
                Some(Reply::Message(Message::NoticeResponse(notice))) => {
                    let found = fields(&mut notice.fields());
                    tracing::debug!(notice = %found.text, "the server says");
                    self.heard.hear(&found.notice);
                }
                Some(reply) => return Ok(reply),
                None => self.read().await?,
            }
        }
    }

    /// How long a silence is borne from now on while an answer is awaited.
    pub(super) fn bear(&self, silence: Duration) {
        if let Some(socket) = &self.socket {
            socket.patience().set(silence);
        }
    }

    /// What was asked has taken its time to send: its answer is due from now on.
    pub(super) fn is_sent(&mut self) {
        self.socket.iter_mut().for_each(Link::is_sent);
    }

    /// What binds a login to the encryption of this connection.
    pub(super) fn binding(&self) -> Option<&[u8]> {
        self.socket.as_ref()?.binding()
    }

    /// Whether bytes were read that were not taken as a message yet.
    pub(super) fn has_more(&self) -> bool {
        !self.input.is_empty()
    }

    async fn read(&mut self) -> io::Result<()> {
        self.input.reserve(READ);
        if self.socket.as_mut().ok_or_else(closed)?.read_buf(&mut self.input).await? == 0 {
            return Err(closed());
        }
        Ok(())
    }

    fn parse(&mut self) -> io::Result<Option<Reply>> {
        let Some(header) = Header::parse(&self.input)? else { return Ok(None) };
        if header.len() > MAX_MESSAGE {
            let text = format!("a message of {} bytes", header.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        if header.tag() != b'W' {
            return Ok(Message::parse(&mut self.input)?.map(Reply::Message));
        }
        let whole = usize::try_from(header.len()).unwrap_or(usize::MAX).saturating_add(1);
        if self.input.len() < whole {
            return Ok(None);
        }
        let _ = self.input.split_to(whole);
        Ok(Some(Reply::CopyBoth))
    }

    /// Sends what `write` makes.
    pub(super) async fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> io::Result<()> {
        self.output.clear();
        write(&mut self.output)?;
        let socket = self.socket.as_mut().ok_or_else(closed)?;
        socket.write_all(&self.output).await?;
        socket.flush().await
    }

    /// Sends a command.
    pub(super) async fn command(&mut self, text: &str) -> io::Result<()> {
        self.send(|out| frontend::query(text, out)).await
    }

    /// Sends a piece of copied data.
    pub(super) async fn copy_data(&mut self, data: &[u8]) -> io::Result<()> {
        self.send(|out| {
            out.put_u8(b'd');
            let length = i32::try_from(data.len() + 4).map_err(io::Error::other)?;
            out.put_i32(length);
            out.put_slice(data);
            Ok(())
        })
        .await
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let Some(mut socket) = self.socket.take() else { return };
        leave::depart(async move {
            let mut word = BytesMut::new();
            frontend::terminate(&mut word);
            if socket.write_all(&word).await.is_ok() && socket.shutdown().await.is_ok() {
                // What is still under way is read: closed over it, the server would see a break.
                let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
            }
        });
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")
}

/// The values of a row, as text.
pub(super) fn texts(row: &DataRowBody) -> io::Result<Vec<Option<String>>> {
    let buffer = row.buffer();
    let text = |range: Option<std::ops::Range<usize>>| {
        Ok(range.map(|range| String::from_utf8_lossy(&buffer[range]).into_owned()))
    };
    row.ranges().map(text).collect()
}

/// What the server's error says.
pub(super) fn said(error: &ErrorResponseBody) -> ServerSaid {
    let found = fields(&mut error.fields());
    ServerSaid::with_state(found.text, found.state).raised_by(found.notice.routine)
}

#[derive(Default)]
struct Fields {
    text: String,
    state: String,
    notice: Notice,
}

fn fields(all: &mut postgres_protocol::message::backend::ErrorFields<'_>) -> Fields {
    let (mut severity, mut message, mut more, mut state) =
        (String::new(), String::new(), Vec::new(), String::new());
    let mut notice = Notice::default();
    while let Ok(Some(field)) = all.next() {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'S' => severity = value,
            b'V' => notice.severity = value,
            b'R' => notice.routine = value,
            b'C' => state = value,
            b'M' => message = value,
            b'D' | b'H' => more.push(value),
            _ => {}
        }
    }
    notice.message.clone_from(&message);
    let mut text = format!("{severity}: {message} ({state})");
    for one in more {
        text.push_str("; ");
        text.push_str(&one);
    }
    Fields { text, state, notice }
}
