use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_model::{BackupId, BackupSummary, Digest, Manifest, RepositoryId, SourceId, shown};
use drctl_store::{
    Bucket, FormatError, MAX_ENVELOPE_BYTES, MAX_MARKER_BYTES, StoreError, Trust, decode_manifest,
    decode_marker, digest, layout,
};
use futures_util::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};

use crate::chain::{Chains, is_broken};
use crate::problem::Problem;

/// How far the clocks of two hosts may be apart before it matters.
pub(crate) const CLOCKS_APART: SignedDuration = SignedDuration::from_hours(1);

/// A bucket whose marker we know, and the keys whose manifests we believe.
#[derive(Clone)]
pub struct Repository {
    /// The bucket.
    pub bucket: Bucket,
    /// The repository's identifier, from the marker.
    pub id: RepositoryId,
    /// The pinned keys.
    pub trust: Trust,
}

/// A manifest that a trusted key signed, that we understand, and that lies where it belongs.
#[derive(Debug, Clone)]
pub struct Proven {
    /// The manifest.
    pub manifest: Manifest,
    /// SHA-256 of the object: the backup's identity.
    pub sha256: Digest,
    /// The object's bytes.
    pub bytes: Bytes,
}

impl Proven {
    /// The row that the catalog keeps.
    #[must_use]
    pub fn summary(&self) -> BackupSummary {
        self.manifest.summary(self.sha256)
    }
}

impl Repository {
    /// Reads the marker.
    ///
    /// # Errors
    /// [`Problem::NotARepository`], the store's, and a marker that is damaged or too new.
    pub async fn open(bucket: Bucket, trust: Trust) -> Result<Self> {
        let bytes = match bucket.get(&layout::marker(), MAX_MARKER_BYTES).await {
            Err(StoreError::Missing { .. }) => {
                return Err(Problem::NotARepository { url: bucket.url().to_owned() }.into());
            }
            found => found.context("read the repository's marker")?,
        };
        let marker = decode_marker(&bytes).context("read the repository's marker")?;
        Ok(Repository { bucket, id: marker.repository, trust })
    }

    /// Every source that has anything in the bucket, in order.
    ///
    /// # Errors
    /// The store's.
    pub async fn sources(&self) -> Result<Vec<SourceId>> {
        let mut found: Vec<SourceId> = self
            .bucket
            .list_folders(&layout::sources())
            .await
            .context("list the sources")?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        found.sort();
        Ok(found)
    }

