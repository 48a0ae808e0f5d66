//! What indexes tell of pieces, against what is signed of these themselves.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use drctl_catalog::Catalog;
use drctl_model::{
    Digest, IndexPlace, IndexedPiece, LogAt, LogIndex, LogNotes, LogPart, LogPiece, LogPlace,
};
use drctl_store::{
    MAX_LOG_INDEX_BYTES, Stored, VerifyingKey, decode_signed_log_index, digest, layout,
};

use super::LogStore;
use super::log_store::trust_digest;
use crate::repository::first::first_of;
use crate::repository::memory::CONTRADICTS;
use crate::repository::{Memory, Repository};

/// What indexes tell, in few bytes for each piece.
#[derive(Default)]
pub(super) struct Indexed {
    /// Each index, who signed it, and of how many pieces it tells what their heads do not.
    indexes: Vec<(IndexPlace, VerifyingKey, u64)>,
    /// Which of them tell of a piece, and what stands for what they tell.
    pieces: BTreeMap<LogPlace, Vec<(usize, Digest)>>,
}

impl Indexed {
    /// Takes up an index that was read.
    pub(super) fn add(&mut self, of: &IndexPlace, pieces: &[IndexedPiece], signer: VerifyingKey) {
        let n = self.indexes.len();
        for piece in pieces {
            let part = LogPart::Range { start: piece.start, end: piece.end };
            let place = LogPlace { lineage: of.lineage.clone(), part };
            self.pieces.entry(place).or_default().push((n, told(piece)));
        }
        self.indexes.push((of.clone(), signer, 0));
    }

    /// Compares them with the head of a piece.
    pub(super) fn compare(&mut self, head: LogPiece) {
        let LogPiece { place, plain_sha256, sealed, sealed_sha256, holds, .. } = head;
        let LogPart::Range { start, end } = place.part else { return };
        let Some(tell) = self.pieces.get(&place) else { return };
        let head = None;
        let own = IndexedPiece { start, end, plain_sha256, sealed, head, sealed_sha256, holds };
        let own = told(&own);
        for (n, _) in tell.iter().filter(|(_, told)| *told != own) {
            self.indexes[*n].2 += 1;
        }
    }

    /// Those that contradict the heads, each as something that is wrong with the log.
    pub(super) fn problems(&self, log_store: &LogStore) -> Vec<(String, String)> {
        let lie = self.indexes.iter().filter(|(.., pieces)| *pieces > 0);
        let problem = |(place, signer, pieces): &(IndexPlace, VerifyingKey, u64)| {
            let key = layout::log_index(&log_store.source, place);
            let signer = log_store.repository.trust.name(signer);
            let text = format!(
                "an index contradicts the signed heads: {key}: for {pieces} piece(s) it contradicts their signed heads; {signer} \
                 has signed it"
            );
            (CONTRADICTS.to_owned(), text)
        };
        lie.map(problem).collect()
    }
}

/// What stands for what is told of a piece; the head's own length is compared with the bucket's list.
fn told(piece: &IndexedPiece) -> Digest {
    let all = (piece.plain_sha256, piece.sealed, piece.sealed_sha256, &piece.holds);
    digest(&serde_json::to_vec(&all).expect("what is told of a piece is always JSON"))
}

/// The indexes of a source that a look found to contradict the heads: nobody here uses them any more.
pub(super) async fn contradicted(
    log_store: &LogStore,
    cache: Option<&Catalog>,
) -> BTreeSet<IndexPlace> {
    let Some(cache) = cache else { return BTreeSet::new() };
    let memory = Memory::of(cache, Some(&log_store.source)).await;
    let unknown = |error: &anyhow::Error| {
        tracing::warn!("which indexes contradict the heads is not known: {error:#}");
    };
    let memory = memory.inspect_err(unknown).unwrap_or_default();
    memory.contradicted(&log_store.source)
}

/// Lets all that the catalog knows of a source's log be learnt anew: it may come from an index that
/// contradicts the heads.
///
/// # Errors
/// The catalog's.
pub(crate) async fn learn_anew(log_store: &LogStore, cache: &Catalog) -> Result<()> {
    let (source, trust) = (&log_store.source, trust_digest(&log_store.repository.trust));
    for (lineage, known) in cache.logs::<LogAt>(source, |_| true, trust).await? {
        // Without the lengths of its objects no piece of it counts as known.
        if let Some(change) = known.change(&known.entries, &LogNotes::default()) {
            cache.change_log(source, &lineage, trust, change).await?;
        }
    }
    Ok(())
}

impl LogStore {
    /// What an index tells of its pieces; needs no key.
    pub(super) async fn log_index(&self, place: &IndexPlace) -> Result<Vec<IndexedPiece>> {
        self.signed_index(place).await.map(|(pieces, _)| pieces)
    }

    /// The same, and who has signed it.
    pub(super) async fn signed_index(
        &self,
        place: &IndexPlace,
    ) -> Result<(Vec<IndexedPiece>, VerifyingKey)> {
        let key = layout::log_index(&self.source, place);
        let Repository { bucket, trust, id, .. } = &self.repository;
        let read = |stored: Stored| async move {
            let bytes = bucket.get_stored(&stored, MAX_LOG_INDEX_BYTES as u64).await?;
            Ok(decode_signed_log_index(&bytes, trust, (id, &self.source), place)?)
        };
        let kept = self.states.of(bucket, &key).await?;
        let same = |one: &(LogIndex, _), other: &(LogIndex, _)| one.0.pieces == other.0.pieces;
        let index = first_of(bucket, &key, kept, read, same).await;
        let (index, signer) = index.with_context(|| format!("read {key}"))?;
        Ok((index.pieces, signer))
    }
}

#[cfg(test)]
mod tests {
    use drctl_model::Holds;
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn whatever_an_index_tells_otherwise_is_told_apart() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let piece = |change: &dyn Fn(&mut IndexedPiece)| {
            let mut piece = IndexedPiece {
                start: LogAt(0),
                end: LogAt(4),
                plain_sha256: Digest([1; 32]),
                sealed: 7,
                head: None,
                sealed_sha256: Digest([2; 32]),
                holds: Holds { commits: Some((at(1), at(2))), ..Holds::default() },
            };
            change(&mut piece);
            told(&piece)
        };
        let own = piece(&|_| {});
        assert_eq!(piece(&|one| one.head = Some(9)), own);
        let others: [&dyn Fn(&mut IndexedPiece); 5] = [
            &|one| one.plain_sha256 = Digest([3; 32]),
            &|one| one.sealed = 8,
            &|one| one.sealed_sha256 = Digest([3; 32]),
            &|one| one.holds.commits = Some((at(1), at(3))),
            &|one| one.holds.records = 1,
        ];
        for other in others {
            assert_ne!(piece(other), own);
        }
    }
}
