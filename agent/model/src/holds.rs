use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{Digest, LogAt, WAL, WalHolds};

/// What the records that end in a piece of log tell, checked while it passed: what is common to all
/// engines, and a member of the engine's own name for what only that one knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Holds {
    /// Records.
    pub records: u64,
    /// Where its first record begins, and the one before that as it says.
    pub first_record: Option<(LogAt, LogAt)>,
    /// Where its last record begins, and where that one ends.
    pub last_record: Option<(LogAt, LogAt)>,
    /// The earliest and latest time of a commit or abort.
    pub commits: Option<(Timestamp, Timestamp)>,
    /// The SHA-256 of what lies before it, as its writer had it: the engine says how much of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Digest>,
    /// The same of what lies before its end, where that is not its own bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Digest>,
    /// Whether its writer could not know if it follows the log that the bucket has right before it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unproven: bool,
    /// Of PostgreSQL's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal: Option<WalHolds>,
    /// Of any other engine's, by the name of the feature that its log has.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

impl Holds {
    /// What only one engine tells of its log.
    #[must_use]
    pub fn of_engine(feature: &str, told: Value) -> Holds {
        Holds { others: [(feature.to_owned(), told)].into(), ..Holds::default() }
    }

    /// The features that a document names which has this in it: whose log it is.
    pub fn features(&self) -> impl Iterator<Item = &str> {
        let wal = self.wal.as_ref().map(|_| WAL);
        wal.into_iter().chain(self.others.keys().map(String::as_str))
    }

    /// What both hold, where `next` is told of the bytes right behind these. What another engine
    /// tells is for that engine to join.
    #[must_use]
    pub fn followed_by(mut self, next: &Holds) -> Holds {
        self.records = self.records.saturating_add(next.records);
        self.first_record = self.first_record.or(next.first_record);
        self.last_record = next.last_record.or(self.last_record);
        self.commits = either(self.commits, next.commits, |one, other| {
            (one.0.min(other.0), one.1.max(other.1))
        });
        // What lies before the first stretch; before the second lies the first.
        self.after = next.after.or(self.after);
        self.wal = either(self.wal, next.wal.clone(), |one, other| one.followed_by(&other));
        self
    }
}

pub(crate) fn either<T>(
    one: Option<T>,
    other: Option<T>,
    both: impl FnOnce(T, T) -> T,
) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(both(one, other)),
        (one, other) => one.or(other),
    }
}

/// By hand: a million of them are read, and what serde makes of a flattened map would read each member
/// twice.
impl<'de> Deserialize<'de> for Holds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Holds, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Holds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what a log's piece holds")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Holds, A::Error> {
        let mut holds = Holds::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "records" => holds.records = map.next_value()?,
                "first_record" => holds.first_record = map.next_value()?,
                "last_record" => holds.last_record = map.next_value()?,
                "commits" => holds.commits = map.next_value()?,
                "before" => holds.before = map.next_value()?,
                "after" => holds.after = map.next_value()?,
                "unproven" => holds.unproven = map.next_value()?,
                WAL => holds.wal = map.next_value()?,
                // What is no object is nothing of an engine's, and a field of a newer program.
                _ => {
                    let told: Value = map.next_value()?;
                    holds.others.extend(told.is_object().then_some((name, told)));
                }
            }
        }
        Ok(holds)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Lsn;

    fn holds(records: u64, at: u64, seconds: (i64, i64), xids: (u32, u32)) -> Holds {
        let time = |s: i64| Timestamp::from_second(s).unwrap();
        let wal = WalHolds {
            xids: Some(xids),
            restore_points: vec![(format!("at {at}"), Lsn(at), time(seconds.0))],
            ..WalHolds::default()
        };
        Holds {
            records,
            first_record: Some((LogAt(at), LogAt(at - 8))),
            last_record: Some((LogAt(at + 8), LogAt(at + 16))),
            commits: Some((time(seconds.0), time(seconds.1))),
            wal: Some(wal),
            ..Holds::default()
        }
    }

    #[test]
    fn two_stretches_are_told_as_one() {
        // Times are not in order, and transactions' numbers go round.
        let one = holds(3, 100, (50, 60), (u32::MAX - 5, 2));
        let other = holds(4, 200, (40, 70), (u32::MAX - 9, 1));
        let both = one.clone().followed_by(&other);
        assert_eq!(both.records, 7);
        assert_eq!(both.first_record, one.first_record);
        assert_eq!(both.last_record, other.last_record);
        let seconds = both.commits.map(|(a, b)| (a.as_second(), b.as_second()));
        assert_eq!(seconds, Some((40, 70)));
        assert_eq!(both.xids(), Some((u32::MAX - 9, 2)));
        assert_eq!(both.restore_points().len(), 2);
        let digest = |of| Some(Digest([of; 32]));
        let bound = |before, after| Holds { before, after, ..one.clone() };
        for before in [None, digest(1)] {
            let both = bound(before, digest(2)).followed_by(&bound(digest(2), digest(3)));
            assert_eq!((both.before, both.after), (before, digest(3)));
        }
        let unproven = Holds { unproven: true, ..one.clone() };
        assert!(
            unproven.clone().followed_by(&one).unproven
                && !one.clone().followed_by(&unproven).unproven
        );
        let nothing = Holds::default();
        assert_eq!(nothing.clone().followed_by(&one), one);
        assert_eq!(one.clone().followed_by(&nothing), one);
    }

    #[test]
    fn what_an_engine_tells_of_its_log_comes_back_by_its_name() {
        let tape = Holds {
            records: 3,
            last_record: Some((LogAt(1 << 33), LogAt((1 << 33) + 7))),
            ..Holds::of_engine("tape", json!({ "reels": [1, 2] }))
        };
        let written = json!({
            "records": 3, "first_record": null, "commits": null,
            "last_record": ["0000000200000000", "0000000200000007"], "tape": { "reels": [1, 2] },
        });
        assert_eq!(serde_json::to_value(&tape).unwrap(), written);
        let unproven = Holds { unproven: true, ..Holds::default() };
        for holds in [tape, holds(3, 100, (50, 60), (7, 9)), unproven, Holds::default()] {
            let text = serde_json::to_string(&holds).unwrap();
            assert_eq!(serde_json::from_str::<Holds>(&text).unwrap(), holds, "{text}");
        }
        let features = |text: &str| {
            let holds: Holds = serde_json::from_str(text).unwrap();
            holds.features().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(features(r#"{"wal":{},"newer":7,"tape":{}}"#), ["wal", "tape"]);
        assert!(features("{}").is_empty());
    }
}
