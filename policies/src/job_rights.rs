//! What root lets drctl ask of the helper of another account: `/etc/drctl-job/ACCOUNT.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use drctl_model::is_stanza;

use crate::agent::read_name;
use crate::config::open;
use crate::diagnostic::{Diagnostic, Report, SourceFile, did_you_mean, show};
use crate::keys::Kind::{Named, Path, Text, Texts};
use crate::keys::{Key, number};
use crate::reader::Reader;

/// The version of this file's form that is read.
const VERSION: u64 = 1;

static RIGHTS: &[Key] = &[
    Key::required("version", number(0, i64::MAX as u64), "The version of this file's format: 1."),
    Key::with_default("agent", Text, "drctl", "The account that may ask, beside root."),
    Key::optional("pgbackrest", Named(STANZA), "Stanzas of pgBackRest, by name."),
];

static STANZA: &[Key] = &[
    Key::required("may", Texts, "what may be asked for: look, backup, wal, stanza"),
    Key::optional("config", Path, "pgBackRest's configuration file; default: its own default."),
    Key::with_default("program", Path, "/usr/bin/pgbackrest", "The program."),
];

/// What may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum May {
    /// To look at the stanza, and to have all of it verified.
    Look,
    /// To back up, and to expire by pgBackRest's own retention.
    Backup,
    /// To read its WAL, which holds data.
    Wal,
    /// To create, to upgrade and to check it.
    Stanza,
}

impl May {
    /// Each with its word.
    const ALL: [(&'static str, May); 4] =
        [("look", May::Look), ("backup", May::Backup), ("wal", May::Wal), ("stanza", May::Stanza)];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        May::ALL.iter().find(|(_, may)| *may == self).map_or("", |(word, _)| word)
    }
}

/// What the helper of an account may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRights {
    /// The account that may ask, beside root.
    pub agent: String,
    /// The stanzas of pgBackRest, by name.
    pub pgbackrest: BTreeMap<String, StanzaRights>,
}

/// What may be asked for of a stanza, and with what it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StanzaRights {
    /// What may be asked for.
    pub may: BTreeSet<May>,
    /// pgBackRest's configuration file; `None`: where it looks by itself.
    pub config: Option<PathBuf>,
    /// The program.
    pub program: PathBuf,
}

/// Reads such a file, or says everything that is wrong with it.
///
/// # Errors
/// At least one [`Diagnostic`], from top to bottom.
pub fn parse_job_rights(file: &SourceFile) -> Result<JobRights, Vec<Diagnostic>> {
    let report = Report::new(file);
    let rights = open(&report, |table| {
        let reader = Reader::new(table.get_ref(), table.span(), RIGHTS, &report);
        read(&reader)
    });
    let found = report.into_found();
    match rights {
        Some(rights) if found.is_empty() => Ok(rights),
        _ => Err(found),
    }
}

fn read(reader: &Reader<'_>) -> Option<JobRights> {
    let version = reader.number::<u64>("version");
    if let Some(version) = version.filter(|version| *version != VERSION) {
        let message = format!("version {version} of this file is not known");
        reader.report.advise(&reader.span_of("version"), message, "write version = 1");
    }
    let agent = read_name(reader, "agent", "passwd");
    let mut pgbackrest = BTreeMap::new();
    for (name, (span, at)) in reader.named("pgbackrest") {
        if !is_stanza(name) {
            let message = format!("`{}` is no name of a stanza", show(name));
            reader.report.error(&span, message);
        }
        let (may, config, program) = (read_may(&at), at.path("config"), at.path("program"));
        if let (Some(may), Some(program)) = (may, program) {
            pgbackrest.insert(name.to_owned(), StanzaRights { may, config, program });
        }
    }
    version.and(Some(JobRights { agent: agent?, pgbackrest }))
}

fn read_may(reader: &Reader<'_>) -> Option<BTreeSet<May>> {
    let mut found = BTreeSet::new();
    for text in reader.texts("may")? {
        match May::ALL.iter().find(|(word, _)| *word == text.value) {
            Some((_, may)) => drop(found.insert(*may)),
            None => {
                let message = format!("`{}` is nothing that may be asked for", show(text.value));
                let words = May::ALL.map(|(word, _)| word);
                let advice = did_you_mean(text.value, words)
                    .unwrap_or_else(|| format!("write some of {}", words.join(", ")));
                reader.report.advise(&text.span, message, advice);
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<JobRights, Vec<String>> {
        let file = SourceFile { name: "postgres.toml".to_owned(), text: text.to_owned() };
        let told = |found: Vec<Diagnostic>| found.iter().map(ToString::to_string).collect();
        parse_job_rights(&file).map_err(told)
    }

    #[test]
    fn only_what_root_wrote_may_be_asked_for() {
        let rights = read(
            "version = 1\n[pgbackrest.main]\nmay = [\"look\", \"backup\"]\n\
             [pgbackrest.\"a.b\"]\nmay = []\nconfig = \"/srv/x.conf\"\nprogram = \"/opt/pgbackrest\"\n",
        )
        .unwrap();
        assert_eq!(rights.agent, "drctl");
        let main = &rights.pgbackrest["main"];
        assert_eq!(main.may, BTreeSet::from([May::Look, May::Backup]));
        assert_eq!(
            (main.config.clone(), main.program.clone()),
            (None, "/usr/bin/pgbackrest".into())
        );
        let other = &rights.pgbackrest["a.b"];
        assert!(other.may.is_empty(), "nothing is allowed that is not written");
        assert_eq!(other.config, Some("/srv/x.conf".into()));
        assert!(read("version = 1\nagent = \"backup\"\n").unwrap().pgbackrest.is_empty());
        assert_eq!(May::ALL.map(|(_, may)| may.as_str()), ["look", "backup", "wal", "stanza"]);
    }

    #[test]
    fn a_mistake_in_it_allows_nothing() {
        for (text, wrong) in [
            ("", "1:1: missing key `version`"),
            ("version = 2\n", "1:11: version 2 of this file is not known"),
            ("version = 1\n[pgbackrest.main]\n", "missing key `may`"),
            ("version = 1\n[pgbackrest.main]\nmay = [\"bakup\"]\n", "did you mean `backup`?"),
            ("version = 1\n[pgbackrest.main]\nmay = [\"restore\"]\n", "nothing that may be asked"),
            ("version = 1\n[pgbackrest.main]\nmay = []\nenv = \"x\"\n", "unknown key `env`"),
            (
                "version = 1\n[pgbackrest.main]\nmay = []\nprogram = \"x\"\n",
                "must be an absolute path",
            ),
            ("version = 1\n[pgbackrest.\"../x\"]\nmay = []\n", "`../x` is no name of a stanza"),
            ("version = 1\nagent = \"a b\"\n", "`a b` is no name of an account"),
            ("version = 1\n[shell]\n", "unknown key `shell`"),
            ("version\n", "not TOML"),
        ] {
            let found = read(text).unwrap_err();
            assert!(found.iter().any(|one| one.contains(wrong)), "{text}: {found:?}");
        }
    }
}
