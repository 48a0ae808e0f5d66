//! Whether a backup is to be an incremental one, and what it is to be based on.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_engines::Below;
use drctl_engines::pg::physical::{FIRST_INCREMENTAL, MAX_LISTING_BYTES, ParentBackup};
use drctl_engines::pg::replication::Replication;
use drctl_model::{BackupId, BackupSummary, MAX_CHAIN, Parent, SourceId};
use drctl_policies::BaseBackup;
use drctl_store::digest;
use jiff::{SignedDuration, Timestamp};

use crate::backup::RequestedKind;
use crate::host::Setup;
use crate::repository::{CLOCKS_APART, Chains, Memory, Repository, words};

/// What is to be made.
pub(crate) enum Choice {
    /// A full backup; with the reason, where an incremental one was wished for.
    Full(Option<String>),
    /// An incremental one.
    On(Box<ParentBackup>),
}

/// Chooses what is to be made. Whatever speaks against an incremental backup is a reason for a full
/// one, never a failure: a night without any backup is worse.
pub(crate) async fn choose(
    setup: &Setup,
    repository: &Repository,
    source: &SourceId,
    base: &BaseBackup,
    requested: RequestedKind,
    now: Timestamp,
) -> Choice {
    let every = match requested {
        RequestedKind::Full => return Choice::Full(None),
        RequestedKind::AsConfigured if !base.incremental => return Choice::Full(None),
        RequestedKind::AsConfigured => Some(base.full_every),
        RequestedKind::Incremental => None,
    };
    match parent(setup, repository, source, every, now).await {
        Ok(Ok(parent)) => Choice::On(Box::new(parent)),
        Ok(Err(why)) => Choice::Full(Some(why)),
        Err(error) => Choice::Full(Some(format!("{error:#}"))),
    }
}

/// What a backup can be based on, or why there is nothing.
async fn parent(
    setup: &Setup,
    repository: &Repository,
    source: &SourceId,
    every: Option<Duration>,
    now: Timestamp,
) -> Result<Result<ParentBackup, String>> {
    let listings = Listings::of(setup, source);
    // Usually there is one; of several the backup counts that ends last in the log.
    let (mut last, mut away) = (None::<BackupSummary>, None);
    for id in listings.kept()? {
        match repository.manifest(source, &id).await? {
            Some(proven) => {
                let found = proven.summary();
                let is_newer = |last: &BackupSummary| found.newer(last).is_gt();
                if last.as_ref().is_none_or(is_newer) {
                    last = Some(found);
                }
            }
            None => away = Some(id),
        }
    }
    let Some(last) = last else {
        return Ok(Err(match away {
            Some(id) => format!("{id}, on which it would be based, is not in the bucket"),
            None => "this host keeps no list of files of an earlier backup".to_owned(),
        }));
    };
    let (id, listing) = (last.backup.clone(), listings.read(&last.backup)?);
    if !last.is_good() {
        return Ok(Err(format!("{id}, on which it would be based, is suspect")));
    }
    let Some(at) = last.kind.coordinates() else {
        return Ok(Err(format!("{id} is no base backup")));
    };
    if at.listing_sha256 != Some(digest(&listing)) {
        let text = "is not the one that its signed manifest names";
        return Ok(Err(format!("the list of files of {id} that this host keeps {text}")));
    }
    let memory = Memory::at_hand(setup, repository, source).await;
    if let Some(found) = memory.bad(source, &id) {
        return Ok(Err(format!("{id}, on which it would be based: {}", words(found))));
    }
    let links = Chains::new(repository).of(&last).await?;
    if links.len() >= MAX_CHAIN {
        return Ok(Err(format!("the chain of {id} has {MAX_CHAIN} backups")));
    }
    if let (Some(every), Some(full)) = (every, links.first())
        && is_due(now.duration_since(full.started), every)
    {
        return Ok(Err(format!("a full one is due: {} is the last (full_every)", full.backup)));
    }
    let parent = Parent { backup: id, manifest_sha256: last.manifest_sha256 };
    Ok(Ok(ParentBackup { parent, listing, at: at.clone() }))
}

/// Whether the next full backup is due when the last is so old. A little early counts: a nightly
/// run with `full_every = "7d"` makes every seventh a full one, however long each takes to begin. A
/// full backup from the future says that a clock was wrong.
pub(crate) fn is_due(age: SignedDuration, every: Duration) -> bool {
    let early = SignedDuration::try_from(every - every / 24).unwrap_or(SignedDuration::MAX);
    age >= early || age < -CLOCKS_APART
}

/// What keeps a server from making incremental backups, and what to do; nothing where it makes
/// them.
pub(crate) async fn obstacle(
    connection: &mut Replication,
) -> Result<Option<(String, &'static str)>> {
    let every = "every backup will be a full one";
    if connection.major().is_none_or(|major| major < FIRST_INCREMENTAL) {
        let text = format!("PostgreSQL {} makes no incremental backups", connection.version());
        return Ok(Some((format!("{text}: {every}"), "set incremental = false")));
    }
    let on = connection.show("summarize_wal").await? == "on";
    let hint = "ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf()";
    Ok((!on).then(|| (format!("summarize_wal is off: {every}"), hint)))
}

/// The lists of files that this host keeps, so that a later backup can be based on an earlier one:
/// it cannot read what it has stored.
pub(crate) struct Listings {
    directory: PathBuf,
}

impl Listings {
    /// Those of a source.
    pub(crate) fn of(setup: &Setup, source: &SourceId) -> Self {
        let state = &setup.config.paths.state_dir;
        Listings { directory: state.join("listings").join(source.as_str()) }
    }

    /// Of which backups there is one.
    fn kept(&self) -> Result<Vec<BackupId>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => {
                entries.with_context(|| format!("look into {}", self.directory.display()))?
            }
        };
        let mut kept = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            kept.extend(name.to_str().and_then(|name| name.parse::<BackupId>().ok()));
        }
        Ok(kept)
    }

    fn read(&self, id: &BackupId) -> Result<Vec<u8>> {
        let path = self.directory.join(id.as_str());
        let mut bytes = Vec::new();
        let read = Below::open(&self.directory)
            .and_then(|below| below.read(Path::new(id.as_str())))
            .and_then(|file| file.take(MAX_LISTING_BYTES as u64).read_to_end(&mut bytes));
        read.with_context(|| format!("read {}", path.display()))?;
        Ok(bytes)
    }

    /// Keeps the list of a backup that was committed, in place of all earlier ones.
    ///
    /// # Errors
    /// The file system's; the earlier ones stay then.
    pub(crate) fn keep(&self, setup: &Setup, id: &BackupId, listing: &[u8]) -> Result<()> {
        setup.private_directory(&self.directory)?;
        let path = self.directory.join(id.as_str());
        let below = Below::open(&self.directory);
        let written = below.and_then(|below| below.replace("new", Path::new(id.as_str()), listing));
        written.with_context(|| format!("write {}", path.display()))?;
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.file_name() != id.as_str() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_copy_is_due_in_time() {
        let (day, week) = (SignedDuration::from_hours(24), Duration::from_secs(7 * 86_400));
        assert!(!is_due(day * 6, week));
        assert!(is_due(day * 7, week));
        // The seventh night, begun a few seconds earlier than the first.
        assert!(is_due(day * 7 - SignedDuration::from_secs(30), week));
        assert!(is_due(SignedDuration::from_hours(-2), week));
        assert!(!is_due(SignedDuration::from_secs(-30), week));
    }
}
