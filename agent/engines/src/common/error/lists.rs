//! Several things in one message.

use std::path::PathBuf;

use crate::pg::dump::RowDifference;

pub(super) fn list_paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

pub(super) fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

pub(super) fn list_rows(differences: &[RowDifference]) -> String {
    let mut text: Vec<String> = differences.iter().take(10).map(ToString::to_string).collect();
    if differences.len() > 10 {
        text.push(format!("and {} more tables", differences.len() - 10));
    }
    text.join(", ")
}
