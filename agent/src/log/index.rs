//! What a writer of log does when a piece is stored: it looks whether log is missing before it,
//! and signs what a run of pieces holds, so that readers need not read each head.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_model::{
    Finding, FindingCode, Header, Holds, IndexPlace, IndexedPiece, Lineage, LogAt, LogIndex,
    LogPart, LogPiece, LogPlace, MAX_INDEX_PIECES, Position, SourceId, outermost,
};
use drctl_store::{FormatError, StoreError, encode_log_index, layout};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::LogStore;
use super::heads::positions;
use super::listing::Range;
use super::log_engine::LogEngine;
use super::log_store::Writer;
use super::pieces::Measured;
use crate::host::AgentError;
use crate::repository::faults::{is_bad_manifest, is_missing};

/// Units in a block of log: as much as the engine puts into one piece, where it can. An index is written
/// when a block is full, and covers no more.
const BLOCK_UNITS: u64 = 64;

/// How many heads are fetched at once.
const AT_ONCE: usize = 32;

impl LogStore {
    /// After a piece was stored: tells where log is missing right before it, and writes the index
    /// that it completes. The piece is stored whatever comes of that. So this never fails: it says
    /// on standard error what it found, or could not do.
    pub async fn settle_in<E: LogEngine>(&self, place: &LogPlace, unit: u64) {
        let LogPart::Range { start, .. } = place.part else { return };
        let log = E::LOG;
        let gap = match E::begins(start, unit) {
            true => self.gap_before::<E>(&place.lineage, start, unit).await,
            false => Ok(None),
        };
        match gap {
            Ok(Some(range)) => {
                self.findings.tell(gap_found::<E>(&self.source, &place.lineage, range));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!("whether {log} is missing is not known: {error:#}"),
        }
        self.settle_block_in::<E>(place, unit).await;
    }

    /// Writes the index that a piece completes, if it does; never fails.
    pub(crate) async fn settle_block_in<E: LogEngine>(&self, place: &LogPlace, unit: u64) {
        let LogPart::Range { start, end } = place.part else { return };
        let block = unit.saturating_mul(BLOCK_UNITS);
        if start.0 / block == end.0 / block {
            return;
        }
        // The block before as well: whoever filled it may have died before its index was written.
        let from = LogAt(end.0.saturating_sub(2 * block));
        if let Err(error) = self.index(&place.lineage, unit, from).await {
            let log = E::LOG;
            tracing::warn!("no index of the {log} was written, which costs time only: {error:#}");
        }
    }

    /// What is missing between the last piece before `start` and the piece that begins there;
    /// nothing where no older log of the lineage is there.
    async fn gap_before<E: LogEngine>(
        &self,
        of: &Lineage,
        start: LogAt,
        unit: u64,
    ) -> Result<Option<Range>> {
        let before = LogAt(start.0.saturating_sub(unit));
        if before == start {
            return Ok(None);
        }
        let part = LogPart::Range { start: before, end: start };
        let place = LogPlace { lineage: of.clone(), part };
        // The usual case costs one small request.
        let strange = match self.head_where(&place, |_| true).await {
            Ok(_) => return Ok(None),
            Err(error) if is_missing(&error) => false,
            // Somebody else's object under that name is none of our log.
            Err(error) if is_bad_manifest(&error) => true,
            Err(error) => return Err(error),
        };
        let ours = |range: &Range| !strange || *range != (before, start);
        // A few are listed first; only where these do not tell, all of them.
        let possible = |range: Range| E::is_possible(range, unit);
        let there = self.ranges_of(of, possible, before, Some(start)).await?;
        if there.iter().any(|range| ours(range) && range.0 < start && range.1 >= start) {
            return Ok(None);
        }
        let mut there = self.ranges_of(of, possible, LogAt(0), Some(start)).await?;
        there.retain(ours);
        Ok(hole(&there, start))
    }

    /// Writes the indexes that are missing in one lineage's log from `from` on; gives how many.
    /// The last block is left alone until it is full.
    ///
    /// # Errors
    /// [`StoreError`](drctl_store::StoreError);
    /// [`AgentError::NoSigningKey`](crate::host::AgentError::NoSigningKey).
    pub async fn index(&self, of: &Lineage, unit: u64, from: LogAt) -> Result<u64> {
        let listed = self.listed_from(of, from).await?;
        let mut written = 0;
        for run in runs(&outermost(&listed.ranges), unit.saturating_mul(BLOCK_UNITS)) {
            if is_indexed(&run, &listed.indexes) {
                continue;
            }
            let pieces = self.believed(of, &run).await?;
            // Without what is not ours it may be several runs.
            for run in split(pieces, |piece| (piece.start, piece.end)) {
                written += self.write_index(of, run).await?;
            }
        }
        Ok(written)
    }

    /// The same for some lineages, of which the head of a piece tells the unit.
    ///
    /// # Errors
    /// As [`index`](Self::index).
    pub async fn index_lineages(
        &self,
        of: impl Fn(&Lineage) -> bool,
        unit: impl Fn(&Holds) -> u64,
    ) -> Result<u64> {
        let mut written = 0;
        for lineage in self.lineages().await?.iter().filter(|lineage| of(lineage)) {
            let is_range = |part: &LogPart| matches!(part, LogPart::Range { .. });
            let Some(place) = self.any_piece(lineage, is_range).await? else { continue };
            let holds = match self.head(&place).await {
                Ok(head) => head.holds,
                Err(error) if is_bad_manifest(&error) => Holds::default(),
                Err(error) => return Err(error),
            };
            written += self.index(&place.lineage, unit(&holds), LogAt(0)).await?;
        }
        Ok(written)
    }

    /// The pieces of a run as their heads tell; those that nobody whom we trust has signed are
    /// left out.
    async fn believed(&self, of: &Lineage, run: &[Range]) -> Result<Vec<IndexedPiece>> {
        let heads = stream::iter(run.to_vec()).map(|(start, end)| async move {
            let part = LogPart::Range { start, end };
            match self.measured(&LogPlace { lineage: of.clone(), part }).await {
                Ok(head) => Ok(Some(indexed((start, end), head))),
                Err(error) if is_bad_manifest(&error) => Ok(None),
                Err(error) => Err(error),
            }
        });
        heads.buffered(AT_ONCE).try_filter_map(|one| async move { Ok(one) }).try_collect().await
    }

    async fn write_index(&self, of: &Lineage, pieces: Vec<IndexedPiece>) -> Result<u64> {
        let writer = self.writer.as_ref().ok_or(AgentError::NoSigningKey)?;
        let mut written = 0;
        let mut waiting = vec![pieces];
        while let Some(pieces) = waiting.pop() {
            let Some((first, last)) = pieces.first().zip(pieces.last()) else { continue };
            let (start, end) = (first.start, last.end);
            let place = IndexPlace { lineage: of.clone(), start, end };
            match self.encoded(writer, place.clone(), pieces.clone()) {
                Ok(bytes) => written += u64::from(self.put_index(&place, bytes).await?),
                // Many restore points: two indexes instead of one.
                Err(FormatError::TooLarge { .. }) if pieces.len() > 1 => {
                    let (one, other) = pieces.split_at(pieces.len() / 2);
                    waiting.extend([other.to_vec(), one.to_vec()]);
                }
                Err(error) => {
                    let log = of.words().log;
                    return Err(error).with_context(|| format!("write an index of the {log}"));
                }
            }
        }
        Ok(written)
    }

    fn encoded(
        &self,
        writer: &Writer,
        place: IndexPlace,
        pieces: Vec<IndexedPiece>,
    ) -> Result<Bytes, FormatError> {
        let features: BTreeSet<&str> =
            pieces.iter().flat_map(|piece| piece.holds.features()).collect();
        let index = LogIndex {
            header: Header::new(features),
            repository: self.repository.id.clone(),
            source: self.source.clone(),
            host: writer.host.clone(),
            written: self.now(),
            place,
            pieces,
        };
        encode_log_index(&index, &writer.key).map(Bytes::from)
    }

    /// Whether it is ours: another writer may have been faster, which is as good.
    async fn put_index(&self, place: &IndexPlace, bytes: Bytes) -> Result<bool> {
        let key = layout::log_index(&self.source, place);
        match self.repository.bucket.put_read_back(&key, bytes).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(error) => {
                let log = place.lineage.words().log;
                Err(error).with_context(|| format!("store an index of the {log}"))
            }
        }
    }
}

