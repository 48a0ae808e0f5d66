//! A restore on another host, which nothing but the bucket tells of.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::common::Shop;
use crate::prune::{backups, blocked, going, newest_first, plan, remove, shop};

/// Begins to restore a backup on another host, which has the bucket and nothing else in common with this one.
fn reading_elsewhere(shop: &Shop, backup: &str) -> (Child, ChildStdout) {
    let here = fs::read_to_string(shop.site.config()).unwrap();
    let (state, other) = (shop.site.path("state"), shop.site.path("state2"));
    let there = here.replace(&state.display().to_string(), &other.display().to_string());
    assert_ne!(here, there);
    let config = shop.site.path("etc/other.toml");
    fs::write(&config, there).unwrap();
    let words = ["restore", "shop", "--backup", backup, "--database", &shop.db, "--to-stdout"];
    let mut restore = shop.site.command(&words);
    restore.env("DRCTL_CONFIG", config).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = restore.spawn().unwrap();
    let (mut output, mut dump) = (child.stdout.take().unwrap(), [0_u8; 5]);
    output.read_exact(&mut dump).unwrap();
    assert_eq!(&dump, b"PGDMP");
    (child, output)
}

#[test]
fn nothing_goes_while_a_restore_on_another_host_reads_it() {
    let shop = shop(2);
    let ids = backups(&shop, 3);
    let (mut child, mut output) = reading_elsewhere(&shop, &ids[0]);
    blocked(&shop, "reads it, as a lease in the bucket says");
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    assert!(child.wait().unwrap().success());
    let leases = || {
        let mut files = shop.site.files("repository");
        files.retain(|path| path.starts_with("s/shop/r"));
        files
    };
    assert_eq!(leases(), [""; 0].map(PathBuf::from), "the restore took its lease along");
    assert_eq!(going(&plan(&shop)), newest_first(&ids[..1]));
    // One that dies leaves its own: it counts for two hours, by the store's clock.
    let (mut child, _output) = reading_elsewhere(&shop, &ids[0]);
    child.kill().unwrap();
    child.wait().unwrap();
    blocked(&shop, "reads it, as a lease in the bucket says");
    let left = leases();
    assert_eq!(left.len(), 1);
    let ago = |minutes: u64| {
        let at = SystemTime::now() - Duration::from_secs(minutes * 60);
        let file = fs::File::options()
            .write(true)
            .open(shop.site.path("repository").join(&left[0]))
            .unwrap();
        file.set_modified(at).unwrap();
    };
    ago(119);
    blocked(&shop, "reads it, as a lease in the bucket says");
    ago(121);
    let done = remove(&shop);
    assert_eq!(done["done"]["gone"], json!(ids[..1]), "{done}");
    assert_eq!(leases(), [""; 0].map(PathBuf::from), "it was swept");
}
