//! The write-ahead log as it is written.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use drctl_model::{Lsn, Timeline};
use jiff::Timestamp;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use tokio::time::Instant;

use super::wire::{Reply, said, texts};
use super::{Replication, in_time, lost, odd, parse_timeline};
use crate::common::EngineError;
use crate::pg::server::ServerError;

const READING: &str = "read the write-ahead log";

/// How often the server is asked for a sign of life.
const ASK_EVERY: Duration = Duration::from_secs(4);

/// How long none may come before the stream is taken for dead.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// Seconds from 1970 to 2000, where PostgreSQL's clock begins (`POSTGRES_EPOCH_JDATE`).
const EPOCH_OFFSET: i64 = 946_684_800;

/// What a stream of WAL brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalEvent {
    /// Bytes of the WAL, which follow those before.
    Data {
        /// The position of the first.
        start: Lsn,
        /// How far the server's WAL reaches.
        server_end: Lsn,
        /// The bytes.
        bytes: Bytes,
    },
    /// A sign of life.
    Keepalive {
        /// How far the server's WAL reaches.
        server_end: Lsn,
        /// Whether it wants to hear where we are.
        reply: bool,
    },
    /// The timeline has ended here; the WAL goes on on another.
    TimelineEnd {
        /// The one on which it goes on.
        next: Timeline,
        /// From where.
        from: Lsn,
    },
    /// The server has shut down, or ended the stream.
    End,
}

/// A stream of WAL under way.
pub struct WalStream {
    replication: Replication,
    at: Lsn,
    /// Up to where the server said that it has WAL.
    written: Lsn,
    /// Up to where it was told that all is kept.
    confirmed: Lsn,
    ending: Option<Ending>,
    /// When the server was asked for a sign of life.
    asked: Instant,
    /// Since when it says that there is more WAL, and sends none.
    promised: Option<Instant>,
    /// How long that is borne, and the end of its answer.
    patience: Duration,
}

/// What has come of the end of a stream: whoever waits for it may be called away in between.
#[derive(Debug)]
struct Ending {
    since: Instant,
    answered: bool,
    next: Option<(Timeline, Lsn)>,
}

impl Replication {
    /// `START_REPLICATION`: the WAL of `timeline` from `from` on, for as long as it is written.
    ///
    /// # Errors
    /// [`ServerError::Query`], for instance where the server has removed that part already.
    pub async fn start(
        mut self,
        slot: Option<&str>,
        from: Lsn,
        timeline: Timeline,
    ) -> Result<WalStream, EngineError> {
        let slot = slot.map_or(String::new(), |name| format!("SLOT \"{name}\" "));
        let command = format!("START_REPLICATION {slot}PHYSICAL {from} TIMELINE {timeline}");
        let action = format!("read the write-ahead log from {from} on timeline {timeline}");
        let patience = self.silence.clamp(ASK_EVERY * 3, SIGN_OF_LIFE);
        self.wire.bear(patience);
        in_time(&action, patience, self.begun(&command, &action)).await?;
        let (ending, asked, promised) = (None, Instant::now(), None);
        let (at, written, confirmed) = (from, from, from);
        Ok(WalStream {
            replication: self,
            at,
            written,
            confirmed,
            ending,
            asked,
            promised,
            patience,
        })
    }

    async fn begun(&mut self, command: &str, action: &str) -> Result<(), EngineError> {
        self.wire.command(command).await.map_err(lost(action))?;
        loop {
            match self.wire.next().await.map_err(lost(action))? {
                Reply::CopyBoth => return Ok(()),
                Reply::Message(Message::ErrorResponse(error)) => {
                    return Err(EngineError::from(ServerError::Query {
                        action: action.to_owned(),
                        source: said(&error),
                    }));
                }
                // Nothing was written on this timeline from there on: it ended.
                Reply::Message(Message::ReadyForQuery(_)) => return Err(odd(action)),
                Reply::Message(_) => {}
            }
        }
    }
}

impl WalStream {
    /// The position behind the last byte that came.
    #[must_use]
    pub fn at(&self) -> Lsn {
        self.at
    }

    /// The WAL that the server is known to have, and was not told to be kept: from where to where. Empty
    /// where all is.
    #[must_use]
    pub fn unsafe_wal(&self) -> (Lsn, Lsn) {
        (self.confirmed, self.written.max(self.at).max(self.confirmed))
    }