fn indexed((start, end): Range, (piece, head): Measured) -> IndexedPiece {
    let LogPiece { plain_sha256, sealed, sealed_sha256, holds, .. } = piece;
    IndexedPiece { start, end, plain_sha256, sealed, sealed_sha256, head: Some(head), holds }
}

/// Tells what is missing of a lineage's log, right before what was stored.
fn gap_found<E: LogEngine>(source: &SourceId, of: &Lineage, range: Range) -> Finding {
    let (log, called, (from, until)) = (E::LOG, E::called(of), positions::<E::At>(range));
    Finding {
        code: FindingCode::LogGap,
        source: source.clone(),
        subject: gap_named(&called, from),
        text: format!(
            "GAP in the {log} of {called}: {from} to {until} is missing, and older {log} is there. No \
             recovery can cross the gap"
        ),
        hint: Some(format!("take a base backup with `drctl backup {source}`")),
    }
}

/// The name of a gap, by its lineage and where it begins.
pub(crate) fn gap_named(called: &str, from: impl Position) -> String {
    format!("{called} from {from}")
}

/// What is missing right before `start`, where older pieces are there; these are in order.
fn hole(pieces: &[Range], start: LogAt) -> Option<Range> {
    let older = pieces.iter().filter(|(begins, _)| *begins < start);
    let reach = older.map(|(_, end)| *end).max()?;
    (reach < start).then_some((reach, start))
}

