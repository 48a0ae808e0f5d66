//! Reads what may be no file: a pipe into which nobody writes would keep its reader for ever.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};

/// How long a pipe may take to give all that is written into it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens a file for reading; what is none is refused, and never waited for.
///
/// # Errors
/// The file system's; `InvalidInput` for what is no file.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let file = opened(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "it is no file")),
    }
}

/// Reads a file, or a pipe, to its end: at most so many bytes, and no longer than ten seconds.
///
/// # Errors
/// The file system's; `InvalidData` for more bytes, `TimedOut` for a pipe that does not come to its end.
pub(crate) fn read_within(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, begun, mut bytes) = (opened(path)?, Instant::now(), Vec::new());
    let mut file = file.take(most.saturating_add(1));
    loop {
        match file.read_to_end(&mut bytes) {
            Ok(_) if bytes.len() as u64 > most => {
                let text = format!("it has more than {most} bytes");
                return Err(io::Error::new(ErrorKind::InvalidData, text));
            }
            Ok(_) => return Ok(bytes),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let left = PATIENCE.saturating_sub(begun.elapsed());
                if !comes(file.get_ref(), left)? {
                    let text = "it is a pipe, and whoever writes into it does not end";
                    return Err(io::Error::new(ErrorKind::TimedOut, text));
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits until something comes, or the end; false where neither does for so long.
fn comes(file: &File, within: Duration) -> io::Result<bool> {
    let mut awaited = [PollFd::new(file, PollFlags::IN)];
    let within = Timespec::try_from(within).map_err(io::Error::other)?;
    Ok(poll(&mut awaited, Some(&within))? > 0)
}

fn opened(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(open(path, flags, Mode::empty())?))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_no_file_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let (file, pipe) = (folder.path().join("file"), folder.path().join("pipe"));
        fs::write(&file, "word").unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        assert!(open_file(&file).is_ok());
        for other in [&pipe, folder.path()] {
            assert_eq!(open_file(other).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert!(read_within(folder.path(), 10).is_err());
        assert_eq!(read_within(&file, 4).unwrap(), b"word");
        assert_eq!(read_within(&file, 3).unwrap_err().kind(), ErrorKind::InvalidData);
        let endless = read_within(Path::new("/dev/zero"), 1000).unwrap_err();
        assert_eq!(endless.kind(), ErrorKind::InvalidData);
        assert_eq!(read_within(&pipe, 10).unwrap(), b"", "nobody writes");
        // Who writes a little later is waited for.
        let mut writes = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        let reads = std::thread::spawn(move || read_within(&pipe, 10));
        writes.write_all(b"late").unwrap();
        while rustix::io::ioctl_fionread(&writes).unwrap() > 0 {
            std::thread::yield_now();
        }
        drop(writes);
        assert_eq!(reads.join().unwrap().unwrap(), b"late");
    }
}