    /// Host and port, for people.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.replication.target
    }

    /// Whether bytes have come already that no event told of yet.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.replication.wire.has_more()
    }

    /// What comes next. Cancel-safe.
    ///
    /// # Errors
    /// A connection that broke; [`ServerError::Query`] with the server's words.
    pub async fn next(&mut self) -> Result<WalEvent, EngineError> {
        loop {
            if self.ending.is_some() {
                return self.ended().await;
            }
            let reply = self.replication.wire.next().await.map_err(lost(READING))?;
            match reply {
                Reply::Message(Message::CopyData(data)) => return self.event(data.into_bytes()),
                Reply::Message(Message::CopyDone) => {
                    let since = Instant::now();
                    self.ending = Some(Ending { since, answered: false, next: None });
                }
                Reply::Message(Message::ErrorResponse(error)) => {
                    let action = READING.to_owned();
                    return Err(EngineError::from(ServerError::Query {
                        action,
                        source: said(&error),
                    }));
                }
                // A server that shuts down ends what it copies with a word, and hangs up.
                Reply::Message(Message::ParameterStatus(_) | Message::CommandComplete(_)) => {}
                _ => return Err(odd(READING)),
            }
        }
    }

    fn event(&mut self, mut data: Bytes) -> Result<WalEvent, EngineError> {
        let kind = if data.is_empty() { 0 } else { data.get_u8() };
        match kind {
            b'w' if data.len() > 24 => {
                let (start, server_end) = (Lsn(data.get_u64()), Lsn(data.get_u64()));
                let _sent_at = data.get_i64();
                if start != self.at {
                    let text = format!("the WAL continues at {start} instead of {}", self.at);
                    return Err(lost(READING)(io::Error::other(text)));
                }
                self.at = start.plus(data.len() as u64);
                self.written = self.written.max(server_end);
                self.promised = None;
                Ok(WalEvent::Data { start, server_end, bytes: data })
            }
            b'k' if data.len() >= 17 => {
                let server_end = Lsn(data.get_u64());
                let _sent_at = data.get_i64();
                let reply = data.get_u8() != 0;
                self.written = self.written.max(server_end);
                self.is_kept(server_end)?;
                Ok(WalEvent::Keepalive { server_end, reply })
            }
            _ => Err(odd(READING)),
        }
    }

    /// An error where a server has promised WAL for too long, and sends none: what it tells there is how
    /// much it has sent.
    fn is_kept(&mut self, server_end: Lsn) -> Result<(), EngineError> {
        if server_end <= self.at {
            self.promised = None;
            return Ok(());
        }
        if self.promised.get_or_insert_with(Instant::now).elapsed() <= self.patience {
            return Ok(());
        }
        let text = format!("it says that it has sent the WAL up to {server_end}, and sends none");
        Err(lost(READING)(io::Error::new(io::ErrorKind::TimedOut, text)))
    }

    /// The server has ended its side: ends ours, and learns why. Cancel-safe: what has come stays
    /// in `ending`, and a server passes over a second answer.
    async fn ended(&mut self) -> Result<WalEvent, EngineError> {
        let wire = &mut self.replication.wire;
        let none = || Ending { since: Instant::now(), answered: false, next: None };
        let ending = self.ending.get_or_insert_with(none);
        if !ending.answered {
            let sent = wire.send(|out: &mut BytesMut| {
                frontend::copy_done(out);
                Ok(())
            });
            sent.await.map_err(lost(READING))?;
            ending.answered = true;
        }
        loop {
            match wire.next().await.map_err(lost(READING))? {
                Reply::Message(Message::DataRow(row)) => {
                    let row = texts(&row).map_err(lost(READING))?;
                    let field = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
                    ending.next = parse_timeline(&field(0)).zip(field(1).parse().ok());
                }
                Reply::Message(Message::ErrorResponse(error)) => {
                    let action = READING.to_owned();
                    return Err(EngineError::from(ServerError::Query {
                        action,
                        source: said(&error),
                    }));
                }
                Reply::Message(Message::ReadyForQuery(_)) => break,
                _ => {}
            }
            if ending.since.elapsed() > self.patience.saturating_mul(2) {
                let text = "its answer has no end";
                return Err(lost(READING)(io::Error::new(io::ErrorKind::TimedOut, text)));
            }
        }
        Ok(match ending.next {
            Some((next, from)) => WalEvent::TimelineEnd { next, from },
            None => WalEvent::End,
        })
    }

    /// Tells the server that all before `safe` is kept for good. With a slot it keeps nothing
    /// before that; a commit that waits for us returns then, whatever it waits for: nothing counts
    /// as written that is not safe, and nothing is ever replayed here. `now` is our clock, for the
    /// server's own view of the delay.
    ///
    /// # Errors
    /// [`ServerError::Query`] for a connection that broke.
    pub async fn confirm(&mut self, safe: Lsn, now: Timestamp) -> Result<(), EngineError> {
        let now = now.as_microsecond() - EPOCH_OFFSET * 1_000_000;
        let mut status = Vec::with_capacity(34);
        status.put_u8(b'r');
        for _written_flushed_applied in 0..3 {
            status.put_u64(safe.0);
        }
        status.put_i64(now);
        // An idle server says nothing unless it is asked: by its answer it is known to be there.
        let asks = self.asked.elapsed() >= ASK_EVERY;
        if asks {
            self.asked = Instant::now();
        }
        status.put_u8(u8::from(asks));
        self.replication.wire.copy_data(&status).await.map_err(lost(READING))?;
        self.confirmed = self.confirmed.max(safe);
        Ok(())
    }
}
