//! The helper's side: one request, its child, and what is said of that.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::pin::pin;
use std::process::ExitStatus;

use drctl_model::shown;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::net::unix::pipe::Sender;
use tokio::time::{Instant, interval_at};

use super::{PIPES, Refusal, Request, Said, VERSION};
use crate::common::EngineError;
use crate::common::opened::receive_opened;
use crate::common::process::Tool;

/// The most characters of an error that are told.
const SHOWN: usize = 600;

/// A request that waits for its answer.
pub struct Waiting {
    stream: UnixStream,
    request: Request,
    /// Where its child's messages go.
    messages: OwnedFd,
    /// Where its output goes, if that matters.
    output: Option<OwnedFd>,
}

impl Waiting {
    /// Hears one request; one that is none is refused.
    pub async fn hear(mut stream: UnixStream) -> Option<Waiting> {
        match heard(&stream).await {
            Ok((request, messages, output)) => {
                say(&mut stream, &Said::Taken).await;
                Some(Waiting { stream, request, messages, output })
            }
            Err(refusal) => {
                refuse(&mut stream, refusal).await;
                None
            }
        }
    }

    /// Says to somebody who is not heard why.
    pub async fn turn_away(mut stream: UnixStream, refusal: Refusal) {
        refuse(&mut stream, refusal).await;
    }

    /// What is asked for, as it came: nothing of it is known to be good.
    #[must_use]
    pub fn job(&self) -> &Value {
        &self.request.job
    }

    /// Says why it is not done.
    pub async fn refuse(mut self, refusal: Refusal) {
        refuse(&mut self.stream, refusal).await;
    }

    /// Says that it could not be done.
    pub(crate) async fn fail(mut self, error: &EngineError) {
        say(&mut self.stream, &Said::Failed(told(error))).await;
    }

    /// Runs the child and tells how it ended. What it makes, where that is a file, is handed on behind
    /// it. It is ended when whoever asked hangs up, and when it is `over`.
    pub(crate) async fn run(
        self,
        tool: &Tool,
        made: Option<&Path>,
        over: impl Future<Output = ()>,
    ) {
        let Waiting { mut stream, request, messages, output } = self;
        let (output, kept) = if made.is_some() { (None, output) } else { (output, None) };
        let running = match tool.start_into(output, messages) {
            Ok(running) => running,
            Err(error) => return say(&mut stream, &Said::Failed(told(&error))).await,
        };
        if request.nice > 0 {
            running.give_way(request.nice.min(19));
        }
        let (watch, stopper) = (running.watch(), running.stopper());
        let (mut hears, mut tells) = stream.into_split();
        let mut gone = pin!(async {
            tokio::select! { () = hung_up(&mut hears) => {}, () = over => {} }
        });
        let mut looks = interval_at(Instant::now() + request.looks(), request.looks());
        let (mut seen, mut stopped) = (watch.done(), false);
        let mut waiting = pin!(running.wait());
        let ended = loop {
            tokio::select! {
                ended = &mut waiting => break ended,
                () = &mut gone, if !stopped => {
                    stopped = true;
                    stopper.wish();
                }
                _ = looks.tick() => {
                    let done = watch.done();
                    if done != seen {
                        seen = done;
                        say(&mut tells, &Said::Worked).await;
                    }
                }
            }
        };
        let said = match ended {
            Err(error) => Said::Failed(told(&error)),
            Ok(ended) => match (made, kept) {
                (Some(made), Some(into)) if ended.status.success() && !stopped => tokio::select! {
                    handed = hand_on(made, into) => handed.map_or_else(
                        |error| Said::Failed(format!("what it made was not handed on: {error}")),
                        |()| said_of(ended.status),
                    ),
                    () = &mut gone => Said::Failed("whoever asked is gone".to_owned()),
                },
                (Some(_), _) if ended.status.success() => {
                    Said::Failed("nothing takes what it made".to_owned())
                }
                _ => said_of(ended.status),
            },
        };
        say(&mut tells, &said).await;
    }
}

/// How a child ended.
fn said_of(status: ExitStatus) -> Said {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    let signal = status.signal().and_then(|signal| u8::try_from(signal).ok());
    match (code, signal) {
        (Some(code), _) => Said::Ended(code),
        (None, Some(signal)) => Said::Killed(signal),
        (None, None) => Said::Failed("it is not known how it ended".to_owned()),
    }
}

/// A request, and the pipes that came with it.
async fn heard(stream: &UnixStream) -> Result<(Request, OwnedFd, Option<OwnedFd>), Refusal> {
    let same = "install the same drctl on both ends, and let nothing else speak here";
    let bad = |text: String| Refusal::new(text, same);
    let (line, pipes) = receive_opened(stream, PIPES).await.map_err(|e| bad(e.to_string()))?;
    let value: Value = serde_json::from_str(&line).map_err(|e| bad(e.to_string()))?;
    if value["version"] != VERSION {
        return Err(bad(format!("this helper speaks version {VERSION}")));
    }
    let request = serde_json::from_value(value).map_err(|e| bad(e.to_string()))?;
    if !pipes.iter().all(is_for_writing) {
        return Err(bad("what comes with a request are pipes to write into".to_owned()));
    }
    let mut pipes = pipes.into_iter();
    let messages = pipes.next().ok_or_else(|| bad("a request has a pipe for messages".to_owned()));
    Ok((request, messages?, pipes.next()))
}

/// Whether it is the end of a pipe that is written into, and nothing else.
fn is_for_writing(pipe: &impl AsFd) -> bool {
    let is_pipe = fstat(pipe).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Fifo);
    let mode = fcntl_getfl(pipe).map(|flags| flags & OFlags::RWMODE);
    is_pipe && mode == Ok(OFlags::WRONLY)
}

async fn refuse(stream: &mut UnixStream, refusal: Refusal) {
    say(stream, &Said::Refused(refusal)).await;
}

/// Says something to whoever asked, who may be gone.
async fn say(stream: &mut (impl tokio::io::AsyncWrite + Unpin), said: &Said) {
    if let Ok(mut line) = serde_json::to_vec(said) {
        line.push(b'\n');
        let _ = stream.write_all(&line).await;
    }
}

/// An error with what is behind it.
fn told(error: &EngineError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let mut text = error.to_string();
    for cause in causes {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    shown(&text, SHOWN)
}

/// Waits until whoever asked hangs up. He has nothing more to say: whatever comes is as good as that.
async fn hung_up(hears: &mut OwnedReadHalf) {
    let _ = hears.read(&mut [0]).await;
}

/// Writes a file into a pipe.
async fn hand_on(made: &Path, into: OwnedFd) -> std::io::Result<()> {
    let mut file = tokio::fs::File::open(made).await?;
    let mut into = Sender::from_owned_fd(into)?;
    tokio::io::copy(&mut file, &mut into).await.map(drop)
}
