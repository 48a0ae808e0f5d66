//! The bucket as a repository of backups: what lies in it, whom we believe, and the catalog of it.

pub(crate) mod accept;
pub(crate) mod beat;
pub(crate) mod beats;
pub(crate) mod cache;
pub(crate) mod chain;
pub(crate) mod closed;
pub(crate) mod count_and_size;
mod deleted;
pub(crate) mod documents;
pub(crate) mod drills;
pub(crate) mod faults;
pub(crate) mod find;
pub(crate) mod findings;
pub(crate) mod first;
mod init;
pub(crate) mod inventory;
mod lacking;
pub(crate) mod leases;
pub(crate) mod losses;
pub(crate) mod marker;
mod meanwhile;
pub(crate) mod memory;
pub(crate) mod named;
pub(crate) mod newest;
mod open;
pub(crate) mod removed;
pub(crate) mod removed_of;
pub(crate) mod rto;
pub(crate) mod say;
pub mod statements;
pub(crate) mod strays;
pub(crate) mod untrusted;
pub(crate) mod verify;

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_model::{BackupId, BackupSummary, Digest, Manifest, RepositoryId, SourceId, shown};
use drctl_store::{
    Alarm, Bucket, FormatError, MAX_ENVELOPE_BYTES, Odd, Stored, Trust, VerifyingKey,
    decode_manifest, digest, layout,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};

use self::accept::accepted;
use self::chain::is_broken;
use self::faults::{is_bad_manifest, is_missing, is_newer};
use self::first::first;
use self::marker::{holds_backups, is_foreign, is_lost, read_marker};
use crate::host::{AgentError, private};

pub use accept::{Accepted, accept};
pub use chain::Chains;
pub use closed::Closed;
pub use drills::drills;
pub(crate) use drills::{evidence, manifest_object};
pub use init::{InitOptions, Made, init, kit_of, restore_marker};
pub use inventory::{Inventory, inventory};
pub use memory::{Memory, Notebook, words};
pub use open::Forgotten;
pub use verify::{Candidate, Depth, Verdict, everything, verify};

/// How far the clocks of two hosts may be apart before it matters.
pub(crate) const CLOCKS_APART: SignedDuration = SignedDuration::from_hours(1);

/// The time up to which something may be dated by another clock and not be dated in the future.
pub(crate) fn horizon(now: Timestamp) -> Timestamp {
    now.checked_add(CLOCKS_APART).unwrap_or(Timestamp::MAX)
}

/// Those that are not dated in the future, in their order; all where none of these `counts`: what could only be
/// compared with one of the future is, for it may be the clock of now that is wrong.
pub(crate) fn dated(
    known: &[BackupSummary],
    now: Timestamp,
    counts: impl Fn(&BackupSummary) -> bool,
) -> Cow<'_, [BackupSummary]> {
    let horizon = horizon(now);
    let is_dated = |one: &&BackupSummary| one.taken() <= horizon && one.started <= horizon;
    let is_whole = known.iter().all(|one| is_dated(&one));
    if is_whole || !known.iter().filter(is_dated).any(counts) {
        return Cow::Borrowed(known);
    }
    Cow::Owned(known.iter().filter(is_dated).cloned().collect())
}

/// How many manifests are fetched ahead.
pub(crate) const MANIFESTS_AT_ONCE: usize = 16;

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
    /// Why a newer drctl is needed, where its marker is one of a newer format: what this one understands
    /// is read, and nothing is written.
    pub newer_marker: Option<String>,
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
    /// When somebody took it for good although it is suspect.
    pub accepted: Option<Accepted>,
}

impl Proven {
    /// The row that the catalog keeps.
    #[must_use]
    pub fn summary(&self) -> BackupSummary {
        let accepted = self.accepted.as_ref().map(|accepted| accepted.at);
        let signer = self.signer.keyid();
        BackupSummary { accepted, signer, ..self.manifest.summary(self.sha256) }
    }
}

