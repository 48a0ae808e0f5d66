//! Log that was known once and is not there any more.

use std::collections::BTreeMap;

use anyhow::Result;
use drctl_catalog::{CachedLog, Catalog, Lost};
use drctl_model::{Lineage, LogAt, LogEntry, SourceId};
use drctl_store::layout;

use super::LogStore;
use super::heads::positions;
use super::listing::Range;
use super::log_engine::LogEngine;
use crate::repository::removed::log_floors;

/// Tells the catalog which log of a lineage is gone, and which is there again.
///
/// # Errors
/// The catalog's; the store's, where it may have been removed on purpose.
pub(super) async fn note_lost<E: LogEngine>(
    log_store: &LogStore,
    cache: &Catalog,
    of: &Lineage,
    before: &CachedLog<E::At>,
    entries: &[LogEntry<E::At>],
) -> Result<()> {
    let kept = cache.lost(Some(&log_store.source)).await?;
    let lost =
        |floor| lost_log::<E>(&log_store.source, of, (before.known(), floor), entries, &kept);
    let (mut gone, mut back) = lost(None);
    if !gone.is_empty() {
        let floors = log_floors(log_store.repository(), cache, &log_store.source).await?;
        (gone, back) = lost(floors.get(of).copied());
    }
    for why in gone.values() {
        tracing::warn!("LOST: {why}");
    }
    Ok(cache.remember_lost(&log_store.source, log_store.now(), gone, back).await?)
}

/// The stretches that were known of a lineage's log and are not there any more, by the keys under
/// which they are remembered; and those of `kept` that are there again. What lies below the `floor` was
/// removed on purpose.
fn lost_log<E: LogEngine>(
    source: &SourceId,
    of: &Lineage,
    (before, floor): (&[LogEntry<E::At>], Option<LogAt>),
    now: &[LogEntry<E::At>],
    kept: &[Lost],
) -> (BTreeMap<String, String>, Vec<String>) {
    let there = spans(now.iter().map(LogEntry::place));
    let lineage = layout::lineage(source, of);
    let missing = before.iter().map(LogEntry::place).filter(|range| !covers(&there, *range));
    let missing = missing.filter(|(_, until)| floor.is_none_or(|floor| *until > floor));
    let gone = spans(missing);
    let entry = |range: Range| {
        let (log, called, (from, until)) = (E::LOG, E::called(of), positions::<E::At>(range));
        let why = format!("the {log} of {called} from {from} to {until} was there");
        (format!("{lineage}/{}-{}", range.0, range.1), why)
    };
    let is_back = |lost: &&Lost| {
        let at = lost_at(source, &lost.key);
        at.is_some_and(|(its, range)| its == *of && covers(&there, range))
    };
    let back = kept.iter().filter(is_back).map(|lost| lost.key.clone()).collect();
    (gone.into_iter().map(entry).collect(), back)
}

/// Whether what is remembered as gone is a stretch of log, a note or an index.
pub(crate) fn is_of_log(source: &SourceId, key: &str) -> bool {
    key.strip_prefix(layout::logs(source).as_ref()).is_some_and(|rest| rest.starts_with('/'))
}

/// Whose log is remembered as gone under a key, and from where to where.
pub(crate) fn lost_at(source: &SourceId, key: &str) -> Option<(Lineage, Range)> {
    let (lineage, range) = key.rsplit_once('/')?;
    let of: Lineage = lineage.rsplit_once('/')?.1.parse().ok()?;
    let (from, until) = range.split_once('-')?;
    let range = (LogAt::read(from)?, LogAt::read(until)?);
    (layout::lineage(source, &of).as_ref() == lineage).then_some((of, range))
}

/// Ranges in order, those that follow each other without a gap as one.
fn spans(ranges: impl Iterator<Item = Range>) -> Vec<Range> {
    let mut all: Vec<Range> = Vec::new();
    for (from, until) in ranges {
        match all.last_mut().filter(|last| from <= last.1) {
            Some(last) => last.1 = last.1.max(until),
            None => all.push((from, until)),
        }
    }
    all
}

/// Whether one of the spans, in order, holds all of a range.
fn covers(spans: &[Range], (from, until): Range) -> bool {
    let at = spans.partition_point(|span| span.0 <= from);
    at.checked_sub(1).is_some_and(|at| spans[at].1 >= until)
}

#[cfg(test)]
mod tests {
    use drctl_catalog::Loss;

    use super::super::tests::{Counter, Tape, reel};
    use super::*;

    #[test]
    fn log_that_was_known_and_is_gone_is_told_in_stretches() {
        let source: SourceId = "shop".parse().unwrap();
        let of = reel();
        let entries = |list: &[(u64, u64)]| -> Vec<LogEntry<Counter>> {
            let entry = |(from, until): &(u64, u64)| {
                LogEntry::new((Counter(*from), Counter(*until)), None, None)
            };
            list.iter().map(entry).collect()
        };
        let lost_above = |floor: Option<LogAt>, before: &[(u64, u64)], now: &[(u64, u64)]| {
            let before = (&*entries(before), floor);
            let found = lost_log::<Tape>(&source, &of, before, &entries(now), &[]);
            let end = |key: &String| {
                let (from, until) = key.rsplit_once('/').unwrap().1.split_once('-').unwrap();
                let number = |text| u64::from_str_radix(text, 16).unwrap();
                (number(from), number(until))
            };
            found.0.keys().map(end).collect::<Vec<_>>()
        };
        let lost = |before: &[(u64, u64)], now: &[(u64, u64)]| lost_above(None, before, now);
        assert!(lost(&[(0, 4), (4, 8)], &[(0, 4), (4, 8)]).is_empty());
        assert!(lost(&[(0, 4), (4, 8)], &[(0, 8)]).is_empty(), "joined");
        assert!(lost(&[(0, 8)], &[(0, 4), (4, 8)]).is_empty(), "its parts are there");
        assert_eq!(lost(&[(0, 4), (4, 8), (8, 12)], &[(0, 4)]), [(4, 12)]);
        assert_eq!(lost(&[(0, 4), (4, 8), (8, 12)], &[(4, 8)]), [(0, 4), (8, 12)]);
        let (all, rest) = ([(0, 4), (4, 8), (8, 12)], [(8, 12)]);
        let above = |floor, now: &[(u64, u64)]| lost_above(Some(LogAt(floor)), &all, now);
        assert!(above(8, &rest).is_empty(), "removed on purpose");
        assert_eq!(above(7, &rest), [(4, 8)], "a piece goes as a whole");
        assert_eq!(above(4, &[]), [(4, 12)]);
        let kept = |from: u64, until: u64| Lost {
            loss: Loss::Gone,
            source: source.clone(),
            key: format!("{}/{from:016x}-{until:016x}", layout::lineage(&source, &of)),
            why: String::new(),
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let kept = [kept(4, 8), kept(8, 12)];
        assert_eq!(lost_at(&source, &kept[0].key), Some((of.clone(), (LogAt(4), LogAt(8)))));
        for other in ["s/shop/b/20260301T000000Z-0000000000000001/manifest.json", "", "a/b-c"] {
            assert_eq!(lost_at(&source, other), None, "{other}");
        }
        let (gone, back) = lost_log::<Tape>(&source, &of, (&[], None), &entries(&[(0, 8)]), &kept);
        assert!(gone.is_empty());
        assert_eq!(back, [kept[0].key.clone()]);
    }
}
