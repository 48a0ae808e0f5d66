use drctl_model::SourceId;

use crate::diagnostic::{Diagnostic, Report, SourceFile};
use crate::keys::{Key, Kind, REPOSITORY};
use crate::reader::Reader;
use crate::signers::{self, TrustedKey};
use crate::template::{Setting, key_text, setting, signers as rendered};

/// Where the part of a recovery kit begins that is a part of a configuration.
const BEGIN: &str = "[repository]";

/// Where it ends.
const END: &str = "# end of the configuration";

/// What a recovery kit says of its repository: how it is reached, which one it is, whom to believe.
///
/// Holds references to secrets, never a secret; the identity on the same sheet is no part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kit {
    /// The keys of `[repository]`.
    pub repository: Vec<(String, Setting)>,
    /// Whose signatures are accepted.
    pub verifying_keys: Vec<TrustedKey>,
}

impl Kit {
    /// The part of the sheet, as [`read_kit`] reads it and as a configuration holds it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("{BEGIN}\n");
        for (key, value) in &self.repository {
            out.push_str(&[&key_text(key), " = ", &setting(value), "\n"].concat());
        }
        out.push_str("\n[keys]\nverifying_keys = ");
        out.push_str(&rendered(&self.verifying_keys));
        out.push('\n');
        out.push_str(END);
        out
    }

    /// The text of a key of `[repository]`.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&Setting> {
        self.repository.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The source of the host that the sheet was made on.
    #[must_use]
    pub fn source(&self) -> Option<&SourceId> {
        self.verifying_keys.iter().find_map(|key| key.sources.as_ref()?.first())
    }
}

/// Reads a recovery kit, or says what is wrong with it; lines are those of the sheet.
///
/// # Errors
/// At least one [`Diagnostic`]: it is no kit, or a part of it was altered.
///
/// At least one diagnostic: it is no kit, or a part of it was altered.
pub fn read_kit(sheet: &SourceFile) -> Result<Kit, Vec<Diagnostic>> {
    let mut inside = false;
    // Lines outside of it become empty, so that places stay true; nothing secret is read.
    let lines = sheet.text.lines().map(|line| {
        let ends = line.trim() == END || line.starts_with("AGE-SECRET-KEY-");
        inside = (inside || line.trim() == BEGIN) && !ends;
        if inside { line } else { "" }
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let part = SourceFile { name: sheet.name.clone(), text };
    let report = Report::new(&part);
    let kit = crate::config::open(&report, |table| {
        let repository = table.get_ref().get("repository").and_then(|at| at.get_ref().as_table());
        let keys = table.get_ref().get("keys").and_then(|at| at.get_ref().as_table());
        let (Some(repository), Some(keys)) = (repository, keys) else {
            let advice = "name the kit that `drctl init` made with the repository";
            report.advise(&(0..0), "this is no recovery kit of a repository", advice);
            return None;
        };
        let repository = Reader::new(repository, 0..0, REPOSITORY, &report);
        let keys = Reader::new(keys, 0..0, crate::keys::KEYS, &report);
        let is_section = |key: &&Key| matches!(key.kind, Kind::Section(_));
        let settings = REPOSITORY.iter().filter(|key| !is_section(key) && repository.has(key.name));
        let settings = settings.filter_map(|key| value(&repository, key)).collect();
        Some(Kit { repository: settings, verifying_keys: signers::read(&keys)? })
    });
    let found = report.into_found();
    kit.filter(|_| found.is_empty()).ok_or(found)
}

fn value(reader: &Reader<'_>, key: &Key) -> Option<(String, Setting)> {
    let value = match key.kind {
        Kind::Flag => Setting::Flag(reader.flag(key.name)?),
        Kind::Secret => Setting::Secret(reader.secret(key.name)?),
        _ => Setting::Text(reader.text(key.name)?.value.to_owned()),
    };
    Some((key.name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use drctl_model::Role;

    use super::*;
    use crate::SecretRef;

    #[test]
    fn a_kit_is_read_back_from_its_sheet() {
        let key = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".to_owned();
        let kit = Kit {
            repository: vec![
                ("url".into(), Setting::Text("s3://bucket/a".into())),
                ("id".into(), Setting::Text("0".repeat(32))),
                ("endpoint".into(), Setting::Text("http://127.0.0.1:9000".into())),
                ("allow_http".into(), Setting::Flag(true)),
                ("access_key_id".into(), Setting::Secret(SecretRef::File("/k \"x".into()))),
            ],
            verifying_keys: vec![TrustedKey {
                key,
                name: Some("db1".into()),
                sources: Some(vec!["shop".parse().unwrap()]),
                roles: Some(vec![Role::Backup, Role::Log]),
            }],
        };
        let sheet = |text: String| SourceFile { name: "kit.txt".into(), text };
        let text = format!("drctl recovery kit\n= not [ TOML\n{}\nAGE-SECRET\n", kit.text());
        let mut sorted = kit.clone();
        sorted
            .repository
            .sort_by_key(|(name, _)| REPOSITORY.iter().position(|key| key.name == name));
        assert_eq!(read_kit(&sheet(text.clone())), Ok(sorted));
        assert_eq!(kit.source().map(SourceId::as_str), Some("shop"));
        let wrong = text.replace("allow_http = true", "allow_http = maybe");
        assert!(read_kit(&sheet(wrong)).unwrap_err()[0].to_string().starts_with("kit.txt:7:"));
        assert!(read_kit(&sheet("drctl recovery kit\n".into())).is_err());
    }
}
