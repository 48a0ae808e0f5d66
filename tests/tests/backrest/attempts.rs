//! Attempts that wait, fail or are stopped: what is told, what the record says, and that the next
//! one is as good as ever.

use std::process::{Child, Stdio};

use drctl_tests::cluster::Cluster as _;
use drctl_tests::site::{Ran, until};
use serde_json::Value;

use crate::common::Shop;
use crate::engine_exits::hold_lock;
use crate::record::{backup, id, manifest};

/// `drctl backup`, running.
fn begun(shop: &Shop) -> Child {
    let mut command = shop.command(&["--json", "backup", "shop"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the attempt to be recorded", || last_job(shop)["state"] == "running");
    child
}

fn last_job(shop: &Shop) -> Value {
    let status = shop.drctl(&["status"]);
    match status.code {
        Some(0) => status.json()["sources"][0]["last_job"].clone(),
        _ => Value::Null,
    }
}

fn ended(child: Child) -> Ran {
    Ran::of(&child.wait_with_output().unwrap())
}

#[test]
fn a_lock_of_pgbackrest_is_waited_for_and_a_signal_ends_the_wait() {
    let shop = Shop::start();
    let first = id(&backup(&shop, &[]));
    let lock = hold_lock(&shop);
    let stopped = begun(&shop);
    let pid = rustix::process::Pid::from_child(&stopped);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let _ = ended(stopped).failed(130, "interrupted");
    assert_eq!(last_job(&shop)["state"], "cancelled");
    let waiting = begun(&shop);
    drop(lock);
    let made = ended(waiting).ended(0).json();
    assert_eq!(made["backup"]["kind"]["backup_type"], "incremental", "{made}");
    assert_eq!(made["backup"]["kind"]["prior"], manifest(&shop, &first)["kind"]["label"]);
    assert_eq!(last_job(&shop)["state"], "committed");
    let list = shop.drctl(&["list"]).ended(0).json();
    assert_eq!(list["backups"].as_array().map(Vec::len), Some(2), "{list}");
}

#[test]
fn a_stanza_that_is_stopped_is_told_and_nothing_is_recorded() {
    let shop = Shop::start();
    let _ = shop.pgbackrest(&["stop"]).ended(0);
    let said = shop.drctl(&["backup", "shop"]).failed(10, "pgbackrest_stopped");
    assert!(said.contains("stop"), "{said}");
    let job = last_job(&shop);
    assert_eq!(job["state"], "failed", "{job}");
    let _ = shop.pgbackrest(&["start"]).ended(0);
    let made = backup(&shop, &[]);
    assert_eq!(made["backup"]["good"], true);
    let list = shop.drctl(&["list"]).ended(0).json();
    assert_eq!(list["backups"].as_array().map(Vec::len), Some(1), "{list}");
}

#[test]
fn a_stanza_that_was_never_created_is_told_with_what_to_do() {
    let shop = Shop::bare(&[]);
    let ran = shop.drctl(&["backup", "shop"]);
    let object = ran.json();
    assert_eq!(ran.code, Some(10), "{object}");
    assert!(object["hint"].as_str().unwrap().contains("stanza create"), "{object}");
}

#[test]
fn as_root_nothing_is_begun_that_would_be_in_the_servers_way() {
    let shop = Shop::start();
    let verbs: [&[&str]; 4] =
        [&["backup"], &["stanza", "create"], &["stanza", "upgrade"], &["stanza", "check"]];
    for verb in verbs {
        let ran = shop.site.drctl(&[&["--json"], verb, &["shop"]].concat());
        match rustix::process::geteuid().is_root() {
            true => assert!(ran.failed(2, "usage").contains("as root"), "{}", ran.out),
            // Whoever else runs the tests owns the server.
            false => drop(ran.ended(0)),
        }
    }
    let _ = backup(&shop, &[]);
}

#[test]
fn a_pgbackrest_that_hangs_is_given_up_and_one_that_works_in_silence_is_not() {
    let shop = Shop::start();
    let _ = shop.back_up();
    shop.tick(1..11);
    shop.archived();
    let (idle, busy) = (shop.path("idle"), shop.path("busy"));
    shop.instead_of_pgbackrest(&format!(
        "#!/bin/sh\n[ \"$1\" != \"$(cat {})\" ] || {{ echo; sleep 1000 & wait; }}\n\
         i=0\nif [ \"$1\" = \"$(cat {})\" ]; then while [ $i -lt 3000000 ]; do i=$((i+1)); done; fi\n\
         exec pgbackrest \"$@\"\n",
        idle.display(),
        busy.display()
    ));
    let set = |file: &std::path::Path, command: &str| {
        std::fs::write(file, command).unwrap();
        drctl_tests::cluster::give_away(file);
    };
    set(&idle, "none");
    set(&busy, "backup");
    shop.site.source("silence = \"2s\"");
    // Seconds on a processor, and not a word.
    let good = id(&backup(&shop, &[]));
    set(&busy, "none");
    for (command, arguments) in [("backup", &["backup", "shop"][..]), ("info", &["backup", "shop"])]
    {
        set(&idle, command);
        let said = shop.drctl(arguments).failed(10, "silent");
        assert!(said.contains("pgbackrest has said nothing for 2 s"), "{command}: {said}");
    }
    for command in ["restore", "archive-get", "repo-ls"] {
        set(&idle, command);
        let (ran, _folder, _path) = shop.recover(&["--to-end"]);
        let said = ran.failed(10, "silent");
        assert!(said.contains("has said nothing for 2 s"), "{command}: {said}");
    }
    set(&idle, "none");
    let list = shop.drctl(&["list"]).ended(0).json();
    assert_eq!(list["backups"][0]["backup"], good.as_str(), "{list}");
}
