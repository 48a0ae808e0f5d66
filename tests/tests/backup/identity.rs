//! Keys: a database host needs public ones only.

use std::fs;

use drctl_tests::site::Site;

use crate::common::Shop;

/// Takes the main identity off the host: the file, and the line that names it.
pub(crate) fn remove_identity(site: &Site) {
    fs::remove_file(site.identity()).unwrap();
    let text = fs::read_to_string(site.config()).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("identity = ")).collect();
    assert_eq!(kept.len() + 1, text.lines().count());
    fs::write(site.config(), kept.join("\n") + "\n").unwrap();
}

/// The recovery identity, cut from the printed kit.
fn recovery(site: &Site) -> String {
    let kit = fs::read_to_string(site.path("kit.txt")).unwrap();
    let line = kit.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).unwrap();
    let path = site.path("recovery.txt");
    fs::write(&path, format!("{line}\n")).unwrap();
    path.display().to_string()
}

#[test]
fn a_host_without_any_identity_backs_up_and_cannot_read_what_it_wrote() {
    let shop = Shop::open();
    remove_identity(&shop.site);
    let id = shop.site.backup();
    let new = crate::common::name();
    let said = shop.site.fails(9, "no_identity", &shop.to_beside(&id, &new));
    assert!(said.contains(&id) && said.contains("--identity"), "{said}");
    assert!(!shop.has(&new));
    // Without a key it can still say that every stored byte is the one that was written.
    let verified = shop.site.json(0, &["verify", "--data"]);
    assert_eq!(verified["backups"][0]["good"], true);
    assert_eq!(verified["backups"][0]["opened"], false);
    let shown = shop.site.json(0, &["show", &id]);
    assert!(shown.get("facts").is_none());
}

#[test]
fn the_offline_recovery_identity_restores_everything() {
    let shop = Shop::open();
    remove_identity(&shop.site);
    let id = shop.site.backup();
    let recovery = recovery(&shop.site);
    let new = shop.beside(&["--backup", &id], &["--identity", &recovery]);
    let rows = crate::common::orders(&shop.server, &shop.db);
    assert_eq!(crate::common::orders(&shop.server, &new), rows);
    let verified = shop.site.json(0, &["verify", "--data", "--identity", &recovery]);
    assert_eq!(verified["backups"][0]["opened"], true);
}

#[test]
fn a_wrong_key_opens_nothing_and_is_named_as_what_it_is() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let stranger = Shop::open();
    let key = stranger.site.identity().display().to_string();
    let new = crate::common::name();
    let arguments = [&shop.to_beside(&id, &new)[..], &["--identity", &key]].concat();
    let said = shop.site.fails(9, "wrong_key", &arguments);
    assert!(said.contains("none of the identities") && said.contains("drctl show"), "{said}");
    assert!(!shop.has(&new));
    // What is not encrypted is shown all the same.
    shop.site.fails(9, "wrong_key", &["show", &id, "--identity", &key]);
    for wrong in [&key, "/no/such/key"] {
        let ran = shop.site.drctl(&["show", &id, "--identity", wrong]).ended(9);
        assert!(ran.out.contains(&id) && ran.out.contains("opens with"), "{}", ran.out);
        assert!(
            ran.err.contains("could not be opened") && ran.err.contains("error: "),
            "{}",
            ran.err
        );
    }

    let garbage = shop.site.path("garbage.txt");
    fs::write(&garbage, "not a key\n").unwrap();
    let garbage = garbage.display().to_string();
    let arguments = [&shop.to_beside(&id, &new)[..], &["--identity", &garbage]].concat();
    let said = shop.site.fails(9, "bad_key", &arguments);
    assert!(!said.contains("not a key"), "it shows the secret: {said}");
    let arguments = [&shop.to_beside(&id, &new)[..], &["--identity", "/nowhere"]].concat();
    let said = shop.site.fails(9, "secret_unavailable", &arguments);
    assert!(said.contains("/nowhere"), "{said}");
    shop.still_restores(&id);
}

#[test]
fn a_host_whose_signature_nobody_would_trust_does_not_back_up() {
    let shop = Shop::open();
    let stranger = Shop::open();
    fs::copy(stranger.site.path("etc/keys/signing.key"), shop.site.path("etc/keys/signing.key"))
        .unwrap();
    let said = shop.site.fails(9, "signing_key_unpinned", &["backup", "shop"]);
    assert!(said.contains("verifying_keys"), "{said}");
    assert!(shop.site.manifests().is_empty());
}

#[test]
fn a_place_that_cannot_be_made_and_a_name_that_is_wrong_are_told_in_plain_words() {
    let shop = Shop::open();
    let _ = shop.site.backup();
    let restore = |source: &str, to: &str, code: i32, error: &str| {
        shop.site.fails(code, error, &["restore", source, "--latest", "--to-files", to])
    };
    let said = restore("shop", "/etc/passwd/files", 12, "target_unfit");
    assert!(said.contains("cannot be looked into") && said.contains("Nothing was done"), "{said}");
    let said = restore("shp", "/etc/passwd/files", 5, "no_backup");
    assert!(said.contains("no backup of `shp`; there are some of: shop"), "{said}");
}
