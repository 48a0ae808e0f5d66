//! Whether log that a server was told is stored lies in the bucket.

use anyhow::Result;
use drctl_engines::pg::Acknowledged;
use drctl_model::{Lsn, Timeline};

use crate::log::LogStore;

/// How many timelines before the server's own are looked at.
const ANCESTORS: u32 = 16;

/// What of it does not lie there, in words. Where nothing at all does, nobody has begun yet.
///
/// # Errors
/// The store's.
pub(crate) async fn not_there(log_store: &LogStore, told: &Acknowledged) -> Result<Option<String>> {
    let size = told.segment_size;
    let pushed = told.pushed.as_deref().and_then(|name| size.parse_file_name(name).ok());
    let pushed = pushed.map(|(timeline, start)| (timeline, start.plus(size.bytes())));
    let claims = pushed.map(|(_, at)| at).into_iter().chain(told.streamed);
    let Some(near) = claims.min().map(|at| Lsn(at.0.saturating_sub(size.bytes()))) else {
        return Ok(None);
    };
    // Only where what is near does not bear it out, all is listed.
    for from in [near, Lsn(0)] {
        let Some(last) = last(log_store, told, pushed, from).await? else { continue };
        match lacks(last, pushed, told.streamed) {
            Some(_) if from > Lsn(0) => {}
            lacks => return Ok(lacks),
        }
    }
    Ok(None)
}

/// Where the log ends, of what begins at `from` or later.
async fn last(
    log_store: &LogStore,
    told: &Acknowledged,
    pushed: Option<(Timeline, Lsn)>,
    from: Lsn,
) -> Result<Option<(Timeline, Lsn)>> {
    let newest = pushed.map_or(told.timeline, |(timeline, _)| timeline.max(told.timeline));
    let least = newest.id().saturating_sub(ANCESTORS).max(1);
    let mut last = None;
    for timeline in (least..=newest.id()).filter_map(Timeline::new) {
        let ranges =
            log_store.ranges((told.system_id, timeline), told.segment_size, from, None).await?;
        let end = ranges.iter().map(|(_, end)| *end).max();
        last = end.map(|end| (timeline, end)).or(last);
    }
    Ok(last)
}

fn lacks(
    (timeline, end): (Timeline, Lsn),
    pushed: Option<(Timeline, Lsn)>,
    streamed: Option<Lsn>,
) -> Option<String> {
    let by_push = pushed.filter(|pushed| *pushed > (timeline, end));
    let by_stream = streamed.filter(|at| *at > end);
    match (by_push, by_stream) {
        (Some((of, at)), _) => Some(format!(
            "the server was told that its WAL is stored up to {at} on timeline {of}; in the bucket \
             it ends at {end} on timeline {timeline}"
        )),
        (None, Some(at)) => Some(format!(
            "the slot was told that the WAL is stored up to {at}; in the bucket it ends at {end}"
        )),
        (None, None) => None,
    }
}
