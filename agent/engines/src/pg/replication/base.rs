//! `BASE_BACKUP`: the cluster's files as they stream.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use drctl_model::{Lsn, Timeline};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use tokio::time::Instant;

use super::wire::{Reply, said, texts};
use super::{Replication, in_time, lost, odd, parse_timeline};
use crate::common::EngineError;
use crate::pg::server::ServerError;
use crate::pg::server::ServerSaid;
use crate::pg::server::address::quote_literal;

const ACTION: &str = "take a base backup";

const UPLOAD: &str = "tell the server the manifest of an earlier backup";

/// What is sent at once of a manifest that is uploaded, in bytes.
const PIECE: usize = 64 << 10;

/// How a base backup is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseOptions {
    /// What `backup_label` and the server's progress view call it.
    pub label: String,
    /// Whether the checkpoint before it is done at once, at the price of a burst of writes.
    pub fast_checkpoint: bool,
    /// The most KiB a second that the server sends: 32 to 1,048,576; nothing: as fast as it can.
    pub max_rate_kib: Option<u32>,
    /// Whether only what has changed is sent, since the backup whose manifest was uploaded before.
    pub incremental: bool,
}

/// A tablespace of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tablespace {
    /// Its OID and where it lies; nothing for the main data directory.
    pub place: Option<(u32, String)>,
    /// Its size, as the server estimates it, in KiB.
    pub kib: Option<u64>,
}

/// What a base backup brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseEvent {
    /// A tar archive begins.
    Archive {
        /// Its name, such as `base.tar` or `16384.tar`.
        name: String,
        /// Where the tablespace lies on the server; empty for the main data directory.
        path: String,
    },
    /// The backup manifest begins; the data that follow are its.
    Manifest,
    /// Bytes of what began last.
    Data(Bytes),
    /// The server's own word that all was sent.
    End {
        /// The WAL up to here is needed for the backup to be consistent.
        lsn: Lsn,
        /// On which timeline.
        timeline: Timeline,
    },
}

/// A base backup under way.
pub struct BaseBackup {
    replication: Replication,
    start: (Lsn, Timeline),
    tablespaces: Vec<Tablespace>,
    copying: bool,
    stop: Option<(Lsn, Timeline)>,
    failed: Option<ServerSaid>,
    /// Since when something of the backup is awaited.
    asked: Option<Instant>,
}

impl Replication {
    /// `UPLOAD_MANIFEST`: tells the server the manifest of an earlier backup (`backup_manifest`),
    /// on which the next base backup of this connection can be based. Servers know it from 17 on.
    ///
    /// # Errors
    /// [`ServerError::Query`]: a manifest that the server does not take, such as another cluster's.
    pub async fn upload_manifest(&mut self, manifest: &[u8]) -> Result<(), EngineError> {
        self.wire.bear(self.silence);
        in_time(UPLOAD, self.silence, self.wants_manifest()).await?;
        for piece in manifest.chunks(PIECE) {
            self.wire.copy_data(piece).await.map_err(lost(UPLOAD))?;
        }
        let done = self.wire.send(|out| {
            frontend::copy_done(out);
            Ok(())
        });
        done.await.map_err(lost(UPLOAD))?;
        self.wire.is_sent();
        in_time(UPLOAD, self.silence, self.taken()).await
    }

    async fn wants_manifest(&mut self) -> Result<(), EngineError> {
        self.wire.command("UPLOAD_MANIFEST").await.map_err(lost(UPLOAD))?;
        loop {
            match self.wire.next().await.map_err(lost(UPLOAD))? {
                Reply::Message(Message::CopyInResponse(_)) => return Ok(()),
                Reply::Message(Message::ErrorResponse(error)) => {
                    let source = said(&error);
                    return Err(EngineError::from(ServerError::Query {
                        action: UPLOAD.to_owned(),
                        source,
                    }));
                }
                Reply::Message(Message::ReadyForQuery(_)) | Reply::CopyBoth => {
                    return Err(odd(UPLOAD));
                }
                Reply::Message(_) => {}
            }
        }
    }

