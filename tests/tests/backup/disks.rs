//! Full and read-only file systems, each in a mount namespace of its own.

use std::process::Command;

use drctl_tests::site::{Ran, Site, drctl};
use rustix::process::geteuid;

use crate::common::Shop;

/// Runs a shell script in a mount namespace that goes with it. In the script `mount` works, and
/// `step NAME …` runs `drctl --json …` for [`step`] to read.
fn script(site: &Site, text: &str) {
    let mut unshare = Command::new("unshare");
    if !geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    let prelude = "set -eu\nstep() { name=$1; shift; code=0\n\
        \"$DRCTL\" --json \"$@\" > \"$SITE/$name.out\" 2> \"$SITE/$name.err\" || code=$?\n\
        echo $code > \"$SITE/$name.code\"; }\n";
    unshare.args(["--mount", "bash", "-c", &format!("{prelude}{text}")]);
    unshare.env("DRCTL", drctl()).env("DRCTL_CONFIG", site.config()).env("SITE", site.path(""));
    let output = unshare.output().expect("start unshare");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// How a step ended.
fn step(site: &Site, name: &str) -> Ran {
    let read = |ending: &str| {
        std::fs::read_to_string(site.path(&format!("{name}.{ending}"))).expect("a step was run")
    };
    Ran { code: read("code").trim().parse().ok(), out: read("out"), err: read("err") }
}

/// A shop that was set up and has one backup.
fn one() -> (Shop, String) {
    let shop = Shop::open();
    let id = shop.site.backup();
    (shop, id)
}

/// Puts the folder `$SITE/$1` onto a tmpfs of size `$2`, with what is in it.
const ONTO_TMPFS: &str = "onto_tmpfs() { mkdir -p \"$SITE/$1\" \"$SITE/kept\"\n\
    cp -a \"$SITE/$1/.\" \"$SITE/kept/\"\n\
    mount -t tmpfs -o size=$2 none \"$SITE/$1\"; cp -a \"$SITE/kept/.\" \"$SITE/$1/\"; }\n";

#[test]
fn a_full_repository_is_a_clear_error_and_the_next_run_succeeds_when_there_is_room() {
    let (shop, good) = one();
    script(
        &shop.site,
        &format!(
            "{ONTO_TMPFS}onto_tmpfs repository 700k\n\
             step full backup shop\nstep kept verify {good} --data\nstep listed list\n\
             mount -o remount,size=64m \"$SITE/repository\"\n\
             step next backup shop\nstep all verify --data\nstep check catalog check\n"
        ),
    );
    let said = step(&shop.site, "full").failed(8, "store_full");
    assert!(said.contains("free space on the repository's disk"), "{said}");
    let kept = step(&shop.site, "kept").ended(0).json();
    assert_eq!(kept["backups"][0]["good"], true);
    assert_eq!(step(&shop.site, "listed").json()["backups"].as_array().unwrap().len(), 1);
    let _ = step(&shop.site, "next").ended(0);
    let all = step(&shop.site, "all").ended(0).json();
    assert_eq!(all["backups"].as_array().unwrap().len(), 2);
    // What the failed attempt left is known as that.
    let check = step(&shop.site, "check").ended(3).json();
    assert_eq!(check["orphans"].as_array().unwrap().len(), 1, "{check}");
    assert_eq!(check["equal"], true);
}

#[test]
fn a_read_only_repository_is_a_clear_error_and_still_restores() {
    let (shop, good) = one();
    script(
        &shop.site,
        &format!(
            "mount --bind \"$SITE/repository\" \"$SITE/repository\"\n\
             mount -o remount,ro,bind \"$SITE/repository\"\n\
             step denied backup shop\nstep verified verify {good} --data\n\
             step restored restore shop --latest --to-files \"$SITE/files\"\n\
             umount \"$SITE/repository\"\nstep next backup shop\n"
        ),
    );
    let said = step(&shop.site, "denied").failed(8, "store_denied");
    assert!(said.contains("drctl doctor"), "{said}");
    let _ = step(&shop.site, "verified").ended(0);
    let _ = step(&shop.site, "restored").ended(0);
    let _ = step(&shop.site, "next").ended(0);
    shop.still_restores(&good);
}

#[test]
fn a_full_state_directory_stops_no_backup_and_the_next_run_is_recorded() {
    let (shop, good) = one();
    script(
        &shop.site,
        &format!(
            "{ONTO_TMPFS}onto_tmpfs state 2m\n\
             dd if=/dev/zero of=\"$SITE/state/ballast\" bs=1k status=none || true\n\
             step full backup shop\nrm \"$SITE/state/ballast\"\nstep next backup shop\n\
             step check catalog check\nstep kept verify {good} --data\n"
        ),
    );
    let ran = step(&shop.site, "full");
    assert!(ran.err.contains("no space is left for the catalog"), "{}", ran.err);
    let answer = ran.ended(0).json();
    assert!(answer["notes"].to_string().contains("catalog rebuild"), "{answer}");
    let _ = step(&shop.site, "next").ended(0);
    // The one that went by it is the only one that it does not know.
    let check = step(&shop.site, "check").ended(3).json();
    let missing = check["missing_in_catalog"].as_array().unwrap();
    assert_eq!((missing.len(), &missing[0]["backup"]), (1, &answer["backup"]["backup"]), "{check}");
    let _ = step(&shop.site, "kept").ended(0);
}

#[test]
fn a_target_without_room_is_refused_before_anything_is_written() {
    let (shop, good) = one();
    let new = crate::common::name();
    script(
        &shop.site,
        &format!(
            "{ONTO_TMPFS}onto_tmpfs files 300k\nonto_tmpfs state/spool 300k\n\
             step files restore shop --backup {good} --to-files \"$SITE/files/new\"\n\
             step spool restore shop --backup {good} --database {db} --as {new} --jobs 2\n\
             ls -A \"$SITE/files\" \"$SITE/state/spool\" > \"$SITE/left\"\n",
            db = shop.db
        ),
    );
    for name in ["files", "spool"] {
        let said = step(&shop.site, name).failed(12, "target_unfit");
        assert!(said.contains(name) && said.contains("has room for"), "{said}");
    }
    let left = std::fs::read_to_string(shop.site.path("left")).unwrap();
    assert!(left.lines().all(|line| line.is_empty() || line.ends_with(':')), "{left}");
    assert!(!shop.has(&new));
}

#[test]
fn a_target_that_becomes_full_has_no_file_that_looks_whole() {
    // A limit on the size of files comes without notice, as another writer on the disk does.
    let ((shop, good), new) = (one(), crate::common::name());
    script(
        &shop.site,
        &format!(
            "ulimit -f 400\ntrap '' XFSZ\n\
             step files restore shop --backup {good} --to-files \"$SITE/files\"\n\
             step spool restore shop --backup {good} --database {db} --as {new} --jobs 2\n",
            db = shop.db
        ),
    );
    for name in ["files", "spool"] {
        let said = step(&shop.site, name).failed(12, "target_unfit");
        assert!(said.contains("cannot be written: free space"), "{said}");
    }
    assert!(!shop.has(&new));
    let left = shop.site.files("files");
    let whole = format!("{}.dump", shop.db);
    assert!(left.iter().all(|path| !path.ends_with(&whole)), "{left:?}");
    shop.still_restores(&good);
}

#[test]
fn a_state_directory_that_cannot_be_written_stops_no_backup() {
    let (shop, good) = one();
    script(
        &shop.site,
        "mount --bind \"$SITE/state\" \"$SITE/state\"; mount -o remount,ro,bind \"$SITE/state\"\n\
         step next backup shop\nstep listed list\nstep status status\n",
    );
    let next = step(&shop.site, "next");
    assert!(next.err.contains("there is no catalog in"), "{}", next.err);
    let answer = next.ended(0).json();
    assert!(answer["notes"].to_string().contains("cannot be used"), "{answer}");
    let listed = step(&shop.site, "listed").ended(0).json();
    assert!(listed.to_string().contains(&good), "{listed}");
    let _ = step(&shop.site, "status").ended(0);
    let check = shop.site.json(3, &["catalog", "check"]);
    assert_eq!(check["missing_in_catalog"][0]["backup"], answer["backup"]["backup"], "{check}");
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    assert_eq!(shop.site.json(0, &["catalog", "check"])["equal"], true);
}
