//! Whether the files of backups are there that pgBackRest's list names: its `info` reads the list
//! alone.

use std::collections::{BTreeMap, BTreeSet};

use drctl_model::label_type;
use serde_json::Value;

use super::{BackRest, Command, Info, InfoError, call, checked, says};
use crate::common::EngineError;

/// The list of backups and its copy: one of them is there wherever backups are.
const LISTS: [&str; 2] = ["backup.info", "backup.info.copy"];

/// What says which files a backup has: the last that is written of it.
const MANIFEST: &str = "backup.manifest";

/// The most bytes of the names in one directory: a hundred thousand backups.
const MAX_NAMES: usize = 16 << 20;

/// What a backup's directory holds beside its manifest.
const DATA: [&str; 2] = ["pg_data", "bundle"];

impl BackRest {
    /// Takes out of `info` what has no directory in the repository, and what is based on that; and
    /// names what has one and is not in the list.
    pub(super) async fn look_for_files(&self, info: Info) -> Result<Info, EngineError> {
        if info.backups.is_empty() {
            return Ok(info);
        }
        let names = self.names().await?;
        if !LISTS.iter().any(|list| names.contains(*list)) {
            let text =
                "the directory of the backups has no backup.info: the repository may be away";
            return Err(says("repo-ls")(InfoError::new(text)));
        }
        let unlisted = |info: &Info| names.iter().any(|name| info.lacks(name));
        if !unlisted(&info) && info.backups.iter().all(|backup| names.contains(&backup.label)) {
            return Ok(info);
        }
        // An expiry takes a backup out of the list before it removes the directory.
        let mut info = self.listed().await?;
        // A backup that runs, or one that was interrupted, has no manifest yet; an expiry removes it
        // before it takes the backup out of the list.
        for label in names.iter().filter(|name| info.lacks(name)).cloned().collect::<Vec<_>>() {
            if self.entries(Some(&label)).await?.contains_key(MANIFEST) {
                info.unlisted.push(label);
            }
        }
        if !info.unlisted.is_empty() {
            // Its manifest may have been written a moment before the list.
            let now = self.listed().await?;
            info.unlisted.retain(|label| now.lacks(label));
        }
        info.take_out(&names);
        Ok(info)
    }

    /// What a backup's directory lacks; nothing where its manifest, which is not empty, and its data are
    /// there. No file is read.
    ///
    /// # Errors
    /// [`BackRestError::Failed`](super::BackRestError::Failed) and [`EngineError::Silent`] where
    /// pgBackRest fails.
    pub async fn lacks(&self, label: &str) -> Result<Option<String>, EngineError> {
        let entries = self.entries(Some(checked(label)?)).await?;
        match entries.get(MANIFEST) {
            None => return Ok(Some(format!("the backup {label} has no backup.manifest any more"))),
            Some(entry) if entry["size"] == 0 => {
                return Ok(Some(format!("the backup.manifest of the backup {label} is empty")));
            }
            Some(_) => {}
        }
        let has_data = DATA.iter().any(|name| entries.contains_key(*name));
        Ok((!has_data).then(|| format!("the files of the backup {label} are gone (pg_data)")))
    }

    /// The names in the directory of the stanza's backups.
    async fn names(&self) -> Result<BTreeSet<String>, EngineError> {
        Ok(self.entries(None).await?.into_keys().collect())
    }

    /// The same with what `repo-ls` says of each; or those of one backup.
    async fn entries(&self, label: Option<&str>) -> Result<BTreeMap<String, Value>, EngineError> {
        let label = label.map(str::to_owned);
        let tool = self.tool(Command::ListBackups { label });
        let (text, ended) = call::read(&tool, MAX_NAMES, self.silence).await?;
        call::outcome("repo-ls", ended)?;
        let read: Result<BTreeMap<String, Value>, _> = serde_json::from_slice(&text);
        let odd = |error| InfoError::new(format!("its JSON cannot be read: {error}"));
        read.map_err(odd).map_err(says("repo-ls"))
    }
}

impl Info {
    /// Whether a name is that of a backup which is not in the list.
    fn lacks(&self, name: &str) -> bool {
        label_type(name).is_ok() && self.backup(name).is_none()
    }

    /// Keeps the backups that are among the names and based only on such; the others are gone.
    fn take_out(&mut self, names: &BTreeSet<String>) {
        let (there, gone) = std::mem::take(&mut self.backups).into_iter().partition(|backup| {
            let mut needed = std::iter::once(&backup.label).chain(&backup.references);
            needed.all(|label| names.contains(label))
        });
        (self.backups, self.gone) = (there, gone);
    }
}
