//! When was it, out of pgBackRest's archive.

use anyhow::Result;
use drctl_engines::pg::wal::{RelationChanges, WalWalker};
use drctl_model::{Lsn, Timeline, WalSegmentSize};
use drctl_policies::recovery::Archive;
use jiff::Timestamp;

use super::{StanzaView, segment};
use crate::engine::pg::{FoundChanges, committed, one_before};
use crate::engine::wal::holds;
use crate::host::{Failure, Meter, Setup};

/// So many segments in a row with nothing but later commits end the search: commits overtake each
/// other by less.
const LATER: usize = 2;

/// Reads the WAL of a cluster in a stanza from one time to another, and tells what was done to
/// relations.
///
/// # Errors
/// pgBackRest's. A segment that cannot be read is told.
pub(crate) async fn changes_in_stanza(
    setup: &Setup,
    (stanza, log, system_id): (Option<&StanzaView>, &Archive, u64),
    size: WalSegmentSize,
    (from, until): (Timestamp, Timestamp),
    least: u64,
    meter: &Meter,
) -> Result<FoundChanges> {
    let mut found = FoundChanges::default();
    let Some(stanza) = stanza else { return Ok(found) };
    let Some(archive) = stanza.archive(system_id) else { return Ok(found) };
    let folder = &setup.config.paths.runtime_dir;
    setup.private_directory(folder)?;
    for (timeline, entries) in log.pieces() {
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
            match segment(stanza, (system_id, timeline), (start, size), folder).await {
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
