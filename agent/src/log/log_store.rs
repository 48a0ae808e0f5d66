//! Pieces of log in the bucket, of any engine: written once, read back, compared.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_model::{Clock, Digest, Header, Holds, LogAt, LogPiece, LogPlace, SourceId, SystemClock};
use drctl_store::{
    Put, SealedStream, Sealer, SigningKey, StoreError, StreamSealer, Trust, digest, encode_piece,
    layout,
};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::listing::States;
use super::pieces::Signer;
use crate::host::{AgentError, Setup};
use crate::repository::Repository;
use crate::repository::faults::is_bad_manifest;
use crate::repository::findings::Findings;

/// A source's log in the bucket.
#[derive(Clone)]
pub struct LogStore {
    pub(super) repository: Repository,
    pub(crate) source: SourceId,
    pub(super) writer: Option<Arc<Writer>>,
    /// Log from here on is not delivered: it is there, and must not be replayed.
    pub(crate) bound: Option<LogAt>,
    /// Nor are these pieces, whatever is in them now: plans lead around them.
    pub(super) avoided: Arc<Vec<LogPlace>>,
    pub(super) states: States,
    pub(super) signer: Signer,
    /// How many pieces are opened at once, where that is bounded.
    pub(super) opening: Option<Arc<Semaphore>>,
    pub(super) clock: Arc<dyn Clock>,
    /// Where goes what is found amiss by the way.
    pub(crate) findings: Findings,
}

/// What a host needs to write; one that only reads has none of it.
pub(super) struct Writer {
    sealer: Sealer,
    pub(super) key: SigningKey,
    pub(super) host: String,
}

/// What stands for the keys that are believed: what was learnt under others is learnt anew.
pub(crate) fn trust_digest(trust: &Trust) -> Digest {
    let keys: BTreeSet<String> = trust
        .signers()
        .map(|signer| {
            let (sources, roles) = (&signer.sources, &signer.roles);
            format!("{} {sources:?} {roles:?}", signer.key.keyid())
        })
        .collect();
    digest(keys.into_iter().collect::<Vec<_>>().join(" ").as_bytes())
}

#[cfg(test)]
impl Writer {
    pub(super) fn new(recipients: &drctl_store::Recipients, key: SigningKey) -> Writer {
        Writer { sealer: Sealer::new(recipients, 1), key, host: "db1".to_owned() }
    }
}

/// A piece as it will lie in the bucket.
pub(crate) struct Ready {
    piece: LogPiece,
    bytes: Bytes,
}

/// How a piece came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// We wrote it.
    Created,
    /// The same log was there already.
    Present,
}

impl LogStore {
    /// The log of a configured source, to be written and read.
    ///
    /// # Errors
    /// [`AgentError::UnknownSource`]; [`AgentError::NoSigningKey`], [`AgentError::Secret`],
    /// [`AgentError::Unpinned`]; [`StoreError`](drctl_store::StoreError).
    pub async fn open(setup: &Setup, name: &str) -> Result<Self> {
        let (id, source) = setup.source(name)?;
        let writer = Writer {
            sealer: Sealer::new(&setup.recipients()?, source.policy.log_compression_level),
            key: setup.signing_key()?,
            host: setup.host(),
        };
        let repository = setup.repository().await?;
        repository.may_write().await?;
        let clock = Arc::clone(&setup.clock);
        Ok(LogStore {
            repository,
            source: id.clone(),
            writer: Some(Arc::new(writer)),
            bound: None,
            avoided: Arc::default(),
            states: States::default(),
            signer: Signer::default(),
            opening: None,
            clock,
            findings: Findings::of(setup, id),
        })
    }

    /// The same log as if it were opened now: nothing is learnt of it, and nothing found.
    #[must_use]
    pub(crate) fn anew(&self, setup: &Setup) -> Self {
        let (states, signer) = (States::default(), Signer::default());
        let findings = Findings::of(setup, &self.source);
        LogStore { states, signer, findings, ..self.clone() }
    }

    /// The log of any source of a repository, to be read.
    #[must_use]
    pub fn reader(repository: &Repository, source: &SourceId) -> Self {
        let (repository, source) = (repository.clone(), source.clone());
        let (states, clock) = (States::default(), Arc::new(SystemClock));
        let signer = Signer::default();
        let (writer, bound, opening) = (None, None, None);
        let (avoided, findings) = (Arc::default(), Findings::default());
        LogStore {
            repository,
            source,
            writer,
            bound,
            avoided,
            states,
            signer,
            opening,
            clock,
            findings,
        }
    }

    /// The same log up to a position, for a server that must not replay what follows.
    #[must_use]
    pub fn up_to(self, bound: Option<LogAt>) -> Self {
        LogStore { bound, ..self }
    }

    /// Whether it is without this piece.
    pub(crate) fn avoids(&self, place: &LogPlace) -> bool {
        self.avoided.contains(place)
    }

    /// The same log without these pieces.
    #[must_use]
    pub(crate) fn without(self, avoided: &[LogPlace]) -> Self {
        LogStore { avoided: Arc::new(avoided.to_vec()), ..self }
    }

