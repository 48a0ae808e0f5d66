use crate::{
    Header, IndexPlace, Lineage, LogPart, LogPlace, Lsn, MAX_INDEX_PIECES, MAX_PIECE_BYTES,
    ManifestError, NoteName, Timeline, WAL,
};

/// Where a piece of a PostgreSQL cluster's log belongs: what its engine reads in a [`LogPlace`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WalPlace {
    /// The cluster's system identifier.
    pub system_id: u64,
    /// The timeline.
    pub timeline: Timeline,
    /// What of it.
    pub part: WalPart,
}

/// What a piece of a timeline's log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WalPart {
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

impl From<WalPlace> for LogPlace {
    fn from(WalPlace { system_id, timeline, part }: WalPlace) -> LogPlace {
        let part = match part {
            WalPart::Range { start, end } => {
                LogPart::Range { start: start.into(), end: end.into() }
            }
            WalPart::History => LogPart::Note { name: NoteName::history() },
        };
        LogPlace { lineage: Lineage::of_timeline(system_id, timeline), part }
    }
}

impl LogPlace {
    /// A range of a timeline's log.
    #[must_use]
    pub fn of_wal((system_id, timeline): (u64, Timeline), (start, end): (Lsn, Lsn)) -> LogPlace {
        WalPlace { system_id, timeline, part: WalPart::Range { start, end } }.into()
    }

    /// The history file of a timeline.
    #[must_use]
    pub fn of_history((system_id, timeline): (u64, Timeline)) -> LogPlace {
        WalPlace { system_id, timeline, part: WalPart::History }.into()
    }

    /// What PostgreSQL reads in it; nothing for what another engine has written.
    #[must_use]
    pub fn wal(&self) -> Option<WalPlace> {
        let (system_id, timeline) = self.lineage.timeline()?;
        let part = match &self.part {
            LogPart::Range { start, end } => {
                WalPart::Range { start: (*start).into(), end: (*end).into() }
            }
            LogPart::Note { name } => (*name == NoteName::history()).then_some(WalPart::History)?,
        };
        Some(WalPlace { system_id, timeline, part })
    }

    /// Whether there can be such a piece: a range has something in it, and one of WAL lies within the
    /// largest segment that there can be.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let LogPart::Range { start, end } = self.part else { return true };
        let most = MAX_PIECE_BYTES;
        let within = || start.0 / most == (end.0 - 1) / most;
        start < end && (self.lineage.timeline().is_none() || within())
    }

    /// Whether a document with this header, and so many plain bytes, may lie here.
    pub(crate) fn check(&self, header: &Header, plain: u64) -> Result<(), ManifestError> {
        let wrong = |what: &str| Err(ManifestError::Inconsistent(what.to_owned()));
        self.lineage.check(header)?;
        if plain > MAX_PIECE_BYTES {
            return wrong("it is longer than a piece can be");
        }
        match self.part {
            LogPart::Range { start, end } if start >= end => wrong("its range is empty"),
            LogPart::Range { start, end }
                if self.lineage.timeline().is_some() && end.0 - start.0 != plain =>
            {
                wrong("its range is not as long as its bytes")
            }
            _ => Ok(()),
        }
    }
}

impl IndexPlace {
    /// Whether there can be such an index: it covers something, and of WAL no more than its pieces can.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let most = MAX_PIECE_BYTES.saturating_mul(MAX_INDEX_PIECES as u64);
        let within = || self.end.0 - self.start.0 <= most;
        self.start < self.end && (self.lineage.timeline().is_none() || within())
    }
}

/// What people call the log of a lineage, and what is stored of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogWords {
    /// The log.
    pub log: &'static str,
    /// What is signed of a piece.
    pub head: &'static str,
    /// What is signed of a run of pieces.
    pub index: &'static str,
}

impl Lineage {
    /// What people call its log.
    #[must_use]
    pub fn words(&self) -> LogWords {
        match self.timeline() {
            Some(_) => {
                LogWords { log: "WAL", head: "head of a piece of WAL", index: "index of WAL" }
            }
            None => LogWords { log: "log", head: "head of a log's piece", index: "index of a log" },
        }
    }

    /// Whether a document with this header tells of this lineage: WAL is a timeline's, and only that.
    pub(crate) fn check(&self, header: &Header) -> Result<(), ManifestError> {
        let wrong = |what: &str| Err(ManifestError::Inconsistent(what.to_owned()));
        match self.timeline() {
            Some(_) => header.names(WAL),
            None if header.has(WAL) => wrong("it is WAL, and its lineage is no timeline"),
            None if header.features.is_empty() => wrong("it does not name whose log it is"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LogAt;

    #[test]
    fn a_place_is_written_with_its_lineage_and_read_as_that_of_a_timeline() {
        let of = (255, Timeline::FIRST);
        let range = LogPlace::of_wal(of, (Lsn(16), Lsn(1 << 32)));
        let history = LogPlace::of_history(of);
        let text = [
            r#"{"lineage":"00000000000000ff-00000001","part":"range","start":"0000000000000010","end":"0000000100000000"}"#,
            r#"{"lineage":"00000000000000ff-00000001","part":"note","name":"history"}"#,
        ];
        for (place, text) in [&range, &history].into_iter().zip(text) {
            assert_eq!(serde_json::to_string(place).unwrap(), text);
            assert_eq!(serde_json::from_str::<LogPlace>(text).unwrap(), *place);
            assert_eq!(LogPlace::from(place.wal().unwrap()), *place);
            let other = text.replace("00000000000000ff-00000001", "tape-3");
            assert_eq!(serde_json::from_str::<LogPlace>(&other).unwrap().wal(), None);
            for lineage in ["A", ""] {
                let wrong = text.replace("00000000000000ff-00000001", lineage);
                assert!(serde_json::from_str::<LogPlace>(&wrong).is_err(), "{lineage}");
            }
        }
        let note = LogPart::Note { name: "reels".parse().unwrap() };
        assert_eq!(LogPlace { part: note, ..range }.wal(), None);
    }

    #[test]
    fn only_a_timeline_has_wal_and_another_engine_says_whose_its_log_is() {
        let tape = |features: &[&str]| {
            let place = LogPlace {
                lineage: "tape-3".parse().unwrap(),
                part: LogPart::Range { start: LogAt(0), end: LogAt(1 << 40) },
            };
            place.check(&Header::new(features.iter().copied()), 5)
        };
        assert_eq!(tape(&["tape"]), Ok(()));
        assert!(tape(&["wal"]).is_err() && tape(&[]).is_err());
        let wal = LogPlace::of_wal((7, Timeline::FIRST), (Lsn(0), Lsn(5)));
        let check =
            |features: &[&str], plain| wal.check(&Header::new(features.iter().copied()), plain);
        assert_eq!(check(&["wal"], 5), Ok(()));
        assert!(check(&["wal"], 4).is_err() && check(&["tape"], 5).is_err());
    }
}
