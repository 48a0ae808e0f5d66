//! Records (`XLogRecord` in `xlogrecord.h`) and what a few kinds of them mean.

use drctl_model::{Lsn, ServerSettings};
use jiff::Timestamp;

use super::bytes::Reader;
use super::replay_requirements;
use super::xact::Xact;

/// `SizeOfXLogRecord`.
pub(super) const HEADER: usize = 24;
/// What the checksum covers of the header: all before `xl_crc`.
const CHECKED: usize = 20;
/// `MaxAllocSize` in `memutils.h`: PostgreSQL must be able to hold a record in memory.
pub(super) const MAX_LENGTH: u32 = 0x3FFF_FFFF;

/// Bytes of a body that are kept: the fragment headers of a record without blocks, and the longest
/// main data that is read at once (`xl_restore_point`, 72 bytes).
const KEPT: usize = 128;

/// `RM_XLOG_ID` in `rmgrlist.h`.
const XLOG: u8 = 0;
/// `RM_XACT_ID`.
const XACT: u8 = 1;
/// `RM_TBLSPC_ID`.
pub(super) const TABLESPACE: u8 = 5;
/// Where a record's resource manager stands (`xl_rmid`).
pub(super) const MANAGER_AT: u64 = 17;

/// The same of a record that tells a path (`MAXPGPATH`, behind a number and the headers).
const KEPT_OF_PATHS: usize = 1100;

/// PostgreSQL's epoch, 2000-01-01, in microseconds from 1970 (`TimestampTz` in `timestamp.h`).
const EPOCH: i64 = 946_684_800_000_000;

/// The header of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) len: u32,
    pub(super) xid: u32,
    pub(super) prev: Lsn,
    info: u8,
    manager: u8,
    crc: u32,
}

impl Header {
    pub(super) fn parse(raw: &[u8; HEADER]) -> Option<Header> {
        let mut reader = Reader(raw);
        let (len, xid, prev) = (reader.u32()?, reader.u32()?, Lsn(reader.u64()?));
        let (info, manager, _padding) = (reader.u8()?, reader.u8()?, reader.u16()?);
        Some(Header { len, xid, prev, info, manager, crc: reader.u32()? })
    }

    /// Whether the checksum matches: it goes over the body first, then over the header
    /// (`ValidXLogRecord` in `xlogreader.c`).
    pub(super) fn matches(&self, raw: &[u8; HEADER], body: u32) -> bool {
        crc32c::crc32c_append(body, &raw[..CHECKED]) == self.crc
    }

    /// What is to be read of the record's body; nothing of most.
    pub(super) fn body(&self, stats_item: u64) -> Option<Body> {
        let kind = match (self.manager, self.info & 0xF0) {
            (XLOG, 0x00 | 0x10) => Kind::Checkpoint,
            (XLOG, 0x40) => Kind::Switch,
            (XLOG, 0x60) => Kind::Settings,
            (XLOG, 0x70) => Kind::RestorePoint,
            (XLOG, 0xD0) => Kind::Overwrite,
            // XLOG_XACT_OPMASK leaves COMMIT and COMMIT_PREPARED, ABORT and ABORT_PREPARED.
            (TABLESPACE, 0x00) => Kind::Tablespace,
            (TABLESPACE, 0x10) => Kind::TablespaceDrop,
            (XACT, info) => match info & 0x70 {
                0x00 | 0x30 => Kind::Commit(Xact::new(self.info, stats_item)),
                0x20 | 0x40 => Kind::Abort(Xact::new(self.info, stats_item)),
                _ => return None,
            },
            _ => return None,
        };
        let len = self.len.saturating_sub(24);
        let most = if matches!(kind, Kind::Tablespace) { KEPT_OF_PATHS } else { KEPT };
        let goal = usize::try_from(len).map_or(most, |len| len.min(most));
        Some(Body { kind, len, goal, head: Vec::with_capacity(goal), problem: None })
    }
}

#[derive(Debug, Clone)]
enum Kind {
    Checkpoint,
    Settings,
    Tablespace,
    TablespaceDrop,
    Switch,
    RestorePoint,
    Overwrite,
    Commit(Xact),
    Abort(Xact),
}

/// The body of a record that means something to us.
#[derive(Debug, Clone)]
pub(super) struct Body {
    kind: Kind,
    len: u32,
    goal: usize,
    head: Vec<u8>,
    /// Told when the checksum was found to match, since damage is the better explanation.
    problem: Option<&'static str>,
}

/// A record that was read to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) at: Lsn,
    pub(super) follows: Lsn,
    pub(super) next: Lsn,
    pub(super) meaning: Meaning,
}

/// What a record means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Other,
    Switch,
    Commit { time: Timestamp, xid: u32 },
    Abort { time: Timestamp, xid: u32 },
    Checkpoint { time: Timestamp, next_xid: u64 },
    Settings(ServerSettings),
    Tablespace { oid: u32, path: Option<Vec<u8>> },
    RestorePoint { name: String, time: Timestamp },
    Overwrite { lost: Lsn },
}

