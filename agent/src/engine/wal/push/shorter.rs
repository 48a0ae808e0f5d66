//! What the bucket has of a segment in shorter pieces, as a stream leaves them: a segment that is stored
//! over them holds the same bytes. The head of each tells the digest of the segment up to its end.

use std::io::Read as _;
use std::ops::Range;

use anyhow::{Context as _, Result};
use drctl_model::{
    Digest, Holds, LogPiece, LogPlace, Lsn, MAX_HISTORY_BYTES, Timeline, TimelineHistory,
    WalSegmentSize,
};
use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::load::read;
use super::{Push, READ};
use crate::engine::wal::cutter::Check;
use crate::engine::wal::files::Files;
use crate::log::{LogStore, is_damaged};
use crate::repository::faults::is_missing;

/// So many pieces that lie in one segment are compared with it: the last ones, which tell of most.
const MOST_CHECKS: usize = 64;

/// How many heads are read at once.
const AT_ONCE: usize = 8;

impl Push<'_> {
    /// Compares a segment with what the bucket has of it in shorter pieces.
    pub(super) async fn compare_shorter(
        &self,
        log_store: &LogStore,
        place: &LogPlace,
        holds: &Holds,
    ) -> Result<()> {
        let Some((wal, size)) = place.wal().zip(holds.segment_size()) else {
            return Ok(());
        };
        let beside = Segments { files: &self.files, system_id: wal.system_id, size };
        match beside.first_other(log_store, &[self.name]).await? {
            Some((_, theirs)) => Err(log_store.other_history(&theirs)),
            None => Ok(()),
        }
    }

    /// Those before the first one of which the bucket has other bytes in shorter pieces, and what is wrong
    /// with that: before any of them is stored, as one behind it could be stored first.
    pub(super) async fn of_one_history<'a>(
        &self,
        log_store: &LogStore,
        place: &LogPlace,
        followers: &'a [String],
    ) -> Result<(&'a [String], Option<anyhow::Error>)> {
        let names: Vec<&str> = followers.iter().map(String::as_str).collect();
        let Some((wal, first)) = place.wal().zip(names.first()) else {
            return Ok((followers, None));
        };
        let size = WalSegmentSize::new(self.files.metadata(first)?.len());
        let size = size.context("the length of a segment")?;
        let beside = Segments { files: &self.files, system_id: wal.system_id, size };
        let other = beside.first_other(log_store, &names).await?;
        Ok(match other {
            Some((n, theirs)) => (&followers[..n], Some(log_store.other_history(&theirs))),
            None => (followers, None),
        })
    }
}

/// Segments of one cluster that lie beside each other, and are to be stored.
struct Segments<'a> {
    files: &'a Files,
    system_id: u64,
    size: WalSegmentSize,
}

