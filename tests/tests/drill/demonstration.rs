//! What the README shows of checks that do not see what is lost.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use drctl_tests::site::drctl;

/// A line as it is compared: without names that are others each time.
fn steady(line: &str) -> String {
    let words = line.split(' ').map(|word| match word.starts_with("20") && word.contains('T') {
        true => "ID",
        false => word,
    });
    let line = words.collect::<Vec<_>>().join(" ");
    // Which host it is.
    line.split(" on ").next().unwrap_or_default().to_owned()
}

/// A file of the project.
fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[test]
fn the_readme_shows_what_the_demonstration_prints() {
    let ran =
        Command::new(root("tests/demonstrate")).env("DRCTL", drctl()).output().expect("run it");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}\n{}", String::from_utf8_lossy(&ran.stderr));
    let readme = fs::read_to_string(root("README.md")).expect("the README");
    let shown = readme.split("```text\n== a pipeline").nth(1).expect("its block");
    let shown = format!("== a pipeline{}", shown.split("```").next().unwrap_or_default());
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
        lines.filter(|line| !line.starts_with("rows restored")).map(steady).collect()
    };
    // How many other objects there are depends on the version.
    let counts = |text: &str| text.contains("row by row; so are");
    let without = |text: &str| -> Vec<String> {
        lines(text).into_iter().filter(|line| !counts(line)).collect()
    };
    assert_eq!(without(&said), without(&shown));
    let restored =
        said.lines().find_map(|line| line.strip_prefix("rows restored: ")).expect("rows");
    let (rows, all) = restored.split_once(" of ").expect("two numbers");
    assert!(rows.parse::<u32>().unwrap() < 50_000 && all == "200000", "{restored}");
    assert!(said.contains("1 table with 200 000 rows are what was dumped, row by row"), "{said}");
}
