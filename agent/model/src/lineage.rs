use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::log_at::digits;
use crate::{Timeline, shown};

/// The most letters of a [`Lineage`].
const MAX: usize = 64;

/// What has one order of positions in the log of a source: of PostgreSQL a timeline of a cluster.
/// Opaque to all but its engine, and safe in a key: lower-case letters, digits and `-`.
///
/// The order of two lineages is that of their texts, and says nothing of their logs. A clone is the
/// same text: a million pieces may be of one lineage.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Lineage(Arc<str>);

/// A text that is no lineage, or none of the engine that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no lineage of a log")]
pub struct LineageError(String);

/// A position in the log of a source. Those of different lineages do not compare: neither is before
/// the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LogPosition {
    /// Where it counts.
    pub lineage: Lineage,
    /// Its number: see [`Position`](crate::Position).
    pub at: u64,
}

impl PartialOrd for LogPosition {
    fn partial_cmp(&self, other: &LogPosition) -> Option<Ordering> {
        (self.lineage == other.lineage).then(|| self.at.cmp(&other.at))
    }
}

impl Lineage {
    /// A timeline of a PostgreSQL cluster.
    #[must_use]
    pub fn of_timeline(system_id: u64, timeline: Timeline) -> Lineage {
        Lineage(format!("{system_id:016x}-{:08x}", timeline.id()).into())
    }

    /// The cluster's system identifier and its timeline; nothing for a lineage of another engine.
    #[must_use]
    pub fn timeline(&self) -> Option<(u64, Timeline)> {
        let (system_id, timeline) = self.0.split_once('-')?;
        let timeline = u32::try_from(digits(timeline, 8)?).ok().and_then(Timeline::new)?;
        Some((digits(system_id, 16)?, timeline))
    }

    /// The same, sharing the text of `other` where it is equal.
    #[must_use]
    pub fn shared(self, other: Option<&Lineage>) -> Lineage {
        match other {
            Some(other) if self.0 == other.0 => other.clone(),
            _ => self,
        }
    }

    /// As it stands in a key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Lineage {
    type Err = LineageError;

    fn from_str(text: &str) -> Result<Lineage, LineageError> {
        let plain = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'-');
        match (1..=MAX).contains(&text.len()) && text.bytes().all(plain) {
            true => Ok(Lineage(text.into())),
            false => Err(LineageError(shown(text, 80))),
        }
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<Lineage> for String {
    fn from(lineage: Lineage) -> String {
        lineage.0.to_string()
    }
}

impl TryFrom<String> for Lineage {
    type Error = LineageError;

    fn try_from(text: String) -> Result<Lineage, LineageError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_two_lineages_do_not_compare() {
        let two = Timeline::new(2).unwrap();
        let wal = Lineage::of_timeline(7, Timeline::FIRST);
        let others = [
            Lineage::of_timeline(7, two),
            Lineage::of_timeline(8, Timeline::FIRST),
            "3e11fa47-71ca-11e1-9e33-c80aa9429562-0".parse().unwrap(),
        ];
        let at = |lineage: &Lineage, at| LogPosition { lineage: lineage.clone(), at };
        assert!(at(&wal, 5) < at(&wal, 6) && at(&wal, 6) >= at(&wal, 6));
        for other in &others {
            for (one, two) in [(5, 5), (5, 6), (6, 5)] {
                assert_eq!(at(&wal, one).partial_cmp(&at(other, two)), None);
            }
            assert_ne!(at(&wal, 5), at(other, 5));
        }
    }

    #[test]
    fn a_lineage_is_safe_in_a_key_and_only_its_engine_reads_it() {
        let wal = Lineage::of_timeline(u64::MAX, Timeline::new(0xab).unwrap());
        assert_eq!(wal.as_str(), "ffffffffffffffff-000000ab");
        assert_eq!(wal.timeline(), Some((u64::MAX, Timeline::new(0xab).unwrap())));
        assert_eq!(wal.as_str().parse(), Ok(wal.clone()));
        let again: Lineage = wal.as_str().parse().unwrap();
        assert!(Arc::ptr_eq(&again.shared(Some(&wal)).0, &wal.0));
        for other in ["oplog-rs0", "1-00000001", "0000000000000001-00000000", "-"] {
            assert_eq!(other.parse::<Lineage>().unwrap().timeline(), None, "{other}");
        }
        for wrong in ["", "a/b", "A", "a.b", "é", &"a".repeat(MAX + 1)] {
            assert!(wrong.parse::<Lineage>().is_err(), "{wrong}");
        }
    }
}
