//! Reads what may be no file: a pipe into which nobody writes would keep its reader for ever.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use drctl_engines::open_at_once;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::waited;

/// The most bytes of a file of certificates.
const MAX_PEM_BYTES: u64 = 16 << 20;

/// Reads a file to its end, or a pipe or a terminal within a time: at most so many bytes.
///
/// # Errors
/// The file system's; `InvalidData` for more bytes, `TimedOut` for what does not come to its end in time.
pub(crate) fn read_within(path: &Path, most: u64, patience: Duration) -> io::Result<Vec<u8>> {
    let (file, begun, mut bytes) = (open_at_once(path)?, Instant::now(), Vec::new());
    let left = || patience.saturating_sub(begun.elapsed());
    // One that nobody has opened for writing yet looks as if it were at its end.
    if file.metadata()?.file_type().is_fifo() && !comes(&file, left())? {
        return Err(late("nobody writes into it", patience));
    }
    let mut file = file.take(most.saturating_add(1));
    loop {
        match file.read_to_end(&mut bytes) {
            Ok(_) if bytes.len() as u64 > most => {
                let text = format!("it has more than {most} bytes");
                return Err(io::Error::new(ErrorKind::InvalidData, text));
            }
            Ok(_) => return Ok(bytes),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !comes(file.get_ref(), left())? {
                    return Err(late("it is no file, and does not come to its end", patience));
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Reads a file of certificates, for the configuration names it: a pipe is waited for ten seconds.
///
/// # Errors
/// As [`read_within`].
pub(crate) fn read_certificates(path: &Path) -> io::Result<Vec<u8>> {
    waited(|| read_within(path, MAX_PEM_BYTES, Duration::from_secs(10)))
}

fn late(what: &str, patience: Duration) -> io::Error {
    let text = format!("{what} within {} s", patience.as_secs());
    io::Error::new(ErrorKind::TimedOut, text)
}

/// Waits until something comes, or the end; false where neither does for so long.
fn comes(file: &File, within: Duration) -> io::Result<bool> {
    let (mut awaited, begun) = ([PollFd::new(file, PollFlags::IN)], Instant::now());
    loop {
        let left = within.saturating_sub(begun.elapsed());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut awaited, Some(&left)) {
            Err(Errno::INTR) => {}
            found => return Ok(found? > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write as _;

    use drctl_engines::open_file;
    use rustix::fs::Mode;

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
        let (soon, later) = (Duration::from_millis(50), Duration::from_secs(60));
        let read = |path: &Path, most| read_within(path, most, soon);
        assert!(read(folder.path(), 10).is_err());
        assert_eq!(read(&file, 4).unwrap(), b"word");
        assert_eq!(read(&file, 3).unwrap_err().kind(), ErrorKind::InvalidData);
        let endless = read(Path::new("/dev/zero"), 1000).unwrap_err();
        assert_eq!(endless.kind(), ErrorKind::InvalidData);
        let nobody = read(&pipe, 10).unwrap_err();
        assert!(nobody.to_string().contains("nobody writes"), "{nobody}");
        let mut writes = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        writes.write_all(b"a").unwrap();
        let open = read(&pipe, 10).unwrap_err();
        assert!(open.to_string().contains("does not come to its end"), "{open}");
        // Who writes a little later is waited for.
        let same = pipe.clone();
        let reads = std::thread::spawn(move || read_within(&same, 10, later));
        writes.write_all(b"late").unwrap();
        while rustix::io::ioctl_fionread(&writes).unwrap() > 0 {
            std::thread::yield_now();
        }
        drop(writes);
        assert_eq!(reads.join().unwrap().unwrap(), b"late");
        let reads = std::thread::spawn(move || read_within(&pipe, 10, later));
        let mut writes = OpenOptions::new().write(true).open(folder.path().join("pipe")).unwrap();
        writes.write_all(b"later").unwrap();
        drop(writes);
        assert_eq!(reads.join().unwrap().unwrap(), b"later");
    }
}
