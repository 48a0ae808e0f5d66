//! Child processes: a private environment, a process group of their own, an end that is awaited.

mod group;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use drctl_model::shown;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use group::Group;
pub use group::kill_tools;

use super::EngineError;
use super::Stderr;
use super::runs;

/// The most bytes of a tool's standard error that are kept; all of it is read.
const STDERR_BYTES: usize = 16 << 10;

/// The most lines of it that an error shows.
const STDERR_LINES: usize = 12;

/// What a pipe to or from a tool holds; what any user may ask for unless the system says otherwise.
const PIPE_BYTES: usize = 1 << 20;

/// The most characters of such a line that a log shows.
const LINE_SHOWN: usize = 500;

/// How long a tool may take to end after `SIGTERM` before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait for the rest of a tool's messages when it has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A task that ends with its handle.
#[derive(Debug)]
pub(crate) struct OwnedTask<T>(JoinHandle<T>);

impl<T: Send + 'static> OwnedTask<T> {
    pub(crate) fn spawn(work: impl Future<Output = T> + Send + 'static) -> Self {
        OwnedTask(tokio::spawn(work))
    }

    /// The result; `None` when the task panicked or was aborted.
    pub(crate) async fn join(mut self) -> Option<T> {
        (&mut self.0).await.ok()
    }
}

impl<T> Drop for OwnedTask<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A program to be run, with all that it may see.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(Cow<'static, str>, OsString)>,
    /// What shows what the server does that it works with.
    activity: Option<&'static str>,
}

/// Where programs are looked for: as this process was told.
pub(crate) fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into())
}

impl Tool {
    /// A tool that sees nothing of our environment but `PATH` and `TZ`, and speaks English.
    pub(crate) fn new(name: &'static str, program: PathBuf) -> Self {
        let path = search_path();
        let mut env = vec![("PATH".into(), path), ("LC_ALL".into(), "C".into())];
        env.extend(std::env::var_os("TZ").map(|zone| ("TZ".into(), zone)));
        Tool { name, program, args: Vec::new(), env, activity: None }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args(self, args: &[impl AsRef<OsStr>]) -> Self {
        args.iter().fold(self, |tool, arg| tool.arg(arg))
    }

    pub(crate) fn env(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<OsString>,
    ) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The same that works with a server; `activity` shows what that does.
    pub(crate) fn with_server(self, activity: &'static str) -> Self {
        Tool { activity: Some(activity), ..self }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(self.env.iter().map(|(k, v)| (k.as_ref(), v)));
        command.process_group(0).kill_on_drop(true).stderr(Stdio::piped());
        command
    }

    /// Starts the tool; its output is for us to read.
    pub(crate) fn start_writer(&self) -> Result<(ChildStdout, Running), EngineError> {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = self.spawn(&mut command)?;
        let output = child.stdout.take().ok_or_else(|| self.no_pipe())?;
        widen(&output);
        Ok((output, Running::new(self, child)))
    }

    /// Starts the tool; its input is for us to write.
    pub(crate) fn start_reader(&self) -> Result<(ChildStdin, Running), EngineError> {
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = self.spawn(&mut command)?;
        let input = child.stdin.take().ok_or_else(|| self.no_pipe())?;
        widen(&input);
        Ok((input, Running::new(self, child)))
    }

    /// Runs the tool without input and without an output that matters.
    pub(crate) fn start_alone(&self) -> Result<Running, EngineError> {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Running::new(self, self.spawn(&mut command)?))
    }

    fn spawn(&self, command: &mut Command) -> Result<Child, EngineError> {
        runs(&self.program)?;
        let action = format!("start {}", self.program.display());
        command.spawn().map_err(EngineError::io(action))
    }

    fn no_pipe(&self) -> EngineError {
        EngineError::Config(format!("{} was started without a pipe", self.name))
    }
}

/// Lets a pipe hold more than the 64 KiB that it holds at first: fewer wake-ups on both sides.
/// Where that is not allowed the pipe stays as it is.
fn widen(pipe: &impl AsFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES);
}

/// How a tool ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) name: &'static str,
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

impl Ended {
    /// An error unless the exit status is 0.
    pub(crate) fn success(self) -> Result<(), EngineError> {
        if self.status.success() {
            // A tool that left something out says so here, and ends with 0 all the same.
            for line in last_lines(&self.stderr).lines() {
                tracing::warn!("{} says: {}", self.name, shown(line, LINE_SHOWN));
            }
            return Ok(());
        }
        let status = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "no exit status".to_owned(),
        };
        let source = Stderr(last_lines(&self.stderr));
        Err(EngineError::ToolFailed { tool: self.name, status, source })
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    lines[lines.len().saturating_sub(STDERR_LINES)..].join("\n")
}

