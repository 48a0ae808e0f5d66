use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drctl_model::{Role, SourceId};
use serde::Serialize;

use crate::diagnostic::{did_you_mean, show};
use crate::reader::{Reader, Text};

/// A key whose signatures are accepted, and of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrustedKey {
    /// `ed25519:` and 32 bytes in base64.
    pub key: String,
    /// Whose it is, for people.
    pub name: Option<String>,
    /// The sources that it speaks for; none named: all.
    pub sources: Option<Vec<SourceId>>,
    /// What it may sign of them; none named: all of it.
    pub roles: Option<Vec<Role>>,
}

/// Reads `verifying_keys`.
pub(crate) fn read(reader: &Reader<'_>) -> Option<Vec<TrustedKey>> {
    let entries = reader.signers("verifying_keys")?;
    if entries.is_empty() {
        let advice = "without one no manifest can be trusted";
        let span = reader.span_of("verifying_keys");
        reader.report.advise(&span, "`verifying_keys` is empty", advice);
    }
    let mut seen = BTreeSet::new();
    let mut keys = Vec::new();
    for entry in &entries {
        let (text, bound) = match entry {
            Ok(table) => (table.text("key"), Some(table)),
            Err(text) => (Some(Text { value: text.value, span: text.span.clone() }), None),
        };
        let Some(text) = text else { continue };
        check(reader, &text);
        if !seen.insert(text.value.to_owned()) {
            let message = "`verifying_keys` holds the same key twice";
            reader.report.error(&text.span, message);
        }
        keys.push(TrustedKey {
            key: text.value.to_owned(),
            name: bound.and_then(|at| at.text("name")).map(|name| name.value.to_owned()),
            sources: bound.and_then(sources),
            roles: bound.and_then(roles),
        });
    }
    Some(keys)
}

fn check(reader: &Reader<'_>, text: &Text<'_>) {
    let bytes = text.value.strip_prefix("ed25519:").and_then(|key| STANDARD.decode(key).ok());
    if bytes.is_none_or(|bytes| bytes.len() != 32) {
        reader.report.advise(
            &text.span,
            "this is no verifying key",
            "write `ed25519:` and 32 bytes in base64 (44 characters)",
        );
    }
}

fn sources(table: &Reader<'_>) -> Option<Vec<SourceId>> {
    let mut found = Vec::new();
    for text in table.texts("sources")? {
        match text.value.parse() {
            Ok(source) => found.push(source),
            Err(error) => {
                let error: drctl_model::IdError = error;
                table.report.error(&text.span, error.to_string());
            }
        }
    }
    Some(found)
}

fn roles(table: &Reader<'_>) -> Option<Vec<Role>> {
    let mut found = Vec::new();
    for text in table.texts("roles")? {
        match Role::ALL.into_iter().find(|role| role.as_str() == text.value) {
            Some(role) => found.push(role),
            None => {
                let words = Role::ALL.map(Role::as_str);
                let advice = did_you_mean(text.value, words)
                    .unwrap_or_else(|| format!("write one of {}", words.join(", ")));
                let message = format!("`{}` is no role of a key", show(text.value));
                table.report.advise(&text.span, message, advice);
            }
        }
    }
    Some(found)
}
