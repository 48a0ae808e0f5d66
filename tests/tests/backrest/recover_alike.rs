//! What recoveries from drctl's own backups and log promise, held where pgBackRest keeps both.

use std::fs;
use std::path::PathBuf;

use drctl_tests::cluster::{Cluster as _, archiving, list, ticks};
use drctl_tests::promises::{
    raised_settings_are_taken_from_the_log, what_is_in_use_is_never_touched,
};
use drctl_tests::{hostile, unfit};

use crate::common::{STANZA, Shop, walk};
use crate::record::{backup, id, manifest};

#[test]
fn an_intruders_source_runs_nothing_and_reaches_no_key_and_no_archive() {
    let shop = Shop::with(&["repo1-cipher-type=aes-256-cbc", "repo1-cipher-pass=right"]);
    let names = ["", "pgbackrest.conf", "repo", "log", "lock", "spool"];
    hostile::nothing_is_run_or_reached(&shop, &names.map(|name| shop.path(name)));
    hostile::nobody_else_reaches(&shop, &shop.committed(20));
}

#[test]
fn what_was_raised_after_the_backup_is_taken_from_the_log_of_its_archive() {
    raised_settings_are_taken_from_the_log(&mut Shop::start());
}

#[test]
fn settings_that_this_host_cannot_take_stop_no_recovery_of_pgbackrest() {
    unfit::stop_no_recovery(&Shop::start());
}

#[test]
fn a_dropped_table_is_taken_out_and_what_is_in_use_is_never_touched() {
    let shop = Shop::start();
    let rows = "insert into gone select g from generate_series(1, 500) g";
    shop.sql(&format!("create table gone (x int); {rows}"));
    let _ = shop.back_up();
    shop.sql(rows);
    let told = shop.sql("begin; drop table gone; select pg_current_xact_id(); commit");
    shop.segments_of_ten(4);
    let last = shop.committed(40);
    let target = ["--before-xid", told.trim(), "--extract", "postgres:public.gone"];
    let (ran, _folder, _) = shop.recover(&target);
    let done = ran.ended(0).json();
    assert_eq!(done["extracted"][0]["rows"], 1000, "{done}");
    assert!(done["released_locks"].as_u64() > Some(0), "{done}");
    shop.tick(41..43);
    shop.archived();
    what_is_in_use_is_never_touched(&shop, &last);
}

/// Flips bits in the largest file of a backup; again it is as it was.
fn flip(shop: &Shop, label: &str) {
    let mut files = Vec::new();
    walk(&shop.path("repo/backup").join(STANZA).join(label), &mut files);
    let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
    files.retain(|path| path.display().to_string().contains("/pg_data/base/"));
    let file = files.iter().max_by_key(|path| size(path)).unwrap();
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 8] {
        *byte ^= 0xff;
    }
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_damaged_backup_blocks_nothing_that_an_older_one_leads_to_and_is_remembered() {
    let shop = Shop::start();
    shop.tick(1..11);
    let old = id(&shop.back_up());
    shop.tick(11..21);
    let new = id(&backup(&shop, &["--full"]));
    shop.tick(21..31);
    shop.archived();
    let label = manifest(&shop, &new)["kind"]["label"].as_str().unwrap().to_owned();
    flip(&shop, &label);
    // What is damaged is found when it is read, and never named as the way out.
    let (ran, _folder, _) = shop.recover(&["--to-end"]);
    let said = ran.failed(10, "pgbackrest_repository");
    assert!(said.contains(&format!("--backup {old}")), "{said}");
    assert!(!said.contains(&format!("--backup {new}")), "{said}");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--backup", &old, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..31));
    // What verify finds is remembered, and obeyed.
    let _ = shop.drctl(&["verify", "shop", "--data"]).ended(4);
    let list_of = || shop.drctl(&["list"]).ended(0).json()["backups"].clone();
    let bad = list_of()[0].clone();
    assert_eq!((&bad["good"], &bad["backup"]), (&false.into(), &new.as_str().into()), "{bad}");
    let status = shop.drctl(&["status"]).ended(0).json()["sources"][0].clone();
    assert_eq!(status["newest_good"]["backup"], old.as_str(), "{status}");
    assert!(status["advice"].as_str().unwrap().contains(&new), "{status}");
    let _ = shop.drctl(&["status", "--check"]).ended(3);
    let base = || {
        let plan = ["restore", "shop", "--to-end", "--to-directory", "/x", "--plan"];
        shop.drctl(&plan).ended(0).json()["plan"]["base"].clone()
    };
    assert_eq!(base(), old.as_str());
    flip(&shop, &label);
    let _ = shop.drctl(&["verify", "shop", "--data"]).ended(0);
    assert_eq!(list_of()[0]["good"], true);
    assert_eq!(base(), new.as_str());
}

#[test]
fn a_moment_of_the_cluster_before_an_upgrade_of_the_stanza_is_reached() {
    let mut shop = Shop::start();
    let _ = shop.back_up();
    shop.tick(1..21);
    shop.archived();
    let system = "select system_identifier from pg_control_system()";
    let (moment, old) = (shop.committed(15), shop.sql(system));
    let (host, port) = (shop.server.socket_dir().display().to_string(), shop.server.port());
    shop.server = archiving(&["--data-checksums"]);
    shop.site.replace(&host, &shop.server.socket_dir().display().to_string());
    shop.site.replace(&format!("port = {port}"), &format!("port = {}", shop.server.port()));
    shop.configure();
    shop.archive();
    let _ = shop.drctl(&["stanza", "upgrade", "shop"]).ended(0);
    let _ = shop.back_up();
    shop.tick(101..121);
    shop.archived();
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(101..121));
    let (ran, _folder, path) = shop.recover(&["--to-time", &moment]);
    let said = ran.failed(5, "no_plan");
    assert!(said.contains(&format!("--system-id {old}")) && !path.exists(), "{said}");
    let target = ["--to-time", &moment, "--system-id", &old, "--promote"];
    let (ran, _folder, path) = shop.recover(&target);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..16));
}
