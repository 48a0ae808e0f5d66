//! The records of a source's WAL, checked across all its pieces.

use anyhow::Result;
use drctl_engines::pg::wal::{WalError, WalWalker};
use drctl_model::{
    Holds, LogPart, LogPlace, Lsn, SourceId, Timeline, WalPart, WalPlace, WalSegmentSize,
};
use drctl_store::Identities;

use crate::host::Limits;
use crate::log::{LogVerdict, Records, verify};
use crate::repository::Repository;

/// Looks at all log of a source: that it is there and follows what lies before; with an identity every record too.
///
/// # Errors
/// Only what keeps it from looking: [`StoreError`](drctl_store::StoreError) of a bucket that cannot
/// be listed or read. What is wrong with the log is in the verdict.
pub async fn verify_log(
    repository: &Repository,
    source: &SourceId,
    data: bool,
    identities: Option<&Identities>,
    limits: Limits,
) -> Result<LogVerdict> {
    let mut records = WalRecords::default();
    verify(repository, source, (data, identities, limits), &mut records).await
}

/// A chain of records under way.
struct Chain {
    of: (u64, Timeline),
    walker: WalWalker,
    reach: Lsn,
}

/// The records of WAL, across its pieces.
#[derive(Default)]
struct WalRecords {
    chain: Option<Chain>,
}

impl Records for WalRecords {
    fn plain_bytes(&self, place: &LogPlace) -> u64 {
        match place.part {
            LogPart::Range { start, end } if place.wal().is_some() => end.0 - start.0,
            LogPart::Range { .. } | LogPart::Note { .. } => 0,
        }
    }

    fn check(&mut self, place: &LogPlace, holds: &Holds, plain: &[u8]) -> Result<(), String> {
        let Some((WalPlace { system_id, timeline, part }, size)) =
            place.wal().zip(holds.segment_size())
        else {
            return Ok(());
        };
        let WalPart::Range { start, .. } = part else { return Ok(()) };
        let done = follow(&mut self.chain, (system_id, timeline), start, size, plain);
        done.map_err(|error| format!("WAL of timeline {timeline}: {error}"))
    }

    fn interrupt(&mut self) {
        self.chain = None;
    }
}

/// Goes on with the chain where the piece does; begins anew at a segment behind a gap, which is
/// for `drctl timeline` to tell.
fn follow(
    chain: &mut Option<Chain>,
    of: (u64, Timeline),
    start: Lsn,
    size: WalSegmentSize,
    plain: &[u8],
) -> Result<(), WalError> {
    let end = start.plus(plain.len() as u64);
    let goes_on = chain.as_ref().is_some_and(|chain| chain.of == of && start <= chain.reach);
    if !goes_on {
        *chain = (size.start_of(start) == start).then(|| Chain {
            of,
            walker: WalWalker::new(of.1, start, size),
            reach: start,
        });
    }
    let Some(under_way) = chain.as_mut().filter(|chain| end > chain.reach) else { return Ok(()) };
    let known = usize::try_from(under_way.reach.since(start)).unwrap_or(usize::MAX);
    let fed = under_way.walker.feed(plain.get(known..).unwrap_or_default());
    under_way.reach = end;
    if fed.is_err() {
        *chain = None;
    }
    fed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_tells_how_long_a_piece_is() {
        let of = (7, Timeline::FIRST);
        let records = WalRecords::default();
        let range = LogPlace::of_wal(of, (Lsn(1000), Lsn(1900)));
        assert_eq!(records.plain_bytes(&range), 900);
        assert_eq!(records.plain_bytes(&LogPlace::of_history(of)), 0);
        let other = LogPlace { lineage: "tape-3".parse().unwrap(), ..range };
        assert_eq!(records.plain_bytes(&other), 0, "positions of another engine are no bytes");
    }
}
