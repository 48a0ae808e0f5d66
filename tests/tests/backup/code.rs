//! Code of a database's owner, which loading his rows would run.

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

/// Takes the server over where a superuser runs it.
const PWN: &str = "function pwn(x int) returns bool immutable language plpgsql as $$ begin \
     if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) \
     then execute 'alter role eve superuser'; end if; return true; \
     exception when others then return true; end $$";

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
    for (name, table) in places {
        server.psql("postgres", &format!("create database {name} owner eve"));
        // What says that it changes nothing may call what does; here one says what it is.
        let pwn = if name == "checked" { PWN.replace("immutable ", "") } else { PWN.to_owned() };
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
                        at timestamptz default now()); \
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
    for name in ["checked", "computed", "domain", "operator", "parted", "reader"] {
        let said = site.fails(12, "runs_code", &[&beside(name)[..], &["other"]].concat());
        assert!(said.contains("--trust-code"), "{said}");
        let named = match name {
            "reader" => "set_config of postgres",
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
    let at = [&beside("checked")[..], &["checked_too", "--trust-code"]].concat();
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
