//! When was it, out of pgBackRest's archive.

use anyhow::Result;
use drctl_engines::pg::wal::{RelationChanges, WalWalker};
use drctl_model::{Lsn, Timeline, WalSegmentSize};
use jiff::Timestamp;

use super::StanzaArchive;
use super::read::segment;
use crate::engine::log_archive::Search;
use crate::engine::pg::{FoundChanges, committed, one_before};
use crate::engine::wal::{Segment, holds};
use crate::host::Failure;

/// So many segments in a row with nothing but later commits end the search: commits overtake each
/// other by less.
const LATER: usize = 2;

/// Reads the WAL of a cluster in a stanza from one time to another, and tells what was done to
/// relations.
///
/// # Errors
/// pgBackRest's. A segment that cannot be read is told.
pub(super) async fn changes(
    archive: &StanzaArchive<'_>,
    search: &Search<'_>,
) -> Result<FoundChanges> {
    let Search { system_id, size, known, times: (from, until), least, meter } = *search;
    let (mut found, stanza, folder) = (FoundChanges::default(), &archive.seen, archive.folder());
    let Some(archive) = stanza.archive(system_id) else { return Ok(found) };
    for (timeline, entries) in known.pieces() {
        let Some(first) = committed(entries, (from, until)).map(|entry| entry.start).min() else {
            continue;
        };
        let first = one_before(first, size);
        let (mut changes, mut later) = (RelationChanges::new(least), 0);
        let of_it = archive.segments.iter().filter(|one| one.name.timeline == timeline);
        for start in of_it.filter_map(|one| one.name.start(size).ok()) {
            if start < first || later >= LATER {
                continue;
            }
            let one = Segment { of: (system_id, timeline), size, start, need: None };
            match segment(stanza, &one, folder).await {
                Ok(Some(bytes)) => {
                    meter.moved(bytes.len() as u64, 0);
                    found.segments += 1;
                    let work = move || {
                        changes.feed(start, &bytes);
                        (changes, earliest(timeline, (start, size), &bytes))
                    };
                    let (fed, earliest) = tokio::task::spawn_blocking(work).await?;
                    changes = fed;
                    let is_later = earliest.map(|at| at > until);
                    later = is_later.map_or(later, |is_later| if is_later { later + 1 } else { 0 });
                }
                gone => {
                    let why = gone.err().map(|error| Failure::of(&error).messages.join(": "));
                    let why = why.unwrap_or_else(|| "it is not there any more".to_owned());
                    found.miss(&size.file_name(timeline, start), &why);
                }
            }
        }
        found.keep(timeline, &mut changes, (from, until));
    }
    Ok(found)
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
