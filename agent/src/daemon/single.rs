//! One agent for each state directory: two would both back the same sources up.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};

use anyhow::{Context as _, Result};

use crate::host::locks::{Taken, is_locked, take_file};
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
        let path = state.join(LOCK);
        let taken = take_file(&path);
        let mut file = match taken.with_context(|| format!("take the lock {}", path.display()))? {
            Taken::Ours(file) => file,
            Taken::Held(file) => {
                let mut holder = String::new();
                let _ = file.take(200).read_to_string(&mut holder);
                let holder = holder.trim().to_owned();
                return Err(AgentError::SecondAgent(state.clone(), holder).into());
            }
        };
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "process {}", std::process::id())?;
        Ok(Single(file))
    }
}

/// Whether an agent runs on a state directory; nothing where that cannot be seen.
pub(crate) fn is_running(setup: &Setup) -> Option<bool> {
    is_locked(&setup.config.paths.state_dir.join(LOCK))
}
