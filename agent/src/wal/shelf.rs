//! Pieces of log in the bucket: written once, read back, compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_model::{
    Clock, FORMAT_VERSION, Holds, IndexPlace, LogPart, LogPiece, LogPlace, Lsn, SourceId,
    SystemClock, Timeline,
};
use drctl_store::{
    FormatError, Identities, MAX_PIECE_BYTES, MAX_PIECE_HEAD_BYTES, Pour, Poured, Put, Sealer,
    SigningKey, StoreError, Stored, decode_piece_head, digest, encode_piece, layout, open_bytes,
    piece_body,
};
use futures_util::TryStreamExt as _;
use jiff::Timestamp;

use crate::problem::Problem;
use crate::repository::is_bad_manifest;
use crate::{Repository, Setup};

/// How much of a piece is fetched to read its head: enough unless it names many restore points.
const HEAD: u64 = 4096;

/// A source's log in the bucket.
#[derive(Clone)]
pub struct Shelf {
    pub(super) repository: Repository,
    pub(super) source: SourceId,
    pub(super) writer: Option<Arc<Writer>>,
    /// Log from here on is not delivered: it is there, and must not be replayed.
    pub(super) bound: Option<Lsn>,
    clock: Arc<dyn Clock>,
}

/// What a host needs to write; one that only reads has none of it.
pub(super) struct Writer {
    sealer: Sealer,
    pub(super) key: SigningKey,
    pub(super) host: String,
}

/// What a listing shows of one timeline's log, in order.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Its pieces.
    pub(crate) ranges: Vec<(Lsn, Lsn)>,
    /// Whether its history is there.
    pub(super) history: bool,
    /// Its indexes.
    pub(super) indexes: Vec<IndexPlace>,
}

/// A piece as it will lie in the bucket.
pub(super) struct Ready {
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

impl Shelf {
    /// The log of a configured source, to be written and read.
    ///
    /// # Errors
    /// A key that is missing; the store's.
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
        Ok(Shelf {
            repository,
            source: id.clone(),
            writer: Some(Arc::new(writer)),
            bound: None,
            clock,
        })
    }

    /// The log of any source of a repository, to be read.
    #[must_use]
    pub fn reader(repository: &Repository, source: &SourceId) -> Self {
        let (repository, source) = (repository.clone(), source.clone());
        Shelf { repository, source, writer: None, bound: None, clock: Arc::new(SystemClock) }
    }

    /// The same log up to a position, for a server that must not replay what follows.
    #[must_use]
    pub fn up_to(self, bound: Option<Lsn>) -> Self {
        Shelf { bound, ..self }
    }

