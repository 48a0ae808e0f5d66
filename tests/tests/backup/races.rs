//! A database that changes while it is dumped: one snapshot, and no table emptied behind it.

use std::process::Command;

use drctl_tests::fake::Tools;
use drctl_tests::site::until;

use crate::cancel::{ended, start};
use crate::common::{ROWS, Shop, Somebody, counted, id_of, orders, until_locked_out};

#[test]
fn a_truncate_between_lock_and_snapshot_loses_no_row() {
    // The rows move in one transaction: whoever sees the old snapshot after the TRUNCATE sees
    // them nowhere.
    let shop = Shop::open();
    shop.sql("create table archive (like orders)");
    let mut somebody = Somebody::on(&shop.server, &shop.db);
    somebody.run(
        "begin; create temp table moving as table orders; truncate orders; \
         insert into archive table moving",
    );
    let backup = start(&shop.site, &["backup", "shop"]);
    until_locked_out(&shop.server, &shop.db);
    somebody.run("commit");
    let id = id_of(&ended(backup).ended(0).json());
    assert_eq!(counted(&shop.site, &id, "orders"), Some(0));
    assert_eq!(counted(&shop.site, &id, "archive"), Some(ROWS.into()));
    let new = shop.beside(&["--backup", &id], &[]);
    let rows = "select (select count(*) from orders), (select count(*) from archive)";
    assert_eq!(shop.server.psql(&new, rows), format!("0|{ROWS}"));
}

#[test]
fn whatever_is_locked_is_waited_for_as_long_as_is_configured() {
    let shop = Shop::open();
    shop.site.source("lock_timeout = \"1s\"\nlock_attempts = 2");
    shop.sql("create sequence number; create view seen as select 1 as v");
    for (kind, name) in [("sequence", "number"), ("view", "seen")] {
        let mut somebody = Somebody::on(&shop.server, &shop.db);
        somebody.run(&format!("begin; drop {kind} {name}"));
        let said = shop.site.fails(10, "locks", &["backup", "shop"]);
        assert!(said.contains("2 attempts of 1 s"), "{said}");
        assert!(said.contains(&format!("public.{name} is locked or waited for by pid")), "{said}");
        assert!(said.contains("somebody") && said.contains(&format!("drop {kind}")), "{said}");
        assert_eq!(shop.sessions(), 0);
        somebody.run("rollback");
    }
    let id = shop.site.backup();
    shop.still_restores(&id);
}

/// Lets the first `pg_dump` wait until [`let_go`], after it has told `asked`.
fn gate(tools: &Tools) {
    tools.set(
        "pg_dump",
        "if [ ! -e \"$HERE/asked\" ]; then tell asked; read -r < \"$HERE/ready\"; fi\n\
         exec \"$REAL\" \"$@\"",
    );
    let made = Command::new("mkfifo").arg(tools.path().join("ready")).status();
    assert!(made.unwrap().success());
}

fn let_go(tools: &Tools) {
    std::fs::write(tools.path().join("ready"), "now\n").unwrap();
}

#[test]
fn tables_that_come_and_go_while_locks_are_waited_for_are_dumped_as_they_are_then() {
    let (shop, tools) = Shop::with_tools();
    gate(&tools);
    shop.sql("create table doomed as select 1 as x");
    let mut somebody = Somebody::on(&shop.server, &shop.db);
    somebody.run(
        "begin; drop table doomed; create table fresh as select generate_series(1, 7) as x; \
         lock table orders",
    );
    let backup = start(&shop.site, &["backup", "shop"]);
    until_locked_out(&shop.server, &shop.db);
    somebody.run("commit");
    still_locked(&shop, &tools, "fresh");
    let id = id_of(&ended(backup).ended(0).json());
    let counts = ["doomed", "fresh", "orders"].map(|table| counted(&shop.site, &id, table));
    assert_eq!(counts, [None, Some(7), Some(ROWS.into())]);
}

#[test]
fn a_table_that_is_made_while_locks_are_waited_for_is_locked_too() {
    let (shop, tools) = Shop::with_tools();
    gate(&tools);
    let mut somebody = Somebody::on(&shop.server, &shop.db);
    somebody.run("begin; create table fresh as select 7 as x; lock table orders");
    let backup = start(&shop.site, &["backup", "shop"]);
    until_locked_out(&shop.server, &shop.db);
    somebody.run("commit");
    still_locked(&shop, &tools, "fresh");
    let id = id_of(&ended(backup).ended(0).json());
    assert_eq!(counted(&shop.site, &id, "fresh"), Some(1));
}

