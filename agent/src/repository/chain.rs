//! Chains of backups as they lie in the bucket.

use std::collections::BTreeMap;

use anyhow::Result;
use drctl_model::{BackupId, BackupSummary, ChainError, MAX_CHAIN, SourceId, chain, follows};

use super::faults::is_bad_manifest;
use super::{Proven, Repository};
use crate::host::AgentError;

/// Backups that were looked up: chains that share them are walked once.
pub struct Chains<'a> {
    repository: &'a Repository,
    seen: BTreeMap<(SourceId, BackupId), Looked>,
}

/// What the bucket has of a backup, or why what it has does not count.
type Looked = Result<Option<BackupSummary>, String>;

impl<'a> Chains<'a> {
    /// None looked up yet.
    #[must_use]
    pub fn new(repository: &'a Repository) -> Self {
        Chains { repository, seen: BTreeMap::new() }
    }

    /// The backups that make up `last`, the full one first and `last` itself the last; a backup
    /// that is based on none is its own chain. Needs no key.
    ///
    /// # Errors
    /// [`AgentError::BrokenChain`]; the store's.
    pub async fn of(&mut self, last: &BackupSummary) -> Result<Vec<BackupSummary>> {
        let mut links = vec![last.clone()];
        let mut child = last.clone();
        while let Some(named) = child.kind.parent().cloned() {
            if links.len() >= MAX_CHAIN {
                return Err(broken(&ChainError::TooLong(last.backup.clone())));
            }
            let id = named.backup;
            let parent = match self.look(&last.source, &id).await? {
                Ok(Some(parent)) => parent,
                Ok(None) => {
                    let (child, parent) = (child.backup, id);
                    return Err(broken(&ChainError::Missing { child, parent }));
                }
                Err(why) => {
                    let text = format!("{} is based on {id}: {why}", child.backup);
                    return Err(AgentError::BrokenChain(text).into());
                }
            };
            follows(&parent, &child).map_err(|error| broken(&error))?;
            links.push(parent.clone());
            child = parent;
        }
        links.reverse();
        Ok(links)
    }

    async fn look(&mut self, source: &SourceId, id: &BackupId) -> Result<Looked> {
        let key = (source.clone(), id.clone());
        if let Some(looked) = self.seen.get(&key) {
            return Ok(looked.clone());
        }
        let looked = match self.repository.manifest(source, id).await {
            Ok(found) => Ok(found.map(|found| found.summary())),
            Err(error) if is_bad_manifest(&error) => Err(format!("{error:#}")),
            Err(error) => return Err(error),
        };
        self.seen.insert(key, looked.clone());
        Ok(looked)
    }
}

impl Repository {
    /// The backups that make up `last`, with their manifests, the full one first.
    ///
    /// # Errors
    /// As [`Chains::of`].
    pub async fn chain(&self, last: &Proven) -> Result<Vec<Proven>> {
        let links = Chains::new(self).of(&last.summary()).await?;
        let mut all = Vec::new();
        for link in &links[..links.len().saturating_sub(1)] {
            match self.manifest(&link.source, &link.backup).await? {
                Some(found) if found.sha256 == link.manifest_sha256 => all.push(found),
                _ => {
                    let text = format!("{} has changed while it was looked at", link.backup);
                    return Err(AgentError::BrokenChain(text).into());
                }
            }
        }
        all.push(last.clone());
        Ok(all)
    }
}

fn broken(error: &ChainError) -> anyhow::Error {
    AgentError::BrokenChain(error.to_string()).into()
}

/// Whether an error speaks of a chain only, so that other backups can still be looked at.
pub(crate) fn is_broken(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(AgentError::BrokenChain(_))))
}

/// Backups that are known, by their names, so that chains of many are walked fast.
pub(crate) struct Family<'a>(BTreeMap<(&'a SourceId, &'a BackupId), &'a BackupSummary>);

impl<'a> Family<'a> {
    /// Of all that is known of one source or of several.
    pub(crate) fn of(all: impl IntoIterator<Item = &'a BackupSummary>) -> Self {
        let name = |backup: &'a BackupSummary| ((&backup.source, &backup.backup), backup);
        Family(all.into_iter().map(name).collect())
    }

    /// Why a backup cannot be restored, judged by what is known; nothing where its chain holds.
    pub(crate) fn broken(&self, backup: &BackupSummary) -> Option<String> {
        let find = |id: &BackupId| self.0.get(&(&backup.source, id)).copied();
        chain(backup, find).err().map(|error| error.to_string())
    }
}
