//! A child that runs: watched, ended, and how it ended.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use drctl_model::shown;
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::timeout;

use super::group::Group;
use super::output::Taken;
use super::{AT_ONCE, OwnedTask, Tool};
use crate::common::EngineError;
use crate::common::Stderr;

/// The most bytes of a tool's standard error that are kept; all of it is read.
const STDERR_BYTES: usize = 16 << 10;

/// The most lines of it that an error shows.
pub(super) const STDERR_LINES: usize = 12;

/// The most characters of such a line that a log shows.
const LINE_SHOWN: usize = 500;

/// How long a tool may take to end after `SIGTERM` before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait for the rest of a tool's messages when it has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long something that a tool started may hold its output open when the tool has ended.
const HELD: Duration = Duration::from_secs(30);

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
    taken: Arc<Taken>,
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
    task: OwnedTask<Result<(ExitStatus, String), EngineError>>,
}

impl Running {
    pub(super) fn new(tool: &Tool, mut child: Child) -> Self {
        let group = Arc::new(Group::of(&child));
        let stderr = child.stderr.take();
        let (name, supervised) = (tool.name, Arc::clone(&group));
        Running::begin(tool, group, stderr, |stopping| async move {
            let status = supervise(&mut child, &supervised, stopping).await;
            status.map_err(EngineError::io(format!("await {name}")))
        })
    }

    /// One that `attended` tells the end of, and ends when it is wished for.
    pub(in crate::common) fn begin<F>(
        tool: &Tool,
        group: Arc<Group>,
        stderr: Option<impl AsyncRead + Unpin + Send + 'static>,
        attended: impl FnOnce(watch::Receiver<bool>) -> F,
    ) -> Self
    where
        F: Future<Output = Result<ExitStatus, EngineError>> + Send + 'static,
    {
        let (stop, stopping) = watch::channel(false);
        let (ending, ended) = watch::channel(false);
        let stderr = stderr.map(|pipe| OwnedTask::spawn(tail(pipe)));
        let attended = attended(stopping);
        let task = OwnedTask::spawn(async move {
            let status = attended.await;
            let _ = ending.send(true);
            let said = match stderr {
                Some(stderr) => timeout(LAST_WORDS, stderr.join()).await.ok().flatten(),
                None => None,
            };
            Ok((status?, said.unwrap_or_default()))
        });
        let taken = Arc::default();
        Running { name: tool.name, activity: tool.activity, group, taken, stop, ended, task }
    }

    /// How much is read of what it writes.
    pub(super) fn taken(&self) -> Arc<Taken> {
        Arc::clone(&self.taken)
    }

    /// Has it give way to other processes.
    pub(in crate::common) fn give_way(&self, nice: i32) {
        self.group.give_way(nice);
    }

    /// A handle that can end the tool while another one awaits it.
    pub(crate) fn stopper(&self) -> Stopper {
        Stopper { stop: self.stop.clone(), ended: self.ended.clone() }
    }

    /// A handle that watches the tool while another one awaits it.
    pub(crate) fn watch(&self) -> Watch {
        let (group, taken) = (Arc::clone(&self.group), Arc::clone(&self.taken));
        Watch { name: self.name, activity: self.activity, group, taken, ended: self.ended.clone() }
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
        let lost = || io::Error::other("the task that waits for it has ended");
        let lost = |_| Err(EngineError::io(format!("await {}", self.name))(lost()));
        let (status, stderr) = (&mut self.task.0).await.unwrap_or_else(lost)?;
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
    taken: Arc<Taken>,
    ended: watch::Receiver<bool>,
}

impl Watch {
    /// What the tool and its children have done so far.
    pub(in crate::common) fn done(&self) -> Vec<(i32, String)> {
        self.group.done()
    }

    /// Does work that waits for the tool; an error where it lasts, and neither the tool nor one of
    /// its children has done anything for so long, or its helper is lost; or where long after the tool
    /// has ended something else holds its output open and writes nothing. Whoever computes, reads or
    /// writes is let work: it may have nothing to say for hours.
    pub(crate) async fn over<T>(
        self,
        silence: Duration,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let (mut work, mut ended) = (pin!(work), self.ended.clone());
        let (mut seen, mut waited, mut is_over) = (self.group.done(), silence, false);
        let (mut taken, mut is_ours) = (self.taken.count(), false);
        loop {
            let done = tokio::select! {
                biased;
                done = timeout(waited, &mut work) => done,
                // What it has started may hold an output open for as long as it likes.
                lost = self.group.is_lost() => return Err(lost),
                _ = ended.wait_for(|ended| *ended), if !is_over => {
                    (waited, is_over) = (silence.min(HELD).max(LAST_WORDS * 2), true);
                    continue;
                }
            };
            if let Ok(done) = done {
                return done;
            }
            if is_over {
                // What was read to its end nothing holds; of what still comes there may be more.
                let before = std::mem::replace(&mut taken, self.taken.count());
                if taken != before {
                    continue;
                }
                if self.taken.is_all() && !is_ours {
                    (waited, is_ours) = (silence.max(HELD), true);
                    continue;
                }
                if is_ours {
                    let late = io::Error::from(io::ErrorKind::TimedOut);
                    return Err(EngineError::io(format!("work on what {} wrote", self.name))(late));
                }
                return Err(EngineError::Held { tool: self.name, waited });
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

/// Ends a tool that something else awaits.
#[derive(Debug, Clone)]
pub(crate) struct Stopper {
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

impl Stopper {
    /// Asks the tool to end; it is killed after a grace period.
    pub(in crate::common) fn wish(&self) {
        self.stop.send_replace(true);
    }

    /// Asks the tool to end, kills it after a grace period, and waits until it is gone.
    pub(crate) async fn stop(mut self) {
        self.wish();
        // The other error, a closed channel, means that the task and the tool are gone.
        let _ = timeout(GRACE + LAST_WORDS + LAST_WORDS, self.ended.wait_for(|ended| *ended)).await;
    }
}

async fn supervise(
    child: &mut Child,
    group: &Group,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<ExitStatus> {
    let status = tokio::select! {
        status = child.wait() => status,
        true = wished(&mut stopping) => {
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

pub(in crate::common) async fn wished(stopping: &mut watch::Receiver<bool>) -> bool {
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
