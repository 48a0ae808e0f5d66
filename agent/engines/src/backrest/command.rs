//! All that drctl starts pgBackRest for, but for restores: a closed list, in this process and for a
//! helper of another account alike.

use drctl_model::{ExternalType, is_stanza, label_type, shown};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ANNOTATION, Cluster};
use crate::common::EngineError;

/// The longest annotation, in bytes.
const LONGEST_NOTE: usize = 64;

/// The longest name of a file of the WAL, in bytes.
const LONGEST_NAME: usize = 64;

/// What pgBackRest is started for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Which version it is.
    Version {},
    /// What the repository holds of the stanza; with a label more of that backup.
    Info {
        /// The backup.
        set: Option<String>,
    },
    /// All that lies in the stanza's archive.
    ListArchive {},
    /// What lies in the directory of the stanza's backups, or of one of them.
    ListBackups {
        /// The backup.
        label: Option<String>,
    },
    /// Read what the repository holds, and tell what is wrong with it.
    Verify {
        /// One backup alone.
        set: Option<String>,
    },
    /// Make a backup. Nothing expires.
    Backup {
        /// How much it holds itself.
        kind: ExternalType,
        /// By what it is known as one of drctl's.
        annotation: String,
    },
    /// Remove what has expired by pgBackRest's own retention.
    Expire {},
    /// Have the server archive a segment.
    Check {},
    /// Create the stanza.
    StanzaCreate {},
    /// Tell the repositories that the cluster was upgraded or replaced.
    StanzaUpgrade {},
    /// One file of the WAL out of the archive.
    ArchiveGet {
        /// Its name.
        name: String,
        /// Whose WAL it is, by system identifier and version; without it that of the cluster that
        /// pgBackRest's configuration names.
        cluster: Option<(u64, String)>,
    },
}

/// What a command is for: what may be allowed, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To look at the stanza; changes nothing, and tells nothing of the data but names and sizes.
    Look,
    /// To back up and to expire.
    Backup,
    /// To read the WAL, which holds data.
    Wal,
    /// To set the stanza up.
    Stanza,
}

/// What a helper is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The stanza.
    pub stanza: String,
    /// The repository's number in pgBackRest's configuration.
    pub repo: u32,
    /// What is to be done.
    pub run: Command,
}

impl Asked {
    /// As it is asked for.
    pub(super) fn job(&self) -> Value {
        json!({ "pgbackrest": self })
    }

    /// Whether each of its texts is what it has to be: they go into arguments.
    ///
    /// # Errors
    /// [`EngineError::Config`].
    pub fn check(&self) -> Result<(), EngineError> {
        let wrong = |what: &str, text: &str| {
            Err(EngineError::Config(format!("`{}` is no {what}", shown(text, 60))))
        };
        if !is_stanza(&self.stanza) {
            return wrong("name of a stanza", &self.stanza);
        }
        if !(1..=256).contains(&self.repo) {
            return wrong("number of a repository", &self.repo.to_string());
        }
        match &self.run {
            Command::Info { set: Some(label) }
            | Command::ListBackups { label: Some(label) }
            | Command::Verify { set: Some(label) } => {
                label_type(label).map(drop).or_else(|_| wrong("label of a backup", label))
            }
            Command::Backup { annotation, .. } if !is_word(annotation, LONGEST_NOTE, b'-') => {
                wrong("annotation", annotation)
            }
            Command::ArchiveGet { name, .. } if !is_word(name, LONGEST_NAME, b'.') => {
                wrong("name of a WAL file", name)
            }
            Command::ArchiveGet { cluster: Some((_, version)), .. }
                if !is_word(version, LONGEST_NAME, b'.') =>
            {
                wrong("version of PostgreSQL", version)
            }
            _ => Ok(()),
        }
    }
}

/// Letters, digits and one sign more, beginning with a letter or digit.
fn is_word(text: &str, longest: usize, sign: u8) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == sign;
    first && text.len() <= longest && text.bytes().all(word)
}

impl Command {
    /// What pgBackRest calls it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Command::Version {} => "version",
            Command::Info { .. } => "info",
            Command::ListArchive {} | Command::ListBackups { .. } => "repo-ls",
            Command::Verify { .. } => "verify",
            Command::Backup { .. } => "backup",
            Command::Expire {} => "expire",
            Command::Check {} => "check",
            Command::StanzaCreate {} => "stanza-create",
            Command::StanzaUpgrade {} => "stanza-upgrade",
            Command::ArchiveGet { .. } => "archive-get",
        }
    }

    /// What it is for.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        match self {
            Command::Version {}
            | Command::Info { .. }
            | Command::ListArchive {}
            | Command::ListBackups { .. }
            | Command::Verify { .. } => Purpose::Look,
            Command::Backup { .. } | Command::Expire {} => Purpose::Backup,
            Command::ArchiveGet { .. } => Purpose::Wal,
            Command::Check {} | Command::StanzaCreate {} | Command::StanzaUpgrade {} => {
                Purpose::Stanza
            }
        }
    }

    /// Whether it works in one repository; otherwise it is about all of them.
    pub(super) fn is_of_one(&self) -> bool {
        self.purpose() != Purpose::Stanza
    }

    /// The options that are its own.
    pub(super) fn options(&self, stanza: &str) -> Vec<String> {
        let quiet = ["--log-level-console=off", "--log-level-stderr=warn"];
        let mut options: Vec<String> = match self {
            Command::Backup { .. } => Vec::new(),
            _ => quiet.map(str::to_owned).to_vec(),
        };
        // What changes nothing leaves no file of its log either.
        if matches!(self.purpose(), Purpose::Look | Purpose::Wal) {
            options.push("--log-level-file=off".to_owned());
        }
        match self {
            Command::Info { set } => {
                options.push("--output=json".to_owned());
                options.extend(set.as_ref().map(|label| format!("--set={label}")));
            }
            Command::ListArchive {} => {
                options.extend(["--output=json", "--recurse"].map(str::to_owned));
                options.push(format!("archive/{stanza}"));
            }
            Command::ListBackups { label } => {
                options.push("--output=json".to_owned());
                let below = label.as_ref().map_or(String::new(), |label| format!("/{label}"));
                options.push(format!("backup/{stanza}{below}"));
            }
            Command::Verify { set } => {
                options.extend(["--output=text", "--verbose"].map(str::to_owned));
                options.extend(set.as_ref().map(|label| format!("--set={label}")));
            }
            Command::Backup { kind, annotation } => {
                let kind = match kind {
                    ExternalType::Full => "full",
                    ExternalType::Differential => "diff",
                    ExternalType::Incremental => "incr",
                };
                options.push(format!("--type={kind}"));
                options.push(format!("--annotation={ANNOTATION}={annotation}"));
                let rest =
                    ["--no-expire-auto", "--log-level-console=detail", "--log-level-stderr=warn"];
                options.extend(rest.map(str::to_owned));
            }
            Command::ArchiveGet { .. } => options.push("--no-archive-async".to_owned()),
            Command::Version {}
            | Command::Expire {}
            | Command::Check {}
            | Command::StanzaCreate {}
            | Command::StanzaUpgrade {} => {}
        }
        options
    }
}

