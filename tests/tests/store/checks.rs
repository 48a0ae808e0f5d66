//! The conformance suite: what every backend has to do, as a list of named checks.

use std::collections::BTreeSet;

use bytes::Bytes;
use drctl_model::Segment;
use drctl_store::{Bucket, Entry, Put, SealError, StoreError, digest};
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;

/// How many requests the checks have under way at once.
const AT_ONCE: usize = 16;

/// How many writers race for one key.
const RACERS: usize = 8;

/// How often they race.
const RACES: usize = 5;

/// A backend to check, and what it is known to be unable to do.
#[derive(Clone)]
pub(crate) struct Subject {
    /// What to call it when a check fails.
    pub(crate) name: &'static str,
    /// It, freshly made and empty.
    pub(crate) bucket: Bucket,
    /// Whether it enforces create-only puts. If not, a check holds that it does not.
    pub(crate) create_only: bool,
    /// How many objects go into one folder: more than one page of its listings holds.
    pub(crate) many: usize,
}

type Check = fn(Subject) -> BoxFuture<'static, ()>;

const CHECKS: &[(&str, Check)] = &[
    ("what was put is got, listed and deleted", |s| round_trip(s).boxed()),
    ("a put over an object replaces it", |s| replaced(s).boxed()),
    ("what is not there is missing", |s| missing(s).boxed()),
    ("a get has a bound", |s| bounded(s).boxed()),
    ("folders are listed", |s| folders(s).boxed()),
    ("a folder is not a prefix of a name", |s| neighbours(s).boxed()),
    ("create-only puts keep what is there", |s| put_once(s).boxed()),
    ("one of several writers wins", |s| race(s).boxed()),
    ("segments are checked", |s| segments(s).boxed()),
    ("a listing is whole", |s| long_listing(s).boxed()),
];

/// Runs every check, each on a folder of its own, and names those that failed.
pub(crate) async fn conform(subject: Subject) {
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        // On a task of its own: its panic is said, and the other checks still run.
        if tokio::spawn(check(subject.clone())).await.is_err() {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "{} fails: {failed:#?}", subject.name);
}

/// Everything below a prefix, sorted.
pub(crate) async fn listed(bucket: &Bucket, prefix: Option<&str>) -> Vec<(String, u64)> {
    let prefix = prefix.map(Path::from);
    let entries: Vec<Entry> = bucket.list(prefix.as_ref()).try_collect().await.expect("list");
    let mut found: Vec<_> = entries.into_iter().map(|e| (e.key.to_string(), e.bytes)).collect();
    found.sort();
    found
}

