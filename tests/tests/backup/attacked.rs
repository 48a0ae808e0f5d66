//! A repository in which somebody else writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Shop, segments};

fn folder(shop: &Shop, id: &str) -> PathBuf {
    shop.site.path("repository/s/shop/b").join(id)
}

#[test]
fn what_is_no_file_is_not_opened() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let pipe = |path: &Path| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    // A manifest that comes before the good one, and hundreds of attempts of one byte.
    pipe(&folder(&shop, "29990101T000000Z-0000000000000000").join("manifest.json"));
    pipe(&folder(&shop, "20990101T000000Z-0000000000000000").join("manifest.json"));
    for n in 0..500 {
        let at = folder(&shop, &format!("20990102T000000Z-{n:016x}")).join("d0");
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join("000000.zst.age"), "1").unwrap();
    }
    let files = shop.site.path("files").display().to_string();
    let done = shop.site.json(0, &["restore", "shop", "--latest", "--to-files", &files]);
    assert_eq!(done["backup"], id.as_str());
    let verified = shop.site.json(4, &["verify"]);
    let codes: Vec<&str> = verified["backups"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["problems"][0]["code"].as_str())
        .collect();
    assert_eq!(codes, ["store_no_object", "store_no_object"], "{verified}");
    // Data and marker.
    let data = segments(&shop.site, "d0");
    fs::remove_file(&data[0]).unwrap();
    pipe(&data[0]);
    let said = shop.site.drctl(&["--json", "verify", &id, "--data"]);
    assert_eq!(said.code, Some(4), "{}", said.out);
    let marker = shop.site.path("repository/drctl-repo.json");
    fs::remove_file(&marker).unwrap();
    pipe(&marker);
    let said = shop.site.drctl(&["--json", "verify", &id]);
    assert_eq!(said.code, Some(4), "{}", said.out);
    let _ = shop.site.fails(8, "store_no_object", &["backup", "shop"]);
}
