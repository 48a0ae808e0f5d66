//! What `verify` asks of a bucket when it looks at log, and when.

use std::sync::Arc;

use bytes::Bytes;
use drctl::log::LogVerdict;
use drctl::{Limits, Repository, verify_log};
use drctl_model::{IndexPlace, Lineage, Lsn, Timeline, WalPart};
use drctl_store::fault::{Fault, FaultStore, Verb};
use drctl_store::{Bucket, layout};
use object_store::memory::InMemory;
use tokio::sync::Notify;

use crate::first::{Thief, place};

/// How many pieces there are, and indexes.
const MANY: u64 = 12;

/// How long each piece is.
const LONG: u64 = 16;

/// A bucket with log, three pieces of which are not what they should be; the names of these.
async fn log(writer: &Thief) -> (FaultStore, Repository, Vec<String>) {
    let store = FaultStore::new(Arc::new(InMemory::new()));
    let bucket = Bucket::new(Arc::new(store.clone()), "memory://");
    bucket.put(&layout::marker(), writer.marker(0)).await.unwrap();
    let mut bad = Vec::new();
    for n in 0..MANY {
        let start = Lsn((1 << 20) + n * LONG);
        let end = start.plus(LONG);
        let part = WalPart::Range { start, end };
        let (key, good) = (layout::piece(&writer.source, &place(part)), b"sixteen bytes .x");
        let whole = writer.piece(part, good);
        let lineage = Lineage::of_timeline(7, Timeline::FIRST);
        let at = IndexPlace { lineage, start: start.into(), end: end.into() };
        let index = writer.index_of(at.clone(), part, &whole);
        let bytes = match n {
            // Cut, nobody's, and not of the length that it is named by.
            3 => whole.slice(..whole.len() - 1),
            5 => Bytes::from_static(b"rubbish"),
            8 => writer.piece(part, b"short"),
            _ => whole,
        };
        if [3, 5, 8].contains(&n) {
            bad.push(key.to_string());
        }
        bucket.put(&key, bytes).await.unwrap();
        bucket.put(&layout::log_index(&writer.source, &at), index).await.unwrap();
    }
    let repository = Repository::open(bucket, writer.trust(), Some(&writer.id)).await.unwrap();
    (store, repository, bad)
}

/// How many requests for such objects are under way at once while no answer comes.
async fn at_once(
    store: &FaultStore,
    kind: &str,
    looking: impl Future<Output = LogVerdict>,
) -> usize {
    let gate = Arc::new(Notify::new());
    let before = store.count(Verb::Get, kind);
    store.on(Verb::Get, kind, 0, usize::MAX, Fault::Slow(Arc::clone(&gate)));
    let asked = async {
        // Everything else is in memory, and answers in the same turn.
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
        store.count(Verb::Get, kind) - before
    };
    let under_way = tokio::select! {
        _ = looking => panic!("it did not wait for {kind}"),
        under_way = asked => under_way,
    };
    store.heal();
    under_way
}

#[tokio::test]
async fn log_is_verified_several_pieces_at_once_and_told_of_in_order() {
    let writer = Thief::new();
    let (store, repository, bad) = log(&writer).await;
    let looked = async |data: bool, open: bool, limits: Limits| {
        let identities = open.then_some(&writer.identities);
        verify_log(&repository, &writer.source, data, identities, limits).await.unwrap()
    };
    let limits = |fetches| Limits { fetches, ..Limits::default() };
    for (data, open) in [(false, false), (true, false), (true, true)] {
        let one_by_one = looked(data, open, limits(1)).await;
        assert_eq!(looked(data, open, limits(5)).await, one_by_one);
        assert_eq!(one_by_one.pieces, MANY);
        let told: Vec<&str> = one_by_one.problems.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(told.len(), bad.len(), "{told:?}");
        assert!(told.iter().zip(&bad).all(|(text, key)| text.contains(key)), "{told:?}");
        for kind in [".log", ".index"] {
            for fetches in [1, 5] {
                let looking = looked(data, open, limits(fetches));
                assert_eq!(at_once(&store, kind, looking).await, fetches, "{kind} {data} {open}");
            }
        }
        // Long pieces take no more room than so many segments.
        let short = Limits { segment_bytes: LONG / 2, ..limits(5) };
        let expected = if data { 2 } else { 5 };
        assert_eq!(at_once(&store, ".log", looked(data, open, short)).await, expected);
    }
}
