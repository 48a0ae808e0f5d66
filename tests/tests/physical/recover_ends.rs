//! How a recovery ends: read where no lock of a dead transaction stands, with the settings that
//! the log asks for, and asked by whoever is let in.

use std::fs;
use std::path::Path;

pub(crate) use drctl_tests::cluster::Ends;
use drctl_tests::cluster::{Cluster as _, list, own_place, ticks};
use drctl_tests::promises::raised_settings_are_taken_from_the_log;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Site, until};

use crate::common::physical;
use crate::log::Archiving;

/// Runs SQL in a server that drctl has left open: whether it went well, and its answer.
pub(crate) fn ask(shop: &Archiving, socket: &str, sql: &str) -> (bool, String) {
    let mut psql = shop.as_owner(shop.server.bin_dir().join("psql"));
    psql.args(["-XAtq", "-h", socket, "-U", "postgres", "-c", sql, "postgres"]);
    let output = psql.env("PGOPTIONS", "-c lock_timeout=5s").output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).trim().to_owned())
}

/// Commits a row of this number and then a statement; gives the statement's transaction and the
/// time of the row.
fn commit(shop: &Archiving, row: u32, statement: &str) -> (String, String) {
    shop.tick(row..row + 1);
    let before = shop.committed(row);
    let script = format!("begin; {statement}; select pg_current_xact_id(); commit;");
    (shop.sql(&script), before)
}

#[test]
fn a_table_is_taken_out_as_of_just_before_it_was_dropped_truncated_or_altered() {
    let shop = Archiving::start(true);
    for table in ["a", "b", "c"] {
        shop.sql(&format!("create table {table} (id int primary key, note text)"));
    }
    shop.back_up();
    for table in ["a", "b", "c"] {
        shop.sql(&format!("insert into {table} select g, 'x' from generate_series(1, 500) g"));
    }
    let (dropped, _) = commit(&shop, 1000, "drop table a");
    let (truncated, _) = commit(&shop, 1001, "truncate b");
    let (altered, before) = commit(&shop, 1002, "alter table c alter column id type bigint");
    shop.tick(1..5);
    shop.archived();
    for (target, table) in [
        (["--before-xid", &dropped], "postgres:public.a"),
        (["--before-xid", &truncated], "postgres:public.b"),
        (["--before-xid", &altered], "postgres:public.c"),
        (["--to-time", &before], "postgres:public.c"),
    ] {
        let (ran, _folder, path) = shop.recover(&[&target[..], &["--extract", table]].concat());
        let done = ran.ended(0).json();
        assert_eq!(done["extracted"][0]["rows"], 500, "{done}");
        assert!(done["released_locks"].as_u64() > Some(0), "{done}");
        assert_eq!(done["promoted"], true, "{done}");
        let log = fs::read_to_string(path.join("drctl.log")).unwrap();
        assert!(log.contains("rolled them back"), "{log}");
    }
    // Where nothing was under way nothing is promoted.
    let (ran, _folder, _) = shop.recover(&["--to-end", "--extract", "postgres:public.c"]);
    let done = ran.ended(0).json();
    assert!(done["released_locks"].is_null() && done["promoted"] == false, "{done}");
}

