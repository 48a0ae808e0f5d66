//! Evidence given away, and looked at where there is nothing but that and a public key.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use drctl_tests::cluster::Cluster as _;
use drctl_tests::json_page::documented;
use drctl_tests::site::Ran;
use serde_json::Value;

use crate::common::Shop;

/// A shop of which one drill was run, and its bundle.
fn given_away(shop: &Shop) -> (Value, PathBuf) {
    let _ = shop.back_up();
    let done = shop.drill(0, &[]);
    // In a directory that the account may write into.
    let file = shop.site.path("state/bundle.json");
    let path = file.display().to_string();
    let written = shop.drctl(&["drill", "export", "shop", "--to", &path]).ended(0).json();
    assert_eq!(written["drill"], done["drill"], "{written}");
    (done, file)
}

/// Looks at a bundle without configuration, repository and home.
#[track_caller]
fn verify(shop: &Shop, bundle: &PathBuf, exit: i32, more: &[&str]) -> Value {
    let mut command = Command::new(shop.program());
    command.env_clear().env("DRCTL_CONFIG", "/nonexistent").current_dir("/");
    command.args(["--json", "drill", "verify"]).arg(bundle).args(more);
    Ran::of(&command.output().expect("start drctl")).ended(exit).json()
}

fn key(shop: &Shop) -> String {
    let text = fs::read_to_string(shop.site.config()).expect("a configuration");
    let at = text.find("ed25519:").expect("a verifying key");
    text[at..].split('"').next().expect("its end").to_owned()
}

#[test]
fn evidence_is_true_wherever_it_is_looked_at_and_names_nothing_without_an_identity() {
    let shop = Shop::open();
    let (done, file) = given_away(&shop);
    let key = key(&shop);
    let found = verify(&shop, &file, 0, &["--key", &key]);
    assert_eq!(
        (&found["true"], &found["drill"]["drill"]),
        (&true.into(), &done["drill"]),
        "{found}"
    );
    assert_eq!((&found["drill"]["verdict"], &found["names"]), (&"pass".into(), &Value::Null));
    let text = fs::read_to_string(&file).unwrap();
    assert!(!found.to_string().contains("orders") && !text.contains("orders"));
    // With the identity all names are there, and their rows are those that were counted.
    let identity = shop.site.identity();
    let identity = identity.to_str().unwrap();
    let found = verify(&shop, &file, 0, &["--key", &key, "--identity", identity]);
    let tables = found["names"]["tables"].as_array().unwrap();
    let orders = tables.iter().find(|one| one["table"] == "public.orders").expect("orders");
    assert_eq!((&orders["rows"], &orders["database"]), (&2000.into(), &"postgres".into()));
    let rows: u64 = tables.iter().map(|one| one["rows"].as_u64().unwrap()).sum();
    assert_eq!(done["result"]["rows"].as_u64(), Some(rows), "{found}");
    // As the page has them.
    let fields: BTreeSet<String> = found.as_object().unwrap().keys().cloned().collect();
    let mut page = documented("drctl.drill-verify/1");
    page.insert("schema".to_owned());
    assert_eq!(fields, page);
    let shown = shop.drctl(&["drill", "show", "shop", "--identity", identity]).ended(0).json();
    assert_eq!(shown["names"], found["names"]);
}

#[test]
fn whatever_was_changed_in_it_is_not_true() {
    let shop = Shop::open();
    let (_, file) = given_away(&shop);
    let key = key(&shop);
    let bundle: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut other = bundle.clone();
        change(&mut other);
        let place = shop.site.path("changed.json");
        fs::write(&place, other.to_string()).unwrap();
        place
    };
    // A number in the evidence, signed by nobody.
    let evidence = |bundle: &mut Value| {
        let text = bundle["evidence"].as_str().unwrap();
        let middle = text.len() / 2;
        let other = if &text[middle..=middle] == "A" { "B" } else { "A" };
        bundle["evidence"] = format!("{}{other}{}", &text[..middle], &text[middle + 1..]).into();
    };
    let found = verify(&shop, &with(&evidence), 4, &["--key", &key]);
    assert_eq!(found["true"], false, "{found}");
    // Signed by another key than the one that is known.
    let stranger = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let found = verify(&shop, &file, 4, &["--key", stranger]);
    assert_eq!((&found["true"], &found["drill"]), (&false.into(), &Value::Null), "{found}");
    // A key of backups signs no drill, whatever it has signed.
    let found = verify(&shop, &file, 4, &["--key", stranger, "--backup-key", &key]);
    assert_eq!(found["true"], false, "{found}");
    // Its manifest is gone: that is told, and the evidence stays true.
    let found = verify(
        &shop,
        &with(&|bundle| bundle["manifests"] = serde_json::json!([])),
        0,
        &["--key", &key],
    );
    let looked = found["looked"].to_string();
    assert!(looked.contains("is not in the bundle"), "{found}");
    // What is no bundle, and what is none any more.
    for text in
        ["", "{}", "{\"bundle\":\"drctl.drill-bundle/9\",\"evidence\":\"\",\"manifests\":[]}"]
    {
        let place = shop.site.path("none.json");
        fs::write(&place, text).unwrap();
        assert_eq!(verify(&shop, &place, 4, &["--key", &key])["true"], false);
    }
    assert_eq!(verify(&shop, &file, 2, &["--key", "ed25519:x"])["code"], "usage");
}
