//! Directories that others can change, and links in place of files of ours.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::geteuid;

use drctl_tests::site::Site;

use crate::{lone_site, server_with};

#[test]
fn a_state_directory_of_others_is_refused() {
    let site = lone_site();
    let state = site.path("state");
    fs::create_dir_all(&state).expect("make it");
    for mode in [0o777, 0o1777, 0o770] {
        fs::set_permissions(&state, Permissions::from_mode(mode)).expect("open it");
        let said = site.fails(7, "not_private", &["backup", "shop"]);
        assert!(said.contains(&format!("its mode is {:03o}", mode & 0o777)), "{said}");
        assert!(said.contains("chmod it to 0700"), "{said}");
    }
    assert_eq!(fs::read_dir(&state).expect("a directory").count(), 0);
    fs::set_permissions(&state, Permissions::from_mode(0o700)).expect("close it");
    assert!(geteuid().is_root(), "run this as root: it gives a directory away");
    chown(&state, Some(65_534), Some(65_534)).expect("give it away");
    let said = site.fails(2, "usage", &["backup", "shop"]);
    assert!(said.contains("sudo -u nobody drctl"), "{said}");
    assert_eq!(fs::read_dir(&state).expect("a directory").count(), 0);
}

#[test]
fn a_runtime_or_spool_directory_of_others_is_refused() {
    let server = server_with(10);
    let site = Site::with(&server);
    let _ = site.backup();
    let spool = site.path("spool");
    site.replace("[paths]\n", &format!("[paths]\nspool_dir = \"{}\"\n", spool.display()));
    let restore =
        ["restore", "shop", "--latest", "--database", "shop", "--as", "new", "--jobs", "2"];
    let uses: [(&str, &[&str]); 3] =
        [("run", &["backup", "shop"]), ("run", &restore), ("spool", &restore)];
    for (name, arguments) in uses {
        let at = site.path(name);
        fs::create_dir_all(&at).expect("make it");
        for mode in [0o777, 0o1777, 0o770] {
            fs::set_permissions(&at, Permissions::from_mode(mode)).expect("open it");
            let said = site.fails(7, "not_private", arguments);
            assert!(said.contains(&at.display().to_string()), "{said}");
        }
        fs::set_permissions(&at, Permissions::from_mode(0o700)).expect("close it");
        chown(&at, Some(65_534), Some(65_534)).expect("give it away");
        let said = site.fails(2, "usage", arguments);
        assert!(said.contains(&at.display().to_string()), "{said}");
        assert_eq!(fs::read_dir(&at).expect("a directory").count(), 0);
        chown(&at, Some(0), Some(0)).expect("take it back");
    }
    let _ = site.json(0, &restore);
}

