//! Base backups, and what becomes of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use drctl_tests::cluster::{give_away, place, standby};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

use crate::common::{ORDERS, cluster, filled, site, verified};

/// Restores the newest base backup into a new directory.
#[track_caller]
fn restore(site: &Site, id: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let (folder, path) = place();
    let text = path.display().to_string();
    let _ = site.json(0, &["restore", "shop", "--backup", id, "--to-directory", &text]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    give_away(&path);
    (folder, path)
}

#[test]
fn a_copied_cluster_starts_and_has_every_row() {
    let server = cluster();
    let site = site(&server);
    let rows = server.psql("postgres", ORDERS);
    let id = site.backup();
    let shown = site.json(0, &["show", &id]);
    assert_eq!(shown["manifest"]["kind"]["type"], "full", "{shown}");
    let system_id = server.psql("postgres", "select system_identifier from pg_control_system()");
    assert_eq!(shown["manifest"]["kind"]["system_id"], system_id.as_str());
    let (_folder, path) = restore(&site, &id);
    verified(&server, &path.join("data"));
    let restored = Postgres::builder().data(&path.join("data")).start();
    assert_eq!(restored.psql("postgres", ORDERS), rows);
    // A copy of production must not write into production's archive, nor follow its primary.
    assert_eq!(restored.psql("postgres", "show archive_mode"), "off");
    assert_eq!(restored.psql("postgres", "select timeline_id from pg_control_checkpoint()"), "2");
    let _ = site.json(0, &["verify", "--data"]);
}

/// The files below a directory, by path, but for those that differ from backup to backup: what the
/// server makes for each (label, list, map, `pg_control` of another checkpoint), its log, and the
/// settings that a restore adds.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let own = [
        "backup_label",
        "backup_manifest",
        "recovery.signal",
        "standby.signal",
        "tablespace_map",
        "global/pg_control",
        "postgresql.auto.conf",
    ];
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root).expect("below it").to_owned();
            let text = name.to_str().expect("a name");
            if path.is_dir() && text != "pg_wal" {
                folders.push(path);
            } else if path.is_file() && !own.contains(&text) {
                found.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

#[test]
fn a_copy_of_a_server_at_rest_is_the_one_that_pg_basebackup_makes() {
    let server = cluster();
    server.psql("postgres", "alter system set autovacuum = off; select pg_reload_conf()");
    server.psql("postgres", "vacuum freeze; checkpoint");
    let site = site(&server);
    let id = site.backup();
    let (_kept, oracle) = place();
    let mut copy = server.client("pg_basebackup");
    assert!(copy.args(["-c", "fast", "-D"]).arg(&oracle).status().expect("start it").success());
    let (_folder, path) = restore(&site, &id);
    let (ours, theirs) = (files(&path.join("data")), files(&oracle));
    assert!(ours.len() > 900, "{} files", ours.len());
    let only = |one: &BTreeMap<PathBuf, Vec<u8>>, other: &BTreeMap<PathBuf, Vec<u8>>| {
        one.keys().filter(|name| !other.contains_key(*name)).cloned().collect::<Vec<_>>()
    };
    assert_eq!((only(&ours, &theirs), only(&theirs, &ours)), (vec![], vec![]));
    for (name, bytes) in &ours {
        assert!(theirs[name] == *bytes, "{} differs", name.display());
    }
}

#[test]
fn tablespaces_are_copied_and_lie_elsewhere_afterwards() {
    let server = cluster();
    let outside = tempfile::tempdir().unwrap();
    let reach =
        format!("chmod 755 {0} && mkdir {0}/ts && chown postgres {0}/ts", outside.path().display());
    assert!(std::process::Command::new("sh").args(["-c", &reach]).status().unwrap().success());
    server.psql(
        "postgres",
        &format!("create tablespace far location '{}/ts'", outside.path().display()),
    );
    server.psql(
        "postgres",
        "create table far_one tablespace far as select generate_series(1, 5000) x",
    );
    let site = site(&server);
    let id = site.backup();
    let (_folder, path) = restore(&site, &id);
    verified(&server, &path.join("data"));
    let restored = Postgres::builder().data(&path.join("data")).start();
    assert_eq!(restored.psql("postgres", "select sum(x) from far_one"), "12502500");
    let place = restored.psql(
        "postgres",
        "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'far'",
    );
    assert!(place.starts_with(&path.display().to_string()), "{place}");
    // Both live side by side: the copy has files of its own.
    restored.psql("postgres", "delete from far_one");
    assert_eq!(server.psql("postgres", "select count(*) from far_one"), "5000");
}

#[test]
fn a_cluster_that_is_written_while_it_is_copied_is_consistent() {
    let server = cluster();
    let init = server
        .client("pgbench")
        .args(["-i", "-q", "-s", "5", "postgres"])
        .stderr(Stdio::null())
        .status();
    assert!(init.unwrap().success());
    let site = site(&server);
    site.source("max_rate = \"20MiB\"");
    let mut load = server.client("pgbench");
    load.args(["-n", "-c", "2", "-T", "60", "postgres"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut load = load.spawn().unwrap();
    let id = site.backup();
    load.kill().unwrap();
    load.wait().unwrap();
    let (_folder, path) = restore(&site, &id);
    let restored = Postgres::builder().data(&path.join("data")).start();
    let sums = "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history), \
                (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history), \
                (select count(*) > 0 from pgbench_history)";
    assert_eq!(restored.psql("postgres", sums), "t|t|t");
}

#[test]
fn a_page_with_a_wrong_checksum_is_stored_marked_and_alarmed() {
    let mut server = cluster();
    let file = server.psql("postgres", "select pg_relation_filepath('orders')");
    server.stop();
    let path = server.data_dir().join(file);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8192 + 4000] ^= 1;
    fs::write(&path, bytes).unwrap();
    server.start_again();
    let site = site(&server);
    let answer = site.json(3, &["backup", "shop"]);
    let why = answer["backup"]["suspect"][0].as_str().unwrap();
    assert!(why.contains("wrong checksums"), "{why}");
    assert_eq!(site.status()["health"], "breached");
    // It is whole all the same, and may be all there is.
    let id = answer["backup"]["backup"].as_str().unwrap();
    let (_folder, path) = restore(&site, id);
    verified(&server, &path.join("data"));
}

#[test]
fn a_standby_can_be_copied() {
    let primary = cluster();
    let (standby, _standby) = standby(&primary);
    let site = site(&standby);
    let id = site.backup();
    let (_folder, path) = restore(&site, &id);
    verified(&standby, &path.join("data"));
    let restored = Postgres::builder().data(&path.join("data")).start();
    assert_eq!(restored.psql("postgres", ORDERS), primary.psql("postgres", ORDERS));
    // It does not stay a standby of the primary.
    assert_eq!(restored.psql("postgres", "select pg_is_in_recovery()"), "f");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let server = filled(Postgres::start());
    let copy = site(&server);
    let id = copy.backup();
    let (_folder, path) = place();
    let text = path.display().to_string();
    let said = copy.fails(2, "usage", &["restore", "shop", "--backup", &id, "--to-host", "/tmp"]);
    assert!(said.contains("--to-directory"), "{said}");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("precious"), "x").unwrap();
    let said = copy.fails(
        12,
        "target_unfit",
        &["restore", "shop", "--backup", &id, "--to-directory", &text],
    );
    assert!(said.contains("not empty"), "{said}");
    let dumps = Site::with(&server);
    let id = dumps.backup();
    let said =
        dumps.fails(2, "usage", &["restore", "shop", "--backup", &id, "--to-directory", &text]);
    assert!(said.contains("--to-host"), "{said}");
    copy.source("databases = [\"postgres\"]");
    let said = copy.fails(7, "bad_configuration", &["backup", "shop"]);
    assert!(said.contains("no effect with this engine"), "{said}");
}

#[test]
fn a_copy_that_breaks_off_is_no_backup() {
    let server = cluster();
    server.psql(
        "postgres",
        "create table big as select g, repeat(md5(g::text), 30) t from generate_series(1, 60000) g",
    );
    let site = site(&server);
    let good = site.backup();
    site.source("max_rate = \"4MiB\"");
    let child = site
        .command(&["--json", "backup", "shop"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let copies =
        "select coalesce(sum(backup_streamed), 0) > 2000000 from pg_stat_progress_basebackup";
    drctl_tests::site::until("bytes to flow", || server.psql("postgres", copies) == "t");
    server.psql("postgres", "select pg_terminate_backend(pid) from pg_stat_progress_basebackup");
    let ran = drctl_tests::site::Ran::of(&child.wait_with_output().unwrap());
    let said = ran.failed(ran.code.unwrap(), "query");
    assert!(said.contains("base backup") && ran.code == Some(10), "{said}");
    assert_eq!(site.manifests().len(), 1);
    assert_eq!(server.psql("postgres", "select count(*) from pg_replication_slots"), "0");
    let (_folder, path) = restore(&site, &good);
    verified(&server, &path.join("data"));
}