impl Body {
    /// Bytes of it that are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.head.capacity()
    }

    /// Takes the next bytes of the body.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let n = bytes.len().min(self.goal - self.head.len());
        let (head, rest) = bytes.split_at(n);
        self.head.extend_from_slice(head);
        let opens = n > 0 && self.head.len() == self.goal;
        if let Kind::Commit(xact) | Kind::Abort(xact) = &mut self.kind {
            match opens.then(|| main_data(&self.head, self.len)) {
                Some(Ok(data)) => xact.take(data),
                Some(Err(problem)) => self.problem = Some(problem),
                None => {}
            }
            xact.take(rest);
        }
    }

    /// What the record means, once its checksum was found to match.
    pub(super) fn end(self, xid: u32) -> Result<Meaning, &'static str> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        match self.kind {
            Kind::Checkpoint => replay_requirements::checkpoint(main_data(&self.head, self.len)?),
            Kind::Settings => replay_requirements::settings(main_data(&self.head, self.len)?),
            Kind::Tablespace => replay_requirements::tablespace(main_data(&self.head, self.len)?),
            Kind::TablespaceDrop => {
                replay_requirements::tablespace_drop(main_data(&self.head, self.len)?)
            }
            Kind::Switch if self.len == 0 => Ok(Meaning::Switch),
            Kind::Switch => Err("a switch has no data"),
            Kind::RestorePoint => restore_point(main_data(&self.head, self.len)?),
            Kind::Overwrite => {
                let lost = Reader(main_data(&self.head, self.len)?).u64().ok_or(TOO_SHORT)?;
                Ok(Meaning::Overwrite { lost: Lsn(lost) })
            }
            Kind::Commit(xact) => {
                let (time, prepared) = xact.end().ok_or(TOO_SHORT)?;
                Ok(Meaning::Commit { time: timestamp(time)?, xid: prepared.unwrap_or(xid) })
            }
            Kind::Abort(xact) => {
                let (time, prepared) = xact.end().ok_or(TOO_SHORT)?;
                Ok(Meaning::Abort { time: timestamp(time)?, xid: prepared.unwrap_or(xid) })
            }
        }
    }
}

pub(super) const TOO_SHORT: &str = "it is too short";

/// `xl_restore_point` in `xlog_internal.h`: a time, and a name that ends with a zero byte.
fn restore_point(data: &[u8]) -> Result<Meaning, &'static str> {
    let mut reader = Reader(data);
    let time = timestamp(reader.i64().ok_or(TOO_SHORT)?)?;
    let name = reader.take::<64>().ok_or(TOO_SHORT)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Meaning::RestorePoint { name: String::from_utf8_lossy(name).into_owned(), time })
}

fn timestamp(time: i64) -> Result<Timestamp, &'static str> {
    let time = time.checked_add(EPOCH).and_then(|time| Timestamp::from_microsecond(time).ok());
    time.ok_or("its time is impossible")
}

/// The main data of a record, as far as it lies in the `head` of its body, which has `len` bytes.
///
/// The body begins with fragment headers (`DecodeXLogRecord` in `xlogreader.c`). Of the kinds that
/// are read here none refers to blocks, so that there is no other data.
fn main_data(head: &[u8], len: u32) -> Result<&[u8], &'static str> {
    let mut reader = Reader(head);
    let data = loop {
        match reader.u8().ok_or(TOO_SHORT)? {
            // XLR_BLOCK_ID_DATA_SHORT, _DATA_LONG, _ORIGIN and _TOPLEVEL_XID.
            255 => break reader.u8().map(u32::from).ok_or(TOO_SHORT)?,
            254 => break reader.u32().ok_or(TOO_SHORT)?,
            253 => drop(reader.u16().ok_or(TOO_SHORT)?),
            252 => drop(reader.u32().ok_or(TOO_SHORT)?),
            0..=32 => return Err("it refers to a block"),
            _ => return Err("it has a fragment of unknown kind"),
        }
    };
    let headers = u32::try_from(head.len() - reader.0.len()).unwrap_or(u32::MAX);
    if headers.checked_add(data) != Some(len) {
        return Err("its fragments have another length");
    }
    Ok(reader.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_data_follows_the_fragment_headers() {
        let long = [&[254, 3, 0, 0, 0][..], b"abc"].concat();
        type Case<'a> = (&'a [u8], Result<&'a [u8], &'a str>);
        let cases: [Case; 9] = [
            (b"\xFF\x03abc", Ok(b"abc")),
            (&long, Ok(b"abc")),
            (b"\xFD\x01\x00\xFF\x03abc", Ok(b"abc")),
            (b"\xFD\x01\x00\xFC\x07\x00\x00\x00\xFF\x01a", Ok(b"a")),
            (b"\xFF\x02abc", Err("its fragments have another length")),
            (b"\xFE\xFF\xFF\xFF\xFF", Err("its fragments have another length")),
            (b"\x00\x00\x00\x00", Err("it refers to a block")),
            (b"\xA0", Err("it has a fragment of unknown kind")),
            (b"\xFE\x00", Err(TOO_SHORT)),
        ];
        for (body, expected) in cases {
            assert_eq!(main_data(body, u32::try_from(body.len()).unwrap()), expected, "{body:?}");
        }
    }

    #[test]
    fn times_are_counted_from_2000() {
        assert_eq!(timestamp(0).unwrap().to_string(), "2000-01-01T00:00:00Z");
        assert_eq!(timestamp(-1_500_000).unwrap().to_string(), "1999-12-31T23:59:58.5Z");
        for impossible in [i64::MIN, i64::MAX, i64::MAX / 2] {
            assert!(timestamp(impossible).is_err());
        }
    }

    #[test]
    fn the_name_of_a_restore_point_ends_with_a_zero() {
        let mut data = vec![0; 72];
        data[8..12].copy_from_slice(b"odd\xFF");
        let Ok(Meaning::RestorePoint { name, .. }) = restore_point(&data) else { panic!() };
        assert_eq!(name, "odd\u{FFFD}");
        assert_eq!(restore_point(&data[..71]), Err(TOO_SHORT));
    }
}
