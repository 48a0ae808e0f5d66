//! A stanza that drctl configures, and one that it finds.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use drctl_tests::cluster::{Cluster as _, give_away};
use drctl_tests::json_page::documented;
use drctl_tests::servers::postgres::Postgres;
use serde_json::{Value, json};

use crate::common::Shop;
use crate::record::{backup, id, manifest};

/// A shop for whose stanza nothing is configured.
fn unconfigured(global: &[&str]) -> Shop {
    let shop = Shop::bare(global);
    fs::remove_file(shop.path("pgbackrest.conf")).unwrap();
    shop
}

/// `drctl stanza config` with what these tests need.
fn config(shop: &Shop, more: &[&str]) -> drctl_tests::site::Ran {
    let repo = shop.path("repo").display().to_string();
    let sets =
        ["log", "lock", "spool"].map(|name| format!("{name}-path={}", shop.path(name).display()));
    let mut arguments = vec!["stanza", "config", "shop", "--repo-path", &repo];
    for set in &sets {
        arguments.extend(["--set", set]);
    }
    arguments.extend(more);
    shop.drctl(&arguments)
}

#[test]
fn a_stanza_is_configured_created_checked_and_backed_up() {
    let shop = unconfigured(&[]);
    let shown = config(&shop, &["--print"]).ended(0).json();
    assert_eq!(shown["written"], false);
    assert!(!shop.path("pgbackrest.conf").exists(), "only shown");
    let written = config(&shop, &[]).ended(0).json();
    assert_eq!(written["written"], true, "{written}");
    let file = fs::read_to_string(shop.path("pgbackrest.conf")).unwrap();
    assert_eq!(written["text"], file);
    assert_eq!(shown["text"], file);
    let data = format!("pg1-path={}\n", shop.server.data_dir().display());
    assert!(file.contains(&data), "{file}");
    let _ = shop.drctl(&["stanza", "create", "shop"]).ended(0);
    let said = shop.drctl(&["stanza", "check", "shop"]).failed(10, "pgbackrest_archiving");
    assert!(said.contains("archive_command"), "{said}");
    shop.archive_by(written["archive_command"].as_str().unwrap());
    let checked = shop.drctl(&["stanza", "check", "shop"]).ended(0).json();
    assert_eq!(checked["done"], "checked");
    let _ = shop.drctl(&["stanza", "upgrade", "shop"]).ended(0);
    let made = backup(&shop, &[]);
    assert_eq!(made["backup"]["kind"]["backup_type"], "full");
    // It is there now: looked at, and left as it is.
    let again = config(&shop, &["--set", "start-fast=n"]).ended(0).json();
    assert_eq!((&again["written"], &again["text"]), (&json!(false), &Value::Null));
    assert_eq!(fs::read_to_string(shop.path("pgbackrest.conf")).unwrap(), file);
}