    /// The repository that it lies in.
    #[must_use]
    pub(crate) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Writes a piece, reads it back, and compares. A piece that is there already must hold the
    /// same bytes.
    ///
    /// # Errors
    /// [`AgentError::OtherLog`] for other bytes under the same name; the store's.
    pub async fn keep(&self, place: LogPlace, plain: Vec<u8>, holds: Holds) -> Result<Kept> {
        let log_store = self.clone();
        let log = place.lineage.words().log;
        let work = move || {
            let mut sealer = log_store.sealer(plain.len() as u64)?;
            sealer.add(&plain)?;
            log_store.ready(place, sealer.finish()?, holds)
        };
        let ready = tokio::task::spawn_blocking(work).await;
        let ready = ready.with_context(|| format!("seal a piece of {log}"))??;
        self.put(ready).await
    }

    fn writer(&self) -> Result<&Writer, AgentError> {
        self.writer.as_deref().ok_or(AgentError::NoSigningKey)
    }

    /// Begins a piece of so many plain bytes. To fill it takes some hundredths of a second: for
    /// the blocking pool.
    pub(crate) fn sealer(&self, plain: u64) -> Result<StreamSealer> {
        Ok(self.writer()?.sealer.sealer(plain)?)
    }

    /// Signs a piece.
    pub(crate) fn ready(
        &self,
        place: LogPlace,
        sealed_stream: SealedStream,
        holds: Holds,
    ) -> Result<Ready> {
        let writer = self.writer()?;
        let SealedStream { sealed, plain, plain_sha256 } = sealed_stream;
        let piece = LogPiece {
            header: Header::new(holds.features()),
            repository: self.repository.id.clone(),
            source: self.source.clone(),
            host: writer.host.clone(),
            written: self.now(),
            place,
            plain,
            plain_sha256,
            sealed: sealed.len() as u64,
            sealed_sha256: digest(&sealed),
            holds,
        };
        let bytes = Bytes::from(encode_piece(&piece, &sealed, &writer.key));
        Ok(Ready { piece, bytes })
    }

    /// The rest of [`LogStore::keep`]: writes, reads back, compares.
    pub(crate) async fn put(&self, Ready { piece, bytes }: Ready) -> Result<Kept> {
        let log = piece.place.lineage.words().log;
        let path = layout::piece(&self.source, &piece.place);
        match self.repository.bucket.put_once(&path, bytes.clone()).await {
            Ok(Put::Created | Put::Present) => {
                let back = self.repository.bucket.read_back(&path, &bytes).await;
                back.with_context(|| format!("read the piece of {log} back"))?;
                Ok(Kept::Created)
            }
            Err(StoreError::Conflict { .. }) => match self.same(&piece).await {
                Err(error) if is_bad_manifest(&error) => self.over(&piece, bytes).await,
                kept => kept,
            },
            Err(error) => Err(error).with_context(|| format!("store a piece of {log}")),
        }
    }

    /// Every seal is another, so that equal log is known by its digest, which is signed. Whoever
    /// wrote it need not have read it back: that is done here.
    async fn same(&self, ours: &LogPiece) -> Result<Kept> {
        let looking = format!("look at the {} that is there", ours.place.lineage.words().log);
        let theirs = self.head(&ours.place).await.context(looking.clone())?;
        if same_log(&theirs, ours) {
            self.stored_size(&ours.place).await.context(looking)?;
            return Ok(Kept::Present);
        }
        let key = layout::piece(&self.source, &ours.place).to_string();
        Err(AgentError::OtherLog { key, host: theirs.host }.into())
    }

    /// Where the name is taken by what nobody whom we trust has signed: where versions are kept,
    /// ours is written as another one, which readers find.
    async fn over(&self, ours: &LogPiece, bytes: Bytes) -> Result<Kept> {
        let log = ours.place.lineage.words().log;
        let key = layout::piece(&self.source, &ours.place);
        let bucket = &self.repository.bucket;
        if bucket.keeps_versions().await.is_none() {
            return Err(AgentError::NameTaken { key: key.to_string() }.into());
        }
        tracing::warn!(
            "{key} holds something that no trusted key has signed: drctl's object is another \
             version"
        );
        bucket.put(&key, bytes).await.with_context(|| format!("store a piece of {log}"))?;
        self.states.forget(&key);
        let found = self.stored_size(&ours.place).await;
        let found = found.with_context(|| format!("read the piece of {log} back"))?;
        match same_log(&found, ours) {
            true => Ok(Kept::Created),
            false => Err(StoreError::ReadBack { key }.into()),
        }
    }
}

/// Whether two pieces hold the same log: each seal is another one.
pub(super) fn same_log(one: &LogPiece, other: &LogPiece) -> bool {
    one.plain_sha256 == other.plain_sha256 && one.plain == other.plain
}

/// Whether a piece is not the log that was written: damaged, or signed by nobody whom we trust.
#[must_use]
pub(crate) fn is_damaged(error: &anyhow::Error) -> bool {
    is_bad_manifest(error) || matches!(error.downcast_ref(), Some(AgentError::Segment { .. }))
}
