//! An acknowledged backup restores byte for byte.

use std::path::Path;

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

use crate::common::{Shop, dump, globals, name, orders};

/// Names that need care in SQL, in connection strings, in the shell and in file systems.
const ODD: [&str; 5] = ["two words", "a.b", "quo\"te's", "Größe λ", "back\\slash$HOME"];

/// One of everything that a dump can hold.
const EVERYTHING: &str = r#"
    create role clerk login password 'secret';
    create role "Der Chef" nologin; grant clerk to "Der Chef";
    create schema "My Schema" authorization clerk;
    create table "My Schema"."Orders" (
        id int generated always as identity primary key,
        net numeric not null, gross numeric generated always as (net * 1.19) stored,
        at timestamptz default now(), tags text[], body jsonb, raw bytea);
    insert into "My Schema"."Orders" (net, tags, body, raw, at)
        select g, array['a', null, E'tab\tnew\nline\\'], jsonb_build_object('g', g),
               decode(md5(g::text), 'hex'), '2026-01-01'::timestamptz + g * interval '1 minute'
        from generate_series(1, 3000) g;
    create table parts (k int, v text) partition by range (k);
    create table parts_low partition of parts for values from (0) to (500);
    create table parts_high partition of parts for values from (500) to (maxvalue)
        partition by hash (k);
    create table parts_high_0 partition of parts_high for values with (modulus 2, remainder 0);
    create table parts_high_1 partition of parts_high for values with (modulus 2, remainder 1);
    insert into parts select g, 'v' || g from generate_series(1, 2000) g;
    create unlogged table hot as select generate_series(1, 9) as x;
    create table parent (a int); create table child (b int) inherits (parent);
    insert into parent values (1), (2); insert into child values (3, 4);
    create table "no rows" (); create table empty_one (x int);
    create view big as select * from "My Schema"."Orders" where net > 100;
    create materialized view totals as select count(*) as n, sum(net) as net from big;
    create index on totals (n);
    create function half(int) returns int language sql immutable as $$ select $1 / 2 -- it's; $$;
    create index by_half on parts_low (half(k));
    create domain percent as int check (value between 0 and 100);
    create type mood as enum ('sad', 'o''k', 'happy');
    create table moods (m mood, p percent default 7);
    insert into moods values ('o''k', 55), (null, null);
    create function stamp() returns trigger language plpgsql as
        $$ begin new.at := now(); return new; end $$;
    create trigger stamped before update on "My Schema"."Orders"
        for each row execute function stamp();
    alter table moods enable row level security;
    create policy only_happy on moods using (m = 'happy');
    comment on table parts is 'it''s in parts; really';
    comment on column moods.p is 'ünïcode';
    grant select on parts to clerk; grant insert (k) on parts_low to public;
    alter default privileges in schema public grant select on tables to clerk;
    select lo_from_bytea(4711, decode(repeat('00ff', 40000), 'hex'));
    select lo_from_bytea(4712, ''); grant select on large object 4711 to clerk;
    comment on large object 4712 is 'nothing in it';
"#;

/// A server with databases of odd names, one of which holds everything.
fn world() -> Postgres {
    let server = Postgres::start();
    server.psql("postgres", "create database everything");
    server.psql("everything", EVERYTHING);
    for name in ODD {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        server.psql("postgres", &format!("create database {quoted} owner clerk"));
        server.psql(name, "create table t as select generate_series(1, 11) as x");
    }
    server.psql(
        "postgres",
        "alter database everything set search_path to '$user', public, \"My Schema\"; \
         alter role clerk in database everything set work_mem to '5MB'; \
         alter role clerk set statement_timeout to '1h'; \
         comment on database everything is 'all of it'; \
         revoke connect on database everything from public; \
         grant connect on database everything to clerk; \
         alter database \"a.b\" connection limit 7",
    );
    server
}

fn databases() -> Vec<&'static str> {
    ODD.iter().copied().chain(["everything", "postgres"]).collect()
}

#[track_caller]
fn equal(one: &Postgres, other: &Postgres) {
    assert_eq!(globals(one), globals(other));
    for db in databases() {
        let (ours, theirs) = (dump(one, db), dump(other, db));
        let differs = ours.lines().zip(theirs.lines()).find(|(a, b)| a != b);
        assert!(ours == theirs, "{db}: {differs:?}");
    }
}

