//! The unit of the package, its examples, and the page that speaks of them.

use std::process::Command;

use drctl_policies::{SourceFile, parse_job_rights};
use drctl_tests::site::Ran;

use crate::markdown::blocks;
use crate::{read, root};

const UNIT: &str = "packaging/systemd/drctl.service";

const HELPER: &str = "packaging/systemd/drctl-job@.service";

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
fn the_units_leave_the_database_the_larger_share() {
    // What a unit has by which nothing is said.
    let usual = 100;
    for unit in [UNIT, HELPER] {
        for key in ["CPUWeight=", "IOWeight="] {
            let unit = read(unit);
            let weight = unit.lines().find_map(|line| line.strip_prefix(key));
            let weight: u32 = weight.expect(key).parse().expect("a number");
            assert!(2 * weight <= usual, "{key}{weight}");
            assert!(read("docs/service.md").contains(&format!("`{key}{weight}`")), "the page");
        }
    }
}

#[test]
fn the_helpers_unit_is_closed_and_leaves_the_servers_memory() {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=yes", "--no-pager", "--threshold", "10", HELPER]);
    let ran = Ran::of(&analyze.current_dir(root()).output().expect("systemd-analyze is missing"));
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    // It would be removed with the last process of a unit that runs as the server's account.
    for unit in [HELPER, "packaging/systemd/examples/as-postgres.conf"] {
        assert!(read(unit).contains("\nRemoveIPC=no\n"), "{unit}");
    }
    let socket = read("packaging/systemd/drctl-job@.socket");
    assert!(socket.contains("\nSocketMode=0600\n") && socket.contains("\nSocketUser=drctl\n"));
}

/// What root's file may hold is what the page says, and the example is good.
#[test]
fn the_example_of_roots_file_is_good() {
    let name = "packaging/systemd/examples/job-postgres.toml";
    let file = SourceFile { name: name.to_owned(), text: read(name) };
    let rights = parse_job_rights(&file).expect("a good file");
    let words: Vec<&str> = rights.pgbackrest["main"].may.iter().map(|may| may.as_str()).collect();
    assert_eq!(words, ["look", "backup", "wal"]);
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
fn the_page_has_the_commands_of_the_examples() {
    let page = blocks(&read("docs/service.md"));
    let of = |example: &str| {
        let example = read(example);
        let lines = example.lines().filter_map(|line| line.strip_prefix("#   "));
        lines.map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    let [agent, helper] = page.as_slice() else { panic!("two blocks") };
    assert_eq!(agent.text.trim_end(), of("packaging/systemd/examples/as-postgres.conf"));
    assert_eq!(helper.text.trim_end(), of("packaging/systemd/examples/job-postgres.toml"));
}
