//! What lies outside of a cluster's data directory: brought along as far as the server gives it out, and
//! named as missing otherwise.

use std::fs;
use std::path::{Path, PathBuf};

use drctl_tests::cluster::{Cluster as _, archiving_elsewhere, give_away, list, place, ticks};
use drctl_tests::servers::authority::Authority;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Site, until};
use serde_json::Value;

use crate::common::{filled, site};
use crate::log::Archiving;

/// The files of a configuration as Debian has it.
const FILES: [&str; 4] = ["postgresql.conf", "pg_hba.conf", "pg_ident.conf", "conf.d/own.conf"];

fn debians() -> Postgres {
    filled(Postgres::builder().elsewhere().start())
}

/// What an answer tells, in one text.
pub(crate) fn notes(answer: &Value) -> String {
    let all = answer["notes"].as_array().expect("notes");
    all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

/// Where the configuration of this server must be after a restore into this directory.
pub(crate) fn brought(server: &Postgres, directory: &Path) -> PathBuf {
    let at = server.configuration().strip_prefix("/").expect("an absolute path");
    directory.join("configuration").join(at)
}

#[track_caller]
fn is_brought(server: &Postgres, directory: &Path) {
    for name in FILES {
        let ours = fs::read_to_string(brought(server, directory).join(name)).expect("a file");
        let own = fs::read_to_string(server.configuration().join(name)).expect("a file");
        assert_eq!(ours, own, "{name}");
    }
}

/// Puts the rules of access to where the restored server reads them.
fn lets_us_in(server: &Postgres, directory: &Path) {
    let (from, to) = (brought(server, directory), directory.join("data/pg_hba.conf"));
    fs::copy(from.join("pg_hba.conf"), to).expect("copy the rules");
}

/// Restores the newest backup, and gives the directory and what was told.
#[track_caller]
pub(crate) fn restored(site: &Site) -> (tempfile::TempDir, PathBuf, String) {
    let (folder, path) = place();
    let to = path.display().to_string();
    let done = site.json(0, &["restore", "shop", "--latest", "--to-directory", &to]);
    let told = notes(done["restored"].as_array().and_then(|all| all.last()).expect("a stream"));
    (folder, path, told)
}

#[test]
fn a_configuration_that_lies_elsewhere_comes_back_beside_the_cluster() {
    let server = debians();
    assert_eq!(server.psql("postgres", "show work_mem"), "5MB");
    let site = site(&server);
    let answer = site.json(0, &["backup", "shop"]);
    assert_eq!(notes(&answer), "", "nothing is missing");
    let id = answer["backup"]["backup"].as_str().expect("an identifier");
    let shown = site.json(0, &["show", id]);
    let items = shown["facts"]["outside"]["items"].as_array().expect("items").clone();
    let all = ["config_file", "hba_file", "ident_file", "include"];
    assert_eq!(items.iter().map(|item| item["what"].clone()).collect::<Vec<_>>(), all, "{items:?}");
    for (item, name) in items.iter().zip(FILES) {
        let path = server.configuration().join(name);
        assert_eq!(item["path"], path.display().to_string());
        assert_eq!(item["bytes"], fs::metadata(path).expect("a file").len());
        assert!(item["content"].is_null(), "no content is shown: {item}");
    }
    let text = site.drctl(&["show", id]).ended(0).out;
    assert!(text.contains("/etc/pg_hba.conf (hba_file): in this backup, "), "{text}");
    let to = ["restore", "shop", "--latest", "--to-directory", "r", "--plan"];
    let plan = notes(&site.json(0, &to));
    assert!(plan.contains("holds 4 configuration files"), "{plan}");
    let (_folder, path, told) = restored(&site);
    is_brought(&server, &path);
    let top = path.join("configuration").display().to_string();
    assert!(told.contains("a minimal one was written") && told.contains(&top), "{told}");
    lets_us_in(&server, &path);
    give_away(&path);
    let cluster = Postgres::builder().data(&path.join("data")).start();
    assert_eq!(cluster.psql("postgres", "select count(*) from orders"), "20000");
    assert_eq!(cluster.psql("postgres", "show work_mem"), "4MB", "the server does not read it");
}

#[test]
fn what_the_role_may_not_read_is_named_as_missing() {
    let server = debians();
    server.psql("postgres", "create role copier login replication; grant pg_monitor to copier");
    let site = site(&server);
    site.replace("user = \"postgres\"", "user = \"copier\"");
    let found = |check: &str| {
        let found = site.drctl(&["--json", "doctor"]).json();
        let all = found["findings"].as_array().expect("findings").clone();
        all.iter().filter(|one| one["check"] == check).cloned().collect::<Vec<_>>()
    };
    let told = notes(&site.json(0, &["backup", "shop"]));
    for (name, what) in FILES.iter().zip(["config_file", "hba_file", "ident_file", "include"]) {
        let path = server.configuration().join(name).display().to_string();
        assert!(told.contains(&format!("{path} ({what})")), "{told}");
    }
    assert!(told.contains("no backup holds these") && told.contains("may not read it"), "{told}");
    assert!(told.contains("may not read pg_file_settings"), "{told}");
    let doctor = found("source.shop.outside");
    assert!(doctor.iter().all(|one| one["level"] == "warning") && doctor.len() == 2, "{doctor:?}");
    assert!(doctor[0]["hint"].to_string().contains("pg_read_server_files"), "{doctor:?}");
    let (_folder, path, told) = restored(&site);
    assert!(told.contains("pg_hba.conf (hba_file)") && told.contains("no backup holds"), "{told}");
    assert!(!path.join("configuration").exists());
    // As the documentation has it.
    server.psql(
        "postgres",
        "grant pg_read_server_files to copier; \
         grant execute on function pg_read_binary_file(text, bigint, bigint, boolean) to copier; \
         grant select on pg_file_settings to copier; \
         grant execute on function pg_show_all_file_settings() to copier",
    );
    if server.psql("postgres", "select to_regprocedure('pg_hba_file_rules()') is not null") == "t" {
        server.psql(
            "postgres",
            "grant select on pg_hba_file_rules, pg_ident_file_mappings to copier; \
             grant execute on function pg_hba_file_rules(), pg_ident_file_mappings() to copier",
        );
    }
    assert_eq!(notes(&site.json(0, &["backup", "shop"])), "");
    assert!(found("source.shop.outside").iter().all(|one| one["level"] == "good"));
    is_brought(&server, &restored(&site).1);
    // Whoever may not even see the settings is told that nothing is known.
    server.psql("postgres", "revoke pg_monitor from copier");
    let told = notes(&site.json(0, &["backup", "shop"]));
    assert!(told.contains("where its configuration lies"), "{told}");
    assert!(told.contains("GRANT pg_monitor TO"), "{told}");
    let doctor = found("source.shop.outside");
    assert!(doctor.iter().any(|one| one["level"] == "warning"), "{doctor:?}");
}

#[test]
fn certificates_are_named_and_never_read() {
    let server = debians();
    let (certificate, key) = Authority::new().server();
    let at = |name: &str| server.configuration().join(name);
    fs::write(at("tls.crt"), certificate).expect("write it");
    fs::write(at("tls.key"), key).expect("write it");
    give_away(server.configuration());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(at("tls.key"), mode).expect("close it");
    for (name, file) in [("ssl_cert_file", "tls.crt"), ("ssl_key_file", "tls.key")] {
        let file = at(file).display().to_string();
        server.psql("postgres", &format!("alter system set {name} = '{file}'"));
    }
    server.psql("postgres", "alter system set ssl = on");
    server.psql("postgres", "select pg_reload_conf()");
    until("TLS", || server.psql("postgres", "show ssl") == "on");
    let site = site(&server);
    let told = notes(&site.json(0, &["backup", "shop"]));
    for name in ["tls.crt (ssl_cert_file)", "tls.key (ssl_key_file)", "are not copied"] {
        assert!(told.contains(name), "{told}");
    }
    let (_folder, path, _) = restored(&site);
    is_brought(&server, &path);
    assert!(!brought(&server, &path).join("tls.key").exists());
}

#[test]
fn a_recovered_cluster_has_the_configuration_of_its_source_beside_it() {
    let mut shop = Archiving::of(archiving_elsewhere(), true, site);
    shop.back_up();
    shop.tick(1..11);
    shop.archived();
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let done = ran.ended(0).json();
    let told = done["outside"][0].as_str().unwrap_or_default();
    assert!(told.contains(&path.join("configuration").display().to_string()), "{done}");
    is_brought(&shop.server, &path);
    shop.server.stop();
    let planned = shop.drctl(&["take-over", "shop", &path.display().to_string()]).ended(0).json();
    let told = planned["notes"].to_string();
    assert!(told.contains("name its postgresql.conf with --configuration"), "{planned}");
    lets_us_in(&shop.server, &path);
    assert_eq!(ticks(&path), list(1..11));
}
