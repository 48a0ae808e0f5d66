//! What lies outside of what a backup copies, told.

use std::fmt::Write as _;

use drctl_model::{Facts, Outside, shown};

use super::screen::TEXT_SHOWN;
use crate::host::figures::bytes;

/// A line for each file that the backup holds, for each reason why it does not hold others, and for
/// what is not known.
pub(super) fn outside_text(facts: &Facts) -> String {
    let mut text = String::new();
    let mut line = |value: &str| {
        let _ = writeln!(text, "{:<12}{}", "outside", shown(value, TEXT_SHOWN));
    };
    let Some(outside) = &facts.outside else {
        line("not known: the backup does not record what its server reads from elsewhere");
        return text;
    };
    for (item, content) in outside.held() {
        let size = item.bytes.or_else(|| Some(content.bytes()?.len() as u64)).unwrap_or_default();
        line(&format!("{}: in this backup, {}", item.name(), bytes(size)));
    }
    outside.missing().iter().for_each(|one| line(&format!("NOT in this backup: {one}")));
    outside.unknown.iter().for_each(|one| line(&format!("not known: {one}")));
    if *outside == Outside::default() {
        line("nothing that the server reads");
    }
    text
}

#[cfg(test)]
mod tests {
    use drctl_model::OutsideItem;

    use super::*;

    #[test]
    fn what_is_not_known_is_told_from_nothing() {
        let facts = |outside| Facts { outside, ..Facts::default() };
        assert!(outside_text(&facts(None)).contains("not known"));
        assert!(outside_text(&facts(Some(Outside::default()))).contains("nothing"));
        let items = vec![
            OutsideItem::held("config_file", "/etc/a".to_owned(), vec![b'x'; 2048]),
            OutsideItem::missing("roles", None, "globals = false"),
        ];
        let outside = Outside { items, unknown: vec!["the rest".to_owned()] };
        let text = outside_text(&facts(Some(outside)));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].contains("/etc/a (config_file): in this backup, 2.0 KiB"), "{text}");
        assert!(lines[1].contains("NOT in this backup: roles: globals = false"), "{text}");
        assert!(lines[2].contains("not known: the rest"), "{text}");
    }
}
