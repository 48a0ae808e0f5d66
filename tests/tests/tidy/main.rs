//! The house stays in order: who may know whom, how long things may be, where IO may be done.
//!
//! Every rule is a pure function over text, with a test of its own that plants what it must find.

mod edges;
mod lengths;
mod words;

use std::path::{Path, PathBuf};
use std::process::Command;

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
