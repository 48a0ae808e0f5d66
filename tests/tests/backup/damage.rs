//! What somebody or something did to the bucket: found, named, and never restored.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use drctl_model::{Manifest, Segment};
use drctl_store::SigningKey;
use drctl_tests::servers::minio::Minio;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::servers::scripted::Scripted;
use drctl_tests::site::until;

use crate::cancel::{ended, start};
use crate::common::{Shop, Somebody, manifest_of, name, resign, segments, sign_with};

/// A shop with two backups, the older of them good, the newer to be damaged.
fn two() -> (Shop, String, String) {
    let shop = Shop::open();
    let older = shop.site.backup();
    let newer = shop.site.backup();
    (shop, older, newer)
}

/// The segments of the newest backup's database.
fn newest_segments(shop: &Shop, id: &str) -> Vec<PathBuf> {
    let mut files = segments(&shop.site, "d0");
    files.retain(|path| path.display().to_string().contains(id));
    files
}

/// Asserts that the newer backup is refused everywhere with this error, that its restore leaves
/// nothing, and that the older one still restores.
#[track_caller]
fn refused(shop: &Shop, older: &str, newer: &str, exit: i32, code: &str, words: &[&str]) {
    for jobs in ["1", "2"] {
        let new = name();
        let arguments = [&shop.to_beside(newer, &new)[..], &["--jobs", jobs]].concat();
        let said = shop.site.fails(exit, code, &arguments);
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(!shop.has(&new), "{new} was left with jobs {jobs}");
    }
    let target = shop.site.path("files");
    let text = target.display().to_string();
    let arguments = ["restore", "shop", "--backup", newer, "--to-files", &text];
    shop.site.fails(exit, code, &arguments);
    assert!(!target.join(format!("{}.dump", shop.db)).exists());
    let _ = fs::remove_dir_all(&target);

    let verified = shop.site.json(4, &["verify", "--data"]);
    let backups = verified["backups"].as_array().unwrap();
    let good = |id: &str| backups.iter().find(|one| one["backup"] == id).map(|one| &one["good"]);
    assert_eq!(good(newer), Some(&false.into()), "{verified}");
    assert_eq!(good(older), Some(&true.into()), "{verified}");
    shop.still_restores(older);
}

/// Damages one segment of the newer backup and asserts that it is named.
#[track_caller]
fn bad_segment(damage: impl Fn(&[PathBuf])) {
    let (shop, older, newer) = two();
    let files = newest_segments(&shop, &newer);
    assert!(files.len() > 9, "{files:?}");
    damage(&files);
    refused(&shop, &older, &newer, 4, "segment_damaged", &["d0/", "not what the manifest says"]);
}

#[test]
fn a_bad_segment_leaves_no_database_that_the_tool_itself_has_created() {
    let (shop, _, newer) = two();
    let target = Postgres::start();
    let (host, port) = (target.socket_dir().display().to_string(), target.port().to_string());
    let to = ["--to-host", &host, "--to-port", &port];
    let start = ["restore", "shop", "--backup", &newer, "--database", &shop.db];
    // The earlier it comes, the closer to the moment at which the database is being created.
    for file in newest_segments(&shop, &newer) {
        let good = fs::read(&file).unwrap();
        flip(&file, 3000);
        shop.site.fails(4, "segment_damaged", &[&start[..], &to].concat());
        let databases =
            "select string_agg(datname, ',') from pg_database where datname like 'shop%'";
        assert_eq!(target.psql("postgres", databases), "", "{}", file.display());
        fs::write(&file, good).unwrap();
    }
    let _ = shop.site.json(0, &[&start[..], &to].concat());
}

