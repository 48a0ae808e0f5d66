//! What is particular about restoring a chain of backups, and about keeping what the next is based
//! on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use drctl_tests::cluster::{give_away, place};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, Site, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::NEWER;
use super::incremental::{backup, change, notes, summarize, summarizing};
use crate::common::{filled, physical, verified};

fn tablespace(server: &Postgres, folder: &Path, name: &str) {
    let at = folder.join(name);
    fs::create_dir(&at).unwrap();
    give_away(&at);
    server.psql("postgres", &format!("create tablespace {name} location '{}'", at.display()));
}

#[test]
fn a_plan_counts_the_whole_chain() {
    let (server, site) = summarizing();
    let (full, _) = backup(&site, "full");
    change(&server, 1);
    let (first, _) = backup(&site, "incremental");
    let (last, _) = backup(&site, "incremental");
    let (_folder, path) = place();
    let to = path.display().to_string();
    let of = |id: &str| {
        let row = site.rows().into_iter().find(|row| row["backup"] == id).unwrap();
        row["plain_bytes"].as_u64().unwrap()
    };
    let whole = of(&full) + of(&first) + of(&last);
    // For the room all of a chain, and what it becomes.
    let cases = [(&full, vec![], of(&full), 1), (&last, vec![full.as_str(), &first], whole, 2)];
    for (id, chain, plain, times) in cases {
        let arguments = ["restore", "shop", "--backup", id, "--to-directory", &to, "--plan"];
        let planned = site.json(0, &arguments);
        assert_eq!(planned["chain"], Value::from(chain), "{planned}");
        assert_eq!(planned["plain_bytes"], plain, "{planned}");
        assert_eq!(planned["room"]["bytes"], times * plain, "{planned}");
    }
}

#[test]
fn tablespaces_come_and_go_within_a_chain() {
    let (server, site) = summarizing();
    let outside = tempfile::tempdir().unwrap();
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o755)).unwrap();
    tablespace(&server, outside.path(), "goes");
    tablespace(&server, outside.path(), "stays");
    server.psql(
        "postgres",
        "create table one tablespace goes as select generate_series(1, 100) x; \
         create table two tablespace stays as select generate_series(1, 100) x",
    );
    backup(&site, "full");
    server.psql("postgres", "drop table one; drop tablespace goes");
    tablespace(&server, outside.path(), "comes");
    server.psql(
        "postgres",
        "create table three tablespace comes as select generate_series(1, 100) x; \
         update two set x = x + 1",
    );
    let (id, _) = backup(&site, "incremental");
    let (folder, _) = place();
    // What parts a mapping of tablespaces in two, and what parts arguments.
    let path = folder.path().join("re=stored to");
    let to = path.display().to_string();
    let _ = site.json(0, &["restore", "shop", "--backup", &id, "--to-directory", &to]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    give_away(&path);
    verified(&server, &path.join("data"));
    assert_eq!(fs::read_dir(path.join("tablespaces")).unwrap().count(), 2);
    let restored = Postgres::builder().data(&path.join("data")).start();
    let sums = "select (select sum(x) from two), (select sum(x) from three)";
    assert_eq!(restored.psql("postgres", sums), "5150|5050");
    let places = "select bool_and(pg_tablespace_location(oid) like '%re=stored to/tablespaces/%') \
                  from pg_tablespace where spcname in ('stays', 'comes')";
    assert_eq!(restored.psql("postgres", places), "t");
}

#[test]
fn a_list_that_cannot_be_kept_is_told_and_the_copy_counts() {
    let (_server, site) = summarizing();
    backup(&site, "full");
    fs::remove_dir_all(site.path("state/listings")).unwrap();
    fs::write(site.path("state/listings"), "in the way").unwrap();
    let answer = site.json(0, &["backup", "shop"]);
    assert_eq!(answer["backup"]["kind"]["type"], "full", "{answer}");
    let said = notes(&answer);
    assert!(said.contains("a full backup was made, not an incremental one: look into"), "{said}");
    assert!(said.contains("its list of files was not kept"), "{said}");
    assert_eq!(site.status()["health"], "good");
    // People are told too.
    let text = site.drctl(&["backup", "shop"]).ended(0).out;
    assert!(text.contains("note: a full backup was made"), "{text}");
}

#[test]
fn a_restore_that_is_stopped_while_copies_are_put_together_leaves_no_program() {
    let (server, site) = summarizing();
    backup(&site, "full");
    change(&server, 1);
    let (id, _) = backup(&site, "incremental");
    let bin = tempfile::tempdir().unwrap();
    let (program, began) = (bin.path().join("pg_combinebackup"), bin.path().join("began"));
    let real = server.bin_dir().join("pg_combinebackup").display().to_string();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && exec {real} --version\necho $$ > {0}.new\n\
         mv {0}.new {0}\nexec sleep 600\n",
        began.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    site.bin_dir(bin.path());
    let (_folder, path) = place();
    let to = path.display().to_string();
    let mut command =
        site.command(&["--json", "restore", "shop", "--backup", &id, "--to-directory", &to]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    until("the program to begin", || began.exists());
    let _ = kill_process(Pid::from_child(&child), Signal::TERM);
    let ran = Ran::of(&child.wait_with_output().unwrap());
    ran.failed(130, "interrupted");
    let pid: i32 = fs::read_to_string(&began).unwrap().trim().parse().unwrap();
    until("the program to be gone", || {
        rustix::process::test_kill_process(Pid::from_raw(pid).unwrap()).is_err()
    });
    // Nothing in there can be taken for the cluster.
    assert!(!path.join("data").exists());
}

#[test]
fn another_cluster_or_timeline_begins_a_new_chain() {
    let mut server = filled(Postgres::builder().at_least(NEWER).start());
    summarize(&server);
    let site = Site::with(&server);
    physical(&site);
    site.source("incremental = true");
    backup(&site, "full");
    server.stop();
    // As after a recovery in its place: the same cluster on a timeline of its own.
    fs::write(server.data_dir().join("recovery.signal"), "").unwrap();
    give_away(server.data_dir());
    let auto = server.data_dir().join("postgresql.auto.conf");
    let settings = fs::read_to_string(&auto).unwrap() + "restore_command = 'false'\n";
    fs::write(&auto, settings).unwrap();
    server.start_again();
    until("the recovery to end", || server.psql("postgres", "select pg_is_in_recovery()") == "f");
    let answer = site.json(0, &["backup", "shop"]);
    assert_eq!(answer["backup"]["kind"]["type"], "full", "{answer}");
    assert!(notes(&answer).contains("is on timeline 2"), "{answer}");
}
