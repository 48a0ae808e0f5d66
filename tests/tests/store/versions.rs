//! What only S3 has: versions of objects and Object Lock.

use std::collections::BTreeMap;

use aws_sdk_s3::types::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode,
    ObjectLockRule,
};
use bytes::Bytes;
use drctl_model::Segment;
use drctl_store::{Bucket, LockRule, ObjectVersion, Put, SealError, StoreError, Versions, digest};
use drctl_tests::servers::minio::Minio;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;

use crate::places::s3;

/// Versions of each object in the long listing: two of them fill more than one page of 1,000.
const VERSIONS: usize = 600;

/// Every new object of this bucket cannot be removed for a day.
pub(crate) async fn lock_for_a_day(minio: &Minio, bucket: &str) {
    let retention = DefaultRetention::builder().mode(ObjectLockRetentionMode::Compliance).days(1);
    let rule = ObjectLockRule::builder().default_retention(retention.build()).build();
    let lock = ObjectLockConfiguration::builder()
        .object_lock_enabled(ObjectLockEnabled::Enabled)
        .rule(rule)
        .build();
    let client = minio.client();
    let request = client.put_object_lock_configuration().bucket(bucket);
    request.object_lock_configuration(lock).send().await.expect("lock the bucket");
}

fn versions(bucket: &Bucket) -> &Versions {
    bucket.versions().expect("S3 has versions")
}