#[test]
fn a_lock_that_is_a_link_is_neither_taken_nor_emptied() {
    let site = lone_site();
    fs::create_dir_all(site.path("state")).expect("make it");
    fs::set_permissions(site.path("state"), Permissions::from_mode(0o700)).expect("close it");
    fs::write(site.path("precious"), "all of it").expect("write");
    symlink(site.path("precious"), site.path("state/shop.lock")).expect("link");
    let ran = site.drctl(&["backup", "shop"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("take the lock"), "{}", ran.err);
    assert_eq!(fs::read_to_string(site.path("precious")).expect("it"), "all of it");
}

#[test]
fn a_restore_goes_into_nothing_of_drctl_s_own_and_into_no_cluster() {
    let site = lone_site();
    let cluster = site.path("live");
    fs::create_dir_all(cluster.join("base")).expect("make it");
    fs::write(cluster.join("PG_VERSION"), "15").expect("write");
    symlink(site.path("repository"), site.path("link")).expect("link");
    for (place, word) in [
        ("repository/new", "the repository"),
        ("link/new/deeper", "the repository"),
        ("state/new", "state directory"),
        ("run/new", "runtime directory"),
        ("live/base/new", "the data directory of a cluster"),
    ] {
        let to = site.path(place).display().to_string();
        for flag in ["--to-files", "--to-directory"] {
            let said = site.fails(12, "target_unfit", &["restore", "shop", "--latest", flag, &to]);
            assert!(said.contains(word), "{place}: {said}");
        }
        let to_end = ["restore", "shop", "--to-end", "--to-directory", &to];
        let said = site.fails(12, "target_unfit", &to_end);
        assert!(said.contains(word), "{place}: {said}");
        assert!(!site.path(place).exists(), "{place}");
    }
}

/// What belongs to root below a directory that was given to another account.
fn of_root(at: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(at).expect("a directory") {
        let path = entry.expect("an entry").path();
        let meta = path.symlink_metadata().expect("it");
        if meta.uid() == 0 {
            found.push(path.clone());
        }
        if meta.is_dir() {
            found.extend(of_root(&path));
        }
    }
    found
}

#[test]
fn root_reads_what_is_another_accounts_and_leaves_nothing_there() {
    let site = lone_site();
    assert!(geteuid().is_root(), "run this as root: it gives directories away");
    let _ = site.drctl(&["catalog", "rebuild"]).ended(0);
    let places = ["state", "run", "repository"].map(|name| site.path(name));
    for locked in [true, false] {
        for place in &places {
            fs::create_dir_all(place).expect("make it");
            let given = Command::new("chown").args(["-R", "65534:65534"]).arg(place).status();
            assert!(given.expect("start chown").success());
        }
        if !locked {
            fs::remove_file(site.path("state/catalog.db.lock")).expect("remove the lock");
        }
        for (arguments, code) in [
            (&["list"][..], 0),
            (&["status"], 0),
            (&["timeline", "shop"], 5),
            (&["catalog", "check"], 0),
            (&["config", "check"], 0),
            (&["verify"], 5),
            // These would write.
            (&["doctor"], 1),
            (&["backup", "shop"], 2),
            (&["catalog", "rebuild"], 2),
        ] {
            let ran = site.drctl(&[&["--json"], arguments].concat());
            let left: Vec<PathBuf> = places.iter().flat_map(|place| of_root(place)).collect();
            assert!(left.is_empty(), "{arguments:?} left {left:?}");
            assert_eq!(ran.code, Some(code), "{arguments:?}: {}{}", ran.out, ran.err);
        }
    }
    // A repository may belong to another account than the state directory.
    let given = Command::new("chown").args(["-R", "0:0"]).args(&places[..2]).status();
    assert!(given.expect("start chown").success());
    for (arguments, code) in [(&["doctor"][..], 1), (&["backup", "shop"], 2)] {
        let ran = site.drctl(&[&["--json"], arguments].concat());
        assert_eq!(of_root(&places[2]), Vec::<PathBuf>::new(), "{arguments:?}");
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}{}", ran.out, ran.err);
        assert!(ran.out.contains("sudo -u nobody"), "{}", ran.out);
    }
}

#[test]
fn a_restore_goes_nowhere_that_another_account_may_change() {
    let site = lone_site();
    let made = |name: &str, mode: u32| {
        fs::create_dir_all(site.path(name)).expect("make it");
        fs::set_permissions(site.path(name), Permissions::from_mode(mode)).expect("open it");
    };
    assert!(geteuid().is_root(), "run this as root: it gives a directory away");
    for (name, mode) in
        [("theirs", 0o700), ("open", 0o777), ("group", 0o770), ("sticky", 0o1777), ("wide", 0o777)]
    {
        made(name, mode);
    }
    chown(site.path("theirs"), Some(65_534), Some(65_534)).expect("give it away");
    made("ours", 0o700);
    symlink(site.path("ours"), site.path("sticky/link")).expect("link");
    std::os::unix::fs::lchown(site.path("sticky/link"), Some(65_534), None).expect("give it away");
    let restore = |name: &str, flags: &[&str]| {
        let to = site.path(name).display().to_string();
        site.drctl(&[&["--json", "restore", "shop"], flags, &[&to]].concat())
    };
    for (name, word) in [
        ("theirs", "belongs to nobody"),
        ("theirs/new", "belongs to nobody"),
        ("sticky/link", "belongs to nobody"),
        ("sticky/link/new", "belongs to nobody"),
        ("open", "(mode 777)"),
        ("group", "(mode 770)"),
        ("sticky", "(mode 1777)"),
        ("wide/new/deeper", "(mode 777)"),
    ] {
        for flags in [["--latest", "--to-files"], ["--to-end", "--to-directory"]] {
            let said = restore(name, &flags).failed(12, "target_unfit");
            assert!(said.contains(word) && said.contains("Nothing was done"), "{name}: {said}");
        }
    }
    assert!(!site.path("wide/new").exists() && !site.path("theirs/new").exists());
    // In a directory like /tmp a name of ours is ours.
    for name in ["sticky/new", "ours", "ours/new"] {
        let _ = restore(name, &["--latest", "--to-files"]).failed(5, "no_backup");
    }
}
