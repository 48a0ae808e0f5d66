//! What is found beside single backups and logs.

use std::collections::BTreeMap;

use anyhow::Result;
use drctl_catalog::Lost;
use drctl_model::{BackupId, BackupSummary, Manifest, Named, SourceId};
use drctl_store::layout;

use super::strangers::Strangers;
use crate::host::Setup;
use crate::repository::accept::{Disbelieved, disbelieved};
use crate::repository::documents::doubtful;
use crate::repository::losses::{gone, told, told_once};
use crate::repository::named::{Names, by_manifest};
use crate::repository::removed::{Back, back};
use crate::repository::strays::strays;
use crate::repository::{Closed, Proven, Repository};

/// What was found beside single backups and logs.
#[derive(Default)]
pub(crate) struct Beside {
    /// What was there and is gone.
    pub(crate) lost: Vec<Lost>,
    /// Acceptances, statements, tombstones and log floors that are there and not believed.
    pub(crate) refused: Vec<String>,
    /// What only a newer drctl reads of that, and the marker, with what to install.
    pub(crate) newer: Vec<String>,
    /// What nobody whom we trust has signed, and what hides nothing.
    pub(crate) strangers: Vec<String>,
    /// What was removed on purpose, and is here all the same.
    pub(crate) back: Vec<Back>,
    /// Files in a directory that are no objects.
    pub(crate) strays: Vec<String>,
    /// What may not be looked into.
    pub(crate) closed: Closed,
    /// Manifests that were read, and what they name.
    seen: BTreeMap<SourceId, (Vec<BackupSummary>, Names)>,
}

impl Beside {
    pub(crate) fn but(closed: Closed) -> Self {
        Beside { closed, ..Beside::default() }
    }

    /// Whether a source is left out, of which not all may be looked into.
    pub(crate) fn leaves_out(&self, source: &SourceId) -> bool {
        self.closed.holds(source)
    }

    /// Whether anything was left out.
    pub(crate) fn is_part(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Takes note of a manifest that was read, if it counts.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn see(
        &mut self,
        repository: &Repository,
        proven: Option<&Proven>,
        strangers: &Strangers,
    ) -> Result<()> {
        let Some(proven) = proven else { return Ok(()) };
        let (there, names) = self.seen.entry(proven.manifest.source.clone()).or_default();
        there.push(proven.summary());
        names.extend(by_manifest(&proven.manifest));
        match disbelieved(repository, proven).await? {
            Some(Disbelieved::Newer(why)) => self.newer.push(why),
            Some(Disbelieved::Refused(why)) => self.refused.push(why),
            Some(Disbelieved::Unsigned(why)) => {
                let Manifest { source, backup, .. } = &proven.manifest;
                let key = layout::acceptance(source, backup).to_string();
                match strangers.document(&key, &why) {
                    Some(told) => self.strangers.push(told),
                    None => self.refused.push(why),
                }
            }
            None => {}
        }
        Ok(())
    }

    /// What the manifests of a source that were read name.
    pub(super) fn names(&self, source: &SourceId) -> &[(Named, String)] {
        self.seen.get(source).map(|(_, names)| &**names).unwrap_or_default()
    }

    /// Looks for what is gone of sources whose backups were all read.
    ///
    /// # Errors
    /// The store's, the catalog's.
    pub(super) async fn look(
        &mut self,
        setup: &Setup,
        repository: &Repository,
        (what, strangers): (Option<&str>, &Strangers),
    ) -> Result<()> {
        for (source, (there, _)) in &self.seen {
            let there = there.iter().map(|backup| backup.backup.clone());
            self.back.extend(back(repository, source, there).await?);
        }
        let mut sources = repository.sources().await?;
        sources.extend(setup.config.sources.keys().cloned());
        sources.sort();
        sources.dedup();
        for source in sources {
            let left_out = self.closed.holds(&source);
            if left_out || what.is_some_and(|what| what != source.as_str()) {
                continue;
            }
            let (there, names) = self.seen.remove(&source).unwrap_or_default();
            self.lost.extend(told(setup, repository, &source, (&there, names)).await?);
            let mut doubts = doubtful(repository, &source).await?;
            self.strangers.extend(strangers.judge(&mut doubts));
            self.refused.extend(doubts.refused);
            self.newer.extend(doubts.newer);
            let missing = doubts.missing.into_iter().map(gone).collect();
            let missing = told_once(&self.lost, &source, missing, setup.clock.now());
            self.lost.extend(missing);
        }
        self.newer.extend(repository.newer_marker.clone());
        self.strays = strays(repository, setup.clock.now()).await?;
        Ok(())
    }

    /// Codes and words of what concerns a source, and of what is no single source's.
    pub(crate) fn amiss(&self, source: &SourceId) -> Vec<(String, String)> {
        let lost = self.lost.iter().filter(|lost| lost.source == *source);
        let lost = lost.map(|lost| ("store_missing", format!("{}: {}", lost.key, lost.why)));
        let refused = self.refused.iter().map(|why| ("untrusted", why.clone()));
        let newer = self.newer.iter().map(|why| ("format_newer", why.clone()));
        let closed = self.closed.texts().into_iter().filter(|_| self.closed.holds(source));
        let closed = closed.map(|why| ("store_denied", why));
        let all = lost.chain(refused).chain(newer).chain(closed);
        all.map(|(code, why)| (code.to_owned(), why)).collect()
    }

    /// Whether a backup is there as it was, and not trusted here any more.
    pub(crate) fn distrusts(&self, source: &SourceId, backup: &BackupId) -> bool {
        let key = layout::manifest(source, backup);
        self.lost.iter().any(|lost| lost.key == key.as_ref() && lost.is_distrusted())
    }

    pub(crate) fn is_bad(&self) -> bool {
        !self.lost.is_empty() || !self.refused.is_empty()
    }

    /// Whether there is nothing to say.
    pub(super) fn is_nothing(&self) -> bool {
        !self.is_bad() && !self.is_part() && !self.is_strange()
    }

    /// Whether there is anything that only a newer drctl reads.
    pub(crate) fn is_newer(&self) -> bool {
        !self.newer.is_empty()
    }

    /// Whether a stranger's objects lie there that hide nothing.
    pub(crate) fn is_strange(&self) -> bool {
        !self.strangers.is_empty()
    }
}
