//! systemd's journal, by its own protocol: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.

use std::env;
use std::io;
use std::os::unix::net::UnixDatagram;

use serde_json::Value;
use tracing::Level;

use super::records::Told;

/// Where it listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The journal of this host.
pub(super) struct Journal(pub(super) UnixDatagram);

impl Journal {
    /// That which standard error leads to, if it leads to one.
    pub(super) fn of_standard_error() -> Option<Self> {
        let found = rustix::fs::fstat(io::stderr()).ok()?;
        let named = env::var("JOURNAL_STREAM").ok()?;
        if !is_stream(&named, found.st_dev, found.st_ino) {
            return None;
        }
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect(SOCKET).ok()?;
        Some(Journal(socket))
    }

    /// Has it take a record.
    ///
    /// # Errors
    /// The system's, where it does not: it is too long, or the journal is gone.
    pub(super) fn take(&self, told: &Told) -> io::Result<()> {
        self.0.send(&entry(told)).map(drop)
    }
}

/// Whether that is the stream that the service manager has named as `DEVICE:INODE`.
fn is_stream(named: &str, device: u64, inode: u64) -> bool {
    named == format!("{device}:{inode}")
}

/// A record as an entry. Its fields are ours by their names: `DRCTL_SOURCE`.
fn entry(told: &Told) -> Vec<u8> {
    let mut entry = Vec::new();
    let priority = match told.level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    };
    put(&mut entry, "MESSAGE", &told.message);
    put(&mut entry, "PRIORITY", priority);
    put(&mut entry, "SYSLOG_IDENTIFIER", "drctl");
    for (name, value) in &told.fields {
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        let value = match value {
            Value::String(value) => value.clone(),
            other => other.to_string(),
        };
        put(&mut entry, &format!("DRCTL_{name}"), &value);
    }
    entry
}

/// A value is led by its length, so that nothing in it passes for another field.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'\n');
    entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_value_of_an_entry_passes_for_another_field() {
        let Value::Object(fields) = json!({ "source": "a\nPRIORITY=0", "took.s": 7 }) else {
            unreachable!()
        };
        let told = Told { level: Level::WARN, message: "late".to_owned(), fields };
        let mut expected = Vec::new();
        for (name, length, value) in [
            ("MESSAGE", 4, "late"),
            ("PRIORITY", 1, "4"),
            ("SYSLOG_IDENTIFIER", 5, "drctl"),
            ("DRCTL_SOURCE", 12, "a\nPRIORITY=0"),
            ("DRCTL_TOOK_S", 1, "7"),
        ] {
            expected.extend_from_slice(format!("{name}\n").as_bytes());
            expected.extend_from_slice(&[length, 0, 0, 0, 0, 0, 0, 0]);
            expected.extend_from_slice(format!("{value}\n").as_bytes());
        }
        assert_eq!(entry(&told), expected);
    }

    #[test]
    fn the_journal_is_known_by_the_stream_that_systemd_names() {
        assert!(is_stream("8:4711", 8, 4711));
        for other in ["", "8", "8:471", "8:47110", "4711:8", "8:4711 "] {
            assert!(!is_stream(other, 8, 4711), "{other}");
        }
    }
}
