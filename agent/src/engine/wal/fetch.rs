//! `restore_command`: one file of the log out of the bucket, or a refusal that a recovering
//! server cannot take for the end of the log.

use std::path::Path;

use anyhow::{Context as _, Result};
use drctl_model::{LogPlace, Lsn, Timeline, WalSegmentSize};
use drctl_store::{Identities, digest};

use super::makes_no_tablespace;
use super::request::{LogFile, LogRequest, Told};
use crate::host::{AgentError, private};
use crate::log::{LogStore, is_damaged};
use crate::repository::faults::is_missing;

/// A range of log.
type Range = (Lsn, Lsn);

/// A stretch of log that a plan needs: absent, it is a gap and not the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Whose log.
    pub timeline: Timeline,
    /// Its first byte.
    pub from: Lsn,
    /// Behind its last byte.
    pub until: Lsn,
    /// Whether the plan ends there: what comes behind it on that timeline is none of its log, and
    /// nothing may be replayed of what somebody writes while the recovery is under way.
    pub last: bool,
}

impl Expected {
    /// Where its segments begin, without one that the plan ends within: it is left to whoever cuts
    /// it there.
    pub(crate) fn segments(&self, size: WalSegmentSize) -> impl Iterator<Item = Lsn> + use<> {
        let Expected { from, until, last, .. } = *self;
        let next = move |at: &Lsn| Some(at.plus(size.bytes())).filter(|next| next > at);
        let starts = std::iter::successors(Some(size.start_of(from)), next);
        let whole = move |at: &Lsn| !last || at.plus(size.bytes()) <= until;
        starts.take_while(move |at| *at < until).filter(whole)
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Expected { timeline, from, until, last } = self;
        write!(f, "{timeline}:{from}-{until}{}", if *last { "." } else { "" })
    }
}

impl std::str::FromStr for Expected {
    type Err = String;

    /// `TIMELINE:FROM-UNTIL`, such as `1:0/3000000-0/5000148`; with a full stop where the plan ends.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(id, range)| {
            let (from, until) = range.split_once('-')?;
            let timeline = id.parse().ok().and_then(Timeline::new)?;
            let (until, last) =
                until.strip_suffix('.').map_or((until, false), |until| (until, true));
            let (from, until) = (from.parse().ok()?, until.parse().ok()?);
            Some(Expected { timeline, from, until, last })
        });
        parts.ok_or_else(|| format!("`{text}` is no TIMELINE:FROM-UNTIL"))
    }
}

/// What a recovering server is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// The file is where it was wanted.
    Delivered,
    /// It is not in the bucket, and no plan needs it; without a plan: nothing behind it is there
    /// either.
    Absent,
}

/// Fetches a file of a cluster's log out of the bucket to where it is wanted.
///
/// # Errors
/// [`AgentError::LogGap`]; [`AgentError::Usage`] for a name that is none;
/// [`StoreError`](drctl_store::StoreError), [`FormatError`](drctl_store::FormatError),
/// [`AgentError::Segment`] for log that cannot be read or is not what was written. Only an absence
/// that is proven is none of them: the server must stop at all others.
pub(crate) async fn fetch(
    log_store: &LogStore,
    asked: &LogRequest<'_>,
    identities: &Identities,
) -> Result<Fetched> {
    let LogRequest { system_id, size, expected, .. } = *asked;
    let (timeline, start) = match asked.file()? {
        LogFile::Segment(timeline, start) => (timeline, start),
        LogFile::History(timeline) => {
            let place = LogPlace::of_history((system_id, timeline));
            let bytes = match log_store.read(&place, identities).await {
                Err(error) if is_missing(&error) => return Ok(Fetched::Absent),
                read => read?.1,
            };
            return deliver(asked.to, bytes).await;
        }
    };
    let end = start.plus(size.bytes());
    let Some(last) = asked.given_until(timeline, start) else { return Ok(Fetched::Absent) };
    if bound(log_store).is_some_and(|bound| start >= bound) {
        return Ok(Fetched::Absent);
    }
    let there = log_store.ranges((system_id, timeline), size, start, Some(end)).await?;
    let reach = cover(&there, start, end).last().map_or(start, |(_, end)| *end);
    let later = there.iter().any(|(start, _)| *start >= reach);
    if asked.decide((timeline, start), reach, asked.has_own(), later)? == Told::Absent {
        return Ok(Fetched::Absent);
    }
    let need = needed_until(expected, timeline, start, end);
    let segment = Segment { of: (system_id, timeline), size, start, need };
    let read = assemble(log_store, &segment, there, identities).await;
    let mut bytes = match read.map(|read| read.bytes) {
        // A server reads ahead of its target: what is there and no plan needs may be rubbish.
        Err(error) if need == Some(start) && is_damaged(&error) => {
            tracing::warn!("WAL after what the plan needs does not count: {error:#}");
            return Ok(Fetched::Absent);
        }
        bytes => bytes?,
    };
    let known = usize::try_from(last.since(start)).unwrap_or(usize::MAX);
    bytes.iter_mut().skip(known).for_each(|byte| *byte = 0);
    deliver(asked.to, bytes).await
}

