//! What is wrong with how a server's log fares; no IO.

use drctl_engines::pg::{LogHealth, SlotHealth, typed_ident};
use drctl_model::{Finding, FindingCode, SourceId};

use crate::host::Level;
use crate::host::figures::bytes;

/// From here on a slot, or an archiver that is behind, is on its way to fill the disk.
const MUCH_LOG: u64 = 1 << 30;

/// Log that waits is worth no word up to here, however small the disk.
const LITTLE_LOG: u64 = 64 << 20;

/// What may be found of how a server's log fares.
pub(super) const OF_SERVER: [FindingCode; 4] = [
    FindingCode::ArchivingFails,
    FindingCode::LogWaits,
    FindingCode::SlotLost,
    FindingCode::SlotFills,
];

/// One thing that was seen.
pub(crate) struct LogFinding {
    pub(crate) level: Level,
    /// What it is, where it is anything that is amiss.
    pub(crate) code: Option<FindingCode>,
    pub(crate) text: String,
    pub(crate) hint: Option<String>,
    /// The slot that it is about, where it is about one.
    pub(crate) slot: Option<String>,
}

impl LogFinding {
    /// What is to be kept of it.
    pub(crate) fn finding(&self, source: &SourceId) -> Option<Finding> {
        Some(Finding {
            code: self.code?,
            source: source.clone(),
            subject: self.slot.as_ref().map_or(String::new(), |slot| slot_named(slot)),
            text: self.text.clone(),
            hint: self.hint.clone(),
        })
    }
}

/// What a finding about a slot is about.
pub(super) fn slot_named(slot: &str) -> String {
    format!("slot {slot}")
}

fn finding(code: FindingCode, text: String, hint: &str) -> LogFinding {
    let hint = Some(hint.to_owned());
    LogFinding { level: code.level(), code: Some(code), text, hint, slot: None }
}

fn good(text: String) -> LogFinding {
    LogFinding { level: Level::Good, code: None, text, hint: None, slot: None }
}

/// Whether log that waits takes so much of the room there was that somebody should look: a fifth,
/// which leaves four times as long as it took until then.
fn fills(waiting: u64, free: Option<u64>) -> bool {
    waiting > MUCH_LOG || waiting > LITTLE_LOG && free.is_some_and(|free| waiting > free / 4)
}

/// Everything worth a word, good or not.
pub(crate) fn log_findings(health: &LogHealth) -> Vec<LogFinding> {
    let mut found = Vec::new();
    let room =
        health.free_bytes.map_or(String::new(), |free| format!(", {} are free", bytes(free)));
    if let Some(file) = &health.failing {
        let text = format!("the server cannot archive {file}: its WAL piles up{room}");
        let hint = "look into the server's log for what archive_command said";
        found.push(finding(FindingCode::ArchivingFails, text, hint));
    }
    if let Some(waiting) = health.waiting_bytes {
        let waiting = waiting.unsigned_abs();
        let text = format!("{} of WAL wait to be archived", bytes(waiting));
        if fills(waiting, health.free_bytes) {
            let hint = "the disk of pg_wal fills up: find out why archiving fails";
            found.push(finding(FindingCode::LogWaits, text + &room, hint));
        } else if health.archiving {
            found.push(good(text));
        }
    }
    if let Some(role) = health.unasked.as_ref().filter(|_| health.archiving) {
        let text = format!("{role} may not see how much WAL waits to be archived");
        let hint = Some(format!("run `GRANT pg_monitor TO {};`", typed_ident(role)));
        found.push(LogFinding { level: Level::Warning, code: None, text, hint, slot: None });
    }
    found.extend(health.slots.iter().map(|slot| of_slot(slot, (health.free_bytes, &room))));
    found
}

fn of_slot(slot: &SlotHealth, (free, room): (Option<u64>, &str)) -> LogFinding {
    let (name, kept) = (&slot.name, slot.kept_bytes.unwrap_or(0).unsigned_abs());
    let found = if matches!(slot.status.as_str(), "lost" | "unreserved") {
        let text = format!("the slot {name} has lost WAL, or is about to ({})", slot.status);
        let hint = "take a new base backup; then drop the slot or start its stream again";
        finding(FindingCode::SlotLost, text, hint)
    } else if fills(kept, free) {
        let text = format!("the slot {name} keeps {} of WAL on the server{room}", bytes(kept));
        let hint = match slot.active {
            true => "its stream does not keep up, or cannot store: check its messages",
            false => "start its stream, or drop it: it fills the disk of pg_wal",
        };
        finding(FindingCode::SlotFills, text, hint)
    } else {
        let read = if slot.active { "is read from" } else { "is not read from" };
        good(format!("the slot {name} {read}, and keeps {} of WAL", bytes(kept)))
    };
    LogFinding { slot: Some(slot.name.clone()), ..found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_that_waits_is_told_of_long_before_the_disk_is_full() {
        let mib = |n: u64| n << 20;
        for (waiting, free, told) in [
            (mib(10), Some(mib(1)), false),
            (mib(100), None, false),
            (mib(100), Some(mib(1000)), false),
            (mib(100), Some(mib(399)), true),
            (mib(1025), Some(u64::MAX), true),
            (mib(1025), None, true),
        ] {
            let slot = SlotHealth {
                name: "drctl_shop".to_owned(),
                active: false,
                status: "reserved".to_owned(),
                kept_bytes: i64::try_from(waiting).ok(),
            };
            let health = LogHealth {
                archiving: true,
                failing: None,
                waiting_bytes: i64::try_from(waiting).ok(),
                unasked: None,
                slots: vec![slot],
                free_bytes: free,
            };
            let levels: Vec<Level> = log_findings(&health).iter().map(|f| f.level).collect();
            let expected = if told { Level::Warning } else { Level::Good };
            assert_eq!(levels, [expected; 2], "{waiting} {free:?}");
        }
    }
}
