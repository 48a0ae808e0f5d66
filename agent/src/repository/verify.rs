//! Whether what a manifest promises is in the bucket, and what it promises is in the bytes.

use anyhow::Result;
use bytes::Bytes;
use drctl_catalog::Reading;
use drctl_model::{BackupId, Manifest, Segment, SourceId, Stream, total};
use drctl_store::{Identities, Opener, SealError, layout, open_facts};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use xxhash_rust::xxh3::Xxh3;

use super::memory::NEWER;
use super::{MANIFESTS_AT_ONCE, Proven, Repository};
use crate::host::{Exit, Failure, Limits, Meter};
use crate::transfer::download::unopened;
use crate::transfer::{Outlet, fetch_sealed, segments};

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Signature, segment list, and the presence and length of every object.
    Structure,
    /// Every stored byte too; and every plain byte where an identity is at hand.
    Data,
}

/// What was found out about one backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What is wrong, each with its stable code; empty when nothing is.
    pub problems: Vec<(String, String)>,
    /// Stored bytes that were read and compared.
    pub read_bytes: u64,
    /// Whether the plain bytes were compared too.
    pub opened: bool,
}

/// Whether nothing is wrong but that a newer drctl has written what this one does not understand.
pub(crate) fn only_newer(problems: &[(String, String)]) -> bool {
    !problems.is_empty() && problems.iter().all(|(code, _)| code == NEWER)
}

/// Looks at everything of a backup and goes on after the first thing that is wrong.
///
/// # Errors
/// Only what keeps it from looking: [`StoreError`](drctl_store::StoreError) of a bucket that cannot
/// be reached. What is wrong with the backup is in the verdict.
pub async fn verify(
    repository: &Repository,
    backup: &Proven,
    depth: Depth,
    identities: Option<&Identities>,
    limits: Limits,
    meter: &Meter,
) -> Result<Verdict> {
    let manifest = &backup.manifest;
    let outlet = outlet(repository, manifest, limits, meter);
    let mut verdict = Verdict { problems: Vec::new(), read_bytes: 0, opened: false };
    let digests = identities.and_then(|identities| match plain_digests(manifest, identities) {
        Ok(digests) => Some(digests),
        Err(error) => {
            verdict.problems.push((error.code().to_owned(), error.to_string()));
            None
        }
    });
    verdict.opened = depth == Depth::Data && digests.is_some();
    for stream in &manifest.streams {
        count_and_size(&outlet, stream, &mut verdict).await?;
        if depth == Depth::Structure {
            continue;
        }
        let opener = identities.filter(|_| digests.is_some()).map(Opener::new);
        let found = read_all(&outlet, stream, opener.as_ref(), &mut verdict).await?;
        let expected = digests.iter().flatten().find(|(id, _)| *id == stream.id);
        if verdict.problems.is_empty() && expected.map(|(_, digest)| digest) != found.as_ref() {
            let text = format!("stream {}: its plain bytes are not those of the dump", stream.id);
            verdict.problems.push(("plain_differs".to_owned(), text));
        }
    }
    Ok(verdict)
}

/// Where the objects of a backup come from.
pub(crate) fn outlet(
    repository: &Repository,
    manifest: &Manifest,
    limits: Limits,
    meter: &Meter,
) -> Outlet {
    Outlet {
        bucket: repository.bucket.clone(),
        source: manifest.source.clone(),
        backup: manifest.backup.clone(),
        limits,
        meter: meter.clone(),
    }
}

/// Whether what is on record of a reading can be: fewer objects and no more bytes than there are. With more
/// of them a backup would count as read of which nothing was.
pub(crate) fn is_possible(reading: &Reading, manifest: &Manifest) -> bool {
    let objects = total(manifest.streams.iter().map(|stream| stream.segments));
    let bytes = total(manifest.streams.iter().map(|stream| stream.sealed_bytes));
    reading.objects < objects && reading.bytes <= bytes
}

/// Reads stored bytes of a backup, one object after the other, from where `reading` was on, until `most`
/// of them were read: whether that was the last. Each is compared with its signed SHA-256, which needs no
/// key.
///
/// # Errors
/// As [`verify`].
pub(crate) async fn read_on(
    repository: &Repository,
    backup: &Proven,
    reading: &mut Reading,
    most: u64,
    (limits, meter): (Limits, &Meter),
) -> Result<bool> {
    let outlet = outlet(repository, &backup.manifest, limits, meter);
    let (mut n, mut bytes) = (0_u64, 0_u64);
    for stream in &backup.manifest.streams {
        let mut segments = segments(&outlet, stream);
        while let Some(segment) = segments.next().await {
            n += 1;
            // A page of the list that cannot be read hides what it lists, whoever comes by.
            if segment.is_ok() && n <= reading.objects {
                continue;
            }
            if bytes >= most {
                reading.bytes = reading.bytes.saturating_add(bytes);
                return Ok(false);
            }
            let sealed = async { fetch_sealed(&outlet, stream, &segment?).await };
            match sealed.await {
                Ok(sealed) => {
                    let length = sealed.len() as u64;
                    bytes = bytes.saturating_add(length);
                    outlet.meter.moved(0, length);
                }
                Err(error) => note(&mut reading.problems, error)?,
            }
            reading.objects = reading.objects.max(n);
        }
    }
    reading.bytes = reading.bytes.saturating_add(bytes);
    Ok(true)
}

