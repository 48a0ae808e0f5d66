//! Base backups compared with what an older one and its WAL lead to.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use drctl_tests::cluster::Cluster as _;
use drctl_tests::site::until;

use crate::common::{Shop, damage};

/// Everything that a comparison may stumble over.
const ODD: &str = "
    create type mood as enum ('sad', 'ok');
    create table moods (id bigint generated always as identity, feels mood, at timestamptz default now());
    create unlogged table gone (n int);
    create sequence ids increment 7 cache 5;
    create sequence down increment -3;
    create sequence untouched start 5;
    create table parts (id int, note text) partition by list (id);
    create table parts_one partition of parts for values in (1);
    create materialized view seen as select count(*) from orders;
    create table odd (f float8, n numeric, b bytea, j jsonb, i interval, a text[], r int4range);
    insert into odd values ('NaN', 'NaN', '\\x00ff', '{\"a\": [null]}', '1 mon -1 day', '{a,NULL,\"\"}', '[1,5)'),
                           ('-0', '0.100', '', 'null', '-00:00:00.1', '{}', 'empty'), (null, null, null, null, null, null, null);
    select lo_from_bytea(0, '\\x0102030405');
    create table made (a text, b text generated always as (a || 'MADE') stored);
    insert into made select 'row ' || g from generate_series(1, 100) g;
    comment on table made is 'odd';
    create role clerk password 'x'; grant select on orders to clerk; alter role clerk set work_mem = '8MB';
    comment on table orders is 'what was ordered';
";

/// Work between two base backups.
const WORK: &str = "
    insert into moods (feels) select (array['sad', 'ok'])[1 + g % 2]::mood from generate_series(1, 50) g;
    insert into gone select generate_series(1, 10);
    select nextval('ids'), nextval('down'); select nextval('ids'); select setval('down', -100);
    update orders set note = repeat(md5(note), 200) where id < 20;
    delete from orders where id > 1900;
    begin; savepoint a; insert into parts values (1, 'a'); rollback to a; insert into parts values (1, 'b'); commit;
    do $$ begin execute format('create or replace function one() returns int language sql as %L', 'select ' || pg_backend_pid()); end $$;
    alter table orders add column if not exists more text default 'x';
    drop table if exists passing; create table passing as select * from orders limit 3;
    vacuum analyze;
";

#[test]
fn a_base_backup_is_what_the_one_before_it_and_its_wal_lead_to() {
    let shop = Shop::cluster();
    let work = || WORK.split(";\n").for_each(|one| drop(shop.sql(one)));
    shop.sql(ODD);
    shop.sql("create database other; create database asleep allow_connections false");
    shop.server.psql("other", "create table here (id int); insert into here values (1)");
    // Bytes that no UTF-8 is, in a catalog and in a row.
    shop.sql(
        "create database bytes encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C' template template0",
    );
    let odd = "set client_encoding = sql_ascii; create table t (a text); insert into t values (E'\\xff\\xfe'); \
               comment on table t is E'odd \\xff\\xfe'";
    shop.server.psql("bytes", odd);
    let first = shop.back_up()["backup"]["backup"].clone();
    work();
    // What has not ended there: two that hold locks, one of them prepared.
    shop.sql("begin; alter table moods add column more int; prepare transaction 'waits'");
    let mut open = under_way(
        &shop,
        "insert into ticks values (-1, 'never'); alter table odd add column z int",
    );
    shop.sql("select nextval('ids'); select nextval('down')");
    let second = shop.back_up()["backup"]["backup"].clone();
    open.kill().and_then(|()| open.wait()).expect("end it");
    shop.sql("commit prepared 'waits'");
    work();
    let third = shop.back_up()["backup"]["backup"].clone();
    shop.archived();
    let done = shop.drill(0, &["--point", "oldest"]);
    assert_eq!((&done["verdict"], &done["backup"]), (&"pass".into(), &first), "{done}");
    let equal = &done["result"]["equal"];
    let rows = shop
        .sql("select (select count(*) from orders) + (select count(*) from odd) + 100 + 50 + 1 + 3 + 1 + 1");
    assert_eq!(equal["rows"].to_string(), rows, "{done}");
    // One database takes no connections.
    assert_eq!(equal["only_counted"], 1, "{done}");
    assert_eq!(done["run"]["with"]["backup"], second, "{done}");
    let phases = done["run"]["phases"].as_array().unwrap();
    let ms = |name: &str| phases.iter().find(|one| one["phase"] == name).unwrap()["ms"].as_u64();
    let restore = ms("recovering").unwrap() + ms("verifying").unwrap();
    assert!(ms("comparing").unwrap() > 0, "{done}");
    assert_eq!(done["restore_ms"].as_u64(), Some(restore), "{done}");
    let done = shop.drill(0, &["--point", "previous"]);
    assert_eq!((&done["verdict"], &done["backup"]), (&"pass".into(), &second), "{done}");
    assert_eq!(done["run"]["with"]["backup"], third, "{done}");
    assert!(shop.left().is_empty(), "{:?}", shop.left());
    let said = shop.command(&["drill", "show", "shop"]).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout);
    let third = third.as_str().unwrap();
    assert!(
        said.contains(&format!("are what base backup {third} holds there, row by row")),
        "{said}"
    );
}