#[test]
fn who_looks_at_a_table_that_was_about_to_be_dropped_does_not_wait() {
    let shop = Archiving::start(true);
    shop.back_up();
    shop.tick(1..11);
    let (xid, _) = commit(&shop, 11, "drop table ticks");
    shop.sql("create table ticks (id int primary key, note text)");
    shop.archived();
    let (_folder, path) = own_place();
    let _ends = Ends(path.clone());
    let to = path.display().to_string();
    let restore = |more: &[&str]| {
        let all = ["restore", "shop", "--before-xid", &xid, "--to-directory", &to];
        shop.drctl(&[&all[..], more].concat())
    };
    let open = restore(&["--open"]).ended(0).json();
    let socket = open["socket"].as_str().expect("a socket").to_owned();
    let count = "select count(*) from ticks";
    assert_eq!(ask(&shop, &socket, count), (true, "11".to_owned()), "{open}");
    let (done, said) = ask(&shop, &socket, "delete from ticks");
    assert!(!done && said.contains("read-only"), "{said}");
    // It is stopped, read again, and opened again.
    let done = restore(&["--resume", "--extract", "postgres:public.ticks"]).ended(0).json();
    assert_eq!(done["extracted"][0]["rows"], 11, "{done}");
    assert!(!ask(&shop, &socket, count).0, "it was stopped");
    let open = restore(&["--resume", "--open"]).ended(0).json();
    let socket = open["socket"].as_str().expect("a socket").to_owned();
    // Whoever writes to it makes it something else than the target.
    let write = "set default_transaction_read_only = off; begin; set transaction read write; \
                 delete from ticks where id = 1; commit";
    assert!(ask(&shop, &socket, write).0);
    let said = restore(&["--resume", "--open"]).failed(12, "target_unfit");
    assert!(said.contains("was written to"), "{said}");
    // To be made one's own it need not stand at its target any more.
    let done = restore(&["--resume", "--promote"]).ended(0).json();
    assert_eq!(done["promoted"], true, "{done}");
    assert_eq!(ticks(&path), list(2..12));
}

#[test]
fn a_prepared_transaction_that_has_locked_a_table_is_named() {
    let shop = Archiving::start(true);
    shop.back_up();
    shop.sql("create table a as select 1 x; create table b as select 2 x");
    shop.sql("begin; drop table a; prepare transaction 'of the clerk'");
    shop.tick(1..5);
    let time = shop.committed(3);
    shop.archived();
    let (ran, _folder, _) = shop.recover(&["--to-time", &time, "--extract", "postgres:public.a"]);
    let said = ran.failed(10, "query");
    assert!(said.contains("'of the clerk'") && said.contains("ROLLBACK PREPARED"), "{said}");
    let (ran, _folder, _) = shop.recover(&["--to-time", &time, "--extract", "postgres:public.b"]);
    assert_eq!(ran.ended(0).json()["extracted"][0]["rows"], 1);
    shop.sql("rollback prepared 'of the clerk'");
}

#[test]
fn transactions_that_nobody_has_decided_are_named_where_the_cluster_opens() {
    let shop = Archiving::start(true);
    shop.sql("create role clerk");
    shop.back_up();
    shop.sql("create table a as select 1 x; create table b as select 2 x");
    shop.sql("begin; drop table a; set local role clerk; prepare transaction 'of the clerk''s'");
    shop.sql("begin; insert into b values (3); prepare transaction 'decided'");
    shop.sql("commit prepared 'decided'");
    shop.tick(1..5);
    let (time, since) = (
        shop.committed(3),
        "select to_char(prepared at time zone 'UTC', \
         'YYYY-MM-DD\"T\"HH24:MI:SS.US') from pg_prepared_xacts",
    );
    let since = shop.sql(since);
    shop.archived();
    let is_named = |done: &serde_json::Value| {
        let [one] = &done["prepared"].as_array().unwrap()[..] else { panic!("{done}") };
        assert_eq!((&one["gid"], &one["database"]), (&"of the clerk's".into(), &"postgres".into()));
        assert_eq!(one["owner"], "clerk", "{done}");
        let at = one["since"].as_str().unwrap_or_default().trim_end_matches('Z');
        assert!(since.starts_with(at) && !at.is_empty(), "{since}: {done}");
    };
    let (_folder, path) = own_place();
    let _ends = Ends(path.clone());
    let to = path.display().to_string();
    let restore = |more: &[&str]| {
        let all = ["restore", "shop", "--to-time", &time, "--to-directory", &to];
        shop.drctl(&[&all[..], more].concat())
    };
    // Whoever looks has it opened, for it has locked a table.
    is_named(&restore(&["--open"]).ended(0).json());
    let open = restore(&["--resume", "--open"]).ended(0).json();
    is_named(&open);
    // Who decides it makes the cluster something else than the target.
    let socket = open["socket"].as_str().expect("a socket").to_owned();
    assert!(ask(&shop, &socket, "commit prepared 'of the clerk''s'").0);
    let said = restore(&["--resume", "--open"]).failed(12, "target_unfit");
    assert!(said.contains("was written to"), "{said}");
    let (ran, _folder, path) = shop.recover(&["--to-time", &time, "--promote"]);
    is_named(&ran.ended(0).json());
    let told = fs::read_to_string(path.join("drctl.log")).unwrap();
    assert!(told.contains("UNDECIDED: the prepared transaction 'of the clerk''s'"), "{told}");
    assert!(told.contains("ROLLBACK PREPARED"), "{told}");
    // Nothing is said of what stands at its target, nor where all is decided.
    shop.sql("rollback prepared 'of the clerk''s'");
    shop.tick(5..8);
    shop.archived();
    let (ran, _folder, _) = shop.recover(&["--to-end", "--promote"]);
    assert_eq!(ran.ended(0).json()["prepared"], serde_json::json!([]));
}

