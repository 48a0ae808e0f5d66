//! The same in a bucket of a real S3 server, with versions, and with the server going away.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ObjectLockRetention, ObjectLockRetentionMode};
use drctl_model::{Drill, DrillId, DrillOutcome, Header, Lsn, Manifest, Timeline};
use drctl_store::{SigningKey, encode_drill, encode_manifest, layout};
use drctl_tests::damage::unproven_manifest;
use drctl_tests::servers::hiding::Hiding;
use drctl_tests::servers::minio::Minio;
use drctl_tests::servers::scripted::{Reply, Scripted};
use serde_json::{Value, json};

use crate::cancel::{ended, start};
use crate::catalog::sqlite;
use crate::common::{SMALL, Shop, server};
use drctl_tests::fake::Tools;

/// Sets a shop up with a bucket of `minio` at `url`, without the lines for small segments.
pub(crate) fn init(shop: &Shop, minio: &Minio, url: &str) {
    let database = ["--database", shop.db.as_str()];
    shop.site.init_s3(&shop.server, (minio, &minio.endpoint()), url, &database);
}

/// A shop in a bucket of its own.
pub(crate) fn shop(minio: &Minio) -> Shop {
    let (shop, _) = Shop::bare();
    init(&shop, minio, "s3://shop/below");
    shop.site.append(SMALL);
    shop
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

pub(crate) fn overwrite(minio: &Minio, key: &str, bytes: &[u8]) {
    let put = minio.client().put_object().bucket("shop").key(key);
    wait(put.body(ByteStream::from(bytes.to_vec())).send()).unwrap();
}

fn read(minio: &Minio, key: &str) -> Vec<u8> {
    let got = minio.client().get_object().bucket("shop").key(key);
    wait(async { got.send().await.unwrap().body.collect().await.unwrap().to_vec() })
}

/// A shop in a bucket that keeps versions and lists as AWS does.
fn shop_behind_a_gate(minio: &Minio) -> (Shop, Hiding) {
    minio.make_bucket("shop");
    minio.set_versioning("shop");
    let (shop, gate) = (shop(minio), Hiding::before(minio, "shop"));
    shop.site.replace(&minio.endpoint(), &gate.endpoint());
    (shop, gate)
}

fn codes(object: &Value) -> Vec<&str> {
    let alarms = object["alarms"].as_array().unwrap();
    let mut codes: Vec<&str> = alarms.iter().filter_map(|one| one["code"].as_str()).collect();
    codes.sort_unstable();
    codes
}

fn delete(minio: &Minio, key: &str) {
    wait(minio.client().delete_object().bucket("shop").key(key).send()).unwrap();
}

fn keys(minio: &Minio) -> Vec<String> {
    let listed = wait(minio.client().list_objects_v2().bucket("shop").send()).unwrap();
    listed.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect()
}

/// The keys of all versions and delete markers.
pub(crate) fn versions(minio: &Minio) -> Vec<String> {
    let listed = wait(minio.client().list_object_versions().bucket("shop").send()).unwrap();
    let markers = listed.delete_markers().iter().filter_map(|one| one.key());
    let all = listed.versions().iter().filter_map(|one| one.key()).chain(markers);
    all.map(str::to_owned).collect()
}

/// Locks what lies under a key, so that nobody can remove it before tomorrow.
pub(crate) fn lock_for_a_day(minio: &Minio, key: &str) {
    let until = SystemTime::now() + Duration::from_secs(86_400);
    let retention = ObjectLockRetention::builder()
        .mode(ObjectLockRetentionMode::Compliance)
        .retain_until_date(until.into())
        .build();
    let put = minio.client().put_object_retention().bucket("shop").key(key);
    wait(put.retention(retention).send()).unwrap();
}

#[test]
fn what_somebody_deletes_or_overwrites_is_had_from_older_versions_and_reported() {
    let minio = Minio::start();
    minio.make_bucket("shop");
    minio.set_versioning("shop");
    let shop = shop(&minio);
    let id = shop.site.backup();
    let rows = shop.site.rows();
    shop.still_restores(&id);
    let _ = shop.site.json(0, &["catalog", "check"]);

    let base = format!("below/s/shop/b/{id}");
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    let manifest = read(&minio, &format!("{base}/manifest.json"));
    overwrite(&minio, &format!("{base}/manifest.json"), b"garbage");
    // Whoever looks at the exit code alone hears of it.
    for arguments in [&["status", "--check"][..], &["--quiet", "status", "--check"]] {
        let told = shop.site.drctl(arguments).ended(3).out;
        assert!(told.contains("ALARM: s/shop/b/") && told.contains("overwrote it"), "{told}");
    }
    let status = shop.site.status();
    assert_eq!(status["health"], "attention", "{status}");
    assert!(status["findings"].to_string().contains("ALARM: s/shop/b/"), "{status}");
    assert_eq!(status["alarms"][0]["code"], "object_hidden", "{status}");
    // An alarm ends when what counts is the newest version again.
    overwrite(&minio, &format!("{base}/manifest.json"), &manifest);
    assert_eq!(codes(&shop.site.status()), [""; 0]);
    delete(&minio, &format!("{base}/manifest.json"));
    overwrite(&minio, &format!("{base}/d0/000001.zst.age"), b"ransom");
    delete(&minio, &format!("{base}/d0/000002.zst.age"));
    overwrite(&minio, &format!("{base}/d0/p000000.json"), b"[]");
    let check = shop.site.json(3, &["catalog", "check"]);
    assert_eq!(check["equal"], true, "the backup still counts: {check}");
    assert_eq!(check["deleted"][0]["backup"], id.as_str(), "{check}");
    let new = shop.beside(&["--latest"], &[]);
    let count = "select count(*) from orders";
    assert_eq!(shop.server.psql(&new, count), "20000");

    // A manifest that was overwritten instead of deleted.
    overwrite(&minio, &format!("{base}/manifest.json"), b"{}");
    delete(&minio, &format!("{base}/d0/p000000.json"));
    let new = shop.beside(&["--backup", &id], &["--jobs", "2"]);
    assert_eq!(shop.server.psql(&new, count), "20000");
    fs::remove_file(shop.site.path("state/catalog.db")).unwrap();
    let _ = shop.site.drctl(&["catalog", "rebuild"]);
    assert_eq!(shop.site.rows(), rows);
}

#[test]
fn everything_deleted_from_a_bucket_with_versions_can_still_be_restored() {
    let minio = Minio::start();
    let (shop, _gate) = shop_behind_a_gate(&minio);
    let id = shop.site.backup();
    for key in keys(&minio).iter().filter(|key| key.contains("/s/shop/")) {
        delete(&minio, key);
    }
    let check = shop.site.json(3, &["catalog", "check"]);
    assert_eq!(check["deleted"][0]["backup"], id.as_str(), "{check}");
    for which in [&["--latest"][..], &["--backup", &id]] {
        let new = shop.beside(which, &[]);
        assert_eq!(shop.server.psql(&new, "select count(*) from orders"), "20000");
    }
}

/// Removes every version of what lies under a key, and its delete markers.
fn purge(minio: &Minio, key: &str) {
    let client = minio.client();
    let listed = wait(client.list_object_versions().bucket("shop").prefix(key).send()).unwrap();
    let versions = listed.versions().iter().filter_map(|one| one.version_id());
    let markers = listed.delete_markers().iter().filter_map(|one| one.version_id());
    for version in versions.chain(markers) {
        let delete = client.delete_object().bucket("shop").key(key).version_id(version);
        wait(delete.send()).unwrap();
    }
}

#[test]
fn what_a_stranger_put_and_somebody_removed_is_no_loss() {
    let minio = Minio::start();
    minio.make_bucket("shop");
    minio.set_versioning("shop");
    let shop = shop(&minio);
    let id = shop.site.backup();
    let other = "20260301T000000Z-0000000000000001";
    let lineage = "000000000000002a-00000001";
    let audit = format!("below/a/{:032x}/000000000001.json", 7);
    let junk = [
        "k/000007.json".to_owned(),
        format!("d/{other}.json"),
        format!("a/{id}.json"),
        format!("x/{other}.json"),
        format!("b/{other}/manifest.json"),
        format!("l/{lineage}/{:016x}-{:016x}.log", 0, 1 << 24),
        format!("l/{lineage}/{:016x}-{:016x}.index", 0, 1 << 24),
    ];
    let mut junk = junk.map(|name| format!("below/s/shop/{name}")).to_vec();
    junk.push(audit);
    for key in &junk {
        overwrite(&minio, key, b"junk");
    }
    let _ = shop.site.drctl(&["catalog", "check"]).ended(3);
    for key in &junk {
        delete(&minio, key);
    }
    let check = shop.site.json(0, &["catalog", "check"]);
    assert!(codes(&check).is_empty() && check["deleted"] == json!([]), "{check}");
    let _ = shop.site.json(0, &["verify"]);
    // What counted once is an alarm, and what this host has read is missed.
    let _ = shop.site.json(0, &["pin", &id, "--reason", "it stays"]);
    let pin = "below/s/shop/k/000001.json";
    delete(&minio, pin);
    assert_eq!(codes(&shop.site.json(3, &["catalog", "check"])), ["object_deleted"]);
    crate::prune::blocked(&shop, "somebody meddled with s/shop/k/000001.json");
    purge(&minio, pin);
    let check = shop.site.json(4, &["catalog", "check"]);
    assert!(check["lost"].to_string().contains("k/000001.json"), "{check}");
    let _ = shop.site.json(0, &["unfreeze", "shop", "--without", "1", "--reason", "explained"]);
    let _ = shop.site.json(0, &["catalog", "check"]);
    let drill = drill(&minio, &id);
    let key = format!("below/{}", layout::drill(&drill.source, &drill.drill));
    overwrite(&minio, &key, &encode_drill(&drill, &shop.site.signing_key()).unwrap());
    let _ = shop.site.json(0, &["list"]);
    delete(&minio, &key);
    assert_eq!(codes(&shop.site.json(3, &["catalog", "check"])), ["object_deleted"]);
    purge(&minio, &key);
    overwrite(&minio, &key, b"junk");
    delete(&minio, &key);
    assert_eq!(codes(&shop.site.json(3, &["catalog", "check"])), ["object_lost"]);
}

#[test]
fn what_no_trusted_key_signed_is_a_strangers_where_it_can_be_no_damage() {
    let minio = Minio::start();
    minio.make_bucket_with_lock("shop");
    let shop = shop(&minio);
    let id = shop.site.backup();
    let _ = shop.site.json(0, &["verify", "--data"]);
    let other = "20260301T000000Z-0000000000000001";
    overwrite(&minio, &format!("below/s/shop/b/{other}/manifest.json"), b"junk");
    for words in [&["verify"][..], &["verify", "shop", "--data"]] {
        let verified = shop.site.json(3, words);
        let told = verified["strangers"].to_string();
        assert!(
            told.contains(other) && told.contains("no data of a backup lies with it"),
            "{told}"
        );
        assert_eq!(verified["backups"].as_array().unwrap().len(), 1, "{verified}");
    }
    // That no version of it was signed proves nothing: the one that was may be gone.
    let lineage = "000000000000002a-00000001";
    let damaged_or_strange = [
        format!("d/{other}.json"),
        format!("a/{id}.json"),
        format!("x/{other}.json"),
        format!("l/{lineage}/{:016x}-{:016x}.log", 0, 1 << 24),
        format!("l/{lineage}/{:016x}-{:016x}.index", 0, 1 << 24),
    ];
    for name in &damaged_or_strange {
        let key = format!("below/s/shop/{name}");
        overwrite(&minio, &key, b"junk");
        let _ = shop.site.json(4, &["verify"]);
        purge(&minio, &key);
        let _ = shop.site.json(3, &["verify"]);
    }
    assert!(shop.site.drctl(&["verify"]).ended(3).out.contains("STRANGE: "));
    // What a trusted key signed once, or this host knew, is no stranger's.
    let manifest = read(&minio, &format!("below/s/shop/b/{id}/manifest.json"));
    let elsewhere = "below/s/shop/b/20260302T000000Z-0000000000000001/manifest.json";
    overwrite(&minio, elsewhere, &manifest);
    let verified = shop.site.json(4, &["verify"]);
    assert_eq!(verified["backups"].as_array().unwrap().len(), 2, "{verified}");
    purge(&minio, elsewhere);
    let _ = shop.site.json(3, &["verify"]);
    let manifest = format!("below/s/shop/b/{id}/manifest.json");
    purge(&minio, &manifest);
    overwrite(&minio, &manifest, b"junk");
    let verified = shop.site.json(4, &["verify"]);
    assert_eq!(verified["backups"][0]["backup"], id.as_str(), "{verified}");
}

/// A drill that has proven a backup.
fn drill(minio: &Minio, id: &str) -> Drill {
    let marker: Value = serde_json::from_slice(&read(minio, "below/drctl-repo.json")).unwrap();
    let at = jiff::Timestamp::now();
    Drill {
        header: Header::new([]),
        repository: marker["repository"].as_str().unwrap().parse().unwrap(),
        source: "shop".parse().unwrap(),
        drill: DrillId::new(at, 7),
        host: "db1".to_owned(),
        started: at,
        took_ms: 5400,
        system_id: Some(42),
        timeline: Some(Timeline::FIRST),
        base: Some(id.parse().unwrap()),
        newest: None,
        target: "the end of the WAL".to_owned(),
        outcome: DrillOutcome::Proven {
            replayed: Lsn(1),
            shows: None,
            counted: vec![],
            left_out: Vec::new(),
            equal: None,
        },
        run: None,
    }
}

#[test]
fn what_is_signed_anew_by_the_right_key_hides_nothing_and_is_an_alarm() {
    let minio = Minio::start();
    let (shop, _gate) = shop_behind_a_gate(&minio);
    let id = shop.site.backup();
    let key = fs::read_to_string(shop.site.path("etc/keys/signing.key")).unwrap();
    let key: SigningKey = key.trim().parse().unwrap();
    let base = format!("below/s/shop/b/{id}");
    let place = format!("{base}/manifest.json");
    let first = unproven_manifest(&read(&minio, &place)).unwrap();
    let whole = || {
        for which in [&["--latest"][..], &["--backup", &id]] {
            let new = shop.beside(which, &[]);
            assert_eq!(shop.server.psql(&new, "select count(*) from orders"), "20000");
            shop.server.psql("postgres", &format!("drop database {new}"));
        }
    };
    // One that restores nothing is no manifest; one that has other streams is one.
    let none = Manifest { streams: Vec::new(), ..first.clone() };
    let mut other = first.clone();
    other.streams.pop();
    for (manifest, code) in [(none, "object_hidden"), (other, "object_disputed")] {
        overwrite(&minio, &place, &encode_manifest(&manifest, &key));
        whole();
        let verified = shop.site.json(4, &["verify"]);
        assert!(codes(&verified).contains(&code), "{verified}");
        let listed = shop.site.drctl(&["--json", "list"]).json();
        assert_eq!(listed["backups"][0]["bytes"], shop.site.json(0, &["show", &id])["bytes"]);
    }
    // A segment and a page of the list that are as well sealed and as well made, and other ones.
    overwrite(&minio, &place, &encode_manifest(&first, &key));
    let other = read(&minio, &format!("{base}/d0/000002.zst.age"));
    overwrite(&minio, &format!("{base}/d0/000001.zst.age"), &other);
    let page = format!("{base}/d0/p000000.json");
    let mut listed: Vec<Value> = serde_json::from_slice(&read(&minio, &page)).unwrap();
    listed.reverse();
    overwrite(&minio, &page, &serde_json::to_vec(&listed).unwrap());
    whole();
    let _ = shop.site.json(4, &["verify", "--data"]);
}

#[test]
fn a_manifest_without_streams_never_restores() {
    let shop = Shop::open();
    let id = shop.site.backup();
    crate::common::resign(&shop, &id, |manifest| manifest.streams.clear());
    let _ = shop.site.json(4, &["verify"]);
    for which in [&["--latest"][..], &["--backup", &id]] {
        let files = shop.site.path("files").display().to_string();
        let ran = shop.site.drctl(&[&["restore", "shop", "--to-files", &files], which].concat());
        assert!(matches!(ran.code, Some(4 | 5)), "{ran:?}");
        assert!(!shop.site.path("files").exists());
    }
}

#[test]
fn a_bucket_that_cannot_be_reached_is_a_clear_error_and_the_next_run_succeeds() {
    let mut minio = Minio::start();
    minio.make_bucket("shop");
    let (shop, tools) = (shop(&minio), Tools::of(&server()));
    shop.site.source(&tools.line());
    let good = shop.site.backup();

    // In the middle of a backup.
    tools.pause("pg_dump", 300_000);
    let backup = start(&shop.site, &["backup", "shop"]);
    tools.await_pause();
    minio.kill();
    tools.go_on();
    let said = ended(backup).failed(8, "store_failed");
    assert!(said.contains("drctl doctor"), "{said}");
    assert_eq!(shop.site.status()["last_job"]["state"], "failed");
    assert_eq!(shop.sessions(), 0);
    tools.honest("pg_dump");

    // Before it. Nothing about that says that a backup is damaged.
    let port = minio.port().to_string();
    for arguments in [
        &["backup", "shop"][..],
        &["verify", "--data"],
        &["restore", "shop", "--latest", "--to-files", "x"],
    ] {
        let said = shop.site.fails(8, "store_failed", arguments);
        assert!(said.contains(&port) && said.contains("drctl doctor"), "{said}");
    }
    minio.start_again();
    assert_eq!(shop.site.rows().len(), 1);
    let next = shop.site.backup();
    shop.still_restores(&good);
    shop.still_restores(&next);
    assert_eq!(shop.site.status()["health"], "good");
}

#[test]
fn a_bucket_that_goes_away_while_it_is_read_does_not_make_a_backup_damaged() {
    let mut minio = Minio::start();
    minio.make_bucket("shop");
    let (shop, tools) = (shop(&minio), Tools::of(&server()));
    shop.site.source(&tools.line());
    shop.sql(
        "insert into orders select g, repeat(md5(g::text), 8) from generate_series(20001, 40000) g",
    );
    let good = shop.site.backup();
    // The tool stops reading: what is in flight waits, the rest was not asked for yet.
    tools.set(
        "pg_restore",
        "{ head -c 10; tell mid; cat \"$HERE/gate\" >/dev/null; cat; } | \"$REAL\" \"$@\"",
    );
    let gate = tools.path().join("gate");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let new = crate::common::name();
    let restore = start(&shop.site, &shop.to_beside(&good, &new));
    tools.await_pause();
    minio.kill();
    tools.go_on();
    let said = ended(restore).failed(8, "store_failed");
    assert!(!said.contains("not what the manifest says"), "{said}");
    assert!(!shop.has(&new));
    minio.start_again();
    let _ = shop.site.json(0, &["verify", &good, "--data"]);
}

#[test]
fn wrong_credentials_and_a_missing_bucket_are_told_apart() {
    let minio = Minio::start();
    minio.make_bucket("shop");
    let shop = shop(&minio);
    let good = shop.site.backup();
    fs::write(shop.site.path("s3.secret"), "not-the-right-secret").unwrap();
    let said = shop.site.fails(8, "store_denied", &["backup", "shop"]);
    assert!(said.contains("credentials") && !said.contains("not-the-right-secret"), "{said}");
    fs::write(shop.site.path("s3.secret"), minio.secret_key()).unwrap();
    shop.site.replace("s3://shop/below", "s3://shop/elsewhere");
    let said = shop.site.fails(8, "not_a_repository", &["backup", "shop"]);
    assert!(said.contains("s3://shop/elsewhere"), "{said}");
    shop.site.replace("s3://shop/elsewhere", "s3://nowhere/below");
    let ran = shop.site.drctl(&["--json", "backup", "shop"]);
    assert_eq!(ran.code, Some(8), "{ran:?}");
    shop.site.replace("s3://nowhere/below", "s3://shop/below");
    shop.still_restores(&good);
}

#[test]
fn a_kit_is_enough_to_join_and_to_restore() {
    let minio = Minio::start();
    minio.make_bucket("shop");
    let shop = shop(&minio);
    let id = shop.site.backup();
    let kit = shop.site.path("kit.txt").display().to_string();
    let text = fs::read_to_string(&kit).unwrap();
    assert!(text.contains(&minio.endpoint()) && !text.contains(minio.secret_key()), "{text}");
    let path = |name: &str| shop.site.path(name).display().to_string();
    let (config, state, run) = (path("second/drctl.toml"), path("state2"), path("run2"));
    let second = ["--config", &config];
    let join = ["init", "--join", "--kit", &kit, "--state-dir", &state, "--runtime-dir", &run];
    let told = shop.site.drctl(&[&second[..], &join].concat()).ended(0);
    assert!(told.out.contains("AGE-SECRET-KEY-"), "a kit of its own: {}", told.out);
    assert_eq!(fs::read_to_string(&kit).unwrap(), text, "the sheet is left as it was");
    let listed = shop.site.json(0, &[&second[..], &["list"]].concat());
    assert_eq!(listed["backups"][0]["backup"], id.as_str(), "{listed}");
    // Whoever typed it from paper left most of it out.
    let from = text.find("[repository]").unwrap();
    let until = text.find("# end of the configuration").unwrap();
    let last = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).unwrap();
    let typed = path("typed.txt");
    fs::write(&typed, format!("drctl recovery kit\n{}\n{last}\n", &text[from..until])).unwrap();
    let files = path("files");
    let restore =
        ["restore", "shop", "--latest", "--to-files", &files, "--identity", typed.as_str()];
    let _ = shop.site.json(0, &[&second[..], &restore].concat());
    let third = path("third/drctl.toml");
    let (state, run) = (path("state3"), path("run3"));
    let join = ["init", "--join", "--kit", &typed, "--state-dir", &state, "--runtime-dir", &run];
    let _ = shop.site.drctl(&[&["--config", &third][..], &join].concat()).ended(0);
    // The sheet says which repository it is: another one is not joined.
    let other = fs::read_to_string(&typed).unwrap();
    let pin = other.lines().find(|line| line.starts_with("id = ")).unwrap();
    fs::write(&typed, other.replace(pin, &format!("id = \"{}\"", "0".repeat(32)))).unwrap();
    let fourth = path("fourth/drctl.toml");
    let said =
        shop.site.fails(8, "other_repository", &[&["--config", &fourth][..], &join].concat());
    assert!(said.contains("0000"), "{said}");
}

