//! Which files of `pg_wal` wait to be archived.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The files that PostgreSQL has marked in `archive_status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// Segments, in the order in which the server archives them (`ready_file_comparator` in
    /// `pgarch.c`: by name).
    pub(super) segments: Vec<String>,
    /// How many those are, where not all of them are named.
    pub(super) files: u64,
    /// Whether a timeline's history is among them, which the server archives before all segments.
    pub(super) history: bool,
}

impl Waiting {
    /// Looks beside a file that the server has handed over; nothing where it is not such a file.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn beside(path: &Path, name: &str) -> io::Result<Option<Waiting>> {
        let status = path.parent().unwrap_or(Path::new("")).join("archive_status");
        if !status.join(format!("{name}.ready")).exists() {
            return Ok(None);
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&status)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(Some(Waiting::of(names)))
    }

    fn of(marks: impl IntoIterator<Item = String>) -> Self {
        let mut waiting = Waiting::default();
        for mark in marks {
            match mark.strip_suffix(".ready") {
                Some(name) if is_segment(name) => waiting.segments.push(name.to_owned()),
                Some(name) if name.ends_with(".history") => waiting.history = true,
                _ => {}
            }
        }
        waiting.segments.sort();
        waiting.files = waiting.segments.len() as u64;
        waiting
    }

    /// The same where the history cannot be stored.
    pub(super) fn past_history(&self) -> Waiting {
        Waiting { history: false, ..self.clone() }
    }

    /// The segments behind `name` that may be stored before the server asks for them, at most
    /// `most`: none while a history waits, which comes first.
    pub(super) fn behind(&self, name: &str, most: usize) -> &[String] {
        if self.history {
            return &[];
        }
        // What comes first has everything behind it.
        let from = match is_segment(name) {
            true => self.segments.partition_point(|other| other.as_str() <= name),
            false => 0,
        };
        let rest = &self.segments[from..];
        &rest[..rest.len().min(most)]
    }
}

/// `IsXLogFileName`: timeline and number of a whole segment.
pub(super) fn is_segment(name: &str) -> bool {
    name.len() == 24 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(names: &[&str]) -> Waiting {
        Waiting::of(names.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn whole_segments_that_are_ready_follow_in_order() {
        let names = [
            "000000010000000000000009.ready",
            "000000010000000000000003.ready",
            "000000010000000000000004.done",
            "000000010000000000000005.partial.ready",
            "000000010000000000000006.00000028.backup.ready",
            "00000001000000000000000A.ready",
            "00000001000000000000000b.ready",
            "000000020000000000000001.ready",
            "archive_status.ready",
        ];
        let found = waiting(&names);
        let all = [
            "000000010000000000000003",
            "000000010000000000000009",
            "00000001000000000000000A",
            "000000020000000000000001",
        ];
        assert_eq!(found.segments, all);
        assert_eq!(found.behind(all[0], 9), &all[1..]);
        assert_eq!(found.behind(all[0], 2), &all[1..3]);
        assert_eq!(found.behind(all[3], 9), [""; 0]);
        assert_eq!(found.behind("000000010000000000000008", 1), &all[1..2]);
    }

    #[test]
    fn a_history_comes_first() {
        let found =
            waiting(&["000000010000000000000003.ready", "00000002.history.ready", "x.ready"]);
        assert!(found.history);
        assert_eq!(found.behind("000000010000000000000002", 9), [""; 0]);
        assert_eq!(found.segments.len(), 1);
        let past = found.past_history();
        assert_eq!(past.behind("00000002.history", 9), found.segments);
        assert!(!waiting(&["00000002.history.done"]).history);
    }
}
