//! A restored cluster's server that outlived whoever started it: ours, or somebody else's.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::{Instant, sleep};

use super::Layout;
use super::guard::unguard;
use super::links::no_links;
use super::places::{leave_sandbox, settle};
use super::private::{forget, sweep_one};
use super::surroundings::read_plain;
use crate::common::EngineError;

/// How often it is looked whether it is gone.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The setting by which a server of ours is known: no two have the same private directory.
pub(super) const SOCKETS: &str = "unix_socket_directories";

/// The value of that setting: a list, in which a comma or a quote in a name has to be told.
pub(super) fn sockets(private: &Path) -> String {
    let name = private.display().to_string();
    match name.contains([',', '"']) || name.trim() != name {
        true => format!("\"{}\"", name.replace('"', "\"\"")),
        false => name,
    }
}

/// A server that runs on a restored cluster.
#[derive(Debug)]
pub struct Orphan {
    pid: Pid,
    /// The process itself: its number may be given to another one.
    process: Option<OwnedFd>,
    socket: PathBuf,
    ours: bool,
}

impl Orphan {
    /// The number of its process.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// The directory of its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether a recovery in this very directory has started it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.ours
    }
}

fn note(layout: &Layout) -> PathBuf {
    layout.data().with_file_name("recovery.server")
}

/// Notes the private directory of a server that is about to be started, which is how it is known
/// again.
pub(super) fn note_own(layout: &Layout, private: &Path) -> Result<(), EngineError> {
    let path = note(layout);
    // That of an attempt before this one may lie elsewhere.
    sweep_one(Path::new(&read_plain(&path).unwrap_or_default()));
    let written = fs::write(&path, private.display().to_string());
    written.map_err(EngineError::io(format!("write {}", path.display())))
}

/// The server that was started on this private directory, while it runs: in a sandbox or not. The number
/// that it knows itself by is that of its sandbox.
pub(super) fn server_of(private: &Path) -> Option<Pid> {
    if private.as_os_str().is_empty() {
        return None;
    }
    let wanted = format!("{SOCKETS}={}", sockets(private));
    let is_it = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        // The sandbox that it runs in has the same words in its own line.
        words.next().is_some_and(|program| program.ends_with(b"/postgres"))
            && words.any(|word| word == wanted.as_bytes())
    };
    let entries = fs::read_dir("/proc").ok()?;
    let mut numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.find(is_it).and_then(Pid::from_raw)
}

/// The server that runs on this cluster, if there is one.
///
/// One that this recovery has started is known by its private directory, which was noted. For any
/// other one `postmaster.pid` (`miscinit.c`) tells its process in the first line and its socket's
/// directory in the fifth. After a crash that process may be another's: it must work in this very
/// data directory, as a postmaster does.
#[must_use]
pub fn orphan(layout: &Layout) -> Option<Orphan> {
    let noted = PathBuf::from(fs::read_to_string(note(layout)).unwrap_or_default());
    if let Some(pid) = server_of(&noted) {
        // Held before it is looked at once more: what is seen then is of this process.
        let process = pidfd_open(pid, PidfdFlags::empty()).ok();
        if server_of(&noted) == Some(pid) {
            return Some(Orphan { pid, process, socket: noted, ours: true });
        }
    }
    let data = fs::canonicalize(layout.data()).ok()?;
    let text = read_plain(&data.join("postmaster.pid"))?;
    let mut lines = text.lines();
    let number: i32 = lines.next()?.trim().parse().ok()?;
    let pid = Pid::from_raw(number)?;
    let socket = PathBuf::from(lines.nth(3).unwrap_or_default().trim());
    // Held before it is looked at: what is seen then is of this process and no later one.
    let process = pidfd_open(pid, PidfdFlags::empty()).ok();
    match fs::read_link(format!("/proc/{number}/cwd")) {
        Ok(works_in) if works_in == data => {}
        Ok(_) => return None,
        // Another account's: none that we have started.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let name = fs::read_to_string(format!("/proc/{number}/comm")).unwrap_or_default();
            if !name.starts_with("postgres") {
                return None;
            }
        }
        Err(_) => return None,
    }
    Some(Orphan { pid, process, socket, ours: false })
}

/// Ends the server that a recovery has left running on this cluster, if there is one, cleanly;
/// waits for it up to `patience`. Says whether there was one. Somebody else's is left alone.
///
/// # Errors
/// [`EngineError::Io`] for one that does not end.
pub async fn end_orphan(layout: &Layout, patience: Duration) -> Result<bool, EngineError> {
    let Some(server) = orphan(layout).filter(Orphan::is_ours) else { return Ok(false) };
    let Orphan { process: Some(process), socket, .. } = server else { return Ok(false) };
    // A fast shutdown.
    let _ = pidfd_send_signal(&process, Signal::INT);
    let deadline = Instant::now() + patience;
    while orphan(layout).is_some_and(|server| server.is_ours()) {
        if Instant::now() > deadline {
            let late = std::io::Error::from(ErrorKind::TimedOut);
            return Err(EngineError::io("stop the server of an earlier attempt")(late));
        }
        sleep(LOOK_EVERY).await;
    }
    // Its socket is gone; what stays are the files with the rules of access.
    forget(&socket);
    out_of_the_sandbox(layout)?;
    Ok(true)
}

/// Takes a cluster on which no server runs out of its sandbox, if it is in one: its tablespaces are where
/// its links say. In a sandbox or not, its configuration is its own then. There are no other links in it.
///
/// # Errors
/// [`EngineError::Config`] for tablespaces that lead elsewhere, and for links that no base backup
/// brings; [`EngineError::Io`].
pub fn out_of_the_sandbox(layout: &Layout) -> Result<(), EngineError> {
    if layout.sandbox_root().exists() {
        settle(layout)?;
        leave_sandbox(layout);
    }
    unguard(layout)?;
    no_links(layout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_server_that_is_gone_or_of_another_process_is_no_server() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::new(place.path());
        fs::create_dir(layout.data()).unwrap();
        assert!(orphan(&layout).is_none());
        let file = layout.data().join("postmaster.pid");
        // Nobody's number; that of a process which works elsewhere; no number at all.
        for text in ["999999999\n", &format!("{}\n/x\n1\n5432\n/y\n", std::process::id()), "x"] {
            fs::write(&file, text).unwrap();
            assert!(orphan(&layout).is_none(), "{text}");
        }
    }

    #[test]
    fn a_process_that_works_there_is_ours_only_if_it_was_noted() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::new(place.path());
        fs::create_dir(layout.data()).unwrap();
        let mut child = std::process::Command::new("sleep");
        let mut child = child.arg("60").current_dir(layout.data()).spawn().unwrap();
        let lines = format!("{}\n/x\n1\n5432\n/y\n", child.id());
        fs::write(layout.data().join("postmaster.pid"), lines).unwrap();
        note_own(&layout, Path::new("/tmp/drctl-recovery-x")).unwrap();
        let found = orphan(&layout);
        child.kill().unwrap();
        child.wait().unwrap();
        let found = found.expect("it works there");
        assert!(!found.is_ours());
        assert_eq!(u32::try_from(found.id()).unwrap(), child.id());
    }
}
