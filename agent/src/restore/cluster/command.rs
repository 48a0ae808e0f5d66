//! The commands by which a recovering server fetches its WAL, and what it needs beside them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::RecoverRequest;
use super::log_ahead::expected;
use crate::engine::pgbackrest::note_segments;
use crate::engine::wal::Ahead;
use crate::host::Setup;
use crate::host::shell::server_word;

/// Where WAL waits for the server, in the recovery's own directory.
pub(super) fn ahead(directory: &Path) -> Ahead {
    Ahead::new(&directory.join("ahead"))
}

/// Where it is noted which segments pgBackRest's archive has.
pub(super) fn segments(directory: &Path) -> PathBuf {
    directory.join("segments")
}

/// Notes it, where pgBackRest keeps the WAL.
pub(super) fn note_stanza(request: &RecoverRequest<'_>) -> Result<()> {
    let Some(stanza) = &request.known.stanza else { return Ok(()) };
    let system_id = request.known.system_id;
    let cluster = stanza.cluster(system_id).context("pgBackRest does not know the cluster")?;
    let all = stanza.archive(system_id).map_or(&[][..], |archive| &archive.segments);
    note_segments(&segments(&request.directory), &cluster.version, all)
}

/// The command by which the server that we watch asks us for its WAL, at this socket.
pub(super) fn take_command(socket: &Path, program: &Path) -> String {
    format!("{} wal take {} %f \"%p\"", server_word(program), server_word(socket))
}

/// What is not to be seen by the server of a recovery.
pub(super) fn hidden(request: &RecoverRequest<'_>) -> Vec<PathBuf> {
    let identity = request.identity.as_ref().map(|(path, _)| path.as_path());
    hidden_from_servers(request.setup, identity)
}

/// What is not to be seen by a server that has a restore's data, wherever it lies: keys, what opens the
/// bucket, the configuration, what we note.
pub(crate) fn hidden_from_servers(setup: &Setup, identity: Option<&Path>) -> Vec<PathBuf> {
    let mut all = setup.hidden();
    all.extend(identity.filter(|path| path.is_absolute()).map(Path::to_owned));
    all
}

/// The command by which a server that is started by hand fetches its WAL: it fails closed over all
/// that the plan needs.
pub(super) fn restore_command(request: &RecoverRequest<'_>, segment_bytes: u64) -> Result<String> {
    let program = std::env::current_exe().context("find drctl itself")?;
    let mut command = format!(
        "{} --config {} --quiet wal fetch {} %f \"%p\" --system-id {} --segment-bytes {segment_bytes} \
         --ahead {}",
        server_word(&program),
        server_word(&std::path::absolute(&request.setup.path)?),
        request.source,
        request.known.system_id,
        server_word(ahead(&request.directory).path()),
    );
    if let Some((path, _)) = &request.identity {
        command += &format!(" --identity {}", server_word(path));
    }
    if request.known.stanza.is_some() {
        command += &format!(" --segments {}", server_word(&segments(&request.directory)));
    }
    if let Some(bound) = request.plan.bound {
        command += &format!(" --until {bound}");
    }
    for one in expected(request.plan) {
        command += &format!(" --expect {one}");
    }
    Ok(command)
}
