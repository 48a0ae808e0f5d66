use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::pg::{RowDifference, WalkError};

/// What a database server answered, or why it did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct ServerSaid {
    text: String,
    sqlstate: Option<String>,
}

impl ServerSaid {
    /// The five characters that name the error, where the server sent one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    pub(crate) fn is(&self, state: &SqlState) -> bool {
        self.sqlstate() == Some(state.code())
    }

    pub(crate) fn new(text: impl Into<String>) -> Self {
        ServerSaid { text: text.into(), sqlstate: None }
    }
}

impl From<tokio_postgres::Error> for ServerSaid {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            let mut text = format!("{}: {} ({})", db.severity(), db.message(), db.code().code());
            for more in [db.detail(), db.hint()].into_iter().flatten() {
                let _ = write!(text, "; {more}");
            }
            return ServerSaid { text, sqlstate: Some(db.code().code().to_owned()) };
        }
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let _ = write!(text, ": {inner}");
            cause = inner.source();
        }
        ServerSaid::new(text)
    }
}

/// A session that holds a lock we wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// The process id of its backend.
    pub pid: i32,
    /// The role it is logged in as, where we may see it.
    pub user: String,
    /// Its application name, where we may see it.
    pub application: String,
    /// The beginning of its query, where we may see it.
    pub query: String,
    /// The table it has locked, `schema.table`.
    pub table: String,
}

/// A table that the role may not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The schema it is in.
    pub schema: String,
    /// Its name.
    pub table: String,
}

/// Why a backup, a restore or a look at a server failed.
///
/// A message tells its own level only; what is behind it is in `source()`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
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
    #[error("the PostgreSQL server at {target} does not let the role `{user}` in")]
    Auth {
        /// Host and port.
        target: String,
        /// The role.
        user: String,
        /// What was answered.
        source: ServerSaid,
    },
    /// A database that does not exist, or takes no connections.
    #[error("there is no database {} on this server that takes connections", quoted(.names))]
    NoDatabase {
        /// The databases that were asked for and are not there.
        names: Vec<String>,
    },
    /// The locks for a snapshot could not be had.
    #[error("cannot lock the tables of database `{database}` for reading ({attempts} attempts of \
             {} s)", .waited.as_secs_f32())]
    Locks {
        /// The database.
        database: String,
        /// How often it was tried.
        attempts: u32,
        /// How long each attempt waited.
        waited: Duration,
        /// Which sessions held or asked for conflicting locks after the last attempt.
        blockers: Vec<Blocker>,
        /// What was answered.
        source: ServerSaid,
    },
    /// Tables came and went faster than they could be locked.
    #[error("the tables of database `{database}` changed during each of {attempts} attempts")]
    Unsettled {
        /// The database.
        database: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A tool ended with another status than 0.
    #[error("{tool} failed ({status})")]
    ToolFailed {
        /// Its name.
        tool: &'static str,
        /// How it ended: `exit status 1`, `killed by signal 9`.
        status: String,
        /// The last lines it wrote to its standard error.
        source: Stderr,
    },
    /// The tool's output is not what it must be, although the tool reported success.
    #[error("the output of {tool} for {what} is damaged or incomplete")]
    Structure {
        /// The tool's name.
        tool: &'static str,
        /// The stream, for people.
        what: String,
        /// What is wrong.
        source: WalkError,
    },
    /// The rows in the dump are not those that the server counted on the same snapshot.
    #[error("the dump of database `{database}` has not the rows that the server counted: {}",
            list_rows(.differences))]
    Counts {
        /// The database.
        database: String,
        /// The tables that differ.
        differences: Vec<RowDifference>,
    },
    /// The target holds something already.
    #[error("the target is not empty: {}", .found.join(", "))]
    NotEmpty {
        /// What was found, bounded.
        found: Vec<String>,
    },
    /// A database appeared while we were about to create it.
    #[error("the database `{name}` exists already")]
    Exists {
        /// Its name.
        name: String,
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
    /// A restore failed after it had begun.
    #[error("the restore of database `{database}` failed; {}", half_restored(*.created, *.dropped))]
    RestoreFailed {
        /// The database, as it is named on the target.
        database: String,
        /// Whether this run had created it.
        created: bool,
        /// Whether it was dropped again.
        dropped: bool,
        /// Why it failed.
        source: Box<EngineError>,
    },
    /// A setting that cannot work.
    #[error("{0}")]
    Config(String),
    /// An input or output operation failed.
    #[error("cannot {action}")]
    Io {
        /// What was being done.
        action: String,
        /// What the system answered.
        source: io::Error,
    },
}

/// The end of what a tool wrote to its standard error.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", if .0.is_empty() { "it said nothing about why" } else { .0.as_str() })]
pub struct Stderr(pub String);

