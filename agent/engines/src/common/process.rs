//! Child processes: a private environment, a process group of their own, an end that is awaited.

mod group;
mod output;
mod running;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;

pub(super) use group::Group;
pub use group::kill_tools;
pub(crate) use output::ToolOutput;
pub(super) use running::wished;
pub(crate) use running::{Ended, Running, Stopper};

use super::EngineError;
use super::helper::Ask;
use super::runs;

/// What a pipe to or from a tool holds; what any user may ask for unless the system says otherwise.
const PIPE_BYTES: usize = 1 << 20;

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
    /// Whose helper starts it, and what that is asked for: then nothing else of it counts.
    elsewhere: Option<Ask>,
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
        Tool { name, program, args: Vec::new(), env, activity: None, elsewhere: None }
    }

    /// One that the helper of another account starts.
    pub(crate) fn asked_for(name: &'static str, ask: Ask) -> Self {
        let (program, env) = (PathBuf::from(name), Vec::new());
        Tool { name, program, args: Vec::new(), env, activity: None, elsewhere: Some(ask) }
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
    pub(crate) fn start_writer(&self) -> Result<(ToolOutput, Running), EngineError> {
        if let Some(ask) = &self.elsewhere {
            let (output, running) = ask.start_writer(self)?;
            return Ok((read_of(output, &running), running));
        }
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = self.spawn(&mut command)?;
        let output = child.stdout.take().ok_or_else(|| self.no_pipe())?;
        let running = Running::new(self, child);
        Ok((read_of(output, &running), running))
    }

    /// Starts the tool; its input is for us to write.
    pub(crate) fn start_reader(&self) -> Result<(ChildStdin, Running), EngineError> {
        if self.elsewhere.is_some() {
            return Err(self.no_pipe());
        }
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = self.spawn(&mut command)?;
        let input = child.stdin.take().ok_or_else(|| self.no_pipe())?;
        widen(&input);
        Ok((input, Running::new(self, child)))
    }

    /// Runs the tool without input and without an output that matters.
    pub(crate) fn start_alone(&self) -> Result<Running, EngineError> {
        if let Some(ask) = &self.elsewhere {
            return ask.start(self, None);
        }
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Running::new(self, self.spawn(&mut command)?))
    }

    /// Starts the tool for somebody else, whose pipes it writes into; without one for its output that
    /// goes nowhere.
    pub(super) fn start_into(
        &self,
        output: Option<OwnedFd>,
        errors: OwnedFd,
    ) -> Result<Running, EngineError> {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(output.map_or_else(Stdio::null, Stdio::from));
        command.stderr(errors);
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

fn read_of(output: ChildStdout, running: &Running) -> ToolOutput {
    widen(&output);
    ToolOutput::new(output, running.taken())
}

/// Lets a pipe hold more than the 64 KiB that it holds at first: fewer wake-ups on both sides.
/// Where that is not allowed the pipe stays as it is.
fn widen(pipe: &impl AsFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES);
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::running::STDERR_LINES;
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
    async fn what_holds_the_output_of_a_tool_that_has_ended_is_borne_while_it_writes() {
        let silence = Duration::from_secs(3);
        let over = async |script: &str| {
            let (mut output, running) = sh(script).start_writer().unwrap();
            let mut text = String::new();
            let reading = async {
                let read = output.read_to_string(&mut text).await;
                read.map_err(EngineError::io("read it"))
            };
            running.watch().over(silence, reading).await.map(|_| text)
        };
        let writes = "(for i in 1 2 3 4; do sleep 2; echo $i; done) & exit 0";
        assert_eq!(over(writes).await.unwrap(), "1\n2\n3\n4\n");
        let error = over("sleep 600 & exit 0").await.unwrap_err();
        assert!(matches!(error, EngineError::Held { .. }), "{error}");
        // What was read to its end nothing holds: our own work with it may take its time.
        let (mut output, running) = sh("echo x").start_writer().unwrap();
        let working = async {
            let read = output.read_to_end(&mut Vec::new()).await;
            sh("sleep 9").start_alone().unwrap().wait().await.unwrap();
            read.map_err(EngineError::io("read it"))
        };
        assert_eq!(running.watch().over(silence, working).await.unwrap(), 2);
        // A thread that reads ends soon after nobody wants it any more.
        let (output, running) = sh("sleep 600").start_writer().unwrap();
        let (mut output, wanted) = output.blocking().unwrap();
        let reads = tokio::task::spawn_blocking(move || io::Read::read(&mut output, &mut [0; 8]));
        drop(wanted);
        assert!(reads.await.unwrap().is_err());
        drop(running);
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