/// Pieces in order, cut into runs: within full blocks, without a gap, no more than an index holds.
fn runs(pieces: &[Range], block: u64) -> Vec<Vec<Range>> {
    let reach = pieces.last().map_or(LogAt(0), |(_, end)| *end);
    let full = |start: LogAt| start.0 / block < reach.0 / block;
    let mut runs = Vec::new();
    for pieces in pieces.chunk_by(|one, next| one.0.0 / block == next.0.0 / block) {
        if pieces.first().is_some_and(|(start, _)| full(*start)) {
            runs.extend(split(pieces.to_vec(), |piece| *piece));
        }
    }
    runs
}

/// Cuts pieces in order where one is missing, and where there are too many for one index.
fn split<T>(pieces: Vec<T>, range: impl Fn(&T) -> Range) -> Vec<Vec<T>> {
    let mut runs: Vec<Vec<T>> = Vec::new();
    let mut reach = None;
    for piece in pieces {
        let (start, end) = range(&piece);
        let goes_on = reach.is_some_and(|reach| start <= reach);
        match runs.last_mut().filter(|run| goes_on && run.len() < MAX_INDEX_PIECES) {
            Some(run) => run.push(piece),
            None => runs.push(vec![piece]),
        }
        reach = Some(end);
    }
    runs
}

/// Whether indexes, in order, cover a run from its beginning to its end.
fn is_indexed(run: &[Range], indexes: &[IndexPlace]) -> bool {
    let Some(((start, _), (_, end))) = run.first().zip(run.last()) else { return true };
    let reach = indexes.iter().fold(*start, |reach, index| match index.start <= reach {
        true => reach.max(index.end),
        false => reach,
    });
    reach >= *end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(list: &[(u64, u64)]) -> Vec<Range> {
        list.iter().map(|(start, end)| (LogAt(*start), LogAt(*end))).collect()
    }

    #[test]
    fn runs_end_at_gaps_and_blocks_and_the_last_block_waits() {
        type Ranges<'a> = &'a [(u64, u64)];
        let cases: &[(Ranges<'_>, &[Ranges<'_>])] = &[
            (&[], &[]),
            (&[(0, 4), (4, 7)], &[]),
            (&[(0, 4), (4, 8)], &[&[(0, 4), (4, 8)]]),
            (&[(0, 4), (4, 8), (8, 12)], &[&[(0, 4), (4, 8)]]),
            (&[(0, 3), (4, 8), (8, 12), (12, 16)], &[&[(0, 3)], &[(4, 8)], &[(8, 12), (12, 16)]]),
            (&[(2, 6), (5, 8)], &[&[(2, 6), (5, 8)]]),
            // What follows shows that no more of the block is under way.
            (&[(0, 3), (16, 17)], &[&[(0, 3)]]),
        ];
        for (pieces, expected) in cases {
            let expected: Vec<Vec<Range>> = expected.iter().map(|run| ranges(run)).collect();
            assert_eq!(runs(&ranges(pieces), 8), expected, "{pieces:?}");
        }
        let many: Vec<(u64, u64)> = (0..4096).map(|n| (n, n + 1)).collect();
        let lengths: Vec<usize> = runs(&ranges(&many), 4096).iter().map(Vec::len).collect();
        assert_eq!(lengths, [MAX_INDEX_PIECES; 4]);
    }

    #[test]
    fn a_run_is_indexed_only_from_end_to_end() {
        let index = |(start, end): (u64, u64)| IndexPlace {
            lineage: "tape-3".parse().unwrap(),
            start: LogAt(start),
            end: LogAt(end),
        };
        let run = ranges(&[(8, 12), (12, 16)]);
        let indexed = |list: &[(u64, u64)]| {
            is_indexed(&run, &list.iter().copied().map(index).collect::<Vec<_>>())
        };
        assert!(
            indexed(&[(8, 16)]) && indexed(&[(8, 12), (12, 16)]) && indexed(&[(0, 8), (8, 16)])
        );
        assert!(!indexed(&[]) && !indexed(&[(8, 12)]) && !indexed(&[(12, 16)]));
        assert!(!indexed(&[(0, 8), (12, 16)]));
    }

    #[test]
    fn a_gap_is_what_is_missing_right_before() {
        type Case<'a> = (&'a [(u64, u64)], Option<(u64, u64)>);
        let cases: &[Case<'_>] = &[
            (&[], None),
            (&[(16, 20)], None),
            (&[(0, 8), (8, 16)], None),
            (&[(0, 8), (16, 20)], Some((8, 16))),
            (&[(0, 8), (8, 12)], Some((12, 16))),
            (&[(0, 4), (8, 16)], None),
        ];
        for (pieces, gap) in cases {
            let gap = gap.map(|(from, until)| (LogAt(from), LogAt(until)));
            assert_eq!(hole(&ranges(pieces), LogAt(16)), gap, "{pieces:?}");
        }
    }
}
