//! Clusters brought to a point in time out of pgBackRest's repository.

use std::fs;
use std::process::Stdio;

use drctl_tests::cluster::{Cluster as _, give_away, list, open_folder, own_place, standby, ticks};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::until;
use drctl_tests::targets;

use crate::common::Shop;

#[test]
fn a_cluster_is_brought_to_any_time_position_transaction_and_name() {
    let shop = Shop::start();
    targets::are_reached(&shop);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote", "--drill"]);
    let done = ran.ended(0).json();
    assert_eq!(ticks(&path), list(30..41));
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert_eq!(view["drills"][0]["drill"], done["drill"], "{view}");
    assert_eq!(view["drills"][0]["outcome"], "proven", "{view}");
}

#[test]
fn a_target_that_cannot_be_reached_is_refused_before_anything_is_touched() {
    targets::are_refused(&Shop::start());
}

#[test]
fn tablespaces_lie_elsewhere_afterwards_and_the_sources_own_are_not_touched() {
    let shop = Shop::start();
    let space = open_folder("drctl-space-");
    give_away(space.path());
    shop.sql(&format!("create tablespace fast location '{}'", space.path().display()));
    shop.sql("create table apart (id int) tablespace fast; insert into apart values (1), (2)");
    let _ = shop.back_up();
    shop.sql("insert into apart values (3)");
    // One that the log makes, where the sandbox would show what lies on this host.
    let shown =
        tempfile::Builder::new().prefix("drctl-space-").tempdir_in("/usr/local/lib").unwrap();
    give_away(shown.path());
    shop.sql(&format!("create tablespace shown location '{}'", shown.path().display()));
    shop.sql("create table made (id int) tablespace shown; insert into made values (4), (5)");
    shop.archived();
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    shop.sql("drop table apart; drop table made");
    let restored = Postgres::builder().data(&path.join("data")).start();
    assert_eq!(restored.psql("postgres", "select string_agg(id::text, ',') from apart"), "1,2,3");
    assert_eq!(restored.psql("postgres", "select string_agg(id::text, ',') from made"), "4,5");
    for space in ["fast", "shown"] {
        let place = "select pg_tablespace_location(oid) from pg_tablespace where spcname = ";
        let place = restored.psql("postgres", &format!("{place}'{space}'"));
        assert!(place.starts_with(&path.join("tablespaces").display().to_string()), "{place}");
    }
    assert_eq!(restored.psql("postgres", "show archive_mode"), "off");
}

#[test]
fn the_host_is_gone_and_its_keys_and_pgbackrest_are_enough() {
    let mut shop = Shop::start();
    let _ = shop.back_up();
    shop.tick(1..11);
    shop.archived();
    let time = shop.committed(7);
    shop.server.stop();
    fs::rename(shop.server.data_dir(), shop.server.data_dir().with_extension("gone")).unwrap();
    let (ran, _folder, path) = shop.recover(&["--to-time", &time, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..8));
}

#[test]
fn a_recovery_goes_on_only_when_the_pgbackrest_of_the_killed_one_has_ended() {
    let shop = Shop::start();
    let _ = shop.back_up();
    shop.tick(1..11);
    shop.archived();
    let (begun, go) = (shop.path("begun"), shop.path("go"));
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in restore)\n  touch {}\n  while [ ! -e {} ]; do sleep 0.1; done ;;\n\
         esac\nexec pgbackrest \"$@\"\n",
        begun.display(),
        go.display()
    );
    shop.instead_of_pgbackrest(&script);
    let (_folder, path) = own_place();
    let to = path.display().to_string();
    let arguments = ["--json", "restore", "shop", "--to-end", "--promote", "--to-directory", &to];
    let mut killed = shop.command(&arguments).stdout(Stdio::null()).spawn().unwrap();
    until("pgBackRest to restore", || begun.exists());
    killed.kill().unwrap();
    killed.wait().unwrap();
    let again = [&arguments[1..], &["--resume"]].concat();
    let said = shop.drctl(&again).failed(12, "target_unfit");
    assert!(said.contains("still writes into"), "{said}");
    fs::write(&go, "").unwrap();
    // It goes on by itself, and ends.
    until("the recovery to go on", || shop.drctl(&again).code == Some(0));
    assert_eq!(ticks(&path), list(1..11));
}

#[test]
fn a_stanza_of_another_directory_is_named_before_a_place_is_taken() {
    let mut shop = Shop::start();
    let _ = shop.back_up();
    shop.tick(1..11);
    shop.archived();
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    shop.server.stop();
    let to = path.display().to_string();
    let said = shop.drctl(&["take-over", "shop", &to]).failed(12, "target_unfit");
    let (conf, data) = (shop.path("pgbackrest.conf"), path.join("data"));
    let line = format!("pg1-path={}", data.display());
    assert!(said.contains(&line) && said.contains(&conf.display().to_string()), "{said}");
    let old = format!("pg1-path={}", shop.server.data_dir().display());
    let text = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, text.replace(&old, &line)).unwrap();
    let planned = shop.drctl(&["take-over", "shop", &to]).ended(0).json();
    let digest = planned["digest"].as_str().unwrap();
    let _ = shop.drctl(&["take-over", "shop", &to, "--yes", digest]).ended(0);
    shop.server = Postgres::builder().data(&data).start();
    shop.configure();
    shop.tick(11..21);
    shop.archived();
    let view = shop.drctl(&["timeline", "shop"]).json();
    assert_eq!(view["timelines"][1]["timeline"], 2, "{view}");
    assert_eq!(view["timelines"][1]["known"], true, "{view}");
    assert_eq!(shop.sql("select count(*) from ticks"), "20");
}

