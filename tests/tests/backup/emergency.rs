//! The emergency script: the distribution's own tools bring back what drctl would.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use drctl_tests::servers::minio::Minio;
use drctl_tests::site::Ran;

use crate::common::{SMALL, Shop, segments};

/// Only what Debian's packages have: coreutils, jq, age, zstd, openssl, xxhash. Not drctl.
const PATH: &str = "/usr/bin:/bin";

/// Runs a printed script into the directory `into` of the site.
fn run(shop: &Shop, script: &str, into: &str, path: &str) -> Ran {
    let file = shop.site.path("restore.sh");
    fs::write(&file, script).unwrap();
    let mut bash = Command::new("bash");
    bash.arg(&file).arg(shop.site.identity()).arg(shop.site.path(into));
    bash.env_clear().env("PATH", path).env("HOME", shop.site.path("."));
    Ran::of(&bash.output().expect("start bash"))
}

fn print(shop: &Shop, id: &str) -> String {
    shop.site.drctl(&["show", id, "--emergency"]).ended(0).out
}

/// Asserts that the script restored the very bytes that drctl restores.
#[track_caller]
fn equal(shop: &Shop, id: &str, into: &str) {
    let ours = format!("{into}-ours");
    let target = shop.site.path(&ours).display().to_string();
    let _ = shop.site.json(0, &["restore", "shop", "--backup", id, "--to-files", &target]);
    let read = |folder: &str, file: &str| fs::read(shop.site.path(folder).join(file)).unwrap();
    let dump = format!("{}.dump", shop.db);
    assert!(read(into, "d0.dump") == read(&ours, &dump), "other bytes");
    assert!(read(into, "globals.sql") == read(&ours, "globals.sql"), "other globals");
    assert_eq!(shop.site.files(into).len(), 3);
}

#[test]
fn the_emergency_script_restores_the_same_bytes_from_a_directory() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let ran = run(&shop, &print(&shop, &id), "script", PATH).ended(0);
    assert!(ran.err.contains("signature good"), "{}", ran.err);
    assert!(ran.err.contains(&format!("database {}", shop.db)), "{}", ran.err);
    equal(&shop, &id, "script");
    // What it made is what pg_restore takes.
    let new = crate::common::name();
    shop.server.psql("postgres", &format!("create database {new}"));
    let mut restore = shop.server.client("pg_restore");
    let restore = restore.args(["--exit-on-error", "-d", &new]);
    let done = restore.arg(shop.site.path("script/d0.dump")).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let rows = crate::common::orders(&shop.server, &shop.db);
    assert_eq!(crate::common::orders(&shop.server, &new), rows);
}

#[test]
fn what_the_emergency_script_says_holds_no_name_that_a_terminal_or_shell_obeys() {
    const NAME: &str = "x\ntouch pwned\u{202e}\u{61c}\u{2028}";
    let server = std::sync::Arc::new(drctl_tests::servers::postgres::Postgres::start());
    server.psql("postgres", &format!("create database \"{NAME}\""));
    server.psql(NAME, "create table t as select 1 as x");
    let site = drctl_tests::site::Site::empty();
    // The repository's own name is in the script as well.
    let folder = site.path("repo'\u{202e}sitory");
    site.init(&server, &format!("file://{}", folder.display()), &[]);
    let shop = Shop { site, server, db: NAME.to_owned() };
    let id = shop.site.backup();
    let script = print(&shop, &id);
    let obeyed = |c: char| c.is_control() || matches!(c, '\u{61c}' | '\u{2028}'..='\u{202e}');
    let clean = |text: &str| !text.contains(|c| c != '\n' && obeyed(c));
    assert!(clean(&script), "{script:?}");
    let ran = run(&shop, &script, "script", PATH).ended(0);
    assert!(clean(&ran.err), "{:?}", ran.err);
    assert!(ran.err.contains("database x?touch pwned???"), "{}", ran.err);
    assert!(!ran.err.lines().any(|line| line.starts_with("touch")), "{}", ran.err);
}