/// A tool that runs. Dropped, it is killed with all its children.
#[derive(Debug)]
pub(crate) struct Running {
    name: &'static str,
    activity: Option<&'static str>,
    group: Arc<Group>,
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
    task: OwnedTask<std::io::Result<(ExitStatus, String)>>,
}

impl Running {
    fn new(tool: &Tool, mut child: Child) -> Self {
        let group = Arc::new(Group::of(&child));
        let (stop, stopping) = watch::channel(false);
        let (ending, ended) = watch::channel(false);
        let stderr = child.stderr.take().map(|pipe| OwnedTask::spawn(tail(pipe)));
        let supervised = Arc::clone(&group);
        let task = OwnedTask::spawn(async move {
            let status = supervise(&mut child, &supervised, stopping).await;
            let said = match stderr {
                Some(stderr) => timeout(LAST_WORDS, stderr.join()).await.ok().flatten(),
                None => None,
            };
            let _ = ending.send(true);
            Ok((status?, said.unwrap_or_default()))
        });
        Running { name: tool.name, activity: tool.activity, group, stop, ended, task }
    }

    /// A handle that can end the tool while another one awaits it.
    pub(crate) fn stopper(&self) -> Stopper {
        Stopper { stop: self.stop.clone(), ended: self.ended.clone() }
    }

    /// A handle that watches the tool while another one awaits it.
    pub(crate) fn watch(&self) -> Watch {
        Watch { name: self.name, activity: self.activity, group: Arc::clone(&self.group) }
    }

    /// Waits until the tool has ended by itself, as long as it works.
    pub(crate) async fn wait_working(self, silence: Duration) -> Result<Ended, EngineError> {
        let watch = self.watch();
        watch.over(silence, self.wait()).await
    }

    /// One that answers at once.
    pub(crate) async fn wait_shortly(self) -> Result<Ended, EngineError> {
        self.wait_within(AT_ONCE).await
    }

    /// Waits until the tool has ended by itself.
    pub(crate) async fn wait(mut self) -> Result<Ended, EngineError> {
        let lost = || std::io::Error::other("the task that waits for it has ended");
        let result = (&mut self.task.0).await.unwrap_or_else(|_| Err(lost()));
        let (status, stderr) = result.map_err(EngineError::io(format!("await {}", self.name)))?;
        Ok(Ended { name: self.name, status, stderr })
    }

    /// The same, where nothing keeps it from ending; killed if it does not.
    pub(crate) async fn wait_within(self, waited: Duration) -> Result<Ended, EngineError> {
        let (tool, activity) = (self.name, self.activity);
        let silent = EngineError::Silent { tool, waited, activity };
        timeout(waited, self.wait()).await.unwrap_or(Err(silent))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.group.signal(Signal::KILL);
    }
}

/// Watches a tool that something else awaits.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    name: &'static str,
    activity: Option<&'static str>,
    group: Arc<Group>,
}

impl Watch {
    /// Does work that waits for the tool; an error where it lasts, and neither the tool nor one of
    /// its children has done anything for so long. Whoever computes, reads or writes is let work:
    /// it may have nothing to say for hours.
    pub(crate) async fn over<T>(
        self,
        silence: Duration,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let mut work = pin!(work);
        let mut seen = self.group.done();
        loop {
            if let Ok(done) = timeout(silence, &mut work).await {
                return done;
            }
            let done = self.group.done();
            if done == seen {
                self.group.signal(Signal::KILL);
                let (tool, activity) = (self.name, self.activity);
                return Err(EngineError::Silent { tool, waited: silence, activity });
            }
            seen = done;
        }
    }
}

/// Does what waits for a disk or a process, and keeps no worker of the runtime from its other tasks.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// How long a tool may take that answers at once.
const AT_ONCE: Duration = Duration::from_secs(60);

