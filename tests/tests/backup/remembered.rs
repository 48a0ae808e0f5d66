//! What was found by looking, and how attempts went, is known afterwards and obeyed.

use std::fs;
use std::path::PathBuf;

use drctl_catalog::Catalog;
use drctl_store::{SigningKey, Trust, decode_manifest, encode_manifest};
use drctl_tests::servers::scripted::Scripted;
use drctl_tests::site::until;

use crate::common::Shop;
use crate::jobs::bucket_at;

/// Flips a bit of a backup's first segment; again it is as it was.
fn flip(shop: &Shop, id: &str) {
    let path = shop.site.path("repository/s/shop/b").join(id).join("d0/000000.zst.age");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
}

fn latest(shop: &Shop) -> serde_json::Value {
    shop.site.json(0, &["restore", "shop", "--latest", "--to-files", "x", "--plan"])
}

#[test]
fn a_backup_whose_key_is_not_believed_any_more_is_not_lost() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let _ = shop.site.json(0, &["list"]);
    let config = fs::read_to_string(shop.site.config()).unwrap();
    let only = "sources = [\"shop\"]";
    shop.site.replace(only, &format!("{only}, roles = [\"prune\"]"));
    let words = "NOT TRUSTED HERE: signed by ";
    let told = shop.site.drctl(&["list"]).ended(3).out;
    assert!(told.contains(words) && told.contains("Nothing is lost: add shop to"), "{told}");
    assert!(told.contains("NOT TRUSTED\n") && !told.contains("LOST"), "{told}");
    let row = &shop.site.json(3, &["list"])["backups"][0];
    assert_eq!((&row["backup"], &row["good"]), (&id.as_str().into(), &false.into()), "{row}");
    let status = shop.site.status();
    assert_eq!(status["health"], "breached", "{status}");
    let codes = status["findings"].to_string();
    assert!(codes.contains("backup_refused") && !codes.contains("object_gone"), "{status}");
    let told = shop.site.drctl(&["verify"]).ended(4).out;
    assert!(told.contains("NOT TRUSTED") && told.contains(words), "{told}");
    assert!(!told.contains("LOST") && !told.contains("BAD"), "{told}");
    let told = shop.site.drctl(&["catalog", "check"]).ended(4).out;
    assert!(told.contains(words) && !told.contains("LOST"), "{told}");
    // What somebody put in its place is another thing.
    let place = shop.site.path("repository/s/shop/b").join(&id).join("manifest.json");
    let good = fs::read(&place).unwrap();
    fs::write(&place, &good[1..]).unwrap();
    assert!(shop.site.drctl(&["list"]).ended(3).out.contains("LOST: "));
    fs::write(&place, good).unwrap();
    fs::write(shop.site.config(), config).unwrap();
    assert_eq!(shop.site.rows()[0]["good"], true);
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    let _ = shop.site.json(0, &["verify"]);
}

#[test]
fn what_verify_found_bad_is_remembered_and_obeyed() {
    let shop = Shop::open();
    let (old, new) = (shop.site.backup(), shop.site.backup());
    assert_eq!(shop.site.rows()[0]["verified"], serde_json::Value::Null);
    flip(&shop, &new);
    // A glance does not see it, and claims no more.
    let _ = shop.site.json(0, &["verify"]);
    let row = &shop.site.rows()[0];
    assert_eq!((&row["verified_as"], &row["good"]), (&"structure".into(), &true.into()), "{row}");
    let _ = shop.site.json(4, &["verify", "--data"]);
    let found_bad = || {
        let row = shop.site.rows()[0].clone();
        assert_eq!((&row["good"], &row["backup"]), (&false.into(), &new.as_str().into()), "{row}");
        assert!(row["bad"][0].as_str().unwrap().contains("is not what the manifest says"), "{row}");
        let status = shop.site.status();
        assert_eq!(status["newest_good"]["backup"], old.as_str(), "{status}");
        assert!(status["advice"].as_str().unwrap().contains(&new), "{status}");
        let _ = shop.site.drctl(&["status", "--check"]).ended(3);
        let _ = shop.site.drctl(&["catalog", "check"]).ended(4);
        let plan = latest(&shop);
        assert_eq!(plan["backup"], old.as_str(), "{plan}");
        assert_eq!(plan["passed_over"][0]["backup"], new.as_str(), "{plan}");
    };
    assert!(shop.site.finds("damaged", &new), "kept as soon as it is found");
    found_bad();
    let told = shop.site.drctl(&["list"]).ended(0).out;
    assert!(told.contains("BAD") && told.contains("plain, "), "{told}");
    let told = shop.site.drctl(&["show", &new]).ended(0).out;
    assert!(told.contains("state       BAD"), "{told}");
    // Neither a later glance nor a new catalog forgets it.
    let glance = shop.site.json(4, &["verify"]);
    let row = &glance["backups"][0];
    assert_eq!((&row["backup"], &row["good"]), (&new.as_str().into(), &false.into()), "{glance}");
    assert_eq!(row["problems"], serde_json::json!([]), "{glance}");
    assert!(row["bad"][0].as_str().unwrap().contains("is not what the manifest says"), "{glance}");
    assert_eq!(glance["backups"][1]["good"], true, "{glance}");
    let told = shop.site.drctl(&["verify"]).ended(4).out;
    assert!(told.contains(&format!("{new}: BAD (data: found ")), "{told}");
    assert!(told.contains("this run looked at signature, and that each object is there"), "{told}");
    // Whoever wants to keep it is told.
    let pinned = shop.site.json(3, &["pin", &new, "--reason", "it stays"]);
    assert!(pinned["doubt"].as_str().unwrap().contains("does not count"), "{pinned}");
    let told = shop.site.drctl(&["hold", &new, "--reason", "case 4711"]).ended(3).out;
    assert!(told.contains("WARNING: it stays, but does not count: "), "{told}");
    let pinned = shop.site.json(0, &["pin", &old, "--reason", "it stays"]);
    assert_eq!(pinned["doubt"], serde_json::Value::Null, "{pinned}");
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    found_bad();
    flip(&shop, &new);
    assert!(shop.site.finds("damaged", &new));
    let _ = shop.site.json(0, &["verify", "--data"]);
    assert!(!shop.site.finds("damaged", &new), "a look as close has cleared it");
    assert_eq!(latest(&shop)["backup"], new.as_str());
    assert_eq!(shop.site.rows()[0]["good"], true);
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
}

