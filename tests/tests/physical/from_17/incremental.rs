//! Incremental backups: chains of them, and what a chain is worth when a part of it is gone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use drctl_tests::cluster::{Cluster as _, archiving_from, give_away, list, place, standby, ticks};
use drctl_tests::envelope::resign;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, Site};
use serde_json::Value;

use super::NEWER;
use crate::common::{ORDERS, cluster, cluster_from, site, verified};
use crate::log::Archiving;

/// A cluster that keeps summaries of its log, and a host that wants increments.
pub(super) fn summarizing() -> (Postgres, Site) {
    let server = cluster_from(NEWER);
    summarize(&server);
    let site = site(&server);
    // Several backups are moved several times: still some pages of segments for each.
    site.replace("segment_bytes = \"64KiB\"", "segment_bytes = \"1MiB\"");
    site.source("incremental = true");
    (server, site)
}

pub(super) fn summarize(server: &Postgres) {
    server.psql("postgres", "alter system set summarize_wal = on; select pg_reload_conf()");
}

/// One backup and its manifest's kind, which must be the one that is expected.
#[track_caller]
pub(super) fn backup(site: &Site, expected: &str) -> (String, Value) {
    let answer = site.json(0, &["backup", "shop"]);
    is_made(&answer, expected);
    (text(&answer["backup"]["backup"]), answer)
}

