use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Digest, Header, Lineage, LineageError, Lsn, ManifestError, RepositoryId, ServerSettings,
    SourceId, Timeline, WAL, WalSegmentSize,
};

/// What is signed of a piece of PostgreSQL's log; the first line of its object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPiece {
    /// What is read before the rest.
    #[serde(flatten)]
    pub header: Header,
    /// The repository it was written into.
    pub repository: RepositoryId,
    /// The source whose log it is.
    pub source: SourceId,
    /// The host that wrote it.
    pub host: String,
    /// When it was written (clock of the host).
    pub written: Timestamp,
    /// Which cluster and timeline, and what of its log.
    #[serde(flatten)]
    pub place: LogPlace,
    /// Plain bytes.
    pub plain: u64,
    /// SHA-256 of the plain bytes: whether a segment that is pushed again is the same.
    pub plain_sha256: Digest,
    /// Stored bytes behind the first line.
    pub sealed: u64,
    /// SHA-256 of these.
    pub sealed_sha256: Digest,
    /// What of the log it holds; nothing for a file.
    #[serde(default)]
    pub holds: Holds,
}

/// Where a piece of log belongs; all of its key. Written with the lineage that cluster and timeline
/// are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "WrittenPlace", try_from = "WrittenPlace")]
pub struct LogPlace {
    /// The cluster's system identifier.
    pub system_id: u64,
    /// The timeline.
    pub timeline: Timeline,
    /// What it is.
    pub part: LogPart,
}

#[derive(Serialize, Deserialize)]
struct WrittenPlace {
    lineage: Lineage,
    #[serde(flatten)]
    part: LogPart,
}

impl From<LogPlace> for WrittenPlace {
    fn from(place: LogPlace) -> WrittenPlace {
        let lineage = Lineage::of_timeline(place.system_id, place.timeline);
        WrittenPlace { lineage, part: place.part }
    }
}

impl TryFrom<WrittenPlace> for LogPlace {
    type Error = LineageError;

    fn try_from(written: WrittenPlace) -> Result<LogPlace, LineageError> {
        let (system_id, timeline) = written.lineage.cluster()?;
        Ok(LogPlace { system_id, timeline, part: written.part })
    }
}

/// What a piece of log is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
pub enum LogPart {
    /// The bytes of the log from `start` up to `end`.
    Range {
        /// The first.
        start: Lsn,
        /// Behind the last.
        end: Lsn,
    },
    /// The timeline's history file.
    History,
}

/// What the records that end in a piece of log tell, checked while it passed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Holds {
    /// The cluster's segment size.
    pub segment_size: Option<WalSegmentSize>,
    /// Records.
    #[serde(default)]
    pub records: u64,
    /// Where its first record begins, and the one before that as it says (`xl_prev`).
    pub first_record: Option<(Lsn, Lsn)>,
    /// Where its last record begins, and where that one ends.
    pub last_record: Option<(Lsn, Lsn)>,
    /// The earliest and latest time of a commit or abort.
    pub commits: Option<(Timestamp, Timestamp)>,
    /// The least and greatest transaction that was committed or rolled back, on the ring of 2³².
    pub xids: Option<(u32, u32)>,
    /// Of a history file: the ancestors, oldest first, and where each was left.
    #[serde(default)]
    pub ancestors: Vec<(Timeline, Lsn)>,
    /// Restore points: name, end of the record, time.
    #[serde(default)]
    pub restore_points: Vec<(String, Lsn, Timestamp)>,
    /// The SHA-256 of what lies before it: of its own segment's bytes up to where it begins; where
    /// it begins the segment, of the whole segment before. As its writer had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Digest>,
    /// Where it does not begin a segment, or its bytes have no digest of their own: the SHA-256 of its
    /// segment's bytes up to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Digest>,
    /// Settings with which the server was started, where they changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<ChangedSettings>,
    /// Tablespaces that are made: their numbers, and where their records begin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tablespaces: Vec<(u32, Lsn)>,
}

/// Settings with which a server was started, as its log tells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedSettings {
    /// Where the record begins.
    pub at: Lsn,
    /// Where the record before it ends.
    pub behind: Lsn,
    /// What they are from there on.
    #[serde(flatten)]
    pub settings: ServerSettings,
}