    /// What the server says of a manifest that it was told.
    async fn taken(&mut self) -> Result<(), EngineError> {
        let mut failed = None;
        loop {
            match self.wire.next().await.map_err(lost(UPLOAD))? {
                Reply::Message(Message::ErrorResponse(error)) => failed = Some(said(&error)),
                Reply::Message(Message::ReadyForQuery(_)) => break,
                _ => {}
            }
        }
        match failed {
            Some(source) => {
                Err(EngineError::from(ServerError::Query { action: UPLOAD.to_owned(), source }))
            }
            None => Ok(()),
        }
    }

    /// Starts a base backup: the server makes a checkpoint first, which may take minutes.
    ///
    /// # Errors
    /// [`ServerError::Query`].
    pub async fn base_backup(mut self, options: &BaseOptions) -> Result<BaseBackup, EngineError> {
        let checkpoint = if options.fast_checkpoint { "fast" } else { "spread" };
        let rate = options.max_rate_kib.map_or(String::new(), |kib| format!(", MAX_RATE {kib}"));
        // Servers before 17 do not know the word.
        let part = if options.incremental { ", INCREMENTAL true" } else { "" };
        let command = format!(
            "BASE_BACKUP (LABEL {}, PROGRESS true, CHECKPOINT '{checkpoint}', WAIT false, \
             MANIFEST 'yes', MANIFEST_CHECKSUMS 'SHA256', TABLESPACE_MAP true, WAL true{rate}{part})",
            quote_literal(&options.label)
        );
        // Nothing is said while a checkpoint is spread over its time, and before it one that runs already.
        let spread = if options.fast_checkpoint {
            Duration::ZERO
        } else {
            self.checkpoint().await?.saturating_mul(2)
        };
        let patience = self.silence.saturating_add(spread);
        self.wire.bear(patience);
        self.wire.command(&command).await.map_err(lost(ACTION))?;
        let start = in_time(ACTION, patience, self.first_row()).await?;
        self.wire.bear(self.silence);
        let start = position(&start).ok_or_else(|| odd(ACTION))?;
        let tablespaces = in_time(ACTION, self.silence, self.tablespaces()).await?;
        Ok(BaseBackup {
            replication: self,
            start,
            tablespaces,
            copying: false,
            stop: None,
            failed: None,
            asked: None,
        })
    }

    /// How far apart checkpoints are: a spread one may take as long.
    async fn checkpoint(&mut self) -> Result<Duration, EngineError> {
        let text = self.show("checkpoint_timeout").await?;
        let unit = |ending: &str, seconds: u64| {
            let number: Option<u64> = text.strip_suffix(ending)?.parse().ok();
            number.and_then(|number| number.checked_mul(seconds))
        };
        let seconds = unit("min", 60).or(unit("s", 1)).or(unit("h", 3600)).or(unit("d", 86_400));
        seconds.map(Duration::from_secs).ok_or_else(|| odd(ACTION))
    }

    /// The one row of the first answer.
    async fn first_row(&mut self) -> Result<Vec<Option<String>>, EngineError> {
        let mut row = None;
        loop {
            match self.reply().await? {
                Message::DataRow(found) => {
                    row = Some(texts(&found).map_err(lost(ACTION))?);
                }
                Message::CommandComplete(_) => return row.ok_or_else(|| odd(ACTION)),
                _ => {}
            }
        }
    }

    async fn tablespaces(&mut self) -> Result<Vec<Tablespace>, EngineError> {
        let mut all = Vec::new();
        loop {
            match self.reply().await? {
                Message::DataRow(row) => {
                    let row = texts(&row).map_err(lost(ACTION))?;
                    let field = |at: usize| row.get(at).cloned().flatten();
                    let place = field(0).and_then(|oid| oid.parse().ok()).zip(field(1));
                    let kib = field(2).and_then(|kib| kib.parse().ok());
                    all.push(Tablespace { place, kib });
                }
                Message::CommandComplete(_) => return Ok(all),
                _ => {}
            }
        }
    }

    async fn reply(&mut self) -> Result<Message, EngineError> {
        match self.wire.next().await.map_err(lost(ACTION))? {
            Reply::Message(Message::ErrorResponse(error)) => {
                Err(EngineError::from(ServerError::Query {
                    action: ACTION.to_owned(),
                    source: said(&error),
                }))
            }
            Reply::Message(message) => Ok(message),
            Reply::CopyBoth => Err(odd(ACTION)),
        }
    }
}

