//! The settings that sessions and tools begin with.
//!
//! They come with the connection itself: there they win over what the role and the database have
//! set, and hold from the first statement on. A pooler refuses them, or shows itself by their loss.

use super::tools::major_of;

/// Settings that every supported version knows, with their values.
///
/// An empty search path keeps names that others have created from being taken for the server's
/// own; tables with policies are an error instead of half a backup; a database or a role may be
/// read-only, serializable or impatient, or speak as another role.
const SETTINGS: &[(&str, &str)] = &[
    ("search_path", ""),
    ("row_security", "off"),
    ("role", "none"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    ("datestyle", "ISO"),
    ("intervalstyle", "postgres"),
    ("bytea_output", "hex"),
    ("standard_conforming_strings", "on"),
    ("quote_all_identifiers", "off"),
];

/// A setting of nobody's, by which a session is known again.
const TOKEN: &str = "drctl.session";

/// Asks for it.
pub(super) const ASK_TOKEN: &str = "SELECT pg_catalog.current_setting('drctl.session', true)";

/// The options of a session that is known by `token`, and `more` that are of this server alone.
pub(super) fn of_session(token: &str, more: Option<&String>) -> String {
    with(join(SETTINGS.iter().copied().chain([(TOKEN, token)])), more)
}

fn with(options: String, more: Option<&String>) -> String {
    more.map_or(options.clone(), |more| format!("{options} {more}"))
}

/// The options of a replication connection, which servers from 15 on have.
pub(super) fn of_replication() -> String {
    join([("idle_session_timeout", "0"), ("statement_timeout", "0"), ("role", "none")].into_iter())
}

/// The options of a tool, whose version is the server's.
pub(super) fn of_tool(version: &str, more: Option<&String>) -> String {
    let major = major_of(version).unwrap_or_default();
    let later = [("idle_session_timeout", 14), ("transaction_timeout", 17)];
    let later = later.into_iter().filter(|(_, since)| major >= *since).map(|(name, _)| (name, "0"));
    with(join(SETTINGS.iter().copied().chain(later)), more)
}

/// As the server splits it: at blanks, but for those behind a backslash.
fn join<'a>(settings: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let one = |(name, value): (&str, &str)| {
        format!("-c {name}={}", value.replace('\\', "\\\\").replace(' ', "\\ "))
    };
    settings.map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split_by_the_server_as_they_are_meant() {
        assert_eq!(join([("a", ""), ("b", "x y\\z")].into_iter()), "-c a= -c b=x\\ y\\\\z");
        assert!(of_session("7", None).ends_with("-c drctl.session=7"));
        assert!(
            !of_tool("13.4", None).contains("idle_session")
                && of_tool("15.18", None).contains("idle_session")
        );
        assert!(
            !of_tool("16.1", None).contains("transaction_timeout=0 ")
                && of_tool("17.0", None).contains("-c transaction_timeout=0")
        );
    }
}
