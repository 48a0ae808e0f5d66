//! Every exit code, from a real cause.

use std::fs;
use std::path::PathBuf;

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

use crate::{lone_site, server_with};

/// The largest object of a backup that holds data.
fn a_segment(site: &Site) -> PathBuf {
    let files = site.files("repository").into_iter().map(|file| site.path("repository").join(file));
    let segments = files.filter(|file| file.extension().is_some_and(|ending| ending == "age"));
    segments.max_by_key(|file| fs::metadata(file).expect("a file").len()).expect("a segment")
}

#[test]
fn usage_is_2_and_configuration_is_7() {
    let site = lone_site();
    for arguments in [
        &["bakcup"][..],
        &["backup"],
        &["backup", "sohp"],
        &["restore", "shop"],
        &["restore", "shop", "--latest", "--to-files", "f", "--to-port", "1"],
        &["restore", "shop", "--latest", "--as", "x"],
        &["restore", "Not-A-Name", "--latest", "--to-files", "f"],
        &["doctor", "sohp"],
        &["list", "sohp"],
        &[],
    ] {
        let _ = site.drctl(arguments).ended(2);
    }
    site.replace("version = 1", "version = 2");
    for arguments in [&["backup", "shop"][..], &["list"], &["doctor"], &["keys", "list"]] {
        let _ = site.drctl(arguments).ended(7);
    }
}

#[test]
fn what_is_not_there_is_5_and_what_is_in_the_way_is_12() {
    let server = server_with(100);
    let site = Site::with(&server);
    let id = site.backup();
    let to_files =
        |which: &[&str], to| site.drctl(&[&["restore"], which, &["--to-files", to]].concat());
    let _ = site.drctl(&["show", "nope"]).ended(5);
    let _ = site.drctl(&["verify", "nope"]).ended(5);
    let _ = to_files(&["elsewhere", "--latest"], "f").ended(5);
    let _ = to_files(&["shop", "--backup", "1999"], "f").ended(5);
    let _ = to_files(&["shop", "--latest", "--database", "nope"], "f").ended(5);
    assert!(!site.path("f").exists());
    let _ = to_files(&["shop", "--backup", &id[..9]], "f").ended(0);
    let again = to_files(&["shop", "--latest"], "f").ended(12);
    assert!(again.err.contains("f is not empty"), "{}", again.err);
    let (host, port) = (server.socket_dir().display().to_string(), server.port().to_string());
    let same = ["restore", "shop", "--latest", "--to-host", &host, "--to-port", &port];
    let same = site.drctl(&same).ended(12);
    assert!(same.err.contains("database shop: table public.orders"), "{}", same.err);
    assert!(same.err.contains("nothing was changed"), "{}", same.err);
    let beside = ["restore", "shop", "--latest", "--database", "shop", "--as", "postgres2"];
    let _ = site.drctl(&beside).ended(0);
    let _ = site.drctl(&beside).ended(12);
}

#[test]
fn damage_is_4() {
    let server = server_with(20_000);
    let site = Site::with(&server);
    let id = site.backup();
    let segment = a_segment(&site);
    let good = fs::read(&segment).expect("a segment");
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    fs::write(&segment, &bad).expect("damage it");
    let _ = site.drctl(&["verify"]).ended(0);
    let told = site.drctl(&["verify", "--data"]).ended(4);
    assert!(told.out.contains("BAD"), "{}", told.out);
    // What was found bad is passed over; by its name it is tried all the same.
    let _ = site.drctl(&["restore", "shop", "--latest", "--to-files", "f"]).ended(5);
    let restore = ["restore", "shop", "--backup", &id, "--to-files", "f"];
    let told = site.drctl(&restore).ended(4);
    assert!(told.err.contains("is not what the manifest says"), "{}", told.err);
    assert!(!site.path("f/shop.dump").exists(), "a part is never named as the whole");
    fs::write(&segment, &good[1..]).expect("cut it");
    let _ = site.drctl(&["verify"]).ended(4);
    fs::remove_file(&segment).expect("remove it");
    let _ = site.drctl(&["verify"]).ended(4);
    fs::write(&segment, &good).expect("mend it");
    let _ = site.drctl(&["verify", "--data"]).ended(0);
}

#[test]
fn a_bucket_that_is_away_is_8() {
    let server = server_with(100);
    let site = Site::with(&server);
    let id = site.backup();
    fs::rename(site.path("repository"), site.path("away")).expect("move it away");
    for arguments in [
        &["backup", "shop"][..],
        &["show", &id],
        &["verify"],
        &["catalog", "check"],
        &["catalog", "rebuild"],
        &["restore", "shop", "--latest", "--to-files", "f"],
        &["keys", "test"],
    ] {
        let ran = site.drctl(arguments).ended(8);
        assert!(ran.err.contains("hint: "), "{arguments:?}: {}", ran.err);
    }
    let _ = site.drctl(&["doctor"]).ended(1);
    let _ = site.drctl(&["status", "--check"]).ended(3);
    // It tells what was there: whether it still is nobody knows.
    let listed = site.drctl(&["list"]).ended(3);
    assert!(listed.out.contains(&id) && listed.out.contains("is not known"), "{}", listed.out);
    fs::rename(site.path("away"), site.path("repository")).expect("bring it back");
    let _ = site.backup();
}

#[test]
fn a_key_that_does_not_fit_is_9() {
    let server = server_with(100);
    let site = Site::with(&server);
    let _ = site.backup();
    let _ = site.drctl(&["keys", "new-identity", "other.txt"]).ended(0);
    let other = ["--identity", "other.txt"];
    let _ = site.drctl(&[&["keys", "test"][..], &other].concat()).ended(9);
    let restore = ["restore", "shop", "--latest", "--to-files", "f"];
    let told = site.drctl(&[&restore[..], &other].concat()).ended(9);
    assert!(told.err.contains("hint: use the identity of one of the recipients"), "{}", told.err);
    let _ = site.drctl(&[&restore[..], &["--identity", "nowhere.txt"]].concat()).ended(9);
    fs::remove_file(site.path("etc/keys/signing.key")).expect("lose the signing key");
    let told = site.drctl(&["backup", "shop"]).ended(9);
    assert!(told.err.contains("keys.signing_key cannot be read from"), "{}", told.err);
    let without = fs::read_to_string(site.config()).expect("the configuration");
    let kept = without.lines().filter(|line| !line.starts_with("identity = "));
    fs::write(site.config(), kept.collect::<Vec<_>>().join("\n")).expect("write it");
    let told = site.drctl(&restore).ended(9);
    assert!(told.err.contains("no identity is at hand"), "{}", told.err);
}

#[test]
fn a_server_that_refuses_is_10() {
    let site = lone_site();
    let told = site.drctl(&["backup", "shop"]).ended(10);
    assert!(told.err.contains("cannot reach the PostgreSQL server"), "{}", told.err);
    let server = Postgres::builder().password("right").start();
    let site = Site::empty();
    fs::write(site.path("password"), "wrong\n").expect("write a password");
    let file = site.path("password").display().to_string();
    let url = format!("file://{}", site.path("repository").display());
    site.init(&server, &url, &["--password-file", &file]);
    let told = site.drctl(&["backup", "shop"]).ended(10);
    assert!(told.err.contains("hint: check the password of the role"), "{}", told.err);
    fs::write(site.path("password"), "right\n").expect("write a password");
    // Nothing but empty databases: complete, and suspect.
    let told = site.drctl(&["backup", "shop"]).ended(3);
    assert!(told.out.contains("SUSPECT"), "{}", told.out);
}
