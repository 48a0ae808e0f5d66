//! pgBackRest: `engine = "pgbackrest"`.

use std::path::PathBuf;
use std::time::Duration;

use drctl_model::is_stanza;
use serde::Serialize;

use super::log::{LOG, LogSettings, read_log};
use super::pg::{SERVER, Server, read_server};
use super::{Engine, FULL_EVERY, Method, Settings, is_engine};
use crate::agent::read_name;
use crate::diagnostic::show;
use crate::keys::Kind::{Path, Secret, Text};
use crate::keys::{DAY, HOUR, Key, duration, number};
use crate::reader::Reader;
use crate::secret::SecretRef;
use crate::units::{as_optional_seconds, as_seconds, show_duration};

/// All files of a cluster, into a repository of its own.
pub(super) const METHOD: Method = Method {
    name: "pgbackrest",
    keys: &[SERVER, LOG, KEYS],
    read: |reader| read(reader).map(Engine::Pgbackrest),
};

const KEYS: &[Key] = &[
    FULL_EVERY,
    Key::optional("stanza", Text, "pgbackrest: its name for the cluster; required with it."),
    Key::with_default("repo", number(1, 256), "1", "pgbackrest: the repository's number."),
    Key::optional(
        "pgbackrest_config",
        Path,
        "pgbackrest: its configuration file; default: its own default.",
    ),
    Key::optional("pgbackrest_bin", Path, "pgbackrest: the program; default: on the path."),
    Key::optional(
        "cipher_pass",
        Secret,
        "pgbackrest: the repository's passphrase, if its configuration does not hold it.",
    ),
    Key::optional(
        "run_as",
        Text,
        "pgbackrest: the account whose helper runs pgBackRest; default: drctl itself does.",
    ),
    Key::optional(
        "differential_every",
        duration(HOUR, 3_650 * DAY),
        "pgbackrest: how old the last full or differential backup may be before the next \
         differential one; default: none is made.",
    ),
];

/// A PostgreSQL cluster that pgBackRest backs up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pgbackrest {
    /// The server, asked about its cluster and its log.
    #[serde(flatten)]
    pub server: Server,
    /// How its log comes into drctl's own bucket, beside pgBackRest's archive.
    #[serde(flatten)]
    pub log: LogSettings,
    /// What pgBackRest calls the cluster.
    pub stanza: String,
    /// The repository's number in pgBackRest's configuration. 1 to 256.
    pub repo: u32,
    /// pgBackRest's configuration file; `None`: where it looks by itself.
    #[serde(rename = "pgbackrest_config")]
    pub config: Option<PathBuf>,
    /// The program; `None`: on the path.
    #[serde(rename = "pgbackrest_bin")]
    pub bin: Option<PathBuf>,
    /// The repository's passphrase, where pgBackRest's configuration does not hold it.
    pub cipher_pass: Option<SecretRef>,
    /// The account whose helper runs pgBackRest; `None`: drctl itself does.
    pub run_as: Option<String>,
    /// How old a full backup may be before the next one is made. 1 hour to 3 650 days.
    #[serde(rename = "full_every_seconds", serialize_with = "as_seconds")]
    pub full_every: Duration,
    /// How old the last full or differential backup may be before the next differential one is
    /// made; `None`: none is. 1 hour to 3 650 days, less than `full_every`.
    #[serde(rename = "differential_every_seconds", serialize_with = "as_optional_seconds")]
    pub differential_every: Option<Duration>,
}

impl Settings for Pgbackrest {
    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }

    fn log(&self) -> Option<&LogSettings> {
        Some(&self.log)
    }

    fn secrets(&self) -> Vec<(&'static str, &SecretRef)> {
        let pass = self.cipher_pass.iter().map(|pass| ("cipher_pass", pass));
        self.server.secrets().chain(pass).collect()
    }
}

fn read(reader: &Reader<'_>) -> Option<Pgbackrest> {
    let (server, log) = (read_server(reader), read_log(reader));
    let ours = is_engine(reader, METHOD.name);
    let (stanza, repo) = (reader.text("stanza"), reader.number("repo"));
    let (config, bin) = (reader.path("pgbackrest_config"), reader.path("pgbackrest_bin"));
    let cipher_pass = reader.secret("cipher_pass");
    let run_as = read_run_as(reader);
    let full_every = reader.duration("full_every");
    let differential_every = reader.duration("differential_every");
    if ours && !reader.has("stanza") {
        let advice = "write the name under which pgBackRest knows the cluster";
        reader.report.advise(&reader.span, "missing key `stanza`", advice);
    }
    let stanza = stanza.filter(|text| {
        let good = is_stanza(text.value);
        if !good {
            let message = format!("`{}` is no name of a stanza", show(text.value));
            let advice = "1 to 63 of letters, digits, -, _ and ., beginning with a letter or digit";
            reader.report.advise(&text.span, message, advice);
        }
        good
    });
    if let (true, Some(full), Some(differential)) = (ours, full_every, differential_every)
        && differential >= full
    {
        let every = show_duration(full.as_secs());
        let message =
            format!("`differential_every` has no effect: a full backup comes every {every}");
        let advice = "make it shorter than `full_every`, or remove it";
        reader.report.advise(&reader.span_of_key("differential_every"), message, advice);
    }
    Some(Pgbackrest {
        server: server?,
        log: log?,
        stanza: stanza?.value.to_owned(),
        repo: repo?,
        config,
        bin,
        cipher_pass,
        run_as,
        full_every: full_every?,
        differential_every,
    })
}

/// The account whose helper runs pgBackRest. With what that runs it, root's file says.
fn read_run_as(reader: &Reader<'_>) -> Option<String> {
    let account = reader.has("run_as").then(|| read_name(reader, "run_as", "passwd")).flatten()?;
    if account == "root" {
        let advice = "name the account that the server runs as, often postgres";
        reader.report.advise(&reader.span_of("run_as"), "`run_as` may not be root", advice);
    }
    for key in ["pgbackrest_config", "pgbackrest_bin", "cipher_pass"] {
        if is_engine(reader, METHOD.name) && reader.has(key) {
            let message = format!("`{key}` has no effect with `run_as`");
            let advice = match key {
                "cipher_pass" => {
                    "write repo1-cipher-pass into pgBackRest's configuration".to_owned()
                }
                _ => format!("remove it; /etc/drctl-job/{account}.toml says which"),
            };
            reader.report.advise(&reader.span_of_key(key), message, advice);
        }
    }
    Some(account)
}
