//! Connections to a server, and what the tools are told of it.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::Duration;

use drctl_model::{SslMode, shown};
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, SslNegotiation};
use tokio_postgres::error::SqlState;

use super::WITHHELD;
use super::options;
use super::peer::Stranger;
use super::pgpass::PgPass;
use super::spelling::unspelled;
use super::{FoundTool, major_of};
use crate::common::process::Tool;
use crate::common::{EngineError, Secret};
use crate::pg::server::ServerError;
use crate::pg::server::ServerSaid;

/// What is borne of silence where nothing else is said.
pub const SILENCE: Duration = Duration::from_secs(3600);

/// The longest silence before the answer to a question that is quickly answered.
pub(super) const QUICK: Duration = Duration::from_secs(600);

/// How long a connection may take to be made.
pub(in crate::pg) const CONNECT_WAIT: Duration = Duration::from_secs(15);

/// What shows what a server does.
pub(crate) const ACTIVITY: &str = "pg_stat_activity";

/// A `PostgreSQL` server and how to get in.
#[derive(Debug, Clone)]
pub struct PgServer {
    /// A host name, an address, or the directory of a Unix socket (begins with `/`).
    pub host: String,
    /// The port, also part of the socket's name.
    pub port: u16,
    /// The role to log in as.
    pub user: String,
    /// A database that always exists and takes connections, such as `postgres`.
    pub maintenance_database: String,
    /// The role's password, if it needs one.
    pub password: Option<Secret>,
    /// How a connection over TCP is protected.
    pub sslmode: SslMode,
    /// The root certificates to trust, instead of those of the system.
    pub ssl_root_cert: Option<PathBuf>,
    /// The account that the server behind a socket runs as: then no other is believed.
    pub require_peer: Option<String>,
    /// Where the client tools are; found by the server's version if not set.
    pub bin_dir: Option<PathBuf>,
    /// A private directory for password files, best in memory.
    pub runtime_dir: PathBuf,
    /// What our sessions ask for when they log in, above what was set for role and database: the
    /// first of these that the server grants. None: nothing is asked for.
    pub options: Vec<String>,
    /// How long server or tool may say nothing while something is awaited from them.
    pub silence: Duration,
}

impl PgServer {
    /// Host and port, for people.
    #[must_use]
    pub fn target(&self) -> String {
        if self.is_local() {
            return format!("{} port {}", self.host, self.port);
        }
        format!("{}:{}", self.host, self.port)
    }

    pub(crate) fn is_local(&self) -> bool {
        self.host.starts_with('/')
    }

    /// Whether whoever answers is proven to be the server.
    pub(super) fn is_proven(&self) -> bool {
        let by_file = self.sslmode == SslMode::Require && self.ssl_root_cert.is_some();
        self.is_local() || by_file || self.sslmode.is_verified()
    }

    /// How long the answer to a question that is quickly answered may take.
    pub(in crate::pg) fn quick(&self) -> Duration {
        self.silence.min(QUICK)
    }

    /// The argument by which a tool is told where to connect to. Holds no password. The name may be
    /// spelled.
    pub(crate) fn dbname(&self, database: &str) -> OsString {
        let mut argument = b"--dbname=dbname=".to_vec();
        argument.extend(unspelled(&quoted(database)));
        argument.extend_from_slice(format!(" {}", self.conninfo()).as_bytes());
        OsString::from_vec(argument)
    }

    /// A connection string without a database.
    fn conninfo(&self) -> String {
        let mut parts = vec![
            ("host", self.host.clone()),
            ("port", self.port.to_string()),
            ("user", self.user.clone()),
        ];
        if !self.is_local() {
            parts.push(("sslmode", self.sslmode.to_string()));
            let alive = [("keepalives_idle", "60"), ("tcp_user_timeout", "120000")];
            parts.extend(alive.map(|(key, value)| (key, value.to_owned())));
        }
        match (&self.ssl_root_cert, self.sslmode) {
            _ if self.is_local() => {}
            (Some(path), _) => parts.push(("sslrootcert", path.display().to_string())),
            // libpq has no default of its own for the system's store before version 16.
            (None, SslMode::VerifyCa | SslMode::VerifyFull) => {
                parts.extend(system_roots().map(|path| ("sslrootcert", path)));
            }
            _ => {}
        }
        let parts: Vec<String> =
            parts.iter().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
        parts.join(" ")
    }

