//! What pgBackRest calls whole and is not: it is found, and never served.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use drctl_engines::backrest::{Got, SegmentName};
use drctl_model::ExternalType::Full;
use drctl_tests::cluster::Cluster as _;

use crate::common::{STANZA, Shop, walk};
use crate::engine::{Engine, ends};

/// Turns some bytes in the middle of a file over.
fn damage(path: &std::path::Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 4] {
        *byte = !*byte;
    }
    let mode = fs::metadata(path).unwrap().permissions();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, mode).unwrap();
}

#[tokio::test]
async fn a_missing_segment_is_found_of_which_pgbackrest_says_nothing() {
    let shop = Shop::start();
    let engine = Engine::of(&shop);
    let made = engine.back_up(Full, "job-1").await;
    let mut names = Vec::new();
    for id in 1..6 {
        shop.tick(id..id + 1);
        names.push(shop.archived());
    }
    // In the middle of the log.
    fs::remove_file(shop.segment(&names[2])).unwrap();
    let walk = engine.walk().await;
    let gaps: Vec<_> = walk.gaps().map(|gap| (gap.first().to_string(), gap.segments())).collect();
    assert_eq!(gaps, [(names[2].clone(), 1)]);
    let (first, last) = ends(&made);
    assert_eq!(walk.missing(first, last).unwrap(), []);
    // One that the backup itself needs.
    fs::remove_file(shop.segment(&last.to_string())).unwrap();
    let walk = engine.walk().await;
    let missing = walk.missing(first, last).unwrap();
    assert_eq!(missing.len(), 1);
    assert_eq!((missing[0].first(), missing[0].last()), (last, last));
    // All of which it calls good.
    assert!(engine.rest.verify(None).await.unwrap().is_good());
    let info = engine.rest.info().await.unwrap();
    assert_eq!((info.status.code, info.backups.len()), (0, 1));
}

#[tokio::test]
async fn a_damaged_segment_is_no_segment_and_no_absence() {
    let shop = Shop::start();
    let engine = Engine::of(&shop);
    let made = engine.back_up(Full, "job-1").await;
    shop.tick(1..50);
    let name = shop.archived();
    damage(&shop.segment(&name));
    let verified = engine.rest.verify(None).await.unwrap();
    assert!(!verified.is_good() && !verified.archives[0].is_good(), "{verified:?}");
    assert!(verified.backup(&made.backup.label).unwrap().is_good());
    let to = engine.path("segment");
    let error = engine.rest.get_segment(Some(&made.cluster), &name, &to).await.unwrap_err();
    assert_eq!(error.code(), "pgbackrest_repository", "{error}");
    // pgBackRest itself leaves the beginning of it behind.
    let left: Vec<_> = fs::read_dir(to.parent().unwrap()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_damaged_file_is_named_by_verify_and_not_restored() {
    let shop = Shop::start();
    let engine = Engine::of(&shop);
    let good = engine.back_up(Full, "job-1").await;
    let made = engine.back_up(Full, "job-2").await;
    let mut files = Vec::new();
    walk(&shop.path("repo").join("backup").join(STANZA).join(&made.backup.label), &mut files);
    let table = files.iter().filter(|path| path.display().to_string().contains("/pg_data/base/"));
    damage(table.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap());
    let verified = engine.rest.verify(None).await.unwrap();
    assert!(!verified.is_good());
    assert!(!verified.backup(&made.backup.label).unwrap().is_good());
    assert!(verified.backup(&good.backup.label).unwrap().is_good());
    assert_eq!(engine.rest.info().await.unwrap().status.code, 0);
    let layout = engine.layout("new", &[]);
    let error = engine.rest.restore(&made.backup.label, &layout).await.unwrap_err();
    assert_eq!(error.code(), "pgbackrest_repository", "{error}");
    engine.rest.restore(&good.backup.label, &engine.layout("good", &[])).await.unwrap();
}

#[tokio::test]
async fn two_contents_for_one_segment_are_a_split_brain() {
    let shop = Shop::start();
    let engine = Engine::of(&shop);
    let made = engine.back_up(Full, "job-1").await;
    shop.tick(1..5);
    let name = shop.archived();
    let path = shop.segment(&name);
    let other = path.display().to_string().replacen(
        &path.file_name().unwrap().to_string_lossy()[25..65],
        &"1".repeat(40),
        1,
    );
    fs::copy(&path, &other).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).unwrap();
    let walk = engine.walk().await;
    assert_eq!(walk.doubles, [SegmentName::parse(&name).unwrap()]);
    assert_eq!(walk.gaps().count(), 0);
    assert!(!engine.rest.verify(None).await.unwrap().is_good());
    let got = engine.rest.get_segment(Some(&made.cluster), &name, &engine.path("x")).await;
    let error = got.unwrap_err();
    assert_eq!(error.code(), "pgbackrest_split_brain", "{error}");
    assert!(error.hint().unwrap().contains("two servers"), "{error}");
}

#[tokio::test]
async fn a_repository_that_cannot_be_read_is_never_empty() {
    let shop = Shop::start();
    let engine = Engine::of(&shop);
    let made = engine.back_up(Full, "job-1").await;
    let (name, to) = (ends(&made).0.to_string(), engine.path("segment"));
    let cluster = Some(&made.cluster);
    let archive = shop.path("repo").join("archive").join(STANZA);
    let files = [archive.join("archive.info"), archive.join("archive.info.copy")];
    let mode = |mode| {
        for file in &files {
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    mode(0o000);
    let error = engine.rest.get_segment(cluster, &name, &to).await.unwrap_err();
    assert_eq!(error.code(), "pgbackrest_repository", "{error}");
    let error = engine.rest.info().await.unwrap_err();
    assert_eq!(error.code(), "pgbackrest_repository", "{error}");
    assert!(!engine.rest.verify(None).await.unwrap().is_good());
    mode(0o640);
    assert_eq!(engine.rest.get_segment(cluster, &name, &to).await.unwrap(), Got::Delivered);

    // Not mounted: the directory is there, and nothing is in it.
    let (repo, away) = (shop.path("repo"), shop.path("away"));
    fs::rename(&repo, &away).unwrap();
    fs::create_dir(&repo).unwrap();
    let error = engine.rest.info().await.unwrap_err();
    assert!(error.hint().unwrap().contains("mounted"), "{error}");
    let error = engine.rest.listing().await.unwrap_err();
    assert_eq!(error.code(), "pgbackrest_repository", "{error}");
    let error = engine.rest.get_segment(cluster, &name, &to).await.unwrap_err();
    assert_eq!(error.code(), "pgbackrest_repository", "{error}");
    fs::remove_dir(&repo).unwrap();
    fs::rename(&away, &repo).unwrap();
    assert_eq!(engine.rest.info().await.unwrap().backups, [made.backup]);
}
