use std::fmt::{self, Write};

use drctl_model::{SourceId, shown};

use crate::secret::SecretRef;
use crate::signers::TrustedKey;

/// The superuser of every cluster that nobody has named otherwise.
pub const SUPERUSER: &str = "postgres";

/// What `drctl init` knows when it writes a configuration.
///
/// The values are written as they are, escaped but unchecked: hand the text to
/// [`parse`](crate::parse) before it is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The name of this host.
    pub host: Option<String>,
    /// The repository's URL.
    pub url: String,
    /// Further keys of `[repository]`: endpoint, region, references to secrets.
    pub repository: Vec<(String, Setting)>,
    /// age recipients: the main and the offline recovery identity.
    pub recipients: Vec<String>,
    /// The key that signs manifests.
    pub signing_key: SecretRef,
    /// Whose signatures are accepted: the public half of it, and others.
    pub verifying_keys: Vec<TrustedKey>,
    /// The age identity, on a host that restores.
    pub identity: Option<SecretRef>,
    /// Catalog and locks.
    pub state_dir: String,
    /// Private short-lived files.
    pub runtime_dir: String,
    /// The first source.
    pub source: SourceTemplate,
}

/// The first source of a new configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceTemplate {
    /// Its name.
    pub id: SourceId,
    /// The name of its policy.
    pub policy: String,
    /// Host name, address, or directory of the socket.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// The role that connects.
    pub user: String,
    /// These databases; `None`: all.
    pub databases: Option<Vec<String>>,
    /// The role's password.
    pub password: Option<SecretRef>,
}

/// A value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// A string.
    Text(String),
    /// `true` or `false`.
    Flag(bool),
    /// A reference to a secret.
    Secret(SecretRef),
}

/// The text of a new `drctl.toml`, commented.
#[must_use]
pub fn template(values: &Template) -> String {
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = render(values, &mut out);
    out
}

fn render(values: &Template, out: &mut String) -> fmt::Result {
    out.write_str(
        "# The configuration of drctl. Check it after every change: drctl config check\n\
         # Secrets are never written here, only where they are: { file = \"/path\" },\n\
         # { env = \"NAME\" } or { credential = \"name\" } (systemd).\n\
         version = 1\n",
    )?;
    if let Some(host) = &values.host {
        writeln!(out, "host = {}", quote(host))?;
    }
    writeln!(out, "\n# Where backups are stored: file://, s3://, az:// or gs://.\n[repository]")?;
    writeln!(out, "url = {}", quote(&values.url))?;
    for (key, value) in &values.repository {
        writeln!(out, "{} = {}", key_text(key), setting(value))?;
    }
    render_keys(values, out)?;
    writeln!(out, "\n[paths]\n# Catalog and locks.")?;
    writeln!(out, "state_dir = {}", quote(&values.state_dir))?;
    writeln!(out, "# Private short-lived files; should be a tmpfs.")?;
    writeln!(out, "runtime_dir = {}", quote(&values.runtime_dir))?;
    render_source(&values.source, out)
}

fn render_keys(values: &Template, out: &mut String) -> fmt::Result {
    writeln!(out, "\n[keys]")?;
    writeln!(
        out,
        "# Who can read the backups. Keep the identity of one recipient offline: without an \
         identity\n# no backup can ever be opened."
    )?;
    writeln!(out, "recipients = {}", array(&values.recipients))?;
    writeln!(out, "# Signs the manifests of this host's backups.")?;
    writeln!(out, "signing_key = {}", reference(&values.signing_key))?;
    writeln!(out, "# Whose signatures are accepted, and of which sources.")?;
    writeln!(out, "verifying_keys = {}", signers(&values.verifying_keys))?;
    match &values.identity {
        Some(identity) => {
            writeln!(out, "# Opens the backups; needed to restore and to drill, not to back up.")?;
            writeln!(out, "identity = {}", reference(identity))
        }
        None => writeln!(out, "# To restore on this host: identity = {{ file = \"/path\" }}"),
    }
}

