use std::collections::BTreeSet;

use drctl_model::{Digest, LogEntry, Lsn};

use super::{Base, Wal};
use crate::recovery::common::{Gap, Log, Why};

/// Where a base brings other WAL along than lies around it.
pub(super) fn foreign(base: &Base, log: &Log<Lsn>) -> Option<Gap<Wal>> {
    let pieces = |from| beginning(log, from);
    base.segments.iter().find_map(|(start, end, digest)| {
        let same = pieces(*start).filter(|entry| entry.end == *end);
        let differs = same.map(|entry| (*start, entry.ends_as(*digest)));
        let next = pieces(*end).map(|entry| (*end, entry.begins_behind(*digest)));
        let (from, _) = differs.chain(next).find(|(_, told)| *told == Some(false))?;
        let (lineage, why) = (base.timeline, Why::OtherHistory);
        Some(Gap { lineage, from, until: None, why })
    })
}

/// Where a base proves that log follows the log before it: it brings both segments along, as its server
/// had them, and the pieces have the same bytes.
pub(super) fn proven(base: &Base, log: &Log<Lsn>) -> BTreeSet<Lsn> {
    let same = |(start, end, digest): &(Lsn, Lsn, Digest)| {
        let mut whole = beginning(log, *start).filter(|entry| entry.end == *end);
        whole.any(|entry| entry.ends_as(*digest) == Some(true))
    };
    let same: Vec<_> = base.segments.iter().filter(|segment| same(segment)).collect();
    let ends: BTreeSet<Lsn> = same.iter().map(|(_, end, _)| *end).collect();
    same.iter().map(|(start, ..)| *start).filter(|start| ends.contains(start)).collect()
}

fn beginning(log: &Log<Lsn>, from: Lsn) -> impl Iterator<Item = &LogEntry> {
    let first = log.entries.partition_point(|entry| entry.start < from);
    let rest = log.entries.get(first..).unwrap_or_default();
    rest.iter().take_while(move |entry| entry.start == from)
}
