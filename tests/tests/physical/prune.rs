//! WAL goes with the base backups that needed it, and none that stays misses any.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use drctl_model::{Header, Lineage, LogAt, LogFloor};
use drctl_store::encode_log_floor;
use drctl_tests::cluster::{Cluster as _, list, ticks};
use serde_json::Value;

use crate::log::Archiving;
use crate::objects::{documented, members};

/// A cluster with three base backups, of which two stay, and WAL behind each.
fn shop() -> Archiving {
    let shop = Archiving::start(true);
    shop.site.retention("last = 2");
    for n in 0..3 {
        shop.back_up();
        shop.tick(10 * n + 1..10 * n + 11);
        shop.archived();
    }
    shop
}

fn plan(shop: &Archiving) -> Value {
    shop.drctl(&["prune", "shop"]).ended(0).json()["sources"][0].clone()
}

/// The command that removes what a plan shows.
fn removal(shop: &Archiving, plan: &Value) -> Command {
    let yes = format!("--yes={}", plan["digest"].as_str().unwrap());
    shop.command(&["--json", "prune", "shop", &yes])
}

/// Where the pieces of the WAL end, in order.
fn ends(shop: &Archiving) -> Vec<String> {
    let pieces = shop.pieces();
    let end = |path: &Path| {
        let name = path.file_stem().unwrap().to_str().unwrap();
        name.split_once('-').unwrap().1.to_owned()
    };
    pieces.iter().map(|path| end(path)).collect()
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(done.success());
}

/// Asserts that all of the WAL that stays can be recovered to, and that nothing is missed.
fn is_whole(shop: &Archiving, last: u32) {
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert_eq!(view["timelines"][0]["gaps"], serde_json::json!([]), "{view}");
    let _ = shop.drctl(&["status", "--check"]).ended(0);
    let xid = shop.sql("select xmin from ticks where id = 15");
    let (ran, _folder, path) = shop.recover(&["--to-xid", &xid, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..16));
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..last + 1));
}

#[test]
fn wal_goes_up_to_the_oldest_base_backup_that_stays() {
    let shop = shop();
    let planned = plan(&shop);
    let goes = planned["backups"].as_array().unwrap().iter().filter(|one| one["goes"] == true);
    assert_eq!(goes.count(), 1, "{planned}");
    let before = planned["log"][0]["before"].as_str().unwrap().to_owned();
    let (below, above): (Vec<String>, _) = ends(&shop).into_iter().partition(|end| *end <= before);
    assert!(!below.is_empty() && !above.is_empty(), "{planned}");
    assert_eq!(planned["log"][0]["objects"], below.len(), "{planned}");
    // Another host knows all of it.
    let other = shop.site.path("other");
    copy(&shop.site.path("state"), &other);
    let done = removal(&shop, &planned).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(ends(&shop), above);
    let done: Value = serde_json::from_slice(&done.stdout).unwrap();
    let source = &done["sources"][0];
    let all = [source, &source["backups"][0], &source["log"][0], &source["done"]];
    assert_eq!(members(&all, &["backups", "log"]), documented("drctl.prune/1"));
    is_whole(&shop, 30);
    let (ran, _folder, path) = shop.recover(&["--to-time", &shop.committed(5)]);
    let said = ran.failed(5, "no_plan");
    assert!(!path.exists() && !said.contains("LOST"), "{said}");
    // The cluster goes on, and so does a host that knew what was removed.
    shop.tick(31..41);
    shop.archived();
    fs::remove_dir_all(shop.site.path("state")).unwrap();
    copy(&other, &shop.site.path("state"));
    is_whole(&shop, 40);
    assert_eq!(shop.drctl(&["catalog", "check"]).ended(0).json()["equal"], true);
}

#[test]
fn wal_that_is_found_to_be_gone_freezes_this_very_run() {
    let shop = shop();
    let planned = plan(&shop);
    assert_eq!(planned["blocked"], serde_json::json!([]), "{planned}");
    // One that stays, of which the catalog knows.
    let pieces = shop.pieces();
    let (piece, aside) = (&pieces[pieces.len() - 2], shop.site.path("aside"));
    let away = || fs::rename(piece, &aside).unwrap();
    let back = || fs::rename(&aside, piece).unwrap();
    away();
    let frozen = plan(&shop);
    assert!(frozen["blocked"].to_string().contains("LOST: the WAL of timeline 1"), "{frozen}");
    back();
    assert_eq!(plan(&shop), planned, "it is there again");
    away();
    let before = ends(&shop);
    let refused = removal(&shop, &planned).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("LOST: the WAL of timeline 1"), "{said}");
    assert_eq!(ends(&shop), before);
    back();
    let done = removal(&shop, &planned).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    is_whole(&shop, 30);
}

