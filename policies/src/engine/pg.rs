//! PostgreSQL: `engine = "pg_dump"` and `engine = "base_backup"`.

use std::collections::BTreeSet;
use std::path::{self, PathBuf};
use std::time::Duration;

use drctl_model::SslMode;
use serde::{Serialize, Serializer};

use super::log::{LOG, LogSettings, read_log};
use super::{Engine, FULL_EVERY, Method, Settings, is_engine};
use crate::diagnostic::show;
use crate::keys::Kind::{Choice, Flag, Path, Secret, Text, Texts};
use crate::keys::{HOUR, Key, Kind, duration, number};
use crate::reader::{self, Reader};
use crate::secret::SecretRef;
use crate::units::as_seconds;

/// Databases, dumped one by one.
pub(super) const DUMP: Method = Method {
    name: "pg_dump",
    keys: &[SERVER, DUMP_KEYS],
    read: |reader| read_pg_dump(reader).map(Engine::PgDump),
};

/// All files of a cluster.
pub(super) const BASE_BACKUP: Method = Method {
    name: "base_backup",
    keys: &[SERVER, LOG, BASE_KEYS],
    read: |reader| read_base(reader).map(Engine::BaseBackup),
};

/// How any of PostgreSQL's servers is reached.
pub(super) const SERVER: &[Key] = &[
    Key::with_default(
        "host",
        Text,
        "/var/run/postgresql",
        "A host name, an address, or the directory of a socket.",
    ),
    Key::with_default("port", number(1, 65_535), "5432", "The server's port."),
    Key::with_default("user", Text, "drctl", "The role that connects."),
    Key::with_default(
        "maintenance_database",
        Text,
        "postgres",
        "The database to connect to for questions about the server.",
    ),
    Key::optional("password", Secret, "The role's password."),
    Key::with_default(
        "sslmode",
        Choice(SslMode::WORDS),
        "verify-full",
        "As in libpq; without effect on a socket.",
    ),
    Key::optional("ssl_root_cert", Path, "Certificates that vouch for the server (PEM)."),
    Key::optional(
        "require_peer",
        Text,
        "As in libpq: the account that the server behind a socket runs as.",
    ),
    Key::optional(
        "bin_dir",
        Path,
        "Where PostgreSQL's programs are, if they are not in the default places.",
    ),
    Key::with_default(
        "silence",
        duration(1, 24 * HOUR),
        "1h",
        "How long drctl waits for a server or a tool that says nothing.",
    ),
];

const DUMP_KEYS: &[Key] = &[
    Key::optional(
        "databases",
        Texts,
        "The databases to back up; default: all that allow connections.",
    ),
    Key::optional("exclude_databases", Texts, "All but these; not together with databases."),
    Key::with_default("globals", Flag, "true", "Back up roles and tablespaces too."),
    Key::with_default(
        "role_passwords",
        Flag,
        "true",
        "Back up the passwords of roles too, which only a superuser can.",
    ),
    Key::with_default(
        "lock_timeout",
        duration(1, HOUR),
        "30s",
        "How long one attempt waits for the tables' locks.",
    ),
    Key::with_default("lock_attempts", number(1, 100), "5", "Attempts to get the tables' locks."),
];

const BASE_KEYS: &[Key] = &[
    Key::with_default(
        "checkpoint",
        Choice(&["fast", "spread"]),
        "spread",
        "base_backup: whether the checkpoint before it is done at once or spread over time.",
    ),
    Key::optional(
        "max_rate",
        Kind::Size { min: 32 << 10, max: 1 << 30 },
        "base_backup: the most bytes a second that the server sends; default: no limit.",
    ),
    Key::with_default(
        "incremental",
        Flag,
        "false",
        "base_backup: back up only what has changed since the backup before; PostgreSQL 17 or \
         later.",
    ),
    FULL_EVERY,
];

/// How a PostgreSQL server is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Server {
    /// A host name, an address, or the directory of a socket.
    pub host: String,
    /// 1 to 65 535.
    pub port: u16,
    /// The role that connects.
    pub user: String,
    /// The database to connect to for questions about the server.
    pub maintenance_database: String,
    /// The role's password.
    pub password: Option<SecretRef>,
    /// How the connection is secured.
    pub sslmode: SslMode,
    /// Certificates that vouch for the server (PEM).
    pub ssl_root_cert: Option<PathBuf>,
    /// The account that the server behind a socket runs as.
    pub require_peer: Option<String>,
    /// Where the client tools are.
    pub bin_dir: Option<PathBuf>,
    /// How long server or tool may say nothing while something is awaited.
    #[serde(rename = "silence_seconds", serialize_with = "as_seconds")]
    pub silence: Duration,
}

