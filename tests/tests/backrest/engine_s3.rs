//! The same with a repository in S3, which pgBackRest reaches by TLS alone.

use std::fs;
use std::time::Duration;

use drctl_engines::backrest::{Got, SegmentName};
use drctl_model::ExternalType::{Full, Incremental};
use drctl_tests::cluster::{Cluster as _, open_folder};
use drctl_tests::servers::authority::Authority;
use drctl_tests::servers::minio::{Minio, REGION};

use crate::common::Shop;
use crate::engine::{Engine, ends};

pub(crate) const BUCKET: &str = "backrest";

/// The lines of a repository in a MinIO, whose authority's certificate lies at `trusted`.
pub(crate) fn lines(minio: &Minio, trusted: &std::path::Path) -> Vec<String> {
    let at = |name: &str, value: &str| format!("repo1-{name}={value}");
    vec![
        at("type", "s3"),
        at("path", "/repo"),
        at("s3-bucket", BUCKET),
        at("s3-endpoint", "localhost"),
        at("s3-region", REGION),
        at("s3-key", minio.access_key()),
        at("s3-key-secret", minio.secret_key()),
        at("s3-uri-style", "path"),
        at("storage-port", &minio.port().to_string()),
        at("storage-ca-file", &trusted.display().to_string()),
        "io-timeout=5".to_owned(),
    ]
}

#[tokio::test]
async fn a_repository_in_s3_is_like_one_in_a_directory() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut minio = Minio::start_with_tls(&authority, &[BUCKET]);
    let certificates = open_folder("drctl-certificates-");
    let trusted = certificates.path().join("ca.crt");
    fs::write(&trusted, authority.certificate()).unwrap();
    let lines = lines(&minio, &trusted);
    let shop = Shop::with(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let engine = Engine::of(&shop);
    let full = engine.back_up(Full, "job-1").await;
    shop.tick(1..11);
    let name = shop.archived();
    let made = engine.back_up(Incremental, "job-2").await;
    assert_eq!(made.backup.prior.as_deref(), Some(full.backup.label.as_str()));
    engine.rest.check().await.unwrap();
    engine.rest.expire(Duration::ZERO).await.unwrap();
    assert!(engine.rest.verify(None).await.unwrap().is_good());
    let walk = engine.walk().await;
    assert_eq!((walk.gaps().count(), walk.runs.len()), (0, 1));
    let (first, last) = ends(&made);
    assert_eq!(walk.missing(first, last).unwrap(), []);
    let (to, cluster) = (engine.path("segment"), Some(&made.cluster));
    assert_eq!(engine.rest.get_segment(cluster, &name, &to).await.unwrap(), Got::Delivered);
    let absent = "0000000100000000000000F0";
    assert_eq!(engine.rest.get_segment(cluster, absent, &to).await.unwrap(), Got::Missing);
    engine.rest.restore(&made.backup.label, &engine.layout("new", &[])).await.unwrap();

    // A gap, made through pgBackRest's own hand on the bucket.
    let at = SegmentName::parse(&name).unwrap();
    let listing = engine.rest.listing().await.unwrap();
    let archive = listing.of(made.cluster.id).unwrap();
    let file = archive.segments.iter().find(|segment| segment.name == at).unwrap();
    let sha1: String = file.sha1.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = format!("archive/shop/{}/{}/{name}-{sha1}.gz", archive.id, &name[..16]);
    let _ = shop.pgbackrest(&["repo-rm", &path]).ended(0);
    let gaps: Vec<_> = engine.walk().await.gaps().map(|gap| gap.first().to_string()).collect();
    assert_eq!(gaps, std::slice::from_ref(&name));
    assert!(engine.rest.verify(None).await.unwrap().is_good());

    // A certificate of nobody whom we trust, and a server that does not answer.
    let present = last.to_string();
    fs::write(&trusted, stranger.certificate()).unwrap();
    let error = engine.rest.get_segment(cluster, &present, &to).await.unwrap_err();
    assert_eq!(error.code(), "pgbackrest_repository", "{error}");
    fs::write(&trusted, authority.certificate()).unwrap();
    assert_eq!(engine.rest.get_segment(cluster, &present, &to).await.unwrap(), Got::Delivered);
    minio.stop();
    let error = engine.rest.get_segment(cluster, &present, &to).await.unwrap_err();
    assert_eq!(error.code(), "pgbackrest_repository", "{error}");
    assert!(engine.rest.info().await.is_err());
    assert!(engine.rest.listing().await.is_err());
    minio.start_again();
    assert_eq!(engine.rest.info().await.unwrap().backups.len(), 2);
}
