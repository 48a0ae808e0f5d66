//! Opens what may be no file: a pipe into which nobody writes would keep whoever opens it.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

/// Opens it for reading, whatever it is, and waits for nobody; reading does not wait either.
///
/// # Errors
/// [`io::Error`] of the file system.
pub fn open_at_once(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(open(path, flags, Mode::empty())?))
}

/// The same of a file; what is none is refused.
///
/// # Errors
/// [`io::Error`] of the file system; [`ErrorKind::InvalidInput`] for what is no file.
pub fn open_file(path: &Path) -> io::Result<File> {
    let file = open_at_once(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "it is no file")),
    }
}
