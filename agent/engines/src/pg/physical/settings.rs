//! Settings that the cluster's control file and its WAL ask of the server that replays it.

use std::path::Path;

use crate::common::process::told;

/// The settings of the source that a hot standby must not fall below, and how `pg_controldata`
/// names them (`CheckRequiredParameterValues` in `xlogrecovery.c`).
const NAMES: [(&str, &str); 5] = [
    ("max_connections setting:", "max_connections"),
    ("max_worker_processes setting:", "max_worker_processes"),
    ("max_wal_senders setting:", "max_wal_senders"),
    ("max_prepared_xacts setting:", "max_prepared_transactions"),
    ("max_locks_per_xact setting:", "max_locks_per_transaction"),
];

/// The settings of the source as the cluster's control file has them: those that a hot standby must
/// not fall below, and those that would change the cluster's files where they were others at a
/// promotion. The files that set them may lie outside the base backup. A change in the WAL is noted
/// there before the server looks whether it has enough: one that stopped for it is started again
/// with what is read then.
pub(super) fn source_settings(bin_dir: &Path, data: &Path) -> Vec<(&'static str, String)> {
    let mut tool = std::process::Command::new(bin_dir.join("pg_controldata"));
    let output = told(tool.arg("-D").arg(data).env_clear().env("LC_ALL", "C"));
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    [named(&text), lasting(&text)].concat()
}

fn lasting(text: &str) -> Vec<(&'static str, String)> {
    let of = |label: &str| text.lines().find_map(|line| Some(line.strip_prefix(label)?.trim()));
    let mut found = Vec::new();
    if of("wal_level setting:") == Some("logical") {
        found.push(("wal_level", "logical".to_owned()));
    }
    // A server that is opened without it forgets the times of all commits.
    if of("track_commit_timestamp setting:") == Some("on") {
        found.push(("track_commit_timestamp", "on".to_owned()));
    }
    found
}

fn named(text: &str) -> Vec<(&'static str, String)> {
    let find = |(label, name): &(&str, &'static str)| {
        let value = text.lines().find_map(|line| line.strip_prefix(label))?.trim();
        value.parse::<u32>().ok().map(|value| (*name, value.to_string()))
    };
    NAMES.iter().filter_map(find).collect()
}

/// Whether a server says in its log that the WAL asks for larger settings than it has: a standby
/// that is open pauses then, one that is not yet ends (`RecoveryRequiresIntParameter`).
pub(super) fn are_too_small(words: &str) -> bool {
    words.contains("insufficient parameter settings")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_from_what_pg_controldata_says() {
        let text = "wal_level setting:                    replica\n\
                    max_connections setting:              200\n\
                    max_prepared_xacts setting:           x\n";
        assert_eq!(named(text), [("max_connections", "200".to_owned())]);
    }

    #[test]
    fn what_lasts_is_kept() {
        let text = "wal_level setting:                    logical\n\
                    track_commit_timestamp setting:       on\n";
        let on = |name| (name, "on".to_owned());
        assert_eq!(lasting(text)[1], on("track_commit_timestamp"));
        assert_eq!(lasting("wal_level setting:   replica\n"), []);
    }

    #[test]
    fn a_server_says_that_its_settings_are_too_small() {
        for (text, small) in [
            (
                "WARNING:  hot standby is not possible because of insufficient parameter settings",
                true,
            ),
            ("FATAL:  recovery aborted because of insufficient parameter settings", true),
            ("LOG:  recovery has paused", false),
        ] {
            assert_eq!(are_too_small(text), small, "{text}");
        }
    }
}
