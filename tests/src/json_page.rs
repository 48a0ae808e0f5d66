//! What the page of JSON objects says of one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The members of an object, as the page lists them, without those within them.
///
/// # Panics
/// If the page has no such object.
#[must_use]
pub fn documented(schema: &str) -> BTreeSet<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json.md");
    let text = fs::read_to_string(page).expect("the page");
    let section = text.split(&format!("### {schema}\n")).nth(1).expect("a section");
    let table = section.split("\n### ").next().unwrap_or_default();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let fields = rows.filter_map(|line| line.split('|').nth(1)).flat_map(|cell| cell.split('`'));
    let first = |field: &str| field.split(['.', '[']).next().unwrap_or_default().to_owned();
    fields.map(str::trim).filter(|field| !field.is_empty() && *field != ",").map(first).collect()
}
