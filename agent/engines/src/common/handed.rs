//! Something handed to a program of the operator's on its standard input.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::EngineError;
use super::process::Tool;
use super::way::{INTERPRETERS, interpreters, runs};

/// Starts a program that no other account can change, hands it `input`, and waits for its end. It sees
/// nothing of our environment but `PATH` and `TZ`; what does not end in time is killed with its children.
///
/// # Errors
/// [`EngineError::Changeable`], [`EngineError::Io`] where it cannot be started,
/// [`EngineError::ToolFailed`] for an exit status other than 0, [`EngineError::Silent`] where it takes
/// longer than `within`.
pub async fn hand_to(
    program: &Path,
    args: &[String],
    input: &[u8],
    within: Duration,
) -> Result<(), EngineError> {
    let tool = Tool::new("the command", program.to_owned()).args(args);
    let (mut pipe, running) = tool.start_reader()?;
    let writing = async {
        // Whoever does not read may still do its work: its exit status tells.
        let _ = timeout(within, pipe.write_all(input)).await;
        drop(pipe);
    };
    let ((), ended) = tokio::join!(writing, running.wait_within(within));
    ended?.success()
}

/// Starts a program of the operator's that no other account can change, with these words in its
/// environment, and waits for its end; what it says on its standard error is logged. What does not end in
/// time is killed with its children, and so is what nobody waits for any more.
///
/// # Errors
/// As [`hand_to`].
pub async fn run_alone(
    program: &Path,
    args: &[String],
    env: impl IntoIterator<Item = (Cow<'static, str>, String)>,
    within: Duration,
) -> Result<(), EngineError> {
    let tool = Tool::new("the hook", program.to_owned()).args(args);
    let tool = env.into_iter().fold(tool, |tool, (name, value)| tool.env(name, value));
    tool.start_alone()?.wait_within(within).await?.success()
}

/// Whether a program of the operator's could be started: it is there, may be run, and no other account
/// can change it. It is not started.
///
/// # Errors
/// [`EngineError::Changeable`], [`EngineError::Io`].
pub fn may_run(program: &Path) -> Result<(), EngineError> {
    runs(program)?;
    let failed = |source| EngineError::io(format!("start {}", program.display()))(source);
    may_start(program).map_err(failed)?;
    let interpreters = interpreters(program);
    for by in &interpreters {
        let why = |error| io::Error::other(format!("{}: {error}", by.display()));
        may_start(by).map_err(why).map_err(failed)?;
    }
    let last = interpreters.last().map_or(program, PathBuf::as_path);
    let why = match interpreters.len() {
        INTERPRETERS.. => "what interprets it is interpreted again and again".to_owned(),
        _ if is_elf(last) != Some(false) => return Ok(()),
        0 => "it is neither a program nor begins with #!".to_owned(),
        _ => format!("{} is neither a program nor begins with #!", last.display()),
    };
    Err(failed(io::Error::other(why)))
}

/// Whether it is a file that this account may run.
fn may_start(program: &Path) -> io::Result<()> {
    let is_file = std::fs::metadata(program)?.is_file();
    rustix::fs::access(program, rustix::fs::Access::EXEC_OK)?;
    if is_file { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// Whether a file begins as the programs of Linux do; nothing where it may not be read, but run.
fn is_elf(program: &Path) -> Option<bool> {
    let mut begin = Vec::new();
    File::open(program).ok()?.take(4).read_to_end(&mut begin).ok()?;
    Some(begin == *b"\x7fELF")
}
