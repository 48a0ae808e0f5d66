//! What attempts have left that never became backups: it goes late, and never what was a backup once.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use drctl_tests::site::until;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cancel::{ended, send, start};
use crate::catalog::sqlite;
use crate::common::Shop;
use crate::prune::{backups, folder, going, listed, newest_first, plan, remove, shop};

/// Lets all files of an attempt be this old for the store.
fn age(folder: &Path, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            age(&path, days);
        } else {
            File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
        }
    }
}

/// Lets this host know of orphans for longer than a day.
fn known_for_long(shop: &Shop) {
    let then = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(25);
    sqlite(&shop.site.path("state/catalog.db"), &format!("update orphans set first = '{then:.9}'"));
}

/// An attempt that was killed before its manifest was written.
fn killed(shop: &Shop) -> String {
    let there = fs::read_dir(shop.site.path("repository/s/shop/b")).unwrap().count();
    let mut command = shop.site.command(&["--json", "backup", "shop"]);
    let ended = command.env("DRCTL_CRASH_AT", "backup-before-manifest").output().unwrap();
    assert_eq!(ended.status.signal(), Some(9), "{ended:?}");
    let all = fs::read_dir(shop.site.path("repository/s/shop/b")).unwrap();
    let mut all: Vec<String> =
        all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(all.len(), there + 1);
    all.retain(|id| !folder(shop, id).join("manifest.json").exists());
    all.remove(0)
}

/// Which orphans there are, and whether they go.
fn orphans(planned: &Value) -> Vec<(String, bool)> {
    let all = planned["orphans"].as_array().unwrap().iter();
    let one = |one: &Value| {
        assert!(one["objects"].as_u64() > Some(0) && one["bytes"].as_u64() > Some(0), "{one}");
        (one["backup"].as_str().unwrap().to_owned(), one["goes"] == true)
    };
    all.map(one).collect()
}

#[test]
fn what_a_killed_backup_has_left_goes_a_week_later() {
    let shop = shop(9);
    let first = shop.site.backup();
    let orphan = killed(&shop);
    let last = shop.site.backup();
    let stays = |why: &str| {
        assert_eq!(orphans(&plan(&shop)), [(orphan.clone(), false)], "{why}");
    };
    stays("it is young");
    known_for_long(&shop);
    age(&folder(&shop, &orphan), 6);
    stays("it is not old enough");
    sqlite(&shop.site.path("state/catalog.db"), "delete from orphans");
    age(&folder(&shop, &orphan), 8);
    stays("it was never seen before");
    let text = shop.site.drctl(&["prune", "shop"]).ended(0).out;
    assert!(text.contains("orphans, left by attempts") && text.contains("go from 2"), "{text}");
    stays("it was seen just now");
    known_for_long(&shop);
    // No backup was made for as long: nobody knows how old it is.
    for id in [&first, &last] {
        age(&folder(&shop, id), 7);
    }
    stays("the newest backup is as old");
    let newest = shop.site.backup();
    assert_eq!(orphans(&plan(&shop)), [(orphan.clone(), true)]);
    let _ = shop.site.json(0, &["freeze", "shop", "--reason", "audit"]);
    stays("nothing of it goes while it is frozen");
    let _ = shop.site.json(0, &["unfreeze", "shop", "--reason", "audit is over"]);
    let done = remove(&shop);
    assert!(done["done"]["objects"].as_u64() > Some(0), "{done}");
    assert_eq!(done["done"]["gone"], json!([]), "{done}");
    assert!(!folder(&shop, &orphan).exists());
    assert_eq!(listed(&shop), [newest, last, first]);
    assert_eq!(orphans(&plan(&shop)), []);
    assert_eq!(shop.site.json(0, &["catalog", "check"])["equal"], true);
    let _ = shop.site.json(0, &["verify", "--data"]);
}

#[test]
fn attempts_of_this_host_that_are_over_freeze_nothing() {
    let (shop, tools) = Shop::with_tools();
    shop.site.retention("last = 2");
    let ids = backups(&shop, 4);
    let goes = |why: &str| {
        let planned = plan(&shop);
        assert_eq!(planned["blocked"], json!([]), "{why}");
        assert_eq!(going(&planned), newest_first(&ids[..2]), "{why}");
    };
    let may_run = |why: &str| {
        let planned = plan(&shop);
        assert!(planned["blocked"].to_string().contains("may still run"), "{why}: {planned}");
        assert_eq!(going(&planned), [""; 0], "{why}");
    };
    let _ = killed(&shop);
    goes("the last one was killed");
    let attempts = || fs::read_dir(shop.site.path("repository/s/shop/b")).unwrap().count();
    let there = attempts();
    tools.pause("pg_dump", 300_000);
    let child = start(&shop.site, &["backup", "shop"]);
    tools.await_pause();
    until("a segment is stored", || attempts() > there);
    may_run("one runs");
    send(&child, Signal::TERM);
    let _ = ended(child).failed(130, "interrupted");
    goes("it was stopped, and one before it was killed");
    tools.honest("pg_dump");
    // A host that has no record of them cannot tell.
    let (state, aside) = (shop.site.path("state"), shop.site.path("aside"));
    fs::rename(&state, &aside).unwrap();
    let _ = shop.site.json(3, &["catalog", "rebuild"]);
    may_run("by another host, for all that this one knows");
    fs::remove_dir_all(&state).unwrap();
    fs::rename(&aside, &state).unwrap();
    let done = remove(&shop);
    assert_eq!(done["done"]["gone"], json!(ids[..2]), "{done}");
}

#[test]
fn what_was_a_backup_once_is_no_orphan() {
    let shop = shop(9);
    let ids = backups(&shop, 3);
    let manifest = folder(&shop, &ids[1]).join("manifest.json");
    fs::remove_file(&manifest).unwrap();
    age(&folder(&shop, &ids[1]), 30);
    for anew in [false, true] {
        if anew {
            fs::remove_dir_all(shop.site.path("state")).unwrap();
            let _ = shop.site.drctl(&["catalog", "rebuild"]);
        }
        for _ in 0..2 {
            let planned = plan(&shop);
            assert_eq!(orphans(&planned), [], "{planned}");
            assert!(planned["blocked"].to_string().contains("LOST"), "{planned}");
            assert_eq!(going(&planned), [""; 0]);
            known_for_long(&shop);
        }
    }
    let list = shop.site.json(3, &["list"]);
    assert!(list["lost"].to_string().contains(&ids[1]), "{list}");
}
