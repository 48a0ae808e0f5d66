//! The unit of the package, its examples, and the page that speaks of them.

use std::process::Command;

use drctl_tests::site::Ran;

use crate::markdown::blocks;
use crate::{read, root};

const UNIT: &str = "packaging/systemd/drctl.service";

/// The worst that `systemd-analyze security` may say of it, in tenths.
const EXPOSURE: &str = "25";

/// What the unit sets a key to.
fn setting(key: &str) -> String {
    let unit = read(UNIT);
    let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
    line.unwrap_or_else(|| panic!("{UNIT} has no {key}=")).to_owned()
}

#[test]
fn the_unit_is_closed() {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=yes", "--no-pager", "--threshold", EXPOSURE, UNIT]);
    let ran = Ran::of(&analyze.current_dir(root()).output().expect("systemd-analyze is missing"));
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    for (key, wanted) in [("UMask", "0077"), ("StateDirectoryMode", "0700"), ("LimitCORE", "0")] {
        assert_eq!(setting(key), wanted);
    }
}

#[test]
fn the_unit_waits_for_longer_than_the_agent() {
    let page = read("docs/configure.md");
    let row = page.lines().find(|line| line.starts_with("| `stop_timeout` |")).expect("the key");
    let default = row.split('|').nth(3).expect("its default").trim().trim_matches('`');
    let agent: u32 = default.trim_end_matches('s').parse().expect("seconds");
    let unit: u32 = setting("TimeoutStopSec").parse().expect("seconds");
    assert!(unit >= agent + 30, "TimeoutStopSec={unit} and stop_timeout = {default}");
}

#[test]
fn the_page_has_the_commands_of_the_example() {
    let example = read("packaging/systemd/examples/as-postgres.conf");
    let commands: Vec<&str> =
        example.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
    let page = blocks(&read("docs/service.md"));
    let [block] = page.as_slice() else { panic!("one block") };
    assert_eq!(block.text.trim_end(), commands.join("\n"));
}