#[test]
fn what_a_store_says_is_told_in_plain_words() {
    let minio = Minio::start();
    minio.make_bucket("shop");
    let shop = shop(&minio);
    let debug =
        ["{ ", "<?xml", "Generic ", "max_retries", "os error", "service error", "unhandled"];
    let plain = |said: &str| debug.iter().all(|words| !said.contains(words));
    let url = "s3://shop/below";
    shop.site.replace(url, "s3://nowhere/below");
    let said = shop.site.fails(8, "store_no_bucket", &["verify"]);
    let named = format!("there is no such bucket: s3://nowhere/below at {}", minio.endpoint());
    assert!(said.contains(&named) && plain(&said), "{said}");
    shop.site.replace("s3://nowhere/below", url);
    fs::write(shop.site.path("s3.secret"), "not the secret").unwrap();
    let said = shop.site.fails(8, "store_denied", &["verify"]);
    assert!(said.contains("SignatureDoesNotMatch (") && plain(&said), "{said}");
    shop.site.replace(&minio.endpoint(), "http://127.0.0.1:1");
    let said = shop.site.fails(8, "store_failed", &["verify"]);
    assert!(said.contains("no connection: Connection refused") && plain(&said), "{said}");
    // Nor in what is said while it is tried again.
    let ran = shop.site.drctl(&["verify"]);
    assert!(ran.err.contains("trying again") && plain(&ran.err), "{}", ran.err);
    assert_eq!(ran.err.matches("trying again").count(), 1, "{}", ran.err);
    assert!(!ran.err.contains('\u{1b}'), "no colours where nobody sees them");
}

