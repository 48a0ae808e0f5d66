//! One file of the WAL out of pgBackRest's archive.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::fs::OpenOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::error::BackRestError;
use super::{BackRest, Cluster, Command, call, control, option};
use crate::common::EngineError;
use crate::common::process::{Ended, Tool};

/// The most bytes of a file of the WAL: a segment has no more.
const LARGEST: u64 = 1 << 30;

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
    /// [`BackRestError::Failed`]
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
        let whose = cluster.map(|cluster| (cluster.system_id, cluster.version.clone()));
        let command = Command::ArchiveGet { name: name.to_owned(), cluster: whose };
        let part = beside(to);
        let ended = match self.helper {
            Some(_) => self.received(command, &part).await,
            None => {
                let likeness = cluster.map(control::likeness).transpose()?.flatten();
                let tool = self.segment_tool(&command, likeness.as_ref(), name, &part);
                call::run(&tool, self.silence).await
            }
        };
        let result = match ended {
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

    /// The program that fetches a file here.
    pub(super) fn segment_tool(
        &self,
        command: &Command,
        likeness: Option<&TempDir>,
        name: &str,
        part: &Path,
    ) -> Tool {
        let mut tool = self.here(command);
        if let Some(likeness) = likeness {
            tool = tool.arg(option("pg1-path", likeness.path())).arg("--reset-pg1-host");
        }
        tool.arg(name).arg(part)
    }

    /// Has the helper fetch a file, and writes what comes of it.
    async fn received(&self, command: Command, part: &Path) -> Result<Ended, EngineError> {
        let (output, running) = self.tool(command).start_writer()?;
        let action = || format!("write {}", part.display());
        let receiving = async {
            let mut made = OpenOptions::new();
            made.write(true).create(true).truncate(true).mode(0o600);
            let mut file = made.open(part).await.map_err(EngineError::io(action()))?;
            let mut output = output.take(LARGEST + 1);
            let written = tokio::io::copy(&mut output, &mut file).await;
            let written = written.map_err(EngineError::io(action()))?;
            file.flush().await.map_err(EngineError::io(action()))?;
            Ok(written)
        };
        let written = running.watch().over(self.silence, receiving).await?;
        if written > LARGEST {
            let problem = format!("it writes more than {LARGEST} bytes");
            return Err(BackRestError::Says { command: "archive-get", problem }.into());
        }
        running.wait_working(self.silence).await
    }
}

/// A name beside a file, for as long as it is not whole.
fn beside(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".drctl-part");
    to.with_file_name(name)
}
