//! A backup taken for good by a person, that is suspect or of another cluster than before: a signed object
//! in the bucket says so.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_catalog::Catalog;
use drctl_model::{Acceptance, BackupId, BackupSummary, Header, SourceId};
use drctl_store::{
    Key, MAX_ACCEPTANCE_BYTES, StoreError, Stored, VerifyingKey, decode_acceptance,
    encode_acceptance, layout,
};
use jiff::Timestamp;

use super::faults::{is_bad_manifest, is_missing, is_newer, is_unsigned};
use super::first::first;
use super::{Memory, Proven, Repository, documents, words};
use crate::host::{AgentError, Setup};

/// That somebody took a suspect backup for good.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// When.
    pub at: Timestamp,
    /// On which host.
    pub host: String,
    /// The key that signed it.
    pub signer: VerifyingKey,
}

/// Who accepted a suspect backup; nothing where nobody whom we trust did.
///
/// # Errors
/// The store's.
pub(crate) async fn accepted(repository: &Repository, proven: &Proven) -> Result<Option<Accepted>> {
    if proven.manifest.suspect.is_empty() {
        return Ok(None);
    }
    believed(repository, proven).await
}

/// Whether somebody took one of these backups for good, which need not be suspect.
///
/// # Errors
/// The store's.
pub(crate) async fn is_accepted(
    repository: &Repository,
    source: &SourceId,
    backups: &[BackupId],
) -> Result<bool> {
    for backup in backups {
        let found = match repository.manifest(source, backup).await {
            Err(error) if is_bad_manifest(&error) => continue,
            found => found?,
        };
        let Some(proven) = found else { continue };
        if believed(repository, &proven).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn believed(repository: &Repository, proven: &Proven) -> Result<Option<Accepted>> {
    match read(repository, proven).await {
        Ok(found) => Ok(found.map(|(Acceptance { accepted: at, host, .. }, signer)| Accepted {
            at,
            host,
            signer,
        })),
        Err(error) if is_bad_manifest(&error) => {
            let is_not = if is_newer(&error) { "read here" } else { "believed" };
            let backup = &proven.manifest.backup;
            tracing::warn!(%backup, "its acceptance is not {is_not}: {error:#}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Why the acceptance of a backup does not count.
pub(crate) enum Disbelieved {
    /// Nobody whom we believe has signed it, or it is none.
    Refused(String),
    /// Nobody whom we trust has signed anything there.
    Unsigned(String),
    /// Only a newer drctl reads it.
    Newer(String),
}

/// Why the acceptance of a backup, which need not be suspect, does not count; nothing where there is none, or
/// it does.
///
/// # Errors
/// The store's.
pub(crate) async fn disbelieved(
    repository: &Repository,
    proven: &Proven,
) -> Result<Option<Disbelieved>> {
    match read(repository, proven).await {
        Err(error) if is_bad_manifest(&error) => {
            let why = format!("the acceptance of {}: {error:#}", proven.manifest.backup);
            let kind = match (is_newer(&error), is_unsigned(&error)) {
                (true, _) => Disbelieved::Newer,
                (false, true) => Disbelieved::Unsigned,
                (false, false) => Disbelieved::Refused,
            };
            Ok(Some(kind(why)))
        }
        read => read.map(|_| None),
    }
}

/// An acceptance, and the key that signed it.
pub(super) type Signed = (Acceptance, VerifyingKey);

pub(super) async fn read(repository: &Repository, proven: &Proven) -> Result<Option<Signed>> {
    let (source, backup) = (&proven.manifest.source, &proven.manifest.backup);
    let key = layout::acceptance(source, backup);
    let (of, Repository { bucket, trust, id, .. }) = ((source, backup), repository);
    let read = |stored: Stored| async move {
        let bytes = bucket.get_stored(&stored, MAX_ACCEPTANCE_BYTES as u64).await?;
        Ok(decode_acceptance(&bytes, trust, id, of, proven.sha256)?)
    };
    match first(bucket, &key, read, |one, other| one.0 == other.0).await {
        Err(error) if is_missing(&error) => Ok(None),
        found => Ok(Some(found?)),
    }
}

/// Accepts a suspect backup: from now on it counts as good, and later ones are compared with it. The same
/// of one that is `in_question` for another reason.
///
/// # Errors
/// [`AgentError::Usage`] for one that is neither; [`AgentError::Mismatch`] for one that a look found
/// bad; what to install where it has an acceptance that only a newer drctl reads; the store's, the
/// catalog's.
pub async fn accept(
    setup: &Setup,
    repository: &Repository,
    (proven, in_question): (&Proven, bool),
) -> Result<BackupSummary> {
    let manifest = &proven.manifest;
    if manifest.suspect.is_empty() && !in_question {
        let text = format!("{} is not suspect: there is nothing to accept", manifest.backup);
        return Err(AgentError::Usage(text).into());
    }
    let key = setup.signing_key()?;
    repository.may_write().await?;
    let catalog = setup.catalog(repository).await?;
    let memory = Memory::of(&catalog, Some(&manifest.source)).await?;
    if let Some(found) = memory.bad(&manifest.source, &manifest.backup) {
        let text = format!("{} is not complete: {}", manifest.backup, words(found));
        return Err(AgentError::Mismatch(text).into());
    }
    let mut summary = proven.summary();
    if summary.accepted.is_none() {
        // That of a newer drctl stays as it is: it may well be good.
        match read(repository, proven).await {
            Ok(Some((there, _))) => summary.accepted = Some(there.accepted),
            Err(error) if is_newer(&error) => {
                return Err(error).context("read the acceptance that is there already");
            }
            _ => {}
        }
    }
    if summary.accepted.is_none() {
        let acceptance = Acceptance {
            header: Header::new([]),
            repository: repository.id.clone(),
            source: manifest.source.clone(),
            backup: manifest.backup.clone(),
            manifest_sha256: proven.sha256,
            host: setup.host(),
            accepted: setup.clock.now(),
        };
        let bytes = encode_acceptance(&acceptance, &key).context("sign the acceptance")?;
        let place = layout::acceptance(&manifest.source, &manifest.backup);
        let again = bytes.clone();
        let put = documents::put(repository, &catalog, (&manifest.source, &place), bytes);
        match put.await {
            Err(StoreError::Conflict { .. }) => {
                replace(repository, &catalog, (&manifest.source, &place), again).await?;
            }
            put => put.context("keep the acceptance")?,
        }
        summary.accepted = Some(acceptance.accepted);
    }
    // Of one that is not suspect the bucket alone tells it, where that is asked.
    if !manifest.suspect.is_empty() {
        catalog.adopt(&summary).await.context("record the acceptance")?;
    }
    Ok(summary)
}

/// Writes a further version over one that does not count, where the bucket keeps both: the first one that
/// is valid counts. Elsewhere nothing is written over.
async fn replace(
    repository: &Repository,
    catalog: &Catalog,
    (source, key): (&SourceId, &Key),
    bytes: Vec<u8>,
) -> Result<()> {
    let bucket = &repository.bucket;
    if bucket.keeps_versions().await.is_none() {
        let text = format!(
            "an object that no trusted key signed lies at {key}, where the acceptance belongs: find out \
             who may write into the bucket, remove this one object with the bucket's own client, and run \
             this again; nothing was written"
        );
        return Err(AgentError::Usage(text).into());
    }
    let bytes = Bytes::from(bytes);
    bucket.put(key, bytes.clone()).await.context("keep the acceptance")?;
    bucket.read_back(key, &bytes).await.context("keep the acceptance")?;
    documents::note(catalog, source, key).await;
    Ok(())
}