#[test]
fn a_configuration_that_is_there_is_never_changed() {
    let shop = Shop::start();
    let path = shop.path("pgbackrest.conf");
    let before = fs::read(&path).unwrap();
    let found = config(&shop, &[]).ended(0).json();
    assert_eq!(found["written"], false, "{found}");
    assert_eq!(fs::read(&path).unwrap(), before);
    // A stanza of another cluster.
    let text = String::from_utf8(before).unwrap();
    let other = text.replace(&shop.server.data_dir().display().to_string(), "/nowhere");
    for (text, word) in [
        (other.as_str(), "/nowhere"),
        ("[global]\nrepo1-path=/x\n", "add this"),
        ("[shop]\npg1-port=1\n", "does not say where the stanza's data are"),
    ] {
        fs::write(&path, text).unwrap();
        let said = config(&shop, &[]).failed(12, "target_unfit");
        assert!(said.contains(word), "{said}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn what_cannot_be_written_is_refused_before_anything_is() {
    let shop = unconfigured(&[]);
    let bare = ["stanza", "config", "shop"];
    for (more, word) in [
        (&[][..], "--repo-path"),
        (&["--set", "repo1-s3-key-secret=hunter2"][..], "cipher_pass"),
        (&["--set", "nonsense"][..], "KEY=VALUE"),
    ] {
        let said = shop.drctl(&[&bare, more].concat()).failed(2, "usage");
        assert!(said.contains(word) && !said.contains("hunter2"), "{said}");
    }
    assert!(!shop.path("pgbackrest.conf").exists());
    shop.site.replace("engine = \"pgbackrest\"\n", "engine = \"base_backup\"\n");
    shop.site.replace("stanza = \"shop\"\n", "");
    let config = shop.site.config();
    let text = fs::read_to_string(&config).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("pgbackrest_config"));
    fs::write(&config, lines.collect::<Vec<_>>().join("\n")).unwrap();
    for verb in ["config", "create", "upgrade", "adopt", "check"] {
        let said = shop.drctl(&["stanza", verb, "shop"]).failed(2, "usage");
        assert!(said.contains("has no stanza"), "{said}");
    }
}

#[test]
fn a_passphrase_is_written_for_pgbackrest_alone() {
    let shop = unconfigured(&[]);
    let secret = shop.site.path("etc").join("cipher");
    fs::write(&secret, "hunter2-hunter2").unwrap();
    shop.site.source(&format!("cipher_pass = {{ file = \"{}\" }}", secret.display()));
    give_away(&shop.site.path(""));
    let ran = config(&shop, &[]).ended(0);
    assert!(!ran.out.contains("hunter2") && !ran.err.contains("hunter2"), "{}", ran.out);
    let path = shop.path("pgbackrest.conf");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&path).unwrap().contains("repo1-cipher-pass=hunter2-hunter2\n"));
    let _ = shop.drctl(&["stanza", "create", "shop"]).ended(0);
    shop.archive_by(ran.json()["archive_command"].as_str().unwrap());
    let made = backup(&shop, &[]);
    assert_eq!(made["backup"]["kind"]["cipher"], "aes-256-cbc", "another level of trust, stated");
}

#[test]
fn the_objects_of_a_stanza_have_the_fields_that_are_documented() {
    let shop = Shop::start();
    let verbs = [("create", "drctl.stanza/1"), ("adopt", "drctl.stanza-adopt/1")];
    for (verb, schema) in verbs.into_iter().chain([("config", "drctl.stanza-config/1")]) {
        let object = shop.drctl(&["stanza", verb, "shop"]).ended(0).json();
        assert_eq!(object["schema"], schema);
        let mut fields: std::collections::BTreeSet<String> =
            object.as_object().unwrap().keys().cloned().collect();
        fields.remove("schema");
        assert_eq!(fields, documented(schema), "{schema}");
    }
}

#[test]
fn a_cluster_that_took_the_place_of_another_needs_an_upgrade_and_a_full_backup() {
    let mut shop = Shop::start();
    let old = id(&backup(&shop, &[]));
    let (host, port) = (shop.server.socket_dir().display().to_string(), shop.server.port());
    shop.server = Postgres::builder()
        .initdb("--wal-segsize=1")
        .conf("archive_mode", "on")
        .conf("archive_command", "false")
        .start();
    let new = shop.server.socket_dir().display().to_string();
    shop.site.replace(&host, &new);
    shop.site.replace(&format!("port = {port}"), &format!("port = {}", shop.server.port()));
    shop.configure();
    shop.archive();
    let said = shop.drctl(&["backup", "shop"]).failed(10, "pgbackrest_server");
    assert!(said.contains("another cluster"), "{said}");
    let _ = shop.drctl(&["stanza", "upgrade", "shop"]).ended(0);
    let made = backup(&shop, &[]);
    assert!(made["notes"].to_string().contains("the one before it"), "{made}");
    let (before, after) = (manifest(&shop, &old), manifest(&shop, &id(&made)));
    assert_eq!(
        (&after["kind"]["backup_type"], &after["kind"]["database_id"]),
        (&json!("full"), &json!(2))
    );
    assert_ne!(before["kind"]["system_id"], after["kind"]["system_id"]);
    let list = shop.drctl(&["list"]).ended(0).json();
    let there = list["backups"].as_array().unwrap().iter().filter(|row| row["good"] == true);
    assert_eq!(there.count(), 2, "the old one is there as well");
}
