//! The sandbox of a restored server, as this host can make one.

use std::sync::Arc;

use anyhow::Result;
use drctl_engines::sandbox::{Limits, Sandbox, look_for_sandbox};

use crate::host::AgentError;

/// How a sandbox is made here, and what may be taken in it; nothing where that may be all.
///
/// # Errors
/// [`AgentError::NoSandbox`].
pub(crate) async fn sandbox(limits: Option<&Arc<Limits>>) -> Result<Sandbox> {
    let found = look_for_sandbox().await;
    let found = found.map_err(|no| AgentError::NoSandbox(no.missing, no.hint))?;
    Ok(found.limited(limits.cloned()))
}
