//! The scripts of the README, run as a user would run them.

use std::path::{Path, PathBuf};
use std::process::Command;

use drctl_tests::site::{Ran, drctl};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn script(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(root().join(name));
    command.args(arguments).env("DRCTL", drctl()).env_remove("DRCTL_CONFIG");
    command
}

#[test]
fn the_quickstart_brings_every_row_back() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let target = directory.path().join("quickstart");
    let named = target.display().to_string();
    let ran = Ran::of(&script("packaging/quickstart", &[&named]).output().expect("run it"));
    let ran = ran.ended(0);
    assert!(ran.out.contains("== every row is back"), "{}", ran.out);
    let (before, after) = (target.join("before"), target.join("after"));
    let read = |path| std::fs::read_to_string(path).expect("the list of tables");
    assert_eq!(read(before), read(after));
    // A second run into the same directory refuses, and leaves the first as it is.
    let again = Ran::of(&script("packaging/quickstart", &[&named]).output().expect("run it"));
    let again = again.ended(1);
    assert!(again.err.contains("is not empty"), "{}", again.err);
}

#[test]
fn the_benchmark_prints_its_table() {
    let ran = script("tests/bench", &["1"]).env("BENCH_SCALE", "1").output().expect("run it");
    let ran = Ran::of(&ran).ended(0);
    for row in ["drctl backup", "drctl restore --to-stdout", "same, 1 MiB rows  wall", "way back"] {
        assert!(ran.out.contains(row), "{row}: {}", ran.out);
    }
}

#[test]
fn every_script_explains_itself() {
    for name in [
        "packaging/quickstart",
        "packaging/build",
        "tests/run",
        "tests/bench",
        "tests/bench-wal",
        "tests/bench-agent",
        "tests/bench-drill",
        "tests/equal",
        "tests/kill-agent",
        "tests/matrix",
        "tests/host",
        "tests/container",
        "tests/simulate",
        "tests/demonstrate",
    ] {
        let ran = Ran::of(&script(name, &["--help"]).output().expect("run it")).ended(0);
        assert!(ran.out.contains(name), "{name}: {}", ran.out);
    }
}
