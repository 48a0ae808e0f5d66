//! The same with pgBackRest's repository in S3, by TLS.

use std::fs;

use drctl_tests::cluster::{Cluster as _, list, open_folder, ticks};
use drctl_tests::servers::authority::Authority;
use drctl_tests::servers::minio::Minio;

use crate::common::Shop;
use crate::engine_s3::{BUCKET, lines};

#[test]
fn a_stanza_in_s3_brings_a_cluster_to_a_time_and_fails_closed_when_it_is_away() {
    let authority = Authority::new();
    let mut minio = Minio::start_with_tls(&authority, &[BUCKET]);
    let certificates = open_folder("drctl-certificates-");
    let trusted = certificates.path().join("ca.crt");
    fs::write(&trusted, authority.certificate()).unwrap();
    let lines = lines(&minio, &trusted);
    let shop = Shop::with(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let _ = shop.back_up();
    shop.tick(1..11);
    let name = shop.archived();
    let time = shop.committed(7);
    let (ran, _folder, path) = shop.recover(&["--to-time", &time, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..8));
    let system_id = shop.sql("select system_identifier from pg_control_system()");
    let fetch = ["wal", "fetch", "shop", &name, "/nowhere/x", "--system-id", &system_id];
    let fetch = [&fetch[..], &["--segment-bytes", "1048576"]].concat();
    minio.stop();
    assert_eq!(shop.drctl(&fetch).code, Some(255));
    let history = ["wal", "fetch", "shop", "00000002.history", "/nowhere/x"];
    let history = [&history[..], &["--system-id", &system_id]].concat();
    assert_eq!(shop.drctl(&history).code, Some(255));
    let ran = shop.drctl(&["timeline", "shop"]);
    assert!(!matches!(ran.code, Some(0 | 3)), "{}", ran.out);
    let status = shop.drctl(&["status"]).ended(0).json();
    assert!(status["sources"][0]["log"]["unknown"].is_string(), "{status}");
}