#[test]
fn an_acknowledged_backup_restores_byte_for_byte() {
    let source = world();
    let site = Site::with(&source);
    let id = site.backup();
    for jobs in ["1", "4"] {
        let target = Postgres::start();
        let (host, port) = (target.socket_dir().display().to_string(), target.port().to_string());
        let start = ["restore", "shop", "--backup", &id, "--to-host", &host, "--to-port", &port];
        let plan = site.json(0, &[&start[..], &["--jobs", jobs, "--plan"]].concat());
        assert_eq!(plan["items"].as_array().unwrap().len(), databases().len() + 1, "{plan}");
        let done = site.json(0, &[&start[..], &["--jobs", jobs, "--prove"]].concat());
        let restored = done["restored"].as_array().unwrap();
        assert_eq!(restored.len(), databases().len() + 1);
        let everything = restored.iter().find(|one| one["target"] == "everything").unwrap();
        assert_eq!(everything["rows"], 3000 + 2000 + 9 + 3 + 2, "{everything}");
        equal(&source, &target);
        assert!(site.files("run").is_empty());
        let spooled = site.path("state/spool");
        assert!(!spooled.exists() || site.files("state/spool").is_empty());
    }
    files(&source, &site, &id);
}

/// Into files: each a dump that `pg_restore` itself restores.
fn files(source: &Postgres, site: &Site, id: &str) {
    let directory = site.path("files").display().to_string();
    let done = site.json(0, &["restore", "shop", "--backup", id, "--to-files", &directory]);
    let restored = done["restored"].as_array().unwrap();
    let names: Vec<&str> = restored.iter().filter_map(|one| one["target"].as_str()).collect();
    let target = Postgres::start();
    let at = |name: &str| Path::new(&directory).join(name);
    let all = site.files("files");
    let dumps = all.iter().filter(|path| !path.starts_with("configuration"));
    assert_eq!(dumps.count(), names.len(), "{names:?}");
    let psql =
        target.client("psql").args(["-Xqd", "postgres", "-f"]).arg(at("globals.sql")).output();
    let said = String::from_utf8_lossy(&psql.unwrap().stderr).into_owned();
    assert!(said.lines().all(|line| line.contains("role \"postgres\" already exists")), "{said}");
    for one in restored.iter().filter(|one| one["target"] != "globals.sql") {
        let mut restore = target.client("pg_restore");
        if one["content"]["name"] != "postgres" {
            restore.arg("--create");
        }
        let restore = restore.args(["--exit-on-error", "-d", "postgres"]);
        let output = restore.arg(at(one["target"].as_str().unwrap())).output().unwrap();
        assert!(output.status.success(), "{one}: {}", String::from_utf8_lossy(&output.stderr));
    }
    equal(source, &target);
}

#[test]
fn a_database_restored_beside_the_old_one_leaves_the_old_one_alone() {
    let shop = Shop::open();
    let owner = format!("{}_owner", shop.db);
    shop.server.psql("postgres", &format!("create role {owner}"));
    shop.sql(&format!("alter table orders owner to {owner}; insert into orders values (0, 'x')"));
    let (id, before) = (shop.site.backup(), dump(&shop.server, &shop.db));
    for (more, owned_by) in [(&[][..], owner.as_str()), (&["--no-owner"], "postgres")] {
        for jobs in ["1", "3"] {
            let more = [more, &["--jobs", jobs]].concat();
            let new = shop.beside(&["--backup", &id], &more);
            assert_eq!(orders(&shop.server, &new), orders(&shop.server, &shop.db));
            let sql = "select relowner::regrole from pg_class where relname = 'orders'";
            assert_eq!(shop.server.psql(&new, sql), owned_by);
        }
    }
    assert_eq!(dump(&shop.server, &shop.db), before);
}

#[test]
fn only_the_databases_that_are_asked_for_are_restored() {
    let (shop, url) = Shop::bare();
    let (second, third) = (name(), name());
    for db in [&second, &third] {
        shop.server.psql("postgres", &format!("create database {db}"));
        shop.server.psql(db, "create table t as select 1 as x");
    }
    shop.site.init(&shop.server, &url, &["--database", &shop.db, "--database", &second]);
    let id = shop.site.backup();
    let target = Postgres::start();
    let (host, port) = (target.socket_dir().display().to_string(), target.port().to_string());
    let _ = shop.site.json(
        0,
        &[
            "restore",
            "shop",
            "--backup",
            &id,
            "--to-host",
            &host,
            "--to-port",
            &port,
            "--database",
            &second,
        ],
    );
    let sql = "select string_agg(datname, ',') from pg_database where datname like 'shop%'";
    assert_eq!(target.psql("postgres", sql), second);
    assert_eq!(dump(&shop.server, &second), dump(&target, &second));
    let shown = shop.site.json(0, &["show", &id]).to_string();
    assert!(shown.contains(&shop.db) && !shown.contains(&third), "it dumped what nobody asked for");
}
