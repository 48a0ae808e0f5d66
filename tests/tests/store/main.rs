//! The object stores: one conformance suite against every backend, and what each does when it is
//! in trouble.

mod checks;
mod disk;
mod faults;
mod first;
mod log;
mod network;
mod places;
mod versions;

use bytes::Bytes;
use checks::{Subject, conform, listed};
use drctl_store::{Bucket, Location};
use drctl_tests::servers::azurite::Azurite;
use drctl_tests::servers::gcs::FakeGcs;
use drctl_tests::servers::minio::Minio;
use object_store::path::Path;
use places::{azure, google, open, s3};

/// More objects than one page of a listing holds: S3's has 1,000.
const PAGE_AND_MORE: usize = 1_100;

/// The suite at the top of a bucket and below a prefix in it; neither sees the other's objects.
async fn conforms(name: &'static str, create_only: bool, many: usize, at: impl Fn(&str) -> Bucket) {
    let (top, below) = (at(""), at("a/prefix"));
    conform(Subject { name, bucket: below.clone(), create_only, many }).await;
    let whole = listed(&top, Some("a/prefix")).await;
    let stripped = whole.iter().map(|(key, bytes)| {
        let key = key.strip_prefix("a/prefix/").expect("keys begin with the prefix");
        (key.to_owned(), *bytes)
    });
    assert_eq!(listed(&below, None).await, stripped.collect::<Vec<_>>(), "keys are relative");
    conform(Subject { name, bucket: top, create_only, many: 3 }).await;
    assert_eq!(listed(&below, None).await.len(), whole.len(), "the prefix holds its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_conforms() {
    let directory = tempfile::tempdir().expect("make a directory");
    let location = Location::File { directory: directory.path().to_owned() };
    let bucket = open(&location, &places::Place::default());
    assert!(bucket.versions().is_none());
    conform(Subject { name: "a directory", bucket, create_only: true, many: PAGE_AND_MORE }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minio_conforms() {
    let minio = Minio::start();
    minio.make_bucket("plain");
    conforms("MinIO", true, PAGE_AND_MORE, |prefix| s3(&minio, "plain", prefix)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minio_with_object_lock_conforms() {
    let minio = Minio::start();
    minio.make_bucket_with_lock("locked");
    versions::lock_for_a_day(&minio, "locked").await;
    let name = "MinIO with Object Lock";
    conforms(name, true, PAGE_AND_MORE, |prefix| s3(&minio, "locked", prefix)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azurite_conforms() {
    let azurite = Azurite::start();
    azurite.make_container("container");
    // A page of Azure's listings has 5,000 names.
    conforms("Azurite", true, 5_100, |prefix| azure(&azurite, "container", prefix)).await;
    assert!(azure(&azurite, "container", "").versions().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fake_gcs_conforms() {
    let gcs = FakeGcs::start();
    gcs.make_bucket("bucket");
    let key = Path::from("direct");
    let direct = google(gcs.port(), "bucket", "").put(&key, Bytes::from_static(b"x")).await;
    assert_eq!(direct.err().map(|error| error.code()), Some("store_failed"), "a gateway is needed");
    let gateway = gcs.gateway();
    // It ignores conditions: Google's own servers would not.
    let create_only = false;
    let at = |prefix: &str| google(gateway.port(), "bucket", prefix);
    conforms("fake-gcs-server", create_only, PAGE_AND_MORE, at).await;
    assert!(at("").versions().is_none());
}