/// The bytes of a segment as far as it is in the bucket, without a gap from its start; nothing
/// where nothing of it is there.
///
/// # Errors
/// As [`assemble`].
pub(crate) async fn segment(
    log_store: &LogStore,
    segment: &Segment,
    identities: &Identities,
) -> Result<Option<Vec<u8>>> {
    let Segment { of, size, start, .. } = *segment;
    let end = start.plus(size.bytes());
    let there = log_store.ranges(of, size, start, Some(end)).await?;
    if cover(&there, start, end).is_empty() {
        return Ok(None);
    }
    assemble(log_store, segment, there, identities).await.map(|read| Some(read.bytes))
}

/// No log from here on is delivered.
fn bound(log_store: &LogStore) -> Option<Lsn> {
    log_store.bound.map(Lsn::from)
}

/// How far a plan needs the segment from `start` to `end`; nothing where there is no plan.
fn needed_until(expected: &[Expected], timeline: Timeline, start: Lsn, end: Lsn) -> Option<Lsn> {
    let legs = expected.iter().filter(|leg| leg.timeline == timeline && leg.from < end);
    let most = legs.map(|leg| leg.until.min(end)).max().unwrap_or(start);
    (!expected.is_empty()).then_some(most.max(start))
}

/// A segment to be put together.
pub(crate) struct Segment {
    /// Whose.
    pub(crate) of: (u64, Timeline),
    /// Its length.
    pub(crate) size: WalSegmentSize,
    /// Its first byte.
    pub(crate) start: Lsn,
    /// How far it must lead; nothing: as far as names promise.
    pub(crate) need: Option<Lsn>,
}

/// A segment that was put together.
pub(crate) struct Assembled {
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// Whether it is known that it makes no tablespace.
    pub(crate) quiet: bool,
}

