//! A stream's way into the bucket: cut, seal, put, list.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes};
use drctl_engines::EngineError;
use drctl_model::{BackupId, SourceId, Stream, StreamId};
use drctl_store::{Bucket, PageWriter, SealedSegment, Sealer, layout};
use futures_util::stream::{self, TryStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use xxhash_rust::xxh3::Xxh3;

use crate::host::{Limits, Meter, crash_point};

/// Where a backup's objects go, and in which form.
#[derive(Clone)]
pub struct Intake {
    /// The bucket.
    pub bucket: Bucket,
    /// The source whose prefix they get.
    pub source: SourceId,
    /// The attempt.
    pub backup: BackupId,
    /// What makes segments: recipients and zstd level.
    pub sealer: Sealer,
    /// What bounds memory.
    pub limits: Limits,
    /// What counts progress.
    pub meter: Meter,
}

/// A stream that lies in the bucket, but counts only once a manifest names it.
#[derive(Debug)]
pub struct Stored {
    /// Its entry in the manifest.
    pub stream: Stream,
    /// XXH3-128 of the plain bytes, in hexadecimal.
    pub plain_xxh128: String,
}

/// Stores a stream to its end, in bounded memory.
///
/// Pull-based from end to end: when puts are slow nothing is read, the pipe fills and the tool
/// waits. No channel, no queue, no task to forget. End of file is *not* success: the caller asks
/// the tool's outcome before anything is committed.
///
/// # Errors
/// [`std::io::Error`] of `input`; [`SealError`](drctl_store::SealError);
/// [`StoreError`](drctl_store::StoreError).
pub async fn store_stream<R>(intake: &Intake, id: &StreamId, input: R) -> Result<Stored>
where
    R: AsyncRead + Unpin + Send,
{
    let Limits { segment_bytes, seals, puts, page_segments, .. } = intake.limits;
    let Intake { bucket, source, backup, .. } = intake;
    let pool = Pool::default();
    let digest = Mutex::new(Xxh3::new());
    let mut list = PageWriter::new(source, backup, id, segment_bytes, page_segments);
    let mut segments = cut(input, segment_bytes, &pool, &digest)
        .map_ok(|(n, plain)| seal(intake, n, plain, &pool))
        .try_buffered(seals)
        .map_ok(|sealed| put(intake, id, sealed))
        .try_buffered(puts)
        .boxed();
    while let Some(segment) = segments.try_next().await? {
        list.push(bucket, segment).await.context("write a page of the segment list")?;
        crash_point("backup-first-segment");
    }
    drop(segments);
    let digest = digest.into_inner().expect("no panics while held").digest128();
    Ok(Stored { stream: list.finish(), plain_xxh128: format!("{digest:032x}") })
}

/// Buffers that are used again: a fresh one costs its page faults every time.
#[derive(Clone, Default)]
struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    fn take(&self, capacity: usize) -> Vec<u8> {
        let reused = self.0.lock().expect("no panics while held").pop();
        reused.unwrap_or_else(|| Vec::with_capacity(capacity))
    }

    fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.0.lock().expect("no panics while held").push(buffer);
    }
}

/// Cuts the input into segments of `segment_bytes`, the last one shorter.
fn cut<'a, R>(
    input: R,
    segment_bytes: u64,
    pool: &'a Pool,
    digest: &'a Mutex<Xxh3>,
) -> impl TryStream<Ok = (u64, Vec<u8>), Error = anyhow::Error> + Send + 'a
where
    R: AsyncRead + Unpin + Send + 'a,
{
    let size = usize::try_from(segment_bytes).unwrap_or(usize::MAX);
    stream::try_unfold((input, 0), move |(mut input, n)| async move {
        let mut plain = pool.take(size);
        while plain.len() < size {
            let room = size - plain.len();
            let read = input.read_buf(&mut (&mut plain).limit(room)).await;
            if read.map_err(not_read)? == 0 {
                break;
            }
        }
        if plain.is_empty() {
            return Ok(None);
        }
        digest.lock().expect("no panics while held").update(&plain);
        Ok(Some(((n, plain), (input, n + 1))))
    })
}

/// What the engine knows of why its bytes stopped matters more than that they did.
fn not_read(error: std::io::Error) -> anyhow::Error {
    match error.downcast::<EngineError>() {
        Ok(known) => known.into(),
        Err(other) => anyhow::Error::new(other).context("read the tool's output"),
    }
}

/// Seals on the blocking pool; the buffer goes back for the next segment.
async fn seal(intake: &Intake, n: u64, plain: Vec<u8>, pool: &Pool) -> Result<SealedSegment> {
    let (sealer, pool) = (intake.sealer.clone(), pool.clone());
    let work = move || {
        let sealed = sealer.seal(n, &plain);
        pool.give(plain);
        sealed
    };
    let sealed = tokio::task::spawn_blocking(work).await.context("seal a segment")?;
    Ok(sealed?)
}

async fn put(
    intake: &Intake,
    id: &StreamId,
    sealed: SealedSegment,
) -> Result<drctl_model::Segment> {
    let SealedSegment { segment, bytes } = sealed;
    let key = layout::segment(&intake.source, &intake.backup, id, segment.n);
    intake.bucket.put(&key, Bytes::from(bytes)).await.context("store a segment")?;
    intake.meter.moved(segment.plain, segment.sealed);
    Ok(segment)
}
