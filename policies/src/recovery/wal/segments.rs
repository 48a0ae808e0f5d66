use drctl_model::Lsn;

use super::{Base, Wal};
use crate::recovery::common::{Gap, Log, Why};

/// Where a base brings other WAL along than lies around it.
pub(super) fn foreign(base: &Base, log: &Log<Lsn>) -> Option<Gap<Wal>> {
    let pieces = |from: Lsn| {
        let first = log.entries.partition_point(|entry| entry.start < from);
        let rest = log.entries.get(first..).unwrap_or_default();
        rest.iter().take_while(move |entry| entry.start == from)
    };
    base.segments.iter().find_map(|(start, end, digest)| {
        let same = pieces(*start).filter(|entry| entry.end == *end);
        let differs = same.map(|entry| (*start, entry.ends_as(*digest)));
        let next = pieces(*end).map(|entry| (*end, entry.begins_behind(*digest)));
        let (from, _) = differs.chain(next).find(|(_, told)| *told == Some(false))?;
        let (lineage, why) = (base.timeline, Why::OtherHistory);
        Some(Gap { lineage, from, until: None, why })
    })
}
