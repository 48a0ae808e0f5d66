//! What only a newer drctl understands: told by its name, with what to install, and in nobody's way.

use std::fs;

use drctl_store::layout;
use drctl_tests::envelope::{ACCEPTANCE, MANIFEST, opened, sealed};
use serde_json::{Value, json};

use crate::common::{Shop, manifest_of, name};

/// Puts a backup of an engine that nobody knows yet beside the others, signed by the host's own key.
pub(crate) fn newer(shop: &Shop, like: &str) -> String {
    let mut manifest = opened(&fs::read(manifest_of(shop, like)).unwrap());
    let id = format!("{}ffffffffffffffff", &like[..like.len() - 16]);
    manifest["backup"] = json!(id);
    manifest["features"] = json!(["abacus"]);
    manifest["reader"] = json!("7.2.0");
    manifest["engine"] = json!("abacus");
    manifest["kind"] = json!({ "type": "beads", "rods": 13 });
    manifest["streams"] = json!("elsewhere");
    let key = shop.site.signing_key();
    let bytes = sealed(MANIFEST, manifest.to_string().as_bytes(), &key);
    let path = manifest_of(shop, &id);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    id
}

#[test]
fn a_backup_of_an_engine_that_is_not_known_names_what_to_install() {
    let shop = Shop::open();
    let own = shop.site.backup();
    let id = newer(&shop, &own);
    let install = "install drctl 7.2.0 or newer";
    let says = |what: &serde_json::Value| {
        assert_eq!(what["newer"][0]["backup"], id.as_str(), "{what}");
        assert!(what["newer"][0]["why"].as_str().unwrap().contains(install), "{what}");
        assert!(what["newer"][0]["why"].as_str().unwrap().contains("`abacus`"), "{what}");
    };
    let rebuilt = shop.site.json(3, &["catalog", "rebuild"]);
    says(&rebuilt);
    assert_eq!((&rebuilt["refused"], &rebuilt["backups"]), (&json!([]), &json!(1)), "{rebuilt}");
    let listed = shop.site.json(0, &["list"]);
    says(&listed);
    assert_eq!(listed["backups"][0]["backup"], own.as_str(), "{listed}");
    let told = shop.site.drctl(&["list"]).ended(0).out;
    assert!(told.contains(&format!("NEWER: shop/{id}")), "{told}");
    for data in [&[][..], &["--data"]] {
        let verified = shop.site.json(3, &[&["verify"], data].concat());
        let rows = verified["backups"].as_array().unwrap();
        let of = |id: &str| rows.iter().find(|row| row["backup"] == id).unwrap();
        assert_eq!(of(&own)["good"], true, "{verified}");
        let problems = of(&id)["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 1, "{verified}");
        assert_eq!(problems[0]["code"], "format_newer", "{verified}");
        assert!(problems[0]["message"].as_str().unwrap().contains(install), "{verified}");
    }
    // It is not damage, and is not remembered as any.
    let check = shop.site.json(3, &["catalog", "check"]);
    says(&check);
    assert_eq!((&check["bad"], &check["lost"]), (&json!([]), &json!([])), "{check}");
    let said = shop.site.fails(8, "format_newer", &["show", &id]);
    assert!(said.contains(install), "{said}");
    let said = shop.site.fails(8, "format_newer", &shop.to_beside(&id, &name()));
    assert!(said.contains(install), "{said}");
    // The others are as they were.
    shop.beside(&["--latest"], &[]);
    let latest = ["restore", "shop", "--latest", "--to-files", "x", "--plan"];
    let plan = shop.site.json(0, &latest);
    assert_eq!(plan["passed_over"][0]["backup"], id.as_str(), "{plan}");
    assert!(plan["passed_over"][0]["why"].as_str().unwrap().contains(install), "{plan}");
    let plan = shop.site.json(0, &[&shop.to_beside(&own, &name())[..], &["--plan"]].concat());
    assert_eq!(plan["backup"], own.as_str(), "{plan}");
    let next = shop.site.backup();
    shop.still_restores(&next);
}

#[test]
fn a_host_that_joins_learns_what_it_does_not_understand() {
    let shop = Shop::open();
    let own = shop.site.backup();
    let id = newer(&shop, &own);
    fs::remove_file(shop.site.path("state/catalog.db")).unwrap();
    let next = shop.site.backup();
    let listed = shop.site.json(3, &["list"]);
    assert_eq!(listed["newer"][0]["backup"], id.as_str(), "{listed}");
    assert_eq!(listed["backups"][0]["backup"], next.as_str(), "{listed}");
}

#[test]
fn a_marker_of_a_newer_format_names_what_to_install_and_is_never_written_over() {
    let shop = Shop::open();
    let own = shop.site.backup();
    let marker = shop.site.path("repository/drctl-repo.json");
    let mut object: Value = serde_json::from_slice(&fs::read(&marker).unwrap()).unwrap();
    let id = object["repository"].clone();
    object["min_reader"] = json!(2);
    object["reader"] = json!("7.2.0");
    // Of the rest nothing is known.
    object.as_object_mut().unwrap().remove("created");
    fs::write(&marker, object.to_string()).unwrap();
    let written = fs::read(&marker).unwrap();
    let before = shop.site.files("repository");
    let install = "install drctl 7.2.0 or newer";
    for (exit, command) in [(0, &["list"][..]), (3, &["status", "--check"]), (3, &["verify"])] {
        let told = shop.site.drctl(command).ended(exit);
        let said = told.out.clone() + &told.err;
        assert!(said.contains(install) && !said.contains("restore-marker"), "{said}");
        assert!(!said.contains("gone or damaged"), "{said}");
    }
    let verified = shop.site.json(3, &["verify"]);
    assert_eq!((&verified["alarms"], &verified["backups"][0]["good"]), (&json!([]), &json!(true)));
    assert!(verified["newer"][0].as_str().unwrap().contains(install), "{verified}");
    let status = shop.site.json(3, &["status", "--check"]);
    let source = &status["sources"][0];
    assert_eq!(source["marker_lost"], false, "{status}");
    assert!(source["marker_newer"].as_str().unwrap().contains(install), "{status}");
    assert_eq!(source["findings"][0]["code"], "marker_newer", "{status}");
    let check = shop.site.json(3, &["catalog", "check"]);
    assert!(check["newer_marker"].as_str().unwrap().contains(install), "{check}");
    shop.beside(&["--backup", &own], &[]);
    for command in [&["backup", "shop"][..], &["init", "--restore-marker"]] {
        let said = shop.site.fails(8, "format_newer", command);
        assert!(said.contains(install), "{said}");
    }
    assert_eq!((shop.site.files("repository"), fs::read(&marker).unwrap()), (before, written));
    // It is still asked which repository it is.
    object["repository"] = json!("0".repeat(32));
    fs::write(&marker, object.to_string()).unwrap();
    let _ = shop.site.fails(8, "other_repository", &["verify"]);
    assert_ne!(object["repository"], id);
}

#[test]
fn an_acceptance_of_a_newer_format_is_newer_and_not_refused() {
    let shop = Shop::open();
    let own = shop.site.backup();
    let key: drctl_store::SigningKey =
        fs::read_to_string(shop.site.path("etc/keys/signing.key")).unwrap().trim().parse().unwrap();
    let path = manifest_of(&shop, &own);
    let mut manifest = opened(&fs::read(&path).unwrap());
    manifest["suspect"] = json!(["it is small"]);
    fs::write(&path, sealed(MANIFEST, manifest.to_string().as_bytes(), &key)).unwrap();
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    let acceptance = json!({ "v": 2, "min_reader": 2, "reader": "7.2.0", "rods": 13 });
    let key_of = layout::acceptance(&"shop".parse().unwrap(), &own.parse().unwrap());
    let at = shop.site.path("repository").join(key_of.as_ref());
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    fs::write(&at, sealed(ACCEPTANCE, acceptance.to_string().as_bytes(), &key)).unwrap();
    let verified = shop.site.json(3, &["verify"]);
    let install = "install drctl 7.2.0 or newer";
    assert!(verified["newer"][0].as_str().unwrap().contains(install), "{verified}");
    assert_eq!(verified["refused"], json!([]), "{verified}");
    let before = fs::read(&at).unwrap();
    let said = shop.site.fails(8, "format_newer", &["accept", &own]);
    assert!(said.contains(install) && !said.contains("two writers"), "{said}");
    assert_eq!(fs::read(&at).unwrap(), before);
}

#[test]
fn list_tells_manifests_that_do_not_count_also_where_the_catalog_never_knew_them() {
    let shop = Shop::open();
    let own = shop.site.backup();
    let path = manifest_of(&shop, &own);
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..good.len() - 100]).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(shop.site.path(&format!("state/catalog.db{suffix}")));
    }
    let _ = shop.site.json(3, &["catalog", "rebuild"]);
    let listed = shop.site.json(0, &["list"]);
    assert_eq!(listed["refused"][0]["backup"], own.as_str(), "{listed}");
    assert_eq!((&listed["backups"], &listed["newer"]), (&json!([]), &json!([])), "{listed}");
    let told = shop.site.drctl(&["list"]).ended(0);
    assert!(told.out.contains(&format!("REFUSED: shop/{own}: ")), "{}", told.out);
    assert!(!told.err.contains("no backups yet"), "{}", told.err);
    // One that counts and is not known yet is nothing of the kind.
    fs::write(&path, good).unwrap();
    assert_eq!(shop.site.json(0, &["list"])["refused"], json!([]));
}