impl Holds {
    /// What both hold, where `next` is told of the bytes right behind these.
    #[must_use]
    pub fn followed_by(mut self, next: &Holds) -> Holds {
        self.segment_size = self.segment_size.or(next.segment_size);
        self.records = self.records.saturating_add(next.records);
        self.first_record = self.first_record.or(next.first_record);
        self.last_record = next.last_record.or(self.last_record);
        self.commits = either(self.commits, next.commits, |one, other| {
            (one.0.min(other.0), one.1.max(other.1))
        });
        self.xids = either(self.xids, next.xids, |one, other| {
            let least = if xid_precedes(other.0, one.0) { other.0 } else { one.0 };
            let greatest = if xid_precedes(one.1, other.1) { other.1 } else { one.1 };
            (least, greatest)
        });
        self.ancestors.extend(next.ancestors.iter().copied());
        self.restore_points.extend(next.restore_points.iter().cloned());
        self.before = self.before.or(next.before);
        self.after = next.after.or(self.after);
        self.settings.extend(next.settings.iter().copied());
        self.tablespaces.extend(next.tablespaces.iter().copied());
        self
    }
}

fn either<T>(one: Option<T>, other: Option<T>, both: impl FnOnce(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(both(one, other)),
        (one, other) => one.or(other),
    }
}

/// Whether a transaction is earlier than another one: their numbers begin anew after 2³² - 1
/// (`TransactionIdPrecedes` in `transam.c`).
#[must_use]
pub fn xid_precedes(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

impl LogPiece {
    /// Whether this program understands it, and it lies where it says it belongs.
    ///
    /// # Errors
    /// Every [`ManifestError`].
    pub fn check(
        &self,
        repository: &RepositoryId,
        source: &SourceId,
        place: &LogPlace,
    ) -> Result<(), ManifestError> {
        if &self.repository != repository {
            return Err(ManifestError::Misplaced(format!("repository {}", self.repository)));
        }
        if &self.source != source || &self.place != place {
            return Err(ManifestError::Misplaced(format!("the WAL of {}", self.source)));
        }
        self.header.names(WAL)?;
        match self.place.part {
            LogPart::Range { start, end } if end.since(start) != self.plain || start >= end => {
                Err(ManifestError::Inconsistent("its range is not as long as its bytes".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(records: u64, at: u64, seconds: (i64, i64), xids: (u32, u32)) -> Holds {
        let time = |s: i64| Timestamp::from_second(s).unwrap();
        Holds {
            records,
            first_record: Some((Lsn(at), Lsn(at - 8))),
            last_record: Some((Lsn(at + 8), Lsn(at + 16))),
            commits: Some((time(seconds.0), time(seconds.1))),
            xids: Some(xids),
            restore_points: vec![(format!("at {at}"), Lsn(at), time(seconds.0))],
            ..Holds::default()
        }
    }

    #[test]
    fn a_place_is_written_with_its_lineage_alone() {
        let part = LogPart::Range { start: Lsn(16), end: Lsn(1 << 32) };
        let place = LogPlace { system_id: 255, timeline: Timeline::FIRST, part };
        let text =
            r#"{"lineage":"00000000000000ff-00000001","part":"range","start":"0/10","end":"1/0"}"#;
        assert_eq!(serde_json::to_string(&place).unwrap(), text);
        assert_eq!(serde_json::from_str::<LogPlace>(text).unwrap(), place);
        let history = LogPlace { part: LogPart::History, ..place };
        let text = r#"{"lineage":"00000000000000ff-00000001","part":"history"}"#;
        assert_eq!(serde_json::to_string(&history).unwrap(), text);
        for lineage in ["tape-3", "A", ""] {
            let other = text.replace("00000000000000ff-00000001", lineage);
            assert!(serde_json::from_str::<LogPlace>(&other).is_err(), "{lineage}");
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
        assert_eq!(both.xids, Some((u32::MAX - 9, 2)));
        assert_eq!(both.restore_points.len(), 2);
        let nothing = Holds::default();
        assert_eq!(nothing.clone().followed_by(&one), one);
        assert_eq!(one.clone().followed_by(&nothing), one);
    }
}
