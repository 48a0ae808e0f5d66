//! Headers of pages (`XLogPageHeaderData` and `XLogLongPageHeaderData` in `xlog_internal.h`).

use drctl_model::{Lsn, Timeline, WalSegmentSize};

use super::bytes::Reader;
use super::error::WalError;

/// `XLOG_BLCKSZ` as every distribution builds it.
pub(super) const PAGE: u64 = 8192;
/// `SizeOfXLogLongPHD`.
pub(super) const LONG_HEADER: usize = 40;
/// `SizeOfXLogShortPHD`.
pub(super) const SHORT_HEADER: usize = 24;

/// `XLP_FIRST_IS_CONTRECORD`: the page begins with the rest of a record.
const CONTINUES: u16 = 0x0001;
/// `XLP_LONG_HEADER`: the page is a segment's first (`AdvanceXLInsertBuffer` in `xlog.c`).
const LONG: u16 = 0x0002;
/// `XLP_FIRST_IS_OVERWRITE_CONTRECORD`: the rest of the record before will never come.
const OVERWRITES: u16 = 0x0008;
/// `XLP_ALL_FLAGS`; the one that is not above is `XLP_BKP_REMOVABLE`, which means nothing to us.
const ALL_FLAGS: u16 = 0x000F;

/// A major version of PostgreSQL, and what it writes differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) major: u32,
    /// `XLOG_PAGE_MAGIC`.
    magic: u16,
    /// Size of `xl_xact_stats_item` in `xact.h`, which is there from 15 on.
    pub(super) stats_item: u64,
}

const VERSIONS: [Version; 6] = [
    Version { major: 13, magic: 0xD106, stats_item: 0 },
    Version { major: 14, magic: 0xD10D, stats_item: 0 },
    Version { major: 15, magic: 0xD110, stats_item: 12 },
    Version { major: 16, magic: 0xD113, stats_item: 12 },
    Version { major: 17, magic: 0xD116, stats_item: 12 },
    Version { major: 18, magic: 0xD118, stats_item: 16 },
];

/// How a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// With a record of its own.
    Fresh,
    /// With so many bytes (`xlp_rem_len`, all that are missing) of the record before.
    Continues(u32),
    /// With a record of its own, because the one before was broken off by a crash.
    Overwrites,
}

/// What pages of one walk have in common.
#[derive(Debug, Clone)]
pub(super) struct Pages {
    segment: WalSegmentSize,
    highest: u32,
    lowest: u32,
    version: Option<Version>,
    system_id: Option<u64>,
}

impl Pages {
    pub(super) fn new(timeline: Timeline, segment: WalSegmentSize) -> Self {
        Pages { segment, highest: timeline.id(), lowest: 1, version: None, system_id: None }
    }

    pub(super) fn version(&self) -> Option<Version> {
        self.version
    }

    /// It is known whose cluster it is.
    pub(super) fn expect(&mut self, system_id: u64) {
        self.system_id = Some(system_id);
    }

    pub(super) fn system_id(&self) -> Option<u64> {
        self.system_id
    }

    /// Length of the header of the page that lies there.
    pub(super) fn header_len(&self, page: Lsn) -> usize {
        if self.segment.start_of(page) == page { LONG_HEADER } else { SHORT_HEADER }
    }

    /// Checks the header of the page that lies there.
    pub(super) fn check(&mut self, page: Lsn, raw: &[u8]) -> Result<Opening, WalError> {
        let short = Header::parse(raw).ok_or(WalError::PageFlags { at: page, found: 0 })?;
        self.check_magic(page, short.magic)?;
        let long = (short.info & LONG != 0).then(|| raw.get(SHORT_HEADER..)).flatten();
        let first = self.segment.start_of(page) == page;
        if short.info & !ALL_FLAGS != 0 || first != (short.info & LONG != 0) {
            return Err(WalError::PageFlags { at: page, found: short.info });
        }
        if short.address != page {
            return Err(WalError::PageAddress { at: page, found: short.address });
        }
        self.check_timeline(page, short.timeline)?;
        if let Some(long) = long {
            self.check_segment(page, long)?;
        }
        short.opening(page)
    }

    fn check_magic(&mut self, at: Lsn, found: u16) -> Result<(), WalError> {
        match self.version {
            Some(version) if version.magic == found => Ok(()),
            Some(version) => Err(WalError::OtherMagic { at, found, expected: version.magic }),
            None => {
                self.version = VERSIONS.into_iter().find(|version| version.magic == found);
                self.version.map(|_| ()).ok_or(WalError::Magic { at, found })
            }
        }
    }

    /// Pages before the point where a timeline branched off are those of its parent, whose number
    /// is lower (`XLogReaderValidatePageHeader` in `xlogreader.c`).
    fn check_timeline(&mut self, at: Lsn, found: u32) -> Result<(), WalError> {
        let (lowest, highest) = (self.lowest, self.highest);
        if !(lowest..=highest).contains(&found) {
            return Err(WalError::Timeline { at, found, lowest, highest });
        }
        self.lowest = found;
        Ok(())
    }

    fn check_segment(&mut self, at: Lsn, long: &[u8]) -> Result<(), WalError> {
        let mut reader = Reader(long);
        let found = reader.u64().unwrap_or_default();
        let size = reader.u32().unwrap_or_default();
        let page = reader.u32().unwrap_or_default();
        match self.system_id {
            Some(expected) if expected != found => {
                return Err(WalError::SystemId { at, found, expected });
            }
            _ => self.system_id = Some(found),
        }
        if u64::from(size) != self.segment.bytes() {
            let expected = self.segment.bytes();
            return Err(WalError::SegmentSize { at, found: size, expected });
        }
        if u64::from(page) != PAGE {
            return Err(WalError::PageSize { at, found: page });
        }
        Ok(())
    }
}

struct Header {
    magic: u16,
    info: u16,
    timeline: u32,
    address: Lsn,
    rem_len: u32,
}

impl Header {
    fn parse(raw: &[u8]) -> Option<Header> {
        let mut reader = Reader(raw);
        Some(Header {
            magic: reader.u16()?,
            info: reader.u16()?,
            timeline: reader.u32()?,
            address: Lsn(reader.u64()?),
            rem_len: reader.u32()?,
        })
    }

    /// A page is zeroed before its header is made (`AdvanceXLInsertBuffer` in `xlog.c`), so
    /// `xlp_rem_len` is 0 wherever it means nothing.
    fn opening(&self, at: Lsn) -> Result<Opening, WalError> {
        match (self.info & CONTINUES != 0, self.info & OVERWRITES != 0, self.rem_len) {
            (true, false, left @ 1..) => Ok(Opening::Continues(left)),
            (false, false, 0) => Ok(Opening::Fresh),
            (false, true, 0) => Ok(Opening::Overwrites),
            (false, _, found) => Err(WalError::Continuation { at, found, expected: 0 }),
            _ => Err(WalError::PageFlags { at, found: self.info }),
        }
    }
}
