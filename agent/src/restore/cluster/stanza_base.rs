//! A backup restored by pgBackRest, within a recovery of ours.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result};
use drctl_engines::pg::physical::{Layout, end_orphan};
use rustix::io::{FdFlags, fcntl_setfd};

use super::{RecoveryState, STOP_PATIENCE, Step};
use crate::engine::pgbackrest::StanzaView;
use crate::host::files::discard;
use crate::host::locks::{Taken, take_file};
use crate::host::{AgentError, Meter, Stop, crash_point};

/// Restores a backup as a whole, or anew: what an attempt that broke off has left is removed. What
/// lies there then was compared by pgBackRest with its own digests, file by file.
///
/// # Errors
/// pgBackRest's; [`AgentError::Interrupted`]; [`AgentError::Target`] while the one that an earlier attempt
/// started still writes there.
pub(crate) async fn restore_base(
    stanza: &StanzaView,
    label: &str,
    state: &mut RecoveryState,
    meter: &Meter,
    stop: &Stop,
) -> Result<()> {
    if state.step() != Step::Extracting {
        return Ok(());
    }
    let layout = Layout::new(state.directory());
    end_orphan(&layout, STOP_PATIENCE).await?;
    let held = hold(state.directory())?;
    crash_point("recovery-begun");
    for left in [layout.data(), state.directory().join("tablespaces")] {
        discard(&left)?;
    }
    meter.label(format!("pgBackRest restores {label}"));
    let done = tokio::select! {
        done = stanza.backrest.restore(label, &layout) => done,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    done.with_context(|| format!("restore {label}"))?;
    drop(held);
    crash_point("recovery-extracted");
    state.reach(Step::Replaying)
}

/// A lock that pgBackRest holds with us: it outlives a drctl that is killed, and would write among
/// the files of the next one. Its own lock does not keep two from one directory.
fn hold(directory: &Path) -> Result<File> {
    let path = directory.join("pgbackrest.lock");
    let taken = take_file(&path);
    let file = match taken.with_context(|| format!("take the lock {}", path.display()))? {
        Taken::Ours(file) => file,
        Taken::Held(_) => {
            return Err(AgentError::Target(format!(
                "the pgBackRest of an earlier attempt still writes into {}: go on when it has ended \
                 (`ps -ef | grep pgbackrest` shows it)",
                directory.display()
            ))
            .into());
        }
    };
    // Children inherit it.
    fcntl_setfd(&file, FdFlags::empty()).context("share the lock")?;
    Ok(file)
}
