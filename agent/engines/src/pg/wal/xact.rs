//! Commits and aborts (`xl_xact_commit`, `xl_xact_abort` and what follows them, in `xact.h`).
//!
//! They can be long, since they list what the transaction did. They are read as they flow past:
//! the time stands in front, but the identifier of a prepared transaction behind the lists.

use super::bytes::{Reader, clamp};

/// `XLOG_XACT_HAS_INFO` in `xl_info`.
const HAS_INFO: u8 = 0x80;
/// `XACT_XINFO_HAS_TWOPHASE`.
const TWO_PHASE: u32 = 1 << 4;

/// Size of what is listed, for each flag in `xinfo`, in the order in which it is written
/// (`XactLogCommitRecord` in `xact.c`).
fn lists(stats_item: u64) -> [(u32, u64); 4] {
    // XACT_XINFO_HAS_SUBXACTS, _RELFILELOCATORS, _DROPPED_STATS and _INVALS.
    [(1 << 1, 4), (1 << 2, 12), (1 << 8, stats_item), (1 << 3, 16)]
}

/// `XACT_XINFO_HAS_DBINFO`, and the size of `xl_xact_dbinfo`.
const DATABASE: (u32, u64) = (1, 8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Time,
    Info,
    /// How many entries the list has, by its place in [`lists`].
    Count(usize),
    Xid,
    Done,
}

/// Reads the main data of one commit or abort in pieces of any size.
#[derive(Debug, Clone)]
pub(super) struct Xact {
    has_info: bool,
    stats_item: u64,
    flags: u32,
    field: Field,
    skip: u64,
    raw: [u8; 8],
    filled: usize,
    time: Option<i64>,
    prepared: Option<u32>,
}

impl Xact {
    pub(super) fn new(info: u8, stats_item: u64) -> Self {
        Xact {
            has_info: info & HAS_INFO != 0,
            stats_item,
            flags: 0,
            field: Field::Time,
            skip: 0,
            raw: [0; 8],
            filled: 0,
            time: None,
            prepared: None,
        }
    }

    /// When the transaction ended (`TimestampTz`), and its identifier where it was prepared.
    /// Nothing if the record ended before.
    pub(super) fn end(self) -> Option<(i64, Option<u32>)> {
        let time = self.time.filter(|_| self.field == Field::Done && self.skip == 0)?;
        Some((time, self.prepared))
    }

    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while self.field != Field::Done && !bytes.is_empty() {
            let skipped = clamp(bytes.len(), self.skip);
            self.skip -= skipped as u64;
            bytes = &bytes[skipped..];
            let wanted = if self.field == Field::Time { 8 } else { 4 };
            let n = bytes.len().min(wanted - self.filled);
            self.raw[self.filled..self.filled + n].copy_from_slice(&bytes[..n]);
            self.filled += n;
            bytes = &bytes[n..];
            if self.filled == wanted {
                self.filled = 0;
                self.advance();
            }
        }
    }

    fn advance(&mut self) {
        let number = u32::from_le_bytes([self.raw[0], self.raw[1], self.raw[2], self.raw[3]]);
        self.field = match self.field {
            Field::Time => {
                self.time = Reader(&self.raw).i64();
                if self.has_info { Field::Info } else { Field::Done }
            }
            Field::Info => {
                self.flags = number;
                self.skip = if number & DATABASE.0 != 0 { DATABASE.1 } else { 0 };
                self.list_from(0)
            }
            Field::Count(list) => {
                let (_, entry) = lists(self.stats_item)[list];
                self.skip = u64::from(number) * entry;
                self.list_from(list + 1)
            }
            Field::Xid => {
                self.prepared = Some(number);
                Field::Done
            }
            Field::Done => Field::Done,
        };
    }

    /// What comes next: one of the lists from `place` on, the identifier, or nothing of interest.
    fn list_from(&mut self, place: usize) -> Field {
        let lists = lists(self.stats_item);
        let next = (place..lists.len()).find(|list| self.flags & lists[*list].0 != 0);
        match next {
            Some(list) => Field::Count(list),
            None if self.flags & TWO_PHASE != 0 => Field::Xid,
            None => {
                // Whether the last list is whole is the checksum's concern.
                self.skip = 0;
                Field::Done
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: i64 = 846_000_000_123_456;

    fn data(flags: u32, counts: &[(u32, usize)], xid: Option<u32>) -> Vec<u8> {
        let mut data = TIME.to_le_bytes().to_vec();
        data.extend(flags.to_le_bytes());
        if flags & 1 != 0 {
            data.extend([0xEE; 8]);
        }
        for (count, bytes) in counts {
            data.extend(count.to_le_bytes());
            data.extend(vec![0xEE; *bytes]);
        }
        data.extend(xid.unwrap_or_default().to_le_bytes());
        data.extend(b"name\0");
        data
    }

    fn read(info: u8, stats_item: u64, data: &[u8], piece: usize) -> Option<(i64, Option<u32>)> {
        let mut xact = Xact::new(info, stats_item);
        data.chunks(piece).for_each(|piece| xact.take(piece));
        xact.end()
    }

    #[test]
    fn a_prepared_transaction_is_found_behind_all_lists() {
        let lists = |stats: usize| [(5, 20), (2, 24), (3, 3 * stats), (1000, 16_000)];
        let cases = [
            (0x80, 12, data(0x1DF, &lists(12), Some(77)), Some(77)),
            (0x80, 16, data(0x1DF, &lists(16), Some(77)), Some(77)),
            (0x80, 12, data(0x10, &[], Some(9)), Some(9)),
            (0x80, 12, data(0x1A, &[(1, 4), (2, 32)], Some(9)), Some(9)),
            (0x80, 12, data(0x0A, &[(1, 4), (2, 32)], None), None),
            (0x80, 12, data(0, &[], None), None),
            (0x00, 12, TIME.to_le_bytes().to_vec(), None),
        ];
        for (info, stats_item, data, xid) in cases {
            for piece in [1, 3, 7, data.len()] {
                assert_eq!(read(info, stats_item, &data, piece), Some((TIME, xid)));
            }
        }
    }

    #[test]
    fn a_record_that_ends_too_early_has_no_time() {
        let whole = data(0x19, &[(4, 64)], Some(9));
        for end in 0..whole.len() - 5 {
            assert_eq!(read(0x80, 12, &whole[..end], 5), None, "{end}");
        }
        let endless = data(0x18, &[(u32::MAX, 64)], Some(9));
        assert_eq!(read(0x80, 12, &endless, 64), None);
    }
}
