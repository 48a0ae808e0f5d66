//! Settings of a cluster that was extracted, so that it recovers as it should and does no harm.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::Path;

use drctl_model::{Lsn, Timeline};

use super::Layout;
use super::conf;
use super::guard::{self, INSTANCE};
use crate::common::EngineError;

/// Where a recovery is to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopAt {
    /// At the end of the WAL that the base backup brings along, which makes it consistent; the
    /// server itself refuses to end before (`recovery ended before …`). Not `recovery_target =
    /// 'immediate'`: that fails where no record follows the point, as in a base backup of an idle
    /// standby.
    EndOfLog,
    /// Nowhere: it replays what comes, as a standby does, until it is stopped or promoted.
    Standby,
    /// Behind the last commit at this time or before, written as PostgreSQL reads it, in UTC.
    Time(String),
    /// At the first record that begins at a position or later.
    Lsn {
        /// The position.
        lsn: Lsn,
        /// Whether that record is itself replayed.
        inclusive: bool,
    },
    /// At the end of a transaction.
    Xid {
        /// Its number.
        xid: u32,
        /// Whether it is itself replayed.
        inclusive: bool,
    },
    /// At a restore point.
    Name(String),
}

/// How a cluster that was extracted is to recover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The shell command that brings the WAL (`restore_command`).
    pub restore_command: String,
    /// The timeline to follow. Always a number: `latest` would follow whatever appears.
    pub timeline: Timeline,
    /// Where to stop.
    pub stop: StopAt,
}

/// Settings that a restored cluster must not inherit: they reach out, or decide a recovery.
const DROPPED: &[&str] = &[
    "archive_cleanup_command",
    "archive_command",
    "archive_library",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_end_command",
    "synchronous_standby_names",
];

/// Whether a line of `postgresql.auto.conf` sets something that must not stay. What it includes is no
/// part of the cluster, and `ALTER SYSTEM` writes no such line.
pub(super) fn is_dropped(line: &str) -> bool {
    let name = conf::name(line).unwrap_or_default();
    name.starts_with("recovery_")
        || name.starts_with("include")
        || name == "restore_command"
        || DROPPED.contains(&name.as_str())
}

/// What stands above the lines that are ours.
const HEAD: &str =
    "# Written by drctl for this restored cluster; the last line of a name counts.\n";

/// Lines of ours that set what a cluster of its own may set too.
const OURS: [(&str, &str); 4] = [
    ("archive_mode", "off"),
    ("hot_standby", "off"),
    ("hot_standby", "on"),
    ("max_logical_replication_workers", "0"),
];

/// Whether a line is one that was written here when the recovery was begun, and is written again.
fn is_ours(line: &str) -> bool {
    HEAD.trim_end() == line
        || OURS.iter().any(|(name, value)| conf::line(name, value) == format!("{line}\n"))
}

/// The lines of `postgresql.auto.conf` that stay, as they are: they need not be UTF-8.
fn kept(old: &[u8]) -> Vec<u8> {
    let lines = old.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let goes = |line: &str| is_dropped(line) || is_ours(line);
    let stays = lines.filter(|line| !goes(&String::from_utf8_lossy(line)));
    stays.flat_map(|line| [line, b"\n"].concat()).collect()
}

/// The lines that make the cluster recover, and keep it from archiving into the source's archive,
/// from following its primary and from replicating out.
fn settings(recovery: &Recovery) -> String {
    let lines = vec![
        ("archive_mode", "off".to_owned()),
        ("archive_command", String::new()),
        ("primary_conninfo", String::new()),
        ("primary_slot_name", String::new()),
        ("synchronous_standby_names", String::new()),
        // The source's own would clear its archive, or tell others that it was promoted.
        ("archive_cleanup_command", String::new()),
        ("recovery_end_command", String::new()),
        // That of a standby which lags on purpose.
        ("recovery_min_apply_delay", "0".to_owned()),
        ("max_logical_replication_workers", "0".to_owned()),
        ("restore_command", recovery.restore_command.clone()),
        ("recovery_target_timeline", recovery.timeline.to_string()),
    ];
    // What stands in `postgresql.conf` would be a second target, which the server refuses.
    let targets = ["", "_time", "_lsn", "_xid", "_name"].map(|end| format!("recovery_target{end}"));
    let mut lines: Vec<(&str, String)> =
        targets.iter().map(|name| (name.as_str(), String::new())).chain(lines).collect();
    let exclusive = matches!(
        recovery.stop,
        StopAt::Xid { inclusive: false, .. } | StopAt::Lsn { inclusive: false, .. }
    );
    lines.push(("recovery_target_inclusive", if exclusive { "off" } else { "on" }.to_owned()));
    match &recovery.stop {
        StopAt::EndOfLog => {
            lines.push(("recovery_target_action", "promote".to_owned()));
            // As a hot standby it would refuse to start with less than the source's own settings,
            // which may lie outside its files.
            lines.push(("hot_standby", "off".to_owned()));
        }
        StopAt::Standby => lines.push(("hot_standby", "on".to_owned())),
        StopAt::Time(at) => lines.push(("recovery_target_time", at.clone())),
        StopAt::Lsn { lsn, .. } => lines.push(("recovery_target_lsn", lsn.to_string())),
        StopAt::Xid { xid, .. } => lines.push(("recovery_target_xid", xid.to_string())),
        StopAt::Name(name) => lines.push(("recovery_target_name", name.clone())),
    }
    if !matches!(recovery.stop, StopAt::EndOfLog | StopAt::Standby) {
        lines.push(("recovery_target_action", "pause".to_owned()));
        lines.push(("hot_standby", "on".to_owned()));
    }
    let lines: String = lines.iter().map(|(name, value)| conf::line(name, value)).collect();
    format!("{HEAD}{lines}")
}