    /// Why the tools of a version are not given the password, where they are not: none before 16
    /// can be told to keep it from whoever asks for it in clear text.
    #[must_use]
    pub fn withheld(&self, version: &str) -> Option<String> {
        let keeps = self.is_proven() || self.sslmode == SslMode::Require;
        let gives = self.password.is_some() && !keeps && major_of(version) < Some(16);
        gives.then(|| {
            format!(
                "with sslmode = \"{}\" the tools of PostgreSQL {version} would give the password \
                 in clear text to anybody who asks: set sslmode to verify-full (or require), or use \
                 the server's socket",
                self.sslmode
            )
        })
    }

    /// The password file for the tools of a version, if there is a password.
    pub(crate) fn pgpass(&self, version: &str) -> Result<Option<PgPass>, EngineError> {
        if let Some(why) = self.withheld(version) {
            return Err(EngineError::Config(why));
        }
        self.password.as_ref().map(|word| PgPass::write(&self.runtime_dir, word)).transpose()
    }

    /// A tool that will connect to this server.
    pub(crate) fn tool(
        &self,
        found: &FoundTool,
        application: &str,
        pgpass: Option<&PgPass>,
        superuser: bool,
    ) -> Tool {
        let seconds: OsString = CONNECT_WAIT.as_secs().to_string().into();
        let tool = Tool::new(found.name, found.path.clone())
            .env("PGAPPNAME", application)
            .env("PGCONNECT_TIMEOUT", seconds)
            .env("PGOPTIONS", options::of_tool(found, self.options.last(), superuser))
            .arg("--no-password")
            .with_server(ACTIVITY);
        let tool = match &self.require_peer {
            Some(account) => tool.env("PGREQUIREPEER", account),
            None => tool,
        };
        let tool = match pgpass {
            Some(file) => tool.env("PGPASSFILE", file.path()),
            None => return tool,
        };
        // A peer that is not proven gets no password in clear text.
        match self.sslmode {
            _ if self.is_proven() => tool,
            SslMode::Require => tool.env("PGCHANNELBINDING", "require"),
            _ => tool.env("PGREQUIREAUTH", "scram-sha-256"),
        }
    }

    /// How a session logs in, with the settings of its own that `options` say.
    pub(in crate::pg) fn config(&self, database: &str, application: &str, options: &str) -> Config {
        let mut config = Config::new();
        config
            .user(&self.user)
            .dbname(database)
            .application_name(application)
            .options(options)
            // The link is encrypted already, or must not be.
            .ssl_mode(tokio_postgres::config::SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct);
        if self.needs_binding() {
            config.channel_binding(ChannelBinding::Require);
        }
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        config
    }

    /// Whether a login with a password must be bound to the encryption: nothing else says that
    /// nobody stands between.
    pub(in crate::pg) fn needs_binding(&self) -> bool {
        self.password.is_some() && !self.is_proven() && self.sslmode == SslMode::Require
    }

    /// What it means that there is no connection.
    pub(in crate::pg) fn unreachable(&self, error: &io::Error) -> EngineError {
        let target = self.target();
        if let Some(stranger) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            return EngineError::from(ServerError::Stranger {
                target,
                source: Stranger::clone(stranger),
            });
        }
        let own = error.get_ref().and_then(|inner| inner.downcast_ref());
        if let Some(EngineError::Changeable { path, why }) = own {
            return EngineError::Changeable { path: path.clone(), why: why.clone() };
        }
        let source = ServerSaid::new(error.to_string());
        if source.to_string().contains(WITHHELD) {
            return EngineError::from(ServerError::Auth {
                target,
                user: self.user.clone(),
                source,
            });
        }
        EngineError::from(ServerError::Connect { target, source })
    }

    /// What a failed attempt to connect means.
    pub(in crate::pg) fn refused(
        &self,
        database: &str,
        error: tokio_postgres::Error,
    ) -> EngineError {
        let source = ServerSaid::from(error);
        let (target, user) = (self.target(), self.user.clone());
        if source.is(&SqlState::INVALID_CATALOG_NAME) {
            return EngineError::from(ServerError::NoDatabase { names: vec![database.to_owned()] });
        }
        if is_poolers(&source) {
            return EngineError::from(ServerError::Pooler { target, source });
        }
        if source.is(&SqlState::INSUFFICIENT_PRIVILEGE) {
            return EngineError::from(ServerError::Permission {
                user: user.clone(),
                action: format!("connect to database `{database}`"),
                advice: format!(
                    "run `GRANT CONNECT ON DATABASE {} TO {};`",
                    quote_ident(database),
                    quote_ident(&user)
                ),
                source: Some(source),
            });
        }
        let auth = match source.sqlstate() {
            Some(state) => state.starts_with("28"),
            None => {
                let text = source.to_string();
                let signs =
                    ["password missing", "authentication error", WITHHELD, "channel binding"];
                signs.iter().any(|sign| text.contains(sign))
            }
        };
        if auth {
            return EngineError::from(ServerError::Auth { target, user, source });
        }
        // It was reached, and says itself what is wrong.
        let of_the_server = ["53", "08", "57P01", "57P02", "57P03"];
        let says = |state: &str| !of_the_server.iter().any(|class| state.starts_with(class));
        if source.sqlstate().is_some_and(says) {
            return EngineError::from(ServerError::NoEntry {
                target,
                database: database.to_owned(),
                source,
            });
        }
        EngineError::from(ServerError::Connect { target, source })
    }
}

