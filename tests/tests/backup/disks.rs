//! Full and read-only file systems, each in a mount namespace of its own.

use std::process::{Command, Stdio};

use drctl_tests::apart::Apart;
use drctl_tests::site::{Ran, Site, drctl, until};
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
    // The one that went by it was added.
    let _ = step(&shop.site, "check").ended(0).json();
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
    let unusable = "cannot be used (";
    assert!(next.err.contains("the catalog in ") && next.err.contains(unusable), "{}", next.err);
    let answer = next.ended(0).json();
    assert!(answer["notes"].to_string().contains("cannot be used"), "{answer}");
    let listed = step(&shop.site, "listed").ended(0).json();
    assert!(listed.to_string().contains(&good), "{listed}");
    let _ = step(&shop.site, "status").ended(0);
    assert_eq!(shop.site.json(0, &["catalog", "check"])["equal"], true);
}

/// Two backups, of which the newer one is gone from the bucket.
fn one_of_two() -> (Shop, String) {
    let (shop, _) = one();
    let newer = shop.site.backup();
    std::fs::remove_dir_all(shop.site.path(&format!("repository/s/shop/b/{newer}"))).unwrap();
    (shop, newer)
}

const LOOKS: &str = "looks() { step \"$1-status\" status --check; step \"$1-list\" list\n\
    step \"$1-plan\" restore shop --latest --to-files \"$SITE/files\" --plan; }\n";

#[test]
fn a_state_directory_without_room_or_leave_to_write_forgets_nothing() {
    let (shop, newer) = one_of_two();
    script(
        &shop.site,
        &format!(
            "{ONTO_TMPFS}{LOOKS}onto_tmpfs state 2m\nlooks room\n\
             dd if=/dev/zero of=\"$SITE/state/ballast\" bs=1k status=none || true\nlooks full\n\
             step backup backup shop\nlooks later\n\
             rm \"$SITE/state/ballast\"; mount -o remount,ro \"$SITE/state\"\nlooks fixed\n"
        ),
    );
    for (when, worst) in [("room", 11), ("full", 11), ("later", 3), ("fixed", 3)] {
        let status = step(&shop.site, &format!("{when}-status")).ended(worst);
        assert!(status.out.contains("object_gone") && status.out.contains(&newer), "{when}");
        assert!(!status.out.contains("catalog_unknown"), "{when}");
        let list = step(&shop.site, &format!("{when}-list")).ended(3).json();
        assert!(list["lost"].to_string().contains(&newer), "{when}: {list}");
        assert_eq!(list["forgotten"], false, "{when}");
        let plan = step(&shop.site, &format!("{when}-plan")).ended(0);
        assert_eq!(plan.out.contains("it is LOST"), worst == 11, "{when}: {}", plan.out);
    }
    // What was made meanwhile is known, as the bucket holds it.
    let made = step(&shop.site, "backup").ended(0).json();
    let later = step(&shop.site, "later-list").json();
    assert_eq!(later["backups"][0]["backup"], made["backup"]["backup"], "{later}");
}

#[test]
fn a_memory_that_cannot_be_read_is_told() {
    let (shop, _) = one_of_two();
    std::fs::write(shop.site.path("state/catalog.db"), [7; 8192]).unwrap();
    script(
        &shop.site,
        &format!(
            "{LOOKS}mount --bind \"$SITE/state\" \"$SITE/state\"\n\
             mount -o remount,ro,bind \"$SITE/state\"\nlooks bad\n"
        ),
    );
    let status = step(&shop.site, "bad-status").ended(3);
    assert!(status.out.contains("catalog_unknown"), "{}", status.out);
    assert_eq!(step(&shop.site, "bad-list").ended(3).json()["forgotten"], true);
    let plan = step(&shop.site, "bad-plan").ended(0);
    assert!(plan.err.contains("record of lost and damaged backups cannot be read"), "{}", plan.err);
}

#[test]
fn a_state_directory_that_is_nearly_full_stops_no_backup_and_hides_none() {
    let (shop, _) = one();
    let left = [0, 4, 8, 16, 24, 32, 40, 64, 100];
    let text = left.map(|left| {
        format!(
            "rm -f \"$SITE/state/ballast\"\n\
             dd if=/dev/zero of=\"$SITE/state/ballast\" bs=4k status=none 2> /dev/null || true\n\
             truncate -s -{left}k \"$SITE/state/ballast\"\n\
             step backup-{left} backup shop\nstep status-{left} status --check\n"
        )
    });
    script(&shop.site, &format!("{ONTO_TMPFS}onto_tmpfs state 2m\n{}", text.concat()));
    for left in left {
        let made = step(&shop.site, &format!("backup-{left}")).ended(0).json();
        let said = step(&shop.site, &format!("status-{left}"));
        // Where next to nothing can be written that is told.
        let code = if said.out.contains("state_unwritable") { 3 } else { 0 };
        let status = said.ended(code).json();
        let newest = &status["sources"][0]["newest_good"]["backup"];
        assert_eq!(newest, &made["backup"]["backup"], "{left} KiB: {status}");
    }
}

#[test]
fn a_backup_whose_disk_is_unmounted_or_not_writable_meanwhile_commits_nothing() {
    let (shop, tools) = Shop::with_tools();
    let _ = shop.site.backup();
    let apart = Apart::of(&shop.site);
    let command = |words: &[&str]| {
        let mut command = apart.inside(&shop.site.command(&[&["--json"], words].concat()));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let run = |words: &[&str]| Ran::of(&command(words).output().unwrap());
    let stored = || {
        let mut find = Command::new("find");
        find.arg(shop.site.path("repository")).args(["-path", "*/globals/*.age"]);
        let found = apart.inside(&find).output().unwrap();
        String::from_utf8_lossy(&found.stdout).lines().count()
    };
    type Turn<'a> = &'a dyn Fn();
    let turns: [(Turn<'_>, &str, Turn<'_>); 2] = [
        (&|| apart.take_away(), "store_moved", &|| apart.bring_back()),
        (&|| apart.may_be_written(false), "store_denied", &|| apart.may_be_written(true)),
    ];
    for (good, (away, code, back)) in (1..).zip(turns) {
        let before = stored();
        tools.pause("pg_dump", 300_000);
        let backup = command(&["backup", "shop"]).spawn().unwrap();
        tools.await_pause();
        // What is under way as the disk goes may lie below it, and is acknowledged by nobody.
        until("the roles to be stored", || stored() > before);
        away();
        tools.go_on();
        let _ = Ran::of(&backup.wait_with_output().unwrap()).failed(8, code);
        tools.honest("pg_dump");
        assert_eq!(apart.below(), 0, "{code}: the mount point was written into");
        back();
        let kept = run(&["verify", "--data"]).ended(0).json();
        assert_eq!(kept["backups"].as_array().unwrap().len(), good, "{code}: {kept}");
        let _ = run(&["backup", "shop"]).ended(0);
    }
    let kept = run(&["verify", "--data"]).ended(0).json();
    assert_eq!(kept["backups"].as_array().unwrap().len(), 3, "{kept}");
    assert_eq!(apart.below(), 0);
}