/// What a tool that answers at once has to say. One that does not is killed, and is an error.
pub(crate) fn told(command: &mut std::process::Command) -> io::Result<Output> {
    runs(Path::new(command.get_program())).map_err(io::Error::other)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn()?;
    let leader = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (answer, answered) = mpsc::channel();
    // One whose disk does not answer cannot even be killed: nobody waits for it here.
    thread::spawn(move || answer.send(child.wait_with_output()));
    blocking(|| answered.recv_timeout(AT_ONCE)).unwrap_or_else(|_| {
        if let Some(leader) = leader {
            let _ = kill_process_group(leader, Signal::KILL);
        }
        let text = format!("it did not end within {} s", AT_ONCE.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

/// Ends a tool that something else awaits.
#[derive(Debug, Clone)]
pub(crate) struct Stopper {
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

impl Stopper {
    /// Asks the tool to end, kills it after a grace period, and waits until it is gone.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        // The other error, a closed channel, means that the task and the tool are gone.
        let _ = timeout(GRACE + LAST_WORDS + LAST_WORDS, self.ended.wait_for(|ended| *ended)).await;
    }
}

async fn supervise(
    child: &mut Child,
    group: &Group,
    mut stopping: watch::Receiver<bool>,
) -> std::io::Result<ExitStatus> {
    let status = tokio::select! {
        status = child.wait() => status,
        true = asked(&mut stopping) => {
            group.signal(Signal::TERM);
            match timeout(GRACE, child.wait()).await {
                Ok(status) => status,
                Err(_) => {
                    group.signal(Signal::KILL);
                    child.wait().await
                }
            }
        }
    };
    group.ended();
    status
}

async fn asked(stopping: &mut watch::Receiver<bool>) -> bool {
    stopping.wait_for(|stop| *stop).await.is_ok()
}

/// Reads to the end and keeps the last bytes.
async fn tail(mut pipe: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = pipe.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..n]);
        kept.drain(..kept.len().saturating_sub(STDERR_BYTES));
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Tool {
        Tool::new("sh", "/bin/sh".into()).args(&["-c", script])
    }

    #[tokio::test]
    async fn a_failure_tells_status_and_last_lines() {
        let script = "i=0; while [ $i -lt 5000 ]; do echo line $i >&2; i=$((i+1)); done; exit 3";
        let running = sh(script).start_alone().unwrap();
        let error = running.wait().await.unwrap().success().unwrap_err();
        assert_eq!(error.to_string(), "sh failed (exit status 3)");
        let said = std::error::Error::source(&error).unwrap().to_string();
        assert!(said.ends_with("line 4999") && said.lines().count() == STDERR_LINES, "{said}");
    }

    #[tokio::test]
    async fn a_signal_is_told() {
        let ended = sh("kill -9 $$").start_alone().unwrap().wait().await.unwrap();
        assert_eq!(ended.success().unwrap_err().to_string(), "sh failed (killed by signal 9)");
    }

    #[tokio::test]
    async fn the_environment_is_ours_alone() {
        let (mut output, running) = sh("env").env("PGAPPNAME", "x").start_writer().unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).await.unwrap();
        running.wait().await.unwrap().success().unwrap();
        let allowed = ["PATH", "LC_ALL", "TZ", "PGAPPNAME", "PWD", "OLDPWD", "SHLVL", "_"];
        for line in text.lines() {
            let name = line.split('=').next().unwrap_or_default();
            assert!(allowed.contains(&name), "{line}");
        }
    }

    #[tokio::test]
    async fn a_tool_that_does_not_end_is_killed() {
        let (mut output, running) = sh("sleep 600 & sleep 600").start_writer().unwrap();
        let error = running.wait_within(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.code(), "silent");
        assert_eq!(output.read(&mut [0; 8]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_tool_that_does_nothing_is_given_up_and_one_that_works_is_not() {
        let silence = Duration::from_millis(300);
        for idle in ["sleep 600", "sleep 600 & wait", "kill -STOP $$"] {
            let running = sh(idle).start_alone().unwrap();
            assert_eq!(running.wait_working(silence).await.unwrap_err().code(), "silent", "{idle}");
        }
        // It says nothing, and a child of it reckons or writes.
        let (loops, writes) = ("i=0; while [ $i -lt 2000000 ]; do i=$((i+1)); done", "exit 7");
        for work in [format!("{loops}; {writes}"), format!("({loops}) & wait; {writes}")] {
            let ended = sh(&work).start_alone().unwrap().wait_working(silence).await.unwrap();
            assert_eq!(ended.status.code(), Some(7), "{work}");
        }
    }

    #[tokio::test]
    async fn stopping_ends_the_whole_group() {
        let (mut output, running) = sh("sleep 600 & sleep 600").start_writer().unwrap();
        running.stopper().stop().await;
        // The pipe closes only when all who hold it are gone.
        assert_eq!(output.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(running.wait().await.unwrap().success().is_err());
    }

    #[tokio::test]
    async fn dropping_kills_the_whole_group() {
        let (mut output, running) = sh("sleep 600 & sleep 600").start_writer().unwrap();
        drop(running);
        assert_eq!(output.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
