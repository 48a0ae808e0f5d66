use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::Report;
use crate::reader::absolute;

/// Where a secret is to be found. The configuration never holds a secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretRef {
    /// In a file, by its absolute path; it should be readable for its owner only (mode 0600).
    File(PathBuf),
    /// In an environment variable of the agent.
    Env(String),
    /// In a systemd credential (`LoadCredential=`), by its name.
    Credential(String),
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretRef::File(path) => write!(f, "file {}", path.display()),
            SecretRef::Env(name) => write!(f, "environment variable {name}"),
            SecretRef::Credential(name) => write!(f, "systemd credential {name}"),
        }
    }
}

/// What to do about a secret in the configuration.
pub(crate) const ADVICE: &str =
    "put it into a file of mode 0600 and write { file = \"/path/to/the/file\" } in its place";

/// Reports a secret in the configuration itself, without showing it.
pub(crate) fn inline_secret(key: &str, span: &Range<usize>, report: &Report<'_>) {
    report.advise(span, format!("secret written inline in `{key}`"), ADVICE);
}

/// Reads a table that refers to a secret. What stands in it could be the secret itself, by
/// mistake: it is never shown.
pub(crate) fn reference(
    name: &str,
    table: &DeTable<'_>,
    span: &Range<usize>,
    report: &Report<'_>,
) -> Option<SecretRef> {
    let mut entries = table.iter();
    let (Some((kind, value)), None) = (entries.next(), entries.next()) else {
        bad_reference(name, span, report);
        return None;
    };
    let DeValue::String(text) = value.get_ref() else {
        bad_reference(name, span, report);
        return None;
    };
    let problem = match kind.get_ref().as_ref() {
        "file" => return absolute("file", text, &value.span(), report).map(SecretRef::File),
        "env" if is_variable(text) => return Some(SecretRef::Env(text.to_string())),
        "credential" if is_credential(text) => {
            return Some(SecretRef::Credential(text.to_string()));
        }
        "env" => "`env` must be the name of an environment variable: letters, digits and _",
        "credential" => "`credential` must be a name of letters, digits, `.`, `_` and -",
        _ => {
            bad_reference(name, &kind.span(), report);
            return None;
        }
    };
    report.error(&value.span(), problem);
    None
}

fn bad_reference(name: &str, span: &Range<usize>, report: &Report<'_>) {
    let message = format!(
        "`{name}` must be exactly one of {{ file = \"/path\" }}, {{ env = \"NAME\" }} and \
         {{ credential = \"name\" }}"
    );
    report.error(span, message);
}

/// Whether a key's name says that its value is a secret.
pub(crate) fn sounds_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["password", "passwd", "passphrase", "secret", "token"].iter().any(|word| key.contains(word))
}

/// A letter or `_`, then letters, digits and `_`.
pub(crate) fn is_variable(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=255).contains(&name.len())
        && name.bytes().all(word)
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// What systemd takes as a credential's name: a plain file name.
pub(crate) fn is_credential(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=255).contains(&name.len()) && name.bytes().all(word) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["AWS_ACCESS_KEY_ID", "_x", "a1"] {
            assert!(is_variable(good), "{good}");
        }
        for bad in ["", "1A", "A-B", "A B", "A=B", "Ä"] {
            assert!(!is_variable(bad), "{bad}");
        }
        for good in ["shop.password", "a-b_c", "1"] {
            assert!(is_credential(good), "{good}");
        }
        for bad in ["", "..", ".x", "a/b", "a b"] {
            assert!(!is_credential(bad), "{bad}");
        }
    }

    #[test]
    fn secretive_keys() {
        for key in ["password", "DB_Password", "pgpasswd", "client_secret", "api_token"] {
            assert!(sounds_secret(key), "{key}");
        }
        assert!(!sounds_secret("databases"));
    }
}