fn plain_digests(
    manifest: &Manifest,
    identities: &Identities,
) -> Result<Vec<(drctl_model::StreamId, String)>, SealError> {
    let facts = open_facts(manifest, identities)?;
    Ok(facts.streams.into_iter().map(|stream| (stream.id, stream.plain_xxh128)).collect())
}

/// One listing: number and bytes of the objects. Finds what is missing without reading anything.
async fn count_and_size(outlet: &Outlet, stream: &Stream, verdict: &mut Verdict) -> Result<()> {
    let prefix = layout::stream(&outlet.source, &outlet.backup, &stream.id);
    let mut found = (0u64, 0u64);
    let mut listing = outlet.bucket.list(Some(&prefix));
    while let Some(entry) = listing.try_next().await? {
        found.0 += 1;
        found.1 = found.1.saturating_add(entry.bytes);
    }
    let promised = stream.objects();
    if found != promised {
        let text = format!(
            "stream {}: the bucket lists {} objects with {} bytes; the manifest names {} with {}",
            stream.id, found.0, found.1, promised.0, promised.1
        );
        verdict.problems.push(("objects_differ".to_owned(), text));
    }
    Ok(())
}

/// Every stored byte against its SHA-256, which needs no key; with an opener every plain byte too:
/// decrypted, decompressed, in order, with the digest of the dumped stream. One pass, to its end.
async fn read_all(
    outlet: &Outlet,
    stream: &Stream,
    opener: Option<&Opener>,
    verdict: &mut Verdict,
) -> Result<Option<String>> {
    let fetch = |segment: Result<Segment>| async move {
        let segment = segment?;
        let sealed = fetch_sealed(outlet, stream, &segment).await?;
        Ok((segment, sealed))
    };
    let open = |fetched: Result<(Segment, Bytes)>| async move {
        let (segment, sealed) = fetched?;
        let length = sealed.len() as u64;
        let Some(opener) = opener.cloned() else { return Ok((length, None)) };
        let key = layout::segment(&outlet.source, &outlet.backup, &stream.id, segment.n);
        let work = move || opener.open_checked(&segment, &sealed);
        let plain = tokio::task::spawn_blocking(work).await?;
        let plain = plain.map_err(|error| unopened(error.into(), key.as_ref()))?;
        Ok::<_, anyhow::Error>((length, Some(plain)))
    };
    let mut opened = segments(outlet, stream)
        .map(fetch)
        .buffered(outlet.limits.fetches)
        .map(open)
        .buffered(outlet.limits.seals)
        .boxed();
    let mut digest = Xxh3::new();
    while let Some(one) = opened.next().await {
        match one {
            Ok((length, plain)) => {
                verdict.read_bytes = verdict.read_bytes.saturating_add(length);
                let plain_bytes = plain.as_ref().map_or(0, Vec::len) as u64;
                outlet.meter.moved(plain_bytes, length);
                if let (Some(plain), Some(opener)) = (plain, opener) {
                    digest.update(&plain);
                    opener.give_back(plain);
                }
            }
            Err(error) => note(&mut verdict.problems, error)?,
        }
    }
    Ok(opener.map(|_| format!("{:032x}", digest.digest128())))
}

/// A damaged object is a finding; a bucket that cannot be reached is an error.
fn note(problems: &mut Vec<(String, String)>, error: anyhow::Error) -> Result<()> {
    let failure = Failure::of(&error);
    if !matches!(failure.exit, Exit::Verification | Exit::Key) {
        return Err(error);
    }
    let problem = (failure.code.to_owned(), failure.messages.join(": "));
    if !problems.contains(&problem) {
        problems.push(problem);
    }
    Ok(())
}

/// A backup of a source, as far as its manifest is one.
pub type Candidate = (SourceId, BackupId, Result<Proven>);

/// The backups to look at when none is named: every committed one of the sources, newest first, a
/// few manifests at a time in memory.
///
/// The stream's errors are the store's. A manifest that is no good is part of the answer.
pub fn everything(
    repository: &Repository,
    sources: Vec<SourceId>,
) -> BoxStream<'_, Result<Candidate>> {
    let attempts = stream::iter(sources).then(move |source| async move {
        let ids = repository.attempts(&source).await?;
        Ok::<_, anyhow::Error>(stream::iter(ids).map(move |id| Ok((source.clone(), id))))
    });
    let read = move |(source, id): (SourceId, BackupId)| async move {
        match repository.manifest(&source, &id).await {
            Ok(Some(proven)) => Ok(Some((source, id, Ok(proven)))),
            Ok(None) => Ok(None),
            Err(error) if crate::repository::faults::is_bad_manifest(&error) => {
                Ok(Some((source, id, Err(error))))
            }
            Err(error) => Err(error),
        }
    };
    let found = attempts.try_flatten().map_ok(read).try_buffered(MANIFESTS_AT_ONCE);
    found.try_filter_map(|one| async move { Ok(one) }).boxed()
}