/// A backup that was not chosen, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Passed {
    /// Which one.
    pub backup: BackupId,
    /// Why.
    pub why: String,
}

/// The newest backup that nothing speaks against.
#[derive(Debug, Clone)]
pub struct Latest {
    /// The backup.
    pub backup: Proven,
    /// Those that were looked at before it, newest first.
    pub passed: Vec<Passed>,
    /// A good base backup on a later timeline that the backup has outlived: both may be meant.
    pub outlived: Option<BackupId>,
}

impl Repository {
    /// Reads the marker. Where the configuration says which repository it must be, another one is
    /// refused, and one whose marker is gone, damaged or of a newer format is read all the same: what
    /// its signed objects say of it is enough.
    ///
    /// # Errors
    /// [`AgentError::NotARepository`], [`AgentError::OtherRepository`], the store's; without an
    /// identifier a marker that is damaged or too new.
    pub async fn open(bucket: Bucket, trust: Trust, pinned: Option<&RepositoryId>) -> Result<Self> {
        let marker = read_marker(&bucket, pinned).await;
        let mut newer_marker = None;
        let (id, lost_marker) = match (marker, pinned) {
            (Ok(marker), _) => (marker.repository, false),
            (Err(error), Some(pinned)) if is_newer(&error) && holds_backups(&bucket).await? => {
                let why = format!("{}: {}", layout::marker(), error.root_cause());
                tracing::warn!("{why}; drctl reads what it understands, and writes nothing");
                newer_marker = Some(why);
                (pinned.clone(), false)
            }
            (Err(error), Some(pinned)) if is_lost(&error) && holds_backups(&bucket).await? => {
                bucket.alarm(&layout::marker(), Odd::Lost);
                (pinned.clone(), true)
            }
            (Err(error), _) => return Err(error),
        };
        Ok(Repository { bucket, id, trust, lost_marker, newer_marker })
    }

