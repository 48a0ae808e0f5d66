//! How the configuration wants a source's log streamed.

use std::time::Duration;

use drctl_policies::{LogSettings, LogWay};

use crate::engine::StreamOptions;
use crate::log::{CatchUp, HeldLog};

/// How long written log may wait until it is stored, as `wal stream` has it.
const INTERVAL: Duration = Duration::from_secs(3);

/// How many pieces may be on their way at once, as `wal stream` has it.
const PUTS: usize = 4;

/// A server may be away for so long, until its stream counts as failed, which is told.
const AWAY: Duration = Duration::from_secs(120);

/// The options of a stream.
pub(super) fn options(
    log: &LogSettings,
    catch_up: Option<CatchUp>,
    held: HeldLog,
) -> StreamOptions {
    StreamOptions {
        interval: INTERVAL,
        synchronous: log.way == LogWay::Synchronous,
        puts: PUTS,
        slot: log.slot.clone(),
        heartbeat: Some(log.heartbeat).filter(|every| !every.is_zero()),
        heartbeat_table: log.heartbeat_table,
        bears: Some(AWAY),
        catch_up,
        held,
    }
}