async fn round_trip(Subject { bucket, .. }: Subject) {
    let large: Bytes =
        (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let objects = [
        ("round/a/one.json", Bytes::from_static(b"{}")),
        ("round/a/b/000000.zst.age", large),
        ("round/empty", Bytes::new()),
    ];
    for (key, bytes) in &objects {
        bucket.put(&Path::from(*key), bytes.clone()).await.expect("put");
    }
    for (key, bytes) in &objects {
        let found = bucket.get(&Path::from(*key), bytes.len() as u64).await.expect("get");
        assert!(found == *bytes, "{key}: {} bytes came back", found.len());
    }
    let mut all: Vec<_> = objects.iter().map(|(k, b)| ((*k).to_owned(), b.len() as u64)).collect();
    all.sort();
    assert_eq!(listed(&bucket, Some("round")).await, all);
    assert_eq!(listed(&bucket, Some("round/a/b")).await, all[..1]);
    let every: BTreeSet<_> = listed(&bucket, None).await.into_iter().collect();
    assert!(all.iter().all(|entry| every.contains(entry)), "a listing of everything: {every:?}");
    for (key, _) in &objects {
        bucket.delete(&Path::from(*key)).await.expect("delete");
        bucket.delete(&Path::from(*key)).await.expect("delete what is gone");
    }
    assert_eq!(listed(&bucket, Some("round")).await, []);
}

async fn replaced(Subject { bucket, .. }: Subject) {
    let key = Path::from("replaced/x");
    for bytes in [&b"first"[..], b"second, longer", b""] {
        bucket.put(&key, Bytes::from_static(bytes)).await.expect("put");
        assert_eq!(bucket.get(&key, 100).await.expect("get"), bytes);
    }
}

async fn missing(Subject { bucket, .. }: Subject) {
    bucket.put(&Path::from("missing/x/y"), Bytes::from_static(b"y")).await.expect("put");
    for key in ["missing/z", "missing/x"] {
        let error = bucket.get(&Path::from(key), 100).await.expect_err(key);
        assert_eq!(error.code(), "store_missing", "{key}: {error:?}");
        assert!(error.is_permanent(), "{key}: {error:?}");
    }
    assert_eq!(listed(&bucket, Some("missing/nothing")).await, []);
    let folders = bucket.list_folders(&Path::from("missing/nothing")).await.expect("list");
    assert_eq!(folders, [""; 0]);
}

async fn bounded(Subject { bucket, .. }: Subject) {
    let key = Path::from("bounded/x");
    bucket.put(&key, Bytes::from_static(b"12345")).await.expect("put");
    assert_eq!(bucket.get(&key, 5).await.expect("get"), "12345");
    let error = bucket.get(&key, 4).await.expect_err("one byte too many");
    assert!(matches!(error, StoreError::TooLarge { bytes: 5, limit: 4, .. }), "{error:?}");
}

async fn folders(Subject { bucket, .. }: Subject) {
    for key in ["folders/b/1/x", "folders/a/x", "folders/b/2/y", "folders/file"] {
        bucket.put(&Path::from(key), Bytes::from_static(b"x")).await.expect("put");
    }
    for (at, names) in
        [("folders", &["a", "b"][..]), ("folders/b", &["1", "2"]), ("folders/a", &[])]
    {
        let mut found = bucket.list_folders(&Path::from(at)).await.expect("list folders");
        found.sort();
        assert_eq!(found, names, "{at}");
    }
}

async fn neighbours(Subject { bucket, .. }: Subject) {
    for key in ["near/shop/x", "near/shop-2/x", "near/shopx"] {
        bucket.put(&Path::from(key), Bytes::from_static(b"x")).await.expect("put");
    }
    assert_eq!(listed(&bucket, Some("near/shop")).await, [("near/shop/x".to_owned(), 1)]);
}

async fn put_once(Subject { bucket, create_only, .. }: Subject) {
    let key = Path::from("once/manifest.json");
    let (ours, theirs) = (Bytes::from_static(b"ours"), Bytes::from_static(b"theirs, longer"));
    assert_eq!(bucket.put_once(&key, ours.clone()).await.expect("create"), Put::Created);
    if !create_only {
        // Were this to change, the backend could be held to more.
        assert_eq!(bucket.put_once(&key, theirs.clone()).await.expect("replace"), Put::Created);
        assert_eq!(bucket.get(&key, 100).await.expect("get"), theirs);
        return;
    }
    assert_eq!(bucket.put_once(&key, ours.clone()).await.expect("again"), Put::Present);
    for other in [theirs, Bytes::from_static(b"ourz"), Bytes::from_static(b"x"), Bytes::new()] {
        let error = bucket.put_once(&key, other).await.expect_err("other bytes");
        assert!(matches!(error, StoreError::Conflict { .. }), "{error:?}");
        assert_eq!(bucket.get(&key, 100).await.expect("get"), ours);
    }
}

async fn race(Subject { bucket, create_only, .. }: Subject) {
    for round in 0..RACES {
        let key = Path::from(format!("race/{round}"));
        let bytes = |racer| Bytes::from(format!("racer {racer}"));
        let writers = (0..RACERS).map(|racer| {
            let (bucket, key) = (bucket.clone(), key.clone());
            tokio::spawn(async move { bucket.put_once(&key, bytes(racer)).await })
        });
        let done: Vec<_> = join_all(writers).await.into_iter().map(|d| d.expect("ran")).collect();
        let winners: Vec<_> =
            (0..RACERS).filter(|r| matches!(done[*r], Ok(Put::Created))).collect();
        if !create_only {
            assert_eq!(winners.len(), RACERS, "create-only puts are enforced now: {done:?}");
            continue;
        }
        assert_eq!(winners.len(), 1, "round {round}: {done:?}");
        let lost = done.iter().filter(|d| matches!(d, Err(StoreError::Conflict { .. }))).count();
        assert_eq!(lost, RACERS - 1, "round {round}: {done:?}");
        assert_eq!(bucket.get(&key, 100).await.expect("get"), bytes(winners[0]));
    }
}

async fn segments(Subject { bucket, .. }: Subject) {
    let good = Bytes::from_static(b"the very bytes that were sealed");
    let segment = Segment { n: 0, plain: 7, sealed: good.len() as u64, sha256: digest(&good) };
    let (cut, longer) = (good.slice(1..), Bytes::from([&good[..], b"x"].concat()));
    let mut flipped = good.to_vec();
    flipped[9] ^= 1;
    let cases = [
        ("intact", good.clone(), None),
        ("altered", flipped.into(), Some("SHA-256")),
        ("cut", cut, Some("length")),
        ("longer", longer, Some("length")),
        ("empty", Bytes::new(), Some("length")),
    ];
    for (name, bytes, problem) in cases {
        let key = Path::from(format!("segments/{name}"));
        bucket.put(&key, bytes).await.expect("put");
        let found = bucket.get_segment(&key, &segment).await.expect("get");
        match (&found, problem) {
            (Ok(bytes), None) => assert_eq!(bytes, &good),
            (Err(SealError::Altered { what }), Some(problem)) => assert_eq!(*what, problem),
            _ => panic!("{name}: {found:?}"),
        }
    }
    let error = bucket.get_segment(&Path::from("segments/none"), &segment).await;
    assert!(matches!(error, Err(StoreError::Missing { .. })), "{error:?}");
}

async fn long_listing(Subject { bucket, many, .. }: Subject) {
    let keys: Vec<String> = (0..many).map(|n| format!("many/{n:06}")).collect();
    let put = |key: String| {
        let bucket = bucket.clone();
        async move { bucket.put(&Path::from(key), Bytes::from_static(b"x")).await }
    };
    let puts = stream::iter(keys.clone()).map(put).buffer_unordered(AT_ONCE);
    puts.try_collect::<()>().await.expect("put");
    let found = listed(&bucket, Some("many")).await;
    let found: Vec<String> = found.into_iter().map(|(key, _)| key).collect();
    assert!(found == keys, "{} of {many} are listed", found.len());
}