#[test]
fn the_emergency_script_writes_where_nobody_else_can_change_it() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let script = print(&shop, &id);
    let home = tempfile::Builder::new().prefix("drctl-home-").tempdir().unwrap();
    let place = |name: &str, mode: u32| {
        let path = home.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    };
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    let root = rustix::process::geteuid().is_root();
    let theirs = place("theirs", 0o755);
    if root {
        // A second account.
        std::os::unix::fs::chown(&theirs, Some(65534), Some(65534)).unwrap();
    }
    for (bad, is_bad) in
        [(place("open", 0o777), true), (place("group", 0o770), true), (theirs, root)]
    {
        if is_bad {
            for into in [bad.join("script"), bad.join("below/../script")] {
                let ran = run(&shop, &script, &into.display().to_string(), PATH).ended(1);
                assert!(ran.err.contains("others may change"), "{}", ran.err);
                assert!(!into.exists());
            }
        }
    }
    // What is there already, or leads elsewhere, is not written into.
    let sticky = place("sticky", 0o1777);
    std::os::unix::fs::symlink(home.path(), sticky.join("link")).unwrap();
    let ran = run(&shop, &script, &sticky.join("link").display().to_string(), PATH).ended(1);
    assert!(ran.err.contains("does not exist yet"), "{}", ran.err);
    let into = sticky.join("script");
    let _ = run(&shop, &script, &into.display().to_string(), PATH).ended(0);
    assert_eq!(fs::metadata(&into).unwrap().permissions().mode() & 0o777, 0o700);
    for file in fs::read_dir(&into).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o077, 0);
    }
    if root {
        let mut stranger = Command::new("setpriv");
        stranger.args(["--reuid=65534", "--regid=65534", "--clear-groups", "ls"]).arg(&into);
        assert!(!stranger.output().unwrap().status.success());
    }
}

/// Damages the repository and asserts that the script says so.
#[track_caller]
fn fails(damage: impl Fn(&Path, &[PathBuf]), word: &str) {
    let shop = Shop::open();
    let id = shop.site.backup();
    let script = print(&shop, &id);
    let folder = shop.site.path("repository").join(format!("s/shop/b/{id}"));
    damage(&folder, &segments(&shop.site, "d0"));
    let ran = run(&shop, &script, "script", PATH).ended(1);
    assert!(ran.err.contains("FAILED: ") && ran.err.contains(word), "{}", ran.err);
    assert!(ran.err.contains("Do not use what is in"), "{}", ran.err);
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn the_emergency_script_refuses_what_was_altered_or_is_missing() {
    fails(|_, segments| flip(&segments[3], 500), "d0/000003.zst.age was altered");
    fails(|_, segments| fs::remove_file(segments.last().unwrap()).unwrap(), "cannot be fetched");
    fails(|_, segments| fs::write(&segments[1], b"").unwrap(), "has another length");
    fails(|folder, _| flip(&folder.join("manifest.json"), 900), "the manifest was altered");
    fails(|folder, _| flip(&folder.join("d0/p000000.json"), 30), "p000000.json was altered");
    fails(|_, segments| fs::rename(&segments[1], &segments[0]).unwrap(), "d0/000000.zst.age");
}

#[test]
fn the_emergency_script_refuses_a_wrong_identity() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let script = print(&shop, &id);
    let stranger = Shop::open();
    fs::copy(stranger.site.identity(), shop.site.identity()).unwrap();
    let ran = run(&shop, &script, "script", PATH).ended(1);
    assert!(ran.err.contains("the identity does not open this backup"), "{}", ran.err);
}

/// `aws --endpoint-url URL s3 cp --only-show-errors s3://BUCKET/KEY FILE`, by Debian's rclone:
/// Debian's own `awscli` is not installed for these tests.
fn aws(folder: &Path, minio: &Minio) {
    let script = format!(
        "#!/bin/bash\nset -eu\n\
         [ \"$1 $3 $4 $5\" = '--endpoint-url s3 cp --only-show-errors' ]\n\
         export RCLONE_CONFIG_M_TYPE=s3 RCLONE_CONFIG_M_PROVIDER=Minio\n\
         export RCLONE_CONFIG_M_ENDPOINT=\"$2\" RCLONE_CONFIG_M_REGION=us-east-1\n\
         export RCLONE_CONFIG_M_ACCESS_KEY_ID={} RCLONE_CONFIG_M_SECRET_ACCESS_KEY={}\n\
         exec rclone --config /dev/null --retries 1 copyto \"M:${{6#s3://}}\" \"$7\"\n",
        minio.access_key(),
        minio.secret_key()
    );
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("aws"), script).unwrap();
    fs::set_permissions(folder.join("aws"), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_emergency_script_restores_the_same_bytes_from_s3() {
    let minio = Minio::start();
    minio.make_bucket("emergency");
    let (shop, _) = Shop::bare();
    crate::s3::init(&shop, &minio, "s3://emergency/some/where");
    // Bigger segments: every one is a process of rclone.
    shop.site.append(&SMALL.replace("64KiB", "200KiB").replace("= 8", "= 3"));
    let id = shop.site.backup();
    aws(&shop.site.path("bin"), &minio);
    let path = format!("{}:{PATH}", shop.site.path("bin").display());
    let ran = run(&shop, &print(&shop, &id), "script", &path).ended(0);
    assert!(ran.err.contains("signature good"), "{}", ran.err);
    equal(&shop, &id, "script");
}
