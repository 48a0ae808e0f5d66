//! Code of a database's owner, which loading his rows would run.

use std::path::PathBuf;
use std::process::Child;

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Site, until};
use rustix::process::{Pid, Signal, kill_process};

use crate::common::Somebody;

/// Takes the server over where a superuser runs it.
const PWN: &str = "function pwn(x int) returns bool immutable language plpgsql as $$ begin \
     if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) \
     then execute 'alter role eve superuser'; end if; return true; \
     exception when others then return true; end $$";

/// The same behind what a planner works out.
const PLANNED: &str = "function pwn(x int) returns bool immutable language plpgsql as $$ begin \
     perform public.do_it(x); return true; end $$";

/// Where no expression of a table names the code that runs: what a function of the server's makes
/// of a name, and what is found by a type.
const HIDDEN: &[(&str, &str)] = &[
    (
        "told",
        "create view v as select pwn(1); \
         create table t(id int check (table_to_xml('v'::regclass, false, false, '') is not null))",
    ),
    (
        "schema",
        "create schema s; create view s.v as select pwn(1); \
         create table t(id int check (schema_to_xml('s', false, false, '') is not null))",
    ),
    (
        "whole",
        "create view v as select pwn(1); \
         create table t(id int check (id > 1 or database_to_xml(false, false, '') is not null))",
    ),
    (
        "cast_unseen",
        "create type e as enum ('a'); \
         create function to_int(e) returns int language plpgsql as $$ begin \
             perform pwn(1); return 1; end $$; \
         create cast (e as int) with function to_int(e) as implicit; \
         create table pk(id int primary key); insert into pk values (1); \
         create table fk(e e references pk); insert into fk values ('a'); create table t(id int)",
    ),
    ("planned", "create table t(id int primary key references t); create index on t ((pwn(1)))"),
];

/// One database for each place of code, all of them eve's but for the last.
fn hostile() -> Postgres {
    let server = Postgres::start();
    server.psql("postgres", "create role eve login");
    let places = [
        ("checked", "create table t(id int check (pwn(id)))"),
        ("computed", "create table t(id int, x bool generated always as (pwn(id)) stored)"),
        ("domain", "create domain d as int check (pwn(value)); create table t(id d)"),
        (
            "operator",
            "create operator ~~~ (function = pwn, rightarg = int); \
             create table t(id int check (~~~ id))",
        ),
        (
            "parted",
            "create table t(id int) partition by list (pwn(id)); \
             create table t1 partition of t for values in (true)",
        ),
        ("reader", "create table t(id int check (length(set_config('a.b', id::text, true)) > 0))"),
    ];
    let places = places.iter().chain(HIDDEN);
    for &(name, table) in places {
        server.psql("postgres", &format!("create database {name} owner eve"));
        // What says that it changes nothing may call what does; here one says what it is.
        let honest = ["checked", "told", "schema", "whole", "cast_unseen"].contains(&name);
        let pwn = match name {
            "planned" => format!(
                "{}; create {PLANNED}",
                PWN.replace("immutable ", "").replace("pwn", "do_it")
            ),
            _ if honest => PWN.replace("immutable ", ""),
            _ => PWN.to_owned(),
        };
        let sql = format!("set role eve; create {pwn}; {table}; insert into t values (1)");
        server.psql(name, &sql);
    }
    // What asks for nothing: functions of the server's, an index, a trigger, a superuser's own.
    server.psql("postgres", "create database harmless owner eve");
    let harmless = format!(
        "create function mine(int) returns bool immutable language sql as 'select true'; \
         create table own(id int check (mine(id))); insert into own values (1); \
         set role eve; create {PWN}; \
         create table t(id int check (id > 0 and length(id::text) < 9), \
                        x int generated always as (id + 1) stored, \
                        at timestamptz default now() check (at <= now() + '1 day'), \
                        said text check (to_char(at, 'YYYY') || id is not null)); \
         create type span as range (subtype = float8); create table spans(s span); \
         create index i on t (pwn(id)); insert into t values (1)"
    );
    server.psql("harmless", &harmless);
    server
}