/// Nobody empties the table between our snapshot and the locks of `pg_dump`, which then goes on.
#[track_caller]
fn still_locked(shop: &Shop, tools: &Tools, table: &str) {
    tools.await_file("asked");
    let sql = format!("set lock_timeout = '300ms'; truncate {table}");
    let said = shop.server.try_psql(&shop.db, &sql).expect_err("it was emptied");
    assert!(said.contains("lock timeout"), "{said}");
    let_go(tools);
}

#[test]
fn a_lock_that_is_not_had_names_who_holds_it() {
    let shop = Shop::open();
    let good = shop.site.backup();
    shop.site.source("lock_timeout = \"1s\"\nlock_attempts = 1");
    let mut somebody = Somebody::on(&shop.server, &shop.db);
    somebody.run("begin; lock table orders");
    let said = shop.site.fails(10, "locks", &["backup", "shop"]);
    let sql = "select pid from pg_stat_activity where application_name = 'somebody' \
               and query like '%lock table orders%' and datname = current_database()";
    let pid = shop.sql(sql);
    for word in ["public.orders", "somebody", "lock table orders", "pg_terminate_backend(", &pid] {
        assert!(said.contains(word), "{word}: {said}");
    }
    shop.only(&[&good], "cannot lock the tables");
    assert_eq!(shop.sessions(), 0);
    somebody.run("rollback");
    let _ = shop.site.backup();
}

#[test]
fn a_deadlock_is_tried_again() {
    let shop = Shop::open();
    shop.sql("create table aaa as select 1 as x");
    // Ours is looked for first, and so ours is given up.
    let patient = format!("alter database {} set deadlock_timeout = '3s'", shop.db);
    shop.server.psql("postgres", &patient);
    let mut somebody = Somebody::on(&shop.server, &shop.db);
    somebody.run("begin; set local deadlock_timeout = '1h'; lock table aaa");
    let backup = start(&shop.site, &["backup", "shop"]);
    until_locked_out(&shop.server, &shop.db);
    // The backup holds the older table by now, and waits for the other one.
    somebody.run("lock table orders");
    somebody.run("commit");
    let id = id_of(&ended(backup).ended(0).json());
    assert_eq!(counted(&shop.site, &id, "aaa"), Some(1));
}

#[test]
fn a_writer_that_waits_between_our_locks_and_the_dumps_is_let_through_and_the_dump_repeated() {
    let (shop, tools) = Shop::with_tools();
    shop.site.source("lock_timeout = \"1s\"\nlock_attempts = 3");
    // Somebody's TRUNCATE stands between its locks and ours.
    gate(&tools);
    let backup = start(&shop.site, &["backup", "shop"]);
    tools.await_file("asked");
    let mut somebody = Somebody::on(&shop.server, &shop.db);
    somebody.start("truncate orders;\n");
    let waits = format!(
        "select count(*) from pg_stat_activity where datname = '{}' \
         and application_name = 'somebody' and wait_event_type = 'Lock'",
        shop.db
    );
    until("the TRUNCATE to wait", || shop.server.psql("postgres", &waits) == "1");
    let_go(&tools);
    let ran = ended(backup).ended(3);
    let id = id_of(&ran.json());
    assert_eq!(counted(&shop.site, &id, "orders"), Some(0), "dumped after it");
    assert_eq!(shop.sql("select count(*) from orders"), "0");
}

#[test]
fn a_database_that_changes_while_it_is_dumped_is_restored_as_of_one_moment() {
    let (shop, tools) = Shop::with_tools();
    let before = orders(&shop.server, &shop.db);
    tools.pause("pg_dump", 200_000);
    let backup = start(&shop.site, &["backup", "shop"]);
    tools.await_pause();
    shop.sql("insert into orders select g, 'new' from generate_series(30001, 30500) g");
    shop.sql("delete from orders where id <= 1000; update orders set note = 'changed'");
    shop.sql("create table too_late as select 1 as x");
    tools.go_on();
    let id = id_of(&ended(backup).ended(0).json());
    assert_eq!(counted(&shop.site, &id, "orders"), Some(ROWS.into()));
    assert_eq!(counted(&shop.site, &id, "too_late"), None);
    let new = shop.beside(&["--backup", &id], &[]);
    assert_eq!(orders(&shop.server, &new), before);
}
