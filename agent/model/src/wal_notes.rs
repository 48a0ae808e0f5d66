use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Holds, LogNotes, Lsn, Timeline, WalLevel};

/// What PostgreSQL notes of a timeline's log: its reading of [`LogNotes`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WalNotes {
    /// What its history tells: the ancestors, oldest first, and where each was left; nothing
    /// where there is no history.
    pub history: Option<Vec<(Timeline, Lsn)>>,
    /// Its restore points.
    #[serde(default)]
    pub points: Vec<NotedPoint>,
    /// Where it cannot be replayed.
    #[serde(default)]
    pub breaks: Vec<NotedBreak>,
}

impl WalNotes {
    /// As they were noted; nothing where they cannot be read.
    #[must_use]
    pub fn read(notes: &LogNotes) -> Option<WalNotes> {
        WalNotes::deserialize(&notes.own).ok()
    }

    /// To be noted.
    #[must_use]
    pub fn written(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(own)) => own,
            _ => Map::new(),
        }
    }
}

/// Where log cannot be replayed, and the piece that told of it: `wal_level = minimal` from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NotedBreak {
    /// The first byte of the piece.
    pub start: Lsn,
    /// Behind its last byte.
    pub end: Lsn,
    /// The end of the last record that can be.
    pub at: Lsn,
}

impl NotedBreak {
    /// Those in a piece of which this is signed.
    #[must_use]
    pub fn of((start, end): (Lsn, Lsn), holds: &Holds) -> Vec<NotedBreak> {
        let minimal =
            holds.settings().iter().filter(|one| one.settings.wal_level == WalLevel::Minimal);
        minimal.map(|one| NotedBreak { start, end, at: one.behind.max(start) }).collect()
    }
}

/// A restore point, and the piece that told of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NotedPoint {
    /// The first byte of the piece.
    pub start: Lsn,
    /// Behind its last byte.
    pub end: Lsn,
    /// The end of the record.
    pub lsn: Lsn,
    /// When it was made.
    pub at: Timestamp,
    /// Its name.
    pub name: String,
}

impl NotedPoint {
    /// Those in a piece of which this is signed.
    #[must_use]
    pub fn of((start, end): (Lsn, Lsn), holds: &Holds) -> Vec<NotedPoint> {
        let point = |(name, lsn, at): &(String, Lsn, Timestamp)| NotedPoint {
            start,
            end,
            lsn: *lsn,
            at: *at,
            name: name.clone(),
        };
        holds.restore_points().iter().map(point).collect()
    }
}
