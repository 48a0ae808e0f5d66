use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::{none, root};

/// Who may depend on whom. The tests may on all; nobody on the tests.
const ARROWS: &[(&str, &[&str])] = &[
    ("drctl-model", &[]),
    ("drctl-store", &["drctl-model"]),
    ("drctl-engines", &["drctl-model"]),
    ("drctl-catalog", &["drctl-model"]),
    ("drctl-policies", &["drctl-model"]),
    ("drctl", &["drctl-catalog", "drctl-engines", "drctl-model", "drctl-policies", "drctl-store"]),
    (
        "drctl-tests",
        &[
            "drctl",
            "drctl-catalog",
            "drctl-engines",
            "drctl-model",
            "drctl-policies",
            "drctl-store",
        ],
    ),
];

fn strangers(metadata: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let ours: BTreeSet<String> = packages.iter().map(|package| text(&package["name"])).collect();
    let mut found = Vec::new();
    for package in &packages {
        let name = text(&package["name"]);
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
            found.push(format!("{name} is not in the map of crates"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let other = text(&dependency["name"]);
            if ours.contains(&other) && !allowed.contains(&other.as_str()) {
                found.push(format!("{name} may not know {other}"));
            }
        }
    }
    found
}

#[test]
fn the_arrows_run_one_way() {
    let asked = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    let metadata: Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    assert_eq!(metadata["packages"].as_array().map(Vec::len), Some(ARROWS.len()));
    none(&strangers(&metadata));
}

#[test]
fn a_wrong_arrow_is_found() {
    let metadata = serde_json::json!({ "packages": [
        { "name": "drctl-model", "dependencies": [{ "name": "drctl-store" }, { "name": "serde" }] },
        { "name": "drctl-store", "dependencies": [{ "name": "drctl-model" }] },
        { "name": "drctl-extra", "dependencies": [] },
    ]});
    let found = strangers(&metadata);
    assert_eq!(
        found,
        ["drctl-model may not know drctl-store", "drctl-extra is not in the map of crates"]
    );
}
