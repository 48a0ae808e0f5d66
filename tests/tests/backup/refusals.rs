//! A restore never writes into what is not empty.

use std::fs;

use drctl_tests::servers::postgres::Postgres;

use crate::common::{Shop, dump, name, resign};

#[test]
fn a_restore_never_writes_into_a_database_that_is_not_empty() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let contents = [
        "create table kept as select 7 as x",
        "create view kept as select 7 as x",
        "create function kept() returns int language sql as 'select 7'",
        "create type kept as enum ('a')",
        "create schema kept",
        "create sequence kept",
        "select lo_create(4711)",
    ];
    for content in contents {
        let new = name();
        shop.server.psql("postgres", &format!("create database {new}"));
        shop.server.psql(&new, content);
        let before = dump(&shop.server, &new);
        for jobs in ["1", "2"] {
            let arguments = [&shop.to_beside(&id, &new)[..], &["--jobs", jobs]].concat();
            let said = shop.site.fails(12, "not_empty", &arguments);
            assert!(said.contains(&format!("database {new}: ")), "{said}");
            assert!(said.contains("nothing was changed"), "{said}");
        }
        assert_eq!(dump(&shop.server, &new), before, "{content}");
    }
    // Empty ones are used.
    let new = name();
    shop.server.psql("postgres", &format!("create database {new}"));
    let _ = shop.site.json(0, &shop.to_beside(&id, &new));
    assert_eq!(shop.server.psql(&new, "select count(*) from orders"), "20000");
}

#[test]
fn a_restore_never_writes_into_a_server_that_is_not_empty() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let target = Postgres::start();
    let (host, port) = (target.socket_dir().display().to_string(), target.port().to_string());
    let start = ["restore", "shop", "--backup", &id, "--to-host", &host, "--to-port", &port];
    let roles = "select string_agg(rolname, ',' order by rolname) from pg_roles";
    let everyone = target.psql("postgres", roles);
    for (make, unmake, word) in [
        ("create database stranger", "drop database stranger", "database stranger"),
        ("create table precious ()", "drop table precious", "table public.precious"),
    ] {
        target.psql("postgres", make);
        let said = shop.site.fails(12, "not_empty", &start);
        assert!(said.contains(word), "{said}");
        let databases = "select count(*) from pg_database where datname like 'shop%'";
        assert_eq!(target.psql("postgres", databases), "0");
        assert_eq!(target.psql("postgres", roles), everyone);
        target.psql("postgres", unmake);
    }
    let _ = shop.site.json(0, &start);
    assert_eq!(target.psql(&shop.db, "select count(*) from orders"), "20000");
    // Now it is not empty any more.
    shop.site.fails(12, "not_empty", &start);
}

#[test]
fn without_globals_a_role_that_may_create_databases_is_enough() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let target = Postgres::start();
    target.psql("postgres", "create role maker login createdb");
    let (host, port) = (target.socket_dir().display().to_string(), target.port().to_string());
    let start = ["restore", "shop", "--backup", &id, "--to-host", &host, "--to-port", &port];
    let as_maker = [&start[..], &["--to-user", "maker"]].concat();
    let said = shop.site.fails(10, "permission", &as_maker);
    assert!(said.contains("SUPERUSER"), "{said}");
    let _ = shop.site.json(0, &[&as_maker[..], &["--no-globals", "--no-owner"]].concat());
    assert_eq!(target.psql(&shop.db, "select count(*) from orders"), "20000");
}

#[test]
fn policies_that_hold_for_owners_too_are_known_before_anything_is_made() {
    let shop = Shop::open();
    shop.sql(
        "alter table orders enable row level security, force row level security;
         create policy few on orders using (id < 10)",
    );
    let id = shop.site.backup();
    let target = Postgres::start();
    target.psql("postgres", "create role maker login createdb");
    let (host, port) = (target.socket_dir().display().to_string(), target.port().to_string());
    let start = ["restore", "shop", "--backup", &id, "--to-host", &host, "--to-port", &port];
    let as_maker = [&start[..], &["--to-user", "maker", "--no-globals", "--no-owner"]].concat();
    let said = shop.site.fails(10, "permission", &as_maker);
    assert!(said.contains("public.orders") && said.contains("BYPASSRLS"), "{said}");
    let databases = "select count(*) from pg_database where datname not like 'template%'";
    assert_eq!(target.psql("postgres", databases), "1", "nothing was made");
    target.psql("postgres", "alter role maker bypassrls");
    let _ = shop.site.json(0, &as_maker);
    assert_eq!(target.psql(&shop.db, "select count(*) from orders"), "20000");
}

#[test]
fn an_empty_database_without_the_schema_public_is_no_target() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let target = Postgres::start();
    target.psql("postgres", &format!("create database {}", shop.db));
    target.psql(&shop.db, "drop schema public");
    let (host, port) = (target.socket_dir().display().to_string(), target.port().to_string());
    let start = ["restore", "shop", "--backup", &id, "--to-host", &host, "--to-port", &port];
    let said = shop.site.fails(12, "no_public_schema", &start);
    assert!(said.contains("CREATE SCHEMA public"), "{said}");
    target.psql(&shop.db, "create schema public");
    let _ = shop.site.json(0, &start);
    assert_eq!(target.psql(&shop.db, "select count(*) from orders"), "20000");
}

#[test]
fn a_restore_never_writes_into_a_directory_that_is_not_empty() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let target = shop.site.path("files");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("precious"), "kept").unwrap();
    let text = target.display().to_string();
    let arguments = ["restore", "shop", "--backup", &id, "--to-files", &text];
    let said = shop.site.fails(12, "target_unfit", &arguments);
    assert!(said.contains(&text) && said.contains("name a new directory"), "{said}");
    assert_eq!(shop.site.files("files"), [std::path::Path::new("precious")]);
}

#[test]
fn a_restore_of_what_is_not_there_says_what_is() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let said = shop.site.fails(
        5,
        "no_backup",
        &["restore", "shop", "--latest", "--database", "nowhere", "--as", "x"],
    );
    assert!(said.contains("`nowhere`") && said.contains(&shop.db), "{said}");
    let unknown = "19990101T000000Z-0000000000000000";
    let said = shop.site.fails(
        5,
        "no_backup",
        &["restore", "shop", "--backup", unknown, "--to-files", "x"],
    );
    assert!(said.contains(unknown) && said.contains("drctl list"), "{said}");
    shop.still_restores(&id);
}

#[test]
fn a_server_that_is_older_than_the_dump_is_refused() {
    // Only the manifest's word counts here: the tools of a later server are not at hand.
    let shop = Shop::open();
    let id = shop.site.backup();
    resign(&shop, &id, |manifest| {
        manifest.tools.insert("server".to_owned(), "99.1".to_owned());
    });
    let new = name();
    let said = shop.site.fails(10, "version_mismatch", &shop.to_beside(&id, &new));
    assert!(said.contains("PostgreSQL 99"), "{said}");
    assert!(!shop.has(&new));
}
