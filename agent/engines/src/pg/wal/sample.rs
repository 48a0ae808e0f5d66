//! WAL made by hand, for tests.

use super::*;

pub(super) const MIB: u64 = 1 << 20;
pub(super) const START: u64 = 3 * MIB;

/// Writes WAL as a server of version 15 does.
pub(super) struct Wal {
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) prev: u64,
    pub(super) timeline: u32,
}

impl Wal {
    pub(super) fn new(start: u64) -> Wal {
        Wal { start, bytes: Vec::new(), prev: 0x28, timeline: 1 }
    }

    pub(super) fn at(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    pub(super) fn header(&mut self, flags: u16, left: u32) {
        let at = self.at();
        let long = at.is_multiple_of(MIB);
        self.bytes.extend(0xD110u16.to_le_bytes());
        self.bytes.extend((flags | if long { 2 } else { 0 }).to_le_bytes());
        self.bytes.extend(self.timeline.to_le_bytes());
        self.bytes.extend(at.to_le_bytes());
        self.bytes.extend(left.to_le_bytes());
        self.bytes.extend([0; 4]);
        if long {
            self.bytes.extend(99u64.to_le_bytes());
            self.bytes.extend(u32::try_from(MIB).unwrap().to_le_bytes());
            self.bytes.extend(8192u32.to_le_bytes());
        }
    }

    pub(super) fn sealed(&self, manager: u8, info: u8, xid: u32, body: &[u8]) -> Vec<u8> {
        let mut record = u32::try_from(24 + body.len()).unwrap().to_le_bytes().to_vec();
        record.extend(xid.to_le_bytes());
        record.extend(self.prev.to_le_bytes());
        record.extend([info, manager, 0, 0]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(body), &record);
        record.extend(crc.to_le_bytes());
        record.extend(body);
        record
    }

    pub(super) fn put(&mut self, manager: u8, info: u8, xid: u32, body: &[u8]) -> u64 {
        if self.at().is_multiple_of(PAGE) {
            self.header(0, 0);
        }
        let (at, record) = (self.at(), self.sealed(manager, info, xid, body));
        let mut rest = &record[..];
        loop {
            let room = usize::try_from(PAGE - self.at() % PAGE).unwrap();
            let (now, later) = rest.split_at(rest.len().min(room));
            self.bytes.extend(now);
            rest = later;
            if rest.is_empty() {
                break;
            }
            self.header(1, u32::try_from(rest.len()).unwrap());
        }
        self.zeros_to(8);
        self.prev = at;
        at
    }

    pub(super) fn zeros_to(&mut self, alignment: u64) {
        let len = self.at().next_multiple_of(alignment) - self.start;
        self.bytes.resize(usize::try_from(len).unwrap(), 0);
    }

    pub(super) fn data(&mut self, len: usize) -> u64 {
        self.put(10, 0, 0, &vec![0xAB; len])
    }

    pub(super) fn commit(&mut self, xid: u32, seconds: i64) -> u64 {
        let body = [&[255, 8][..], &(seconds * 1_000_000).to_le_bytes()].concat();
        self.put(1, 0, xid, &body)
    }

    pub(super) fn switch(&mut self) -> u64 {
        let at = self.put(0, 0x40, 0, &[]);
        self.zeros_to(MIB);
        at
    }

    /// A record that a crash breaks off at the end of the page, and the one that gives it up.
    pub(super) fn broken_off(&mut self, say: impl Fn(u64) -> u64) -> u64 {
        let (at, record) = (self.at(), self.sealed(10, 0, 0, &[1; 20_000]));
        let room = usize::try_from(PAGE - self.at() % PAGE).unwrap();
        self.bytes.extend(&record[..room]);
        self.header(8, 0);
        let lost = [&[255, 16][..], &say(at).to_le_bytes(), &[0; 8]].concat();
        self.put(0, 0xD0, 0, &lost);
        at
    }

    /// As much of everything as fits into little.
    pub(super) fn sample() -> Wal {
        let mut wal = Wal::new(START);
        wal.commit(7, 100);
        wal.data(20_000);
        wal.commit(9, 50);
        wal.broken_off(|at| at);
        let name = [b"here".to_vec(), vec![0; 60]].concat();
        let body = [&[255, 72][..], &60_000_000i64.to_le_bytes(), &name].concat();
        wal.put(0, 0x70, 0, &body);
        wal.put(1, 0x20, 8, &[&[255, 8][..], &200_000_000i64.to_le_bytes()].concat());
        wal.switch();
        wal.timeline = 2;
        wal.data(9000);
        wal
    }

    pub(super) fn walker(&self) -> WalWalker {
        let segment = WalSegmentSize::new(MIB).unwrap();
        WalWalker::new(Timeline::new(2).unwrap(), Lsn(self.start), segment)
    }

    pub(super) fn walk(&self) -> Result<WalSummary, WalError> {
        let mut walker = self.walker();
        walker.feed(&self.bytes)?;
        assert_eq!(walker.at(), Lsn(self.at()));
        Ok(walker.summary())
    }
}

pub(super) fn patched(at: usize, bytes: &[u8]) -> Result<WalSummary, WalError> {
    let mut wal = Wal::sample();
    wal.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    wal.walk()
}

pub(super) fn lsn(into: u64) -> Lsn {
    Lsn(START + into)
}
