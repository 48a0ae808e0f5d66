use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_model::{
    BackupId, BackupSummary, Digest, Manifest, Marker, RepositoryId, SourceId, shown,
};
use drctl_store::{
    Alarm, Bucket, FormatError, MAX_ENVELOPE_BYTES, MAX_MARKER_BYTES, Odd, StoreError, Stored,
    Trust, VerifyingKey, decode_manifest, decode_marker, digest, layout,
};
use futures_util::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};

use crate::Setup;
use crate::chain::{Chains, is_broken};
use crate::first::first;
use crate::problem::Problem;
use crate::wal::is_missing;

/// How far the clocks of two hosts may be apart before it matters.
pub(crate) const CLOCKS_APART: SignedDuration = SignedDuration::from_hours(1);

/// A bucket whose marker we know, and the keys whose manifests we believe.
#[derive(Clone)]
pub struct Repository {
    /// The bucket.
    pub bucket: Bucket,
    /// The repository's identifier: that of the configuration, or else of the marker.
    pub id: RepositoryId,
    /// The pinned keys.
    pub trust: Trust,
    /// Whether it is read without its marker, which is gone or damaged: nothing is written then.
    pub lost_marker: bool,
}

/// A manifest that a trusted key signed, that we understand, and that lies where it belongs.
#[derive(Debug, Clone)]
pub struct Proven {
    /// The manifest.
    pub manifest: Manifest,
    /// SHA-256 of the object: the backup's identity.
    pub sha256: Digest,
    /// The key that signed it.
    pub signer: VerifyingKey,
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
    /// Reads the marker. Where the configuration says which repository it must be, another one is
    /// refused, and one whose marker is gone or damaged is read all the same: what its signed
    /// objects say of it is enough.
    ///
    /// # Errors
    /// [`Problem::NotARepository`], [`Problem::OtherRepository`], the store's; without an
    /// identifier a marker that is damaged or too new.
    pub async fn open(bucket: Bucket, trust: Trust, pinned: Option<&RepositoryId>) -> Result<Self> {
        let marker = read_marker(&bucket, pinned).await;
        let (id, lost_marker) = match (marker, pinned) {
            (Ok(marker), _) => (marker.repository, false),
            (Err(error), Some(pinned)) if is_lost(&error) && holds_backups(&bucket).await? => {
                bucket.alarm(&layout::marker(), Odd::Lost);
                (pinned.clone(), true)
            }
            (Err(error), _) => return Err(error),
        };
        Ok(Repository { bucket, id, trust, lost_marker })
    }

    /// Whether it may be written into: its marker is there, and is the right one.
    ///
    /// # Errors
    /// [`Problem::MarkerLost`], or what else is wrong with the marker.
    pub async fn may_write(&self) -> Result<()> {
        if !self.lost_marker {
            return Ok(());
        }
        match read_marker(&self.bucket, Some(&self.id)).await {
            Err(error) if error.downcast_ref::<Problem>().is_some_and(is_nothing) => {
                Err(Problem::MarkerLost { url: self.bucket.url().to_owned() }.into())
            }
            read => read.map(drop),
        }
    }

    /// What was seen of objects that somebody meddled with.
    #[must_use]
    pub fn alarms(&self) -> Vec<Alarm> {
        self.bucket.alarms()
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

    /// The manifest of a backup, verified; nothing where there is none. Where the bucket keeps
    /// versions the first one counts that is valid.
    ///
    /// # Errors
    /// The store's; a manifest that no trusted key signed, that is damaged, misplaced or too new.
    pub async fn manifest(&self, source: &SourceId, id: &BackupId) -> Result<Option<Proven>> {
        let key = layout::manifest(source, id);
        let read = |stored: Stored| async move {
            let bytes = self.bucket.get_stored(&stored, MAX_ENVELOPE_BYTES as u64).await?;
            Ok(self.prove(source, id, bytes)?)
        };
        let same = |one: &Proven, other: &Proven| one.manifest == other.manifest;
        match first(&self.bucket, &key, read, same).await {
            Err(error) if is_missing(&error) => Ok(None),
            found => Ok(Some(found.with_context(|| format!("read {key}"))?)),
        }
    }

    fn prove(&self, source: &SourceId, id: &BackupId, bytes: Bytes) -> Result<Proven, FormatError> {
        let (manifest, signer) = decode_manifest(&bytes, &self.trust)?;
        manifest.belongs(&self.id, source, id)?;
        Ok(Proven { manifest, sha256: digest(&bytes), signer, bytes })
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
        let is_odd =
            matches!(store, Some(StoreError::TooLarge { .. } | StoreError::NoObject { .. }));
        cause.is::<FormatError>() || is_odd
    })
}

/// The marker that counts: with an identifier the first one that says it, else the first.
pub(crate) async fn read_marker(bucket: &Bucket, pinned: Option<&RepositoryId>) -> Result<Marker> {
    let key = layout::marker();
    let read = |stored: Stored| async move {
        let bytes = bucket.get_stored(&stored, MAX_MARKER_BYTES).await?;
        let marker = decode_marker(&bytes)?;
        match pinned.filter(|pinned| **pinned != marker.repository) {
            Some(pinned) => Err(Problem::OtherRepository {
                url: bucket.url().to_owned(),
                found: marker.repository,
                pinned: pinned.clone(),
            }
            .into()),
            None => Ok(marker),
        }
    };
    // The usual case needs no versions: nothing could be more right than this.
    if pinned.is_some()
        && let Ok(marker) = read(Stored::newest(&key)).await
    {
        return Ok(marker);
    }
    let same = |one: &Marker, other: &Marker| one.repository == other.repository;
    match first(bucket, &key, read, same).await {
        Err(error) if is_missing(&error) => {
            Err(Problem::NotARepository { url: bucket.url().to_owned() }.into())
        }
        Err(error) if error.downcast_ref::<Problem>().is_some() => Err(error),
        read => read.context("read the repository's marker"),
    }
}

/// What is to be said where the configuration does not pin the repository, and what to do.
pub(crate) fn unpinned(setup: &Setup, repository: &Repository) -> Option<(&'static str, String)> {
    let text = "the configuration does not say which repository it must be: another one of the \
                same keys would be believed";
    let hint = || format!("write id = \"{}\" into [repository]", repository.id);
    setup.config.repository.id.is_none().then(|| (text, hint()))
}

/// Whether there is anything of any source.
pub(crate) async fn holds_backups(bucket: &Bucket) -> Result<bool> {
    let sources = bucket.list_folders(&layout::sources()).await.context("list the sources")?;
    Ok(!sources.is_empty())
}

/// Whether a marker is gone or damaged; not, that it is another one.
pub(crate) fn is_lost(error: &anyhow::Error) -> bool {
    is_bad_manifest(error) || error.downcast_ref::<Problem>().is_some_and(is_nothing)
}

fn is_nothing(problem: &Problem) -> bool {
    matches!(problem, Problem::NotARepository { .. })
}