/// What is written where the cluster's configuration lies outside its data directory, as on
/// Debian: just enough for it to start.
const CONFIGURATION: &str = "# Written by drctl: the configuration of the source lay elsewhere.\n";
const ACCESS: &str = "# Written by drctl: that of the source lay elsewhere.\nlocal all all peer\n";

/// Makes an extracted cluster ready to be started: it recovers as told, and then is a cluster of
/// its own. Returns what the operator should know.
///
/// # Errors
/// [`EngineError::Io`].
pub fn prepare(layout: &Layout, recovery: &Recovery) -> Result<Vec<String>, EngineError> {
    let at = layout.data();
    let failed = |what: &str| {
        let action = format!("{what} in {}", at.display());
        move |error: io::Error| EngineError::io(action)(error)
    };
    let data = layout.below_data().map_err(failed("look"))?;
    let write = |name: &str, text: &[u8]| {
        let written = data.rewrite(Path::new(name)).and_then(|mut file| {
            file.write_all(text)?;
            file.sync_all()
        });
        written.map_err(failed(&format!("write {name}")))
    };
    let mut notes = Vec::new();
    for (name, text) in [(guard::CONFIGURATION, CONFIGURATION), ("pg_hba.conf", ACCESS)] {
        if !data.has(Path::new(name)).map_err(failed("look"))? {
            write(name, text.as_bytes())?;
            notes.push(format!("{name} was not in the data directory: a minimal one was written"));
        }
    }
    let auto = INSTANCE;
    let mut old = Vec::new();
    match data.read(Path::new(auto)).and_then(|mut file| file.read_to_end(&mut old)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(failed(&format!("read {auto}"))(error));
        }
        _ => {}
    }
    write(auto, &[kept(&old), settings(recovery).into_bytes()].concat())?;
    // Without either the server takes the cluster for one that has crashed: no new timeline, no
    // target.
    let (signal, other) = match recovery.stop {
        StopAt::Standby => ("standby.signal", "recovery.signal"),
        _ => ("recovery.signal", "standby.signal"),
    };
    // At no moment without either: it would look like a cluster of its own.
    write(signal, b"")?;
    data.remove(Path::new(other)).map_err(failed(&format!("remove {other}")))?;
    data.sync().map_err(failed("sync all"))?;
    notes.push(
        "archiving and logical replication are switched off in it (postgresql.auto.conf): if it is \
         to replace the source's server, run `drctl take-over`"
            .to_owned(),
    );
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_out_or_decides_a_recovery_does_not_stay() {
        for line in [
            "primary_conninfo = 'host=db1'",
            " Restore_Command='x'",
            "recovery_target_time = '2026-01-01'",
            "archive_command\t= 'y'",
            "include '/etc/postgresql/15/main/conf.d/x.conf'",
            "Include_If_Exists = 'x'",
        ] {
            assert!(is_dropped(line), "{line}");
        }
        for line in ["work_mem = '5MB'", "# primary_conninfo", "", "archive_timeout = 60"] {
            assert!(!is_dropped(line), "{line}");
        }
    }

    #[test]
    fn values_are_quoted() {
        let recovery = Recovery {
            restore_command: "it's %f".to_owned(),
            timeline: Timeline::FIRST,
            stop: StopAt::EndOfLog,
        };
        let text = settings(&recovery);
        assert_eq!(text.matches("recovery_target_time = ").count(), 1, "{text}");
        assert!(text.contains("restore_command = 'it''s %f'\n"), "{text}");
        assert!(text.contains("recovery_target_timeline = '1'\n"), "{text}");
        let named = Recovery { stop: StopAt::Name("deploy\\v2 'a'".to_owned()), ..recovery };
        let text = settings(&named);
        assert!(text.contains("recovery_target_name = 'deploy\\\\v2 ''a'''\n"), "{text}");
    }

    #[test]
    fn what_was_written_before_is_written_once() {
        let recovery =
            |stop| Recovery { restore_command: "x".to_owned(), timeline: Timeline::FIRST, stop };
        let old = b"work_mem = 1\narchive_mode = 'on'\n";
        let text = |old: &[u8], stop| [kept(old), settings(&recovery(stop)).into_bytes()].concat();
        let first = text(old, StopAt::EndOfLog);
        for stop in [StopAt::Standby, StopAt::EndOfLog] {
            let again = text(&first, stop.clone());
            assert_eq!(again, text(old, stop), "{}", String::from_utf8_lossy(&again));
        }
        assert!(first.starts_with(old), "the cluster's own lines stay");
    }

    #[test]
    fn what_is_no_utf8_stays_as_it_is() {
        let old = b"cluster_name = 'caf\xe9'\nprimary_conninfo = 'host=\xe9'\n\nwork_mem = 1";
        assert_eq!(kept(old), b"cluster_name = 'caf\xe9'\nwork_mem = 1\n");
    }
}
