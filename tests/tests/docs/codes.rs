use std::collections::BTreeSet;

use drctl::Exit;
use drctl_model::FindingCode;

use crate::markdown::{codes, rows, sections};
use crate::read;

#[test]
fn the_exit_codes_are_those_of_the_program() {
    let page = read("docs/exit-codes.md");
    let (_, text) = sections(&page).swap_remove(0);
    // The first table; the ones behind it say what single codes mean for single commands.
    let table: Vec<Vec<String>> =
        rows(&text).into_iter().filter(|row| row[0].parse::<u8>().is_ok()).collect();
    let expected: Vec<Vec<String>> = Exit::TABLE
        .iter()
        .map(|(exit, name, means)| {
            vec![exit.code().to_string(), (*name).to_owned(), (*means).to_owned()]
        })
        .collect();
    assert_eq!(table, expected);
}

#[test]
fn the_codes_of_findings_are_those_of_the_program() {
    let page = read("docs/json.md");
    let sections = sections(&page);
    let (_, text) = sections.iter().find(|(title, _)| title == "Findings").expect("a section");
    let listed: Vec<(String, String)> =
        rows(text).iter().flat_map(|row| codes(&row[0]).into_iter().zip(codes(&row[1]))).collect();
    let of = |code: &FindingCode| (code.as_str().to_owned(), code.level().as_str().to_owned());
    let mut known: Vec<_> = FindingCode::ALL.iter().map(of).collect();
    known.sort();
    assert_eq!(listed, known, "sorted, each once");
}

/// The places that give errors their codes.
const SOURCES: &[&str] = &[
    "agent/src/host/agent_error.rs",
    "agent/src/host/agent_error/codes.rs",
    "agent/src/repository/verify.rs",
    "agent/store/src/error.rs",
    "agent/store/src/error/sealing.rs",
    "agent/engines/src/common/error.rs",
    "agent/engines/src/common/helper/error.rs",
    "agent/engines/src/backrest/error.rs",
    "agent/engines/src/pg/dump/error.rs",
    "agent/engines/src/pg/physical/error.rs",
    "agent/engines/src/pg/server/error.rs",
    "catalog/src/error.rs",
];

/// Every word in quotation marks in the functions that name codes.
fn codes_of(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for head in ["fn code(", "fn classify("] {
        for (at, _) in source.match_indices(head) {
            let body = &source[at..];
            let body = &body[..body.find("\n    }\n").expect("the function ends")];
            found.extend(body.split('"').skip(1).step_by(2).map(str::to_owned));
        }
    }
    for head in ["problems.push((\"", "unwrap_or((\"", "code: \""] {
        for (at, _) in source.match_indices(head) {
            let rest = &source[at + head.len()..];
            found.extend(rest.split('"').next().map(str::to_owned));
        }
    }
    found.retain(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
    found
}

#[test]
fn the_error_codes_are_those_of_the_program() {
    let page = read("docs/json.md");
    let sections = sections(&page);
    let (_, text) = sections.iter().find(|(title, _)| title == "Codes").expect("a section");
    let listed: Vec<String> = rows(text).iter().flat_map(|row| codes(&row[0])).collect();
    let sorted: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(listed, sorted.iter().cloned().collect::<Vec<_>>(), "sorted, each once");
    let mut known = BTreeSet::new();
    for path in SOURCES {
        let of_this = codes_of(&read(path));
        assert!(!of_this.is_empty(), "{path} names no codes any more");
        known.extend(of_this);
    }
    assert_eq!(sorted, known);
}