#[test]
fn a_manifest_whose_answer_was_lost_counts_whatever_the_catalog_says() {
    let minio = Minio::start();
    minio.make_bucket("shop");
    let shop = shop(&minio);
    let _ = shop.site.backup();
    let (catalog, port) = (shop.site.path("state/catalog.db"), minio.port());
    let other = "20260301T000000Z-0000000000000001";
    let log =
        format!("insert into jobs (kind, source, backup) values ('backup', 'shop', '{other}')");
    let (broken, denied) = (catalog.clone(), AtomicUsize::new(0));
    // It is stored: whoever writes it, and looks at it at once, hears that it may not. Meanwhile
    // the log of jobs becomes one that nobody can read.
    let proxy = Scripted::start(move |heard| {
        let is = |verb: &str| heard.head.starts_with(verb) && heard.head.contains("/manifest.json");
        let answer = heard.forwarded(port);
        let deny = match denied.load(Ordering::SeqCst) {
            0 if is("PUT") => {
                sqlite(&broken, &log);
                true
            }
            1 => is("GET"),
            _ => false,
        };
        if !deny {
            return answer;
        }
        denied.fetch_add(1, Ordering::SeqCst);
        let body = "<Error><Code>AccessDenied</Code><Message>scripted</Message></Error>";
        Reply::new("403 Forbidden", "content-type: application/xml\r\n", body)
    });
    let before = format!("http://127.0.0.1:{}", proxy.port());
    shop.site.replace(&minio.endpoint(), &before);
    let ran = shop.site.drctl(&["--json", "backup", "shop"]).ended(0);
    assert!(ran.err.contains("committed despite an error"), "{}", ran.err);
    let id = ran.json()["backup"]["backup"].as_str().unwrap().to_owned();
    assert_eq!(shop.site.rows()[0]["backup"], id.as_str());
    fs::remove_file(&catalog).unwrap();
    let _ = shop.site.drctl(&["catalog", "rebuild"]).ended(0);
    assert_eq!(shop.site.rows()[0]["backup"], id.as_str());
    shop.still_restores(&id);
}
