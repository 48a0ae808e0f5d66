//! Roles that are on the target's server already.

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

use crate::common::globals;

const BACKED_UP: [&str; 7] = [
    "create role app login password 'old' createdb",
    "create role boss",
    "grant boss to app",
    "alter role app set work_mem = '1MB'",
    "comment on role app is 'old'",
    "create database a",
    "create database b",
];

/// What was done since, with good reason.
const SINCE: [&str; 7] = [
    "alter role app password 'new' nologin nocreatedb connection limit 3",
    "revoke boss from app",
    "alter role app set work_mem = '9MB'",
    "comment on role app is 'locked: stolen'",
    "create role newer",
    "drop role boss",
    "drop database b",
];

#[test]
fn a_restore_of_what_is_missing_leaves_roles_that_exist_as_they_are() {
    let server = Postgres::start();
    let sql = |statements: &[&str]| {
        statements.iter().for_each(|one| drop(server.psql("postgres", one)));
    };
    sql(&BACKED_UP);
    for db in ["a", "b"] {
        server.psql(db, "create table t as select generate_series(1, 100) as x");
    }
    let site = Site::with(&server);
    let id = site.backup();
    sql(&SINCE);
    let before = globals(&server);
    let (host, port) = (server.socket_dir().display().to_string(), server.port().to_string());
    let into = ["restore", "shop", "--backup", &id, "--to-host", &host, "--to-port", &port];
    let missing = [&into[..], &["--missing"]].concat();

    let plan = site.json(0, &[&missing[..], &["--plan"]].concat()).to_string();
    assert!(plan.contains("roles that are on the server already are left as they are: app, newer"));
    let done = site.json(0, &missing).to_string();
    assert!(done.contains("role app: there already, left as it is"), "{done}");
    assert!(done.contains("role app: left as it is, so this was not done: GRANT boss TO app"));
    assert_eq!(server.psql("b", "select count(*) from t"), "100");
    // What was missing is there, and the rest is as it was.
    assert_eq!(
        server.psql("postgres", "select count(*) from pg_roles where rolname = 'boss'"),
        "1"
    );
    sql(&["drop role boss"]);
    assert_eq!(globals(&server), before);

    // Without it they get what the backup has, which the plan tells.
    sql(&["drop database a", "drop database b"]);
    let plan = site.json(0, &[&into[..], &["--plan"]].concat()).to_string();
    assert!(plan.contains("get the attributes, passwords, settings"), "{plan}");
    assert_eq!(globals(&server), before, "a plan changed something");
    let done = site.json(0, &into).to_string();
    assert!(done.contains("role app: was there already, and now has the attributes"), "{done}");
    let app = "select rolcanlogin and rolcreatedb from pg_roles where rolname = 'app'";
    assert_eq!(server.psql("postgres", app), "t");
}

#[test]
fn a_database_that_is_there_and_has_no_rows_to_get_is_left_as_it_is() {
    let server = Postgres::start();
    server.psql("postgres", "create role app; create database hard");
    let softly = "grant create on schema public to public; grant all on schema public to app; \
                  alter default privileges grant select on tables to app; \
                  comment on schema public is 'old'";
    let both = |sql: &str| ["postgres", "hard"].map(|db| server.psql(db, sql));
    both(softly);
    server.psql("postgres", "create database gone");
    server.psql("gone", "create table t as select generate_series(1, 100) as x");
    let site = Site::with(&server);
    let id = site.backup();
    let since = "revoke create on schema public from public; revoke all on schema public from app; \
                 alter default privileges revoke select on tables from app; \
                 comment on schema public is 'hardened'";
    both(since);
    server.psql("postgres", "drop database gone");
    let rights = || {
        both(
            "select nspacl, obj_description(oid, 'pg_namespace'), \
             (select string_agg(d.defaclacl::text, '') from pg_default_acl d) \
             from pg_namespace where nspname = 'public'",
        )
    };
    let before = rights();
    let (host, port) = (server.socket_dir().display().to_string(), server.port().to_string());
    let into = ["restore", "shop", "--backup", &id, "--to-host", &host, "--to-port", &port];
    let missing = [&into[..], &["--missing"]].concat();
    let plan = site.json(0, &[&missing[..], &["--plan"]].concat()).to_string();
    assert!(plan.contains("database hard: there already, and as empty as in the backup"), "{plan}");
    let _ = site.json(0, &missing);
    assert_eq!(rights(), before);
    assert_eq!(server.psql("gone", "select count(*) from t"), "100");
    // One that is empty and has tables in the backup is filled, and the plan tells what that brings.
    server.psql("gone", "drop table t");
    let plan = site.json(0, &[&missing[..], &["--plan"]].concat()).to_string();
    assert!(plan.contains("database gone: there and empty; it is filled"), "{plan}");
    let _ = site.json(0, &missing);
    assert_eq!(server.psql("gone", "select count(*) from t"), "100");
}

/// Databases that hold no table: one of a function alone, one of a sequence alone, one of large
/// objects alone, one of a dictionary alone.
const BARE: [(&str, &str, &str); 4] = [
    ("api", "create function f() returns int language sql as 'select 1'", "select f()"),
    ("numbers", "create sequence s start 500", "select nextval('s')"),
    ("large", "select lo_from_bytea(4711, 'x')", "select count(*) from pg_largeobject"),
    (
        "words",
        "create text search dictionary d (template = simple)",
        "select count(*) from pg_ts_dict where dictname = 'd'",
    ),
];

#[test]
fn a_database_that_holds_nothing_is_filled_and_one_that_is_kept_is_named() {
    let server = Postgres::start();
    let again = |db: &str| {
        server.psql("postgres", &format!("drop database if exists {db}"));
        server.psql("postgres", &format!("create database {db}"));
    };
    for (db, made, _) in BARE {
        again(db);
        server.psql(db, made);
    }
    again("shop");
    server.psql("shop", "create table t as select 1 as x; create view v as select * from t");
    let site = Site::with(&server);
    let id = site.backup();
    let (host, port) = (server.socket_dir().display().to_string(), server.port().to_string());
    let into = ["restore", "shop", "--backup", &id, "--to-host", &host, "--to-port", &port];
    let missing = [&into[..], &["--missing"]].concat();

    for (db, ..) in BARE {
        again(db);
    }
    server.psql("shop", "drop view v");
    let done = site.json(0, &missing);
    for (db, _, asked) in BARE {
        let wanted = if db == "numbers" { "500" } else { "1" };
        assert_eq!(server.psql(db, asked), wanted, "{db}: {done}");
    }
    let kept = |answer: &serde_json::Value| -> Vec<String> {
        let kept = answer["kept"].as_array().unwrap().iter();
        kept.map(|one| one["target"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kept(&done), ["postgres", "shop"], "{done}");
    // What was filled is there: it is kept, and not filled twice. Each is named, to people too.
    let all = ["api", "large", "numbers", "postgres", "shop", "words"];
    let plan = site.json(0, &[&missing[..], &["--plan"]].concat());
    assert_eq!(kept(&plan), all, "{plan}");
    let ran = site.drctl(&missing).ended(0);
    let said = ran.out;
    for name in all {
        let line = format!("kept: database {name}: there already");
        assert_eq!(said.matches(&line).count(), 1, "{name}: {said}");
    }
    assert!(said.contains("shop: there already with all its rows, left as it is. Its definitions"));
}
