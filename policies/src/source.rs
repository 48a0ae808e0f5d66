use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::diagnostic::show;
use crate::policy::Policy;
use crate::reader::{Reader, Text};
use crate::secret::SecretRef;
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
}

/// A PostgreSQL server, dumped database by database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PgDump {
    /// A host name, an address, or the directory of a socket.
    pub host: String,
    /// 1 to 65 535.
    pub port: u16,
    /// The role that connects.
    pub user: String,
    /// The database to connect to for questions about the server.
    pub maintenance_database: String,
    /// These databases; `None`: all that allow connections. Never empty, no duplicates.
    pub databases: Option<Vec<String>>,
    /// All but these. Empty when `databases` is given.
    pub exclude_databases: Vec<String>,
    /// Whether roles and tablespaces are backed up too.
    pub globals: bool,
    /// Whether the passwords of roles are backed up too, which only a superuser can.
    pub role_passwords: bool,
    /// The role's password.
    pub password: Option<SecretRef>,
    /// How the connection is secured.
    pub sslmode: SslMode,
    /// Certificates that vouch for the server (PEM).
    pub ssl_root_cert: Option<PathBuf>,
    /// Where `pg_dump` is.
    pub bin_dir: Option<PathBuf>,
    /// How long one attempt waits for the tables' locks. 1 second to 1 hour.
    #[serde(rename = "lock_timeout_seconds", serialize_with = "as_seconds")]
    pub lock_timeout: Duration,
    /// Attempts to get the tables' locks. 1 to 100.
    pub lock_attempts: u32,
}

/// How a connection to PostgreSQL is secured; the words are libpq's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted when the server can.
    Prefer,
    /// Encrypted, with whomever.
    Require,
    /// Encrypted, with a server whose certificate is vouched for.
    VerifyCa,
    /// Encrypted, with a server whose certificate is vouched for and bears the host's name.
    VerifyFull,
}

impl SslMode {
    /// As in the configuration and in libpq.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }

    fn read(reader: &Reader<'_>) -> Option<SslMode> {
        use SslMode::{Disable, Prefer, Require, VerifyCa, VerifyFull};
        let text = reader.choice("sslmode")?;
        let all = [Disable, Prefer, Require, VerifyCa, VerifyFull];
        all.into_iter().find(|mode| mode.as_str() == text)
    }
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
    let pg_dump = read_pg_dump(reader);
    let engine = match reader.choice("engine") {
        Some("pg_dump") => pg_dump.map(Engine::PgDump),
        _ => None,
    };
    Draft { policy: reader.text("policy"), enabled: reader.flag("enabled"), engine }
}

fn read_pg_dump(reader: &Reader<'_>) -> Option<PgDump> {
    let host = connection_word(reader, "host");
    let (port, globals) = (reader.number("port"), reader.flag("globals"));
    let role_passwords = reader.flag("role_passwords");
    let user = connection_word(reader, "user");
    let maintenance_database = connection_word(reader, "maintenance_database");
    let databases = read_databases(reader, "databases");
    let exclude_databases = read_databases(reader, "exclude_databases");
    check_selection(reader, databases.as_deref());
    let password = reader.secret("password");
    let sslmode = SslMode::read(reader);
    let ssl_root_cert = reader.path("ssl_root_cert");
    if sslmode == Some(SslMode::Disable) && ssl_root_cert.is_some() {
        let message = "`ssl_root_cert` has no effect with sslmode = \"disable\"";
        reader.report.error(&reader.span_of_key("ssl_root_cert"), message);
    }
    let bin_dir = reader.path("bin_dir");
    let (lock_timeout, lock_attempts) =
        (reader.duration("lock_timeout"), reader.number("lock_attempts"));
    Some(PgDump {
        host: host?,
        port: port?,
        user: user?,
        maintenance_database: maintenance_database?,
        databases,
        exclude_databases: exclude_databases.unwrap_or_default(),
        globals: globals?,
        role_passwords: role_passwords?,
        password,
        sslmode: sslmode?,
        ssl_root_cert,
        bin_dir,
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
