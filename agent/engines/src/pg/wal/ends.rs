//! Transactions that ended in a stretch of WAL, with their subtransactions.

use drctl_model::Lsn;

use super::fragments::{End, main_data};
use super::records::{Record, Records};

/// `RM_XACT_ID`.
const XACT: u8 = 1;

/// A transaction that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its number.
    pub xid: u32,
    /// Whether it was committed.
    pub committed: bool,
    /// The numbers of its subtransactions: of its savepoints, and of blocks of functions that catch
    /// errors. Those that were rolled back alone are not among them.
    pub subtransactions: Vec<u32>,
}

/// Reads whole segments in their order.
#[derive(Debug, Default)]
pub struct Ends(Records);

impl Ends {
    /// Reads a segment, and tells every commit and every abort that ends in it.
    pub fn feed(&mut self, start: Lsn, bytes: &[u8], mut tell: impl FnMut(Ended)) {
        self.0.feed(start, bytes, |record| {
            if let Some(ended) = ended(&record) {
                tell(ended);
            }
        });
    }
}

fn ended(record: &Record<'_>) -> Option<Ended> {
    // XLOG_XACT_COMMIT and _COMMIT_PREPARED, _ABORT and _ABORT_PREPARED.
    let committed = match (record.manager, record.info & 0x70) {
        (XACT, 0x00 | 0x30) => true,
        (XACT, 0x20 | 0x40) => false,
        _ => return None,
    };
    let end = End::read(record.info, main_data(record.body)?, record.long_stats)?;
    let xid = end.prepared.unwrap_or(record.xid);
    Some(Ended { xid, committed, subtransactions: end.subtransactions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_with_their_parts() {
        // A commit with information: a database, two subtransactions.
        let mut data = 0i64.to_le_bytes().to_vec();
        for number in [0b11u32, 5, 1663, 2, 801, 802] {
            data.extend(number.to_le_bytes());
        }
        let body = [&[255, u8::try_from(data.len()).unwrap()][..], &data].concat();
        let record = |info, manager| Record {
            at: Lsn(0),
            long_stats: false,
            xid: 800,
            info,
            manager,
            body: &body,
        };
        let told = |committed| Some(Ended { xid: 800, committed, subtransactions: vec![801, 802] });
        assert_eq!(ended(&record(0x80, XACT)), told(true));
        assert_eq!(ended(&record(0xA0, XACT)), told(false));
        assert_eq!(ended(&record(0x90, XACT)), None, "a PREPARE is no end");
        assert_eq!(ended(&record(0x80, 10)), None);
    }
}
