use std::path::PathBuf;

use drctl_model::{Class, Classified};

use super::address::typed_ident;
use super::link::WITHHELD;
use super::peer::Stranger;
use super::said::ServerSaid;
use crate::common::EngineError;

/// What goes wrong with a PostgreSQL server, or with its client tools.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A client tool was not found.
    #[error("cannot find {tool} for PostgreSQL {major} (looked in {})", list_paths(.looked))]
    ToolMissing {
        /// Its name.
        tool: &'static str,
        /// The major version that is needed.
        major: u32,
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// The client tool's major version is not the server's.
    #[error("{tool} is version {client}, but the server is version {server}")]
    VersionMismatch {
        /// The tool's name.
        tool: &'static str,
        /// Its version.
        client: String,
        /// The server's version.
        server: String,
        /// The server's major version.
        major: u32,
    },
    /// The server is older than the one the dump was taken from.
    #[error("the backup was taken from PostgreSQL {dump}, but this server is version {server}")]
    OlderServer {
        /// The major version the backup was taken from.
        dump: u32,
        /// The version of the server.
        server: String,
    },
    /// No connection to the server.
    #[error("cannot reach the PostgreSQL server at {target}")]
    Connect {
        /// Host and port.
        target: String,
        /// What was answered.
        source: ServerSaid,
    },
    /// The server refuses the role or its password.
    #[error("the PostgreSQL server at {target} refuses the role `{user}`")]
    Auth {
        /// Host and port.
        target: String,
        /// The role.
        user: String,
        /// What was answered.
        source: ServerSaid,
    },
    /// Whoever listens at a socket may not be the server.
    #[error("the process that answers at {target} is not proven to be the PostgreSQL server")]
    Stranger {
        /// The socket's directory, and the port.
        target: String,
        /// Who it is.
        source: Stranger,
    },
    /// The server is there, and no session comes about in a database.
    #[error("the PostgreSQL server at {target} refuses sessions in the database `{database}`")]
    NoEntry {
        /// Host and port.
        target: String,
        /// The database.
        database: String,
        /// What was answered.
        source: ServerSaid,
    },
    /// What answers lends sessions that belong to others.
    #[error("a pooler answers instead of the PostgreSQL server at {target}")]
    Pooler {
        /// Host and port.
        target: String,
        /// What was answered.
        source: ServerSaid,
    },
    /// A database that does not exist, or takes no connections.
    #[error("there is no database {} on this server that takes connections", quoted(.names))]
    NoDatabase {
        /// The databases that were asked for and are not there.
        names: Vec<String>,
    },
    /// The role lacks a privilege.
    #[error("the role `{user}` may not {action}")]
    Permission {
        /// The role.
        user: String,
        /// What it may not do.
        action: String,
        /// What to grant.
        advice: String,
        /// What was answered, if it was tried.
        source: Option<ServerSaid>,
    },
    /// A statement failed.
    #[error("cannot {action}")]
    Query {
        /// What was being done.
        action: String,
        /// What was answered.
        source: ServerSaid,
    },
    /// Data of a cluster is not in the base backup that its server sends.
    #[error("the server leaves data out of the base backup: {}", .what.join(", "))]
    LeftOut {
        /// Where it lies in the data directory.
        what: Vec<String>,
    },
}

impl From<ServerError> for EngineError {
    fn from(error: ServerError) -> Self {
        EngineError::from_own(error)
    }
}

impl EngineError {
    /// The state that the server named, where it refused a session or a statement.
    pub(crate) fn sqlstate(&self) -> Option<&str> {
        match self.own()? {
            ServerError::Connect { source, .. }
            | ServerError::NoEntry { source, .. }
            | ServerError::Query { source, .. } => source.sqlstate(),
            _ => None,
        }
    }

    pub(crate) fn query(
        action: impl Into<String>,
    ) -> impl FnOnce(tokio_postgres::Error) -> EngineError {
        let action = action.into();
        move |error| ServerError::Query { action, source: error.into() }.into()
    }
}

