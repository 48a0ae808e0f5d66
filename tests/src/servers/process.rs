//! A server's process: what it says, when it is ready, and that it ends.
//!
//! A child asks the kernel to be killed when its parent dies. "Parent" there is the *thread* that
//! started it, and a test's thread ends before the process does: so one thread, which lives as
//! long as the process, starts all of them.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, BufRead, BufReader, PipeReader};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long a server may take until it is ready: much, for a machine that is busy with more.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// How long a server may take to end on the signal that it gets when it is dropped.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// A signal, by the name that `setpriv` has for it.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// Ends the process at once, its children uncared for.
    Kill,
    /// PostgreSQL: stop at once, and see that every child does.
    Quit,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            End::Kill => "KILL",
            End::Quit => "QUIT",
        }
    }

    fn signal(self) -> Signal {
        match self {
            End::Kill => Signal::KILL,
            End::Quit => Signal::QUIT,
        }
    }
}

/// A command for `program` that gets `end` when this test process dies; under `user`, if named.
pub(super) fn bound(program: impl AsRef<OsStr>, end: End, user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig").arg(end.name());
    if let Some(user) = user {
        command.arg(format!("--reuid={user}")).arg(format!("--regid={user}"));
        command.arg("--clear-groups");
    }
    command.arg("--").arg(program).stdin(Stdio::null());
    command
}

/// A running server.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    handle: OwnedFd,
    log: Arc<Log>,
    end: End,
}

impl Process {
    /// Starts `command` (made by [`bound`] with the same `end`), and waits until it says `ready`.
    pub(super) fn start(
        mut command: Command,
        end: End,
        ready: &str,
    ) -> Result<Process, StartError> {
        let program = format!("{command:?}");
        let (reader, writer) = io::pipe().expect("make a pipe");
        command.stdout(writer.try_clone().expect("clone a pipe")).stderr(writer);
        let child = spawn(command).unwrap_or_else(|error| panic!("start {program}: {error}"));
        let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("its handle");
        let log = Log::of(reader);
        let process = Process { child, handle, log, end };
        if process.log.wait_until(START_PATIENCE, |state| state.text.contains(ready)) {
            Ok(process)
        } else {
            Err(StartError { program, log: process.log() })
        }
    }

    /// What the server said so far, on standard output and standard error.
    pub(super) fn log(&self) -> String {
        self.log.lock().text.clone()
    }

    /// The server's process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, waits at most `patience` for the process to end, then kills it.
    ///
    /// Waits for its children too, as long as they hold its log open, for a while.
    pub(super) fn end(&mut self, signal: Signal, patience: Duration) {
        if self.child.try_wait().expect("ask for the child").is_none() {
            let sent = pidfd_send_signal(&self.handle, signal);
            if sent.is_err() || !ends(&self.handle, patience) {
                // It fails only when the process has ended just now: either way it is gone.
                let _ = self.child.kill();
            }
            self.child.wait().expect("wait for the child");
        }
        self.log.wait_until(END_PATIENCE, |state| state.closed);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end(self.end.signal(), END_PATIENCE);
    }
}

/// A server that did not get ready.
#[derive(Debug)]
pub(super) struct StartError {
    program: String,
    log: String,
}

impl StartError {
    /// Whether somebody else has the port.
    pub(super) fn port_is_taken(&self) -> bool {
        let said = self.log.to_lowercase();
        ["address already in use", "eaddrinuse", "port is already in use"]
            .iter()
            .any(|words| said.contains(words))
    }
}

#[cfg(test)]
impl StartError {
    pub(super) fn port_taken() -> StartError {
        StartError { program: String::new(), log: "Address already in use".to_owned() }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not ready: {}\nit said:\n{}", self.program, self.log)
    }
}

/// Waits until no process has this id; `false` if one still does after `patience`.
///
/// # Panics
/// When the id is not one, or the system does not answer.
pub fn wait_gone(pid: u32, patience: Duration) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => ends(&handle, patience),
        Err(rustix::io::Errno::SRCH) => true,
        Err(error) => panic!("ask for process {pid:?}: {error}"),
    }
}

/// Waits until the process behind `handle` ends; `false` if it has not after `patience`.
fn ends(handle: &OwnedFd, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("a short time");
        match poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("wait for a process: {error}"),
        }
    }
}

/// What a server said, kept up by a thread that reads it to its end.
#[derive(Debug, Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LogState {
    text: String,
    /// Whether no process has the log open any more.
    closed: bool,
}

impl Log {
    fn of(reader: PipeReader) -> Arc<Log> {
        let log = Arc::new(Log::default());
        let filled = Arc::clone(&log);
        thread::spawn(move || filled.fill(reader));
        log
    }

    fn fill(&self, reader: PipeReader) {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            self.lock().text.push_str(&String::from_utf8_lossy(&line));
            self.changed.notify_all();
            line.clear();
        }
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().expect("no reader panics")
    }

    /// Waits until `done`; `false` if the log ends or `patience` does before.
    fn wait_until(&self, patience: Duration, done: impl Fn(&LogState) -> bool) -> bool {
        let waits = |state: &mut LogState| !done(state) && !state.closed;
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), patience, waits)
            .expect("no reader panics");
        done(&state)
    }
}

type Order = (Command, Sender<io::Result<Child>>);

/// Starts a command from the thread that lives as long as the process.
fn spawn(command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, inbox) = channel();
        thread::spawn(move || start_all(&inbox));
        orders
    });
    let (answer, answered) = channel();
    starter.send((command, answer)).expect("the starter lives");
    answered.recv().expect("the starter answers")
}

fn start_all(inbox: &Receiver<Order>) {
    for (mut command, answer) in inbox {
        let started = command.spawn();
        // The command holds the log's writing end: while it lives the log does not end.
        drop(command);
        answer.send(started).expect("somebody waits for the answer");
    }
}