#[test]
fn what_a_failed_restore_leaves_is_said() {
    let (shop, _, newer) = two();
    let file = newest_segments(&shop, &newer).pop().unwrap();
    flip(&file, 3000);
    // A database that was there before is not ours to drop.
    let target = Postgres::start();
    target.psql("postgres", &format!("create database {}", shop.db));
    let (host, port) = (target.socket_dir().display().to_string(), target.port().to_string());
    let start = ["restore", "shop", "--backup", &newer, "--to-host", &host, "--to-port", &port];
    let said = shop.site.fails(4, "segment_damaged", &start);
    assert!(said.contains("it existed before this run"), "{said}");
    assert!(said.contains("restored and proven, and kept: roles and tablespaces"), "{said}");
    // A file that is not whole does not stay in the way.
    let files = shop.site.path("again").display().to_string();
    let to_files = ["restore", "shop", "--backup", &newer, "--to-files", &files];
    let said = shop.site.fails(4, "segment_damaged", &to_files);
    assert!(said.contains("globals.sql"), "{said}");
    assert_eq!(shop.site.files("again"), [Path::new("globals.sql")]);
}

#[test]
fn a_database_that_is_still_being_created_when_the_restore_fails_does_not_stay() {
    let minio = Minio::start();
    minio.make_bucket("shop");
    let shop = crate::s3::shop(&minio);
    let newer = shop.site.backup();
    // Whoever reads this segment waits until the gate is opened, and then finds something else.
    let (key, port) = (format!("s/shop/b/{newer}/d0/000001.zst.age"), minio.port());
    crate::s3::overwrite(&minio, &format!("below/{key}"), b"ransom");
    let gate: Arc<(Mutex<bool>, Condvar)> = Arc::default();
    let guard = Arc::clone(&gate);
    let proxy = Scripted::start(move |heard| {
        if heard.head.contains(&key) {
            drop(guard.1.wait_while(guard.0.lock().unwrap(), |open| !*open).unwrap());
        }
        heard.forwarded(port)
    });
    let before = format!("http://127.0.0.1:{}", proxy.port());
    shop.site.replace(&minio.endpoint(), &before);
    let target = Postgres::start();
    let (host, port) = (target.socket_dir().display().to_string(), target.port().to_string());
    let mut somebody = Somebody::on(&target, "postgres");
    somebody.run("begin; lock table pg_catalog.pg_database in share mode");
    let restore = start(
        &shop.site,
        &[
            "restore",
            "shop",
            "--backup",
            &newer,
            "--database",
            &shop.db,
            "--to-host",
            &host,
            "--to-port",
            &port,
        ],
    );
    let creating = "select count(*) from pg_stat_activity where query like 'CREATE DATABASE%' \
                    and wait_event_type = 'Lock'";
    let others = "select count(*) from pg_stat_activity where application_name like 'drctl/%' \
                  and wait_event_type = 'Lock' and query not like 'CREATE DATABASE%'";
    until("the database to be created", || target.psql("postgres", creating) != "0");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    // Until it wants to drop what may come to be: by then nobody may be creating it any more.
    until("the database to be given up", || target.psql("postgres", others) != "0");
    let left = target.psql("postgres", creating);
    somebody.run("commit");
    ended(restore).failed(4, "segment_damaged");
    until("all sessions to end", || target.psql("postgres", creating) == "0");
    assert_eq!(left, "0", "somebody was creating it while it was dropped");
    let databases = "select count(*) from pg_database where datname like 'shop%'";
    assert_eq!(target.psql("postgres", databases), "0");
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_missing_segment_is_never_restored_around() {
    bad_segment(|files| fs::remove_file(&files[1]).unwrap());
    bad_segment(|files| fs::remove_file(files.last().unwrap()).unwrap());
}

#[test]
fn a_corrupted_segment_is_never_restored() {
    bad_segment(|files| flip(&files[2], 3000));
    bad_segment(|files| flip(&files[0], 0));
}

#[test]
fn a_truncated_segment_is_never_restored() {
    bad_segment(|files| {
        let bytes = fs::read(&files[9]).unwrap();
        fs::write(&files[9], &bytes[..bytes.len() - 1]).unwrap();
    });
    bad_segment(|files| fs::write(&files[9], b"").unwrap());
}

#[test]
fn a_segment_with_bytes_behind_it_is_never_restored() {
    bad_segment(|files| {
        fs::write(&files[3], [fs::read(&files[3]).unwrap(), vec![0]].concat()).unwrap()
    });
}

#[test]
fn swapped_segments_are_never_restored() {
    bad_segment(|files| {
        let (one, two) = (fs::read(&files[1]).unwrap(), fs::read(&files[2]).unwrap());
        fs::write(&files[1], two).unwrap();
        fs::write(&files[2], one).unwrap();
    });
}

#[test]
fn a_missing_or_altered_page_of_the_segment_list_is_never_restored_around() {
    for damage in [
        |page: &Path| fs::remove_file(page).unwrap(),
        |page: &Path| flip(page, 20),
        |page: &Path| fs::write(page, b"[]").unwrap(),
        |page: &Path| fs::write(page, [fs::read(page).unwrap(), vec![b' ']].concat()).unwrap(),
    ] {
        let (shop, older, newer) = two();
        let page = manifest_of(&shop, &newer).with_file_name("d0/p000000.json");
        damage(&page);
        let words = ["d0/p000000.json"];
        refused(&shop, &older, &newer, 4, "segment_damaged", &words);
    }
}

#[test]
fn a_manifest_that_was_altered_is_no_backup() {
    let (shop, older, newer) = two();
    let path = manifest_of(&shop, &newer);
    let text = fs::read_to_string(&path).unwrap();
    // One letter of the payload's base64.
    let at = text.find("\"payload\":\"").unwrap() + 400;
    let mut bytes = text.into_bytes();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    fs::write(&path, bytes).unwrap();
    refused(&shop, &older, &newer, 4, "untrusted", &["no trusted key signed it", "verifying_keys"]);
}

#[test]
fn a_manifest_that_nobody_signed_is_no_backup() {
    let (shop, older, newer) = two();
    let path = manifest_of(&shop, &newer);
    let mut envelope: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    envelope["signatures"] = serde_json::json!([]);
    fs::write(&path, envelope.to_string()).unwrap();
    refused(&shop, &older, &newer, 4, "malformed", &["manifest.json", "drctl list"]);
}

#[test]
fn a_manifest_that_a_stranger_signed_is_no_backup() {
    let (shop, older, newer) = two();
    sign_with(&shop, &newer, &SigningKey::generate(), |_| {});
    refused(&shop, &older, &newer, 4, "untrusted", &["manifest.json"]);
    // And the newest that can be trusted is chosen instead.
    let new = shop.beside(&["--latest"], &[]);
    assert_eq!(shop.server.psql(&new, "select count(*) from orders"), "20000");
    let check = shop.site.json(4, &["catalog", "check"]);
    assert_eq!(check["refused"][0]["backup"], newer.as_str(), "{check}");
}

#[test]
fn a_manifest_from_another_place_is_no_backup() {
    let (shop, older, newer) = two();
    fs::copy(manifest_of(&shop, &older), manifest_of(&shop, &newer)).unwrap();
    refused(&shop, &older, &newer, 4, "malformed", &["not to the place where it was found"]);
}

#[test]
fn a_manifest_of_a_later_format_is_left_to_a_later_drctl() {
    let (shop, older, newer) = two();
    let later = |manifest: &mut Manifest| {
        manifest.header.min_reader = 99;
        manifest.header.reader = "9.1.0".to_owned();
    };
    resign(&shop, &newer, later);
    let words = ["format 99", "install drctl 9.1.0 or newer"];
    refused(&shop, &older, &newer, 8, "format_newer", &words);
}

#[test]
fn a_manifest_that_contradicts_itself_is_no_backup() {
    type Change = fn(&mut Manifest);
    let changes: [Change; 3] = [
        |manifest| manifest.streams[1].tail.clear(),
        |manifest| manifest.streams[1].plain_bytes += 1,
        |manifest| manifest.children[0].status = 1,
    ];
    for change in changes {
        let (shop, older, newer) = two();
        resign(&shop, &newer, change);
        refused(&shop, &older, &newer, 4, "malformed", &["manifest.json"]);
    }
}

#[test]
fn a_signed_list_of_other_segments_gives_nothing_that_looks_whole() {
    // Signed by a key that is trusted, consistent in itself, and yet not what was dumped.
    let (shop, older, newer) = two();
    let swap = |list: &mut Vec<Segment>| {
        let (n, other) = (list[0].n, list[1].clone());
        list[0] = Segment { n, ..other };
    };
    resign(&shop, &newer, |manifest| swap(&mut manifest.streams[1].tail));
    let files = newest_segments(&shop, &newer);
    fs::copy(&files[9], &files[8]).unwrap();
    let new = name();
    let ran = shop.site.drctl(&shop.to_beside(&newer, &new));
    assert!(matches!(ran.code, Some(4 | 10)), "{ran:?}");
    assert!(!shop.has(&new));
    shop.still_restores(&older);
}

#[test]
fn a_manifest_without_end_is_refused_and_hides_no_other() {
    let (shop, older, newer) = two();
    let huge = fs::OpenOptions::new().write(true).open(manifest_of(&shop, &newer)).unwrap();
    huge.set_len(17 << 20).unwrap();
    let verified = shop.site.json(4, &["verify"]);
    assert_eq!(verified["backups"].as_array().unwrap().len(), 2, "{verified}");
    let new = shop.beside(&["--latest"], &[]);
    assert_eq!(shop.server.psql(&new, "select count(*) from orders"), "20000");
    shop.still_restores(&older);
    let _ = shop.site.json(3, &["catalog", "rebuild"]);
}

#[test]
fn a_bucket_of_another_format_or_of_nobody_is_left_alone() {
    let (shop, older, _) = two();
    let marker = shop.site.path("repository/drctl-repo.json");
    let good = fs::read_to_string(&marker).unwrap();
    let object: serde_json::Value = serde_json::from_str(&good).unwrap();
    let with = |key: &str, value: serde_json::Value| {
        let mut object = object.clone();
        object[key] = value;
        object.to_string()
    };
    let cases = [
        (with("min_reader", 2.into()), 8, "format_newer", "format 2"),
        (with("format", "restic".into()), 8, "not_a_repository", "`restic`"),
        ("{".to_owned(), 8, "marker_lost", "--restore-marker"),
        (String::new(), 8, "marker_lost", "--restore-marker"),
    ];
    for (text, exit, code, word) in cases {
        fs::write(&marker, text).unwrap();
        let before = shop.site.files("repository");
        let said = shop.site.fails(exit, code, &["backup", "shop"]);
        assert!(said.contains(word), "{said}");
        assert_eq!(shop.site.files("repository"), before);
        // Which repository it is stands in the configuration: nobody is locked out of it.
        let is_newer = code == "format_newer";
        let verified = shop.site.json(if is_newer { 3 } else { 4 }, &["verify"]);
        match is_newer {
            true => assert_eq!(verified["alarms"], serde_json::json!([]), "{verified}"),
            false => assert_eq!(verified["alarms"][0]["key"], "drctl-repo.json", "{verified}"),
        }
        let good = verified["backups"].as_array().unwrap().iter().all(|one| one["good"] == true);
        assert!(good, "{verified}");
        let new = shop.beside(&["--backup", &older], &[]);
        assert_eq!(shop.server.psql(&new, "select count(*) from orders"), "20000");
    }
    fs::remove_file(&marker).unwrap();
    let said = shop.site.fails(8, "marker_lost", &["backup", "shop"]);
    assert!(said.contains("--restore-marker"), "{said}");
    // Another repository is not mixed with this one, with its identifier pinned or without.
    fs::write(&marker, with("repository", "0123456789abcdef0123456789abcdef".into())).unwrap();
    for arguments in [&["backup", "shop"][..], &["verify"], &["catalog", "check"]] {
        let said = shop.site.fails(8, "other_repository", arguments);
        assert!(said.contains("0123456789abcdef0123456789abcdef"), "{said}");
    }
    let config = fs::read_to_string(shop.site.config()).unwrap();
    let pin = config.lines().find(|line| line.starts_with("id = ")).unwrap();
    shop.site.replace(&format!("{pin}\n"), "");
    let ran = shop.site.drctl(&["--json", "backup", "shop"]);
    ran.failed(ran.code.unwrap(), "catalog_other_repository");
    fs::write(&marker, good).unwrap();
    shop.still_restores(&older);
}
