//! What older servers do not have. These tests are of PostgreSQL 17, beside the one that all else is
//! tested with; `tests/run` counts them by the name of this module.

use std::env::{join_paths, split_paths, var_os};
use std::sync::atomic::{AtomicBool, Ordering};

use drctl_tests::servers::between::Between;
use drctl_tests::servers::postgres::{Builder, Postgres};
use drctl_tests::site::{Ran, Site};

use crate::peers::{WORD, restored_in_the_clear, site};

fn newer() -> Builder {
    Postgres::builder().at_least(17)
}

#[test]
fn a_limit_of_transactions_stops_no_backup() {
    let server = newer().start();
    server.psql("postgres", "create role eve login; create database evil owner eve");
    server.psql("evil", "create table t as select 7 as v");
    let limit = "set role eve; alter database evil set transaction_timeout = 1";
    server.psql("postgres", limit);
    let _ = Site::with(&server).backup();
}

/// The limit may strike between the login and the first statement, where nobody waits for a word.
#[test]
fn a_session_that_a_limit_of_transactions_ends_at_once_is_begun_anew() {
    let server = newer().start();
    server.psql("postgres", "create table t as select 7 as v");
    let once = AtomicBool::new(false);
    let port = Between::before(server.port())
        .altering(move |mut message| {
            if message[0] == b'Z' && !once.swap(true, Ordering::SeqCst) {
                message.extend(b"E\0\0\0\x2fSFATAL\0VFATAL\0C25P04\0Mtransaction timeout\0\0");
            }
            message
        })
        .start();
    let site = Site::with(&server);
    site.replace(&format!("host = \"{}\"", server.socket_dir().display()), "host = \"127.0.0.1\"");
    site.replace(&format!("port = {}\n", server.port()), &format!("port = {port}\n"));
    site.source("sslmode = \"disable\"");
    let _ = site.backup();
}

#[test]
fn tools_that_can_be_told_to_give_no_password_away_are_started() {
    let server = newer().password(WORD).start();
    let site = site(server.port(), "disable", "pg_dump");
    site.replace("silence = \"1s\"", "silence = \"1h\"");
    site.programs_of(&server);
    let _ = site.json(3, &["backup", "shop"]);
}

#[test]
fn a_restore_whose_tools_give_no_password_away_is_run() {
    let target = newer().password(WORD).start();
    let (_source, site, restore) = restored_in_the_clear(&target);
    let mut command = site.command(&restore);
    if !target.is_debians() {
        let path = var_os("PATH").unwrap_or_default();
        let all = std::iter::once(target.bin_dir().to_owned()).chain(split_paths(&path));
        command.env("PATH", join_paths(all).unwrap());
    }
    let _ = Ran::of(&command.output().unwrap()).ended(0);
    assert_eq!(target.psql("shop", "select count(*) from orders"), "10");
}

/// A login trigger sets what it likes, in our sessions too, after they have begun with settings of ours.
#[test]
fn what_a_login_trigger_sets_harms_no_backup() {
    let server = newer().start();
    server.psql("postgres", "create database shop");
    server.psql("shop", "create table t as select g from generate_series(1, 3000000) g");
    server.psql(
        "shop",
        "create function hurry() returns event_trigger language plpgsql as $$ begin
             perform set_config('statement_timeout', '40', false);
             perform set_config('search_path', 'public', false);
             perform set_config('row_security', 'on', false);
         end $$;
         create event trigger hurry on login execute function hurry();
         alter event trigger hurry enable always",
    );
    let site = Site::with(&server);
    let id = site.backup();
    let back = ["restore", "shop", "--backup", &id, "--database", "shop", "--as", "back"];
    let identity = site.identity().display().to_string();
    let _ = site.drctl(&[&back[..], &["--identity", &identity]].concat()).ended(0);
    assert_eq!(server.psql("back", "set statement_timeout = 0; select count(*) from t"), "3000000");
}