/// The bytes of the segment that begins at `start`, joined of pieces that [`cover`] it from there;
/// zeros behind the last of them. Names alone promise nothing: in place of a piece that is not the
/// log that was written others are taken, where they reach as far as a plan needs. Without a plan
/// nothing else tells how far the log led, so that names are taken for it.
///
/// # Errors
/// The store's; whatever keeps a piece that nothing can replace from being the log that was
/// written.
pub(crate) async fn assemble(
    log_store: &LogStore,
    segment: &Segment,
    mut there: Vec<Range>,
    identities: &Identities,
) -> Result<Assembled> {
    let Segment { of, size, start, need } = *segment;
    let end = start.plus(size.bytes());
    let reach = |chain: &[Range]| chain.last().map_or(start, |(_, end)| *end);
    let promised = reach(&cover(&there, start, end));
    let wanted = need.map_or(promised, |need| need.min(promised));
    let mut first = None;
    loop {
        let chain = cover(&there, start, end);
        if let Some(error) = first.take_if(|_| chain.is_empty() || reach(&chain) < wanted) {
            return Err(error);
        }
        match join(log_store, of, size, start, &chain, identities).await {
            Ok(mut read) => {
                if let Some(bound) = bound(log_store).filter(|bound| *bound < end) {
                    let keep = usize::try_from(bound.since(start)).unwrap_or(usize::MAX);
                    read.bytes.iter_mut().skip(keep).for_each(|byte| *byte = 0);
                }
                return Ok(read);
            }
            Err((bad, error))
                if is_damaged(&error) || is_missing(&error) || is_other_history(&error) =>
            {
                tracing::warn!("a piece of WAL in the bucket does not count: {error:#}");
                there.retain(|range| *range != bad);
                first = first.or(Some(error));
            }
            Err((_, error)) => return Err(error),
        }
    }
}

/// The same of one chain of pieces; with an error the piece that it is about.
async fn join(
    log_store: &LogStore,
    of: (u64, Timeline),
    size: WalSegmentSize,
    start: Lsn,
    chain: &[Range],
    identities: &Identities,
) -> Result<Assembled, (Range, anyhow::Error)> {
    let (mut bytes, mut quiet) = (Vec::new(), false);
    for (from, until) in chain {
        let read = log_store.read(&LogPlace::of_wal(of, (*from, *until)), identities).await;
        let (head, plain) = read.map_err(|error| ((*from, *until), error))?;
        let have = start.plus(bytes.len() as u64);
        let before = usize::try_from(from.since(start)).ok().and_then(|n| bytes.get(..n));
        if let (Some(before), Some(bound)) = (before.filter(|b| !b.is_empty()), head.holds.before)
            && digest(before) != bound
        {
            return Err(((*from, *until), log_store.other_history(&head)));
        }
        // Where two pieces overlap the later one goes on where the one before ended.
        match usize::try_from(have.since(*from)) {
            Ok(0) if bytes.is_empty() => {
                bytes = plain;
                let whole = *until == start.plus(size.bytes());
                let byte = |at| bytes.get(usize::try_from(at).ok()?).copied();
                quiet = whole && makes_no_tablespace(&head.holds, start, size, byte);
            }
            Ok(known) => bytes.extend_from_slice(plain.get(known..).unwrap_or_default()),
            Err(_) => {}
        }
    }
    // What was never written is zero: the server takes it for the end of the log.
    bytes.resize(usize::try_from(size.bytes()).unwrap_or(usize::MAX), 0);
    Ok(Assembled { bytes, quiet })
}

/// The pieces that lead from `start` towards `end` without a gap, each reaching as far as any.
pub(super) fn cover(there: &[Range], start: Lsn, end: Lsn) -> Vec<Range> {
    let (mut chain, mut reach) = (Vec::new(), start);
    while reach < end {
        let next = there.iter().filter(|(from, until)| *from <= reach && *until > reach);
        let Some(best) = next.max_by_key(|(_, until)| *until) else { break };
        chain.push(*best);
        reach = best.1;
    }
    chain
}

fn is_other_history(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(AgentError::OtherHistory { .. }))
}

/// Under its name only when it is whole and on the disk.
async fn deliver(to: &Path, bytes: Vec<u8>) -> Result<Fetched> {
    let (file, failed) = (to.to_owned(), || format!("write {}", to.display()));
    let write = tokio::task::spawn_blocking(move || private::store(&file, &bytes));
    write.await.context("a task was given up")?.with_context(failed)?;
    Ok(Fetched::Delivered)
}

#[cfg(test)]
mod tests {
    use drctl_model::{Holds, WalHolds};

    use super::*;
    use crate::log::tests::store;

