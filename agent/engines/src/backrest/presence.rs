//! Whether the files of backups are there that pgBackRest's list names: its `info` reads the list
//! alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{BackRest, Info, InfoError, MAX_ANSWER, call, checked, says};
use crate::common::EngineError;

/// The list of backups and its copy: one of them is there wherever backups are.
const LISTS: [&str; 2] = ["backup.info", "backup.info.copy"];

/// What a backup's directory holds beside its manifest.
const DATA: [&str; 2] = ["pg_data", "bundle"];

impl BackRest {
    /// Takes out of `info` what has no directory in the repository, and what is based on that.
    pub(super) async fn look_for_files(&self, info: Info) -> Result<Info, EngineError> {
        if info.backups.is_empty() {
            return Ok(info);
        }
        let names = self.names_in("").await?;
        if !LISTS.iter().any(|list| names.contains(*list)) {
            let text =
                "the directory of the backups has no backup.info: the repository may be away";
            return Err(says("repo-ls")(InfoError::new(text)));
        }
        if info.backups.iter().all(|backup| names.contains(&backup.label)) {
            return Ok(info);
        }
        // An expiry takes a backup out of the list before it removes the directory.
        let mut info = self.listed().await?;
        info.take_out(&names);
        Ok(info)
    }

    /// What a backup's directory lacks; nothing where its manifest and its data are there. No file
    /// is read.
    ///
    /// # Errors
    /// [`BackRestError::Failed`](super::BackRestError::Failed) and [`EngineError::Silent`] where
    /// pgBackRest fails.
    pub async fn lacks(&self, label: &str) -> Result<Option<String>, EngineError> {
        let names = self.names_in(&format!("/{}", checked(label)?)).await?;
        if !names.contains("backup.manifest") {
            return Ok(Some(format!("the backup {label} has no backup.manifest any more")));
        }
        let has_data = DATA.iter().any(|name| names.contains(*name));
        Ok((!has_data).then(|| format!("the files of the backup {label} are gone (pg_data)")))
    }

    /// The names in a directory below that of the stanza's backups.
    async fn names_in(&self, below: &str) -> Result<BTreeSet<String>, EngineError> {
        let folder = format!("backup/{}{below}", self.stanza);
        let tool = self.quiet("repo-ls").args(&["--output=json", &folder]);
        let (text, ended) = call::read(&tool, MAX_ANSWER, self.silence).await?;
        call::outcome("repo-ls", ended)?;
        let read: Result<BTreeMap<String, Value>, _> = serde_json::from_slice(&text);
        let odd = |error| InfoError::new(format!("its JSON cannot be read: {error}"));
        Ok(read.map_err(odd).map_err(says("repo-ls"))?.into_keys().collect())
    }
}

impl Info {
    /// Keeps the backups that are among the names and based only on such; the others are gone.
    fn take_out(&mut self, names: &BTreeSet<String>) {
        let (there, gone) = std::mem::take(&mut self.backups).into_iter().partition(|backup| {
            let mut needed = std::iter::once(&backup.label).chain(&backup.references);
            needed.all(|label| names.contains(label))
        });
        (self.backups, self.gone) = (there, gone);
    }
}