impl Classified for ServerError {
    fn code(&self) -> &'static str {
        match self {
            ServerError::ToolMissing { .. } => "tool_missing",
            ServerError::VersionMismatch { .. } | ServerError::OlderServer { .. } => {
                "version_mismatch"
            }
            ServerError::Connect { .. } | ServerError::NoEntry { .. } => "connect",
            ServerError::Auth { .. } => "auth",
            ServerError::Stranger { .. } => "unproven_peer",
            ServerError::Pooler { .. } => "pooler",
            ServerError::NoDatabase { .. } => "no_database",
            ServerError::LeftOut { .. } => "copy_incomplete",
            ServerError::Permission { .. } => "permission",
            ServerError::Query { .. } => "query",
        }
    }

    fn class(&self) -> Class {
        Class::Source
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ServerError::ToolMissing { major, .. } | ServerError::VersionMismatch { major, .. } => {
                format!("install postgresql-client-{major}, or point bin_dir at its programs")
            }
            ServerError::Connect { target, source } => connect_hint(target, source),
            ServerError::Auth { source, .. } => auth_hint(source),
            ServerError::Stranger { .. } => {
                "nothing was sent there. Find out which process listens (`ss -xlp`). If it is your \
                 server, name the account that it runs as: require_peer = \"ACCOUNT\" of the \
                 source, or --to-require-peer ACCOUNT. Or put its socket into a directory where \
                 only that account may write"
                    .to_owned()
            }
            ServerError::NoEntry { database, .. } => no_entry_hint(database),
            ServerError::Permission { advice, .. } => advice.clone(),
            ServerError::OlderServer { dump, .. } => {
                format!("restore into PostgreSQL {dump} or later; nothing was changed")
            }
            ServerError::NoDatabase { .. } => {
                "check the names in the configuration against `psql -l`".to_owned()
            }
            ServerError::Pooler { .. } => {
                "give the server's own host and port, not those of pgbouncer or another pooler: \
                 its sessions would keep drctl's settings, and applications would get them; \
                 nothing was changed"
                    .to_owned()
            }
            ServerError::LeftOut { .. } => {
                "PostgreSQL does not back up the target of a symbolic link in its data directory, \
                 nor (before 16) an in-place tablespace: move the data back to where the link is, \
                 or into a tablespace (CREATE TABLESPACE, ALTER DATABASE or TABLE … SET \
                 TABLESPACE); `find DATA_DIRECTORY -type l` shows all links. This attempt is not a \
                 backup, and base backups taken since the link was made lack the same data"
                    .to_owned()
            }
            ServerError::Query { .. } => {
                "look into the server's log for the same moment; earlier backups are not affected"
                    .to_owned()
            }
        })
    }
}

fn list_paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

pub(in crate::pg) fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn connect_hint(target: &str, said: &ServerSaid) -> String {
    match said.sqlstate() {
        Some("53300") => {
            "all allowed connections of the server, the role or the database are in use: free \
             some, or raise the limit (max_connections; ALTER ROLE or ALTER DATABASE … CONNECTION \
             LIMIT); if a restored cluster refuses connections, recover it to before the limit was \
             set"
        }
        Some("57P03") => "the server is starting up or shutting down: try again in a moment",
        None if said.to_string().contains("TLS") => {
            "check sslmode and ssl_root_cert (of a restore --to-sslmode and --to-ca-file) against the \
             server's certificate"
        }
        _ if target.starts_with('/') => {
            "check that the server runs, that its socket is in the directory that `host` names \
             (unix_socket_directories), and that the port is right"
        }
        _ => "check that the server runs and that host, port and sslmode are right",
    }
    .to_owned()
}

fn no_entry_hint(database: &str) -> String {
    format!(
        "check the settings of that database and of the role (psql's `\\drds`) and reset the one \
         that prevents sessions (`ALTER DATABASE {} RESET ALL`), or exclude the database \
         (exclude_databases); until then no backup of this source is made, and earlier backups are \
         not affected",
        typed_ident(database)
    )
}

fn auth_hint(said: &ServerSaid) -> String {
    match said.sqlstate() {
        None if said.to_string().contains(WITHHELD) => {
            "set sslmode = \"verify-full\" (with ssl_root_cert where the certificate is of your \
             own authority), or let the role log in by scram-sha-256 (pg_hba.conf); if the server \
             never asked for this before, another one may pose as it"
        }
        Some("28P01") => "check the password of the role",
        Some("28000") => {
            "check that the role exists and may log in, and that pg_hba.conf lets it in from here; \
             if a restored cluster refuses connections, recover it to before the roles were \
             changed"
        }
        _ => {
            "set the role's password (`password` of the source, or --to-password-file), or let it \
              in by pg_hba.conf"
        }
    }
    .to_owned()
}
