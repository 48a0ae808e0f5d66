//! A directory whose disk is full, or may not be written to.
//!
//! Each test runs once more inside a mount namespace of its own (as root there, whoever we are),
//! with a disk of one mebibyte that only it sees and that goes with it.

use std::env;
use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;

use bytes::Bytes;
use drctl_store::{Bucket, Location};
use object_store::path::Path;

use crate::checks::listed;
use crate::places::{Place, open};

/// Tells the run inside where its disk is.
const DISK: &str = "DRCTL_TESTS_DISK";

/// Where the small disk is mounted, inside; nothing outside, where the test ran inside and passed.
fn small_disk(test: &str) -> Option<PathBuf> {
    if let Some(disk) = env::var_os(DISK) {
        return Some(disk.into());
    }
    let disk = tempfile::tempdir().expect("make a directory");
    let mount = "mount -t tmpfs -o size=1m none \"$DRCTL_TESTS_DISK\" && exec \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "--", "sh", "-c", mount])
        .arg(env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(DISK, disk.path())
        .output()
        .expect("run unshare");
    let said = String::from_utf8_lossy(&output.stdout);
    let erred = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{erred}");
    None
}

fn bucket_at(directory: &FilePath) -> Bucket {
    open(&Location::File { directory: directory.to_owned() }, &Place::default())
}

#[tokio::test]
async fn a_full_disk_is_told_and_keeps_what_it_holds() {
    let Some(disk) = small_disk("disk::a_full_disk_is_told_and_keeps_what_it_holds") else {
        return;
    };
    let bucket = bucket_at(&disk);
    let kept = Bytes::from(vec![7; 300 << 10]);
    let large = Bytes::from(vec![8; 2 << 20]);
    bucket.put(&Path::from("a/kept"), kept.clone()).await.expect("put");
    for key in ["a/large", "a/kept"] {
        let key = Path::from(key);
        let error = bucket.put(&key, large.clone()).await.expect_err("a full disk");
        assert_eq!(error.code(), "store_full", "{error:?}");
        assert!(error.is_permanent() && error.hint().is_some(), "{error:?}");
    }
    let once = bucket.put_once(&Path::from("a/once"), large.clone()).await;
    let error = once.expect_err("a full disk");
    assert_eq!(error.code(), "store_full", "{error:?}");

    let found = bucket.get(&Path::from("a/kept"), 1 << 20).await.expect("get");
    assert!(found == kept, "what was stored is intact");
    assert_eq!(listed(&bucket, None).await, [("a/kept".to_owned(), 300 << 10)]);
    let files: Vec<_> = fs::read_dir(disk.join("a")).expect("read").flatten().collect();
    assert_eq!(files.len(), 1, "no half file is left: {files:?}");
    // What the failed ones took is free again.
    bucket.put(&Path::from("a/fits"), Bytes::from(vec![9; 600 << 10])).await.expect("put");
}

#[tokio::test]
async fn a_disk_that_may_not_be_written_to_is_told() {
    let Some(disk) = small_disk("disk::a_disk_that_may_not_be_written_to_is_told") else { return };
    let bucket = bucket_at(&disk);
    let key = Path::from("a/kept");
    bucket.put(&key, Bytes::from_static(b"kept")).await.expect("put");
    let remount = Command::new("mount").args(["-o", "remount,ro"]).arg(&disk).status();
    assert!(remount.expect("run mount").success());
    let (other, bytes) = (Path::from("b/other"), Bytes::from_static(b"other"));
    let refused = [
        ("put", bucket.put(&other, bytes.clone()).await),
        ("put once", bucket.put_once(&other, bytes).await.map(drop)),
        ("delete", bucket.delete(&key).await),
    ];
    for (verb, done) in refused {
        let error = done.expect_err(verb);
        assert_eq!(error.code(), "store_denied", "{verb}: {error:?}");
    }
    assert_eq!(bucket.get(&key, 9).await.expect("get"), "kept");
}

#[test]
fn a_directory_that_is_none_cannot_be_opened() {
    let directory = tempfile::tempdir().expect("make a directory");
    let file = directory.path().join("file");
    fs::write(&file, "x").expect("write");
    let place = Place::default();
    for path in [directory.path().join("absent"), file.join("below")] {
        let location = Location::File { directory: path.clone() };
        let opened = location.open("file:///x", &place.options, &place.credentials);
        let error = opened.err().expect("it is no directory");
        assert_eq!(error.code(), "store_open");
        let is_absent = directory.path().join("absent") == path;
        let asks = error.hint().is_some_and(|hint| hint.contains("is the file system mounted?"));
        assert_eq!(asks, is_absent, "{}", path.display());
    }
}

#[tokio::test]
async fn a_disk_that_was_unmounted_takes_nothing() {
    let Some(disk) = small_disk("disk::a_disk_that_was_unmounted_takes_nothing") else {
        return;
    };
    let bucket = bucket_at(&disk);
    bucket.put(&Path::from("s/one"), Bytes::from_static(b"1")).await.expect("put");
    let gone = Command::new("umount").arg(&disk).status().expect("run umount");
    assert!(gone.success());
    let error = bucket.put_once(&Path::from("s/two"), Bytes::from_static(b"2")).await;
    let error = error.expect_err("the disk is gone");
    assert_eq!(error.code(), "store_moved", "{error:?}");
    assert!(error.is_permanent() && error.hint().is_some(), "{error:?}");
    assert_eq!(fs::read_dir(&disk).expect("the mount point").count(), 0);
}
