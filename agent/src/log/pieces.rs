//! Pieces of log out of the bucket: heads before bodies, the first state that is valid.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_model::{Lineage, LogPart, LogPiece, LogPlace};
use drctl_store::{
    FormatError, Identities, MAX_PIECE_HEAD_BYTES, Stored, VerifyingKey, decode_signed_head,
    digest, layout, open_bytes, piece_body,
};

use super::LogStore;
use super::listing::Range;
use super::log_store::same_log;
use crate::host::AgentError;
use crate::repository::Repository;
use crate::repository::faults::is_missing;
use crate::repository::first::first_of;
use crate::transfer::download::unopened;

/// How much of a piece is fetched to read its head: enough unless it names many restore points.
const HEAD: u64 = 4096;

/// What is signed of a piece, and how long its head is.
pub(super) type Measured = (LogPiece, u32);

/// Who signed the head that was read last; clones are the same.
#[derive(Clone, Default)]
pub(super) struct Signer(Arc<Mutex<Option<VerifyingKey>>>);

impl Signer {
    fn note(&self, key: VerifyingKey) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }

    /// Of what was read since it was last asked for, one after the other.
    pub(super) fn take(&self) -> Option<VerifyingKey> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl LogStore {
    /// What is signed of a piece; needs no key.
    ///
    /// # Errors
    /// [`FormatError`] for one that nobody whom we trust has signed; the store's.
    pub async fn head(&self, place: &LogPlace) -> Result<LogPiece> {
        self.measured(place).await.map(|(piece, _)| piece)
    }

    /// Whether a piece that was listed was deleted, and no state of it counts: it never was one.
    pub(super) fn is_nothing(&self, place: &LogPlace, error: &anyhow::Error) -> bool {
        is_missing(error) && self.states.deleted(&layout::piece(&self.source, place))
    }

    /// The same of a range.
    pub(super) fn is_none(&self, of: &Lineage, (start, end): Range, error: &anyhow::Error) -> bool {
        let part = LogPart::Range { start, end };
        self.is_nothing(&LogPlace { lineage: of.clone(), part }, error)
    }

    /// The same with the head's own length.
    ///
    /// # Errors
    /// As [`head`](Self::head).
    pub(super) async fn measured(&self, place: &LogPlace) -> Result<Measured> {
        let key = layout::piece(&self.source, place);
        let bucket = &self.repository.bucket;
        let read = |stored: Stored| async move { self.head_of(place, &stored).await };
        let kept = self.states.of(bucket, &key).await?;
        let same = |one: &Measured, other: &Measured| same_log(&one.0, &other.0);
        first_of(bucket, &key, kept, read, same).await.with_context(|| format!("read {key}"))
    }

    /// The same of an object that has this length in the bucket's list: it must be the one that is
    /// signed.
    ///
    /// # Errors
    /// As [`head`](Self::head); [`AgentError::Segment`] for one that is cut, or too long.
    pub(super) async fn head_of_length(
        &self,
        place: &LogPlace,
        listed: Option<u64>,
    ) -> Result<LogPiece> {
        let (piece, head) = self.measured(place).await?;
        let signed = piece.sealed.saturating_add(u64::from(head));
        match listed.filter(|listed| *listed != signed) {
            Some(listed) => Err(anyhow::Error::from(self.damaged(place))
                .context(format!("it has {listed} bytes, but its signed length is {signed}"))),
            None => Ok(piece),
        }
    }

    /// The same where it is known what is expected: if a plain GET finds that, it counts, and no
    /// state is asked for.
    ///
    /// # Errors
    /// As [`head`](Self::head).
    pub(crate) async fn head_where(
        &self,
        place: &LogPlace,
        expected: impl Fn(&LogPiece) -> bool,
    ) -> Result<LogPiece> {
        let newest = Stored::newest(&layout::piece(&self.source, place));
        match self.head_of(place, &newest).await {
            Ok((head, _)) if expected(&head) => Ok(head),
            Err(error) if is_missing(&error) => Err(error),
            _ => self.head(place).await,
        }
    }

    async fn head_of(&self, place: &LogPlace, stored: &Stored) -> Result<Measured> {
        let mut length = HEAD;
        loop {
            let bytes = self.repository.bucket.get_head(stored, length).await?;
            match self.decode(&bytes, place) {
                Err(FormatError::Malformed { .. })
                    if bytes.len() as u64 == length && length < MAX_PIECE_HEAD_BYTES as u64 =>
                {
                    length = MAX_PIECE_HEAD_BYTES as u64;
                }
                read => {
                    let (piece, head) = read?;
                    return Ok((piece, u32::try_from(head)?));
                }
            }
        }
    }

    fn decode(&self, bytes: &[u8], place: &LogPlace) -> Result<(LogPiece, usize), FormatError> {
        let Repository { trust, id, .. } = &self.repository;
        let (piece, head, signer) = decode_signed_head(bytes, trust, id, &self.source, place)?;
        self.signer.note(signer);
        Ok((piece, head))
    }

    /// One state of a piece, its head verified before more of it is read; the head's length.
    async fn object(&self, place: &LogPlace, stored: &Stored) -> Result<(LogPiece, Bytes, usize)> {
        let head = |bytes: &[u8]| {
            let (piece, head) = self.decode(bytes, place)?;
            let whole = piece.sealed.saturating_add(head as u64);
            Ok::<_, FormatError>(((piece, head), whole))
        };
        let bucket = &self.repository.bucket;
        let read = bucket.get_headed(stored, MAX_PIECE_HEAD_BYTES, head).await?;
        let ((piece, head), bytes) = read.with_context(|| format!("read {}", stored.key))?;
        Ok((piece, bytes, head))
    }

    fn damaged(&self, place: &LogPlace) -> AgentError {
        AgentError::Segment { key: layout::piece(&self.source, place).to_string() }
    }

    /// Reads a piece and compares its bytes with what is signed; needs no key. Gives what is signed.
    ///
    /// # Errors
    /// The store's; [`AgentError::Segment`] for other bytes.
    pub async fn stored_size(&self, place: &LogPlace) -> Result<LogPiece> {
        let key = layout::piece(&self.source, place);
        let bucket = &self.repository.bucket;
        let read = |stored: Stored| async move {
            let (piece, bytes, head) = self.object(place, &stored).await?;
            piece_body(&piece, &bytes, head).with_context(|| self.damaged(place))?;
            Ok(piece)
        };
        let kept = self.states.of(bucket, &key).await?;
        first_of(bucket, &key, kept, read, same_log).await
    }

    /// A piece's head, and its plain bytes: verified, opened, compared with what was signed.
    ///
    /// # Errors
    /// [`StoreError`](drctl_store::StoreError); [`FormatError`] for one that nobody whom we trust
    /// has signed; [`SealError`](drctl_store::SealError) where no identity opens it;
    /// [`AgentError::Segment`] for other bytes.
    pub async fn read(
        &self,
        place: &LogPlace,
        identities: &Identities,
    ) -> Result<(LogPiece, Vec<u8>)> {
        let key = layout::piece(&self.source, place);
        let bucket = &self.repository.bucket;
        let read = |stored: Stored| async move { self.open_one(place, &stored, identities).await };
        let kept = self.states.of(bucket, &key).await?;
        first_of(bucket, &key, kept, read, |one, other| same_log(&one.0, &other.0)).await
    }

    async fn open_one(
        &self,
        place: &LogPlace,
        stored: &Stored,
        identities: &Identities,
    ) -> Result<(LogPiece, Vec<u8>)> {
        let (piece, bytes, head) = self.object(place, stored).await?;
        let identities = identities.clone();
        let work = move || {
            let limit = usize::try_from(piece.plain).unwrap_or(usize::MAX);
            let plain = open_bytes(piece_body(&piece, &bytes, head)?, limit, &identities)?;
            let same = digest(&plain) == piece.plain_sha256;
            Ok::<_, anyhow::Error>(same.then_some((piece, plain)))
        };
        let turn = match &self.opening {
            Some(turns) => Some(turns.acquire().await?),
            None => None,
        };
        let read = tokio::task::spawn_blocking(work).await?;
        drop(turn);
        let key = layout::piece(&self.source, place);
        let read = read.map_err(|error| unopened(error, key.as_ref()))?;
        read.ok_or_else(|| self.damaged(place).into())
    }
}
