//! The helper's side: a command is run for another account.

use super::command::cluster_of;
use super::{BackRest, Command, control};
use crate::common::{EngineError, Waiting, temporary};

impl BackRest {
    /// Runs a command for whoever waits for it, and tells how it ended; it is ended when he is gone, and
    /// when it is `over`. A file of the WAL is written into a directory of its own, and from there into
    /// the pipe that came with the request.
    pub async fn serve(&self, command: &Command, waiting: Waiting, over: impl Future<Output = ()>) {
        let Command::ArchiveGet { name, cluster } = command else {
            return waiting.run(&self.here(command), None, over).await;
        };
        let likeness = cluster.as_ref().map(|cluster| control::likeness(&cluster_of(cluster)));
        let made = likeness.transpose().and_then(|likeness| Ok((likeness.flatten(), folder()?)));
        let (likeness, folder) = match made {
            Ok(made) => made,
            Err(error) => return waiting.fail(&error).await,
        };
        let part = folder.path().join(name);
        let tool = self.segment_tool(command, likeness.as_ref(), name, &part);
        waiting.run(&tool, Some(&part), over).await;
    }
}

/// A directory of ours for one file.
fn folder() -> Result<tempfile::TempDir, EngineError> {
    let folder = tempfile::Builder::new().prefix("drctl-wal-").tempdir_in(temporary()?);
    folder.map_err(EngineError::io("make a temporary directory"))
}
