//! The house stays in order: who may know whom, how long things may be, where IO may be done.
//!
//! Every rule is a pure function over text, with a test of its own that plants what it must find.

mod edges;
mod engine_words;
mod engines;
mod errors;
mod lengths;
mod phrases;
mod rooms;
mod words;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A file of the project, with its path relative to the workspace.
pub struct Source {
    /// With `/` between its parts.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// The workspace's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Every text file of the project: what git knows, and what it does not know yet.
pub fn files() -> Vec<Source> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).expect("names are UTF-8");
    let read = |path: &str| {
        let text = std::fs::read(root().join(path)).ok()?;
        Some(Source { path: path.to_owned(), text: String::from_utf8(text).ok()? })
    };
    let found: Vec<Source> = names.lines().filter_map(read).collect();
    assert!(found.len() > 100, "only {} files were found", found.len());
    found
}

/// Whether a file holds tests alone, or what only they need.
pub fn is_test(path: &str) -> bool {
    let within = path.starts_with("tests/") || path.contains("/tests/");
    within || path.ends_with("/tests.rs") || path.ends_with("/testing.rs")
}

/// The numbers, from 0, of the lines of Rust that are compiled for unit tests alone: those of each
/// item under `#[cfg(test)]`, wherever in a file it stands.
pub fn test_lines(text: &str) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    gather(text.parse().expect("Rust"), &mut found);
    found
}

fn gather(tokens: TokenStream, found: &mut BTreeSet<usize>) {
    let mut begun = None;
    let mut before = None;
    for token in tokens {
        let line = |at: proc_macro2::LineColumn| at.line - 1;
        let (start, end) = (line(token.span().start()), line(token.span().end()));
        let ends = match &token {
            TokenTree::Group(group) if begun.is_none() => {
                let attribute = group.delimiter() == Delimiter::Bracket;
                if attribute && group.stream().to_string().replace(' ', "") == "cfg(test)" {
                    begun = before;
                } else {
                    gather(group.stream(), found);
                }
                false
            }
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => punct.as_char() == ';',
            TokenTree::Ident(_) | TokenTree::Literal(_) => false,
        };
        if ends && let Some(begun) = begun.take() {
            found.extend(begun..=end);
        }
        before = Some(start);
    }
}

/// Fails with every finding at once.
pub fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn every_top_level_folder_has_its_place() {
    let allowed = [".ci", "agent", "catalog", "docs", "packaging", "policies", "runbooks", "tests"];
    let mut strange: Vec<String> = files()
        .iter()
        .filter_map(|file| file.path.split_once('/').map(|(folder, _)| folder.to_owned()))
        .filter(|folder| !allowed.contains(&folder.as_str()))
        .collect();
    strange.dedup();
    none(&strange);
}

#[test]
fn every_shell_script_passes_shellcheck() {
    let scripts: Vec<String> = files()
        .into_iter()
        .filter(|file| {
            let first = file.text.lines().next().unwrap_or_default();
            first.starts_with("#!") && first.ends_with("sh")
        })
        .map(|file| file.path)
        .collect();
    assert!(scripts.len() >= 5, "{scripts:?}");
    let checked = Command::new("shellcheck")
        .args(&scripts)
        .current_dir(root())
        .output()
        .expect("shellcheck is missing: run tests/components/install");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn commit_subjects_fit_a_line() {
    let log = Command::new("git").args(["log", "--format=%s"]).current_dir(root()).output();
    let log = String::from_utf8(log.expect("git").stdout).expect("UTF-8");
    assert!(log.lines().count() > 0);
    let long: Vec<String> =
        log.lines().filter(|subject| subject.chars().count() > 65).map(str::to_owned).collect();
    none(&long);
}

#[test]
fn lines_of_tests_are_told_from_those_of_the_product_wherever_they_stand() {
    let text = "mod a;\n#[cfg(test)]\nmod tests;\nmod b;\nimpl X {\n    /// Held.\n    #[cfg(test)]\n    \
                pub(super) fn held(&self) -> usize {\n        [0; 2].len()\n    }\n    fn kept() {}\n\
                }\n#[cfg(test)]\n#[path = \"x.rs\"]\nmod x {\n    const A: &str = \"\n}\n\";\n}\nfn c() {}\n";
    let tests = [1, 2, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17, 18];
    assert_eq!(test_lines(text), BTreeSet::from(tests));
    assert_eq!(test_lines("#[cfg(unix)]\nmod tests {}\n"), BTreeSet::new());
}
