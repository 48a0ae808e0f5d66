//! One agent for each state directory: two would both back the same sources up.

use std::fs::File;

use anyhow::Result;

use crate::host::locks::{claim, is_locked};
use crate::host::{AgentError, Setup};

/// The lock's name in the state directory. No source has it: names of sources have no capital letter.
const LOCK: &str = "AGENT.lock";

/// Held for as long as this process is the agent of its state directory.
#[derive(Debug)]
pub(super) struct Single(#[allow(dead_code, reason = "held, never read")] File);

impl Single {
    /// Becomes the agent of the state directory.
    ///
    /// # Errors
    /// [`AgentError::SecondAgent`]; the file system's.
    pub(super) fn become_it(setup: &Setup) -> Result<Self> {
        let state = &setup.config.paths.state_dir;
        setup.private_directory(state)?;
        let held = |holder| AgentError::SecondAgent(state.clone(), holder);
        Ok(Single(claim(&state.join(LOCK))?.map_err(held)?))
    }
}

/// Whether an agent runs on a state directory; nothing where that cannot be seen.
pub(crate) fn is_running(setup: &Setup) -> Option<bool> {
    is_locked(&setup.config.paths.state_dir.join(LOCK))
}
