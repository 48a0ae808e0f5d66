//! Whether the log that waits in `pg_wal` grows towards a full disk, and when to say so.

use std::fs;
use std::path::Path;

use drctl_model::{Checked, Finding, FindingCode, SourceId};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::host::figures::bytes;
use crate::host::private;

/// From so many bytes on archiving is behind; as `doctor` has it.
const BEHIND_BYTES: u64 = 1 << 30;

/// Fewer files are no queue, however large they are.
const BEHIND_FILES: u64 = 8;

/// With fewer files waiting it is not their fault that the disk is full.
const FILLING_FILES: u64 = 4;

/// What is found; as `doctor` and `wal stream` find it.
const WAITS: FindingCode = FindingCode::LogWaits;

/// What waits to be archived, and the room that is left for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backlog {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Bytes that the server may still write into the file system of `pg_wal`; nothing where that
    /// cannot be known.
    pub(super) room: Option<u64>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Alarm {
    /// Much waits, and there is room.
    Behind,
    /// More waits than there is room left for: half of the way to a full disk is gone.
    Filling,
}

/// The last warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    at: Timestamp,
    alarm: Alarm,
    files: u64,
}

impl Backlog {
    fn alarm(&self) -> Option<Alarm> {
        let filling = self.room.is_some_and(|room| room < self.bytes);
        if filling && self.files >= FILLING_FILES {
            Some(Alarm::Filling)
        } else if self.bytes >= BEHIND_BYTES && self.files >= BEHIND_FILES {
            Some(Alarm::Behind)
        } else {
            None
        }
    }

    fn finding(&self, alarm: Alarm, source: &SourceId) -> Finding {
        let waits = format!("{} WAL files ({}) wait to be archived", self.files, bytes(self.bytes));
        let room =
            self.room.map_or(String::new(), |room| format!(", room for {} is left", bytes(room)));
        let (what, hint) = match alarm {
            Alarm::Filling => (
                "when it is full the server stops",
                format!(
                    "see in the server's log why archiving fails, or what makes it slow (`drctl \
                     doctor {source}`); make room or enlarge the file system, and remove nothing \
                     from pg_wal"
                ),
            ),
            Alarm::Behind => (
                "archiving is slower than the server writes, or fails",
                format!("see the server's log, and `drctl doctor {source}`"),
            ),
        };
        Finding {
            code: WAITS,
            source: source.clone(),
            subject: String::new(),
            text: format!("{waits}{room} in pg_wal's file system: {what}"),
            hint: Some(hint),
        }
    }
}

/// Whether to say it: at once when it has become worse; else not too often, and not while a queue
/// that is large but harmless gets shorter.
fn due(alarm: Alarm, files: u64, said: Option<Said>, now: Timestamp) -> bool {
    let Some(said) = said else { return true };
    if alarm > said.alarm {
        return true;
    }
    let (pause, worth) = match alarm {
        Alarm::Filling => (SignedDuration::from_mins(1), true),
        Alarm::Behind => (SignedDuration::from_mins(10), files >= said.files),
    };
    let since = now.duration_since(said.at);
    // A clock that was set back must not silence it.
    worth && (since >= pause || since < SignedDuration::ZERO)
}

/// What is to be said and kept of it, if there is cause and that was not said just now; or that there
/// is none any more. `memory` is the file that remembers when it was said. Where it cannot be written,
/// only the worse of the two is said, with each call.
pub(super) fn news(
    backlog: &Backlog,
    source: &SourceId,
    memory: &Path,
    now: Timestamp,
) -> Option<Checked> {
    let Some(alarm) = backlog.alarm() else {
        // The next time is the first time again.
        let stood = fs::remove_file(memory).is_ok();
        return stood.then(|| Checked::all(&[WAITS], Vec::new()));
    };
    let said = fs::read(memory).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if !due(alarm, backlog.files, said, now) {
        return None;
    }
    let text = serde_json::to_vec(&Said { at: now, alarm, files: backlog.files }).ok()?;
    let remembered = private::write(memory, text).is_ok();
    let told = remembered || alarm == Alarm::Filling;
    told.then(|| Checked::all(&[WAITS], vec![backlog.finding(alarm, source)]))
}

