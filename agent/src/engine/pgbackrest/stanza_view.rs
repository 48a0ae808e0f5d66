//! A stanza as pgBackRest shows it: what it says of its backups, and what lies in its archive.

use anyhow::{Context as _, Result};
use drctl_engines::backrest::{
    ArchiveListing, BackRest, Backup, Cluster, ClusterArchive, Info, SegmentName,
};
use drctl_engines::pg::Archived;
use drctl_model::{BackupKind, BackupSummary, External};

use crate::host::Setup;

/// What was seen of a stanza in one repository.
pub(crate) struct StanzaView {
    /// How pgBackRest is run for it.
    pub(crate) backrest: BackRest,
    /// What it says.
    pub(crate) info: Info,
    /// What lies in its archive.
    pub(crate) listing: ArchiveListing,
    /// What the server said of its archiving before, or why that is not known, where it was asked.
    pub(super) archived: Option<Result<Archived, String>>,
}

impl StanzaView {
    /// Looks at the stanza of a source; nothing for a source that has none, or is not configured
    /// here.
    ///
    /// # Errors
    /// pgBackRest's; a stanza that is not there or not whole.
    pub(crate) async fn of(setup: &Setup, source: &str) -> Result<Option<StanzaView>> {
        match super::engine_of(setup, source)? {
            Some(backrest) => StanzaView::look(backrest, None).await.map(Some),
            None => Ok(None),
        }
    }

    /// Looks at it; what pgBackRest said of it just now is not asked again.
    ///
    /// # Errors
    /// pgBackRest's; a stanza that is not there or not whole: of a repository that is away an
    /// empty archive is listed, with success.
    pub(crate) async fn look(backrest: BackRest, said: Option<Info>) -> Result<StanzaView> {
        let asking = async {
            match said {
                Some(said) => Ok(said),
                None => backrest.info().await,
            }
        };
        let (info, listing) = tokio::join!(asking, backrest.listing());
        // What it says of the stanza tells more than that it could not be listed.
        let info = info.context("ask pgBackRest for its backups")?;
        let listing = listing.context("list pgBackRest's archive")?;
        let mut stanza = StanzaView { backrest, info, listing, archived: None };
        // A backup may have ended, and its WAL have come, since the list was made.
        if !stanza.lists_what_backups_need() {
            let again = stanza.backrest.listing().await;
            stanza.listing = again.context("list pgBackRest's archive")?;
        }
        Ok(stanza)
    }

    /// Whether the list has the last segment that each backup needs.
    fn lists_what_backups_need(&self) -> bool {
        self.info.backups.iter().all(|backup| {
            let last = backup.wal.as_ref().and_then(|(_, last)| SegmentName::parse(last));
            let archive = self.listing.of(backup.database_id);
            last.is_none_or(|last| archive.is_some_and(|archive| archive.has(last)))
        })
    }

    /// A cluster, by the newest number that it has had in the stanza.
    pub(crate) fn cluster(&self, system_id: u64) -> Option<&Cluster> {
        let of_it = self.info.clusters.iter().filter(|cluster| cluster.system_id == system_id);
        of_it.max_by_key(|cluster| cluster.id)
    }

    /// A cluster's archive.
    pub(crate) fn archive(&self, system_id: u64) -> Option<&ClusterArchive> {
        self.listing.of(self.cluster(system_id)?.id)
    }

    /// Whether a backup is still there.
    pub(crate) fn has(&self, external: &External) -> bool {
        has(&self.info, external)
    }

    /// What the directory of a backup lacks, or that of one that it is based on; no file is read.
    ///
    /// # Errors
    /// pgBackRest's.
    pub(crate) async fn lacks(&self, external: &External) -> Result<Option<String>> {
        for label in std::iter::once(&external.label).chain(&external.references) {
            let lacks = self.backrest.lacks(label).await;
            if let Some(text) = lacks.context("list pgBackRest's backups")? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// What to say of a backup that is listed and whose files are gone.
    pub(crate) fn lost(&self, external: &External) -> Option<String> {
        let is_it = |backup: &&Backup| {
            backup.label == external.label && backup.database_id == external.database_id
        };
        let gone = self.info.gone.iter().find(is_it)?;
        Some(format!("its files ({}) are gone from pgBackRest's repository", gone.label))
    }
}

/// Whether a backup is there, as pgBackRest said.
pub(super) fn has(info: &Info, external: &External) -> bool {
    let found = info.backup(&external.label);
    found.is_some_and(|backup| backup.database_id == external.database_id)
}

/// Takes out what pgBackRest does not have any more; without a stanza all that it keeps.
pub(crate) fn only_there(backups: &mut Vec<BackupSummary>, stanza: Option<&StanzaView>) {
    backups.retain(|backup| match &backup.kind {
        BackupKind::External(external) => stanza.is_some_and(|stanza| stanza.has(external)),
        _ => true,
    });
}