impl EngineError {
    /// A stable word for the kind of error, for machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            EngineError::ToolMissing { .. } => "tool_missing",
            EngineError::VersionMismatch { .. } | EngineError::OlderServer { .. } => {
                "version_mismatch"
            }
            EngineError::Connect { .. } => "connect",
            EngineError::Auth { .. } => "auth",
            EngineError::NoDatabase { .. } => "no_database",
            EngineError::Locks { .. } | EngineError::Unsettled { .. } => "locks",
            EngineError::ToolFailed { .. } => "tool_failed",
            EngineError::Structure { .. } => "structure",
            EngineError::Counts { .. } => "counts",
            EngineError::NotEmpty { .. } => "not_empty",
            EngineError::Exists { .. } => "exists",
            EngineError::Permission { .. } => "permission",
            EngineError::Query { .. } => "query",
            EngineError::RestoreFailed { source, .. } => source.code(),
            EngineError::Config(_) => "config",
            EngineError::Io { .. } => "io",
        }
    }

    /// What the operator can do about it, as imperative sentences.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            EngineError::ToolMissing { major, .. } | EngineError::VersionMismatch { major, .. } => {
                format!("install postgresql-client-{major}, or point bin_dir at its programs")
            }
            EngineError::OlderServer { dump, .. } => {
                format!("restore into PostgreSQL {dump} or later; nothing was changed")
            }
            EngineError::Connect { source, .. } => connect_hint(source),
            EngineError::Auth { source, .. } => auth_hint(source),
            EngineError::NoDatabase { .. } => {
                "check the names in the configuration against `psql -l`".to_owned()
            }
            EngineError::Locks { blockers, .. } => locks_hint(blockers),
            EngineError::Unsettled { .. } => {
                "run the backup when no tables are being created and dropped, or raise \
                 lock_attempts"
                    .to_owned()
            }
            EngineError::Structure { .. } => {
                "this attempt is not a backup and earlier backups are not affected; run it again, \
                 and check memory and disks of this host if it repeats"
                    .to_owned()
            }
            EngineError::Counts { .. } => {
                "this attempt is not a backup and earlier backups are not affected; run it again, \
                 and check the tables for a damaged index or heap (amcheck) if it repeats"
                    .to_owned()
            }
            EngineError::NotEmpty { .. } => {
                "restore into an empty server or under another database name; nothing was changed"
                    .to_owned()
            }
            EngineError::Exists { name } => {
                format!("restore under another name, or drop `{name}` first; nothing was changed")
            }
            EngineError::Permission { advice, .. } => advice.clone(),
            EngineError::RestoreFailed { database, dropped: false, source, .. } => {
                let drop = format!("DROP DATABASE {};", crate::pg::quote_ident(database));
                let before = source.hint().map(|hint| hint + "; ").unwrap_or_default();
                format!("{before}remove what was restored with `{drop}` before the next attempt")
            }
            EngineError::RestoreFailed { source, .. } => return source.hint(),
            EngineError::ToolFailed { .. }
            | EngineError::Query { .. }
            | EngineError::Config(_)
            | EngineError::Io { .. } => return None,
        };
        Some(hint)
    }

    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> EngineError {
        let action = action.into();
        move |source| EngineError::Io { action, source }
    }

    pub(crate) fn query(
        action: impl Into<String>,
    ) -> impl FnOnce(tokio_postgres::Error) -> EngineError {
        let action = action.into();
        move |error| EngineError::Query { action, source: error.into() }
    }
}

fn connect_hint(said: &ServerSaid) -> String {
    match said.sqlstate() {
        Some("53300") => "all connection slots are taken: free some, or raise max_connections",
        Some("57P03") => "the server is starting up or shutting down: try again in a moment",
        _ => "check that the server runs and that host, port and sslmode are right",
    }
    .to_owned()
}

fn auth_hint(said: &ServerSaid) -> String {
    match said.sqlstate() {
        Some("28P01") => "check the password of the role",
        Some("28000") => "check that the role exists and that pg_hba.conf lets it in from here",
        _ => "set the role's password (password_file), or let it in by pg_hba.conf",
    }
    .to_owned()
}

fn locks_hint(blockers: &[Blocker]) -> String {
    let Some(first) = blockers.first() else {
        return "run the backup when no schema changes run, or raise lock_timeout".to_owned();
    };
    let mut text = String::new();
    for blocker in blockers.iter().take(5) {
        let Blocker { pid, user, application, query, table } = blocker;
        let _ = write!(text, "{table} is locked by pid {pid} ({user}, {application}): {query}; ");
    }
    let pid = first.pid;
    text + &format!(
        "wait for it, end it with `SELECT pg_terminate_backend({pid})`, or raise lock_timeout"
    )
}

fn half_restored(created: bool, dropped: bool) -> &'static str {
    match (created, dropped) {
        (_, true) => "this run had created it and has dropped it again",
        (true, false) => "this run had created it and could not drop it: it is incomplete",
        (false, false) => "it existed before this run and was left as it is: incomplete",
    }
}

fn list_paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn list_rows(differences: &[RowDifference]) -> String {
    let mut text: Vec<String> = differences.iter().take(10).map(ToString::to_string).collect();
    if differences.len() > 10 {
        text.push(format!("and {} more tables", differences.len() - 10));
    }
    text.join(", ")
}
