//! Records of whole segments, one after the other, with what is in them. The WAL is believed here:
//! its pieces are signed, and were proven when they were stored. What cannot be read is passed
//! over.

use drctl_model::Lsn;

use super::bytes::Reader;

/// Bytes of a page.
pub(super) const PAGE: usize = 8192;
/// `SizeOfXLogRecord`.
const HEADER: usize = 24;
/// The most of a record that is kept: commits that drop tens of thousands of files are whole.
const KEPT: usize = 1 << 20;
/// The magic of the first version whose entries of dropped statistics have 16 bytes.
const LONG_STATS: u16 = 0xD118;

/// A record.
pub(super) struct Record<'a> {
    /// Where it begins.
    pub(super) at: Lsn,
    /// Whether its version's entries of dropped statistics have 16 bytes.
    pub(super) long_stats: bool,
    /// Its transaction.
    pub(super) xid: u32,
    /// What it is, for its resource manager.
    pub(super) info: u8,
    /// Its resource manager.
    pub(super) manager: u8,
    /// All behind its header.
    pub(super) body: &'a [u8],
}

/// Puts records together, across pages and segments.
#[derive(Debug, Default)]
pub(super) struct Records {
    long_stats: bool,
    /// Where the next segment begins, if it follows.
    next: Option<Lsn>,
    /// What is missing of the record that is under way.
    left: usize,
    raw: Vec<u8>,
    /// Whether its beginning was not seen.
    skipping: bool,
    at: Lsn,
}

impl Records {
    /// Reads a segment, or as much of one as there is, with zeros behind it, and tells every record that
    /// ends in it. After a segment that is left out it begins anew.
    pub(super) fn feed(&mut self, start: Lsn, bytes: &[u8], mut tell: impl FnMut(Record<'_>)) {
        if self.next != Some(start) {
            (self.left, self.skipping) = (0, false);
        }
        self.next = Some(start.plus(bytes.len() as u64));
        for (number, page) in bytes.chunks_exact(PAGE).enumerate() {
            if self.page(start.plus((number * PAGE) as u64), page, &mut tell).is_none() {
                // The end of what was written, or of what can be read.
                (self.left, self.skipping) = (0, false);
                return;
            }
        }
    }

    fn page(&mut self, at: Lsn, page: &[u8], tell: &mut impl FnMut(Record<'_>)) -> Option<()> {
        const CONTINUES: u16 = 1;
        const LONG: u16 = 2;
        let mut reader = Reader(page);
        let (magic, info) = (reader.u16()?, reader.u16()?);
        let rest = u32::from_le_bytes(*page.get(16..)?.first_chunk()?) as usize;
        if magic == 0 {
            return None;
        }
        self.long_stats = magic >= LONG_STATS;
        match (info & CONTINUES != 0, self.left > 0) {
            (true, false) => (self.left, self.skipping) = (rest, true),
            // A crash broke it off.
            (false, true) => self.left = 0,
            _ => {}
        }
        let mut into = if info & LONG != 0 { 40 } else { 24 };
        while into < PAGE {
            if self.left == 0 {
                let length = u32::from_le_bytes(*page.get(into..)?.first_chunk()?) as usize;
                if length < HEADER {
                    return None;
                }
                (self.left, self.skipping, self.at) = (length, false, at.plus(into as u64));
                self.raw.clear();
            }
            let n = self.left.min(PAGE - into);
            if !self.skipping {
                let room = KEPT.saturating_sub(self.raw.len()).min(n);
                self.raw.extend_from_slice(&page[into..into + room]);
            }
            (self.left, into) = (self.left - n, into + n);
            if self.left == 0 {
                into = into.next_multiple_of(8);
                if !self.skipping {
                    let raw = std::mem::take(&mut self.raw);
                    if let Some(record) = self.record(&raw) {
                        tell(record);
                    }
                    self.raw = raw;
                }
                self.skipping = false;
            }
        }
        Some(())
    }

    fn record<'a>(&self, raw: &'a [u8]) -> Option<Record<'a>> {
        let mut header = Reader(raw);
        let (_length, xid, _before) = (header.u32()?, header.u32()?, header.u64()?);
        let (info, manager) = (header.u8()?, header.u8()?);
        let (at, long_stats, body) = (self.at, self.long_stats, raw.get(HEADER..)?);
        Some(Record { at, long_stats, xid, info, manager, body })
    }
}
