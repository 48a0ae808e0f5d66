//! Something handed to a program of the operator's on its standard input.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::EngineError;
use super::process::Tool;
use super::way::{interpreter, runs};

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
    let is_file = std::fs::metadata(program).map_err(failed)?.is_file();
    let may = rustix::fs::access(program, rustix::fs::Access::EXEC_OK).map_err(io::Error::from);
    match may {
        Ok(()) if !is_file => return Err(failed(io::ErrorKind::PermissionDenied.into())),
        may => may.map_err(failed)?,
    }
    match interpreter(program) {
        Some(by) => {
            let there = rustix::fs::access(&by, rustix::fs::Access::EXEC_OK);
            let why = |error| io::Error::other(format!("{}: {error}", by.display()));
            there.map_err(io::Error::from).map_err(why).map_err(failed)
        }
        None if is_elf(program) => Ok(()),
        None => Err(failed(io::Error::other("it is neither a program nor begins with #!"))),
    }
}

/// Whether a file begins as the programs of Linux do.
fn is_elf(program: &Path) -> bool {
    let mut begin = [0; 4];
    let read = File::open(program).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && begin == *b"\x7fELF"
}