    #[test]
    fn pieces_cover_a_segment_only_without_a_gap() {
        let lsn = |n: u64| Lsn(n);
        type Ranges<'a> = &'a [(u64, u64)];
        let cases: &[(Ranges<'_>, Ranges<'_>)] = &[
            (&[], &[]),
            (&[(0, 16)], &[(0, 16)]),
            (&[(0, 4), (4, 16)], &[(0, 4), (4, 16)]),
            (&[(0, 4), (0, 16), (4, 8)], &[(0, 16)]),
            (&[(0, 4), (5, 16)], &[(0, 4)]),
            (&[(0, 8), (4, 16)], &[(0, 8), (4, 16)]),
            (&[(16, 32)], &[]),
        ];
        for (there, chain) in cases {
            let pairs = |list: &[(u64, u64)]| -> Vec<(Lsn, Lsn)> {
                list.iter().map(|(from, until)| (lsn(*from), lsn(*until))).collect()
            };
            assert_eq!(cover(&pairs(there), lsn(0), lsn(16)), pairs(chain), "{there:?}");
        }
    }

    #[tokio::test]
    async fn a_piece_that_plans_lead_around_is_not_delivered() {
        let (log_store, identities) = store().await;
        let (size, of) = (WalSegmentSize::new(1 << 20).unwrap(), (7, Timeline::FIRST));
        let (start, middle, end) = (Lsn(1 << 20), Lsn((1 << 20) + 100), Lsn(2 << 20));
        for (from, until, byte) in [(start, end, 1), (start, middle, 2), (middle, end, 2)] {
            let plain = vec![byte; usize::try_from(until.since(from)).unwrap()];
            let place = LogPlace::of_wal(of, (from, until));
            let holds = Holds { wal: Some(WalHolds::default()), ..Holds::default() };
            let _ = log_store.keep(place, plain, holds).await.unwrap();
        }
        let read = async |log_store: &LogStore| {
            let wanted = Segment { of, size, start, need: None };
            let bytes = segment(log_store, &wanted, &identities).await.unwrap().unwrap();
            (bytes[0], bytes[99], bytes[100], bytes[bytes.len() - 1])
        };
        assert_eq!(read(&log_store).await, (1, 1, 1, 1));
        let around = log_store.without(&[LogPlace::of_wal(of, (start, end))]);
        assert_eq!(read(&around).await, (2, 2, 2, 2));
    }

    #[test]
    fn no_more_than_a_plan_needs_is_asked_of_a_segment() {
        let leg = |from, until| Expected {
            timeline: Timeline::FIRST,
            from: Lsn(from),
            until: Lsn(until),
            last: false,
        };
        let need = |legs: &[Expected]| {
            needed_until(legs, Timeline::FIRST, Lsn(16), Lsn(32)).map(|lsn| lsn.0)
        };
        assert_eq!(need(&[]), None);
        assert_eq!(need(&[leg(0, 20)]), Some(20));
        assert_eq!(need(&[leg(0, 99)]), Some(32));
        assert_eq!(need(&[leg(0, 9)]), Some(16));
        assert_eq!(need(&[leg(0, 9), leg(9, 18)]), Some(18));
        assert_eq!(need(&[leg(40, 50)]), Some(16));
    }

    #[test]
    fn what_a_plan_needs_is_read_back() {
        let expected: Expected = "2:0/3000000-1/5000148".parse().unwrap();
        assert_eq!(expected.timeline.id(), 2);
        assert_eq!((expected.from, expected.until), (Lsn(0x300_0000), Lsn(0x1_0500_0148)));
        for text in ["2:0/3000000-1/5000148", "1:0/0-0/10."] {
            assert_eq!(text.parse::<Expected>().unwrap().to_string(), text);
        }
        let last = |text: &str| text.parse::<Expected>().unwrap().last;
        assert!(last("1:0/0-0/10.") && !last("1:0/0-0/10"));
        for text in ["", "1:0/1", "0:0/1-0/2", "1:0/1-x"] {
            assert!(text.parse::<Expected>().is_err(), "{text}");
        }
    }
}