/// A MinIO with a locked bucket.
async fn locked() -> Minio {
    let minio = Minio::start();
    minio.make_bucket_with_lock("locked");
    lock_for_a_day(&minio, "locked").await;
    minio
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_and_lock_are_seen() {
    let minio = locked().await;
    minio.make_bucket("plain");
    minio.make_bucket("versioned");
    minio.set_versioning("versioned");
    minio.make_bucket_with_lock("unruly");
    let rule = |mode: Option<&str>, days| Some(LockRule { mode: mode.map(str::to_owned), days });
    let cases = [
        ("plain", false, None),
        ("versioned", true, None),
        ("unruly", true, rule(None, None)),
        ("locked", true, rule(Some("COMPLIANCE"), Some(1))),
    ];
    for (name, kept, lock) in cases {
        let bucket = s3(&minio, name, "");
        assert_eq!(versions(&bucket).enabled().await.expect("ask"), kept, "{name}");
        assert_eq!(versions(&bucket).lock().await.expect("ask"), lock, "{name}");
    }
    let absent = s3(&minio, "absent", "");
    let error = versions(&absent).enabled().await.expect_err("there is no such bucket");
    assert!(matches!(error, StoreError::S3 { denied: false, .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_older_version_is_found() {
    let minio = locked().await;
    for prefix in ["", "a/prefix"] {
        let bucket = s3(&minio, "locked", prefix);
        let good = Bytes::from_static(b"the very bytes that were sealed");
        let segment = Segment { n: 0, plain: 7, sealed: good.len() as u64, sha256: digest(&good) };
        let (same, cut) = (Bytes::from(vec![b'x'; good.len()]), good.slice(1..));
        let longer = Bytes::from(vec![b'x'; good.len() + 1]);
        let cases: [(&str, &[&Bytes], bool); 6] = [
            ("overwritten", &[&good, &same], true),
            ("cut", &[&good, &cut], true),
            ("longer", &[&good, &longer], true),
            ("often", &[&same, &good, &longer, &same, &cut, &same], true),
            ("never-good", &[&same, &cut, &same], false),
            ("good-again", &[&same, &good], true),
        ];
        for (name, writes, is_there) in cases {
            let key = Path::from(format!("older/{name}"));
            for bytes in writes {
                bucket.put(&key, (*bytes).clone()).await.expect("put");
            }
            check_older(&bucket, &key, &segment, &good, is_there).await;
            bucket.delete(&key).await.expect("delete");
            check_deleted(&bucket, &key, &segment, &good, is_there).await;
        }
    }
}

/// Create-only means that no live object has the name: a delete marker does not hold it, which is
/// why identity rests on the signature.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_name_can_be_created_again() {
    let minio = locked().await;
    let bucket = s3(&minio, "locked", "");
    let key = Path::from("s/shop/b/x/manifest.json");
    for bytes in [&b"first"[..], b"second"] {
        let put = bucket.put_once(&key, Bytes::from_static(bytes)).await.expect("create");
        assert_eq!(put, Put::Created);
        bucket.delete(&key).await.expect("delete");
    }
    let kept = versions(&bucket).of(&key).await.expect("list");
    let lengths = kept.iter().filter(|version| !version.delete_marker).map(|version| version.bytes);
    assert_eq!(lengths.collect::<Vec<_>>(), [6, 5], "both are still there");
}

async fn check_older(bucket: &Bucket, key: &Path, segment: &Segment, good: &Bytes, there: bool) {
    let found = bucket.get_segment(key, segment).await.expect("get");
    match found {
        Ok(bytes) => assert!(there && bytes == *good, "{key}"),
        Err(error) => assert!(!there && matches!(error, SealError::Altered { .. }), "{key}"),
    }
}

async fn check_deleted(bucket: &Bucket, key: &Path, segment: &Segment, good: &Bytes, there: bool) {
    let gone = bucket.get(key, 1_000).await;
    assert!(matches!(gone, Err(StoreError::Missing { .. })), "{key}: {gone:?}");
    match bucket.get_segment(key, segment).await {
        Ok(found) => assert!(there && found.expect("intact") == *good, "{key}"),
        Err(error) => assert!(!there && error.code() == "store_missing", "{key}: {error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_is_listed() {
    let minio = Minio::start();
    minio.make_bucket_with_lock("locked");
    let bucket = s3(&minio, "locked", "a/prefix");
    let keys = ["long/x", "long/x1"].map(Path::from);
    let writes = (0..VERSIONS).flat_map(|n| keys.iter().map(move |key| (key, n)));
    stream::iter(writes)
        .map(|(key, n)| bucket.put(key, Bytes::from(vec![b'x'; n + 1])))
        .buffer_unordered(8)
        .try_collect::<()>()
        .await
        .expect("put");
    bucket.delete(&keys[1]).await.expect("delete");

    let mut all = Vec::new();
    let listed = versions(&bucket).list(&Path::from("long"), |version| all.push(version)).await;
    listed.expect("list");
    let mut by_key: BTreeMap<&Path, Vec<&ObjectVersion>> = BTreeMap::new();
    for version in &all {
        by_key.entry(&version.key).or_default().push(version);
    }
    assert_eq!(by_key.keys().copied().collect::<Vec<_>>(), keys.iter().collect::<Vec<_>>());
    for (key, markers) in keys.iter().zip([0, 1]) {
        let found = versions(&bucket).of(key).await.expect("list");
        let within = |version| by_key[key].contains(&version);
        assert!(found.iter().all(within) && found.len() == by_key[key].len(), "{key}");
        check_versions(&bucket, &found, markers).await;
    }
}

/// All of one key, in order, each length once.
async fn check_versions(bucket: &Bucket, found: &[ObjectVersion], markers: usize) {
    let objects: Vec<_> = found.iter().filter(|version| !version.delete_marker).collect();
    assert_eq!((objects.len(), found.len()), (VERSIONS, VERSIONS + markers));
    let mut lengths: Vec<u64> = objects.iter().map(|version| version.bytes).collect();
    lengths.sort_unstable();
    assert!(lengths.iter().copied().eq(1..=VERSIONS as u64), "each version once");
    // The newest is the first, or hidden by the marker.
    let latest: Vec<_> = found.iter().filter(|version| version.latest).collect();
    assert_eq!((latest.len(), latest[0].delete_marker), (1, markers > 0));
    assert_eq!(latest[0], if markers > 0 { marker_of(found) } else { objects[0] });
    for version in [objects[0], objects[VERSIONS - 1]] {
        let bytes = versions(bucket).get(version, version.bytes).await.expect("get a version");
        assert_eq!(bytes.len() as u64, version.bytes);
        let error = versions(bucket).get(version, version.bytes - 1).await.expect_err("a bound");
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error:?}");
    }
}

fn marker_of(found: &[ObjectVersion]) -> &ObjectVersion {
    found.iter().find(|version| version.delete_marker).expect("a delete marker")
}
