//! When was it, out of pgBackRest's archive.

use anyhow::Result;
use drctl_engines::pg::wal::{Deed, Deeds, WalWalker};
use drctl_model::{LogEntry, Lsn, Timeline, WalSegmentSize, micros};
use jiff::Timestamp;

use super::read::segment;
use crate::problem::Failure;
use crate::wal::holds;
use crate::{FoundDeeds, Known, Meter, Setup};

/// So many segments in a row with nothing but later commits end the search: commits overtake each
/// other by less.
const LATER: usize = 2;

/// Reads the log of a cluster in a stanza from one time to another, and tells what was done to
/// relations.
///
/// # Errors
/// pgBackRest's. A segment that cannot be read is told.
pub(crate) async fn deeds_of_stanza(
    setup: &Setup,
    known: &Known,
    size: WalSegmentSize,
    (from, until): (Timestamp, Timestamp),
    least: u64,
    meter: &Meter,
) -> Result<FoundDeeds> {
    let mut found = FoundDeeds::default();
    let Some(stanza) = &known.stanza else { return Ok(found) };
    let Some(archive) = stanza.archive(known.system_id) else { return Ok(found) };
    let folder = &setup.config.paths.runtime_dir;
    setup.private_directory(folder)?;
    for (timeline, entries) in known.archive.pieces() {
        let Some(first) = first(entries, size, (from, until)) else { continue };
        let (mut deeds, mut later) = (Deeds::new(least), 0);
        let of_it = archive.segments.iter().filter(|one| one.name.timeline == timeline);
        for start in of_it.filter_map(|one| one.name.start(size).ok()) {
            if start < first || later >= LATER {
                continue;
            }
            match segment(stanza, (known.system_id, timeline), (start, size), folder).await {
                Ok(Some(bytes)) => {
                    meter.moved(bytes.len() as u64, 0);
                    found.segments += 1;
                    let work = move || {
                        deeds.feed(start, &bytes);
                        (deeds, earliest(timeline, (start, size), &bytes))
                    };
                    let (fed, earliest) = tokio::task::spawn_blocking(work).await?;
                    deeds = fed;
                    let is_later = earliest.map(|at| at > until);
                    later = is_later.map_or(later, |is_later| if is_later { later + 1 } else { 0 });
                }
                gone => {
                    let why = gone.err().map(|error| Failure::of(&error).messages.join(": "));
                    let why = why.unwrap_or_else(|| "it is not there any more".to_owned());
                    let name = size.file_name(timeline, start);
                    found.unread.push(format!("the segment {name}: {why}"));
                }
            }
        }
        let of_then = |deed: &Deed| (from..=until).contains(&deed.time);
        let of_then = deeds.take().into_iter().filter(of_then);
        found.deeds.extend(of_then.map(|deed| (timeline, deed)));
    }
    Ok(found)
}

/// Where to begin: with the segment before the first that may hold a commit of that time.
fn first(
    entries: &[LogEntry],
    size: WalSegmentSize,
    (from, until): (Timestamp, Timestamp),
) -> Option<Lsn> {
    let (from, until) = (micros(from), micros(until));
    let of_then = |entry: &&LogEntry| {
        entry.commits().is_some_and(|(first, last)| first <= until && last >= from)
    };
    let start = entries.iter().filter(of_then).map(|entry| entry.start).min()?;
    Some(Lsn(size.start_of(start).0.saturating_sub(size.bytes())))
}

/// The earliest commit in a segment.
fn earliest(
    timeline: Timeline,
    (start, size): (Lsn, WalSegmentSize),
    bytes: &[u8],
) -> Option<Timestamp> {
    let mut walker = WalWalker::new(timeline, start, size);
    walker.feed(bytes).ok()?;
    holds(&walker.summary(), size).commits.map(|(first, _)| first)
}
