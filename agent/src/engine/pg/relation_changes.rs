//! When was it? What transactions did to relations, out of the WAL around a time.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_engines::pg::wal::{RelationChange, RelationChanges};
use drctl_model::{LogEntry, Lsn, Timeline, WalSegmentSize, micros};
use drctl_store::Identities;
use jiff::Timestamp;

use crate::engine::wal::{Segment, assemble, cluster_log};
use crate::host::{Failure, Meter};
use crate::log::LogStore;

/// What was found in the WAL of a time.
#[derive(Debug, Clone, Default)]
pub struct FoundChanges {
    /// What was committed then, by timeline, in the order of the WAL.
    pub changes: Vec<(Timeline, RelationChange)>,
    /// Segments that were read.
    pub segments: u64,
    /// WAL of that time that could not be read, and why.
    pub unread: Vec<String>,
}

impl FoundChanges {
    /// Keeps what the WAL of a timeline told of that time.
    pub(crate) fn keep(
        &mut self,
        timeline: Timeline,
        changes: &mut RelationChanges,
        (from, until): (Timestamp, Timestamp),
    ) {
        let of_then = |change: &RelationChange| (from..=until).contains(&change.time);
        let of_then = changes.take().into_iter().filter(of_then);
        self.changes.extend(of_then.map(|change| (timeline, change)));
    }

    /// Tells of a segment that could not be read.
    pub(crate) fn miss(&mut self, segment: &str, why: &str) {
        self.unread.push(format!("the segment {segment}: {why}"));
    }

    /// Takes in what was found elsewhere; the same only once.
    pub(crate) fn join(&mut self, other: FoundChanges) {
        for (timeline, change) in other.changes {
            let same = |(of, one): &(Timeline, RelationChange)| {
                (*of, one.xid, one.at, one.kind) == (timeline, change.xid, change.at, change.kind)
            };
            if !self.changes.iter().any(same) {
                self.changes.push((timeline, change));
            }
        }
        self.changes.sort_by_key(|(timeline, change)| (*timeline, change.at));
        self.segments += other.segments;
        self.unread.extend(other.unread);
    }
}

/// Reads the WAL of a cluster from one time to another, and tells what was done to relations.
///
/// # Errors
/// [`StoreError`](drctl_store::StoreError) of a bucket that cannot be read. WAL that is damaged or
/// missing is told.
pub async fn changes(
    log_store: &LogStore,
    (system_id, size): (u64, WalSegmentSize),
    cache: Option<&Catalog>,
    (from, until): (Timestamp, Timestamp),
    least: u64,
    identities: &Identities,
    meter: &Meter,
) -> Result<FoundChanges> {
    let mut found = FoundChanges::default();
    let logs = cluster_log(log_store, system_id, cache, &mut found.unread).await?;
    let logs: BTreeMap<Timeline, Vec<LogEntry>> =
        logs.into_iter().map(|(timeline, log)| (timeline, log.entries)).collect();
    for (timeline, entries) in logs {
        let mut changes = RelationChanges::new(least);
        for start in segments(&entries, size, from, until) {
            let end = start.plus(size.bytes());
            let near = |entry: &&LogEntry| entry.start < end && entry.end > start;
            let there = entries.iter().filter(near).map(LogEntry::range).collect();
            let segment = Segment { of: (system_id, timeline), size, start, need: None };
            match assemble(log_store, &segment, there, identities).await {
                Ok(read) => {
                    meter.moved(read.bytes.len() as u64, 0);
                    found.segments += 1;
                    let work = move || {
                        changes.feed(start, &read.bytes);
                        changes
                    };
                    changes = tokio::task::spawn_blocking(work).await?;
                }
                Err(error) => {
                    let why = Failure::of(&error).messages.join(": ");
                    found.miss(&size.file_name(timeline, start), &why);
                }
            }
        }
        found.keep(timeline, &mut changes, (from, until));
    }
    Ok(found)
}

/// What of the WAL holds commits from one time to another.
pub(crate) fn committed(
    entries: &[LogEntry],
    (from, until): (Timestamp, Timestamp),
) -> impl Iterator<Item = &LogEntry> {
    let (from, until) = (micros(from), micros(until));
    entries.iter().filter(move |entry| {
        entry.commits().is_some_and(|(first, last)| first <= until && last >= from)
    })
}

/// Where a search begins: one segment before, for what is committed in the first was done before.
pub(crate) fn one_before(first: Lsn, size: WalSegmentSize) -> Lsn {
    Lsn(size.start_of(first).0.saturating_sub(size.bytes()))
}

/// The segments that hold what was committed from one time to another, and the one before them: what
/// is committed in the first was done before.
fn segments(
    entries: &[LogEntry],
    size: WalSegmentSize,
    from: Timestamp,
    until: Timestamp,
) -> BTreeSet<Lsn> {
    let (mut first, mut last) = (None::<Lsn>, None::<Lsn>);
    for entry in committed(entries, (from, until)) {
        first = Some(first.map_or(entry.start, |least| least.min(entry.start)));
        last = Some(last.map_or(entry.end, |most| most.max(entry.end)));
    }
    let (Some(first), Some(last)) = (first, last) else { return BTreeSet::new() };
    let first = one_before(first, size);
    let within = entries.iter().filter(|entry| entry.end > first && entry.start < last);
    within.map(|entry| size.start_of(entry.start)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_and_one_before_is_read() {
        let size = WalSegmentSize::new(1 << 20).unwrap();
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let mib = |n: u64| Lsn(n << 20);
        let entry = |n: u64, times: Option<(i64, i64)>| {
            let times = times.map(|(first, last)| (at(first), at(last)));
            LogEntry::new((mib(n), mib(n + 1)), times, None)
        };
        let entries = [
            entry(1, Some((0, 9))),
            entry(2, Some((10, 19))),
            entry(3, Some((20, 29))),
            entry(4, None),
            entry(5, Some((30, 39))),
            entry(6, Some((40, 49))),
        ];
        let of = |from, until| {
            let found = segments(&entries, size, at(from), at(until));
            found.into_iter().map(|lsn| lsn.0 >> 20).collect::<Vec<_>>()
        };
        assert_eq!(of(25, 35), [2, 3, 4, 5]);
        assert_eq!(of(0, 5), [1]);
        assert!(of(100, 200).is_empty());
    }
}
