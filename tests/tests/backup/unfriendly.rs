//! Databases with settings, names and sizes of their own, and a pooler before them.

use std::process::Stdio;

use drctl_tests::servers::pgbouncer::PgBouncer;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

use crate::common::{Shop, orders};

/// A new server with `sql` run on it, and a host that backs it up.
fn source(sql: &str) -> (Postgres, Site) {
    let server = Postgres::start();
    server.psql("postgres", sql);
    let site = Site::with(&server);
    (server, site)
}

/// The arguments that restore the newest backup into a server.
fn into(target: &Postgres) -> Vec<String> {
    let (host, port) = (target.socket_dir().display().to_string(), target.port().to_string());
    let start = ["restore", "shop", "--latest", "--to-host", &host, "--to-port", &port];
    start.map(str::to_owned).to_vec()
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn a_database_with_settings_of_its_own_comes_back_with_them() {
    let (server, site) = source(
        "create database frozen; \\c frozen\n\
         create table held as select g as id from generate_series(1, 100) g;\
         create role low; alter role postgres in database frozen set role = 'low';\
         alter role postgres set default_transaction_isolation = 'serializable';\
         alter database frozen set default_transaction_read_only = on;\
         alter database frozen set datestyle = 'SQL, DMY';\
         comment on database frozen is 'it''s cold';\
         alter database frozen connection limit 7",
    );
    let _ = site.backup();
    for jobs in ["1", "2"] {
        let target = Postgres::start();
        let _ = site.json(0, &[&words(&into(&target))[..], &["--jobs", jobs]].concat());
        assert_eq!(target.psql("frozen", "set role none; select count(*) from held"), "100");
        let settings = "select unnest(setconfig) from pg_db_role_setting s join pg_database d \
                        on d.oid = setdatabase and datname = 'frozen' order by 1";
        assert_eq!(target.psql("postgres", settings), server.psql("postgres", settings));
        let comment = "select shobj_description(oid, 'pg_database'), datconnlimit \
                       from pg_database where datname = 'frozen'";
        assert_eq!(target.psql("postgres", comment), "it's cold|7");
    }
}

#[test]
fn a_statement_that_fails_takes_nothing_along() {
    let (_server, site) = source(
        "create database app; create database zebra; \\c zebra\n\
         create table z as select g from generate_series(1, 500) g; \\c app\n\
         create table customer (id int primary key);\
         create table sale (id int primary key, c int references customer);\
         create index sale_by_c on sale (c);\
         insert into customer select generate_series(1, 1000);\
         insert into sale select g, g from generate_series(1, 1000) g;\
         set session_replication_role = replica; delete from customer where id = 7;\
         create database gallery; create database guarded; \\c gallery\n\
         create table work as select g from generate_series(1, 700) g;\
         create function shown(v int) returns int language plpgsql as $$ begin return v; end $$;\
         create materialized view fair as select shown(g) from work;\
         create or replace function shown(v int) returns int language plpgsql as \
             $$ begin raise exception 'it is closed'; end $$; \\c guarded\n\
         create table kept as select g from generate_series(1, 900) g;\
         create materialized view seen as select g from kept;\
         create function guard() returns event_trigger language plpgsql as \
             $$ begin raise exception 'nobody refreshes here'; end $$;\
         create event trigger guard on ddl_command_start \
             when tag in ('REFRESH MATERIALIZED VIEW') execute function guard()",
    );
    let _ = site.backup();
    for jobs in ["1", "2"] {
        let target = Postgres::start();
        let arguments = into(&target);
        let arguments = [&words(&arguments)[..], &["--jobs", jobs]].concat();
        let answer = site.json(3, &arguments);
        let restored = answer["restored"].as_array().unwrap();
        let app = restored.iter().find(|one| one["target"] == "app").unwrap();
        let failed = app["failed"].to_string();
        assert!(
            failed.contains("ALTER TABLE ONLY public.sale ADD CONSTRAINT sale_c_fkey"),
            "{answer}"
        );
        assert_eq!(app["failed"].as_array().unwrap().len(), 1, "{answer}");
        assert_eq!(target.psql("app", "select count(*) from sale"), "1000");
        assert_eq!(target.psql("app", "select to_regclass('sale_by_c') is not null"), "t");
        assert_eq!(target.psql("zebra", "select count(*) from z"), "500");
        // Code of the database that fails: when its own rows are shown, or by whoever guards it.
        for (name, table, rows) in [("gallery", "work", "700"), ("guarded", "kept", "900")] {
            let one = restored.iter().find(|one| one["target"] == name).unwrap();
            let failed = one["failed"].to_string();
            // Two jobs make the trigger and refresh the view at the same time.
            if name == "gallery" || jobs == "1" {
                assert_eq!(one["failed"].as_array().unwrap().len(), 1, "{answer}");
                assert!(failed.contains("REFRESH MATERIALIZED VIEW"), "{failed}");
            }
            assert_eq!(target.psql(name, &format!("select count(*) from {table}")), rows);
        }
        // A second run has nothing to do, and says so; without being asked to, it changes nothing.
        let _ = site.fails(12, "not_empty", &arguments);
        target.psql("postgres", "drop database zebra");
        let again = site.json(0, &[&arguments[..], &["--missing"]].concat());
        assert_eq!(again["restored"].as_array().unwrap().len(), 2, "{again}");
        assert!(!again["restored"].to_string().contains("\"app\""), "{again}");
        assert_eq!(target.psql("zebra", "select count(*) from z"), "500");
    }
}

#[test]
fn rows_that_are_missing_are_a_failure_and_the_others_are_restored() {
    let (_server, site) = source(
        "create database app; create database zebra; \\c zebra\n\
         create table z as select g from generate_series(1, 500) g; \\c app\n\
         create function fits(v int) returns bool language sql as 'select true';\
         create table t (v int check (fits(v))); insert into t values (7), (9);\
         create table u as select 1 as v;\
         create or replace function fits(v int) returns bool language sql as 'select v < 8'",
    );
    let _ = site.backup();
    let target = Postgres::start();
    let said = site.fails(4, "mismatch", &words(&into(&target)));
    assert!(said.contains("public.t has 0 rows instead of 2") && said.contains("kept"), "{said}");
    assert!(said.contains("COPY failed for table"), "{said}");
    assert_eq!(target.psql("app", "select v from u"), "1");
    assert_eq!(target.psql("zebra", "select count(*) from z"), "500");
}

#[test]
fn a_tablespace_that_cannot_be_made_keeps_nothing_from_coming_back() {
    let (server, site) = source("create database app; create role clerk login");
    let folder = tempfile::tempdir_in(server.socket_dir()).unwrap();
    let owner = std::process::Command::new("chown").arg("postgres").arg(folder.path()).status();
    assert!(owner.unwrap().success());
    let place = folder.path().display();
    server.psql("postgres", &format!("create tablespace fast location '{place}'"));
    server
        .psql("app", "create table t tablespace fast as select 1 as v; grant select on t to clerk");
    let _ = site.backup();
    drop(folder);
    let target = Postgres::start();
    let answer = site.json(3, &words(&into(&target)));
    let failed = answer["restored"].as_array().unwrap().iter().map(|one| one["failed"].to_string());
    let failed: Vec<String> = failed.collect();
    assert!(failed[0].contains("CREATE TABLESPACE fast"), "{answer}");
    assert_eq!(target.psql("app", "select v from t"), "1");
    assert_eq!(
        target.psql("postgres", "select count(*) from pg_roles where rolname = 'clerk'"),
        "1"
    );
}

#[test]
fn as_many_tables_as_pg_dump_can_lock_are_backed_up_and_come_back() {
    // Room for some hundred locks: one for each table, and not for each index besides.
    let few = |server: drctl_tests::servers::postgres::Builder| {
        server.conf("max_locks_per_transaction", "10").conf("max_connections", "40").start()
    };
    let server = few(Postgres::builder());
    server.psql(
        "postgres",
        "do $$ begin for i in 1..500 loop \
         execute format('create table t%s (id int primary key, a int unique, b int, c int)', i); \
         execute format('create index on t%s (b)', i); \
         execute format('create index on t%s (c)', i); \
         if i % 20 = 0 then commit; end if; end loop; end $$",
    );
    let mut dump = server.client("pg_dump");
    let dumped = dump.args(["-Fc", "postgres"]).stdout(Stdio::null()).status();
    assert!(dumped.unwrap().success());
    let site = Site::with(&server);
    let id = site.json(3, &["backup", "shop"])["backup"]["backup"].as_str().unwrap().to_owned();
    let target = few(Postgres::builder());
    let arguments = into(&target);
    let mut arguments = words(&arguments);
    arguments[2] = "--backup";
    arguments.insert(3, &id);
    let answer = site.json(0, &arguments);
    assert!(answer.to_string().contains("\"tables\":500"), "{answer}");
}

#[test]
fn names_of_every_kind_are_backed_up_and_come_back() {
    let name = "it's \\a \"né%f\"";
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    let server = Postgres::start();
    server.psql("postgres", &format!("create database {quoted}"));
    let table = format!("create table {quoted} as select 7 as {quoted}");
    let run = |server: &Postgres, sql: &str| {
        let db = format!("dbname='{}'", name.replace('\\', "\\\\").replace('\'', "\\'"));
        server.psql(&db, sql)
    };
    run(&server, &table);
    let site = Site::with(&server);
    let _ = site.backup();
    let target = Postgres::start();
    let _ = site.json(0, &words(&into(&target)));
    assert_eq!(run(&target, &format!("select {quoted} from {quoted}")), "7");
}

#[test]
fn a_pooler_is_refused_before_it_is_harmed() {
    let shop = Shop::open();
    for (mode, ignored) in
        [("transaction", ""), ("transaction", "options"), ("session", "options"), ("session", "")]
    {
        let pool = PgBouncer::before(&shop.server, mode, ignored);
        let site = Site::empty();
        let url = format!("file://{}", site.path("repository").display());
        site.init(&shop.server, &url, &["--database", &shop.db]);
        let direct = format!("host = \"{}\"", shop.server.socket_dir().display());
        site.replace(&direct, &format!("host = \"{}\"", pool.socket_dir().display()));
        let port = format!("port = {}", shop.server.port());
        site.replace(&port, &format!("port = {}", pool.port()));
        // Its socket lies where others may put one.
        site.source("require_peer = \"postgres\"");
        let said = site.fails(10, "pooler", &["backup", "shop"]);
        assert!(said.contains("pgbouncer"), "{said}");
        let found = site.drctl(&["doctor"]);
        assert!(found.out.contains("a pooler answers instead of"), "{}", found.out);
        // What applications get from the pool is as it was.
        assert_eq!(pool.psql(&shop.db, "show search_path"), "\"$user\", public", "{mode}");
        assert_eq!(pool.psql(&shop.db, "select count(*) from orders"), "20000", "{mode}");
    }
    assert!(orders(&shop.server, &shop.db).starts_with("20000|"));
}

#[test]
fn the_servers_log_tells_of_no_client_that_was_lost() {
    let (server, site) = source("create database app; \\c app\ncreate table t as select 1 as v");
    let _ = site.backup();
    let target = Postgres::start();
    let _ = site.json(0, &words(&into(&target)));
    for log in [server.log(), target.log()] {
        assert!(!log.contains("connection to client lost"), "{log}");
        assert!(!log.contains("unexpected EOF"), "{log}");
    }
}

#[test]
fn a_database_that_is_in_no_backup_any_more_is_named() {
    let (server, site) = source(
        "create database kept; create database lost; create database hidden; create database shut; \\c kept\n\
         create table t as select 1 as v",
    );
    let first = site.backup();
    assert_eq!(site.status()["gone"].as_array().unwrap().len(), 0);
    server.psql("postgres", "drop database lost; alter database hidden is_template true");
    server.psql("postgres", "alter database shut allow_connections false");
    for _ in 0..2 {
        let answer = site.json(0, &["backup", "shop"]);
        let notes = answer["notes"].to_string();
        let status = site.status();
        for name in ["lost", "hidden", "shut"] {
            assert!(notes.contains(&format!("database {name} is in {first}")), "{answer}");
            assert!(status["gone"].to_string().contains(name), "{status}");
        }
        assert!(!notes.contains("database kept"), "{answer}");
        assert_eq!(status["health"], "good", "{status}");
    }
    assert!(site.drctl(&["status"]).out.contains("shop: note: database shut is in"));
    server.psql("postgres", "alter database hidden is_template false; create database lost");
    server.psql("postgres", "alter database shut allow_connections true");
    assert_eq!(site.json(0, &["backup", "shop"])["notes"].as_array().unwrap().len(), 0);
    assert_eq!(site.status()["gone"].as_array().unwrap().len(), 0);
}
