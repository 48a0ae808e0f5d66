//! The settings that sessions and tools begin with.
//!
//! They come with the connection itself: there they win over what the role and the database have
//! set, and hold from the first statement on. A pooler refuses them, or shows itself by their loss.

use super::{FoundTool, major_of};

/// Settings that every supported version knows, with their values.
///
/// An empty search path keeps names that others have created from being taken for the server's
/// own; tables with policies are an error instead of half a backup; a database or a role may be
/// read-only, serializable or impatient, speak as another role, or ask for a library that is not
/// there. What is loaded is read as it was written: an element that is null stays null, and an
/// amount of money is the same number of its smallest unit.
///
/// What `pg_dump` and `pg_restore` set by themselves, whatever is asked for, is not here.
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
    ("local_preload_libraries", ""),
    ("exit_on_error", "off"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    ("backslash_quote", "safe_encoding"),
    ("xmloption", "content"),
    ("lc_monetary", "C"),
    ("escape_string_warning", "off"),
];

/// Those that came with a later version, and with which: whoever is in no hurry is not ended.
const LATER: &[(&str, u32)] = &[("idle_session_timeout", 14), ("transaction_timeout", 17)];

/// What only a superuser may set: a server gives damaged pages as empty ones or as they are, and
/// fires other triggers.
const SUPERUSERS: &[(&str, &str)] = &[
    ("zero_damaged_pages", "off"),
    ("ignore_checksum_failure", "off"),
    ("session_replication_role", "origin"),
];

/// Whether the role may set all, and which of those settings are on that hide damage.
pub(super) const ASK_HIDING: &str = "
    SELECT pg_catalog.current_setting('is_superuser') = 'on',
           ARRAY(SELECT name FROM pg_catalog.pg_settings
                 WHERE name IN ('zero_damaged_pages', 'ignore_checksum_failure')
                   AND setting = 'on' ORDER BY name DESC)";

/// Sets again what a session has begun with: what runs at a login may have set something else. The limit of
/// a statement's time comes first, as it would end the others.
pub(super) fn again() -> String {
    let value = |(name, value): &(&str, &str)| format!("('{name}', '{value}')");
    let values: Vec<String> = SETTINGS.iter().map(value).collect();
    format!(
        "SET statement_timeout = 0; SELECT pg_catalog.set_config(n, v, false) FROM (VALUES {}) AS \
         begun (n, v)",
        values.join(", ")
    )
}

/// Sets what only a superuser may.
pub(super) fn as_superuser() -> String {
    SUPERUSERS.iter().map(|(name, value)| format!("SET {name} = {value};")).collect()
}

/// What is believed of a server's version before it has let us in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pg) enum Believed {
    /// It is supported, and without haste.
    Usual,
    /// It is older, and does not know all that we ask for.
    Old,
    /// It is newer, and ends transactions that last.
    Hasty,
}

impl Believed {
    /// What to believe after it has refused a login with this state; `None`: nothing else.
    pub(in crate::pg) fn after(self, state: Option<&str>) -> Option<Self> {
        match (self, state) {
            // UNDEFINED_OBJECT
            (Believed::Usual, Some("42704")) => Some(Believed::Old),
            (Believed::Usual, Some(HASTE)) => Some(Believed::Hasty),
            _ => None,
        }
    }

    /// The first version of which this is true.
    fn major(self) -> u32 {
        match self {
            Believed::Usual => 14,
            Believed::Old => 0,
            Believed::Hasty => 17,
        }
    }
}

/// `TRANSACTION_TIMEOUT`: a server ends a session whose transaction has lasted.
pub(in crate::pg) const HASTE: &str = "25P04";

/// Whether a server of this version knows limits of transactions.
pub(in crate::pg) fn may_haste(version: Option<&str>) -> bool {
    version.and_then(major_of) >= Some(Believed::Hasty.major())
}

