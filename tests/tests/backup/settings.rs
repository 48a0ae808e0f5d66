//! What server, database and role set for sessions changes no backup and no restore.

use std::fs;
use std::io::{Seek, SeekFrom, Write};

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

/// A new server with `sql` run on it, and a host that backs it up.
fn source(sql: &str) -> (Postgres, Site) {
    let server = Postgres::start();
    server.psql("postgres", sql);
    let site = Site::with(&server);
    (server, site)
}

const BIG: &str = "create table big as \
    select g as id, repeat(md5(g::text), 8) as v from generate_series(1, 3000) g; checkpoint";

/// Writes noise over some pages of a table.
fn hurt(server: &mut Postgres, table: &str) {
    let path = server.psql("postgres", &format!("select pg_relation_filepath('{table}')"));
    server.stop();
    let mut file = fs::File::options().write(true).open(server.data_dir().join(path)).unwrap();
    file.seek(SeekFrom::Start(3 * 8192)).unwrap();
    file.write_all(&[0xA5; 5 * 8192]).unwrap();
    drop(file);
    server.start_again();
}

#[test]
fn damage_that_the_server_is_told_to_hide_is_found() {
    let mut server = Postgres::builder().conf("autovacuum", "off").start();
    server.psql("postgres", BIG);
    let site = Site::with(&server);
    // Nothing is damaged: it may have been, and nobody would know.
    server.psql("postgres", "alter role postgres set zero_damaged_pages = on");
    let answer = site.json(3, &["backup", "shop"]);
    assert!(answer.to_string().contains("zero_damaged_pages is on"), "{answer}");
    let found = site.drctl(&["doctor"]);
    assert!(found.out.contains("zero_damaged_pages is on in postgres"), "{}", found.out);
    hurt(&mut server, "big");
    let hidden = server.psql("postgres", "select count(*) < 3000 from big");
    assert_eq!(hidden, "t");
    // What that session has read is in the server's memory.
    server.stop();
    server.start_again();
    for set in ["role postgres", "database postgres", "system"] {
        server.psql(
            "postgres",
            "alter role postgres reset all; alter database postgres reset all; \
             alter system reset all",
        );
        for (setting, value) in [("zero_damaged_pages", "on"), ("ignore_checksum_failure", "on")] {
            server.psql("postgres", &format!("alter {set} set {setting} = {value}"));
        }
        server.psql("postgres", "select pg_reload_conf()");
        let said = site.fails(10, "tool_failed", &["backup", "shop"]);
        assert!(said.contains("invalid page"), "{set}: {said}");
    }
    // Who may not switch it off makes no backup at all.
    server.psql("postgres", "create role low login; grant pg_read_all_data to low");
    site.replace("user = \"postgres\"", "user = \"low\"\nrole_passwords = false");
    let said = site.fails(10, "permission", &["backup", "shop"]);
    assert!(said.contains("switch off zero_damaged_pages"), "{said}");
    assert!(said.contains("hides damage in database `postgres`"), "{said}");
    let found = site.drctl(&["doctor"]).ended(1);
    assert!(
        found.out.contains("BAD") && found.out.contains("switch off zero_dam"),
        "{}",
        found.out
    );
}

#[test]
fn a_target_reads_nulls_as_they_were_written() {
    let (_server, site) = source(
        "create database app; \\c app\ncreate table arr as select array['a', null] as a;\
         create view odd as select id = null as never from (values (1)) v (id)",
    );
    let _ = site.backup();
    for jobs in ["1", "2"] {
        let target = Postgres::builder()
            .conf("array_nulls", "off")
            .conf("transform_null_equals", "on")
            .conf("backslash_quote", "off")
            .start();
        target.psql("postgres", "alter role postgres set xmloption = document");
        target.psql("postgres", "alter role postgres set exit_on_error = on");
        let (host, port) = (target.socket_dir().display().to_string(), target.port().to_string());
        let start = ["restore", "shop", "--latest", "--jobs", jobs, "--to-host", &host];
        let _ = site.json(0, &[&start[..], &["--to-port", &port]].concat());
        assert_eq!(target.psql("app", "select a[2] is null from arr"), "t");
        assert_eq!(target.psql("app", "select never is null from odd"), "t");
    }
}

#[test]
fn settings_that_end_sessions_stop_no_backup() {
    let (server, site) = source(
        "create table kept as select 1 as v; create role eve login;\
         create database evil owner eve; \\c evil\n\
         create table t as select 7 as v",
    );
    let set = |setting: &str| {
        let text = format!("set role eve; alter database evil {setting}");
        server.psql("postgres", &text);
    };
    for setting in [
        "local_preload_libraries = 'nope'",
        "idle_session_timeout = 1",
        "idle_in_transaction_session_timeout = 1",
        "statement_timeout = 1",
        "exit_on_error = on",
        "role = 'eve'",
    ] {
        set("reset all");
        set(&format!("set {setting}"));
        let _ = site.backup();
    }
    // What only a superuser sets may keep everybody out: the database is named, and the way out.
    server.psql("postgres", "alter database evil set session_preload_libraries = 'nope'");
    let said = site.fails(10, "connect", &["backup", "shop"]);
    assert!(said.contains("refuses sessions in the database `evil`"), "{said}");
    assert!(said.contains("nope") && said.contains("exclude_databases"), "{said}");
    assert!(said.contains("RESET ALL"), "{said}");
    let found = site.drctl(&["doctor"]);
    assert!(found.out.contains("`evil`"), "{}", found.out);
    site.source("exclude_databases = [\"evil\"]");
    let _ = site.backup();
}