/// A transaction that has done this, and does not end.
fn under_way(shop: &Shop, work: &str) -> Child {
    let mut psql = shop.server.client("psql");
    let mut psql = psql
        .args(["-XAtq", "-d", "postgres"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("psql");
    let input = psql.stdin.as_mut().expect("a pipe");
    writeln!(input, "begin; {work}; select 'done' as there;").expect("written");
    let waits = "select count(*) from pg_stat_activity where state = 'idle in transaction'";
    until("the transaction to be under way", || shop.sql(waits) == "1");
    psql
}

/// Changes rows in the files of the server, as a bad disk does: no WAL tells of that.
fn rot(shop: &mut Shop, table: &str, from: &str, to: &str) {
    shop.sql("checkpoint");
    let path = shop.sql(&format!("select pg_relation_filepath('{table}')"));
    shop.server.stop();
    let path: PathBuf = shop.server.data_dir().join(path);
    let bytes = fs::read(&path).unwrap();
    let at =
        bytes.windows(from.len()).position(|some| some == from.as_bytes()).expect("it is there");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(to.as_bytes(), at as u64).unwrap();
    shop.server.start_again();
}

#[test]
fn a_row_that_rots_on_the_source_is_found_and_named() {
    let mut shop = Shop::cluster();
    let _ = shop.back_up();
    shop.tick(1..11);
    rot(&mut shop, "orders", "order 1777", "order 1771");
    let second = shop.back_up()["backup"]["backup"].clone();
    shop.archived();
    let done = shop.drill(4, &["--point", "previous"]);
    assert_eq!(done["verdict"], "fail_data", "{done}");
    assert_eq!(
        (&done["result"]["error"], &done["run"]["with"]["backup"]),
        (&"mismatch".into(), &second)
    );
    let why: Vec<&str> =
        done["why"].as_array().unwrap().iter().filter_map(|one| one.as_str()).collect();
    let first =
        format!("its WAL does not lead to what base backup {} holds", second.as_str().unwrap());
    let row = "postgres: public.orders has 2000 rows as before, and not the same ones";
    assert_eq!(why, [first.as_str(), row], "{done}");
    // The evidence names no table.
    let evidence = fs::read_to_string(shop.evidence().pop().unwrap()).unwrap();
    assert!(!evidence.contains("orders"), "{evidence}");
}

#[test]
fn what_a_dump_leaves_out_is_compared_too() {
    let mut shop = Shop::cluster();
    shop.sql("create table made (a text, b text generated always as (a || 'MADE') stored)");
    shop.sql("insert into made select 'row ' || g from generate_series(1, 100) g");
    shop.sql("create materialized view seen as select 'seen ' || a as c from made");
    let lost = "begin; insert into ticks values (-1, 'x'); prepare transaction 'lost'";
    shop.sql(lost);
    let _ = shop.back_up();
    rot(&mut shop, "made", "row 17MADE", "row 17FADE");
    rot(&mut shop, "seen", "seen row 18", "seen row 81");
    let _ = shop.back_up();
    shop.archived();
    let done = shop.drill(4, &["--point", "oldest"]);
    let why = done["why"].to_string();
    for table in ["public.made has 100 rows", "public.seen has 100 rows"] {
        assert!(why.contains(&format!("postgres: {table}, and not the same ones")), "{done}");
    }
    // A transaction that was prepared, and that only WAL knows of any more.
    shop.sql("checkpoint");
    let _ = shop.back_up();
    shop.server.stop();
    for file in fs::read_dir(shop.server.data_dir().join("pg_twophase")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    shop.server.start_again();
    let _ = shop.back_up();
    shop.archived();
    let done = shop.drill(4, &["--point", "previous"]);
    assert!(done["why"].to_string().contains("other transactions are prepared"), "{done}");
}

/// A transaction with so many parts that WAL does not list them, which does not end.
fn with_many_parts(shop: &Shop) -> Child {
    under_way(
        shop,
        "insert into ticks values (-1, 'never'); do $$ begin for i in 1..200 loop begin \
         insert into ticks values (-1 - i, 'x'); exception when others then null; end; end loop; end $$",
    )
}

#[test]
fn transactions_with_many_parts_keep_no_drill_and_no_restore_from_its_end() {
    let shop = Shop::cluster();
    let first = shop.back_up()["backup"]["backup"].clone();
    let mut open = with_many_parts(&shop);
    shop.tick(1..11);
    let second = shop.back_up()["backup"]["backup"].clone();
    shop.tick(11..21);
    let _ = shop.back_up();
    shop.archived();
    for (point, backup) in [("oldest", &first), ("previous", &second)] {
        let done = shop.drill(0, &["--point", point]);
        assert_eq!((&done["verdict"], &done["backup"]), (&"pass".into(), backup), "{done}");
        assert!(!done["result"]["equal"].is_null(), "{done}");
    }
    let done = shop.drill(0, &[]);
    assert_eq!(done["verdict"], "pass", "{done}");
    // A restore by hand stands there too: promoted, for nothing else shows it.
    let at = shop.committed(15);
    for more in [&["--to-end"][..], &["--to-time", &at], &["--to-end", "--promote"]] {
        let (ran, _folder, _) = shop.recover(more);
        assert_eq!(ran.ended(0).json()["promoted"], true, "{more:?}");
    }
    open.kill().and_then(|()| open.wait()).expect("end it");
}

#[test]
fn the_base_backup_that_it_is_compared_with_has_to_be_whole() {
    let shop = Shop::cluster();
    let _ = shop.back_up();
    shop.tick(1..11);
    let second = shop.back_up()["backup"]["backup"].clone();
    let name = second.as_str().unwrap();
    damage(&shop, &shop.largest_of(name));
    let done = shop.drill(4, &["--point", "oldest"]);
    assert_eq!(done["verdict"], "fail_data", "{done}");
    let why = done["why"][0].as_str().unwrap();
    assert!(why.starts_with(&format!("base backup {name}, to compare it with: ")), "{done}");
    assert!(shop.left().is_empty(), "{:?}", shop.left());
}

#[test]
fn the_worst_point_has_the_most_wal_to_replay() {
    let shop = Shop::cluster();
    let backed_up = || shop.back_up()["backup"]["backup"].clone();
    let _ = backed_up();
    let second = backed_up();
    shop.segments_of_ten(3);
    let third = backed_up();
    let done = shop.drill(0, &["--point", "worst"]);
    assert_eq!((&done["backup"], &done["run"]["with"]["backup"]), (&second, &third), "{done}");
    // Now the newest has more, and none behind it.
    for round in 3..9 {
        shop.tick(round * 10 + 1..round * 10 + 11);
        shop.archived();
    }
    let done = shop.drill(0, &["--point", "worst"]);
    assert_eq!(
        (&done["backup"], &done["run"]["with"]),
        (&third, &serde_json::Value::Null),
        "{done}"
    );
    assert_eq!(done["result"]["equal"], serde_json::Value::Null, "{done}");
}

#[test]
fn an_index_that_rots_on_the_source_is_found_and_named() {
    let mut shop = Shop::cluster();
    shop.sql("create index orders_note on orders (note)");
    let _ = shop.back_up();
    assert_eq!(shop.drill(0, &[])["verdict"], "pass");
    rot(&mut shop, "orders_note", "order 1500", "zzzzz 1500");
    let _ = shop.back_up();
    let done = shop.drill(4, &[]);
    let said = (&done["verdict"], &done["result"]["error"]);
    assert_eq!(said, (&"fail_data".into(), &"amcheck".into()), "{done}");
    assert!(done["why"].to_string().contains("the index public.orders_note: "), "{done}");
    // Nothing else would have told it.
    let policy = shop.site.path("etc/policies.d/daily.toml");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, format!("{text}\n[drill]\namcheck = false\n")).unwrap();
    assert_eq!(shop.drill(0, &[])["verdict"], "pass");
}