impl Settings for PgDump {
    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }
}

impl Settings for BaseBackup {
    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }

    fn log(&self) -> Option<&LogSettings> {
        Some(&self.log)
    }
}

impl Server {
    /// The secrets that reaching it takes, by their keys.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (&'static str, &SecretRef)> {
        self.password.iter().map(|password| ("password", password))
    }

    /// The directory of its socket, where nobody is named as the account that must listen there.
    #[must_use]
    pub fn unnamed_socket(&self) -> Option<&path::Path> {
        let is_socket = self.host.starts_with('/') && self.require_peer.is_none();
        is_socket.then(|| path::Path::new(&self.host))
    }

    /// What a weaker `sslmode` than `verify-full` costs, where it is in force.
    #[must_use]
    pub fn ssl_cost(&self) -> Option<&'static str> {
        if self.host.starts_with('/') {
            return None;
        }
        match self.sslmode {
            SslMode::VerifyFull => None,
            SslMode::VerifyCa => {
                Some("any server with a certificate of the same authority can pose as this one")
            }
            SslMode::Require if self.ssl_root_cert.is_some() => {
                Some("any server with a certificate of the same authority can pose as this one")
            }
            SslMode::Require => {
                Some("whoever stands between can pose as the server, and read and alter the data")
            }
            SslMode::Prefer | SslMode::Disable => {
                Some("whoever stands between can read and alter the data, in clear text")
            }
        }
    }
}

/// A PostgreSQL cluster, copied file by file while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BaseBackup {
    /// The server, to which the role connects for replication.
    #[serde(flatten)]
    pub server: Server,
    /// How its log comes into the bucket.
    #[serde(flatten)]
    pub log: LogSettings,
    /// Whether the checkpoint before the backup is done at once (`fast`) or spread over time.
    #[serde(rename = "checkpoint", serialize_with = "checkpoint")]
    pub fast_checkpoint: bool,
    /// The most bytes a second that the server sends: 32 KiB to 1 GiB.
    pub max_rate_bytes: Option<u64>,
    /// Whether only what has changed since the backup before is sent, where that is possible.
    pub incremental: bool,
    /// How old a full backup may be before the next one is made. 1 hour to 3 650 days.
    #[serde(rename = "full_every_seconds", serialize_with = "as_seconds")]
    pub full_every: Duration,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn checkpoint<S: Serializer>(fast: &bool, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(if *fast { "fast" } else { "spread" })
}

/// A PostgreSQL server, dumped database by database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PgDump {
    /// The server.
    #[serde(flatten)]
    pub server: Server,
    /// These databases; `None`: all that allow connections. Never empty, no duplicates.
    pub databases: Option<Vec<String>>,
    /// All but these. Empty when `databases` is given.
    pub exclude_databases: Vec<String>,
    /// Whether roles and tablespaces are backed up too.
    pub globals: bool,
    /// Whether the passwords of roles are backed up too, which only a superuser can.
    pub role_passwords: bool,
    /// How long one attempt waits for the tables' locks. 1 second to 1 hour.
    #[serde(rename = "lock_timeout_seconds", serialize_with = "as_seconds")]
    pub lock_timeout: Duration,
    /// Attempts to get the tables' locks. 1 to 100.
    pub lock_attempts: u32,
}

/// Reads how the server is reached.
pub(super) fn read_server(reader: &Reader<'_>) -> Option<Server> {
    let host = connection_word(reader, "host");
    let port = reader.number("port");
    let user = connection_word(reader, "user");
    let maintenance_database = connection_word(reader, "maintenance_database");
    let password = reader.secret("password");
    let sslmode = reader.choice("sslmode").and_then(SslMode::parse);
    let ssl_root_cert = reader.path("ssl_root_cert");
    let require_peer = connection_word(reader, "require_peer");
    let silence = reader.duration("silence");
    if sslmode == Some(SslMode::Disable) && ssl_root_cert.is_some() {
        let message = "`ssl_root_cert` has no effect with sslmode = \"disable\"";
        reader.report.error(&reader.span_of_key("ssl_root_cert"), message);
    }
    if let (Some(host), Some(_)) = (&host, &require_peer)
        && !host.starts_with('/')
    {
        let message = "`require_peer` has no effect: `host` is no directory of a socket";
        reader.report.error(&reader.span_of_key("require_peer"), message);
    }
    Some(Server {
        host: host?,
        port: port?,
        user: user?,
        maintenance_database: maintenance_database?,
        password,
        sslmode: sslmode?,
        ssl_root_cert,
        require_peer,
        bin_dir: reader.path("bin_dir"),
        silence: silence?,
    })
}