#[test]
fn code_of_a_databases_owner_never_runs_as_a_superuser_unasked() {
    let server = hostile();
    let site = Site::with(&server);
    let _ = site.backup();
    let is_super = || server.psql("postgres", "select rolsuper from pg_roles where rolname='eve'");
    let beside = |name: &'static str| ["restore", "shop", "--latest", "--database", name, "--as"];
    // The backup has counted: whoever does that as a superuser executes nothing either.
    assert_eq!(is_super(), "f", "while it was backed up");
    let hidden = HIDDEN.iter().map(|(name, _)| *name);
    let open = ["checked", "computed", "domain", "operator", "parted", "reader"];
    for name in open.into_iter().chain(hidden) {
        let said = site.fails(12, "runs_code", &[&beside(name)[..], &["other"]].concat());
        assert!(said.contains("--trust-code"), "{said}");
        let named = match name {
            "reader" => "set_config of postgres",
            "told" => "table_to_xml of postgres",
            "schema" => "schema_to_xml of postgres",
            "whole" => "database_to_xml of postgres",
            "cast_unseen" => "cast from public.e to integer runs public.to_int of eve",
            _ => "public.pwn of eve",
        };
        assert!(said.contains(named), "{name}: {said}");
        assert_eq!(is_super(), "f", "{name}");
    }
    let there = "select count(*) from pg_database where datname = 'other'";
    assert_eq!(server.psql("postgres", there), "0");
    let _ = site.json(0, &[&beside("harmless")[..], &["harmless_too"]].concat());
    assert_eq!(is_super(), "f");
    // Whoever trusts it is told what he trusts; a role without the rights is asked nothing.
    let at = [&beside("checked")[..], &["checked_too"]].concat();
    let looked = site.json(0, &[&at[..], &["--plan"]].concat());
    let trust = format!("--trust-code={}", looked["code"]["digest"].as_str().unwrap());
    let at = [&at[..], &[&trust]].concat();
    let answer = site.json(0, &at).to_string();
    assert!(answer.contains("public.pwn of eve"), "{answer}");
    assert_eq!(is_super(), "t", "this is what it would have done");
    server.psql("postgres", "alter role eve nosuperuser createdb");
    let (host, port) = (server.socket_dir().display().to_string(), server.port().to_string());
    let to = ["--to-host", &host, "--to-port", &port, "--to-user", "eve"];
    let as_eve = [&["checked_again", "--no-owner"][..], &to].concat();
    let _ = site.json(0, &[&beside("checked")[..], &as_eve].concat());
    assert_eq!(server.psql("checked_again", "select count(*) from t"), "1");
    assert_eq!(is_super(), "f");
}