/// The settings of [`LATER`] that a version knows.
fn later(major: u32) -> impl Iterator<Item = (&'static str, &'static str)> {
    LATER.iter().filter(move |(_, since)| major >= *since).map(|(name, _)| (*name, "0"))
}

/// A setting of nobody's, by which a session is known again.
const TOKEN: &str = "drctl.session";

/// Asks for it.
pub(super) const ASK_TOKEN: &str = "SELECT pg_catalog.current_setting('drctl.session', true)";

/// The options of a session that is known by `token`, and `more` that are of this server alone.
pub(super) fn of_session(token: &str, more: Option<&String>, believed: Believed) -> String {
    let settings = join(SETTINGS.iter().copied().chain(later(believed.major())));
    with(format!("{settings} -c {TOKEN}={token}"), more)
}

fn with(options: String, more: Option<&String>) -> String {
    more.map_or(options.clone(), |more| format!("{options} {more}"))
}

/// The options of a replication connection, which servers from 15 on have.
pub(in crate::pg) fn of_replication(believed: Believed) -> String {
    let wanted = ["statement_timeout", "role", "local_preload_libraries"];
    let settings = SETTINGS.iter().copied().filter(|(name, _)| wanted.contains(name));
    join(later(believed.major().max(15)).chain(settings))
}

/// What rows are written by, beside what `pg_dump` sets: the same moment is the same text wherever it is dumped.
/// Nothing is loaded by it: a check of a table may ask for the zone that its database has.
const DUMPED: &[(&str, &str)] = &[("timezone", "UTC")];

/// The options of a tool, whose version is the server's.
pub(super) fn of_tool(found: &FoundTool, more: Option<&String>, superuser: bool) -> String {
    let later = later(major_of(&found.version).unwrap_or_default());
    let powerful = SUPERUSERS.iter().copied().filter(|_| superuser);
    let dumped = DUMPED.iter().copied().filter(|_| found.name == "pg_dump");
    with(join(SETTINGS.iter().copied().chain(later).chain(powerful).chain(dumped)), more)
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
        assert!(of_session("7", None, Believed::Usual).ends_with("-c drctl.session=7"));
        let tool = |name, version: &str| FoundTool {
            name,
            path: "/x".into(),
            version: version.to_owned(),
        };
        let of_tool = |version, setting| {
            super::of_tool(&tool("pg_restore", version), None, false).contains(setting)
        };
        assert!(!of_tool("13.4", "idle_session") && of_tool("15.18", "idle_session"));
        assert!(!of_tool("16.1", "c transaction") && of_tool("17.0", "-c transaction_timeout=0"));
        assert!(!of_tool("15.18", "zero_damaged_pages"));
        let powerful = super::of_tool(&tool("pg_dump", "15.18"), None, true);
        assert!(powerful.contains("-c zero_damaged_pages=off"));
        assert!(powerful.contains("-c timezone=UTC") && !of_tool("15.18", "timezone"));
    }

    #[test]
    fn a_server_of_another_age_is_asked_for_what_it_knows() {
        let options = |believed| of_session("7", None, believed);
        assert!(options(Believed::Usual).contains("-c idle_session_timeout=0"));
        let old = Believed::Usual.after(Some("42704")).unwrap();
        assert!(!options(old).contains("idle_session_timeout"));
        let hasty = Believed::Usual.after(Some("25P04")).unwrap();
        assert!(options(hasty).contains("-c transaction_timeout=0"));
        assert_eq!(old.after(Some("42704")), None);
        assert!(may_haste(Some("17.12 (Debian)")) && !may_haste(Some("16.9")) && !may_haste(None));
        assert_eq!(Believed::Usual.after(Some("28P01")), None);
        let usual = of_replication(Believed::Usual);
        assert!(usual.ends_with("-c local_preload_libraries=") && !usual.contains("transaction"));
        assert!(of_replication(Believed::Hasty).contains("-c transaction_timeout=0"));
    }
}