/// Room in the file system of a file, for those who are not root.
pub(super) fn room(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path.parent()?).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn backlog(files: u64, each: u64, room: u64) -> Backlog {
        Backlog { files, bytes: files * each, room: Some(room) }
    }

    #[test]
    fn it_is_filling_when_less_room_is_left_than_waits() {
        for (files, each, room, expected) in [
            (0, 16 * MIB, 0, None),
            (3, 16 * MIB, MIB, None),
            (4, 16 * MIB, 64 * MIB, None),
            (4, 16 * MIB, 64 * MIB - 1, Some(Alarm::Filling)),
            (63, 16 * MIB, 1 << 40, None),
            (64, 16 * MIB, 1 << 40, Some(Alarm::Behind)),
            (64, 16 * MIB, 1 << 30, Some(Alarm::Behind)),
            (64, 16 * MIB, (1 << 30) - 1, Some(Alarm::Filling)),
            // Segments of 1 GiB: one of them alone is no queue.
            (7, 1 << 30, 1 << 40, None),
            (8, 1 << 30, 1 << 40, Some(Alarm::Behind)),
        ] {
            assert_eq!(backlog(files, each, room).alarm(), expected, "{files} {each} {room}");
        }
        let unknown = Backlog { room: None, ..backlog(64, 16 * MIB, 0) };
        assert_eq!(unknown.alarm(), Some(Alarm::Behind));
    }

    #[test]
    fn it_is_said_at_once_when_worse_and_else_not_too_often() {
        let now = Timestamp::from_second(10_000).unwrap();
        let said = |alarm, ago, files| {
            Some(Said { at: now - SignedDuration::from_secs(ago), alarm, files })
        };
        use Alarm::{Behind, Filling};
        for (alarm, files, last, expected) in [
            (Behind, 100, None, true),
            (Filling, 100, None, true),
            (Filling, 100, said(Behind, 0, 100), true),
            (Filling, 100, said(Filling, 59, 10), false),
            (Filling, 100, said(Filling, 60, 10), true),
            (Filling, 100, said(Filling, 60, 1000), true),
            (Behind, 100, said(Behind, 599, 10), false),
            (Behind, 100, said(Behind, 600, 10), true),
            (Behind, 100, said(Behind, 600, 101), false),
            (Behind, 100, said(Behind, -5, 10), true),
            (Behind, 100, said(Filling, 599, 10), false),
        ] {
            assert_eq!(due(alarm, files, last, now), expected, "{alarm:?} {files} {last:?}");
        }
    }

    #[test]
    fn a_warning_is_remembered_and_forgotten_when_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let (memory, source) = (folder.path().join("warned"), "shop".parse().unwrap());
        let now = Timestamp::from_second(10_000).unwrap();
        let tell = |backlog, memory: &Path| news(backlog, &source, memory, now);
        let warn = |backlog, memory: &Path| Some(tell(backlog, memory)?.found.pop()?.line());
        let (full, calm) = (backlog(40, MIB, MIB), backlog(2, MIB, MIB));
        let text = warn(&full, &memory).unwrap();
        assert!(text.contains("40 WAL files (40.0 MiB)") && text.contains("1.0 MiB is left"));
        assert!(text.contains("drctl doctor shop") && !text.contains('\n'), "{text}");
        assert_eq!(warn(&full, &memory), None);
        let settled = Some(Checked::all(&[FindingCode::LogWaits], vec![]));
        assert_eq!((tell(&calm, &memory), tell(&calm, &memory)), (settled, None));
        assert!(warn(&full, &memory).is_some(), "it had passed");
        // Nowhere to remember it.
        let nowhere = folder.path().join("missing/warned");
        assert!(warn(&full, &nowhere).is_some() && warn(&full, &nowhere).is_some());
        assert_eq!(warn(&backlog(2000, MIB, 1 << 40), &nowhere), None);
    }
}
