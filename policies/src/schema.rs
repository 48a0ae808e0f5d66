use serde_json::{Map, Value, json};

use crate::keys::{Key, Kind, MAIN, POLICY};
use crate::units::{show_duration, show_size};

/// The configuration's form as JSON Schema (draft 2020-12), for editors: one schema with
/// `$defs/drctl` for the main file, `$defs/policy` for a policy file and `$defs/secret` for a
/// reference to a secret.
///
/// The root takes either kind of file. An editor can name one of them by the address of its
/// definition, for example `schema.json#/$defs/policy`. What a schema cannot say (bounds of
/// durations, a schedule's grammar, references between files) only the parser checks.
#[must_use]
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "drctl configuration",
        "anyOf": [{ "$ref": "#/$defs/drctl" }, { "$ref": "#/$defs/policy" }],
        "$defs": {
            "drctl": object(MAIN, "The main file, drctl.toml."),
            "policy": object(POLICY, "A policy file, policies.d/NAME.toml."),
            "secret": secret(),
        },
    })
}

fn object(keys: &[Key], about: &str) -> Value {
    let properties: Map<_, _> =
        keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<_> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    json!({
        "description": about,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn property(key: &Key) -> Value {
    let mut value = kind(key.kind, key.about);
    if let (Some(default), Some(object)) = (key.default, value.as_object_mut()) {
        let default = match key.kind {
            Kind::Flag | Kind::Number { .. } => {
                serde_json::from_str(default).unwrap_or(Value::Null)
            }
            _ => json!(default),
        };
        object.insert("default".to_owned(), default);
    }
    if key.name == "version" {
        value["const"] = json!(1);
    }
    value
}

fn kind(kind: Kind, about: &str) -> Value {
    match kind {
        Kind::Text => json!({ "description": about, "type": "string", "minLength": 1 }),
        Kind::Choice(values) => json!({ "description": about, "enum": values }),
        Kind::Flag => json!({ "description": about, "type": "boolean" }),
        Kind::Number { min, max } => {
            json!({ "description": about, "type": "integer", "minimum": min, "maximum": max })
        }
        Kind::Duration { min, max } => json!({
            "description": format!("{about} {} to {}.", show_duration(min), show_duration(max)),
            "type": "string",
            "pattern": "^([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$",
            "minLength": 2,
        }),
        Kind::Size { min, max } => json!({
            "description": format!("{about} {} to {}.", show_size(min), show_size(max)),
            "type": "string",
            "pattern": "^[0-9]+([KMG]i)?B$",
        }),
        Kind::Path => json!({ "description": about, "type": "string", "pattern": "^/" }),
        Kind::Secret => json!({ "description": about, "$ref": "#/$defs/secret" }),
        Kind::Texts => json!({
            "description": about,
            "type": "array",
            "items": { "type": "string", "minLength": 1 },
            "uniqueItems": true,
        }),
        Kind::Signers(keys) => json!({
            "description": about,
            "type": "array",
            "items": {
                "anyOf": [{ "type": "string", "minLength": 1 }, object(keys, "Whose key it is.")],
            },
        }),
        Kind::Section(keys) => object(keys, about),
        Kind::Named(keys) => json!({
            "description": about,
            "type": "object",
            "propertyNames": { "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" },
            "additionalProperties": object(keys, about),
        }),
    }
}

fn secret() -> Value {
    let one = |key: &str, about: &str, pattern: &str| {
        json!({
            "type": "object",
            "properties": { key: { "description": about, "type": "string", "pattern": pattern } },
            "required": [key],
            "additionalProperties": false,
        })
    };
    json!({
        "description": "Where a secret is to be found.",
        "oneOf": [
            one("file", "An absolute path; the file should have mode 0600.", "^/"),
            one("env", "An environment variable of the agent.", "^[A-Za-z_][A-Za-z0-9_]*$"),
            one("credential", "A systemd credential.", "^[A-Za-z0-9_-][A-Za-z0-9._-]*$"),
        ],
    })
}
