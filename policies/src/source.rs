use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use drctl_model::SslMode;
use serde::{Serialize, Serializer};

use crate::diagnostic::show;
use crate::policy::Policy;
use crate::reader::{Reader, Text};
use crate::secret::SecretRef;
use crate::source_pgbackrest::{self, Pgbackrest};
use crate::units::as_seconds;

/// A protected database or cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// When and for how long. In JSON only its name: the policy itself is in the configuration's
    /// list.
    #[serde(serialize_with = "policy_name")]
    pub policy: Policy,
    /// Whether the schedule backs it up. By hand it can be backed up in any case.
    pub enabled: bool,
    /// How it is backed up.
    #[serde(flatten)]
    pub engine: Engine,
}

fn policy_name<S: Serializer>(policy: &Policy, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&policy.name)
}

/// How a source is backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "engine", rename_all = "snake_case")]
pub enum Engine {
    /// PostgreSQL, a logical dump per database.
    PgDump(PgDump),
    /// PostgreSQL, all files of the cluster by the replication protocol.
    BaseBackup(BaseBackup),
    /// PostgreSQL, all files of the cluster by pgBackRest, into a repository of its own.
    Pgbackrest(Pgbackrest),
}

impl Engine {
    /// How the server is reached.
    #[must_use]
    pub fn server(&self) -> &Server {
        match self {
            Engine::PgDump(pg) => &pg.server,
            Engine::BaseBackup(base) => &base.server,
            Engine::Pgbackrest(backrest) => &backrest.server,
        }
    }
}

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
    /// Where the client tools are.
    pub bin_dir: Option<PathBuf>,
    /// How long server or tool may say nothing while something is awaited.
    #[serde(rename = "silence_seconds", serialize_with = "as_seconds")]
    pub silence: Duration,
}

impl Server {
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
    /// Whether the checkpoint before the copy is done at once (`fast`) or spread over time.
    #[serde(rename = "checkpoint", serialize_with = "checkpoint")]
    pub fast_checkpoint: bool,
    /// The most bytes a second that the server sends: 32 KiB to 1 GiB.
    pub max_rate_bytes: Option<u64>,
    /// Whether only what has changed since the copy before is copied, where that is possible.
    pub incremental: bool,
    /// How old a full copy may be before the next one is made. 1 hour to 3 650 days.
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

/// A source, before it is known whether its policy exists.
pub(crate) struct Draft<'a> {
    pub(crate) policy: Option<Text<'a>>,
    enabled: Option<bool>,
    engine: Option<Engine>,
}

impl Draft<'_> {
    pub(crate) fn finish(self, policy: Policy) -> Option<Source> {
        Some(Source { policy, enabled: self.enabled?, engine: self.engine? })
    }
}

/// Reads `[sources.NAME]`.
pub(crate) fn read<'a>(reader: &Reader<'a>) -> Draft<'a> {
    let server = read_server(reader);
    let (pg_dump, base) = (read_pg_dump(reader, server.clone()), read_base(reader, server.clone()));
    let backrest = source_pgbackrest::read(reader, server);
    let engine = reader.choice("engine");
    if let Some(engine) = engine {
        refuse_foreign(reader, engine);
    }
    let engine = match engine {
        Some("pg_dump") => pg_dump.map(Engine::PgDump),
        Some("base_backup") => base.map(Engine::BaseBackup),
        Some("pgbackrest") => backrest.map(Engine::Pgbackrest),
        _ => None,
    };
    Draft { policy: reader.text("policy"), enabled: reader.flag("enabled"), engine }
}

/// Keys that do not mean something to every engine, and to which they do.
const KEYS_OF_ENGINES: &[(&str, &[&str])] = &[
    ("databases", &["pg_dump"]),
    ("exclude_databases", &["pg_dump"]),
    ("globals", &["pg_dump"]),
    ("role_passwords", &["pg_dump"]),
    ("lock_timeout", &["pg_dump"]),
    ("lock_attempts", &["pg_dump"]),
    ("checkpoint", &["base_backup"]),
    ("max_rate", &["base_backup"]),
    ("incremental", &["base_backup"]),
    ("full_every", &["base_backup", "pgbackrest"]),
    ("differential_every", &["pgbackrest"]),
    ("stanza", &["pgbackrest"]),
    ("repo", &["pgbackrest"]),
    ("pgbackrest_config", &["pgbackrest"]),
    ("pgbackrest_bin", &["pgbackrest"]),
    ("cipher_pass", &["pgbackrest"]),
];

fn refuse_foreign(reader: &Reader<'_>, engine: &str) {
    let foreign = KEYS_OF_ENGINES.iter().filter(|(_, engines)| !engines.contains(&engine));
    for (key, engines) in foreign.filter(|(key, _)| reader.has(key)) {
        let message = format!("`{key}` has no effect with this engine");
        let advice = format!("remove it; it is for engine = \"{}\"", engines.join("\" or \""));
        reader.report.advise(&reader.span_of_key(key), message, &advice);
    }
}

fn read_server(reader: &Reader<'_>) -> Option<Server> {
    let host = connection_word(reader, "host");
    let port = reader.number("port");
    let user = connection_word(reader, "user");
    let maintenance_database = connection_word(reader, "maintenance_database");
    let password = reader.secret("password");
    let sslmode = reader.choice("sslmode").and_then(SslMode::parse);
    let ssl_root_cert = reader.path("ssl_root_cert");
    let silence = reader.duration("silence");
    if sslmode == Some(SslMode::Disable) && ssl_root_cert.is_some() {
        let message = "`ssl_root_cert` has no effect with sslmode = \"disable\"";
        reader.report.error(&reader.span_of_key("ssl_root_cert"), message);
    }
    Some(Server {
        host: host?,
        port: port?,
        user: user?,
        maintenance_database: maintenance_database?,
        password,
        sslmode: sslmode?,
        ssl_root_cert,
        bin_dir: reader.path("bin_dir"),
        silence: silence?,
    })
}

/// Whether the source has this engine; the keys of others are refused as a whole.
pub(crate) fn is_engine(reader: &Reader<'_>, engine: &str) -> bool {
    reader.text("engine").is_some_and(|text| text.value == engine)
}

fn read_base(reader: &Reader<'_>, server: Option<Server>) -> Option<BaseBackup> {
    let checkpoint = reader.choice("checkpoint");
    let max_rate_bytes = reader.size("max_rate");
    let (incremental, full_every) = (reader.flag("incremental"), reader.duration("full_every"));
    if incremental == Some(false) && reader.has("full_every") && is_engine(reader, "base_backup") {
        let message = "`full_every` has no effect: every backup is a full one";
        let advice = "remove it, or set `incremental = true`";
        reader.report.advise(&reader.span_of_key("full_every"), message, advice);
    }
    let fast_checkpoint = checkpoint? == "fast";
    Some(BaseBackup {
        server: server?,
        fast_checkpoint,
        max_rate_bytes,
        incremental: incremental?,
        full_every: full_every?,
    })
}

fn read_pg_dump(reader: &Reader<'_>, server: Option<Server>) -> Option<PgDump> {
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

fn is_word(reader: &Reader<'_>, key: &str, text: &Text<'_>) -> bool {
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