#[test]
fn settings_that_were_raised_after_the_copy_are_taken_from_the_log() {
    raised_settings_are_taken_from_the_log(&mut Archiving::start(true));
}

/// A cluster whose first role has a name of its own, and drctl a role without much right.
fn odd() -> Archiving {
    let shop = Archiving::with(true, |server: &Postgres| {
        let site = Site::with(server);
        physical(&site);
        site
    });
    shop.sql("create role drctl login replication");
    shop.site.replace("user = \"postgres\"", "user = \"drctl\"");
    shop
}

#[test]
fn a_server_that_does_not_let_the_configured_role_in_is_asked_all_the_same() {
    let shop = odd();
    shop.sql("create role boss superuser login");
    let renamed = "alter role postgres rename to chief";
    let mut psql = shop.server.client("psql");
    let psql = psql.args(["-XAtq", "-U", "boss", "-d", "template1", "-c", renamed]);
    assert!(psql.status().unwrap().success());
    shop.back_up();
    // At the target the role and the database that are known are not there.
    let chief = |sql: &str| {
        let mut psql = shop.server.client("psql");
        let ran = psql.args(["-XAtq", "-U", "chief", "-d", "template1", "-c", sql]).output();
        let ran = ran.unwrap();
        assert!(ran.status.success(), "{sql}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    };
    chief("alter system set default_transaction_isolation = 'serializable'");
    chief("drop role boss");
    chief("drop role drctl");
    chief("drop database postgres");
    chief("create table mark as select 1 x");
    let name = chief("select pg_walfile_name(pg_switch_wal() - 1)");
    until("the log to be archived", || {
        chief("select coalesce(last_archived_wal, '') from pg_stat_archiver") >= name
    });
    let (_folder, path) = own_place();
    let _ends = Ends(path.clone());
    let to = path.display().to_string();
    let open = shop.drctl(&["restore", "shop", "--to-end", "--open", "--to-directory", &to]);
    let open = open.ended(0).json();
    assert_eq!(said_rows(&shop, &open["socket"], &path), "1");
    let all = ["restore", "shop", "--to-end", "--to-directory", &to, "--resume"];
    let table = ["--extract", "template1:public.mark"];
    let done = shop.drctl(&[&all[..], &table].concat()).ended(0).json();
    assert_eq!(done["extracted"][0]["rows"], 1, "{done}");
}

/// Runs the `psql` that drctl has printed.
fn said_rows(shop: &Archiving, socket: &serde_json::Value, path: &Path) -> String {
    let log = fs::read_to_string(path.join("drctl.log")).unwrap();
    let line = log.lines().rev().find(|line| line.contains("psql -h ")).expect("a line");
    let words: Vec<&str> = line.split("psql ").nth(1).unwrap().split(' ').collect();
    assert_eq!(words[1], socket.as_str().unwrap(), "{line}");
    let mut psql = shop.as_owner(shop.server.bin_dir().join("psql"));
    psql.args(["-XAtq", "-c", "select count(*) from mark"]).args(words);
    let ran = psql.output().unwrap();
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}

#[test]
fn a_server_that_lets_nobody_in_ends_with_the_reason() {
    let shop = odd();
    shop.back_up();
    // In one session: nobody may log in any more, not even who made the cluster.
    let script = "alter role drctl nologin; alter role postgres nologin; \
                  insert into ticks values (1, 'x'); \
                  select to_char(pg_xact_commit_timestamp(xmin) at time zone 'UTC', \
                    'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from ticks where id = 1; \
                  insert into ticks values (2, 'x'); \
                  select pg_walfile_name(pg_switch_wal() - 1)";
    let said = shop.sql(script);
    let (time, name) = said.split_once('\n').expect("two lines");
    let done = shop.server.data_dir().join(format!("pg_wal/archive_status/{name}.done"));
    until("the log to be archived", || done.exists());
    let (ran, _folder, path) = shop.recover(&["--to-time", time]);
    let said = ran.failed(10, "auth");
    assert!(said.contains("is not permitted to log in"), "{said}");
    assert!(said.contains("in a new directory") && !said.contains("--resume"), "{said}");
    let log = fs::read_to_string(path.join("drctl.log")).unwrap();
    assert!(log.contains("refuses the query"), "{log}");
}

#[test]
fn haste_of_a_cluster_ends_nothing_of_ours() {
    let limits =
        ["statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"];
    nothing_of_ours_ends(&Archiving::start(true), &limits);
}

/// Asserts that neither a backup nor a recovery has these limits of its cluster.
pub(crate) fn nothing_of_ours_ends(shop: &Archiving, limits: &[&str]) {
    shop.tick(1..6);
    // Ours has them from its role, its database and the server; the test's own has none.
    shop.sql("create role keeper superuser login");
    for limit in limits {
        shop.sql(&format!("alter role postgres set {limit} = 0"));
    }
    for limit in limits {
        // A server whose transactions all end at once lets nobody in.
        let alone = *limit == "transaction_timeout";
        let all = ["role keeper", "database postgres", "system"];
        for whose in all.iter().take(if alone { 2 } else { 3 }) {
            shop.sql(&format!("alter {whose} set {limit} = '1ms'"));
        }
    }
    shop.sql("select pg_reload_conf()");
    shop.site.replace("user = \"postgres\"", "user = \"keeper\"");
    shop.back_up();
    shop.tick(6..11);
    shop.archived();
    let _ = shop.drctl(&["doctor"]);
    let (ran, _folder, _) = shop.recover(&["--to-end", "--extract", "postgres:public.ticks"]);
    assert_eq!(ran.ended(0).json()["extracted"][0]["rows"], 10);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..11));
}