    /// The repository that it lies in.
    #[must_use]
    pub(super) fn repository(&self) -> &Repository {
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
    /// [`Problem::OtherLog`] for other bytes under the same name; the store's.
    pub async fn keep(&self, place: LogPlace, plain: Vec<u8>, holds: Holds) -> Result<Kept> {
        let shelf = self.clone();
        let work = move || {
            let mut pour = shelf.pour(plain.len() as u64)?;
            pour.add(&plain)?;
            shelf.ready(place, pour.finish()?, holds)
        };
        let ready = tokio::task::spawn_blocking(work).await.context("seal a piece of log")??;
        self.put(ready).await
    }

    fn writer(&self) -> Result<&Writer, Problem> {
        self.writer.as_deref().ok_or(Problem::NoSigningKey)
    }

    /// Begins a piece of so many plain bytes. To fill it takes some hundredths of a second: for
    /// the blocking pool.
    pub(super) fn pour(&self, plain: u64) -> Result<Pour> {
        Ok(self.writer()?.sealer.pour(plain)?)
    }

    /// Signs a piece.
    pub(super) fn ready(&self, place: LogPlace, poured: Poured, holds: Holds) -> Result<Ready> {
        let writer = self.writer()?;
        let Poured { sealed, plain, plain_sha256 } = poured;
        let piece = LogPiece {
            v: FORMAT_VERSION,
            min_reader: FORMAT_VERSION,
            features: Vec::new(),
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

    /// The rest of [`Shelf::keep`]: writes, reads back, compares.
    pub(super) async fn put(&self, Ready { piece, bytes }: Ready) -> Result<Kept> {
        let path = layout::piece(&self.source, &piece.place);
        match self.repository.bucket.put_once(&path, bytes.clone()).await {
            Ok(Put::Created | Put::Present) => {
                let found = self.repository.bucket.get(&path, bytes.len() as u64).await;
                if found.context("read the piece of log back")? != bytes {
                    return Err(StoreError::ReadBack { key: path }.into());
                }
                Ok(Kept::Created)
            }
            Err(StoreError::Conflict { .. }) => self.same(&piece).await,
            Err(error) => Err(error).context("store a piece of log"),
        }
    }

    /// Every seal is another, so that equal log is known by its digest, which is signed. Whoever
    /// wrote it need not have read it back: that is done here.
    async fn same(&self, ours: &LogPiece) -> Result<Kept> {
        let looking = "look at the log that is there";
        let theirs = self.head(&ours.place).await.context(looking)?;
        if theirs.plain_sha256 == ours.plain_sha256 && theirs.plain == ours.plain {
            self.weigh(&ours.place).await.context(looking)?;
            return Ok(Kept::Present);
        }
        let key = layout::piece(&self.source, &ours.place).to_string();
        Err(Problem::OtherLog { key, host: theirs.host }.into())
    }

    /// What is signed of a piece; needs no key.
    ///
    /// # Errors
    /// [`FormatError`] for one that nobody whom we trust has signed; the store's.
    pub async fn head(&self, place: &LogPlace) -> Result<LogPiece> {
        let key = layout::piece(&self.source, place);
        let mut length = HEAD;
        loop {
            let bytes = self.repository.bucket.get_head(&Stored::newest(&key), length).await?;
            match self.decode(&bytes, place) {
                Err(FormatError::Malformed { .. })
                    if bytes.len() as u64 == length && length < MAX_PIECE_HEAD_BYTES as u64 =>
                {
                    length = MAX_PIECE_HEAD_BYTES as u64;
                }
                read => return Ok(read.with_context(|| format!("read {key}"))?.0),
            }
        }
    }

    fn decode(&self, bytes: &[u8], place: &LogPlace) -> Result<(LogPiece, usize), FormatError> {
        let Repository { trust, id, .. } = &self.repository;
        decode_piece_head(bytes, trust, id, &self.source, place)
    }

    /// A piece as it lies there, its head verified; the length of the head.
    async fn object(&self, place: &LogPlace) -> Result<(LogPiece, Bytes, usize)> {
        let key = layout::piece(&self.source, place);
        let bytes = self.repository.bucket.get(&key, MAX_PIECE_BYTES + (64 << 20)).await?;
        let (piece, head) = self.decode(&bytes, place).with_context(|| format!("read {key}"))?;
        Ok((piece, bytes, head))
    }

    fn damaged(&self, place: &LogPlace) -> Problem {
        Problem::Segment { key: layout::piece(&self.source, place).to_string() }
    }

    /// Reads a piece and compares its bytes with what is signed; needs no key. Gives their number.
    ///
    /// # Errors
    /// The store's; [`Problem::Segment`] for other bytes.
    pub async fn weigh(&self, place: &LogPlace) -> Result<u64> {
        let (piece, bytes, head) = self.object(place).await?;
        let body = piece_body(&piece, &bytes, head).with_context(|| self.damaged(place))?;
        Ok(body.len() as u64)
    }

    /// A piece's head, and its plain bytes: verified, opened, compared with what was signed.
    ///
    /// # Errors
    /// The store's; whatever keeps it from being the log that was written.
    pub async fn read(
        &self,
        place: &LogPlace,
        identities: &Identities,
    ) -> Result<(LogPiece, Vec<u8>)> {
        let (piece, bytes, head) = self.object(place).await?;
        let identities = identities.clone();
        let work = move || {
            let limit = usize::try_from(piece.plain).unwrap_or(usize::MAX);
            let plain = open_bytes(piece_body(&piece, &bytes, head)?, limit, &identities)?;
            let same = digest(&plain) == piece.plain_sha256;
            Ok::<_, anyhow::Error>(same.then_some((piece, plain)))
        };
        let read = tokio::task::spawn_blocking(work).await?;
        let read = read.with_context(|| self.damaged(place))?;
        read.ok_or_else(|| self.damaged(place).into())
    }

    /// What is there of a cluster's log, by timeline.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn listed(&self, system_id: u64) -> Result<BTreeMap<Timeline, Listed>> {
        let mut found: BTreeMap<Timeline, Listed> = BTreeMap::new();
        let mut listing = self.repository.bucket.list(Some(&layout::logs(&self.source)));
        while let Some(entry) = listing.try_next().await.context("list the log")? {
            if let Some((_, place)) = layout::piece_at(&entry.key) {
                if place.system_id == system_id {
                    found.entry(place.timeline).or_default().piece(&place.part);
                }
            } else if let Some((_, index)) = layout::log_index_at(&entry.key)
                && index.system_id == system_id
            {
                found.entry(index.timeline).or_default().indexes.push(index);
            }
        }
        found.values_mut().for_each(Listed::sort);
        Ok(found)
    }

    /// What is there of one timeline's log under names from `from` on.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn listed_from(
        &self,
        (system_id, timeline): (u64, Timeline),
        from: Lsn,
    ) -> Result<Listed> {
        let prefix = layout::lineage(&self.source, system_id, timeline);
        let mut listing = self.repository.bucket.list_from(&prefix, &format!("{:016x}", from.0));
        let mut found = Listed::default();
        while let Some(entry) = listing.try_next().await.context("list the log")? {
            if let Some((_, place)) = layout::piece_at(&entry.key) {
                found.piece(&place.part);
            }
            found.indexes.extend(layout::log_index_at(&entry.key).map(|(_, index)| index));
        }
        found.sort();
        Ok(found)
    }

    /// All pieces of the source's log, in order.
    ///
    /// # Errors
    /// The store's.
    pub async fn places(&self) -> Result<Vec<LogPlace>> {
        let mut found = Vec::new();
        let mut listing = self.repository.bucket.list(Some(&layout::logs(&self.source)));
        while let Some(entry) = listing.try_next().await.context("list the log")? {
            if let Some((_, place)) = layout::piece_at(&entry.key) {
                found.push(place);
            }
        }
        found.sort();
        Ok(found)
    }

    /// The ranges of one timeline's log that begin at `from` or later, in order. Where a store
    /// lists in order, no more than one of them begins at `enough` or later.
    ///
    /// # Errors
    /// The store's.
    pub async fn ranges(
        &self,
        (system_id, timeline): (u64, Timeline),
        from: Lsn,
        enough: Option<Lsn>,
    ) -> Result<Vec<(Lsn, Lsn)>> {
        let prefix = layout::lineage(&self.source, system_id, timeline);
        let bucket = &self.repository.bucket;
        let enough = enough.filter(|_| bucket.lists_in_order());
        let mut found = Vec::new();
        let mut listing = bucket.list_from(&prefix, &format!("{:016x}", from.0));
        while let Some(entry) = listing.try_next().await.context("list the log")? {
            if let Some((_, LogPlace { part: LogPart::Range { start, end }, .. })) =
                layout::piece_at(&entry.key)
            {
                found.push((start, end));
                if enough.is_some_and(|enough| start >= enough) {
                    break;
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

impl Listed {
    fn piece(&mut self, part: &LogPart) {
        match part {
            LogPart::Range { start, end } => self.ranges.push((*start, *end)),
            LogPart::History => self.history = true,
        }
    }

    fn sort(&mut self) {
        self.ranges.sort_unstable();
        self.indexes.sort_unstable();
    }
}

/// Whether a piece is not the log that was written: damaged, or signed by nobody whom we trust.
#[must_use]
pub(super) fn is_damaged(error: &anyhow::Error) -> bool {
    is_bad_manifest(error) || matches!(error.downcast_ref(), Some(Problem::Segment { .. }))
}

/// Whether an object is not there.
#[must_use]
pub(crate) fn is_missing(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| matches!(cause.downcast_ref::<StoreError>(), Some(StoreError::Missing { .. })))
}