#[track_caller]
fn is_made(answer: &Value, expected: &str) {
    assert_eq!(answer["backup"]["kind"]["type"], expected, "{answer}");
    let told = expected == "full";
    assert_eq!(notes(answer).contains("a full backup was made"), told, "{answer}");
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

pub(super) fn notes(answer: &Value) -> String {
    let all = answer["notes"].as_array().expect("notes");
    all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

/// Restores a backup into a new directory; nothing but the cluster is in it afterwards.
#[track_caller]
fn restore(site: &Site, which: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let (folder, path) = place();
    let to = path.display().to_string();
    let arguments = [&["restore", "shop"], which, &["--to-directory", &to]].concat();
    let _ = site.json(0, &arguments);
    assert!(!path.join("chain").exists(), "what it was made of lies about");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    give_away(&path);
    (folder, path)
}

#[test]
fn a_tablespace_in_place_comes_back_with_its_rows() {
    let (server, site) = summarizing();
    let sql = |sql: &str| server.psql("postgres", sql);
    sql("set allow_in_place_tablespaces = on; create tablespace inside location ''");
    sql("create table kept tablespace inside as select generate_series(1, 100) as i");
    let (full, _) = backup(&site, "full");
    sql("insert into kept select generate_series(101, 150)");
    let (increment, _) = backup(&site, "incremental");
    for (backup, rows) in [(full, "100"), (increment, "150")] {
        let (_folder, path) = restore(&site, &["--backup", &backup]);
        let restored = Postgres::builder().at_least(NEWER).data(&path.join("data")).start();
        assert_eq!(restored.psql("postgres", "select count(*) from kept"), rows, "{backup}");
    }
}

fn manifest_of(site: &Site, id: &str) -> PathBuf {
    site.path("repository/s/shop/b").join(id).join("manifest.json")
}

/// The list of files that the host keeps.
fn kept(site: &Site) -> Vec<PathBuf> {
    let files = site.files("state");
    let ours = files.iter().filter(|path| path.starts_with("listings"));
    ours.map(|path| site.path("state").join(path)).collect()
}

/// Changes some rows, so that an increment is more than nothing.
pub(super) fn change(server: &Postgres, n: u32) {
    server.psql(
        "postgres",
        &format!(
            "update orders set note = 'changed {n}' where id % 7 = {n}; \
             insert into orders values ({}, 'new {n}')",
            100_000 + n
        ),
    );
}

fn tablespace(server: &Postgres) -> tempfile::TempDir {
    let outside = tempfile::tempdir().unwrap();
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let place = outside.path().join("t=s");
    fs::create_dir(&place).unwrap();
    give_away(&place);
    server.psql("postgres", &format!("create tablespace far location '{}'", place.display()));
    let table = "create table far_one tablespace far as select generate_series(1, 5000) x";
    server.psql("postgres", table);
    outside
}

#[test]
fn a_chain_that_was_taken_under_load_is_the_cluster_at_its_end() {
    let (server, site) = summarizing();
    let _outside = tablespace(&server);
    let pgbench = |arguments: &[&str]| {
        let mut command = server.client("pgbench");
        command.args(arguments).arg("postgres").stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    assert!(pgbench(&["-i", "-q", "-s", "2"]).status().unwrap().success());
    let mut load = pgbench(&["-n", "-c", "2", "-T", "600"]).spawn().unwrap();
    let (full, _) = backup(&site, "full");
    server.psql("postgres", "update far_one set x = x + 1");
    let (first, _) = backup(&site, "incremental");
    server.psql("postgres", "insert into far_one values (0)");
    let (second, answer) = backup(&site, "incremental");
    load.kill().unwrap();
    load.wait().unwrap();
    let sums = "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history), \
                (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history), \
                (select count(*) > 0 from pgbench_history), (select sum(x) from far_one)";
    for (id, far) in [(&full, 12_502_500), (&first, 12_507_500), (&second, 12_507_500)] {
        let (_folder, path) = restore(&site, &["--backup", id]);
        verified(&server, &path.join("data"));
        let restored = Postgres::builder().data(&path.join("data")).start();
        assert_eq!(restored.psql("postgres", sums), format!("t|t|t|{far}"), "{id}");
        let place = "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'far'";
        let place = restored.psql("postgres", place);
        let inside = path.join("tablespaces").display().to_string();
        assert!(place.starts_with(&inside), "{place}");
        assert_eq!(restored.psql("postgres", "show archive_mode"), "off");
    }
    let _ = site.json(0, &["verify", "--data"]);
    assert_eq!(answer["backup"]["kind"]["parent"]["backup"], first.as_str(), "{answer}");
    let shown = site.json(0, &["show", &second]);
    let ids = [full.as_str(), &first, &second];
    assert_eq!(shown["chain"], Value::from(ids.to_vec()), "{shown}");
    // Readers that know none look here first.
    assert_eq!(shown["manifest"]["features"], Value::from(vec!["base_backup", "incremental"]));
}

#[test]
fn a_chain_gives_the_rows_of_each_of_its_moments() {
    let (server, site) = summarizing();
    let mut moments = vec![(backup(&site, "full").0, server.psql("postgres", ORDERS))];
    for n in 1..4 {
        change(&server, n);
        // One that is empty, and one of a table that came and went, are as good as any.
        server.psql(
            "postgres",
            &format!("create table t{n} as select {n} x; drop table if exists t{}", n - 1),
        );
        let id = backup(&site, "incremental").0;
        moments.push((id, server.psql("postgres", ORDERS)));
    }
    for (id, rows) in &moments {
        let (_folder, path) = restore(&site, &["--backup", id]);
        verified(&server, &path.join("data"));
        let restored = Postgres::builder().data(&path.join("data")).start();
        assert_eq!(&restored.psql("postgres", ORDERS), rows, "{id}");
    }
    // Of what nobody has touched nothing is sent again.
    let plain = |id: &str| {
        let row = site.rows().into_iter().find(|row| row["backup"] == id).unwrap();
        row["plain_bytes"].as_u64().unwrap()
    };
    let (full, last) = (plain(&moments[0].0), plain(&moments[3].0));
    assert!(last * 2 < full, "{last} of {full}");
    // The host keeps one list, for itself alone.
    assert_eq!(kept(&site).len(), 1);
    let mode = fs::metadata(&kept(&site)[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn without_summaries_a_full_copy_is_made_and_the_reason_is_told() {
    // The PostgreSQL to test with may be one that has none at all.
    for server in [cluster(), cluster_from(NEWER)] {
        let site = site(&server);
        site.source("incremental = true");
        let first = site.json(0, &["backup", "shop"]);
        assert!(notes(&first).contains("keeps no list of files"), "{first}");
        let knows = "select count(*) from pg_settings where name = 'summarize_wal'";
        let (wanted, found) = match server.psql("postgres", knows).as_str() {
            "1" => ("summarize_wal is off", "summarize_wal is off"),
            _ => ("cannot make one, 17 and later can", "makes no incremental backups"),
        };
        for arguments in [&["backup", "shop"][..], &["backup", "shop", "--incremental"]] {
            let made = site.json(0, arguments);
            is_made(&made, "full");
            assert!(notes(&made).contains(wanted), "{made}");
        }
        let doctor = site.drctl(&["--json", "doctor"]).json();
        let findings = doctor["findings"].as_array().unwrap();
        let finding = findings.iter().find(|f| f["check"] == "source.shop.incremental").unwrap();
        assert_eq!(finding["level"], "warning");
        assert!(text(&finding["text"]).contains(found), "{finding}");
        let (_folder, path) = restore(&site, &["--latest"]);
        verified(&server, &path.join("data"));
    }
}

#[test]
fn summaries_that_are_missing_make_a_full_copy_too() {
    let (server, site) = summarizing();
    backup(&site, "full");
    change(&server, 1);
    let checkpoint =
        server.psql("postgres", "checkpoint; select redo_lsn from pg_control_checkpoint()");
    drctl_tests::site::until("the log to be summarized", || {
        let reach =
            format!("select max(end_lsn) >= '{checkpoint}' from pg_available_wal_summaries()");
        server.psql("postgres", &reach) == "t"
    });
    for entry in fs::read_dir(server.data_dir().join("pg_wal/summaries")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    // The server itself refuses, when all is prepared.
    let (id, answer) = backup(&site, "full");
    assert!(notes(&answer).contains("WAL summaries are required"), "{answer}");
    change(&server, 2);
    let (_, answer) = backup(&site, "incremental");
    assert_eq!(answer["backup"]["kind"]["parent"]["backup"], id.as_str(), "{answer}");
}

#[test]
fn the_operator_chooses_at_the_command_line_too() {
    let server = cluster_from(NEWER);
    summarize(&server);
    let site = site(&server);
    let full = |arguments: &[&str]| {
        let answer = site.json(0, &[&["backup", "shop"], arguments].concat());
        assert_eq!(answer["backup"]["kind"]["type"], "full", "{answer}");
        answer
    };
    // Nobody asked for anything else.
    assert_eq!(notes(&full(&[])), "");
    assert!(kept(&site).is_empty());
    let first = full(&["--incremental"]);
    assert!(notes(&first).contains("keeps no list of files"), "{first}");
    let second = site.json(0, &["backup", "shop", "--incremental"]);
    is_made(&second, "incremental");
    assert_eq!(notes(&full(&["--full"])), "");
    site.fails(2, "usage", &["backup", "shop", "--full", "--incremental"]);
    let dumps = Site::with(&server);
    let said = dumps.fails(2, "usage", &["backup", "shop", "--incremental"]);
    assert!(said.contains("base backups of clusters"), "{said}");
}

#[test]
fn a_full_copy_is_made_when_the_last_is_old() {
    let (_server, site) = summarizing();
    let (id, _) = backup(&site, "full");
    resign(&site, &id, |manifest| {
        manifest.started -= jiff::SignedDuration::from_hours(7 * 24);
    });
    let answer = site.json(0, &["backup", "shop"]);
    assert_eq!(answer["backup"]["kind"]["type"], "full", "{answer}");
    assert!(notes(&answer).contains("one is due") && notes(&answer).contains(&id), "{answer}");
    backup(&site, "incremental");
    site.replace("incremental = true", "incremental = true\nfull_every = \"26h\"");
    backup(&site, "incremental");
}

#[test]
fn what_the_host_keeps_is_believed_only_as_the_signed_manifest_names_it() {
    let (_server, site) = summarizing();
    let (id, _) = backup(&site, "full");
    let path = kept(&site).remove(0);
    let whole = fs::read(&path).unwrap();
    let other = String::from_utf8(whole.clone()).unwrap().replacen("\"Size\": 3", "\"Size\": 4", 1);
    let refused: [(&[u8], &str); 3] = [
        (&whole[..whole.len() / 2], "is not the one that its signed manifest names"),
        (other.as_bytes(), "is not the one that its signed manifest names"),
        (b"", "is not the one that its signed manifest names"),
    ];
    for (bytes, why) in refused {
        let path = kept(&site).remove(0);
        fs::write(&path, bytes).unwrap();
        let answer = site.json(0, &["backup", "shop"]);
        assert_eq!(answer["backup"]["kind"]["type"], "full", "{answer}");
        assert!(notes(&answer).contains(why), "{answer}");
    }
    // Another backup's list under a backup's name.
    fs::write(kept(&site).remove(0), &whole).unwrap();
    let answer = site.json(0, &["backup", "shop"]);
    assert!(notes(&answer).contains("signed manifest names"), "{answer}");
    fs::remove_dir_all(site.path("state/listings")).unwrap();
    let (next, answer) = backup(&site, "full");
    assert!(notes(&answer).contains("keeps no list of files"), "{answer}");
    backup(&site, "incremental");
    // What it is based on is gone from the bucket.
    fs::remove_file(manifest_of(&site, &next)).unwrap();
    let answer = site.json(0, &["backup", "shop"]);
    assert_eq!(answer["backup"]["kind"]["type"], "full", "{answer}");
    assert!(
        notes(&answer).contains(&format!("is based on {next}, which is not there")),
        "{answer}"
    );
    assert!(manifest_of(&site, &id).exists());
}

#[test]
fn a_crash_before_the_list_is_kept_leaves_a_host_that_stands_on_the_copy_before() {
    let (server, site) = summarizing();
    let (full, _) = backup(&site, "full");
    change(&server, 1);
    let mut dies = site.command(&["backup", "shop"]);
    let dead = Ran::of(&dies.env("DRCTL_CRASH_AT", "catalog-after-commit").output().unwrap());
    assert_eq!(dead.code, None, "{}", dead.err);
    change(&server, 2);
    let (id, answer) = backup(&site, "incremental");
    assert_eq!(answer["backup"]["kind"]["parent"]["backup"], full.as_str(), "{answer}");
    let (_folder, path) = restore(&site, &["--backup", &id]);
    verified(&server, &path.join("data"));
    let restored = Postgres::builder().data(&path.join("data")).start();
    assert_eq!(restored.psql("postgres", ORDERS), server.psql("postgres", ORDERS));
}

/// Asserts that nothing takes an incremental backup for one that can be restored.
#[track_caller]
fn is_broken(site: &Site, id: &str, good: Option<&str>, why: &str) {
    let (_folder, path) = place();
    let to = path.display().to_string();
    let arguments = ["restore", "shop", "--backup", id, "--to-directory", &to];
    let said = site.fails(4, "broken_chain", &arguments);
    assert!(said.contains(why), "{said}");
    assert!(!path.exists(), "something was written");
    let verified = site.json(4, &["verify", id]);
    assert_eq!(verified["backups"][0]["problems"][0]["code"], "broken_chain", "{verified}");
    site.fails(4, "broken_chain", &["show", id, "--emergency"]);
    let shown = site.json(0, &["show", id]);
    assert!(text(&shown["broken"]).contains(why), "{shown}");
    let view = site.drctl(&["--json", "timeline", "shop"]);
    assert!(view.out.contains("chain is broken") || view.code == Some(5), "{}", view.out);
    // `catalog check` compares with what the catalog knew; a new one says so itself.
    let rebuilt = site.json(3, &["catalog", "rebuild"]);
    assert_eq!(rebuilt["broken"][0]["backup"], id, "{rebuilt}");
    // What is gone is told too, and the code says so.
    let list = site.drctl(&["--json", "list"]).json();
    let mut rows = list["backups"].as_array().unwrap().iter();
    let row = rows.find(|row| row["backup"] == id).unwrap();
    assert!(row["good"] == false && text(&row["broken"]).contains(why), "{row}");
    let status = site.status();
    match good {
        None => {
            assert_eq!(status["health"], "breached", "{status}");
            site.fails(5, "no_backup", &["restore", "shop", "--latest", "--to-directory", &to]);
        }
        Some(good) => {
            assert_eq!(status["newest_good"]["backup"], good, "{status}");
            // Another manifest is in the place of the one that the backup names.
            assert_eq!(status["health"], "breached", "{status}");
            assert!(status["findings"].to_string().contains("--full"), "{status}");
            let latest = ["restore", "shop", "--latest", "--to-directory", &to, "--plan"];
            assert_eq!(site.json(0, &latest)["backup"], good);
        }
    }
}

#[test]
fn a_copy_whose_chain_is_broken_is_no_backup_and_everything_says_so() {
    let (server, site) = summarizing();
    let (full, _) = backup(&site, "full");
    change(&server, 1);
    let (id, _) = backup(&site, "incremental");
    let whole = fs::read(manifest_of(&site, &full)).unwrap();
    fs::remove_file(manifest_of(&site, &full)).unwrap();
    // Before the catalog is made anew, too, which knows both.
    let rows = site.json(3, &["list"])["backups"].clone();
    assert!(rows.as_array().unwrap().iter().all(|row| row["good"] == false), "{rows}");
    assert!(text(&rows[0]["broken"]).contains("which is not there"), "{rows}");
    assert_eq!(site.status()["newest_good"], Value::Null);
    is_broken(&site, &id, None, "which is not there");
    let gone = site.json(3, &["list"])["lost"][0]["key"].clone();
    assert_eq!(gone, format!("s/shop/b/{full}/manifest.json"));
    // Nobody we trust has signed it.
    fs::write(manifest_of(&site, &full), &whole[..whole.len() - 20]).unwrap();
    is_broken(&site, &id, None, "is based on");
    // The same name, signed, and still another one; which itself is as good as any.
    fs::write(manifest_of(&site, &full), &whole).unwrap();
    resign(&site, &full, |manifest| manifest.host = "elsewhere".to_owned());
    is_broken(&site, &id, Some(&full), "whose manifest was replaced");
    // Suspect since: a manifest cannot become so, and a child of one is none.
    fs::write(manifest_of(&site, &full), &whole).unwrap();
    let _ = site.json(0, &["catalog", "rebuild"]);
    let _ = site.json(0, &["verify", "--data"]);
    let (_folder, path) = restore(&site, &["--latest"]);
    verified(&server, &path.join("data"));
    // A segment of the parent is missing: what is based on it fails too, and says in what.
    let segment = site.path("repository/s/shop/b").join(&full).join("base/000001.zst.age");
    fs::remove_file(segment).unwrap();
    let (_folder, path) = place();
    let to = path.display().to_string();
    let arguments = ["restore", "shop", "--backup", &id, "--to-directory", &to];
    let said = site.fails(4, "segment_damaged", &arguments);
    assert!(said.contains(&full), "{said}");
    // So does what only remembers that, and the next one is based on neither.
    let _ = site.json(4, &["verify"]);
    let rows = site.json(3, &["list"])["backups"].clone();
    assert!(rows.as_array().unwrap().iter().all(|row| row["good"] == false), "{rows}");
    assert!(text(&rows[0]["bad"][0]).contains(&format!("it is based on {full}")), "{rows}");
    assert_eq!(site.status()["newest_good"], Value::Null);
    let said = site.fails(5, "no_backup", &["restore", "shop", "--latest", "--to-directory", &to]);
    assert!(said.contains(&format!("it is based on {full}")), "{said}");
    let _ = backup(&site, "full");
}

#[test]
fn a_list_or_a_program_that_is_another_one_stops_the_restore() {
    let (server, site) = summarizing();
    backup(&site, "full");
    change(&server, 1);
    let (id, _) = backup(&site, "incremental");
    let (_folder, path) = place();
    let to = path.display().to_string();
    let arguments = ["restore", "shop", "--backup", &id, "--to-directory", &to];
    // A program that ends well and has made something else: a copy of the last part.
    let bin = tempfile::tempdir().unwrap();
    let program = bin.path().join("pg_combinebackup");
    let real = server.bin_dir().join("pg_combinebackup").display().to_string();
    let fake = |more: &str| {
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && exec {real} --version\n{real} \"$@\" || exit 1\n\
             while [ $# -gt 0 ]; do [ \"$1\" = --output ] && out=$2; shift; done\n{more}\n"
        );
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let _ = fs::remove_dir_all(&path);
    };
    site.bin_dir(bin.path());
    for (more, why) in [
        ("printf x | dd of=$out/PG_VERSION conv=notrunc 2> /dev/null", "other content"),
        ("rm $out/global/pg_filenode.map", "pg_filenode.map"),
        ("touch $out/base/1/one_too_many", ", but it lists "),
        ("rm $out/backup_manifest", "cannot be read"),
    ] {
        fake(more);
        let said = site.fails(4, "copy_differs", &arguments);
        assert!(said.contains(why), "{why}: {said}");
    }
    fake("exit 3");
    let said = site.fails(10, "tool_failed", &arguments);
    assert!(said.contains("exit status 3"), "{said}");
    fake("true");
    let _ = site.json(0, &arguments);
    verified(&server, &path.join("data"));
    // Without the program nothing is begun.
    fs::remove_file(&program).unwrap();
    fs::remove_dir_all(&path).unwrap();
    site.fails(10, "tool_missing", &arguments);
    assert!(!path.exists());
}

#[test]
fn a_recovery_to_a_point_in_time_begins_at_an_incremental_copy() {
    let shop = Archiving::of(archiving_from(NEWER), true, site);
    summarize(&shop.server);
    shop.site.source("incremental = true");
    let take = |expected: &str| {
        let answer = shop.drctl(&["backup", "shop"]).ended(0).json();
        is_made(&answer, expected);
        text(&answer["backup"]["backup"])
    };
    shop.tick(1..11);
    let full = take("full");
    shop.tick(11..21);
    let id = take("incremental");
    shop.tick(21..41);
    let time = shop.committed(30);
    shop.sql("delete from ticks");
    shop.archived();
    let (ran, _folder, path) = shop.recover(&["--to-time", &time, "--promote"]);
    let done = ran.ended(0).json();
    assert_eq!((&done["base"], &done["shows"]), (&id.as_str().into(), &time.as_str().into()));
    assert_eq!(ticks(&path), list(1..31), "{done}");
    // Without what it is based on it is passed over, out loud, and nothing is left to begin at.
    fs::rename(manifest_of(&shop.site, &full), shop.site.path("hidden")).unwrap();
    let (ran, _folder, path) = shop.recover(&["--to-time", &time]);
    let said = ran.failed(5, "no_backup");
    assert!(said.contains("no base backup"), "{said}");
    assert!(!path.exists());
}

#[test]
fn a_standby_gives_incremental_copies_too() {
    let primary = cluster_from(NEWER);
    summarize(&primary);
    let (standby, _standby) = standby(&primary);
    let site = site(&standby);
    site.source("incremental = true");
    backup(&site, "full");
    change(&primary, 1);
    // A backup of a standby begins where it has replayed a checkpoint of the primary: another one.
    primary.psql("postgres", "checkpoint; create table later (x int); select pg_switch_wal()");
    drctl_tests::site::until("the standby to follow", || {
        standby.psql("postgres", "select to_regclass('later') is not null") == "t"
    });
    let (id, _) = backup(&site, "incremental");
    let (_folder, path) = restore(&site, &["--backup", &id]);
    verified(&standby, &path.join("data"));
    let restored = Postgres::builder().data(&path.join("data")).start();
    assert_eq!(restored.psql("postgres", ORDERS), primary.psql("postgres", ORDERS));
    // With no checkpoint since, it begins where the backup before did: a full one, and why.
    let again = site.json(0, &["backup", "shop"]);
    assert_eq!(again["backup"]["kind"]["type"], "full", "{again}");
    assert!(notes(&again).contains("but this backup starts at"), "{again}");
}

#[test]
fn the_emergency_script_brings_a_chain_and_what_puts_it_together() {
    let (server, site) = summarizing();
    let _outside = tablespace(&server);
    backup(&site, "full");
    for n in 1..3 {
        change(&server, n);
        server.psql("postgres", "update far_one set x = x + 1");
        backup(&site, "incremental");
    }
    let id = text(&site.rows()[0]["backup"]);
    let script = site.drctl(&["show", &id, "--emergency"]).ended(0).out;
    let (_folder, path) = place();
    let file = site.path("restore.sh");
    fs::write(&file, script).unwrap();
    let bash = |arguments: &[&Path]| {
        let bin = server.bin_dir().display().to_string();
        let mut bash = Command::new("bash");
        bash.args(arguments).env_clear().env("PATH", format!("{bin}:/usr/bin:/bin"));
        Ran::of(&bash.output().unwrap()).ended(0).err
    };
    let said = bash(&[&file, &site.identity(), &path]);
    assert!(said.contains("signature good") && said.contains("combine.sh"), "{said}");
    let new = path.parent().unwrap().join("new");
    bash(&[&path.join("combine.sh"), &new]);
    verified(&server, &new);
    let mut settings = fs::read_to_string(new.join("postgresql.auto.conf")).unwrap();
    settings += "archive_mode = off\nrestore_command = 'false'\n";
    fs::write(new.join("postgresql.auto.conf"), settings).unwrap();
    fs::write(new.join("recovery.signal"), "").unwrap();
    give_away(path.parent().unwrap());
    let restored = Postgres::builder().data(&new).start();
    assert_eq!(restored.psql("postgres", ORDERS), server.psql("postgres", ORDERS));
    assert_eq!(restored.psql("postgres", "select sum(x) from far_one"), "12512500");
    let place = "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'far'";
    let place = restored.psql("postgres", place);
    assert!(place.starts_with(&new.display().to_string()), "{place}");
    // By itself such a backup is of no use, and a restore into files says so.
    let to = site.path("files").display().to_string();
    let planned = site.json(0, &["restore", "shop", "--latest", "--to-files", &to, "--plan"]);
    assert!(notes(&planned).contains("of no use without"), "{planned}");
}