fn read_base(reader: &Reader<'_>) -> Option<BaseBackup> {
    let (server, log) = (read_server(reader), read_log(reader));
    let checkpoint = reader.choice("checkpoint");
    let max_rate_bytes = reader.size("max_rate");
    let (incremental, full_every) = (reader.flag("incremental"), reader.duration("full_every"));
    if incremental == Some(false) && reader.has("full_every") && is_engine(reader, BASE_BACKUP.name)
    {
        let message = "`full_every` has no effect: every backup is a full one";
        let advice = "remove it, or set `incremental = true`";
        reader.report.advise(&reader.span_of_key("full_every"), message, advice);
    }
    let fast_checkpoint = checkpoint? == "fast";
    Some(BaseBackup {
        server: server?,
        log: log?,
        fast_checkpoint,
        max_rate_bytes,
        incremental: incremental?,
        full_every: full_every?,
    })
}

fn read_pg_dump(reader: &Reader<'_>) -> Option<PgDump> {
    let server = read_server(reader);
    let globals = reader.flag("globals");
    let role_passwords = reader.flag("role_passwords");
    let databases = read_databases(reader, "databases");
    let exclude_databases = read_databases(reader, "exclude_databases");
    check_selection(reader, databases.as_deref());
    let (lock_timeout, lock_attempts) =
        (reader.duration("lock_timeout"), reader.number("lock_attempts"));
    Some(PgDump {
        server: server?,
        databases,
        exclude_databases: exclude_databases.unwrap_or_default(),
        globals: globals?,
        role_passwords: role_passwords?,
        lock_timeout: lock_timeout?,
        lock_attempts: lock_attempts?,
    })
}

/// A part of a connection; a whole connection string may hold a password and is not shown.
fn connection_word(reader: &Reader<'_>, key: &str) -> Option<String> {
    let text = reader.text(key)?;
    is_word(reader, key, &text).then(|| text.value.to_owned())
}

fn is_word(reader: &Reader<'_>, key: &str, text: &reader::Text<'_>) -> bool {
    let secret = text.value.contains("password=") || text.value.contains("://");
    if secret || (key == "host" && text.value.contains(['@', '=', ',', ' '])) {
        reader.report.advise(
            &text.span,
            format!("`{key}` takes one name, not a connection string"),
            "give host, port, user and databases under keys of their own, and the password as a \
             reference",
        );
        return false;
    }
    // NAMEDATALEN of PostgreSQL is 64: longer names are cut, and would name something else.
    if key != "host" && text.value.len() > 63 {
        reader.report.error(&text.span, "a name in PostgreSQL has at most 63 bytes");
        return false;
    }
    true
}

fn read_databases(reader: &Reader<'_>, key: &str) -> Option<Vec<String>> {
    let texts = reader.texts(key)?;
    let mut seen = BTreeSet::new();
    for text in &texts {
        if is_word(reader, key, text) && !seen.insert(text.value) {
            let message = format!("`{}` is in `{key}` twice", show(text.value));
            reader.report.advise(&text.span, message, "remove one of the two");
        }
    }
    Some(texts.into_iter().map(|text| text.value.to_owned()).collect())
}

fn check_selection(reader: &Reader<'_>, databases: Option<&[String]>) {
    let Some(databases) = databases else { return };
    let span = reader.span_of("databases");
    if databases.is_empty() {
        let advice = "name at least one, or remove the key: then all are backed up";
        reader.report.advise(&span, "`databases` is empty", advice);
    }
    if reader.has("exclude_databases") {
        reader.report.advise(
            &reader.span_of_key("exclude_databases"),
            "`exclude_databases` cannot stand beside `databases`",
            "keep one of the two",
        );
    }
}