#[test]
fn neither_a_limit_of_connections_nor_a_missing_right_keeps_a_recovery_from_its_end() {
    let shop = odd();
    shop.back_up();
    let at = |row: u32| {
        format!(
            "insert into ticks values ({row}, 'x'); \
             select to_char(pg_xact_commit_timestamp(xmin) at time zone 'UTC', \
               'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from ticks where id = {row};"
        )
    };
    // In one session, as in `a_server_that_lets_nobody_in_ends_with_the_reason`.
    let script = format!(
        "revoke connect on database postgres from public; \
         alter role drctl connection limit 1; {} alter role drctl connection limit 0; \
         alter database postgres connection limit 0; {} alter role postgres nologin; {} \
         insert into ticks values (4, 'x'); select pg_walfile_name(pg_switch_wal() - 1)",
        at(1),
        at(2),
        at(3)
    );
    let said = shop.sql(&script);
    let [first, second, third, name] = said.lines().collect::<Vec<_>>()[..] else {
        panic!("{said}")
    };
    let done = shop.server.data_dir().join(format!("pg_wal/archive_status/{name}.done"));
    until("the log to be archived", || done.exists());
    for (time, rows) in [(first, 1), (second, 2)] {
        let table = ["--to-time", time, "--extract", "postgres:public.ticks"];
        let (ran, _folder, _) = shop.recover(&table);
        assert_eq!(ran.ended(0).json()["extracted"][0]["rows"], rows);
    }
    let (ran, _folder, path) = shop.recover(&["--to-time", third]);
    let said = ran.failed(10, "connect");
    assert!(said.contains("too many connections for role") && said.contains("LIMIT"), "{said}");
    let log = fs::read_to_string(path.join("drctl.log")).unwrap();
    assert!(log.contains("refuses the query"), "{log}");
}