#[test]
fn what_is_trusted_is_what_was_shown() {
    let server = Postgres::start();
    server.psql("postgres", "create role eve login");
    server.psql("postgres", "create database evil owner eve");
    let made = |name: &str, body: &str| {
        let sql = format!(
            "set role eve; create or replace function {name}(int) returns bool language plpgsql as \
             $x$ begin {body} return true; end $x$; \
             create table if not exists {name}_t (id int check ({name}(id)))"
        );
        server.psql("evil", &sql);
    };
    server.psql(
        "evil",
        "set role eve; do $$ begin for i in 1..120 loop \
         execute format('create function ok%s(int) returns bool immutable return true', i); \
         execute format('create table a%s(i int check (ok%s(i)))', i, i); end loop; end $$",
    );
    let up = "if (select rolsuper from pg_roles where rolname = current_user) \
              then execute 'alter role eve superuser'; end if;";
    made("zzz", "");
    server.psql("evil", "insert into zzz_t values (1)");
    let site = Site::with(&server);
    let _ = site.backup();
    let at = ["restore", "shop", "--latest", "--database", "evil", "--as", "evil2"];
    let plan = site.json(0, &[&at[..], &["--plan"]].concat());
    let code = &plan["code"];
    assert_eq!((code["runs"].as_array().unwrap().len(), &code["trusted"]), (121, &false.into()));
    assert!(code["runs"].to_string().contains("public.zzz of eve"), "{code}");
    let said = site.drctl(&[&at[..], &["--plan"]].concat()).ended(0).out;
    let digest = code["digest"].as_str().unwrap();
    assert!(said.contains("zzz") && said.contains("WOULD BE REFUSED"), "{said}");
    let trust = format!("--trust-code={digest}");
    assert!(said.contains(&trust), "{said}");
    for more in [&[][..], &["--trust-code"], &["--trust-code=0123456789abcdef"]] {
        let said = site.fails(12, "runs_code", &[&at[..], more].concat());
        assert!(said.contains("and 116 more") && said.contains(digest), "{said}");
    }
    let trusting = [&at[..], &[&trust]].concat();
    let _ = site.json(0, &trusting);
    server.psql("postgres", "drop database evil2");
    // The next backup's code is other code, though it has the same names.
    made("zzz", up);
    let _ = site.backup();
    let said = site.fails(12, "runs_code", &trusting);
    assert!(!said.contains(digest), "{said}");
    let is_super = "select rolsuper from pg_roles where rolname = 'eve'";
    assert_eq!(server.psql("postgres", is_super), "f");
}

#[test]
fn what_runs_as_the_owner_runs_as_nobody_else_where_owners_are_left_out() {
    let server = Postgres::start();
    server.psql("postgres", "create role eve login");
    let honest = PWN.replace("immutable ", "");
    let places = [
        ("index", "create table t(id int); insert into t values (1); create index on t (pwn(id))"),
        ("partial", "create table t(id int); create index on t (id) where pwn(id)"),
        (
            "view",
            "create view v as select public.pwn(1) p; create materialized view m as select p from v",
        ),
        (
            "aggregate",
            "create function step(int, int) returns int language plpgsql as $$ begin \
                 perform public.pwn($2); return $2; end $$; \
             create aggregate last(int) (sfunc = step, stype = int); \
             create materialized view m as select last(x) from generate_series(1, 3) x",
        ),
        (
            "reader",
            "create materialized view m as select pg_read_file('PG_VERSION') where false with no data",
        ),
        (
            "fdw",
            "create foreign table f(x int) server loop; \
             create materialized view m as select x from f with no data",
        ),
        (
            "definer",
            "create function sure() returns int security definer language sql as 'select 1'",
        ),
        ("statistics", "create table t(a int, b int); create statistics s on (pwn(a)), b from t"),
    ];
    for (name, sql) in places {
        server.psql("postgres", &format!("create database {name} owner eve"));
        let pwn = if ["view", "aggregate"].contains(&name) { &honest } else { PWN };
        let wrapper = "create extension postgres_fdw; \
                       grant usage on foreign data wrapper postgres_fdw to eve; \
                       set role eve; create server loop foreign data wrapper postgres_fdw";
        if name == "fdw" {
            server.psql(name, wrapper);
        }
        server.psql(name, &format!("set role eve; create {pwn}; {sql}"));
    }
    server.psql("postgres", "create database harmless owner eve");
    server.psql(
        "harmless",
        "set role eve; create table t(id int, at timestamptz); insert into t values (1, now()); \
         create index on t (lower(id::text)) where id > 0; \
         create materialized view m as \
             select json_agg(id), count(*), row_number() over () from t group by date_trunc('day', at)",
    );
    let site = Site::with(&server);
    let _ = site.backup();
    let is_super = || server.psql("postgres", "select rolsuper from pg_roles where rolname='eve'");
    assert_eq!(is_super(), "f", "while it was backed up");
    for (name, _) in places {
        let at = ["restore", "shop", "--latest", "--database", name, "--as", "other"];
        let said = site.fails(12, "runs_code", &[&at[..], &["--no-owner"]].concat());
        let named = match name {
            "index" => "index public.t_pwn_idx runs public.pwn of eve",
            "partial" => "index public.t_id_idx runs public.pwn of eve",
            "view" => "materialized view public.m runs public.pwn of eve",
            "aggregate" => "materialized view public.m runs public.step of eve",
            "reader" => "materialized view public.m runs pg_catalog.pg_read_file of postgres",
            "fdw" => "materialized view public.m reads the foreign table public.f of eve",
            "definer" => "SECURITY DEFINER runs public.sure of eve",
            _ => "statistics public.s runs public.pwn of eve",
        };
        assert!(said.contains(named), "{name}: {said}");
        assert_eq!(is_super(), "f", "{name}");
        // With its owner it runs as him.
        let _ = site.json(0, &[&at[..5], &["--as", &format!("{name}_too")]].concat());
        assert_eq!(is_super(), "f", "{name}");
    }
    let at = ["restore", "shop", "--latest", "--database", "harmless", "--as", "harmless_too"];
    let _ = site.json(0, &[&at[..], &["--no-owner"]].concat());
    // Whoever trusts it is told what he trusts.
    let at = ["restore", "shop", "--latest", "--database", "view", "--as", "ours", "--no-owner"];
    let looked = site.json(0, &[&at[..], &["--plan"]].concat());
    let trust = format!("--trust-code={}", looked["code"]["digest"].as_str().unwrap());
    let _ = site.json(0, &[&at[..], &[&trust]].concat());
    assert_eq!(is_super(), "t", "this is what it would have done");
}

