//! The recovering server's side of `serve.rs`: asks for a file of the WAL, and writes it. It knows
//! nothing but a socket: no configuration, no key, no bucket.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::engine::wal::Fetched;

/// What the first byte of an answer says.
pub(crate) const DELIVERED: u8 = 0;
pub(crate) const ABSENT: u8 = 1;
pub(crate) const FAILED: u8 = 2;
/// It lies beside the place where it is wanted, under the name that [`placed`] gives.
pub(crate) const PLACED: u8 = 3;

/// What a file is called until the server takes it.
pub(crate) fn placed(name: &str) -> String {
    format!("{name}.drctl")
}

/// Whether a file was placed, and never taken.
pub(crate) fn is_placed(name: &OsStr) -> bool {
    Path::new(name).extension().is_some_and(|ending| ending == "drctl")
}

/// The directory beside the socket with what a server may still ask for when nobody answers any
/// more.
pub(crate) const LEFT: &str = "left";

/// The most bytes of a refusal.
const WORDS: u64 = 16 << 10;

/// Fetches the file `name` of the WAL to `to` from whoever answers at `socket`.
///
/// # Errors
/// Everything else than a file and a proven absence.
pub(crate) fn take(socket: &Path, name: &str, to: &Path) -> Result<Fetched> {
    let answered = ask(socket, name, to);
    // A server that stands at its target is left with what it may still ask for: its question may
    // have come while drctl was going.
    if answered.is_err() && socket.with_file_name(LEFT).is_dir() {
        return orphan(socket, name, to);
    }
    match answered? {
        Answer::Is(fetched) => Ok(fetched),
        Answer::Refused(words) => bail!("{words}"),
    }
}

/// What drctl has answered.
enum Answer {
    Is(Fetched),
    Refused(String),
}

fn ask(socket: &Path, name: &str, to: &Path) -> Result<Answer> {
    let connected = UnixStream::connect(socket);
    let mut answer = connected.context("ask drctl for the WAL: it is not there any more")?;
    answer.write_all(format!("{name}\n").as_bytes()).context("drctl gave no answer")?;
    let mut byte = [0];
    answer.read_exact(&mut byte).context("drctl gave no answer")?;
    match byte[0] {
        DELIVERED => {
            let mut length = [0; 8];
            answer.read_exact(&mut length).context("drctl's answer was cut off")?;
            write(&mut answer, u64::from_be_bytes(length), to)?;
            Ok(Answer::Is(Fetched::Delivered))
        }
        PLACED => {
            let renamed = fs::rename(to.with_file_name(placed(name)), to);
            renamed.with_context(|| format!("write {}", to.display()))?;
            Ok(Answer::Is(Fetched::Delivered))
        }
        ABSENT => Ok(Answer::Is(Fetched::Absent)),
        _ => {
            let mut words = Vec::new();
            answer.take(WORDS).read_to_end(&mut words).context("drctl's answer was cut off")?;
            Ok(Answer::Refused(String::from_utf8_lossy(&words).into_owned()))
        }
    }
}

fn orphan(socket: &Path, name: &str, to: &Path) -> Result<Fetched> {
    match fs::File::open(socket.with_file_name(LEFT).join(name)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Fetched::Absent),
        file => {
            let mut file = file.context("open what was left")?;
            let length = file.metadata().context("open what was left")?.len();
            write(&mut file, length, to)?;
            Ok(Fetched::Delivered)
        }
    }
}

/// Under its name only when it is whole.
fn write(from: &mut impl Read, length: u64, to: &Path) -> Result<()> {
    let mut part = to.as_os_str().to_owned();
    part.push(".drctl");
    let part = Path::new(&part);
    let _ = fs::remove_file(part);
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(part);
    let mut file = file.with_context(|| format!("write {}", to.display()))?;
    let copied = std::io::copy(&mut from.take(length), &mut file);
    let copied = copied.with_context(|| format!("write {}", to.display()))?;
    if copied != length {
        let _ = fs::remove_file(part);
        bail!("drctl's answer was cut off");
    }
    // The server syncs what it keeps.
    fs::rename(part, to).with_context(|| format!("write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_question_that_nobody_answers_is_no_end_of_the_log_unless_the_server_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, to) = (folder.path().join("log"), folder.path().join("to"));
        let name = "00000002.history";
        assert!(take(&socket, name, &to).is_err());
        // It ends while it is asked.
        let listener = UnixListener::bind(&socket).unwrap();
        let cut = |times: usize| {
            let listener = listener.try_clone().unwrap();
            std::thread::spawn(move || (0..times).for_each(|_| drop(listener.accept())))
        };
        let going = cut(1);
        assert!(take(&socket, name, &to).is_err() && !to.exists());
        going.join().unwrap();
        fs::create_dir(folder.path().join(LEFT)).unwrap();
        let going = cut(2);
        assert_eq!(take(&socket, name, &to).unwrap(), Fetched::Absent);
        fs::write(folder.path().join(LEFT).join(name), "1").unwrap();
        assert_eq!(take(&socket, name, &to).unwrap(), Fetched::Delivered);
        going.join().unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"1");
    }

    #[test]
    fn what_lies_beside_its_place_is_taken_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, to) = (folder.path().join("log"), folder.path().join("RECOVERYXLOG"));
        let name = "000000010000000000000003";
        let listener = UnixListener::bind(&socket).unwrap();
        let placing = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 64]).unwrap();
                stream.write_all(&[PLACED]).unwrap();
            }
        });
        // drctl says so, and it is not there.
        assert!(take(&socket, name, &to).is_err() && !to.exists());
        fs::write(folder.path().join(placed(name)), "log").unwrap();
        assert_eq!(take(&socket, name, &to).unwrap(), Fetched::Delivered);
        placing.join().unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"log");
        assert!(!folder.path().join(placed(name)).exists());
    }

    #[test]
    fn what_is_sent_is_written_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, to) = (folder.path().join("log"), folder.path().join("RECOVERYXLOG"));
        let listener = UnixListener::bind(&socket).unwrap();
        let sending = std::thread::spawn(move || {
            for bytes in [&b"lo"[..], b"log"] {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 64]).unwrap();
                let head = [&[DELIVERED], &3_u64.to_be_bytes()[..]].concat();
                stream.write_all(&[&head, bytes].concat()).unwrap();
            }
        });
        let name = "000000010000000000000003";
        assert!(take(&socket, name, &to).is_err() && !to.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a part of it was left");
        assert_eq!(take(&socket, name, &to).unwrap(), Fetched::Delivered);
        sending.join().unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"log");
    }
}