/// The lines of a configuration that add a source.
#[must_use]
pub fn source_lines(source: &SourceTemplate) -> String {
    let mut out = String::new();
    let _ = render_source(source, &mut out);
    out.trim_start_matches('\n').to_owned()
}

fn render_source(source: &SourceTemplate, out: &mut String) -> fmt::Result {
    writeln!(out, "\n# One table for each protected server.\n[sources.{}]", source.id)?;
    writeln!(out, "engine = \"pg_dump\"")?;
    writeln!(out, "# The file of that name in policies.d says when, and for how long.")?;
    writeln!(out, "policy = {}", quote(&source.policy))?;
    writeln!(out, "# A host name, an address, or the directory of a socket.")?;
    writeln!(out, "host = {}", quote(&source.host))?;
    writeln!(out, "port = {}", source.port)?;
    writeln!(out, "user = {}", quote(&source.user))?;
    if source.user != SUPERUSER {
        writeln!(out, "# Only a superuser can read passwords: roles come back without.")?;
        writeln!(out, "role_passwords = false")?;
    }
    match &source.databases {
        Some(databases) => writeln!(out, "databases = {}", array(databases))?,
        None => {
            writeln!(out, "# All databases that allow connections; or: databases = [\"NAME\"]")?;
        }
    }
    match &source.password {
        Some(password) => writeln!(out, "password = {}", reference(password)),
        None => writeln!(out, "# If the server asks for one: password = {{ file = \"/path\" }}"),
    }
}

pub(crate) fn setting(value: &Setting) -> String {
    match value {
        Setting::Text(text) => quote(text),
        Setting::Flag(flag) => flag.to_string(),
        Setting::Secret(secret) => reference(secret),
    }
}

fn reference(secret: &SecretRef) -> String {
    let (key, value) = match secret {
        SecretRef::File(path) => ("file", path.to_string_lossy()),
        SecretRef::Env(name) => ("env", name.into()),
        SecretRef::Credential(name) => ("credential", name.into()),
    };
    format!("{{ {key} = {} }}", quote(&value))
}

fn array(texts: &[String]) -> String {
    list(&texts.iter().map(|text| quote(text)).collect::<Vec<_>>())
}

fn list(entries: &[String]) -> String {
    match entries.join(", ") {
        line if line.len() <= 80 => format!("[{line}]"),
        _ => format!("[\n    {},\n]", entries.join(",\n    ")),
    }
}

/// `verifying_keys`, each with what it may speak for.
pub(crate) fn signers(keys: &[TrustedKey]) -> String {
    list(&keys.iter().map(signer).collect::<Vec<_>>())
}

fn signer(trusted: &TrustedKey) -> String {
    let words = |words: Vec<&str>| {
        let quoted: Vec<_> = words.into_iter().map(quote).collect();
        format!("[{}]", quoted.join(", "))
    };
    let mut members = vec![format!("key = {}", quote(&trusted.key))];
    members.extend(trusted.name.as_ref().map(|name| format!("name = {}", quote(name))));
    members.extend(trusted.sources.as_ref().map(|sources| {
        format!("sources = {}", words(sources.iter().map(SourceId::as_str).collect()))
    }));
    members.extend(trusted.roles.as_ref().map(|roles| {
        format!("roles = {}", words(roles.iter().map(|role| role.as_str()).collect()))
    }));
    match members.as_slice() {
        [_] => quote(&trusted.key),
        members => format!("{{ {} }}", members.join(", ")),
    }
}

pub(crate) fn key_text(key: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !key.is_empty() && key.bytes().all(bare) { key.to_owned() } else { quote(key) }
}

/// A TOML basic string.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if shown(c.encode_utf8(&mut [0; 4]), 1).chars().ne([c]) => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quoted_string_is_read_back(text in any::<String>()) {
            let line = format!("x = {}", quote(&text));
            let table = toml::de::DeTable::parse(&line).unwrap();
            prop_assert_eq!(table.get_ref()["x"].get_ref().as_str(), Some(text.as_str()));
        }
    }
}