/// A value of a connection string.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn system_roots() -> Option<String> {
    let places = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
    places.iter().find(|path| std::path::Path::new(path).is_file()).map(ToString::to_string)
}

/// A name as SQL writes it.
pub(crate) fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The same for people to type: what a terminal would obey is written as a number.
#[must_use]
pub fn typed_ident(name: &str) -> String {
    let harmless = shown(name, usize::MAX) == name;
    if harmless {
        return quote_ident(name);
    }
    let one = |c: char| match c {
        '\\' => "\\\\".to_owned(),
        c if shown(c.encode_utf8(&mut [0; 4]), 1).chars().eq([c]) => c.to_string(),
        c => format!("\\+{:06X}", u32::from(c)),
    };
    format!("U&{}", quote_ident(&name.chars().map(one).collect::<String>()))
}

/// A text as SQL writes it, whatever `standard_conforming_strings` is.
pub(crate) fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        return format!("E'{}'", quoted.replace('\\', "\\\\"));
    }
    format!("'{quoted}'")
}

/// Whether it is what a pooler says that was not told to pass settings over in silence: at the login, or
/// later, when it logs in itself.
pub(super) fn is_poolers(said: &ServerSaid) -> bool {
    said.is(&SqlState::PROTOCOL_VIOLATION) && said.to_string().contains("parameter")
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_name_that_a_terminal_would_obey_can_be_typed() {
        assert_eq!(typed_ident("a \"b\\"), "\"a \"\"b\\\"");
        assert_eq!(typed_ident("x\ny\\\u{1b}\""), "U&\"x\\+00000Ay\\\\\\+00001B\"\"\"");
    }

    pub(crate) fn server() -> PgServer {
        PgServer {
            host: "db.example".into(),
            port: 5432,
            user: "back'up".into(),
            maintenance_database: "postgres".into(),
            password: Some(Secret::new("hunter2")),
            sslmode: SslMode::Require,
            ssl_root_cert: None,
            require_peer: None,
            bin_dir: None,
            runtime_dir: "/run/drctl".into(),
            options: Vec::new(),
            silence: SILENCE,
        }
    }

    #[test]
    fn the_connection_string_is_quoted_and_has_no_password() {
        assert_eq!(
            server().dbname("a b\\"),
            "--dbname=dbname='a b\\\\' host='db.example' port='5432' user='back\\'up' \
             sslmode='require' keepalives_idle='60' tcp_user_timeout='120000'"
        );
        let spelled = server().dbname("d\u{fffd}e9");
        assert!(spelled.as_bytes().starts_with(b"--dbname=dbname='d\xe9' host="), "{spelled:?}");
    }

    #[test]
    fn tools_never_see_the_password() {
        let dir = tempfile::tempdir().unwrap();
        let server = PgServer { runtime_dir: dir.path().into(), ..server() };
        let pgpass = server.pgpass("15.18").unwrap();
        let found = FoundTool { name: "pg_dump", path: "/x/pg_dump".into(), version: "15".into() };
        let tool = server.tool(&found, "drctl/x", pgpass.as_ref(), true);
        let tool = tool.arg(server.dbname("shop"));
        let shown = format!("{tool:?} {server:?} {:?}", server.config("shop", "drctl/x", ""));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn tools_meet_the_account_that_was_found_right() {
        let found = FoundTool { name: "pg_dump", path: "/x/pg_dump".into(), version: "15".into() };
        let told = |server: PgServer| {
            let env = server.tool(&found, "drctl/x", None, true).env;
            env.into_iter().find(|(name, _)| name == "PGREQUIREPEER").map(|(_, value)| value)
        };
        assert_eq!(told(server()), None);
        let named = PgServer { require_peer: Some("postgres".into()), ..server() };
        assert_eq!(told(named), Some("postgres".into()));
    }

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(quote_ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\'"), "E'a\\\\'''");
    }
}
