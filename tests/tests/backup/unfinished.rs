//! A database that is not whole yet: marked, closed, and never called restored.

use std::process::Child;

use drctl_tests::fake::Tools;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::until;
use rustix::process::{Pid, Signal, kill_process};

use crate::cancel::{ended, start};
use crate::common::{Shop, Somebody, name, orders};

/// A `pg_restore` that stops when all rows are in, and no index is.
const HALF: &str = "cat > \"$HERE/dump\"\n\
    \"$REAL\" \"$@\" --section=pre-data --section=data \"$HERE/dump\" || exit 1\n\
    tell mid $$; while [ ! -e \"$HERE/go\" ]; do sleep 0.1; done\n\
    exec \"$REAL\" \"$@\" --section=post-data \"$HERE/dump\"";

/// Kills drctl and its tool, as a host that dies does.
fn kill(mut child: Child, tools: &Tools) {
    let tool = tools.await_file("mid");
    child.kill().expect("kill drctl");
    child.wait().expect("wait for drctl");
    let tool = Pid::from_raw(tool.trim().parse().expect("a number")).expect("a process");
    let _ = kill_process(tool, Signal::KILL);
    let _ = std::fs::remove_file(tools.path().join("mid"));
}

/// Comment and limit of connections of a database.
fn looks(server: &Postgres, db: &str) -> String {
    let sql = "select coalesce(shobj_description(oid, 'pg_database'), '-'), datconnlimit \
               from pg_database where datname = ";
    server.psql("postgres", &format!("{sql}'{db}'"))
}

fn may_connect(server: &Postgres, role: &str, db: &str) -> bool {
    server.try_psql(&format!("dbname={db} user={role}"), "select 1").is_ok()
}

#[test]
fn a_database_whose_restore_was_killed_is_never_called_whole() {
    let (shop, tools) = Shop::with_tools();
    let id = shop.site.backup();
    let new = name();
    let arguments = shop.to_beside(&id, &new);
    tools.set("pg_restore", HALF);
    kill(start(&shop.site, &arguments), &tools);
    tools.honest("pg_restore");
    // All its rows are there, and its index is not.
    assert_eq!(orders(&shop.server, &new), orders(&shop.server, &shop.db));
    assert_eq!(
        shop.server.psql(&new, "select count(*) from pg_index where indrelid = 'orders'::regclass"),
        "0"
    );
    assert!(looks(&shop.server, &new).contains("NOT COMPLETE"), "{}", looks(&shop.server, &new));
    for more in [&["--missing"][..], &["--missing", "--plan"], &[], &["--plan"]] {
        let said = shop.site.fails(12, "unfinished", &[&arguments[..], more].concat());
        assert!(said.contains(&format!("DROP DATABASE \"{new}\";")), "{said}");
    }
    shop.server.psql("postgres", &format!("drop database {new}"));
    let _ = shop.site.json(0, &[&arguments[..], &["--missing"]].concat());
    assert_eq!(looks(&shop.server, &new), "-|-1");
    let again = shop.site.json(0, &[&arguments[..], &["--missing"]].concat());
    assert_eq!(again["restored"].as_array().unwrap().len(), 0, "{again}");
}

#[test]
fn a_database_that_was_there_bears_the_mark_too_and_keeps_its_comment() {
    let (shop, tools) = Shop::with_tools();
    let (id, new) = (shop.site.backup(), name());
    shop.server.psql("postgres", &format!("create database {new}"));
    shop.server.psql("postgres", &format!("comment on database {new} is 'it''s mine'"));
    let arguments = [&shop.to_beside(&id, &new)[..], &["--missing"]].concat();
    // Nothing has come into it: then the next attempt just goes on.
    tools.set("pg_restore", "tell mid $$; exec sleep 600");
    kill(start(&shop.site, &arguments), &tools);
    assert!(looks(&shop.server, &new).contains("NOT COMPLETE"), "{}", looks(&shop.server, &new));
    tools.set("pg_restore", HALF);
    kill(start(&shop.site, &arguments), &tools);
    let _ = shop.site.fails(12, "unfinished", &arguments);
    assert!(looks(&shop.server, &new).contains("it's mine"), "{}", looks(&shop.server, &new));
    shop.server.psql(&new, "drop table orders");
    tools.honest("pg_restore");
    let _ = shop.site.json(0, &arguments);
    assert_eq!(looks(&shop.server, &new), "it's mine|-1");
}