impl BaseBackup {
    /// From where on the WAL is needed, and on which timeline.
    #[must_use]
    pub fn start(&self) -> (Lsn, Timeline) {
        self.start
    }

    /// The tablespaces, the main data directory among them.
    #[must_use]
    pub fn tablespaces(&self) -> &[Tablespace] {
        &self.tablespaces
    }

    /// The server's version.
    #[must_use]
    pub fn version(&self) -> &str {
        self.replication.version()
    }

    /// What comes next; nothing after the end. Cancel-safe.
    ///
    /// An error after [`BaseEvent::End`] is the server's last word: it speaks of pages whose
    /// checksums are wrong only there.
    ///
    /// # Errors
    /// A connection that broke; [`ServerError::Query`] with the server's words;
    /// [`ServerError::LeftOut`] for data that the server does not send.
    pub async fn next(&mut self) -> Result<Option<BaseEvent>, EngineError> {
        let event = self.awaited().await?;
        self.asked = None;
        Ok(event)
    }

    async fn awaited(&mut self) -> Result<Option<BaseEvent>, EngineError> {
        let asked = *self.asked.get_or_insert_with(Instant::now);
        loop {
            if asked.elapsed() > self.replication.silence {
                let text = "it says that it works, and sends nothing of the backup";
                return Err(lost(ACTION)(io::Error::new(io::ErrorKind::TimedOut, text)));
            }
            let reply = match (self.replication.wire.next().await, self.failed.take()) {
                // A server that ends a session says why, and hangs up.
                (Err(_), Some(source)) => {
                    return Err(EngineError::from(ServerError::Query {
                        action: ACTION.to_owned(),
                        source,
                    }));
                }
                (reply, failed) => {
                    self.failed = failed;
                    reply.map_err(lost(ACTION))?
                }
            };
            let left_out = self.replication.wire.heard.lost();
            if !left_out.is_empty() {
                return Err(EngineError::from(ServerError::LeftOut { what: left_out.to_vec() }));
            }
            let Reply::Message(message) = reply else { return Err(odd(ACTION)) };
            match message {
                Message::CopyOutResponse(_) => self.copying = true,
                Message::CopyDone => self.copying = false,
                Message::CopyData(data) if self.copying => {
                    if let Some(event) = event(data.into_bytes())? {
                        return Ok(Some(event));
                    }
                }
                Message::DataRow(row) => {
                    let row = texts(&row).map_err(lost(ACTION))?;
                    let stop = position(&row).ok_or_else(|| odd(ACTION))?;
                    self.stop = Some(stop);
                    return Ok(Some(BaseEvent::End { lsn: stop.0, timeline: stop.1 }));
                }
                Message::ErrorResponse(error) => self.failed = Some(said(&error)),
                Message::ReadyForQuery(_) => return self.last_word(),
                _ => {}
            }
        }
    }

    fn last_word(&mut self) -> Result<Option<BaseEvent>, EngineError> {
        match (self.failed.take(), self.stop) {
            (Some(source), _) => {
                Err(EngineError::from(ServerError::Query { action: ACTION.to_owned(), source }))
            }
            (None, Some(_)) => Ok(None),
            (None, None) => Err(odd(ACTION)),
        }
    }

    /// What the server said beside the backup that an operator should know.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.replication.wire.heard.notes()
    }
}

fn position(row: &[Option<String>]) -> Option<(Lsn, Timeline)> {
    let field = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
    field(0).parse().ok().zip(parse_timeline(field(1)))
}

/// A message within the backup: `n` an archive, `m` the manifest, `d` data, `p` progress.
fn event(mut data: Bytes) -> Result<Option<BaseEvent>, EngineError> {
    let kind = if data.is_empty() { 0 } else { data.get_u8() };
    match kind {
        b'n' => {
            let mut words = data.split(|byte| *byte == 0);
            let mut word = || {
                let word = words.next().ok_or_else(|| odd(ACTION))?;
                String::from_utf8(word.to_vec()).map_err(|_| odd(ACTION))
            };
            Ok(Some(BaseEvent::Archive { name: word()?, path: word()? }))
        }
        b'm' => Ok(Some(BaseEvent::Manifest)),
        b'd' if !data.is_empty() => Ok(Some(BaseEvent::Data(data))),
        b'd' | b'p' => Ok(None),
        _ => Err(odd(ACTION)),
    }
}
