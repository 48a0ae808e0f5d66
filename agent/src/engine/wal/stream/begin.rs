//! Where a stream of log begins: behind what the bucket holds, on the timeline on which that ends.

use std::collections::VecDeque;

use anyhow::{Context as _, Result, bail};
use drctl_engines::pg::replication::{Identity, Replication, WalStream};
use drctl_model::{LogPiece, LogPlace, Lsn, Timeline, TimelineHistory, WalSegmentSize};

use super::there::{There, lineage};
use crate::engine::wal::cutter::{Check, Cutter};
use crate::engine::wal::of_history;
use crate::engine::wal::taken::{history_taken, tell_history};
use crate::log::LogStore;

/// So many segments before the first one that is stored are compared, of those that the slot keeps.
const COMPARED: u64 = 16;

/// Which way to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResumeFrom {
    /// Behind what the bucket holds.
    Resume,
    /// Where the server said that the log goes on.
    Next(Timeline, Lsn),
    /// Behind the last log that the bucket holds, whatever is missing before that.
    Behind,
    /// From where on the slot kept the log before it heard of older log: what is missing before
    /// that is gone.
    Slot(Lsn),
}

/// A stream that has begun, and what cuts it.
pub(super) struct Begun {
    pub(super) stream: WalStream,
    pub(super) cutter: Cutter,
    pub(super) system_id: u64,
    pub(super) size: WalSegmentSize,
    /// From where on the slot kept the log when it began.
    pub(super) kept: Lsn,
    /// Whether the slot was there, and older log is asked for than it keeps.
    pub(super) earlier: bool,
    /// Where it goes on, if it was asked for a segment before that the slot does not keep.
    pub(super) unsure: Option<Unsure>,
    /// Whether it begins where nobody knows if the log follows what the bucket has before it.
    pub(super) unproven: bool,
}

/// Where a stream goes on behind a segment that is to be compared, and that the server need not have.
pub(super) struct Unsure {
    pub(super) timeline: Timeline,
    pub(super) from: Lsn,
    /// What the bucket has right before it, where nothing but a comparison tells whether the log that
    /// comes follows it.
    pub(super) doubtful: Option<Box<LogPiece>>,
}

/// Begins a stream; `cluster` is the one that was streamed before. The segment before it is asked for
/// too, to compare it, also where the slot does not keep that: but not behind `bare`, where the server
/// has it no more.
///
/// # Errors
/// The server's, the store's; another cluster than before.
pub(super) async fn begin(
    log_store: &LogStore,
    mut connection: Replication,
    slot: &str,
    (resume, bare): (ResumeFrom, Option<&Unsure>),
    cluster: Option<u64>,
) -> Result<Begun> {
    let Identity { system_id, timeline, flushed } = connection.identify().await?;
    if let Some(other) = cluster.filter(|other| *other != system_id) {
        bail!("the server is another cluster now: {system_id} instead of {other}");
    }
    let size = connection.segment_size().await?;
    let mut found = connection.slot(slot).await?;
    // A slot that was there keeps what it never heard to be safe; a new one, what there happens to
    // be from the last checkpoint on.
    let known = found.and_then(|found| found.restart);
    if found.is_none() {
        connection.create_slot(slot).await.context("make the slot")?;
        found = connection.slot(slot).await?;
    }
    let restart = found.and_then(|found| found.restart);
    let history = history(log_store, &mut connection, system_id, timeline).await?;
    let kept = size.start_of(restart.unwrap_or(flushed));
    let mut there = There::new(log_store, system_id, size, &history);
    let (timeline, from) = there.goes_on(resume, kept, known.is_none()).await?;
    let from = size.start_of(from);
    let earlier = known.is_some() && from < kept;
    // The slot may have been moved back since, by the question for older log.
    let keeps = if let ResumeFrom::Slot(before) = resume { before.max(kept) } else { kept };
    // The segment before is compared, and not stored again. The slot may keep it; if it does not, the
    // server may have it all the same.
    let before = Lsn(from.0.saturating_sub(size.bytes()));
    let is_kept = keeps <= before;
    let begins =
        lineage(&history).iter().find(|(of, _)| *of == timeline).map(|(_, begins)| *begins);
    let is_there = begins.is_some_and(|begins| size.start_of(begins) <= before) && before < from;
    let bare = bare.filter(|bare| (bare.timeline, bare.from) == (timeline, from));
    let walked = match begins.filter(|_| is_there) {
        // The newest segments of a server that was set back may look the same, and older ones not.
        Some(begins) if is_kept => {
            let far = Lsn(from.0.saturating_sub(COMPARED * size.bytes()));
            far.max(keeps).max(size.start_of(begins))
        }
        Some(_) if bare.is_none() => before,
        _ => from,
    };
    let checks = there.checks(timeline, (walked, from, from.plus(size.bytes()))).await?;
    let has_before = checks.iter().any(|check| check.at <= from);
    let walked_from = if is_kept || has_before { walked } else { from };
    if checks.iter().any(|check| flushed < check.at) && timeline == history.timeline {
        tracing::warn!("the bucket has WAL after {flushed}, where the WAL of this server ends");
    }
    // Whoever confirmed exactly this position had all before it, of this server.
    let doubtful = (known != Some(from)).then(|| unproven(&checks, from)).flatten();
    let unsure = (walked_from < from && !is_kept).then_some(Unsure { timeline, from, doubtful });
    let doubtful = bare.and_then(|bare| bare.doubtful.clone());
    let unproven = doubtful.is_some();
    let cutter = Cutter::new(system_id, timeline, from, size).comparing(walked_from, checks);
    let cutter = cutter.unproven(doubtful);
    let stream = connection.start(Some(slot), walked_from, timeline).await?;
    tracing::info!("streaming the WAL of timeline {timeline} from {from}");
    Ok(Begun { stream, cutter, system_id, size, kept, earlier, unsure, unproven })
}

/// What the bucket has right before a position; nothing where it has log from there on too, whose heads
/// tell what that follows.
fn unproven(checks: &VecDeque<Check>, from: Lsn) -> Option<Box<LogPiece>> {
    if checks.iter().any(|check| check.begins_at(from)) {
        return None;
    }
    let before = checks.iter().rev().filter(|check| check.at == from);
    before.max_by_key(|check| check.head.holds.last_record).map(|check| check.head.clone())
}

/// The history of the server's timeline, which is kept: without it nothing leads to its log.
async fn history(
    log_store: &LogStore,
    connection: &mut Replication,
    system_id: u64,
    timeline: Timeline,
) -> Result<TimelineHistory> {
    if timeline == Timeline::FIRST {
        return Ok(TimelineHistory::of_first(timeline));
    }
    let (bytes, history) = connection.history(timeline).await?;
    let place = LogPlace::of_history((system_id, timeline));
    match log_store.keep(place, bytes, of_history(&history)).await {
        Err(error) if history_taken(&error) => tell_history(&error),
        kept => drop(kept?),
    }
    Ok(history)
}
