//! What the bucket's verbs make of a store that fails on cue.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use drctl_model::Segment;
use drctl_store::fault::{Fault, FaultStore, Verb};
use drctl_store::{Bucket, Put, SealError, StoreError, digest};
use futures_util::TryStreamExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// Often enough for every attempt.
const ALWAYS: usize = usize::MAX;

/// What the pauses between four attempts add up to.
const ALL_PAUSES: Duration = Duration::from_millis(200 + 400 + 800);

const OURS: Bytes = Bytes::from_static(b"the very bytes of ours");

fn key() -> Path {
    Path::from("s/shop/x")
}

fn faulty() -> (FaultStore, Bucket) {
    let store = FaultStore::new(Arc::new(InMemory::new()));
    (store.clone(), Bucket::new(Arc::new(store), "memory://"))
}

/// How a verb ended, in one word.
fn word<T: std::fmt::Debug>(done: &Result<T, StoreError>) -> String {
    match done {
        Ok(done) => format!("{done:?}"),
        Err(error) => error.code().to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn put_once_under_every_fault() {
    let truncated = OURS.slice(..OURS.len() / 2);
    let mut corrupted = OURS.to_vec();
    corrupted[OURS.len() / 2] ^= 1;
    let nothing = None::<Bytes>;
    let cases = [
        // fault, times, how it ends, puts, gets, what is stored then, how a repeat ends
        (Fault::Refused, 1, "Created", 2, 1, Some(OURS), "Present"),
        (Fault::Refused, 3, "Created", 4, 3, Some(OURS), "Present"),
        (Fault::Refused, ALWAYS, "store_failed", 4, 4, nothing.clone(), "Created"),
        (Fault::AnswerLost, 1, "Present", 1, 1, Some(OURS), "Present"),
        (Fault::AnswerLost, ALWAYS, "Present", 1, 1, Some(OURS), "Present"),
        (Fault::AnsweredExists, ALWAYS, "Present", 1, 1, Some(OURS), "Present"),
        (Fault::Expired, ALWAYS, "store_denied", 1, 1, nothing.clone(), "Created"),
        (Fault::Full, ALWAYS, "store_full", 1, 1, nothing, "Created"),
        // The store says yes: only reading back tells, which whoever commits does.
        (Fault::Truncated, 1, "Created", 1, 0, Some(truncated), "store_conflict"),
        (Fault::Corrupted, 1, "Created", 1, 0, Some(corrupted.into()), "store_conflict"),
    ];
    for (fault, times, ends, puts, gets, stored, again) in cases {
        let name = format!("{fault:?}, {times} times");
        let (store, bucket) = faulty();
        store.on(Verb::Put, "shop", 0, times, fault);
        assert_eq!(word(&bucket.put_once(&key(), OURS).await), ends, "{name}");
        assert_eq!(store.count(Verb::Put, "shop"), puts, "{name}: puts");
        assert_eq!(store.count(Verb::Get, "shop"), gets, "{name}: gets");
        store.heal();
        assert_eq!(bucket.get(&key(), 100).await.ok(), stored, "{name}");
        assert_eq!(word(&bucket.put_once(&key(), OURS).await), again, "{name}, again");
    }
}

#[tokio::test(start_paused = true)]
async fn put_once_never_replaces_other_bytes() {
    let theirs = Bytes::from_static(b"theirs");
    for fault in [Fault::Refused, Fault::AnswerLost, Fault::AnsweredExists, Fault::Corrupted] {
        let (store, bucket) = faulty();
        bucket.put(&key(), theirs.clone()).await.expect("put");
        store.on(Verb::Put, "shop", 0, ALWAYS, fault.clone());
        let done = bucket.put_once(&key(), OURS).await;
        assert!(matches!(done, Err(StoreError::Conflict { .. })), "{fault:?}: {done:?}");
        assert_eq!(bucket.get(&key(), 100).await.expect("get"), theirs, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_is_asked_a_bounded_number_of_times() {
    let (store, bucket) = faulty();
    store.on(Verb::Put, "", 0, ALWAYS, Fault::Refused);
    store.on(Verb::Get, "", 0, ALWAYS, Fault::Refused);
    let began = Instant::now();
    let error = bucket.put_once(&key(), OURS).await.expect_err("it is down");
    assert_eq!(error.code(), "store_failed");
    assert_eq!((store.count(Verb::Put, ""), store.count(Verb::Get, "")), (4, 4));
    assert_eq!(began.elapsed(), ALL_PAUSES);
}

#[tokio::test(start_paused = true)]
async fn put_under_every_fault() {
    let cases = [
        (Fault::Refused, 3, "()", 4),
        (Fault::Refused, ALWAYS, "store_failed", 4),
        (Fault::AnswerLost, 1, "()", 2),
        (Fault::Expired, ALWAYS, "store_denied", 1),
        (Fault::Full, ALWAYS, "store_full", 1),
    ];
    for (fault, times, ends, puts) in cases {
        let name = format!("{fault:?}, {times} times");
        let (store, bucket) = faulty();
        store.on(Verb::Put, "shop", 0, times, fault);
        assert_eq!(word(&bucket.put(&key(), OURS).await), ends, "{name}");
        assert_eq!(store.count(Verb::Put, "shop"), puts, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn get_under_every_fault() {
    let whole = format!("{OURS:?}");
    let cases = [
        (Fault::Refused, 1, whole.as_str(), 2),
        (Fault::Refused, 3, &whole, 4),
        (Fault::Refused, ALWAYS, "store_failed", 4),
        (Fault::AnswerLost, 2, &whole, 3),
        (Fault::Expired, ALWAYS, "store_denied", 1),
    ];
    for (fault, times, ends, gets) in cases {
        let name = format!("{fault:?}, {times} times");
        let (store, bucket) = faulty();
        bucket.put(&key(), OURS).await.expect("put");
        store.on(Verb::Get, "shop", 0, times, fault);
        assert_eq!(word(&bucket.get(&key(), 100).await), ends, "{name}");
        assert_eq!(store.count(Verb::Get, "shop"), gets, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_differs_is_asked_for_once_more() {
    let segment = Segment { n: 0, plain: 7, sealed: OURS.len() as u64, sha256: digest(&OURS) };
    let cases = [
        (Fault::Truncated, 1, None, 2),
        (Fault::Corrupted, 1, None, 2),
        (Fault::Truncated, ALWAYS, Some("length"), 2),
        (Fault::Corrupted, ALWAYS, Some("SHA-256"), 2),
        (Fault::Refused, 2, None, 3),
    ];
    for (fault, times, problem, gets) in cases {
        let name = format!("{fault:?}, {times} times");
        let (store, bucket) = faulty();
        bucket.put(&key(), OURS).await.expect("put");
        store.on(Verb::Get, "shop", 0, times, fault);
        let found = bucket.get_segment(&key(), &segment).await.expect("an answer");
        let found = match found {
            Ok(bytes) => (bytes == OURS).then_some(None),
            Err(SealError::Altered { what }) => Some(Some(what)),
            Err(_) => None,
        };
        assert_eq!(found, Some(problem), "{name}");
        assert_eq!(store.count(Verb::Get, "shop"), gets, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn listing_and_deleting_under_faults() {
    let (store, bucket) = faulty();
    bucket.put(&key(), OURS).await.expect("put");
    let at = Path::from("s");
    store.on(Verb::List, "s", 0, 1, Fault::Refused);
    assert_eq!(bucket.list_folders(&at).await.expect("asked again"), ["shop"]);
    // A listing that has begun is not begun again: whoever asked decides.
    for (fault, code) in [(Fault::Refused, "store_failed"), (Fault::Expired, "store_denied")] {
        store.on(Verb::List, "s", 0, 1, fault.clone());
        let listed = bucket.list(Some(&at)).try_collect::<Vec<_>>().await;
        assert_eq!(word(&listed), code);
        store.on(Verb::Delete, "shop", 0, 1, fault);
        assert_eq!(word(&bucket.delete(&key()).await), code);
    }
    bucket.delete(&key()).await.expect("delete");
    bucket.delete(&key()).await.expect("delete what is gone");
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_is_waited_for() {
    let (store, bucket) = faulty();
    let gate = Arc::new(Notify::new());
    store.on(Verb::Put, "shop", 0, 1, Fault::Slow(Arc::clone(&gate)));
    let key = key();
    let mut put = std::pin::pin!(bucket.put_once(&key, OURS));
    assert!(timeout(Duration::from_secs(3600), &mut put).await.is_err(), "it waits");
    gate.notify_one();
    assert_eq!(put.await.expect("put"), Put::Created);
}

#[tokio::test(start_paused = true)]
async fn one_answer_that_was_cut_on_its_way_is_no_damage() {
    for (fault, times, ends, gets) in [
        (Fault::Truncated, 1, "Created", 2),
        (Fault::Corrupted, 3, "Created", 4),
        (Fault::Corrupted, ALWAYS, "store_read_back", 4),
        (Fault::Refused, 1, "Created", 2),
    ] {
        let (store, bucket) = faulty();
        store.on(Verb::Get, "x", 0, times, fault.clone());
        let done = bucket.put_read_back(&key(), OURS).await;
        let name = format!("{fault:?} {times}");
        assert_eq!(word(&done), ends, "{name}");
        assert_eq!(store.count(Verb::Get, "x"), gets, "{name}");
    }
    // What the store holds otherwise stays a fault of the store.
    let (store, bucket) = faulty();
    store.on(Verb::Put, "x", 0, 1, Fault::Corrupted);
    assert_eq!(word(&bucket.put_read_back(&key(), OURS).await), "store_read_back");
}
