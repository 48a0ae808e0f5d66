//! The recovering server's side of [`super::serve`]: asks for a file of the log, and writes it. It
//! knows nothing but a socket: no configuration, no key, no bucket.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::fetch::Fetched;

/// What the first byte of an answer says.
pub(crate) const DELIVERED: u8 = 0;
pub(crate) const ABSENT: u8 = 1;
pub(crate) const FAILED: u8 = 2;

/// The directory beside the socket with what a server may still ask for when nobody answers any
/// more.
pub(crate) const LEFT: &str = "left";

/// The most bytes of a refusal.
const WORDS: u64 = 16 << 10;

/// Fetches the file `name` of the log to `to` from whoever answers at `socket`.
///
/// # Errors
/// Everything else than a file and a proven absence.
pub(crate) fn take(socket: &Path, name: &str, to: &Path) -> Result<Fetched> {
    let mut answer = match UnixStream::connect(socket) {
        Ok(answer) => answer,
        // A server that stands at its target is left with what it may still ask for.
        Err(error) if error.kind() == ErrorKind::NotFound => return left(socket, name, to),
        Err(error) => return Err(error).context("ask drctl for the log: it has ended"),
    };
    answer.write_all(format!("{name}\n").as_bytes()).context("ask drctl for the log")?;
    let mut byte = [0];
    answer.read_exact(&mut byte).context("drctl gave no answer")?;
    match byte[0] {
        DELIVERED => {
            let mut length = [0; 8];
            answer.read_exact(&mut length).context("drctl's answer was cut off")?;
            write(&mut answer, u64::from_be_bytes(length), to)?;
            Ok(Fetched::Delivered)
        }
        ABSENT => Ok(Fetched::Absent),
        _ => {
            let mut words = Vec::new();
            answer.take(WORDS).read_to_end(&mut words).context("drctl's answer was cut off")?;
            bail!("{}", String::from_utf8_lossy(&words));
        }
    }
}

fn left(socket: &Path, name: &str, to: &Path) -> Result<Fetched> {
    let left = socket.with_file_name(LEFT);
    if !left.is_dir() {
        bail!("drctl, which would give it the log, is not there any more");
    }
    match fs::File::open(left.join(name)) {
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
