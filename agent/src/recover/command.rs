//! The command by which a recovering server fetches its log, and what it needs beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::RecoverRequest;
use super::log_ahead::expected;
use crate::backrest::note_segments;
use crate::wal::Ahead;

/// Where log waits for the server, in the recovery's own directory.
pub(super) fn ahead(directory: &Path) -> Ahead {
    Ahead::new(&directory.join("ahead"))
}

/// Where it is noted which segments pgBackRest's archive has.
fn segments(directory: &Path) -> PathBuf {
    directory.join("segments")
}

/// Notes it, where pgBackRest keeps the log.
pub(super) fn note_stanza(request: &RecoverRequest<'_>) -> Result<()> {
    let Some(stanza) = &request.known.stanza else { return Ok(()) };
    let system_id = request.known.system_id;
    let cluster = stanza.cluster(system_id).context("pgBackRest does not know the cluster")?;
    let all = stanza.archive(system_id).map_or(&[][..], |archive| &archive.segments);
    note_segments(&segments(&request.directory), &cluster.version, all)
}

/// The command by which the server fetches its log: it fails closed over all that the plan needs.
pub(super) fn restore_command(request: &RecoverRequest<'_>, segment_bytes: u64) -> Result<String> {
    let program = std::env::current_exe().context("find drctl itself")?;
    let quote = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let mut command = format!(
        "{} --config {} --quiet wal fetch {} %f \"%p\" --system-id {} --segment-bytes {segment_bytes} \
         --ahead {}",
        quote(&program.display().to_string()),
        quote(&std::path::absolute(&request.setup.path)?.display().to_string()),
        request.source,
        request.known.system_id,
        quote(&ahead(&request.directory).path().display().to_string()),
    );
    if let Some((path, _)) = &request.identity {
        command += &format!(" --identity {}", quote(&path.display().to_string()));
    }
    if request.known.stanza.is_some() {
        let path = segments(&request.directory).display().to_string();
        command += &format!(" --segments {}", quote(&path));
    }
    for one in expected(request.plan) {
        command += &format!(" --expect {one}");
    }
    Ok(command.replace("%%", "%").replace('%', "%%").replace("%%f", "%f").replace("%%p", "%p"))
}
