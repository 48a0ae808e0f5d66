//! One file of the WAL out of pgBackRest's archive.

use std::path::{Path, PathBuf};

use super::{BackRest, Cluster, call, control, option};
use crate::common::EngineError;

/// What became of a file that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    /// It is there now, whole as far as pgBackRest checks.
    Delivered,
    /// pgBackRest has read the archive, and the file is not in it.
    Missing,
}

/// The exit status of `archive-get` for a file that is absent, and for nothing else.
const ABSENT: i32 = 1;

impl BackRest {
    /// Fetches a segment or a timeline's history to `to`, which is replaced whole or not at all.
    ///
    /// `cluster` says whose WAL it is: the files of a cluster that the stanza had before are found
    /// too, and no data directory of the source is needed, which may be gone. Without it pgBackRest
    /// looks into the data directory that its configuration names.
    ///
    /// # Errors
    /// [`BackRestError::Failed`](super::BackRestError::Failed)
    /// for every failure of pgBackRest; absence is none. Never take one
    /// for the end of the WAL.
    pub async fn get_segment(
        &self,
        cluster: Option<&Cluster>,
        name: &str,
        to: &Path,
    ) -> Result<Got, EngineError> {
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.') {
            return Err(EngineError::Config(format!("`{name}` is not the name of a WAL file")));
        }
        let likeness = cluster.map(control::likeness).transpose()?.flatten();
        let part = beside(to);
        let mut tool = self.quiet("archive-get").arg("--no-archive-async");
        if let Some(likeness) = &likeness {
            tool = tool.arg(option("pg1-path", likeness.path())).arg("--reset-pg1-host");
        }
        let tool = tool.arg(name).arg(&part);
        let result = match call::run(&tool, self.silence).await {
            Ok(ended) if ended.status.code() == Some(ABSENT) => Ok(Got::Missing),
            Ok(ended) => call::outcome("archive-get", ended).map(|_| Got::Delivered),
            Err(error) => Err(error),
        };
        if matches!(result, Ok(Got::Delivered)) {
            let renamed = tokio::fs::rename(&part, to).await;
            renamed.map_err(EngineError::io(format!("write {}", to.display())))?;
        } else {
            // It leaves the beginning of a segment that it could not read to its end.
            let _ = tokio::fs::remove_file(&part).await;
        }
        result
    }
}

/// A name beside a file, for as long as it is not whole.
fn beside(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".drctl-part");
    to.with_file_name(name)
}
