//! Records that ask something of the server that replays them, and checkpoints.

use drctl_model::{ServerSettings, WalLevel};
use jiff::Timestamp;

use super::bytes::Reader;
use super::record::{Meaning, TOO_SHORT};

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
