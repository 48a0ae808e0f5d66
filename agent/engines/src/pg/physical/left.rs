//! A restored cluster's server that outlived whoever started it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::time::{Instant, sleep};

use super::Layout;
use super::private::forget;
use crate::EngineError;

/// How often it is looked whether it is gone.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A server that runs on a restored cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    pid: Pid,
    socket: PathBuf,
}

impl Left {
    /// The directory of its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// The server that runs on this cluster, if there is one.
///
/// `postmaster.pid` (`miscinit.c`) tells its process in the first line and its socket's directory
/// in the fifth; after a crash that process may be another's, so that it must work in this very
/// data directory, which is what a postmaster does.
#[must_use]
pub fn left(layout: &Layout) -> Option<Left> {
    let data = fs::canonicalize(layout.data()).ok()?;
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let mut lines = text.lines();
    let pid: i32 = lines.next()?.trim().parse().ok()?;
    let socket = PathBuf::from(lines.nth(3).unwrap_or_default().trim());
    let works_in = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    (works_in == data).then_some(Left { pid: Pid::from_raw(pid)?, socket })
}

/// Ends the server that runs on this cluster, if there is one, cleanly; waits for it up to
/// `patience`. Says whether there was one.
///
/// # Errors
/// [`EngineError::Io`] for one that does not end.
pub async fn end_left(layout: &Layout, patience: Duration) -> Result<bool, EngineError> {
    let Some(Left { pid, socket }) = left(layout) else { return Ok(false) };
    // A fast shutdown.
    let _ = kill_process(pid, Signal::INT);
    let deadline = Instant::now() + patience;
    while test_kill_process(pid).is_ok() && left(layout).is_some() {
        if Instant::now() > deadline {
            let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Err(EngineError::io("stop the server of an earlier attempt")(late));
        }
        sleep(LOOK_EVERY).await;
    }
    // Its socket is gone; what stays are the files with the rules of access.
    forget(&socket);
    Ok(true)
}
