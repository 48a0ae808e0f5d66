//! What drills leave: nothing, whatever becomes of them, and whatever lies beside.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Stdio};

use drctl_tests::cluster::{Cluster as _, give_away};
use drctl_tests::site::until;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::Shop;

/// Ends a child at once.
fn kill(child: &mut Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a number")).expect("a process");
    kill_process(pid, Signal::KILL).expect("killed");
    let _ = child.wait();
}

/// Processes whose command line has these words.
fn processes(words: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let line = |entry: &fs::DirEntry| fs::read_to_string(entry.path().join("cmdline")).ok();
    entries.filter(|entry| line(entry).is_some_and(|line| line.contains(words))).count()
}

/// A drill that is killed while it loads, and what it has left.
fn killed(shop: &Shop) {
    let held = shop.site.path("held");
    let script = format!("touch {0}; sleep 1000; exec \"$REAL\" \"$@\"", held.display());
    shop.with_script("pg_restore", &script);
    let mut child = shop.command(&["drill", "run", "shop"]).stderr(Stdio::null()).spawn().unwrap();
    until("it to load", || held.exists());
    assert_eq!(shop.left().len(), 1);
    kill(&mut child);
    fs::remove_file(held).unwrap();
}

#[test]
fn what_a_killed_drill_left_goes_with_the_next_one_and_nothing_else() {
    let shop = Shop::open();
    let _ = shop.back_up();
    killed(&shop);
    let left = shop.left().remove(0);
    let data = left.join("restored/data");
    let name = data.display().to_string();
    until("its server to end", || processes(&name) == 0);
    assert!(left.exists() && shop.evidence().is_empty());
    // What lies beside it is nobody's to remove.
    let (outside, other) = (shop.site.path("outside"), shop.scratch().join("drill-of-mine"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "x").unwrap();
    fs::create_dir(&other).unwrap();
    symlink(&outside, left.join("restored/link")).unwrap();
    let named = shop.scratch().join("drill-20260301T000000Z-0000000000000001");
    symlink(&outside, &named).unwrap();
    shop.with_script("pg_restore", "exec \"$REAL\" \"$@\"");
    let mut command = shop.command(&["drill", "run", "shop"]);
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    assert!(
        said.contains("0000000000000001 was left by a drill or a clone: it is not removed"),
        "{said}"
    );
    let mut stays = shop.left();
    stays.sort();
    assert_eq!(stays, [named, other]);
    assert_eq!(fs::read(outside.join("kept")).unwrap(), b"x");
}

#[test]
fn a_drill_that_is_interrupted_removes_all_and_keeps_no_evidence() {
    let shop = Shop::open();
    let _ = shop.back_up();
    let held = shop.site.path("held");
    let script = format!("touch {}; sleep 1000; exec \"$REAL\" \"$@\"", held.display());
    shop.with_script("pg_restore", &script);
    let child = shop.command(&["--json", "drill", "run", "shop"]);
    let mut child = { child }.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("it to load", || held.exists());
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(shop.left().is_empty() && shop.evidence().is_empty(), "{:?}", shop.left());
}

#[test]
fn two_drills_at_once_leave_each_other_alone() {
    let shop = Shop::open();
    let _ = shop.back_up();
    let (held, go) = (shop.site.path("held"), shop.site.path("go"));
    // The first one waits in the middle until the second one is over.
    let script = format!(
        "if mkdir {0} 2>/dev/null; then while [ ! -e {1} ]; do sleep 0.1; done; fi; exec \"$REAL\" \"$@\"",
        held.display(),
        go.display()
    );
    shop.with_script("pg_restore", &script);
    let mut first = shop.command(&["--quiet", "drill", "run", "shop"]).spawn().unwrap();
    until("it to load", || held.exists());
    assert_eq!(shop.drill(0, &[])["verdict"], "pass");
    assert_eq!(shop.left().len(), 1);
    fs::write(&go, "").unwrap();
    assert!(first.wait().unwrap().success());
    assert_eq!((shop.left().len(), shop.evidence().len()), (0, 2));
}

#[test]
fn a_root_that_others_may_change_is_refused() {
    let shop = Shop::open();
    let _ = shop.back_up();
    let open = shop.site.path("open");
    fs::create_dir(&open).unwrap();
    give_away(&open);
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let place = open.join("scratch").display().to_string();
    let said =
        shop.drctl(&["drill", "run", "shop", "--scratch", &place]).failed(12, "target_unfit");
    assert!(said.contains("open"), "{said}");
    assert!(shop.evidence().is_empty());
}