    /// Every attempt of a source that left anything in the bucket, newest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn attempts(&self, source: &SourceId) -> Result<Vec<BackupId>> {
        let mut found: Vec<BackupId> = self
            .bucket
            .list_folders(&layout::backups(source))
            .await
            .with_context(|| format!("list the backups of {source}"))?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        found.sort();
        found.reverse();
        Ok(found)
    }

    /// The manifest of a backup, verified; nothing where there is none.
    ///
    /// # Errors
    /// The store's; a manifest that no trusted key signed, that is damaged, misplaced or too new.
    pub async fn manifest(&self, source: &SourceId, id: &BackupId) -> Result<Option<Proven>> {
        let key = layout::manifest(source, id);
        let limit = MAX_ENVELOPE_BYTES as u64;
        let bytes = match self.bucket.get(&key, limit).await {
            Err(StoreError::Missing { .. }) => return Ok(self.older(source, id).await),
            Err(error @ StoreError::TooLarge { .. }) => {
                return match self.older(source, id).await {
                    Some(proven) => Ok(Some(proven)),
                    None => Err(error.into()),
                };
            }
            found => found?,
        };
        match self.prove(source, id, bytes) {
            Ok(proven) => Ok(Some(proven)),
            Err(error) => match self.older(source, id).await {
                Some(proven) => Ok(Some(proven)),
                None => Err(error).with_context(|| format!("read {key}")),
            },
        }
    }

    fn prove(&self, source: &SourceId, id: &BackupId, bytes: Bytes) -> Result<Proven, FormatError> {
        let (manifest, _) = decode_manifest(&bytes, &self.trust)?;
        manifest.belongs(&self.id, source, id)?;
        Ok(Proven { manifest, sha256: digest(&bytes), bytes })
    }

    /// Where the bucket keeps versions, one that a trusted key signed behind whatever hides it.
    /// A store that knows no versions, or does not let us ask for them, has none to give.
    async fn older(&self, source: &SourceId, id: &BackupId) -> Option<Proven> {
        let (versions, key) = (self.bucket.versions()?, layout::manifest(source, id));
        let unasked = |error| tracing::warn!(%key, %error, "older versions cannot be asked for");
        let all = versions.of(&key).await.map_err(unasked).ok()?;
        for version in all.into_iter().filter(|v| !v.delete_marker) {
            let bytes = match versions.get(&version, MAX_ENVELOPE_BYTES as u64).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    tracing::warn!(%key, version = version.id, %error, "a version is no manifest");
                    continue;
                }
            };
            if let Ok(proven) = self.prove(source, id, bytes) {
                tracing::warn!(%key, version = version.id, "an older version of it was used");
                return Some(proven);
            }
        }
        None
    }

    /// The newest backup of a source that nothing speaks against. One that is dated in the future
    /// was taken while a clock was wrong, and comes last: it may be older than all others.
    ///
    /// # Errors
    /// [`Problem::NoBackup`] with what was found instead; the store's.
    pub async fn latest(&self, source: &SourceId, now: Timestamp) -> Result<Proven> {
        let (mut passed, mut chains) = (Vec::new(), Chains::new(self));
        let horizon = now.checked_add(CLOCKS_APART).unwrap_or(Timestamp::MAX);
        let horizon = BackupId::new(horizon, u64::MAX);
        let (future, past): (Vec<_>, Vec<_>) =
            self.attempts(source).await?.into_iter().partition(|id| *id > horizon);
        for id in &future {
            tracing::warn!("{id} is dated in the future: a clock was wrong; it comes last");
        }
        for id in past.into_iter().chain(future) {
            match self.manifest(source, &id).await {
                Ok(Some(found)) if found.manifest.suspect.is_empty() => {
                    match chains.of(&found.summary()).await {
                        Err(error) if is_broken(&error) => {
                            passed.push(format!("{id}: {error:#}"));
                            continue;
                        }
                        chain => drop(chain?),
                    }
                    for note in &passed {
                        tracing::warn!("passed over: {note}");
                    }
                    return self.by_position(found).await;
                }
                Ok(Some(found)) => {
                    let why = shown(&found.manifest.suspect.join("; "), 500);
                    passed.push(format!("{id} is suspect: {why}"));
                }
                Ok(None) => passed.push(format!("{id} was never committed")),
                Err(error) if is_bad_manifest(&error) => passed.push(format!("{id}: {error:#}")),
                Err(error) => return Err(error),
            }
        }
        let mut text = format!("no backup of `{source}` can be restored");
        for note in passed {
            text.push_str("\n  ");
            text.push_str(&note);
        }
        Err(Problem::NoBackup(text).into())
    }

    /// The backup whose identifier begins with `wanted`; with the source and the whole identifier
    /// nothing is listed, so that it is found in a bucket that cannot be.
    ///
    /// # Errors
    /// [`Problem::NoBackup`] where there is none or more than one; a bad manifest; the store's.
    pub async fn find(&self, source: Option<&SourceId>, wanted: &str) -> Result<Proven> {
        if let (Some(source), Ok(id)) = (source, wanted.parse())
            && let Some(proven) = self.manifest(source, &id).await?
        {
            return Ok(proven);
        }
        let sources = match source {
            Some(source) => vec![source.clone()],
            None => self.sources().await?,
        };
        let mut found = Vec::new();
        for source in sources {
            let ids = self.attempts(&source).await?;
            found.extend(
                ids.into_iter()
                    .filter(|id| id.as_str().starts_with(wanted))
                    .map(|id| (source.clone(), id)),
            );
        }
        match found.as_slice() {
            [] => Err(Problem::NoBackup(format!("there is no backup `{wanted}`")).into()),
            [(source, id)] => self.manifest(source, id).await?.ok_or_else(|| {
                let why = "has no manifest: the attempt never ended, or still runs";
                Problem::NoBackup(format!("{source}/{id} {why}")).into()
            }),
            many => {
                let ids: Vec<String> = many.iter().map(|(s, id)| format!("{s}/{id}")).collect();
                let text = format!("`{wanted}` fits more than one backup: {}", ids.join(", "));
                Err(Problem::NoBackup(text).into())
            }
        }
    }

    /// How many objects lie below a prefix, and their bytes.
    ///
    /// # Errors
    /// The store's.
    pub async fn weigh(&self, prefix: &object_store::path::Path) -> Result<(u64, u64)> {
        let fold = |(count, bytes): (u64, u64), entry: drctl_store::Entry| async move {
            Ok((count + 1, bytes + entry.bytes))
        };
        Ok(self.bucket.list(Some(prefix)).try_fold((0, 0), fold).await?)
    }
}

/// Whether an error speaks of one manifest only, so that others can still be looked at.
pub(crate) fn is_bad_manifest(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let store = cause.downcast_ref::<StoreError>();
        cause.is::<FormatError>() || matches!(store, Some(StoreError::TooLarge { .. }))
    })
}
