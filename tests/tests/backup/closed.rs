//! A directory of which this account may not look into a part.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use drctl_tests::hostile::as_nobody;
use drctl_tests::site::Ran;

use crate::common::Shop;

/// The same command by an account that is not root.
fn as_other(shop: &Shop, arguments: &[&str]) -> Ran {
    let asked = shop.site.command(&[&["--json"], arguments].concat());
    let mut command = as_nobody(asked.get_program());
    command.args(asked.get_args()).current_dir(shop.site.path("."));
    for (name, value) in asked.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Ran::of(&command.output().expect("start setpriv"))
}

/// Makes a place for root alone.
fn close(path: &Path) {
    fs::create_dir_all(path).unwrap();
    chown(path, Some(0), Some(0)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn what_may_not_be_looked_into_is_named_and_hides_nothing_else() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let given = Command::new("chown").args(["-R", "65534:65534"]).arg(shop.site.path(".")).status();
    assert!(given.unwrap().success(), "run this as root: it gives directories away");
    let _ = as_other(&shop, &["verify"]).ended(0);
    let _ = as_other(&shop, &["catalog", "check"]).ended(0);

    close(&shop.site.path("repository/s/priv/b"));
    close(&shop.site.path("repository/s/priv"));
    for arguments in [&["verify"][..], &["verify", "--data"]] {
        let found = as_other(&shop, arguments).ended(3).json();
        assert_eq!(found["backups"][0]["backup"], id.as_str(), "{found}");
        assert_eq!(found["backups"][0]["good"], true, "{found}");
        let closed = found["closed"][0].as_str().unwrap();
        assert!(closed.starts_with("s/priv may not be looked into"), "{closed}");
    }
    let found = as_other(&shop, &["catalog", "check"]).ended(3).json();
    assert_eq!((&found["equal"], &found["orphans"]), (&true.into(), &serde_json::json!([])));
    assert!(found["closed"][0].as_str().unwrap().contains("s/priv"), "{found}");
    let people = Ran::of(&shop.site.command(&["verify"]).output().unwrap()).ended(0);
    assert!(!people.out.contains("NOT LOOKED AT"), "root may: {}", people.out);
    // Of what was named nothing is left out, and no catalog is made of a part.
    let _ = as_other(&shop, &["verify", "shop"]).ended(0);
    let _ = as_other(&shop, &["verify", "priv"]).failed(8, "store_denied");
    let _ = as_other(&shop, &["catalog", "rebuild"]).failed(8, "store_denied");

    // A part of a source that is known: what is not seen is not gone.
    close(&shop.site.path(&format!("repository/s/shop/b/{id}/d0")));
    let found = as_other(&shop, &["verify"]).ended(3).json();
    assert_eq!(found["closed"].as_array().unwrap().len(), 2, "{found}");
    assert_eq!(
        (&found["backups"], &found["lost"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
    let found = as_other(&shop, &["catalog", "check"]).ended(3).json();
    assert_eq!(
        (&found["equal"], &found["lost"]),
        (&true.into(), &serde_json::json!([])),
        "{found}"
    );
}
