//! What records require of the server that replays them; and checkpoints.

use drctl_model::{ServerSettings, WalLevel, WalSegmentSize};
use jiff::Timestamp;

use super::bytes::Reader;
use super::page::{LONG_HEADER, PAGE, SHORT_HEADER};
use super::record::{MANAGER_AT, Meaning, TABLESPACE, TOO_SHORT};

/// `xl_parameter_change` in `xlog_internal.h`: written when a server starts with other settings
/// than before.
pub(super) fn settings(data: &[u8]) -> Result<Meaning, &'static str> {
    let mut reader = Reader(data);
    let mut next = || reader.u32().ok_or(TOO_SHORT);
    let (connections, workers, senders) = (next()?, next()?, next()?);
    let (prepared, locks, level) = (next()?, next()?, next()?);
    let wal_level = match level {
        0 => WalLevel::Minimal,
        1 => WalLevel::Replica,
        2 => WalLevel::Logical,
        _ => return Err("its wal_level is unknown"),
    };
    Ok(Meaning::Settings(ServerSettings {
        max_connections: connections,
        max_worker_processes: workers,
        max_wal_senders: senders,
        max_prepared_transactions: prepared,
        max_locks_per_transaction: locks,
        wal_level,
    }))
}

/// `CheckPoint` in `pg_control.h`: the same from 13 on as far as it is read here, but for
/// `wal_level`, which fills a hole since 17.
pub(super) fn checkpoint(data: &[u8]) -> Result<Meaning, &'static str> {
    let at = |from: usize| data.get(from..).and_then(|rest| Reader(rest).u64()).ok_or(TOO_SHORT);
    let (next_xid, seconds) = (at(24)?, at(64)?.cast_signed());
    let time = Timestamp::from_second(seconds).map_err(|_| "its time is impossible")?;
    Ok(Meaning::Checkpoint { time, next_xid })
}

/// `xl_tblspc_create_rec` in `tablespace.h`: a number, and a path that ends with a zero byte.
pub(super) fn tablespace(data: &[u8]) -> Result<Meaning, &'static str> {
    let mut reader = Reader(data);
    let oid = reader.u32().ok_or(TOO_SHORT)?;
    let end = reader.0.iter().position(|byte| *byte == 0).ok_or("its path has no end")?;
    Ok(Meaning::Tablespace { oid, path: Some(reader.0[..end].to_vec()) })
}

/// `xl_tblspc_drop_rec`: a number.
pub(super) fn tablespace_drop(data: &[u8]) -> Result<Meaning, &'static str> {
    let oid = Reader(data).u32().ok_or(TOO_SHORT)?;
    Ok(Meaning::Tablespace { oid, path: None })
}

/// Whether the record that begins at this byte of a segment of that size, and ends behind the
/// segment, may be about a tablespace; `byte` gives one byte of the segment. A record whose resource
/// manager stands in another page may, and one of which it cannot be read.
#[must_use]
pub fn may_be_of_tablespace(
    size: WalSegmentSize,
    begins: u64,
    byte: impl FnOnce(u64) -> Option<u8>,
) -> bool {
    if begins >= size.bytes() {
        // It begins in the next one.
        return false;
    }
    let header = match begins {
        0 => LONG_HEADER,
        _ if begins.is_multiple_of(PAGE) => SHORT_HEADER,
        _ => 0,
    };
    let at = begins.saturating_add(header as u64).saturating_add(MANAGER_AT);
    at / PAGE != begins / PAGE || byte(at).is_none_or(|manager| manager == TABLESPACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_goes_on_is_known_by_its_manager() {
        let size = WalSegmentSize::new(1 << 20).unwrap();
        let mut segment = vec![0; 1 << 20];
        segment[17 + 40] = TABLESPACE;
        segment[8192 + 24 + 17] = TABLESPACE;
        segment[8192 + 96 + 17] = TABLESPACE;
        segment[8192 + 104 + 17] = TABLESPACE + 1;
        for (begins, may) in [
            (0, true),
            (48, false),
            (8192, true),
            (8192 + 96, true),
            (8192 + 104, false),
            (2 * 8192 - 24, false),
            (2 * 8192 - 16, true),
            ((1 << 20) - 16, true),
            (1 << 20, false),
        ] {
            let byte = |at| segment.get(usize::try_from(at).unwrap()).copied();
            assert_eq!(may_be_of_tablespace(size, begins, byte), may, "{begins}");
        }
        assert!(may_be_of_tablespace(size, 48, |_| None));
    }
}
