//! The side that asks: a child that is as one of our own, and runs elsewhere.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ChildStderr as Messages, ChildStdout as Output, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use drctl_model::shown;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{geteuid, getpriority_process};
use serde_json::Value;
use tokio::io::BufReader;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Helper, HelperError, Refusal, Request, Said, VERSION};
use crate::common::opened::send_opened;
use crate::common::process::{Group, Running, Tool, wished};
use crate::common::{EngineError, unfit_way};

/// How long a helper may take to take a request, at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest line that a helper may say, in bytes.
const LONGEST: usize = 16 << 10;

/// That it ended before what it was asked for.
const GONE: &str = "is gone before it said how the job ended";

/// The most characters of its words that are shown.
const SHOWN: usize = 600;

/// A job that a helper is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) helper: Helper,
    /// As the engine's list has it.
    pub(crate) job: Value,
    /// How long it may neither say nor do anything.
    pub(crate) silence: Duration,
}

impl Ask {
    /// Has it started; its output is for us to read.
    pub(in crate::common) fn start_writer(
        &self,
        tool: &Tool,
    ) -> Result<(ChildStdout, Running), EngineError> {
        let (ours, theirs) = a_pipe()?;
        let output = ChildStdout::from_std(Output::from(ours));
        let output = output.map_err(EngineError::io("read a pipe"))?;
        Ok((output, self.start(tool, Some(theirs))?))
    }

    /// Has it started, with a pipe for its output where that matters. That it cannot be is told by its
    /// end.
    pub(in crate::common) fn start(
        &self,
        tool: &Tool,
        output: Option<OwnedFd>,
    ) -> Result<Running, EngineError> {
        let (ours, theirs) = a_pipe()?;
        let messages = ChildStderr::from_std(Messages::from(ours));
        let messages = messages.map_err(EngineError::io("read a pipe"))?;
        let pipes: Vec<OwnedFd> = std::iter::once(theirs).chain(output).collect();
        let group = Arc::new(Group::elsewhere());
        let (ask, heard) = (self.clone(), Arc::clone(&group));
        Ok(Running::begin(tool, group, Some(messages), |stopping| async move {
            ask.attend(pipes, &heard, stopping).await
        }))
    }

    /// Asks for it, and hears how it ended. Dropped, it hangs up.
    async fn attend(
        &self,
        pipes: Vec<OwnedFd>,
        group: &Group,
        mut stopping: watch::Receiver<bool>,
    ) -> Result<ExitStatus, EngineError> {
        let mut stream = self.helper.connect().await?;
        let request = Request {
            version: VERSION,
            nice: getpriority_process(None).unwrap_or_default().clamp(0, 19),
            look_every_ms: u64::try_from(self.silence.as_millis() / 4).unwrap_or(u64::MAX),
            job: self.job.clone(),
        };
        let line = serde_json::to_string(&request).map_err(io::Error::other);
        let line = line.map_err(EngineError::io("write a request"))?;
        let sent = timeout(PATIENCE, send_opened(&mut stream, &line, &pipes)).await;
        // From here on the child alone has them: they end with it.
        drop(pipes);
        let sent = sent.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
        let (answers, mut ours) = stream.into_split();
        let (mut answers, mut line) = (BufReader::new(answers), Vec::new());
        let lost = |why: String| {
            group.lost(self.helper.failed(why.as_str()));
            self.helper.failed(why)
        };
        let told = |said: Said| {
            // What it has started may hold the output: nobody waits for the end of that.
            if let Err(why) = self.helper.ended(said.clone()) {
                group.lost(why);
            }
            self.helper.ended(said)
        };
        let patience = PATIENCE.min(self.silence);
        let taken = timeout(patience, hear(&mut answers, &mut line)).await;
        match taken.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
            Ok(Some(Said::Taken)) => {}
            Ok(Some(said)) => return told(said),
            // Whoever refuses at once may not have heard all of it.
            Ok(None) if sent.is_ok() => return Err(lost(GONE.to_owned())),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                let seconds = patience.as_secs_f32();
                return Err(lost(format!("did not take the request in {seconds} s")));
            }
            Ok(None) | Err(_) => return Err(lost("did not take the request".to_owned())),
        }
        let mut wishing = false;
        loop {
            let said = tokio::select! {
                said = hear(&mut answers, &mut line) => said,
                true = wished(&mut stopping), if !wishing => {
                    wishing = true;
                    let _ = ours.shutdown().await;
                    continue;
                }
            };
            match said {
                Ok(Some(Said::Worked)) => group.works(),
                Ok(Some(said)) => return told(said),
                Ok(None) => return Err(lost(GONE.to_owned())),
                Err(error) => return Err(lost(format!("cannot be heard: {error}"))),
            }
        }
    }
}

impl Helper {
    /// Connects to its socket, which nobody but root and we can have put there.
    async fn connect(&self) -> Result<UnixStream, EngineError> {
        let folder = self.socket.parent().unwrap_or(&self.socket);
        if let Some((place, unfit)) = unfit_way(folder, true, geteuid().as_raw()) {
            let why = format!("{} {unfit}", place.display());
            return Err(EngineError::Changeable { path: self.socket.clone(), why });
        }
        let connected = timeout(PATIENCE, UnixStream::connect(&self.socket)).await;
        let connected = connected.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
        connected.map_err(|source| {
            let (account, socket) = (self.account.clone(), self.socket.clone());
            HelperError::Unreached { account, socket, source }.into()
        })
    }

    fn failed(&self, why: impl Into<String>) -> EngineError {
        HelperError::Failed { account: self.account.clone(), why: why.into() }.into()
    }

    /// How a child ended, if it was ever one.
    fn ended(&self, said: Said) -> Result<ExitStatus, EngineError> {
        match said {
            Said::Ended(code) => Ok(ExitStatus::from_raw(i32::from(code) << 8)),
            Said::Killed(signal @ 1..=64) => Ok(ExitStatus::from_raw(i32::from(signal))),
            Said::Refused(Refusal { text, hint }) => {
                let refusal = Refusal::new(shown(&text, SHOWN), shown(&hint, SHOWN));
                Err(HelperError::Refused { account: self.account.clone(), refusal }.into())
            }
            Said::Failed(why) => Err(self.failed(format!("failed: {}", shown(&why, SHOWN)))),
            Said::Taken | Said::Worked | Said::Killed(_) => Err(self.failed("makes no sense")),
        }
    }
}

/// A pipe: its end to read from, and its end to write into.
fn a_pipe() -> Result<(OwnedFd, OwnedFd), EngineError> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|errno| EngineError::io("make a pipe")(errno.into()))
}

/// The next that is said; nothing at its end. What of a line has come stays in `line`.
async fn hear(
    answers: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> io::Result<Option<Said>> {
    let room = LONGEST.saturating_sub(line.len()) as u64;
    answers.take(room).read_until(b'\n', line).await?;
    if line.last() != Some(&b'\n') {
        let odd = || io::Error::new(ErrorKind::InvalidData, "it says too much");
        return if line.len() < LONGEST { Ok(None) } else { Err(odd()) };
    }
    let said = serde_json::from_slice(line).map_err(io::Error::other);
    line.clear();
    said.map(Some)
}
