//! Which members an archive of a cluster may have: what PostgreSQL writes (`basebackup.c`), and
//! nothing that could be more than data.

use drctl_model::shown;

use super::tar::{Member, MemberKind};
use crate::pg::dump::WalkError;

/// The directory of the WAL.
const LOG: &str = "pg_wal";

/// The directory of the links to tablespaces.
const LINKS: &str = "pg_tblspc/";

/// Refuses a member that no server sends. The server's list tells nothing of links, directories and
/// the WAL: a stranger between the server and us could send what he likes there.
///
/// # Errors
/// [`WalkError::Contents`].
pub(super) fn is_expected(member: &Member, in_tablespace: bool) -> Result<(), WalkError> {
    let path = member.path.as_str();
    let refused = |why: &str| {
        Err(WalkError::Contents(format!("{} is {why}, which no server sends", shown(path, 200))))
    };
    if let MemberKind::Link(_) = member.kind {
        return match tablespace_link(path) {
            Some(_) if !in_tablespace => Ok(()),
            _ => refused("a link"),
        };
    }
    if in_tablespace || !(path == LOG || path.starts_with("pg_wal/")) {
        return Ok(());
    }
    match (&member.kind, &path[LOG.len()..]) {
        (MemberKind::Directory, "" | "/archive_status" | "/summaries") => Ok(()),
        (MemberKind::File, name) if is_of_log(name.trim_start_matches('/')) => Ok(()),
        _ => refused("no WAL file"),
    }
}

/// The tablespace that a link of this path leads to.
pub(super) fn tablespace_link(path: &str) -> Option<u32> {
    let text = path.strip_prefix(LINKS)?;
    let oid: u32 = text.parse().ok()?;
    // In the one form that the server writes.
    (oid > 0 && oid.to_string() == text).then_some(oid)
}

/// Whether a path below the WAL's directory is a segment's, a history's, or a note that one was
/// archived.
fn is_of_log(path: &str) -> bool {
    let (name, noted) = match path.strip_prefix("archive_status/") {
        Some(note) => match note.strip_suffix(".done").or(note.strip_suffix(".ready")) {
            Some(name) => (name, true),
            None => return false,
        },
        None => (path, false),
    };
    let digits = |text: &str, count: usize| {
        text.len() == count && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'))
    };
    let (name, backup) = match name.strip_suffix(".backup") {
        // The label of a backup: a segment's name and a place in it.
        Some(label) => (label, label.split_once('.').is_some_and(|(_, at)| digits(at, 8))),
        None => (name, false),
    };
    if backup {
        return noted && name.split_once('.').is_some_and(|(segment, _)| digits(segment, 24));
    }
    let name = name.strip_suffix(".partial").filter(|_| noted).unwrap_or(name);
    digits(name, 24) || name.strip_suffix(".history").is_some_and(|name| digits(name, 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(path: &str, kind: MemberKind) -> Member {
        Member { path: path.to_owned(), kind, size: 0, mode: 0o600 }
    }

    #[test]
    fn what_a_server_sends_is_taken() {
        let directories = ["pg_wal", "pg_wal/archive_status", "pg_wal/summaries", "base/1", "x y"];
        for path in directories {
            let member = member(path, MemberKind::Directory);
            assert_eq!(is_expected(&member, false), Ok(()), "{path}");
        }
        let files = [
            "pg_wal/000000010000000A000000FF",
            "pg_wal/00000002.history",
            "pg_wal/archive_status/000000010000000A000000FF.done",
            "pg_wal/archive_status/00000002.history.done",
            "pg_wal/archive_status/000000010000000A000000FF.00000028.backup.done",
            "pg_wal/archive_status/000000010000000A000000FF.partial.ready",
            "PG_VERSION",
            "base/1/authorized_keys",
            "pg_wall",
        ];
        for path in files {
            assert_eq!(is_expected(&member(path, MemberKind::File), false), Ok(()), "{path}");
        }
        let link = member("pg_tblspc/16400", MemberKind::Link("/srv/fast".into()));
        assert_eq!(is_expected(&link, false), Ok(()));
    }

    #[test]
    fn what_no_server_sends_is_refused() {
        let links = [
            "pg_wal",
            "pg_wal/x",
            "base/1",
            "pg_tblspc",
            "pg_tblspc/x",
            "pg_tblspc/+5",
            "pg_tblspc/05",
            "pg_tblspc/0",
            "pg_tblspc/16400/x",
            "postgresql.auto.conf",
        ];
        for path in links {
            let link = member(path, MemberKind::Link("/srv/elsewhere".into()));
            assert!(is_expected(&link, false).is_err(), "{path}");
        }
        let link = member("pg_tblspc/16400", MemberKind::Link("/srv/fast".into()));
        assert!(is_expected(&link, true).is_err());
        let files = [
            "pg_wal",
            "pg_wal/authorized_keys",
            "pg_wal/x/y",
            "pg_wal/000000010000000A000000FG",
            "pg_wal/000000010000000A000000FF.done",
            "pg_wal/000000010000000A000000FF.partial",
            "pg_wal/archive_status/x.done",
            "pg_wal/archive_status/000000010000000A000000FF",
            "pg_wal/archive_status/../x",
            "pg_wal/RECOVERYXLOG",
        ];
        for path in files {
            assert!(is_expected(&member(path, MemberKind::File), false).is_err(), "{path}");
        }
        assert!(is_expected(&member("pg_wal/x", MemberKind::Directory), false).is_err());
    }
}
