//! A piece of log that is damaged, in shorter ones that hold the same log or its beginning: a stream
//! leaves them.

use std::collections::BTreeMap;

use anyhow::Result;
use drctl_model::{LogEntry, LogPlace, Lsn, Timeline, outermost};
use futures_util::{StreamExt as _, stream};

use super::Known;
use crate::log::{LogStore, is_damaged};
use crate::repository::faults::is_missing;

/// How many heads are read at once.
const AT_ONCE: usize = 32;

/// A piece by its timeline, its first byte, and behind its last one.
type Piece = (Timeline, Lsn, Lsn);

impl Known {
    /// What stands for those of these pieces that begin in shorter ones, as far as these lead without a
    /// gap: their heads tell it. Others, and all where the bucket cannot be asked, are left as they are.
    pub(super) async fn parts(
        &self,
        log_store: &LogStore,
        damaged: &[Piece],
    ) -> Vec<(Piece, Vec<LogEntry>)> {
        let mut by_timeline: BTreeMap<Timeline, Vec<Piece>> = BTreeMap::new();
        for piece in damaged {
            by_timeline.entry(piece.0).or_default().push(*piece);
        }
        let mut found = Vec::new();
        for (timeline, damaged) in by_timeline {
            match self.parts_of(log_store, timeline, &damaged).await {
                Ok(parts) => found.extend(parts),
                Err(error) => tracing::warn!("what replaces damaged WAL is not known: {error:#}"),
            }
        }
        found
    }

    async fn parts_of(
        &self,
        log_store: &LogStore,
        timeline: Timeline,
        damaged: &[Piece],
    ) -> Result<Vec<(Piece, Vec<LogEntry>)>> {
        let first = damaged.iter().map(|(_, start, _)| *start).min();
        let last = damaged.iter().map(|(_, _, end)| *end).max();
        let size = self.bases.first().map(|(_, base)| base.segment_size);
        let Some(((first, last), size)) = first.zip(last).zip(size) else {
            return Ok(Vec::new());
        };
        let of = (self.system_id, timeline);
        let there = log_store.ranges(of, size, size.start_of(first), Some(last)).await?;
        let mut found = Vec::new();
        for piece in damaged {
            let (_, start, end) = *piece;
            let mut within = there.clone();
            within.retain(|(from, until)| {
                start <= *from && *until <= end && !damaged.contains(&(timeline, *from, *until))
            });
            let heads = outermost(&within).into_iter().map(|range| async move {
                (log_store.head(&LogPlace::of_wal(of, range)).await, range)
            });
            let (mut heads, mut parts) = (stream::iter(heads).buffered(AT_ONCE), Vec::new());
            while let Some((head, range)) = heads.next().await {
                match head {
                    Err(error) if is_damaged(&error) || is_missing(&error) => {}
                    head => {
                        let head = head?;
                        let entry = LogEntry::of(range, &head.holds);
                        parts.push(entry.with_bytes(&head.holds, head.plain_sha256));
                    }
                }
            }
            let reach = reach(&parts, start);
            parts.retain(|part| part.end <= reach);
            if !parts.is_empty() {
                found.push((*piece, parts));
            }
        }
        Ok(found)
    }
}

/// Up to where pieces in order hold all from a position on.
fn reach(parts: &[LogEntry], start: Lsn) -> Lsn {
    let further = |at: Lsn, part: &LogEntry| if part.start <= at { at.max(part.end) } else { at };
    parts.iter().fold(start, further)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_stand_for_a_longer_one_up_to_the_first_gap() {
        for (parts, expected) in [
            (&[(16, 20), (20, 32)][..], 32),
            (&[(16, 24), (20, 32)], 32),
            (&[(16, 20), (24, 32)], 20),
            (&[(16, 31)], 31),
            (&[(20, 32)], 16),
            (&[], 16),
        ] {
            let entry =
                |(from, until): &(u64, u64)| LogEntry::new((Lsn(*from), Lsn(*until)), None, None);
            let entries: Vec<_> = parts.iter().map(entry).collect();
            assert_eq!(reach(&entries, Lsn(16)), Lsn(expected), "{parts:?}");
        }
    }
}
