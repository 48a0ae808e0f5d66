//! What somebody deleted, where the bucket keeps it: whether any state of it ever counted. What never did, and was
//! removed, is no loss.

use anyhow::{Context as _, Result};
use drctl_model::{LogPlace, SourceId};
use drctl_store::layout::{self, Kind};
use drctl_store::{
    Key, MAX_AUDIT_BATCH_BYTES, MAX_LOG_INDEX_BYTES, MAX_PIECE_HEAD_BYTES, Odd, Stored,
    decode_audit_batch, decode_signed_head, decode_signed_log_index,
};
use futures_util::{StreamExt as _, stream};

use super::faults::{is_bad_manifest, is_missing, is_newer};
use super::first::first;
use super::statements::statement;
use super::{MANIFESTS_AT_ONCE, Repository, documents};

/// So many are read; of what lies behind them it is not known whether it counted.
const READ: usize = 10_000;

/// Raises an alarm for each that counted, or of which that is not known; gives the others.
///
/// # Errors
/// The store's.
pub(crate) async fn tell(repository: &Repository, mut deleted: Vec<Key>) -> Result<Vec<Key>> {
    let bucket = &repository.bucket;
    let not_read = deleted.split_off(deleted.len().min(READ));
    not_read.iter().for_each(|key| bucket.alarm(key, Odd::Deleted));
    let reading = deleted.into_iter().map(|key| async move {
        let counted = counted(repository, &key).await;
        (counted.with_context(|| format!("read {key}")), key)
    });
    let mut reading = stream::iter(reading).buffered(MANIFESTS_AT_ONCE);
    let mut nothing = Vec::new();
    while let Some((counted, key)) = reading.next().await {
        match counted? {
            true => bucket.alarm(&key, Odd::Deleted),
            false => nothing.push(key),
        }
    }
    Ok(nothing)
}

/// Whether any state of an object counted, or only a newer drctl can tell.
async fn counted(repository: &Repository, key: &Key) -> Result<bool> {
    match read(repository, key).await {
        Err(error) if is_newer(&error) => Ok(true),
        Err(error) if is_bad_manifest(&error) || is_missing(&error) => Ok(false),
        read => read,
    }
}

/// Reads the first state of an object that counts; false where there can be none.
async fn read(repository: &Repository, key: &Key) -> Result<bool> {
    match layout::classify(key) {
        // Whoever opens the repository reads it.
        Kind::Marker => {}
        Kind::Log(source) => match layout::piece_at(key) {
            Some((_, place)) => head(repository, &source, &place).await?,
            None => index(repository, &source, key).await?,
        },
        Kind::Statement(source) => match layout::statement_at(key) {
            Some((_, n)) => drop(statement(repository, &source, n).await?),
            None => return Ok(false),
        },
        Kind::Audit => audited(repository, key).await?,
        Kind::Drill(source) | Kind::Removed(source) | Kind::Acceptance(source, _) => {
            return documents::counts(repository, &source, key).await;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

async fn audited(repository: &Repository, key: &Key) -> Result<()> {
    let Repository { bucket, trust, id, .. } = repository;
    let at = layout::audit_batch_at(key);
    let of = at.as_ref().map(|(log, first)| (log, *first));
    let read = |stored: Stored| async move {
        let bytes = bucket.get_stored(&stored, MAX_AUDIT_BATCH_BYTES as u64).await?;
        Ok(decode_audit_batch(&bytes, trust, id, of)?.0)
    };
    first(bucket, key, read, |_, _| true).await.map(drop)
}

async fn head(repository: &Repository, source: &SourceId, place: &LogPlace) -> Result<()> {
    let Repository { bucket, trust, id, .. } = repository;
    let read = |stored: Stored| async move {
        let bytes = bucket.get_head(&stored, MAX_PIECE_HEAD_BYTES as u64).await?;
        Ok(decode_signed_head(&bytes, trust, id, source, place)?.0)
    };
    let key = layout::piece(source, place);
    first(bucket, &key, read, |_, _| true).await.map(drop)
}

async fn index(repository: &Repository, source: &SourceId, key: &Key) -> Result<()> {
    let Some((_, place)) = layout::log_index_at(key) else { return Ok(()) };
    let Repository { bucket, trust, id, .. } = repository;
    let place = &place;
    let read = |stored: Stored| async move {
        let bytes = bucket.get_stored(&stored, MAX_LOG_INDEX_BYTES as u64).await?;
        Ok(decode_signed_log_index(&bytes, trust, (id, source), place)?.0)
    };
    first(bucket, key, read, |_, _| true).await.map(drop)
}
