//! A host whose credentials may not delete, and what `prune` has of its own.

use std::fs;

use drctl_store::SigningKey;
use drctl_tests::servers::minio::Minio;
use drctl_tests::servers::sts::{Temporary, WRITES, assume};

use crate::common::Shop;
use crate::identity::remove_identity;
use crate::prune::{backups, going, listed, may_not_remove, newest_first, plan, remove};
use crate::s3;

/// Keeps a secret in a file of its own, and gives the reference to it.
fn secret(shop: &Shop, name: &str, text: &str) -> String {
    let path = shop.site.path(name);
    fs::write(&path, text).unwrap();
    format!("{{ file = \"{}\" }}", path.display())
}

/// The three lines of temporary credentials.
fn lines(shop: &Shop, name: &str, of: &Temporary) -> String {
    let secret = |key: &str, text: &str| secret(shop, &format!("{name}.{key}"), text);
    format!(
        "access_key_id = {}\nsecret_access_key = {}\nsession_token = {}\n",
        secret("id", &of.access_key),
        secret("secret", &of.secret_key),
        secret("token", &of.token)
    )
}

/// A shop with a bucket in which its own credentials may not delete.
fn shop(minio: &Minio) -> Shop {
    let shop = s3::shop(minio);
    let writer = assume(minio, &WRITES);
    let config = fs::read_to_string(shop.site.config()).unwrap();
    let own =
        |line: &&str| line.starts_with("access_key_id") || line.starts_with("secret_access_key");
    let old: Vec<&str> = config.lines().filter(own).collect();
    assert_eq!(old.len(), 2, "{config}");
    shop.site.replace(old[1], "");
    shop.site.replace(old[0], &lines(&shop, "writer", &writer));
    shop.site.retention("last = 2");
    shop
}

fn objects(minio: &Minio) -> Vec<String> {
    let mut all = s3::versions(minio);
    all.retain(|key| !key.contains("/probe/"));
    all
}

/// Asserts that nothing can be removed, and that nothing is left half done.
fn removes_nothing(minio: &Minio, shop: &Shop, ids: &[String]) {
    let before = objects(minio);
    let planned = plan(shop);
    assert_eq!(going(&planned).len(), 2, "{planned}");
    let yes = format!("--yes={}", planned["digest"].as_str().unwrap());
    let said = shop.site.drctl(&["--json", "prune", "shop", &yes, "--backups", "2"]).ended(8).out;
    assert!(said.contains("nothing was removed"), "{said}");
    assert!(said.contains("[repository.prune]"), "{said}");
    assert_eq!(objects(minio), before);
    assert_eq!(listed(shop), newest_first(ids));
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
}

#[test]
fn a_host_that_may_not_delete_backs_up_and_removes_nothing() {
    for versions in [false, true] {
        let minio = Minio::start();
        minio.make_bucket("shop");
        if versions {
            minio.set_versioning("shop");
        }
        let shop = shop(&minio);
        let ids = backups(&shop, 4);
        removes_nothing(&minio, &shop, &ids);
        // With credentials for that alone it does, and the host's own stay as they are.
        let removes = [&WRITES[..], &["s3:DeleteObject", "s3:DeleteObjectVersion"]].concat();
        let pruner = assume(&minio, &removes);
        let more = format!("\n[repository.prune]\n{}", lines(&shop, "pruner", &pruner));
        shop.site.append(&more);
        let done = remove(&shop);
        assert_eq!(done["done"]["gone"].as_array().unwrap().len(), 2, "{done}");
        assert_eq!(listed(&shop), newest_first(&ids[2..]));
        let _ = shop.site.drctl(&["status", "--check"]).ended(0);
        let _ = shop.site.backup();
        // Whoever may remove opens nothing by that.
        remove_identity(&shop.site);
        let files = shop.site.path(&format!("files-{versions}")).display().to_string();
        let restore = ["restore", "shop", "--latest", "--to-files", &files];
        let _ = shop.site.fails(9, "no_identity", &restore);
        // Those that name nobody remove nothing either.
        fs::write(shop.site.path("pruner.secret"), "wrong").unwrap();
        let yes = ["--json", "prune", "shop", "--yes=0123456789abcdef"];
        let _ = shop.site.drctl(&yes).ended(8);
        let _ = shop.site.backup();
    }
}

#[test]
fn removals_are_signed_with_a_key_of_their_own() {
    let shop = crate::prune::shop(2);
    let ids = backups(&shop, 4);
    let own = SigningKey::generate();
    let key = secret(&shop, "pruner.key", &own.to_secret_text());
    let verifying = own.verifying_key();
    may_not_remove(&shop);
    shop.site.append(&format!("\n[repository.prune]\nsigning_key = {key}\n"));
    // A key that nobody trusts signs nothing.
    let yes = format!("--yes={}", plan(&shop)["digest"].as_str().unwrap());
    let _ = shop.site.drctl(&["--json", "prune", "shop", &yes, "--backups", "2"]).ended(9);
    assert_eq!(listed(&shop), newest_first(&ids));
    let entry = format!(
        "verifying_keys = [\n    {{ key = \"{verifying}\", sources = [\"shop\"], roles = [\"prune\"] }},"
    );
    shop.site.replace("verifying_keys = [", &entry);
    let done = remove(&shop);
    assert_eq!(done["done"]["gone"].as_array().unwrap().len(), 2, "{done}");
    // Backups are signed as before, and the removals are believed.
    let _ = shop.site.backup();
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
}