#[test]
fn another_identity_says_nothing_against_a_backup() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let _ = shop.site.drctl(&["keys", "new-identity", "other.txt"]).ended(0);
    let _ = shop.site.json(4, &["verify", &id, "--data", "--identity", "other.txt"]);
    let row = &shop.site.rows()[0];
    assert_eq!((&row["good"], &row["verified_as"]), (&true.into(), &"stored".into()), "{row}");
}

#[test]
fn what_was_not_read_is_not_claimed() {
    let shop = Shop::open();
    let _ = shop.site.backup();
    let told = shop.site.drctl(&["verify"]).ended(0).out;
    let words = "signature, and that each object is there with its signed length";
    assert!(told.contains(words) && !told.contains("byte"), "{told}");
    let told = shop.site.drctl(&["verify", "--data"]).ended(0).out;
    assert!(told.contains("every stored and every decrypted byte"), "{told}");
}

/// What `status` says is amiss.
fn findings(shop: &Shop) -> String {
    shop.site.status()["findings"].to_string()
}

#[test]
fn every_attempt_leaves_a_job() {
    let shop = Shop::open();
    let key = shop.site.path("etc/keys/signing.key");
    let away = |path: &PathBuf| {
        let aside = path.with_extension("aside");
        fs::rename(path, &aside).unwrap();
        aside
    };
    // The first of all: there is no catalog yet.
    let aside = away(&key);
    let _ = shop.site.drctl(&["backup", "shop"]).ended(9);
    assert!(findings(&shop).contains("the last backup failed: keys."), "{}", findings(&shop));
    fs::rename(aside, &key).unwrap();
    let id = shop.site.backup();
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    let repository = shop.site.path("repository");
    let aside = away(&repository);
    let _ = shop.site.drctl(&["backup", "shop"]).ended(8);
    let told = shop.site.drctl(&["status", "--check"]).ended(3).out;
    assert!(told.contains("the bucket cannot be read"), "{told}");
    assert!(told.contains("the last backup failed: "), "{told}");
    let job = shop.site.status()["last_job"].clone();
    assert_eq!((&job["kind"], &job["state"]), (&"backup".into(), &"failed".into()), "{job}");
    assert!(job["code"].is_string() && job["message"].is_string(), "{job}");
    fs::rename(aside, &repository).unwrap();
    let told = shop.site.drctl(&["status", "--check"]).ended(3).out;
    assert!(!told.contains("cannot be read"), "{told}");
    assert!(
        told.contains("the last backup failed: ") && told.contains("drctl backup shop"),
        "{told}"
    );
    assert_eq!(shop.site.rows()[0]["backup"], id.as_str());
    // A command line that is wrong is no attempt.
    let _ = shop.site.backup();
    let _ = shop.site.drctl(&["backup", "shop", "--full"]).ended(2);
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
}

