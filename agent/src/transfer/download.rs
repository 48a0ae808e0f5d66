//! A stream's way back: list, get, check, open, in order, a few ahead.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use drctl_model::{BackupId, Segment, SourceId, Stream};
use drctl_store::{
    Bucket, Identities, MAX_PAGE_BYTES, Opener, SealError, StoreError, layout, read_page,
};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;

use super::Sink;
use crate::host::{AgentError, Limits, Meter};

/// Where a backup's objects come from.
#[derive(Clone)]
pub struct Outlet {
    /// The bucket.
    pub bucket: Bucket,
    /// The source whose prefix they have.
    pub source: SourceId,
    /// The backup.
    pub backup: BackupId,
    /// What bounds memory.
    pub limits: Limits,
    /// What counts progress.
    pub meter: Meter,
}

/// The segments of a stream, in order; at most one page of the list is in memory.
pub fn segments<'a>(outlet: &'a Outlet, stream: &'a Stream) -> BoxStream<'a, Result<Segment>> {
    let pages = stream::iter(&stream.pages).then(move |page| async move {
        let key = layout::page(&outlet.source, &outlet.backup, &stream.id, page.n);
        // An object of known length and digest, as a segment is.
        let sealed = page.bytes.min(MAX_PAGE_BYTES);
        let object = Segment { n: page.n, plain: 0, sealed, sha256: page.sha256 };
        let bytes = fetch_exact(outlet, &key, &object).await?;
        let list = read_page(stream, page, &bytes).with_context(|| format!("read {key}"))?;
        Ok::<_, anyhow::Error>(stream::iter(list.into_iter().map(Ok)))
    });
    pages.try_flatten().chain(stream::iter(stream.tail.iter().cloned().map(Ok))).boxed()
}

/// Fetches a segment and checks its SHA-256; needs no key.
///
/// # Errors
/// The store's; [`AgentError::Segment`] for a segment that is missing or altered.
pub async fn fetch_sealed(outlet: &Outlet, stream: &Stream, segment: &Segment) -> Result<Bytes> {
    let key = layout::segment(&outlet.source, &outlet.backup, &stream.id, segment.n);
    fetch_exact(outlet, &key, segment).await
}

/// A store that does not answer says nothing about the object: only its absence does.
async fn fetch_exact(outlet: &Outlet, key: &Path, object: &Segment) -> Result<Bytes> {
    let problem = || AgentError::Segment { key: key.to_string() };
    match outlet.bucket.get_segment(key, object).await {
        Ok(found) => found.with_context(problem),
        Err(none @ (StoreError::Missing { .. } | StoreError::NoObject { .. })) => {
            Err(none).with_context(problem)
        }
        Err(error) => Err(error.into()),
    }
}

/// Why an object whose stored bytes are right could not be opened. That no identity at hand is one of
/// its recipients' says nothing against it.
pub(crate) fn unopened(error: anyhow::Error, key: &str) -> anyhow::Error {
    match is_wrong_key(&error) {
        true => error.context(format!("open {key}")),
        false => error.context(AgentError::Segment { key: key.to_owned() }),
    }
}

/// Whether no identity at hand opens it.
pub(crate) fn is_wrong_key(error: &anyhow::Error) -> bool {
    let mut chain = error.chain();
    chain.any(|cause| matches!(cause.downcast_ref(), Some(SealError::WrongKey)))
}

/// Brings a stream back into `sink`; gives the XXH3-128 of its plain bytes, in hexadecimal.
///
/// # Errors
/// The store's, the sink's, and [`AgentError::Segment`] for what is not as the manifest says.
pub async fn fetch_stream(
    outlet: &Outlet,
    stream: &Stream,
    identities: &Identities,
    sink: &mut Sink,
) -> Result<String> {
    let opener = Opener::new(identities);
    let open = |(segment, sealed): (Segment, Bytes)| {
        let opener = opener.clone();
        let work = move || (opener.open_checked(&segment, &sealed), segment);
        async move {
            let (opened, segment) = tokio::task::spawn_blocking(work).await?;
            let key = layout::segment(&outlet.source, &outlet.backup, &stream.id, segment.n);
            let plain = opened.map_err(|error| unopened(error.into(), key.as_ref()))?;
            Ok::<_, anyhow::Error>((segment, plain))
        }
    };
    let mut plain = segments(outlet, stream)
        .map_ok(|segment| async move {
            let sealed = fetch_sealed(outlet, stream, &segment).await?;
            Ok((segment, sealed))
        })
        .try_buffered(outlet.limits.fetches)
        .map_ok(open)
        .try_buffered(outlet.limits.seals)
        .boxed();
    // The next segments are fetched and opened while this one is written.
    let mut current = plain.try_next().await?;
    while let Some((segment, bytes)) = current {
        let (written, next) = tokio::join!(sink.write(bytes), plain.try_next());
        opener.give_back(written?);
        outlet.meter.moved(segment.plain, segment.sealed);
        current = next?;
    }
    if sink.bytes() != stream.plain_bytes {
        bail!("stream {} gave {} bytes instead of {}", stream.id, sink.bytes(), stream.plain_bytes);
    }
    Ok(sink.digest())
}
