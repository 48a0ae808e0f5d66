//! Data that the server does not send with a base backup.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use drctl_engines::pg::major_of;
use drctl_tests::cluster::give_away;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

use crate::common::{cluster, site};

/// Moves something of a data directory elsewhere, and leaves a link in its place.
fn behind_a_link(server: &mut Postgres, name: &str, elsewhere: &Path) {
    server.stop();
    let (from, to) = (server.data_dir().join(name), elsewhere.join(name.replace('/', "-")));
    // Another file system: it cannot be renamed.
    let moved = std::process::Command::new("mv").arg(&from).arg(&to).status();
    assert!(moved.expect("start mv").success());
    symlink(&to, &from).expect("a link");
    give_away(elsewhere);
    server.start_again();
}

/// A backup that fails because of this, and leaves nothing that counts.
#[track_caller]
fn refused(site: &Site, missing: &str) {
    let said = site.fails(10, "copy_incomplete", &["backup", "shop"]);
    assert!(said.contains(missing) && said.contains("find DATA_DIRECTORY"), "{said}");
    assert!(site.manifests().is_empty());
    assert_eq!(site.status()["health"], "breached");
}

#[test]
fn data_behind_a_link_is_never_left_out_of_a_backup() {
    let mut server = cluster();
    server.psql("postgres", "create database blog");
    // However little the server is to tell: what it leaves out is asked for.
    server.psql("postgres", "alter system set client_min_messages = error");
    let (elsewhere, path) = drctl_tests::cluster::place();
    fs::create_dir(&path).expect("a folder");
    let site = site(&server);
    let table = server.psql("postgres", "select pg_relation_filepath('orders')");
    behind_a_link(&mut server, &table, &path);
    refused(&site, &table);
    fs::remove_file(server.data_dir().join(&table)).expect("take the link away");
    fs::copy(path.join(table.replace('/', "-")), server.data_dir().join(&table)).expect("copy");
    give_away(&server.data_dir().join(&table));
    let oid = server.psql("postgres", "select oid from pg_database where datname = 'blog'");
    behind_a_link(&mut server, &format!("base/{oid}"), &path);
    refused(&site, &format!("base/{oid}"));
    drop(elsewhere);
}

#[test]
fn a_tablespace_in_place_is_never_left_out_of_a_backup() {
    let server = cluster();
    let site = site(&server);
    server.psql(
        "postgres",
        "set allow_in_place_tablespaces = on; create tablespace inside location ''",
    );
    server.psql("postgres", "create table lost tablespace inside as select 1 as one");
    // From PostgreSQL 16 on a server sends it.
    if major_of(&server.psql("postgres", "show server_version")) < Some(16) {
        refused(&site, "an in-place tablespace");
    } else {
        let _ = site.backup();
    }
}

#[test]
fn links_that_hold_no_data_do_not_alarm() {
    let mut server = cluster();
    let (elsewhere, path) = drctl_tests::cluster::place();
    fs::create_dir(&path).expect("a folder");
    fs::create_dir(server.data_dir().join("log")).expect("a folder");
    for name in ["pg_wal", "log", "pg_hba.conf"] {
        behind_a_link(&mut server, name, &path);
    }
    let site = site(&server);
    let answer = site.json(0, &["backup", "shop"]);
    let notes = answer["notes"].as_array().expect("notes");
    assert_eq!(notes.len(), 1, "{answer}");
    assert!(notes[0].as_str().expect("a text").ends_with(": ./pg_hba.conf"), "{answer}");
    assert_eq!(site.status()["health"], "good");
    drop(elsewhere);
}

/// A role that may take base backups and may not connect: what the server warns of is all that is
/// known.
#[test]
fn a_role_that_may_not_connect_is_told_what_was_not_compared() {
    let server = cluster();
    server.psql("postgres", "create role copier login replication");
    let hba = server.data_dir().join("pg_hba.conf");
    let lines = fs::read_to_string(&hba).expect("a file");
    fs::write(&hba, format!("local all copier reject\n{lines}")).expect("write it");
    server.psql("postgres", "select pg_reload_conf()");
    let site = site(&server);
    site.replace("user = \"postgres\"", "user = \"copier\"");
    let answer = site.json(0, &["backup", "shop"]);
    let notes = answer["notes"].to_string();
    assert!(notes.contains("could not ask the server for its databases"), "{notes}");
}
