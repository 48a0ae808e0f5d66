//! Whether what a manifest promises is in the bucket, and what it promises is in the bytes.

use anyhow::Result;
use drctl_model::{Manifest, Stream};
use drctl_store::{Identities, SealError, layout, open_facts};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::fetch::{Outlet, fetch_sealed, fetch_stream, segments};
use crate::problem::Failure;
use crate::sink::Sink;
use crate::{Limits, Meter, Proven, Repository};

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

/// Looks at everything of a backup and goes on after the first thing that is wrong.
///
/// # Errors
/// Only what keeps it from looking: the bucket cannot be reached. What is wrong with the backup is
/// in the verdict.
pub async fn verify(
    repository: &Repository,
    backup: &Proven,
    depth: Depth,
    identities: Option<&Identities>,
    limits: Limits,
    meter: &Meter,
) -> Result<Verdict> {
    let manifest = &backup.manifest;
    let outlet = Outlet {
        bucket: repository.bucket.clone(),
        source: manifest.source.clone(),
        backup: manifest.backup.clone(),
        limits,
        meter: meter.clone(),
    };
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
        weigh(&outlet, stream, &mut verdict).await?;
        if depth == Depth::Data {
            read_all(&outlet, stream, &mut verdict).await?;
        }
        if let (Depth::Data, Some(identities), Some(digests)) = (depth, identities, &digests)
            && verdict.problems.is_empty()
        {
            open_all(&outlet, stream, identities, digests, &mut verdict).await;
        }
    }
    Ok(verdict)
}

fn plain_digests(
    manifest: &Manifest,
    identities: &Identities,
) -> Result<Vec<(drctl_model::StreamId, String)>, SealError> {
    let facts = open_facts(manifest, identities)?;
    Ok(facts.streams.into_iter().map(|stream| (stream.id, stream.plain_xxh128)).collect())
}

/// One listing: number and bytes of the objects. Finds what is missing without reading anything.
async fn weigh(outlet: &Outlet, stream: &Stream, verdict: &mut Verdict) -> Result<()> {
    let prefix = layout::stream(&outlet.source, &outlet.backup, &stream.id);
    let mut found = (0u64, 0u64);
    let mut listing = outlet.bucket.list(Some(&prefix));
    while let Some(entry) = listing.try_next().await? {
        found.0 += 1;
        found.1 += entry.bytes;
    }
    let pages: u64 = stream.pages.iter().map(|page| page.bytes).sum();
    let promised = (stream.segments + stream.pages.len() as u64, stream.sealed_bytes + pages);
    if found != promised {
        let text = format!(
            "stream {}: the bucket lists {} objects with {} bytes; the manifest names {} with {}",
            stream.id, found.0, found.1, promised.0, promised.1
        );
        verdict.problems.push(("objects_differ".to_owned(), text));
    }
    Ok(())
}

/// Every stored byte against its SHA-256; needs no key.
async fn read_all(outlet: &Outlet, stream: &Stream, verdict: &mut Verdict) -> Result<()> {
    let mut checks = segments(outlet, stream)
        .map(|segment| async move {
            let segment = segment?;
            fetch_sealed(outlet, stream, &segment).await.map(|bytes| bytes.len() as u64)
        })
        .buffered(outlet.limits.fetches)
        .boxed();
    while let Some(checked) = checks.next().await {
        match checked {
            Ok(bytes) => {
                verdict.read_bytes += bytes;
                outlet.meter.moved(0, bytes);
            }
            Err(error) => note(verdict, &error)?,
        }
    }
    Ok(())
}

/// Every plain byte: decrypted, decompressed, in order, with the digest of the dumped stream.
async fn open_all(
    outlet: &Outlet,
    stream: &Stream,
    identities: &Identities,
    digests: &[(drctl_model::StreamId, String)],
    verdict: &mut Verdict,
) {
    let expected = digests.iter().find(|(id, _)| *id == stream.id).map(|(_, digest)| digest);
    match fetch_stream(outlet, stream, identities, &mut Sink::Nowhere).await {
        Ok(digest) if expected == Some(&digest) => {}
        Ok(_) => {
            let text = format!("stream {}: its plain bytes are not those of the dump", stream.id);
            verdict.problems.push(("plain_differs".to_owned(), text));
        }
        Err(error) => {
            let failure = Failure::of(&error);
            verdict.problems.push((failure.code.to_owned(), failure.messages.join(": ")));
        }
    }
}

/// A damaged object is a finding; a bucket that cannot be reached is an error.
fn note(verdict: &mut Verdict, error: &anyhow::Error) -> Result<()> {
    let failure = Failure::of(error);
    if failure.exit == crate::Exit::Verification {
        verdict.problems.push((failure.code.to_owned(), failure.messages.join(": ")));
        return Ok(());
    }
    anyhow::bail!("{}", failure.messages.join(": "))
}

/// The backups to look at when none is named: every committed one of the sources, newest first.
///
/// # Errors
/// The store's. A manifest that is no good is part of the answer.
pub async fn everything(
    repository: &Repository,
    sources: &[drctl_model::SourceId],
) -> Result<Vec<(drctl_model::SourceId, drctl_model::BackupId, Result<Proven>)>> {
    let mut found = Vec::new();
    for source in sources {
        let attempts = repository.attempts(source).await?;
        let mut answers = stream::iter(attempts)
            .map(|id| async move {
                let manifest = repository.manifest(source, &id).await;
                (id, manifest)
            })
            .buffered(16);
        while let Some((id, manifest)) = answers.next().await {
            match manifest {
                Ok(Some(proven)) => found.push((source.clone(), id, Ok(proven))),
                Ok(None) => {}
                Err(error) if crate::repository::is_bad_manifest(&error) => {
                    found.push((source.clone(), id, Err(error)));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}
