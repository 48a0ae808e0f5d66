use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::markdown::{codes, rows, sections};
use crate::{read, root};

/// Every Rust file below a folder, relative to it.
pub(crate) fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path).iter().map(|below| path.join(below)));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    let relative = |path: PathBuf| path.strip_prefix(folder).expect("below it").to_owned();
    found.into_iter().map(relative).collect()
}

#[test]
fn the_code_map_has_every_file() {
    let mut crates = 0;
    for (title, text) in sections(&read("ARCHITECTURE.md")) {
        let Some(folder) = codes(&title).pop().filter(|folder| folder.ends_with("/src")) else {
            continue;
        };
        crates += 1;
        let mapped: BTreeSet<String> =
            codes(&text).into_iter().filter(|word| word.ends_with(".rs")).collect();
        let there = sources(&root().join(&folder));
        let there: BTreeSet<String> =
            there.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        assert_eq!(mapped, there, "{folder}: in the code map, and there");
    }
    let members = read("Cargo.toml");
    let members = members.split("members = [").nth(1).expect("members");
    let members = members.split(']').next().expect("members").split(',').count();
    assert_eq!(crates, members, "a section for every crate");
}

#[test]
fn every_invariant_is_held_by_tests_that_there_are() {
    let page = read("ARCHITECTURE.md");
    let sections = sections(&page);
    let (_, text) = sections.iter().find(|(title, _)| title == "Invariants").expect("a section");
    let mut tests = String::new();
    for folder in ["agent", "catalog", "policies", "tests"] {
        for path in sources(&root().join(folder)) {
            tests += &fs::read_to_string(root().join(folder).join(path)).expect("a source");
        }
    }
    let rows = rows(text);
    assert!(rows.len() >= 15, "{}", rows.len());
    for row in rows {
        let names = codes(&row[2]);
        assert!(!names.is_empty(), "{}: nothing holds it", row[1]);
        for name in names {
            assert!(tests.contains(&format!("fn {name}(")), "there is no test {name}");
        }
    }
}