#[test]
fn a_job_whose_process_is_dead_is_told() {
    let shop = Shop::open();
    let _ = shop.site.backup();
    let mut command = shop.site.command(&["backup", "shop"]);
    let output = command.env("DRCTL_CRASH_AT", "backup-first-segment").output().unwrap();
    assert_eq!(output.status.code(), None);
    let status = shop.site.status();
    assert_eq!((&status["running"], &status["health"]), (&false.into(), &"attention".into()));
    assert!(findings(&shop).contains("has died and left no backup"), "{}", findings(&shop));
    let _ = shop.site.backup();
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
}

#[test]
fn a_dead_attempt_that_the_bucket_holds_counts() {
    let shop = Shop::open();
    let first = shop.site.backup();
    let mut command = shop.site.command(&["backup", "shop"]);
    let output = command.env("DRCTL_CRASH_AT", "backup-manifest-put").output().unwrap();
    assert_eq!(output.status.code(), None);
    let status = shop.site.status();
    assert_eq!((&status["health"], &status["running"]), (&"good".into(), &().into()), "{status}");
    assert_eq!(status["last_job"]["state"], "committed", "{status}");
    assert_ne!(status["newest_good"]["backup"], first.as_str(), "{status}");
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
}

#[test]
fn an_attempt_is_on_record_before_the_bucket_answers() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let here = format!("url = \"file://{}\"", shop.site.path("repository").display());
    let silent = Scripted::silent();
    let away = bucket_at(&silent);
    shop.site.replace(&here, &away);
    let unfinished = || {
        let path = shop.site.path("state/catalog.db");
        let jobs = async { Catalog::open_read_only(&path).await?.unfinished_jobs().await };
        tokio::runtime::Runtime::new().unwrap().block_on(jobs).unwrap()
    };
    let mut hangs = shop.site.command(&["backup", "shop"]).env("KEY", "key").spawn().unwrap();
    until("the attempt to be on record", || !unfinished().is_empty());
    hangs.kill().unwrap();
    let _ = hangs.wait().unwrap();
    shop.site.replace(&away, &here);
    let status = shop.site.status();
    let job = &status["last_job"];
    assert_eq!((&job["kind"], &job["state"]), (&"backup".into(), &"running".into()), "{job}");
    assert_eq!(status["running"], false, "{status}");
    assert_ne!(job["backup"], id.as_str(), "{job}");
    let told = shop.site.drctl(&["status", "--check"]).ended(3).out;
    assert!(told.contains("has died and left no backup"), "{told}");
    let _ = shop.site.backup();
    assert_eq!(unfinished(), []);
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
}

#[test]
fn a_catalog_that_knows_of_a_failure_alone_hides_no_backup() {
    let shop = Shop::open();
    let id = shop.site.backup();
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = fs::remove_file(shop.site.path("state").join(file));
    }
    let (repository, aside) = (shop.site.path("repository"), shop.site.path("aside"));
    fs::rename(&repository, &aside).unwrap();
    let _ = shop.site.drctl(&["backup", "shop"]).ended(8);
    assert!(findings(&shop).contains("the last backup failed: "), "{}", findings(&shop));
    fs::rename(&aside, &repository).unwrap();
    assert_eq!(shop.site.json(3, &["list"])["backups"][0]["backup"], id.as_str());
    assert!(findings(&shop).contains("the last backup failed: "), "{}", findings(&shop));
}

#[test]
fn a_run_that_nobody_began_is_overdue() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let path = shop.site.path("repository/s/shop/b").join(&id).join("manifest.json");
    let text = fs::read_to_string(shop.site.path("etc/keys/signing.key")).unwrap();
    let key: SigningKey = text.trim().parse().unwrap();
    let trust = Trust::new(vec![key.verifying_key()]);
    let (mut manifest, _) = decode_manifest(&fs::read(&path).unwrap(), &trust).unwrap();
    manifest.started -= jiff::SignedDuration::from_hours(49);
    manifest.finished = manifest.started;
    fs::write(&path, encode_manifest(&manifest, &key)).unwrap();
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = fs::remove_file(shop.site.path("state").join(file));
    }
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    let told = findings(&shop);
    assert!(told.contains("a run was due at ") && told.contains("has not begun"), "{told}");
    // On a date that is blacked out none begins, and none is missed.
    let policies = fs::read_dir(shop.site.path("etc/policies.d")).unwrap();
    let policy = policies.map(|entry| entry.unwrap().path()).next().unwrap();
    let text = fs::read_to_string(&policy).unwrap();
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let (from, until) = (today - jiff::Span::new().days(3), today + jiff::Span::new().days(1));
    fs::write(&policy, format!("blackout = [\"{from}..{until}\"]\n{text}")).unwrap();
    assert!(!findings(&shop).contains("a run was due at "), "{}", findings(&shop));
}