    /// Whether it may be written into: its marker is there, and is the right one.
    ///
    /// # Errors
    /// [`AgentError::MarkerLost`], or what else is wrong with the marker; [`AgentError::Usage`] as root in
    /// a directory of another account.
    pub async fn may_write(&self) -> Result<()> {
        if let Some(path) = self.bucket.url().strip_prefix("file://") {
            private::may_write(Path::new(path))?;
        }
        if !self.lost_marker && self.newer_marker.is_none() {
            return Ok(());
        }
        match read_marker(&self.bucket, Some(&self.id)).await {
            Err(error) if is_lost(&error) && !is_foreign(&error) => {
                Err(AgentError::MarkerLost { url: self.bucket.url().to_owned() }.into())
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
    /// [`StoreError`](drctl_store::StoreError) of a bucket that cannot be listed.
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
    /// [`StoreError`](drctl_store::StoreError) of a bucket that cannot be listed.
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

    /// The manifest of a backup, verified, and whether it was accepted; nothing where there is none.
    /// Where the bucket keeps versions the first one counts that is valid.
    ///
    /// # Errors
    /// [`StoreError`](drctl_store::StoreError); [`FormatError`] for a manifest that no trusted key
    /// signed, that is damaged, misplaced or too new.
    pub async fn manifest(&self, source: &SourceId, id: &BackupId) -> Result<Option<Proven>> {
        let Some(mut proven) = self.manifest_alone(source, id).await? else { return Ok(None) };
        proven.accepted = accepted(self, &proven).await?;
        Ok(Some(proven))
    }

    /// Whether there is a manifest of a backup, good or not.
    pub(crate) async fn manifest_is_there(&self, source: &SourceId, id: &BackupId) -> Result<bool> {
        match self.manifest_alone(source, id).await {
            Ok(found) => Ok(found.is_some()),
            Err(error) if is_bad_manifest(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn manifest_alone(&self, source: &SourceId, id: &BackupId) -> Result<Option<Proven>> {
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
        Ok(Proven { manifest, sha256: digest(&bytes), signer, bytes, accepted: None })
    }

    /// The newest backup of a source that nothing speaks against, nor what this host remembers of a
    /// look at it. One that is dated in the future was taken while a clock was wrong, and comes last:
    /// it may be older than all others.
    ///
    /// # Errors
    /// [`AgentError::NoBackup`] with what was found instead; the store's.
    pub async fn latest(
        &self,
        source: &SourceId,
        now: Timestamp,
        memory: &Memory,
    ) -> Result<Latest> {
        let (mut passed, mut chains) = (Vec::<Passed>::new(), Chains::new(self));
        let horizon = BackupId::new(horizon(now), u64::MAX);
        let (future, past): (Vec<_>, Vec<_>) =
            self.attempts(source).await?.into_iter().partition(|id| *id > horizon);
        for id in &future {
            tracing::warn!("{id} is dated in the future: a clock was wrong; it comes last");
        }
        // Attempts without a manifest, of which there may be many, cost no time of their own.
        let read = |id: BackupId| async move { (self.manifest(source, &id).await, id) };
        let mut read =
            stream::iter(past.into_iter().chain(future)).map(read).buffered(MANIFESTS_AT_ONCE);
        while let Some((found, backup)) = read.next().await {
            let why = match found {
                Ok(Some(found)) => match speaks_against(&found, &mut chains, memory).await? {
                    None => {
                        let (backup, outlived) = self.by_position(found, memory).await?;
                        return Ok(Latest { backup, passed, outlived });
                    }
                    Some(why) => why,
                },
                Ok(None) => "it was never committed".to_owned(),
                Err(error) if is_bad_manifest(&error) => format!("{error:#}"),
                Err(error) => return Err(error),
            };
            passed.push(Passed { backup, why });
        }
        if passed.is_empty() {
            return Err(self.nothing_of(source).await?.into());
        }
        let mut text = format!("no backup of `{source}` can be restored");
        for Passed { backup, why } in passed {
            text.push_str(&format!("\n  {backup}: {why}"));
        }
        Err(AgentError::NoBackup(text).into())
    }

    /// That there is no backup of a source, and of which others there are.
    async fn nothing_of(&self, source: &SourceId) -> Result<AgentError> {
        let sources = self.sources().await?;
        let others: Vec<&str> =
            sources.iter().filter(|other| *other != source).map(SourceId::as_str).collect();
        let others = match others.as_slice() {
            [] => String::new(),
            others => format!("; there are some of: {}", shown(&others.join(", "), 300)),
        };
        Ok(AgentError::NoBackup(format!("there is no backup of `{source}`{others}")))
    }

    /// How many objects lie below a prefix, and their bytes.
    ///
    /// # Errors
    /// [`StoreError`](drctl_store::StoreError) of a bucket that cannot be listed.
    pub async fn count_and_size(&self, prefix: &object_store::path::Path) -> Result<(u64, u64)> {
        let fold = |(count, bytes): (u64, u64), entry: drctl_store::Entry| async move {
            Ok((count + 1, bytes + entry.bytes))
        };
        Ok(self.bucket.list(Some(prefix)).try_fold((0, 0), fold).await?)
    }
}

/// Why a backup is not the one to restore when none is named.
async fn speaks_against(
    found: &Proven,
    chains: &mut Chains<'_>,
    memory: &Memory,
) -> Result<Option<String>> {
    let summary = found.summary();
    if !summary.is_good() {
        let why = shown(&summary.suspect.join("; "), 500);
        return Ok(Some(format!("it is suspect: {why}")));
    }
    let links = match chains.of(&summary).await {
        Err(error) if is_broken(&error) => return Ok(Some(format!("{error:#}"))),
        links => links?,
    };
    let found = |link: &BackupSummary| {
        let bad = memory.bad(&link.source, &link.backup)?;
        let itself = link.backup == summary.backup;
        let on = if itself { String::new() } else { format!("it is based on {}: ", link.backup) };
        Some(format!("{on}{}", words(bad)))
    };
    Ok(links.iter().find_map(found))
}
