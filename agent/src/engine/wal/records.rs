//! The records of a source's WAL, checked across all its pieces.

use anyhow::Result;
use drctl_engines::pg::wal::{WalError, WalWalker};
use drctl_model::{
    Holds, LogPart, LogPlace, Lsn, SourceId, Timeline, WalPart, WalPlace, WalSegmentSize,
};
use drctl_store::{Identities, layout};

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
    let mut records = WalRecords::of(source);
    verify(repository, source, (data, identities, limits), &mut records).await
}

/// A chain of records under way.
struct Chain {
    of: (u64, Timeline),
    walker: WalWalker,
    reach: Lsn,
}

/// The bytes of a segment as its pieces tell them, from the first that was read on; each piece, and up to
/// where its bytes were taken.
struct Told {
    of: (u64, Timeline),
    start: Lsn,
    bytes: Vec<u8>,
    by: Vec<(Lsn, LogPlace)>,
}

impl Told {
    /// The first byte of the next piece, in their order, that another one tells otherwise; where that is,
    /// and which one that is. What is new is taken.
    fn differs(&mut self, at: (Lsn, &LogPlace), plain: &[u8]) -> Option<(Lsn, LogPlace)> {
        let (start, place) = at;
        let known = usize::try_from(start.since(self.start)).unwrap_or(usize::MAX);
        let known = self.bytes.get(known..).unwrap_or_default();
        let differs = known.iter().zip(plain).position(|(one, other)| one != other);
        self.bytes.extend_from_slice(plain.get(known.len()..).unwrap_or_default());
        self.by.push((self.end(), place.clone()));
        let first = start.plus(differs? as u64);
        let (_, other) = self.by.iter().find(|(until, _)| first < *until)?;
        Some((first, other.clone()))
    }

    fn end(&self) -> Lsn {
        self.start.plus(self.bytes.len() as u64)
    }
}

/// The records of WAL, across its pieces.
struct WalRecords {
    source: SourceId,
    chain: Option<Chain>,
    told: Option<Told>,
}

impl WalRecords {
    fn of(source: &SourceId) -> WalRecords {
        WalRecords { source: source.clone(), chain: None, told: None }
    }

    /// Which other piece tells other bytes of the same segment, in words that name it: one of them is
    /// not the log that was written, and nobody can tell which.
    fn contradicted(
        &mut self,
        (of, place): ((u64, Timeline), &LogPlace),
        (start, size): (Lsn, WalSegmentSize),
        plain: &[u8],
    ) -> Option<String> {
        let goes_on = |told: &Told| {
            let within = size.start_of(start) <= told.start && told.start <= start;
            told.of == of && within && start <= told.end()
        };
        let told = match self.told.take().filter(goes_on) {
            Some(told) => told,
            None => Told { of, start, bytes: Vec::new(), by: Vec::new() },
        };
        let (at, other) = self.told.insert(told).differs((start, place), plain)?;
        let other = layout::piece(&self.source, &other);
        Some(format!("from {at} on it has other bytes than {other}, of the same segment"))
    }
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
        if let Some(why) = self.contradicted(((system_id, timeline), place), (start, size), plain) {
            self.chain = None;
            return Err(why);
        }
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
        let records = WalRecords::of(&"shop".parse().unwrap());
        let range = LogPlace::of_wal(of, (Lsn(1000), Lsn(1900)));
        assert_eq!(records.plain_bytes(&range), 900);
        assert_eq!(records.plain_bytes(&LogPlace::of_history(of)), 0);
        let other = LogPlace { lineage: "tape-3".parse().unwrap(), ..range };
        assert_eq!(records.plain_bytes(&other), 0, "positions of another engine are no bytes");
    }

    #[test]
    fn pieces_of_one_segment_are_compared_where_they_overlap() {
        let (of, size) = ((7, Timeline::FIRST), WalSegmentSize::new(1 << 20).unwrap());
        let place = |start: u64, plain: &str| {
            LogPlace::of_wal(of, (Lsn(start), Lsn(start + plain.len() as u64)))
        };
        let first = 1 << 20;
        let told = |pieces: &[(u64, &str)]| -> Vec<Option<String>> {
            let mut records = WalRecords::of(&"shop".parse().unwrap());
            let mut one = |(at, plain): &(u64, &str)| {
                let at = first + at;
                let place = place(at, plain);
                records.contradicted((of, &place), (Lsn(at), size), plain.as_bytes())
            };
            pieces.iter().map(&mut one).collect()
        };
        let same = [(0, "ab"), (0, "abcdef"), (2, "c"), (3, "defg"), (1 << 20, "xy"), (9, "z")];
        assert!(told(&same).iter().all(Option::is_none), "{:?}", told(&same));
        // Each is told with the one that told these bytes first.
        let key = |at: u64, plain: &str| {
            layout::piece(&"shop".parse().unwrap(), &place(first + at, plain)).to_string()
        };
        let other = told(&[(0, "ab"), (0, "aXcdef"), (2, "c"), (3, "dYf"), (6, "gh")]);
        let named = |n: usize, at: &str, key: &str| {
            let why = other[n].as_deref().unwrap_or_default();
            assert!(why.contains(at) && why.contains(key), "{why}");
        };
        named(1, "from 0/100001 on", &key(0, "ab"));
        named(3, "from 0/100004 on", &key(0, "aXcdef"));
        assert!(other[0].is_none() && other[2].is_none() && other[4].is_none(), "{other:?}");
        // Behind a gap, and in the next segment, nothing is compared.
        assert!(told(&[(0, "ab"), (4, "ef"), (1 << 20, "ab")]).iter().all(Option::is_none));
    }
}
