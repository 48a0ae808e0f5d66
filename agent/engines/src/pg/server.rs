//! Connections to a server, and what the tools are told of it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{CancelToken, Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::pgpass::PgPass;
use super::tls::{self, SslMode};
use super::tools::FoundTool;
use crate::process::{OwnedTask, Tool};
use crate::{EngineError, Secret, ServerSaid};

/// How long a connection may take to be made.
pub(super) const CONNECT_WAIT: Duration = Duration::from_secs(15);

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
    /// Where the client tools are; found by the server's version if not set.
    pub bin_dir: Option<PathBuf>,
    /// A private directory for password files, best in memory.
    pub runtime_dir: PathBuf,
    /// What our sessions ask for when they log in, above what was set for role and database: the
    /// first of these that the server grants. None: nothing is asked for.
    pub options: Vec<String>,
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

    /// A connection string for the tools. Holds no password.
    pub(crate) fn conninfo(&self, database: &str) -> String {
        let mut parts = vec![
            ("host", self.host.clone()),
            ("port", self.port.to_string()),
            ("user", self.user.clone()),
            ("dbname", database.to_owned()),
            ("sslmode", self.sslmode.to_string()),
        ];
        match (&self.ssl_root_cert, self.sslmode) {
            (Some(path), _) => parts.push(("sslrootcert", path.display().to_string())),
            // libpq has no default of its own for the system's store before version 16.
            (None, SslMode::VerifyCa | SslMode::VerifyFull) => {
                parts.extend(system_roots().map(|path| ("sslrootcert", path)));
            }
            _ => {}
        }
        let quote = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
        let parts: Vec<String> =
            parts.iter().map(|(key, value)| format!("{key}='{}'", quote(value))).collect();
        parts.join(" ")
    }

    /// The password file for the tools, if there is a password.
    pub(crate) fn pgpass(&self) -> Result<Option<PgPass>, EngineError> {
        self.password.as_ref().map(|word| PgPass::write(&self.runtime_dir, word)).transpose()
    }

    /// A tool that will connect to this server.
    pub(crate) fn tool(
        &self,
        found: &FoundTool,
        application: &str,
        pgpass: Option<&PgPass>,
    ) -> Tool {
        let seconds: OsString = CONNECT_WAIT.as_secs().to_string().into();
        let tool = Tool::new(found.name, found.path.clone())
            .env("PGAPPNAME", application)
            .env("PGCONNECT_TIMEOUT", seconds)
            .arg("--no-password");
        let tool = match self.options.last() {
            Some(options) => tool.env("PGOPTIONS", options),
            None => tool,
        };
        match pgpass {
            Some(file) => tool.env("PGPASSFILE", file.path()),
            None => tool,
        }
    }

    fn config(&self, database: &str, application: &str) -> Config {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .user(&self.user)
            .dbname(database)
            .application_name(application)
            .connect_timeout(CONNECT_WAIT)
            .keepalives_idle(Duration::from_secs(60))
            .ssl_mode(match self.sslmode {
                _ if self.is_local() => tokio_postgres::config::SslMode::Disable,
                SslMode::Disable => tokio_postgres::config::SslMode::Disable,
                SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
                _ => tokio_postgres::config::SslMode::Require,
            });
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        config
    }

    /// What a failed attempt to connect means.
    fn refused(&self, database: &str, error: tokio_postgres::Error) -> EngineError {
        let source = ServerSaid::from(error);
        let (target, user) = (self.target(), self.user.clone());
        if source.is(&SqlState::INVALID_CATALOG_NAME) {
            return EngineError::NoDatabase { names: vec![database.to_owned()] };
        }
        if source.is(&SqlState::INSUFFICIENT_PRIVILEGE) {
            return EngineError::Permission {
                user: user.clone(),
                action: format!("connect to database `{database}`"),
                advice: format!(
                    "run `GRANT CONNECT ON DATABASE {} TO {};`",
                    quote_ident(database),
                    quote_ident(&user)
                ),
                source: Some(source),
            };
        }
        let auth = match source.sqlstate() {
            Some(state) => state.starts_with("28"),
            None => {
                let text = source.to_string();
                text.contains("password missing") || text.contains("authentication error")
            }
        };
        if auth {
            return EngineError::Auth { target, user, source };
        }
        EngineError::Connect { target, source }
    }
}

/// A session on the server; ends when dropped.
pub(crate) struct Session {
    pub(crate) client: Client,
    tls: Option<MakeRustlsConnect>,
    _driver: OwnedTask<()>,
}

