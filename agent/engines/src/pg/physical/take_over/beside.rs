//! Servers on this host that have the same cluster: the one whose place is to be taken may still live.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::PathBuf;

use super::super::private::is_private;

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The number of its process.
    pub id: u32,
    /// Its data directory.
    pub data: PathBuf,
}

/// The servers of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beside {
    /// Those of the cluster, wherever they lie.
    pub same: Vec<Server>,
    /// How many run under another account, and cannot be looked at.
    pub unknown: u64,
}

/// Looks at all processes: a server works in its data directory. One that a recovery or drill has
/// started in private is nobody's source.
#[must_use]
pub fn servers_beside(system_id: u64) -> Beside {
    let mut found = Beside::default();
    let Ok(entries) = fs::read_dir("/proc") else { return found };
    for id in entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()) {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        // Its children tell what they do in the place of the program's name.
        let is_server = words.first().is_some_and(|program| {
            program.ends_with(b"/postgres")
                || *program == b"postgres"
                || program.ends_with(b"/postmaster")
        });
        if !is_server || words.iter().any(|word| names_private(word)) {
            continue;
        }
        let place = PathBuf::from(format!("/proc/{id}/cwd"));
        let data = match fs::read_link(&place) {
            Ok(data) => data,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                found.unknown += 1;
                continue;
            }
            Err(_) => continue,
        };
        // The first field of `ControlFileData`.
        let mut bytes = [0; 8];
        let file = fs::File::open(place.join("global/pg_control"));
        if file.and_then(|mut file| file.read_exact(&mut bytes)).is_ok()
            && u64::from_ne_bytes(bytes) == system_id
        {
            found.same.push(Server { id, data });
        }
    }
    found
}

/// Whether a word of a command line is the setting that names a private directory of ours.
fn names_private(word: &[u8]) -> bool {
    let value = word.strip_prefix(b"unix_socket_directories=");
    value.is_some_and(|value| {
        is_private(PathBuf::from(String::from_utf8_lossy(value).trim_matches('"')).as_path())
    })
}
