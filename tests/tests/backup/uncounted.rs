//! What is newer than the newest good backup, and does not count: told wherever one asks for the newest.

use std::fs;

use drctl_store::SigningKey;
use drctl_tests::envelope::{MANIFEST, opened, sealed};
use serde_json::{Value, json};

use crate::common::{Shop, id_of, manifest_of};

/// A manifest like that of a backup, of the same second and with these digits, signed by nobody whom this
/// host trusts.
fn strangers(shop: &Shop, like: &str, digit: &str) -> String {
    let mut manifest = opened(&fs::read(manifest_of(shop, like)).unwrap());
    let id = format!("{}{}", &like[..like.len() - 16], digit.repeat(16));
    manifest["backup"] = json!(id);
    let bytes = sealed(MANIFEST, manifest.to_string().as_bytes(), &SigningKey::generate());
    put(shop, &id, &bytes);
    id
}

fn put(shop: &Shop, id: &str, bytes: &[u8]) {
    let path = manifest_of(shop, id);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn says(told: &[Value], id: &str) {
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["subject"], &told[0]["health"]), (&json!(id), &json!("attention")));
}

#[test]
fn a_newest_backup_that_does_not_count_is_told_by_status() {
    let shop = Shop::open();
    let own = shop.site.backup();
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    let id = strangers(&shop, &own, "f");
    let _ = shop.site.drctl(&["status", "--check"]).ended(3);
    let status = shop.site.status();
    assert_eq!(status["refused"][0]["backup"], id.as_str(), "{status}");
    assert_eq!(status["newest_good"]["backup"], own.as_str(), "{status}");
    says(&shop.site.told("backup_refused"), &id);
    // One that is damaged is no better.
    put(&shop, &id, b"{");
    let _ = shop.site.drctl(&["status", "--check"]).ended(3);
    says(&shop.site.told("backup_refused"), &id);
    // A newer one that counts settles it.
    fs::remove_dir_all(manifest_of(&shop, &id).parent().unwrap()).unwrap();
    let older = format!("{}0000000000000000", &own[..own.len() - 16]);
    put(&shop, &older, b"{");
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    assert!(shop.site.told("backup_refused").is_empty(), "an older one hides nothing");
}

#[test]
fn an_older_backup_that_does_not_count_is_told_and_alarms_nobody() {
    let shop = Shop::open();
    let first = shop.site.backup();
    assert!(shop.site.told("backup_uncounted").is_empty());
    let id = strangers(&shop, &first, "0");
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    let told = shop.site.told("backup_uncounted");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["subject"], &told[0]["health"]), (&json!(id), &json!("good")));
    let said = told[0]["text"].to_string();
    assert!(
        said.contains("no trusted key signed it") && said.contains("drctl list shop"),
        "{said}"
    );
    let people = shop.site.drctl(&["status"]).ended(0).out;
    assert!(people.contains(&format!("shop: {id} does not count here")), "{people}");
    assert_eq!(shop.site.status()["refused"], json!([]));
}

#[test]
fn what_a_signed_backup_names_and_the_bucket_lacks_is_told_by_a_host_that_never_saw_it() {
    let shop = Shop::open();
    let oldest = shop.site.backup();
    let lost = shop.site.backup();
    shop.sql("truncate orders");
    let suspect = id_of(&shop.site.json(3, &["backup", "shop"]));
    fs::remove_dir_all(manifest_of(&shop, &lost).parent().unwrap()).unwrap();
    fs::remove_file(shop.site.path("state/catalog.db")).unwrap();
    let latest = ["restore", "shop", "--latest", "--to-files", "x", "--plan"];
    let plan = shop.site.json(0, &latest);
    assert_eq!(plan["backup"], oldest.as_str(), "{plan}");
    let passed = plan["passed_over"].as_array().unwrap();
    let of = |id: &str| passed.iter().find(|one| one["backup"] == id).map(|one| one["why"].clone());
    assert!(of(&suspect).unwrap().to_string().contains("suspect"), "{plan}");
    let why = of(&lost).unwrap_or_else(|| panic!("it is named: {plan}"));
    assert!(why.to_string().contains("it is LOST: the backup"), "{why}");
    // The same with a catalog that never knew it.
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    let key = format!("s/shop/b/{lost}/manifest.json");
    let listed = shop.site.json(3, &["list"]);
    assert_eq!(listed["lost"][0]["key"], key.as_str(), "{listed}");
    let told = shop.site.told("object_gone");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["subject"], key.as_str(), "{told:?}");
    let plan = shop.site.json(0, &latest);
    assert!(plan["passed_over"].to_string().contains(&lost), "{plan}");
}
