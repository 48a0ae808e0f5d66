//! When was it? Out of the log of a real server; and that the transactions that are named did it.

use drctl_tests::cluster::{Cluster as _, own_place};
use drctl_tests::servers::postgres::Postgres;
use serde_json::Value;

use crate::log::Archiving;

/// The one thing that was found of this kind.
#[track_caller]
fn only<'a>(found: &'a [Value], what: &str) -> &'a Value {
    let of_kind: Vec<&Value> = found.iter().filter(|one| one["what"] == what).collect();
    assert_eq!(of_kind.len(), 1, "{what}: {found:?}");
    of_kind[0]
}

/// The rows of a table in a cluster that is brought to just before a transaction.
#[track_caller]
fn before(shop: &Archiving, xid: &str, query: &str) -> String {
    let (folder, path) = own_place();
    let to = path.display().to_string();
    let back = ["restore", "shop", "--before-xid", xid, "--to-directory", &to, "--promote"];
    let _ = shop.drctl(&back).ended(0);
    let restored = Postgres::builder().data(&path.join("data")).start();
    let answer = restored.psql("postgres", query);
    drop((restored, folder));
    answer
}

#[test]
fn drops_truncations_and_mass_changes_are_found_and_undone() {
    let shop = Archiving::start(true);
    shop.sql(
        "create table dropped as select g from generate_series(1, 3000) g; \
         create table emptied (id int primary key, text text); \
         insert into emptied select g, repeat('x', 50) from generate_series(1, 3000) g; \
         create table cleared as select g from generate_series(1, 3000) g; \
         create table changed as select g, 0 as v from generate_series(1, 3000) g; \
         create table kept as select g from generate_series(1, 3000) g; \
         create materialized view seen as select g, repeat('x', 50) t from generate_series(1, 9) g; \
         create index on seen (g); \
         create table rewritten (id int primary key, text text); \
         insert into rewritten select g, 'x' from generate_series(1, 9) g; \
         create table beside (id int primary key)",
    );
    shop.sql("create database other");
    let numbers = |table: &str| {
        shop.sql(&format!("select pg_relation_filenode('{table}')")).parse::<u64>().unwrap()
    };
    let files = ["dropped", "emptied", "cleared", "changed"].map(numbers);
    shop.back_up();
    // Each with its transaction, as the server itself tells it.
    let did = |sql: &str| {
        let told = shop.sql(&format!("begin; select pg_current_xact_id(); {sql}; commit"));
        told.lines().next().unwrap().to_owned()
    };
    shop.tick(1..4);
    let dropped = did("drop table dropped");
    let emptied = did("truncate emptied");
    let cleared = did("savepoint s; delete from cleared; release s");
    let changed = did("update changed set v = 1");
    // A table that is dropped beside one that is written anew, and one that comes in its place.
    let beside = did(
        "alter table rewritten alter text type varchar(9); create table new (id int primary key); \
         drop table beside",
    );
    // What is not told: what keeps its rows, what is small, what was rolled back.
    shop.sql("vacuum full kept");
    shop.sql("refresh materialized view seen; vacuum full seen");
    shop.sql("alter table rewritten alter id type bigint");
    shop.sql("delete from kept where g <= 10");
    shop.sql("begin; truncate kept; delete from changed; rollback");
    shop.sql("drop database other");
    shop.archived();
    let answer = shop.drctl(&["when", "shop"]).ended(0).json();
    let found = answer["found"].as_array().unwrap();
    let beside: u64 = beside.parse().unwrap();
    let of = |one: &Value| one["xid"] == beside;
    let apart = found.iter().find(|one| of(one)).unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(apart["what"], "dropped", "{answer}");
    let found = &found.iter().filter(|one| !of(one)).cloned().collect::<Vec<_>>();
    assert_eq!(found.len(), 5, "{answer}");
    let all = [
        ("dropped", &dropped, files[0], Value::Null),
        ("truncated", &emptied, files[1], Value::Null),
        ("deleted", &cleared, files[2], 3000.into()),
        ("updated", &changed, files[3], 3000.into()),
    ];
    for (what, xid, file, rows) in all {
        let one = only(found, what);
        assert_eq!(one["xid"].to_string(), *xid, "{one}");
        let relations = one["relations"].as_array().unwrap();
        let named = relations.iter().find(|relation| relation["file"] == file);
        let named = named.unwrap_or_else(|| panic!("{file}: {one}"));
        assert_eq!(named["rows"], rows, "{one}");
        // By the base backup that was taken before.
        let table = ["dropped", "emptied", "cleared", "changed"]
            [files.iter().position(|f| *f == file).unwrap()];
        assert_eq!(named["name"], format!("public.{table}"), "{one}");
        assert_eq!(named["database_name"], "postgres", "{one}");
    }
    only(found, "dropped_database");
    let output = shop.command(&["when", "shop", "--rows", "5"]).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains(&format!("--before-xid {cleared}")), "{told}");
    assert!(told.contains("DROP of public.dropped in database postgres"), "{told}");
    assert!(told.contains("DROP DATABASE other"), "{told}");
    assert!(told.contains("(10 rows)") && told.contains("pg_filenode_relation(0, "), "{told}");
    // Before that time there is nothing.
    let long_ago = ["when", "shop", "--around", "2020-01-01T00:00:00Z"];
    assert_eq!(shop.drctl(&long_ago).ended(0).json()["segments"], 0);
    shop.drctl(&["when", "shop", "--around", "2020-01-01T00:00:00Z", "--window", "x"])
        .failed(2, "usage");

    let count = |table: &str| format!("select count(*) from {table}");
    assert_eq!(before(&shop, &dropped, &count("dropped")), "3000");
    assert_eq!(before(&shop, &emptied, &count("emptied")), "3000");
    assert_eq!(before(&shop, &cleared, &count("cleared")), "3000");
    assert_eq!(before(&shop, &changed, "select sum(v) from changed"), "0");
}
