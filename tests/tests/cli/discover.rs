use std::os::unix::process::CommandExt as _;
use std::process::Command;

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, Site, drctl};
use serde_json::{Value, json};

use crate::{lone_site, server_with};

/// What `discover` tells. Servers of other tests come and go beside ours, so that it may end with 3.
fn told(site: &Site) -> Value {
    let ran = site.drctl(&["--json", "discover"]);
    let _ = ran.ended_well_or(&[3]);
    ran.json()
}

/// What `discover` tells of a server of ours, among all those that tests run beside it.
fn found(site: &Site, port: u16) -> Option<Value> {
    let told = told(site);
    let all = told["servers"].as_array().expect("a list").clone();
    let mut ours = all.into_iter().filter(|one| one["port"] == port);
    let first = ours.next();
    assert_eq!(ours.next(), None, "one server is told once");
    first
}

#[test]
fn a_server_that_no_source_reaches_is_told_with_the_lines_that_add_it() {
    let (shop, other) = (server_with(1), server_with(1));
    let site = Site::with(&shop);
    let ours = found(&site, shop.port()).expect("the source's server");
    assert_eq!((&ours["sources"], &ours["unprotected"]), (&json!(["shop"]), &json!(false)));
    let entry = found(&site, other.port()).expect("the other server");
    assert_eq!((&entry["sources"], &entry["unprotected"]), (&json!([]), &json!(true)));
    assert_eq!(entry["pid"], other.pid());
    assert_eq!(entry["data_directory"], json!(other.data_dir()));
    assert_eq!(entry["socket"], json!(other.socket_dir()));
    // The state of all says so too.
    let _ = site.drctl(&["catalog", "rebuild"]).ended(0);
    let status = site.json(0, &["status"]);
    let unprotected = status["unprotected"].as_array().expect("a list");
    let told = |port: u16| {
        unprotected.iter().any(|one| one.to_string().contains(&format!("port {port}\"")))
    };
    assert!(told(other.port()) && !told(shop.port()), "{unprotected:?}");
    let told = site.drctl(&["status"]).ended(0).out;
    assert!(told.contains("not backed up on this host: ") && told.contains("`drctl discover`"));
    // The lines that are offered are a source, which is backed up.
    let told = site.drctl(&["discover"]).ended(3).out;
    let name = format!("postgresql-{}", other.port());
    let lines = told.split_once(&format!("[sources.{name}]")).expect("lines to add").1;
    let lines = lines.split("\n\n").next().expect("its lines").replace("\"drctl\"", "\"postgres\"");
    let lines = lines.replace("role_passwords = false\n", "");
    site.append(&format!("\n[sources.{name}]{lines}\n"));
    let _ = site.drctl(&["config", "check"]).ended(0);
    let entry = found(&site, other.port()).expect("the other server");
    assert_eq!((&entry["sources"], &entry["unprotected"]), (&json!([name]), &json!(false)));
    let _ = site.drctl(&["backup", &name]).ended(0);
    // One that is off by configuration is told with that.
    site.append("enabled = false\n");
    let entry = found(&site, other.port()).expect("the other server");
    assert_eq!((&entry["disabled_sources"], &entry["unprotected"]), (&json!([name]), &json!(true)));
    let told = site.drctl(&["discover"]).ended(3).out;
    assert!(told.contains(&format!("the source {name} has enabled = false")), "{told}");
}

#[test]
fn what_needs_no_backup_is_named_by_its_data_or_by_its_port() {
    let server = Postgres::start();
    let site = lone_site();
    let data = server.data_dir().display().to_string();
    let port = server.port();
    assert_eq!(found(&site, port).expect("it")["unprotected"], true);
    for name in [data, format!("postgresql:{port}")] {
        site.append(&format!("[discover]\nignore = [{name:?}]\n"));
        let told = site.drctl(&["--json", "discover"]).json();
        let all = told["servers"].as_array().expect("a list");
        let entry = all.iter().find(|one| one["port"] == port).expect("it");
        assert_eq!((&entry["ignored"], &entry["unprotected"]), (&json!(true), &json!(false)));
        site.replace(&format!("[discover]\nignore = [{name:?}]\n"), "");
    }
    site.append("[discover]\nignore = [\"shop\"]\n");
    let told = site.drctl(&["config", "check"]).ended(7);
    assert!(
        told.err.contains("names no server") && told.err.contains("postgresql:5433"),
        "{}",
        told.err
    );
}

#[test]
fn an_account_without_rights_finds_servers_too() {
    let server = Postgres::start();
    let mut command = Command::new(drctl());
    command.args(["--json", "--config", "/nowhere/drctl.toml", "discover"]).uid(65_534).gid(65_534);
    let told = Ran::of(&command.output().expect("run it")).ended(3).json();
    let all = told["servers"].as_array().expect("a list");
    let entry = all.iter().find(|one| one["port"] == server.port()).expect("it");
    assert_eq!(entry["unprotected"], true, "{entry}");
    assert_eq!(entry["socket"], json!(server.socket_dir()));
    let mut command = Command::new(drctl());
    command.args(["--config", "/nowhere/drctl.toml", "discover"]).uid(65_534).gid(65_534);
    let told = Ran::of(&command.output().expect("run it")).ended(3).out;
    let place = server.socket_dir().display();
    let port = server.port();
    let begin = format!("drctl init --source postgresql-{port} --host {place} --port {port}");
    assert!(told.contains(&begin), "{told}");
}

#[test]
fn a_host_on_which_nothing_runs_has_nothing_to_protect() {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--net", "--fork", "--mount-proc"]).arg(drctl());
    command.args(["--config", "/nowhere/drctl.toml", "--json", "discover"]);
    let told = Ran::of(&command.output().expect("run it")).ended(0).json();
    let all = told["servers"].as_array().expect("a list");
    assert!(all.iter().all(|one| one["running"] == false), "{told}");
}

#[test]
fn a_source_whose_server_is_gone_is_told() {
    let mut server = server_with(1);
    let site = Site::with(&server);
    assert_eq!(told(&site)["sources_without_server"], json!([]));
    server.stop();
    assert_eq!(told(&site)["sources_without_server"], json!(["shop"]));
}
