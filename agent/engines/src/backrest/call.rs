//! Runs pgBackRest, and tells how it ended.

use std::io::{self, Read};
use std::time::Duration;

use drctl_model::shown;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use super::error::BackRestError;
use super::exits::{Exit, ExitKind};
use super::info::InfoError;
use super::says;
use crate::common::EngineError;
use crate::common::Stderr;
use crate::common::process::{Ended, Tool};

pub(super) const TOOL: &str = "pgbackrest";

/// The most characters of a line of its messages that are shown.
const LINE_SHOWN: usize = 400;

/// How long it may go on when nobody reads any more what it writes.
const UNREAD: Duration = Duration::from_secs(30);

/// How many of its last lines are shown.
const LINES_SHOWN: usize = 12;

/// How long to wait before it is looked again whether another pgBackRest has ended: at first.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The same, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Runs it without an output that matters.
pub(super) async fn run(tool: &Tool, silence: Duration) -> Result<Ended, EngineError> {
    tool.start_alone().map_err(missing(tool))?.wait_working(silence).await
}

/// Runs it and reads what it writes as a whole.
pub(super) async fn read(
    tool: &Tool,
    most: usize,
    silence: Duration,
) -> Result<(Vec<u8>, Ended), EngineError> {
    let (output, running) = tool.start_writer().map_err(missing(tool))?;
    let reading = async {
        let mut text = Vec::new();
        let read = output.take(most as u64 + 1).read_to_end(&mut text).await;
        read.map_err(EngineError::io("read what pgbackrest writes"))?;
        if text.len() > most {
            let problem = format!("it writes more than {most} bytes");
            return Err(BackRestError::Says { command: "answers", problem }.into());
        }
        Ok(text)
    };
    let text = running.watch().over(silence, reading).await?;
    Ok((text, running.wait_working(silence).await?))
}

/// Runs it and has what it writes read as it comes, on the blocking pool.
pub(super) async fn read_by<T: Send + 'static>(
    tool: &Tool,
    silence: Duration,
    reader: impl FnOnce(Box<dyn Read + Send>) -> Result<T, InfoError> + Send + 'static,
) -> Result<(Result<T, InfoError>, Ended), EngineError> {
    let (output, running) = tool.start_writer().map_err(missing(tool))?;
    let action = || "read what pgbackrest writes".to_owned();
    let (output, _wanted) = output.blocking().map_err(EngineError::io(action()))?;
    let output = io::BufReader::with_capacity(256 << 10, output);
    let reading = tokio::task::spawn_blocking(move || reader(Box::new(output)));
    let lost = |error: tokio::task::JoinError| io::Error::other(error.to_string());
    let reading = async { reading.await.map_err(lost).map_err(EngineError::io(action())) };
    let result = running.watch().over(silence, reading).await?;
    if let Err(error) = result {
        // Nobody reads any more: it ends by that, and says better what is wrong if it does not write well.
        let ended = running.wait_within(silence.min(UNREAD)).await;
        return ended.map(|ended| (Err(error.clone()), ended)).map_err(|_| says("repo-ls")(error));
    }
    Ok((result, running.wait_working(silence).await?))
}

/// Says that the program is missing where that is why it could not be started.
pub(super) fn missing(tool: &Tool) -> impl FnOnce(EngineError) -> EngineError {
    let program = tool.program.clone();
    move |error| match error {
        EngineError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            BackRestError::Missing { program }.into()
        }
        error => error,
    }
}

/// An error unless it ended with status 0; then the warnings that it wrote.
pub(super) fn outcome(command: &'static str, ended: Ended) -> Result<Vec<String>, EngineError> {
    if ended.status.success() {
        let warnings = lines(&ended.stderr);
        for line in &warnings {
            tracing::warn!("pgbackrest {command} says: {line}");
        }
        return Ok(warnings);
    }
    let Some(code) = ended.status.code() else {
        return ended.success().map(|()| Vec::new());
    };
    let said = lines(&ended.stderr);
    let source = Stderr(said[said.len().saturating_sub(LINES_SHOWN)..].join("\n"));
    Err(BackRestError::Failed { command, exit: Exit::of(code), source }.into())
}

/// Its messages. Some quote what a wrong passphrase made of a file.
fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim_end).filter(|line| !line.trim().is_empty());
    lines.map(|line| shown(line, LINE_SHOWN)).collect()
}

/// Tries again while another pgBackRest works on the stanza, for at most `wait`; `busy` hears how
/// long that is already.
pub(super) async fn patiently<T, F: Future<Output = Result<T, EngineError>>>(
    wait: Duration,
    busy: impl Fn(Duration),
    mut attempt: impl FnMut() -> F,
) -> Result<T, EngineError> {
    let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        let result = attempt().await;
        let waited = began.elapsed();
        match result.as_ref().err().and_then(EngineError::own) {
            Some(BackRestError::Failed { exit, .. })
                if exit.kind == ExitKind::Busy && waited < wait =>
            {
                busy(waited);
                tokio::time::sleep(pause.min(wait.saturating_sub(waited))).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            _ => return result,
        }
    }
}
