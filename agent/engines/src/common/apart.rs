//! This program once more, as a process that goes on when we end.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::process::Stdio;

use tokio::process::{Child, Command};

/// Starts this program with these arguments, in a group of processes of its own: what a terminal sends does not reach
/// it. What it prints, and what it tells people, goes into these files.
///
/// # Errors
/// [`io::Error`]: the system's.
pub fn ourselves_apart(arguments: &[OsString], (out, told): (&File, &File)) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).process_group(0).current_dir("/");
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(told.try_clone()?);
    command.spawn()
}