#[test]
fn a_detour_over_too_little_log_in_its_archive_is_told_before_anything_is_touched() {
    let mut shop = Shop::start();
    let _ = shop.back_up();
    shop.tick(1..11);
    // All of it within one segment, so that none is missing.
    shop.detour(11..16);
    shop.tick(16..21);
    shop.archived();
    shop.tick(21..26);
    shop.archived();
    let (ran, _folder, path) = shop.recover(&["--to-time", &shop.committed(18)]);
    let said = ran.failed(5, "no_plan");
    assert!(said.contains("wal_level = minimal") && !path.exists(), "{said}");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--accept-loss", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..11));
    // A backup behind it leads on. What was read and tells nothing is remembered.
    let _ = shop.back_up();
    shop.tick(26..31);
    shop.archived();
    let kept = || {
        let mut kept = shop.site.files("state");
        kept.retain(|path| path.extension().is_some_and(|ending| ending == "looked"));
        kept.iter().map(|path| shop.site.path("state").join(path)).collect::<Vec<_>>()
    };
    let read = fs::read_to_string(&kept()[0]).unwrap();
    assert!(read.lines().count() >= 1 && read.lines().all(|line| line.len() == 65), "{read}");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..31));
}

#[test]
fn a_cluster_that_was_promoted_before_its_stanza_was_made_is_brought_back() {
    let mut shop = Shop::bare(&[]);
    let (second, _folder) = standby(&shop.server);
    shop.fail_over(second);
    let _ = shop.pgbackrest(&["stanza-create"]).ended(0);
    shop.archive();
    let _ = shop.back_up();
    shop.tick(1..11);
    shop.archived();
    assert_eq!(shop.sql("select timeline_id from pg_control_checkpoint()"), "2");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..11));
}

#[test]
fn what_was_done_to_tables_is_found_in_its_archive_and_named() {
    let shop = Shop::start();
    shop.sql("create table gone as select g from generate_series(1, 3000) g");
    let _ = shop.back_up();
    shop.tick(1..6);
    let told = shop.sql("begin; select pg_current_xact_id(); drop table gone; commit");
    let xid = told.lines().next().unwrap().to_owned();
    shop.tick(6..11);
    shop.archived();
    let answer = shop.drctl(&["when", "shop"]).ended(0).json();
    let found = answer["found"].as_array().unwrap();
    assert_eq!((found.len(), &found[0]["what"]), (1, &"dropped".into()), "{answer}");
    assert_eq!(found[0]["xid"].to_string(), xid, "{answer}");
    let names: Vec<_> = found[0]["relations"].as_array().unwrap().iter().collect();
    assert!(names.iter().any(|one| one["name"] == "public.gone"), "{answer}");
    let (ran, _folder, path) = shop.recover(&["--before-xid", &xid, "--promote"]);
    let _ = ran.ended(0);
    let restored = Postgres::builder().data(&path.join("data")).start();
    assert_eq!(restored.psql("postgres", "select count(*) from gone"), "3000");
}

#[test]
fn log_of_another_history_ends_a_recovery_with_the_servers_own_words() {
    let shop = Shop::start();
    let _ = shop.back_up();
    shop.tick(1..6);
    let folder = open_folder("drctl-clone-");
    let data = folder.path().join("clone");
    let copied = shop.server.client("pg_basebackup").args(["-c", "fast", "-D"]).arg(&data).status();
    assert!(copied.expect("start pg_basebackup").success());
    let clone = Postgres::builder().data(&data).start();
    clone.psql("postgres", "alter system set archive_command = 'true'; select pg_reload_conf()");
    let sql = |text: &str| clone.psql("postgres", text);
    // Both write the same segment, each its own way; the next one is the clone's.
    shop.tick(6..11);
    let last = shop.archived();
    shop.archive_by("true");
    let segment = "select pg_walfile_name(pg_current_wal_lsn())";
    while sql(segment) <= last {
        sql("create table if not exists other (id int); insert into other values (1)");
        sql("select pg_switch_wal()");
        sql("insert into other values (2)");
    }
    let next = sql(segment);
    sql("insert into other select generate_series(1, 100)");
    sql("select pg_switch_wal()");
    sql("insert into other values (3)");
    let file = data.join("pg_wal").join(&next);
    let _ = shop.pgbackrest(&["archive-push", &file.display().to_string()]).ended(0);
    let (ran, _folder, _path) = shop.recover(&["--to-end"]);
    let said = ran.failed(4, "mismatch");
    assert!(said.contains("cannot go on at") && said.contains("prev-link"), "{said}");
}