#[test]
fn nobody_comes_into_a_database_that_is_not_whole() {
    let (shop, tools) = Shop::with_tools();
    let (owner, mover) = (name(), name());
    let roles = format!("create role {owner} login; create role {mover} login createdb");
    shop.server.psql("postgres", &roles);
    let own =
        format!("alter database {0} owner to {owner}; comment on database {0} is 'ours'", shop.db);
    shop.server.psql("postgres", &own);
    let id = shop.site.backup();
    for role in ["postgres", &mover] {
        let new = name();
        let _ = std::fs::remove_file(tools.path().join("mid"));
        let _ = std::fs::remove_file(tools.path().join("go"));
        tools.set("pg_restore", HALF);
        let mut arguments = shop.to_beside(&id, &new);
        if role == mover {
            shop.site.replace("user = \"postgres\"", &format!("user = \"{mover}\""));
            arguments.push("--no-owner");
        }
        let child = start(&shop.site, &arguments);
        tools.await_pause();
        assert!(!may_connect(&shop.server, &owner, &new), "{role}");
        std::fs::write(tools.path().join("go"), "").unwrap();
        let _ = ended(child).ended(0);
        assert!(may_connect(&shop.server, &owner, &new), "{role}");
        assert_eq!(looks(&shop.server, &new), "-|-1");
    }
    // Its own privileges come last, and nobody gets in before them.
    shop.site.replace(&format!("user = \"{mover}\""), "user = \"postgres\"");
    tools.honest("pg_restore");
    shop.server.psql("postgres", &format!("revoke connect on database {} from public", shop.db));
    let target = Postgres::start();
    let id = shop.site.backup();
    target.psql("postgres", &roles);
    let (to, at) = (target.socket_dir().display().to_string(), target.port().to_string());
    let into = ["restore", "shop", "--backup", &id, "--to-host", &to, "--to-port", &at];
    let _ = shop.site.json(0, &into);
    assert_eq!(looks(&target, &shop.db), "ours|-1");
    assert!(may_connect(&target, &owner, &shop.db) && !may_connect(&target, &mover, &shop.db));
    // By one who is no superuser too.
    target.psql("postgres", &format!("drop database {}; grant {owner} to {mover}", shop.db));
    let more = ["--to-user", &mover, "--no-globals", "--database", &shop.db];
    // The table's own owner cannot be had.
    let _ = shop.site.json(3, &[&into[..], &more].concat());
    assert_eq!(looks(&target, &shop.db), "ours|-1");
    target.psql("postgres", &format!("create role stranger login; revoke {owner} from {mover}"));
    assert!(may_connect(&target, &owner, &shop.db) && !may_connect(&target, "stranger", &shop.db));
}

#[test]
fn a_restore_that_waits_for_a_lock_names_who_holds_it() {
    let (shop, tools) = Shop::with_tools();
    let (id, new) = (shop.site.backup(), name());
    shop.site.source("silence = \"12s\"");
    tools.set("pg_restore", HALF);
    let child = start(&shop.site, &shop.to_beside(&id, &new));
    tools.await_pause();
    let mut somebody = Somebody::on(&shop.server, &new);
    somebody.run("begin; lock table orders in share update exclusive mode");
    std::fs::write(tools.path().join("go"), "").unwrap();
    let said = ended(child).failed(10, "locks");
    assert!(said.contains("has waited 12 s for a lock"), "{said}");
    assert!(said.contains("somebody") && said.contains("pg_terminate_backend"), "{said}");
    until("it to be gone", || !shop.has(&new));
}
