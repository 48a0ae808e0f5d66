//! The history of the plan's timeline, where the server finds what no archive delivers.

use std::path::Path;

use anyhow::{Context as _, Result};
use drctl_engines::Below;
use drctl_engines::pg::physical::Layout;
use drctl_model::Timeline;

use super::RecoverRequest;

/// What it is called until it is whole.
const PART: &str = "drctl-history.part";

/// Leaves it in `pg_wal` of a cluster that pgBackRest has restored, which brings none along. The
/// server asks for its WAL first, and wants this file for every timeline but the first. It tells
/// what the plan is based on: nothing of what came before, where nobody knows that.
///
/// # Errors
/// The file system's.
pub(super) fn leave_history(request: &RecoverRequest<'_>, layout: &Layout) -> Result<()> {
    let timeline = request.plan.timeline;
    if request.known.stanza.is_none() || timeline == Timeline::FIRST {
        return Ok(());
    }
    let history = request.known.archive.history(timeline).context("the plan's history is gone")?;
    let name = format!("{:08X}.history", timeline.id());
    let write = || {
        let log = Below::open(&layout.data())?.enter(Path::new("pg_wal"))?;
        log.replace(PART, Path::new(&name), history.text().as_bytes())
    };
    write().with_context(|| format!("write {name} into pg_wal"))
}
