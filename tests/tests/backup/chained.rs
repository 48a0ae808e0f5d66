//! What signed documents name is missed on a host that has never seen it.

use std::fs;

use serde_json::Value;

use crate::common::Shop;

/// A host that has never seen the bucket before: it has no catalog.
fn strange_to_it(shop: &Shop) {
    fs::remove_dir_all(shop.site.path("state")).unwrap();
}

/// What is told to be gone.
fn lost(object: &Value) -> Vec<(String, String)> {
    let all = object["lost"].as_array().unwrap().iter();
    let text = |one: &Value, field: &str| one[field].as_str().unwrap().to_owned();
    all.map(|one| (text(one, "key"), text(one, "why"))).collect()
}

#[test]
fn what_is_gone_is_told_by_a_signed_chain_to_who_has_never_seen_it() {
    let shop = Shop::open();
    let (one, two, three) = (shop.site.backup(), shop.site.backup(), shop.site.backup());
    let folder = |id: &str| shop.site.path("repository/s/shop/b").join(id);
    let key = |id: &str| format!("s/shop/b/{id}/manifest.json");
    let shown = shop.site.json(0, &["show", &three]);
    let named = shown["manifest"]["before"].as_array().unwrap();
    let named: Vec<&str> = named.iter().filter_map(|one| one["backup"].as_str()).collect();
    assert_eq!(named, [two.as_str(), one.as_str()]);
    let _ = shop.site.json(0, &["verify"]);

    let away = shop.site.path("away");
    fs::rename(folder(&one), &away).unwrap();
    strange_to_it(&shop);
    // With no catalog at all.
    let verified = shop.site.json(4, &["verify"]);
    let told = lost(&verified);
    assert_eq!((told.len(), &told[0].0), (1, &key(&one)), "{verified}");
    assert!(told[0].1.contains("names it: it is not in the bucket"), "{verified}");
    // With one that is made of what is there.
    let _ = shop.site.drctl(&["catalog", "rebuild"]);
    for _ in 0..2 {
        let _ = shop.site.drctl(&["status", "--check"]).ended(3);
        assert_eq!(lost(&shop.site.json(3, &["list"])), told);
        assert_eq!(lost(&shop.site.json(4, &["catalog", "check"])), told);
        assert_eq!(lost(&shop.site.json(4, &["verify"])), told);
        let _ = shop.site.drctl(&["catalog", "rebuild"]);
    }
    // It is back, and another one is in its place: one that counts, and is not what was named.
    fs::rename(&away, folder(&one)).unwrap();
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    let _ = shop.site.json(0, &["verify"]);
    crate::common::resign(&shop, &one, |manifest| manifest.host = "db9".to_owned());
    strange_to_it(&shop);
    let _ = shop.site.drctl(&["catalog", "rebuild"]);
    let listed = shop.site.json(3, &["list"]);
    assert!(lost(&listed)[0].1.contains("another manifest is in its place"), "{listed}");

    // What was removed on purpose is forgotten by hand, and named no more.
    fs::remove_dir_all(folder(&one)).unwrap();
    let looked = shop.site.json(0, &["catalog", "forget", "shop"]);
    let digest = looked["digest"].as_str().unwrap();
    let _ = shop.site.json(0, &["catalog", "forget", "shop", "--yes", digest]);
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    assert!(lost(&shop.site.json(0, &["verify"])).is_empty());
    let _ = shop.site.drctl(&["catalog", "rebuild"]);
    assert!(lost(&shop.site.json(0, &["list"])).is_empty());
    let four = shop.site.backup();
    let shown = shop.site.json(0, &["show", &four]);
    assert_eq!(shown["manifest"]["before"].as_array().map(Vec::len), Some(2), "{shown}");
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
}

#[test]
fn what_another_host_has_stored_is_named_too() {
    let shop = Shop::open();
    let one = shop.site.backup();
    strange_to_it(&shop);
    fs::create_dir(shop.site.path("repository/s/shop/b/20260301T000000Z-0000000000000001"))
        .unwrap();
    let two = shop.site.backup();
    let named = shop.site.json(0, &["show", &two])["manifest"]["before"].clone();
    assert_eq!(named.as_array().map(Vec::len), Some(1), "{named}");
    assert_eq!(named[0]["backup"], one.as_str());
}
