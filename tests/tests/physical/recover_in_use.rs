//! What was taken into use is not touched: not by a recovery that goes on, whatever it is asked.

use std::fs;
use std::path::Path;
use std::process::Command;

use drctl_tests::cluster::{as_owner, give_away, list, own_place, postmaster, recovery, ticks};
use drctl_tests::promises::{CHOICES, what_is_in_use_is_never_touched};
use drctl_tests::site::until;
use rustix::process::{Signal, kill_process};

use crate::log::several;
use crate::recover_ends::{Ends, ask};

#[test]
fn a_promoted_cluster_that_was_taken_into_use_is_never_touched() {
    let (shop, last) = several();
    what_is_in_use_is_never_touched(&shop, &last);
}

#[test]
fn what_somebody_else_has_promoted_is_neither_stopped_nor_recovered_again() {
    let (shop, last) = several();
    let (_folder, path) = own_place();
    let _ends = Ends(path.clone());
    let target = ["--to-time", last.as_str()];
    let restore = recovery(&shop, &target, &path);
    let open = restore(&["--open"]).ended(0).json();
    let socket = open["socket"].as_str().unwrap().to_owned();
    let (promoted, _) = ask(&shop, &socket, "select pg_promote()");
    assert!(promoted);
    for choice in CHOICES {
        let said = restore(&[&["--resume"], choice].concat()).failed(12, "target_unfit");
        assert!(said.contains("by somebody else") && said.contains("kill -INT"), "{said}");
        assert_eq!(ask(&shop, &socket, "select pg_is_in_recovery()"), (true, "f".to_owned()));
    }
    let running = || postmaster(&path.join("data"));
    kill_process(running().expect("it runs"), Signal::INT).unwrap();
    until("it to end", || running().is_none());
    for choice in CHOICES {
        let said = restore(&[&["--resume"], choice].concat()).failed(12, "target_unfit");
        assert!(said.contains("by somebody else"), "{said}");
    }
    assert!(!path.join("data/recovery.signal").exists());
    assert_eq!(ticks(&path), list(1..41));
}

#[test]
fn a_server_that_was_started_by_hand_is_not_ours() {
    let (shop, last) = several();
    let (_folder, path) = own_place();
    let _ends = Ends(path.clone());
    let target = ["--to-time", last.as_str()];
    let restore = recovery(&shop, &target, &path);
    let _ = restore(&[]).ended(0);
    let data = path.join("data");
    let private = path.join("by-hand");
    assert!(as_owner("mkdir").arg(&private).status().unwrap().success());
    let mut tool = as_owner(shop.server.bin_dir().join("pg_ctl"));
    let options = format!("-k {} -c listen_addresses= -c port=5432", private.display());
    let started =
        tool.arg("-D").arg(&data).args(["-w", "-o", &options, "-l", "/dev/null", "start"]);
    assert!(started.status().unwrap().success());
    let said = restore(&["--resume", "--promote"]).failed(12, "target_unfit");
    assert!(said.contains("did not start") && said.contains("pg_ctl -D"), "{said}");
    let alive = |socket: &Path| {
        let mut psql = Command::new(shop.server.bin_dir().join("psql"));
        psql.args(["-XAtq", "-U", "postgres", "-c", "select 1", "postgres"]);
        psql.arg("-h").arg(socket).output().unwrap().status.success()
    };
    assert!(alive(&private));
    let mut stop = as_owner(shop.server.bin_dir().join("pg_ctl"));
    assert!(stop.arg("-D").arg(&data).args(["-w", "stop"]).status().unwrap().success());
    // A file of a server that is gone does not matter, whoever has its number by now.
    let stale = format!("{}\n{}\n1\n5432\n/nowhere\n", std::process::id(), data.display());
    fs::write(data.join("postmaster.pid"), stale).unwrap();
    give_away(&data.join("postmaster.pid"));
    let _ = restore(&["--resume", "--promote"]).ended(0);
    assert_eq!(ticks(&path), list(1..41));
}