impl Segments<'_> {
    /// The first of these segments, which are in order, of whose bytes the bucket has others, and the head
    /// that tells so. One that is there as a whole is left to whoever writes it.
    ///
    /// # Errors
    /// The store's, the file system's.
    async fn first_other(
        &self,
        log_store: &LogStore,
        names: &[&str],
    ) -> Result<Option<(usize, Box<LogPiece>)>> {
        let parsed = names.iter().filter_map(|name| self.size.parse_file_name(name).ok());
        let segments: Vec<(Timeline, Lsn)> = parsed.collect();
        let mut done = 0;
        for run in segments.chunk_by(|one, other| one.0 == other.0) {
            if let Some((n, head)) = self.first_other_of(log_store, run).await? {
                return Ok(Some((done + n, head)));
            }
            done += run.len();
        }
        Ok(None)
    }

    /// The same of one timeline.
    async fn first_other_of(
        &self,
        log_store: &LogStore,
        run: &[(Timeline, Lsn)],
    ) -> Result<Option<(usize, Box<LogPiece>)>> {
        let Some(((timeline, first), (_, last))) = run.first().zip(run.last()) else {
            return Ok(None);
        };
        let own = self.listed(log_store, *timeline, *first..self.end(*last)).await?;
        let branches = self.branches(*timeline);
        for (n, (timeline, start)) in run.iter().enumerate() {
            let within = *start..self.end(*start);
            let of = |ranges: &[Range<Lsn>]| -> Vec<Range<Lsn>> {
                ranges.iter().filter(|range| within.contains(&range.start)).cloned().collect()
            };
            let own = of(&own);
            if own.contains(&within) {
                continue;
            }
            let mut checks = self.checks(log_store, *timeline, own).await?;
            // The first segment of a timeline begins with what the one before it has of that.
            for (before, until) in &branches {
                if within.start < *until && *until < within.end {
                    let mut ranges = of(&self.listed(log_store, *before, *start..*until).await?);
                    ranges.retain(|range| range.end <= *until);
                    checks.extend(self.checks(log_store, *before, ranges).await?);
                }
            }
            checks.sort_by_key(|check| check.at);
            let name = self.size.file_name(*timeline, *start);
            if let Some(head) = differs((self.files, name), *start, checks).await? {
                return Ok(Some((n, head)));
            }
        }
        Ok(None)
    }

    fn end(&self, start: Lsn) -> Lsn {
        start.plus(self.size.bytes())
    }

    /// What is there of a timeline in these segments.
    async fn listed(
        &self,
        log_store: &LogStore,
        timeline: Timeline,
        within: Range<Lsn>,
    ) -> Result<Vec<Range<Lsn>>> {
        let of = (self.system_id, timeline);
        let found = log_store.ranges(of, self.size, within.start, Some(within.end)).await?;
        let ranges = found.into_iter().map(|(start, end)| start..end);
        Ok(ranges.filter(|range| within.contains(&range.start)).collect())
    }

    /// Where the timelines before this one were left, as the history beside its segments tells.
    fn branches(&self, timeline: Timeline) -> Vec<(Timeline, Lsn)> {
        let name = format!("{:08X}.history", timeline.id());
        let text = read(self.files, &name, MAX_HISTORY_BYTES).unwrap_or_default();
        let text = String::from_utf8(text).unwrap_or_default();
        let history = TimelineHistory::parse(timeline, &text).ok();
        let ancestors = history.map(|history| history.ancestors).unwrap_or_default();
        ancestors.iter().map(|ancestor| (ancestor.timeline, ancestor.until)).collect()
    }

    /// What the heads of pieces tell, of the last ones that tell anything.
    async fn checks(
        &self,
        log_store: &LogStore,
        timeline: Timeline,
        mut ranges: Vec<Range<Lsn>>,
    ) -> Result<Vec<Check>> {
        ranges.sort_by_key(|range| range.end);
        let heads = ranges.into_iter().rev().map(|range| {
            let place = LogPlace::of_wal((self.system_id, timeline), (range.start, range.end));
            async move { (log_store.head(&place).await, range.end) }
        });
        let (mut heads, mut checks) = (stream::iter(heads).buffered(AT_ONCE), Vec::new());
        while let Some((head, at)) = heads.next().await {
            match head {
                Err(error) if is_damaged(&error) || is_missing(&error) => {}
                head => checks.extend(Check::of(head?, at, self.size)),
            }
            if checks.len() == MOST_CHECKS {
                break;
            }
        }
        Ok(checks)
    }
}

/// The first head, of these in order, that tells of other bytes than a segment's file holds.
async fn differs(
    (files, name): (&Files, String),
    start: Lsn,
    checks: Vec<Check>,
) -> Result<Option<Box<LogPiece>>> {
    if checks.is_empty() {
        return Ok(None);
    }
    let (reading, files) = (format!("read {}", files.path(&name).display()), files.clone());
    let work = move || {
        let (mut file, mut hash) = (files.open(&name)?, Sha256::new());
        let mut buffer = vec![0; READ];
        let mut at = start;
        for check in checks {
            while at < check.at {
                let n = usize::try_from(check.at.since(at)).unwrap_or(READ).min(READ);
                file.read_exact(&mut buffer[..n])?;
                hash.update(&buffer[..n]);
                at = at.plus(n as u64);
            }
            if check.digest != Digest(hash.clone().finalize().into()) {
                return Ok(Some(check.head));
            }
        }
        Ok::<_, std::io::Error>(None)
    };
    tokio::task::spawn_blocking(work).await?.context(reading)
}