impl Session {
    /// Logs in, and makes the session's settings independent of those of role and database.
    pub(crate) async fn open(
        server: &PgServer,
        database: &str,
        application: &str,
    ) -> Result<Self, EngineError> {
        let tls = tls::connector(server)?;
        let mut options = server.options.iter();
        let (client, driver) = loop {
            let mut config = server.config(database, application);
            let asked = options.next();
            asked.map(|asked| config.options(asked));
            match connect(&config, tls.clone()).await {
                Ok(connected) => break connected,
                // What only a superuser may set.
                Err(error)
                    if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
                        && options.len() > 0 => {}
                Err(error) => return Err(server.refused(database, error)),
            }
        };
        let session = Session { client, tls, _driver: driver };
        session.client.batch_execute(SETTINGS).await.map_err(EngineError::query(SETTING_UP))?;
        session.client.batch_execute(TIME_LIMITS).await.map_err(EngineError::query(SETTING_UP))?;
        // Only a courtesy, and not to be had on every platform.
        let _ = session.client.batch_execute(CHECK).await;
        Ok(session)
    }

    /// The server's version, such as `15.18 (Debian 15.18-0+deb12u1)`.
    pub(crate) async fn version(&self) -> Result<String, EngineError> {
        self.text("SELECT pg_catalog.current_setting('server_version')", "ask for the version")
            .await
    }

    /// The one value of a query that gives one text.
    pub(crate) async fn text(&self, query: &str, action: &str) -> Result<String, EngineError> {
        let row = self.client.query_one(query, &[]).await.map_err(EngineError::query(action))?;
        row.try_get(0).map_err(EngineError::query(action))
    }

    /// A handle that can cancel the statement in progress.
    pub(crate) fn canceller(&self) -> Canceller {
        Canceller { token: self.client.cancel_token(), tls: self.tls.clone() }
    }
}

const SETTING_UP: &str = "prepare the session";

/// An empty search path keeps names that others have created from being taken for the server's
/// own; tables with policies are an error instead of half a backup.
const SETTINGS: &str = "SET search_path = ''; SET row_security = off";

/// The time limits of applications are no help for a backup; not every version has all of them.
const TIME_LIMITS: &str = "SELECT pg_catalog.set_config(name, '0', false) \
     FROM pg_catalog.pg_settings WHERE name IN ('statement_timeout', 'lock_timeout', \
     'transaction_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout')";

/// A server that counts rows for us notices within seconds that we are gone.
const CHECK: &str = "SELECT pg_catalog.set_config(name, '5s', false) \
     FROM pg_catalog.pg_settings WHERE name = 'client_connection_check_interval'";

/// Cancels the statement that runs in a session.
#[derive(Clone)]
pub(crate) struct Canceller {
    token: CancelToken,
    tls: Option<MakeRustlsConnect>,
}

impl Canceller {
    pub(crate) async fn cancel(self) {
        let sent = match self.tls {
            Some(tls) => self.token.cancel_query(tls).await,
            None => self.token.cancel_query(NoTls).await,
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "cancel a statement");
        }
    }
}

async fn connect(
    config: &Config,
    tls: Option<MakeRustlsConnect>,
) -> Result<(Client, OwnedTask<()>), tokio_postgres::Error> {
    Ok(match tls {
        Some(tls) => {
            let (client, connection) = config.connect(tls).await?;
            (client, OwnedTask::spawn(drive(connection)))
        }
        None => {
            let (client, connection) = config.connect(NoTls).await?;
            (client, OwnedTask::spawn(drive(connection)))
        }
    })
}

async fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    tokio_postgres::Connection<S, T>: Future<Output = Result<(), tokio_postgres::Error>>,
{
    // Whoever waits for an answer gets the error too.
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a session has ended");
    }
}

fn system_roots() -> Option<String> {
    let places = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
    places.iter().find(|path| std::path::Path::new(path).is_file()).map(ToString::to_string)
}

/// A name as SQL writes it.
pub(crate) fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL writes it, whatever `standard_conforming_strings` is.
pub(crate) fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        return format!("E'{}'", quoted.replace('\\', "\\\\"));
    }
    format!("'{quoted}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn server() -> PgServer {
        PgServer {
            host: "db.example".into(),
            port: 5432,
            user: "back'up".into(),
            maintenance_database: "postgres".into(),
            password: Some(Secret::new("hunter2")),
            sslmode: SslMode::Require,
            ssl_root_cert: None,
            bin_dir: None,
            runtime_dir: "/run/drctl".into(),
            options: Vec::new(),
        }
    }

    #[test]
    fn the_connection_string_is_quoted_and_has_no_password() {
        assert_eq!(
            server().conninfo("a b\\"),
            "host='db.example' port='5432' user='back\\'up' dbname='a b\\\\' sslmode='require'"
        );
    }

    #[test]
    fn tools_never_see_the_password() {
        let dir = tempfile::tempdir().unwrap();
        let server = PgServer { runtime_dir: dir.path().into(), ..server() };
        let pgpass = server.pgpass().unwrap();
        let found = FoundTool { name: "pg_dump", path: "/x/pg_dump".into(), version: "15".into() };
        let tool = server.tool(&found, "drctl/x", pgpass.as_ref()).arg(server.conninfo("shop"));
        let shown = format!("{tool:?} {server:?} {:?}", server.config("shop", "drctl/x"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(quote_ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\'"), "E'a\\\\'''");
    }
}