/// A cluster of which no more is known than whose WAL it has.
pub(super) fn cluster_of((system_id, version): &(u64, String)) -> Cluster {
    Cluster { id: 0, system_id: *system_id, version: version.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(run: Command) -> Asked {
        Asked { stanza: "shop".to_owned(), repo: 1, run }
    }

    fn read(text: &str) -> Result<Asked, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn what_is_no_command_of_the_list_is_not_read() {
        let request = |run: &str| format!(r#"{{"stanza":"shop","repo":1,"run":{run}}}"#);
        for good in [
            r#"{"version":{}}"#,
            r#"{"info":{}}"#,
            r#"{"backup":{"kind":"full","annotation":"20260301T011240Z-0123456789abcdef"}}"#,
            r#"{"archive_get":{"name":"00000002.history","cluster":[7,"15"]}}"#,
        ] {
            read(&request(good)).unwrap().check().unwrap();
        }
        for bad in [
            r#"{"restore":{"set":"latest"}}"#,
            r#"{"repo_get":{"file":"backup.info"}}"#,
            r#"{"version":{"config":"/x"}}"#,
            r#"{"expire":{"set":"20260301-011240F"}}"#,
            r#"{"info":{"set":null,"config":"/etc/shadow"}}"#,
            r#"{"backup":{"kind":"full","annotation":"a","pg1_path":"/x"}}"#,
            r#"{"backup":{"kind":"--repo1-path=/x","annotation":"a"}}"#,
            r#"{"archive_get":{"name":"a","to":"/x"}}"#,
            r#""version""#,
        ] {
            assert!(read(&request(bad)).is_err(), "{bad}");
        }
        let more = r#"{"stanza":"shop","repo":1,"run":{"version":{}},"env":{"PGHOST":"x"}}"#;
        assert!(read(more).is_err());
    }

    #[test]
    fn no_text_of_a_request_becomes_an_option_or_leads_elsewhere() {
        let evil = ["", "-", "--config=/x", "../../x", "a/b", "a b", "a=b", "a\n--x", "/etc/x"];
        for text in evil.map(str::to_owned) {
            let set = Some(text.clone());
            let commands = [
                Command::Info { set: set.clone() },
                Command::ListBackups { label: set.clone() },
                Command::Verify { set },
                Command::Backup { kind: ExternalType::Full, annotation: text.clone() },
                Command::ArchiveGet { name: text.clone(), cluster: None },
                Command::ArchiveGet { name: "a".to_owned(), cluster: Some((1, text.clone())) },
            ];
            for run in commands {
                assert!(asked(run.clone()).check().is_err(), "{run:?}");
            }
            let of = Asked { stanza: text.clone(), repo: 1, run: Command::Expire {} };
            assert!(of.check().is_err(), "{text:?}");
        }
        for repo in [0, 257] {
            assert!(Asked { repo, ..asked(Command::Expire {}) }.check().is_err());
        }
        let long = "a".repeat(LONGEST_NOTE + 1);
        let noted = Command::Backup { kind: ExternalType::Full, annotation: long };
        assert!(asked(noted).check().is_err());
    }

    #[test]
    fn each_command_has_its_options_and_no_other_place_than_the_stanzas() {
        let options = |run: Command| run.options("shop").join(" ");
        let label = || Some("20260301-011240F".to_owned());
        let quiet = "--log-level-console=off --log-level-stderr=warn";
        for (run, rest) in [
            (Command::Info { set: None }, " --log-level-file=off --output=json"),
            (Command::ListArchive {}, " --log-level-file=off --output=json --recurse archive/shop"),
            (
                Command::ListBackups { label: label() },
                " --log-level-file=off --output=json backup/shop/20260301-011240F",
            ),
            (Command::Expire {}, ""),
            (Command::Check {}, ""),
        ] {
            assert_eq!(options(run), format!("{quiet}{rest}"));
        }
        let annotation = "job-1".to_owned();
        let made = options(Command::Backup { kind: ExternalType::Incremental, annotation });
        assert!(
            made.starts_with("--type=incr --annotation=drctl=job-1 --no-expire-auto"),
            "{made}"
        );
        assert!(!Command::Check {}.is_of_one() && Command::Expire {}.is_of_one());
    }
}
