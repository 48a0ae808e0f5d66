//! The documentation says what is so: its commands run, its tables are the program's own, its
//! links lead somewhere.

mod architecture;
mod blocks;
mod codes;
mod configuration;
mod debian;
mod json;
mod links;
mod markdown;
mod policy;
mod service;
mod socket;

use std::path::{Path, PathBuf};

/// The workspace's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests is in the workspace").to_owned()
}

/// A file of the workspace.
fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every page of the documentation, relative to the root, in order.
fn pages() -> Vec<String> {
    let mut found: Vec<String> =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "catalog/FORMAT.md"]
            .map(str::to_owned)
            .into();
    for folder in ["docs", "runbooks"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("a folder") {
            let name = entry.expect("an entry").file_name();
            let name = name.to_str().expect("a name in UTF-8").to_owned();
            if Path::new(&name).extension().is_some_and(|ending| ending == "md") {
                found.push(format!("{folder}/{name}"));
            }
        }
    }
    found.sort();
    found
}