#[test]
fn code_of_a_superusers_index_or_materialized_view_is_code() {
    let server = Postgres::start();
    server.psql("postgres", "create role eve login");
    let honest = PWN.replace("immutable ", "");
    server.psql("postgres", "create database indexed owner eve");
    let sql = format!(
        "set role eve; create {PWN}; reset role; create table t(id int); \
                       insert into t values (1); create index on t (pwn(id))"
    );
    server.psql("indexed", &sql);
    server.psql("postgres", "create database viewed owner eve");
    let sql = format!(
        "set role eve; create {honest}; create view v as select pwn(1) p; reset role; \
                       create materialized view m as select p from v with no data; \
                       create table t as select 1 a"
    );
    server.psql("viewed", &sql);
    let site = Site::with(&server);
    let _ = site.backup();
    for (name, named) in
        [("indexed", "index public.t_pwn_idx"), ("viewed", "materialized view public.m")]
    {
        let at = ["restore", "shop", "--latest", "--database", name, "--as", "other"];
        let said = site.fails(12, "runs_code", &at);
        assert!(said.contains(&format!("{named} runs public.pwn of eve")), "{said}");
    }
}

/// Lets the server go on, whatever comes.
struct GoesOn(Pid);

impl Drop for GoesOn {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// A cluster with a database of eve's, in which a function tells by a file when it was run as a superuser:
/// a count may not write into the database, but it may reach the server's host.
fn of_eve() -> (Postgres, PathBuf) {
    let server = Postgres::start();
    server.psql("postgres", "create role eve login; create database evil owner eve");
    let proof = server.data_dir().join("executed");
    let does = format!(
        "function do_it(x int) returns void language plpgsql as $$ begin \
             copy (select 1) to '{}'; exception when others then null; end $$",
        proof.display()
    );
    // As many rows as take a while.
    let sql = format!(
        "set role eve; create {does}; create {PLANNED}; create table t0(id int); \
         insert into t0 select generate_series(1, 3000000)"
    );
    server.psql("evil", &sql);
    (server, proof)
}

/// A backup that is counting the first table and does not go on, until the other is dropped.
/// It counts, and plans no more: while it plans nobody can change what it plans for.
fn counting(server: &Postgres, site: &Site) -> (Child, GoesOn) {
    let backup = crate::cancel::start(site, &["backup", "shop"]);
    let counting = "select pid from pg_stat_activity where application_name like 'drctl/%' \
                    and datname = 'evil' and state = 'active' and backend_type = 'client backend' \
                    and (query like 'FETCH%' or query like '%count(*) FROM ONLY%t0%') \
                    and query not like '%DECLARE%'";
    let mut pid = None;
    until("drctl to count", || {
        pid = server.psql("postgres", counting).parse().ok().and_then(Pid::from_raw);
        pid.is_some()
    });
    let goes_on = GoesOn(pid.unwrap());
    kill_process(goes_on.0, Signal::STOP).unwrap();
    (backup, goes_on)
}

#[test]
fn code_that_comes_while_rows_are_counted_is_not_run_by_the_count() {
    let (server, proof) = of_eve();
    // In the same batch.
    server.psql("evil", "set role eve; create table t1(id int); insert into t1 values (1)");
    let site = Site::with(&server);
    let (backup, goes_on) = counting(&server, &site);
    server.psql("evil", "set role eve; create index on t1 ((pwn(1)))");
    drop(goes_on);
    let _ = crate::cancel::ended(backup).ended(0);
    assert!(!proof.exists(), "code of the table's owner ran as a superuser");
}

/// Whatever ends it, as a limit of its own does where a plan takes long.
#[test]
fn a_guard_that_is_gone_before_all_is_planned_ends_no_backup_and_lets_no_code_in() {
    let (server, proof) = of_eve();
    let first = "create table t1(words text[]); create index words on t1 using gin (words); \
                 create table t2(id int); insert into t2 values (1)";
    // In later batches.
    let many: String = (3..20).map(|n| format!("create table t{n}(id int); ")).collect();
    server.psql("evil", &format!("set role eve; {first}; {many}"));
    let site = Site::with(&server);
    // Whoever plans over that index waits.
    let mut somebody = Somebody::on(&server, "evil");
    somebody.run("begin; alter index words set (fastupdate = off)");
    let backup = crate::cancel::start(&site, &["backup", "shop"]);
    let asked = |sql: &str| server.psql("evil", sql);
    let waits = "select count(*) from pg_stat_activity where application_name like 'drctl/%' and \
                 wait_event_type = 'Lock' and query like '%DECLARE drctl_count%'";
    until("drctl to plan", || asked(waits) == "1");
    let end = "select count(pg_terminate_backend(pid, 10000)) from pg_locks \
               join pg_stat_activity using (pid) where relation = 't2'::regclass \
               and mode = 'ShareUpdateExclusiveLock' and application_name like 'drctl/%'";
    assert_eq!(asked(end), "1");
    asked("set role eve; create index on t2 ((pwn(1)))");
    somebody.run("rollback");
    let ran = crate::cancel::ended(backup);
    assert!(!proof.exists(), "code of the table's owner ran as a superuser: {ran:?}");
    let done = ran.ended(0).json();
    assert_eq!(done["backup"]["suspect"], serde_json::json!([]), "{done}");
}

#[test]
fn a_schema_that_takes_anothers_name_while_rows_are_counted_runs_nothing() {
    let (server, proof) = of_eve();
    // In a later batch.
    let many: String = (1..20).map(|n| format!("create table t{n}(id int); ")).collect();
    let sql = format!(
        "set role eve; {many} create schema a; create schema b; create table a.x(id int); \
         create table b.x(id int); create index on b.x ((public.pwn(1)))"
    );
    server.psql("evil", &sql);
    let site = Site::with(&server);
    let (backup, goes_on) = counting(&server, &site);
    server.psql(
        "evil",
        "set role eve; alter schema a rename to c; alter schema b rename to a; create schema b; \
         create table b.x(id int)",
    );
    drop(goes_on);
    let ran = crate::cancel::ended(backup);
    assert!(!proof.exists(), "code of the schema's owner ran as a superuser: {ran:?}");
}
