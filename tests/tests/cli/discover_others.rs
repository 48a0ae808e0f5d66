//! Servers of engines that drctl does not back up yet: they are known by sight, and by that of real ones.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use drctl_tests::servers::mongodb::MongoDb;
use drctl_tests::servers::mysql::{Builder, MySql};
use drctl_tests::site::{Ran, drctl};
use serde_json::{Value, json};

use crate::lone_site;

/// Who looks: root sees everything, another account neither folders nor who holds a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Account {
    Root,
    Nobody,
}

const ACCOUNTS: [Account; 2] = [Account::Root, Account::Nobody];

fn discover(account: Account, arguments: &[&str]) -> Command {
    let mut command = Command::new(drctl());
    command.args(["--config", "/nowhere/drctl.toml", "discover"]).args(arguments);
    if account == Account::Nobody {
        command.uid(65_534).gid(65_534);
    }
    command
}

/// What an account is told of all servers. Servers of other tests come and go beside ours.
fn told(account: Account) -> Vec<Value> {
    let ran = Ran::of(&discover(account, &["--json"]).output().expect("run it"));
    let _ = ran.ended_well_or(&[3]);
    ran.json()["servers"].as_array().expect("a list").clone()
}

/// What an account is told of a server: of its process, or of its socket.
fn found(account: Account, pid: u32, socket: Option<&Path>) -> Value {
    let is_its =
        |one: &Value| one["pid"] == pid || socket.is_some() && one["socket"] == json!(socket);
    let mut ours = told(account).into_iter().filter(is_its);
    let first = ours.next().unwrap_or_else(|| panic!("{account:?} is not told of {pid}"));
    assert_eq!(ours.next(), None, "{account:?} is told one server once");
    first
}

/// The release of a server: `10.11`.
fn release(server: &MySql) -> String {
    let version = server.version();
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// Each account is told of a server where it is, and root its release too.
fn is_told(wanted: Builder, engine: &str) {
    let server = wanted.start();
    for account in ACCOUNTS {
        let one = found(account, server.pid(), Some(&server.socket()));
        assert_eq!((&one["engine"], &one["pid"]), (&json!(engine), &json!(server.pid())), "{one}");
        assert_eq!(one["socket"], json!(server.socket()), "{account:?}: {one}");
        assert_eq!(one["port"], server.port(), "{account:?}: {one}");
        assert_eq!(one["data_directory"], json!(server.data_dir()), "{account:?}: {one}");
        assert_eq!((&one["sources"], &one["unprotected"]), (&json!([]), &json!(true)), "{one}");
        if account == Account::Root {
            assert_eq!(one["version"], json!(release(&server)), "{one}");
        }
    }
}

#[test]
fn mariadb_is_told_by_what_its_arguments_say() {
    is_told(MySql::mariadb(), "MariaDB");
}

#[test]
fn mariadb_is_told_by_what_its_file_of_options_says() {
    is_told(MySql::mariadb().by_file(), "MariaDB");
}

#[test]
fn mysql_is_told_by_what_its_arguments_say() {
    is_told(MySql::mysql().socket("mysql.sock"), "MySQL");
}

#[test]
fn mysql_is_told_by_what_its_file_of_options_says() {
    // A name that no package has.
    is_told(MySql::mysql().socket("shop.sock").by_file(), "MySQL");
}

#[test]
fn a_server_that_listens_on_its_port_alone_is_told() {
    for wanted in [MySql::mariadb().no_socket(), MySql::mysql().no_socket().by_file()] {
        let server = wanted.start();
        for account in ACCOUNTS {
            let one = found(account, server.pid(), None);
            assert_eq!(
                (&one["socket"], &one["unprotected"]),
                (&json!(null), &json!(true)),
                "{one}"
            );
            assert_eq!(one["port"], server.port(), "{account:?}: {one}");
        }
    }
}

#[test]
fn a_server_that_listens_on_its_socket_alone_is_told() {
    for wanted in [MySql::mariadb().no_port(), MySql::mysql().no_port().by_file()] {
        let server = wanted.start();
        for account in ACCOUNTS {
            let one = found(account, server.pid(), Some(&server.socket()));
            assert_eq!((&one["pid"], &one["port"]), (&json!(server.pid()), &json!(null)), "{one}");
            assert_eq!(one["unprotected"], true, "{account:?}: {one}");
        }
    }
}

#[test]
fn servers_of_both_engines_beside_each_other_are_told_apart() {
    let (one, other) = (MySql::mariadb().by_file().start(), MySql::mysql().by_file().start());
    for account in ACCOUNTS {
        for (server, engine) in [(&one, "MariaDB"), (&other, "MySQL")] {
            let told = found(account, server.pid(), Some(&server.socket()));
            assert_eq!((&told["engine"], &told["port"]), (&json!(engine), &json!(server.port())));
        }
    }
}

#[test]
fn people_are_told_that_it_is_not_backed_up_and_that_drctl_cannot() {
    let server = MySql::mariadb().by_file().start();
    let ran = Ran::of(&discover(Account::Root, &[]).output().expect("run it")).ended(3);
    let name = format!("MariaDB {} on port {}", release(&server), server.port());
    let words = "is not backed up, and this version of drctl cannot do it";
    assert!(ran.out.contains(&format!("{name} {words}")), "{}", ran.out);
}

#[test]
fn one_that_needs_no_backup_is_named_by_its_data_its_socket_or_its_port() {
    let server = MySql::mariadb().by_file().start();
    let site = lone_site();
    let data = server.data_dir().display().to_string();
    let socket = server.socket().display().to_string();
    for name in [data, socket, format!("mariadb:{}", server.port())] {
        let lines = format!("[discover]\nignore = [{name:?}]\n");
        site.append(&lines);
        let ran = site.drctl(&["--json", "discover"]);
        let _ = ran.ended_well_or(&[3]);
        let told = ran.json();
        let all = told["servers"].as_array().expect("a list");
        let one = all.iter().find(|one| one["pid"] == server.pid()).expect("it");
        assert_eq!((&one["ignored"], &one["unprotected"]), (&json!(true), &json!(false)), "{name}");
        site.replace(&lines, "");
    }
}

#[test]
fn one_that_has_stopped_is_told_no_more() {
    let mut server = MySql::mysql().start();
    let (pid, socket) = (server.pid(), json!(server.socket()));
    let is_its = |one: &Value| one["pid"] == pid || one["socket"] == socket;
    assert!(told(Account::Root).iter().any(is_its));
    server.stop();
    assert!(!told(Account::Root).iter().any(is_its));
}

/// The process bears the name of MongoDB's; what its sockets and files of options tell is tested with made
/// ones, for want of a real server.
#[test]
fn a_process_named_as_mongodbs_is_told_with_its_port() {
    let server = MongoDb::start();
    for account in ACCOUNTS {
        let one = found(account, server.pid(), None);
        assert_eq!((&one["engine"], &one["port"]), (&json!("MongoDB"), &json!(server.port())));
        assert_eq!((&one["sources"], &one["unprotected"]), (&json!([]), &json!(true)), "{one}");
    }
}