#[test]
fn a_removal_of_wal_that_was_killed_is_brought_to_its_end() {
    for point in &drctl::PRUNE_CRASH_POINTS[3..] {
        let shop = shop();
        let planned = plan(&shop);
        let before = planned["log"][0]["before"].as_str().unwrap().to_owned();
        let killed = removal(&shop, &planned).env("DRCTL_CRASH_AT", point).output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{point}: {killed:?}");
        let _ = shop.drctl(&["status", "--check"]).ended(0);
        let again = plan(&shop);
        assert_eq!(again["log"][0]["before"], before.as_str(), "{point}: {again}");
        let done = removal(&shop, &again).output().unwrap();
        assert!(done.status.success(), "{point}: {}", String::from_utf8_lossy(&done.stderr));
        assert!(ends(&shop).iter().all(|end| *end > before), "{point}");
        is_whole(&shop, 30);
    }
}

/// Puts there that all of a log was removed on purpose.
pub(crate) fn put_floor(shop: &Archiving, lineage: Lineage) {
    let marker = fs::read(shop.site.path("repository/drctl-repo.json")).unwrap();
    let marker: Value = serde_json::from_slice(&marker).unwrap();
    let place = format!("repository/s/shop/x/{lineage}/{}.json", LogAt(1 << 40));
    let floor = LogFloor {
        header: Header::new([]),
        repository: marker["repository"].as_str().unwrap().parse().unwrap(),
        source: "shop".parse().unwrap(),
        lineage,
        before: LogAt(1 << 40),
        host: "db1".to_owned(),
        removed: jiff::Timestamp::now(),
    };
    let place = shop.site.path(&place);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(place, encode_log_floor(&floor, &shop.site.signing_key()).unwrap()).unwrap();
}

#[test]
fn a_forged_floor_hides_no_wal_that_a_base_backup_leads_to() {
    let shop = shop();
    let _ = shop.drctl(&["status", "--check"]).ended(0);
    let pieces = shop.pieces();
    let lineage = pieces[0].parent().unwrap().file_name().unwrap().to_str().unwrap();
    put_floor(&shop, lineage.parse().unwrap());
    fs::remove_file(pieces.last().unwrap()).unwrap();
    let told = shop.drctl(&["timeline", "shop"]).ended(3);
    assert!(told.err.contains("LOST"), "{}", told.err);
    let _ = shop.drctl(&["status", "--check"]).ended(3);
}

/// Backs up, and has ten rows behind that in the archive; gives the backup.
fn next(shop: &Archiving, round: u32) -> String {
    let id = shop.back_up()["backup"]["backup"].as_str().unwrap().to_owned();
    shop.tick(10 * round + 1..10 * round + 11);
    shop.archived();
    id
}

/// A drill to the end of the WAL; gives the base backup that it began with.
fn drilled(shop: &Archiving) -> String {
    let (ran, _folder, _) = shop.recover(&["--to-end", "--drill"]);
    let done = ran.ended(0).json();
    assert!(done["drill"].is_string(), "{done}");
    done["base"].as_str().unwrap().to_owned()
}

/// Removes the one backup that goes; gives those that stay, the newest first.
fn without_one(shop: &Archiving) -> Vec<String> {
    let yes = format!("--yes={}", plan(shop)["digest"].as_str().unwrap());
    let _ = shop.drctl(&["prune", "shop", &yes, "--backups", "1"]).ended(0);
    let list = shop.drctl(&["list"]).ended(0).json();
    let rows = list["backups"].as_array().unwrap().iter();
    rows.map(|row| row["backup"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_a_drill_has_proven_stays_until_a_drill_proves_a_newer_one() {
    let shop = Archiving::start(true);
    shop.site.retention("last = 1\nmin_proven = 1");
    let proven = next(&shop, 0);
    assert_eq!(drilled(&shop), proven);
    let (unproven, newest) = (next(&shop, 1), next(&shop, 2));
    // What a plan says of a backup: whether it goes, and why it stays.
    let of = |planned: &Value, id: &str| {
        let mut all = planned["backups"].as_array().unwrap().iter();
        let one = all.find(|one| one["backup"] == id).unwrap_or_else(|| panic!("{id}: {planned}"));
        (one["goes"] == true, one["reasons"].to_string())
    };
    let planned = plan(&shop);
    assert_eq!(planned["blocked"], serde_json::json!([]), "{planned}");
    let alone = r#"["the newest that was proven always stays"]"#.to_owned();
    assert_eq!(of(&planned, &proven), (false, alone), "no other rule keeps it: {planned}");
    assert_eq!(of(&planned, &unproven), (true, "[]".to_owned()), "though it is newer: {planned}");
    let (goes, why) = of(&planned, &newest);
    assert!(!goes && !why.contains("proven"), "{planned}");
    assert_eq!(without_one(&shop), [newest.clone(), proven.clone()]);
    // All that it leads to is there too.
    is_whole(&shop, 30);
    assert_eq!(drilled(&shop), newest);
    let planned = plan(&shop);
    assert_eq!(planned["blocked"], serde_json::json!([]), "{planned}");
    assert_eq!(of(&planned, &proven), (true, "[]".to_owned()), "{planned}");
    let (goes, why) = of(&planned, &newest);
    assert!(!goes && why.contains("the newest that was proven always stays"), "{planned}");
    assert_eq!(without_one(&shop), [newest]);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..31));
    let _ = shop.drctl(&["status", "--check"]).ended(0);
}
