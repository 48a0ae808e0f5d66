mod hints;
mod leftover;
mod lists;
mod own;
mod said;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use drctl_model::{Class, Classified};

use self::lists::{list_paths, list_rows, quoted};
use crate::pg::dump::{RowDifference, WalkError};

pub use leftover::Leftover;
pub use own::OwnError;
pub use said::ServerSaid;

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

/// A table that the role may not read, or not all of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The schema it is in.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// Whether it may be read, but policies (row-level security) hide rows.
    pub policies: bool,
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
    /// The server is there, and no session comes about in a database.
    #[error("the PostgreSQL server at {target} gives no session in the database `{database}`")]
    NoEntry {
        /// Host and port.
        target: String,
        /// The database.
        database: String,
        /// What was answered.
        source: ServerSaid,
    },
    /// What answers lends sessions that belong to others.
    #[error("a pooler stands between drctl and the PostgreSQL server at {target}")]
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
    /// What was named as a table has no rows that could be taken out.
    #[error("{name} {what}")]
    NoTable {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        what: &'static str,
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
    /// Others hold what a restore waits for.
    #[error(
        "the restore into database `{database}` has waited {} s for a lock that others hold",
        .waited.as_secs_f32()
    )]
    Waits {
        /// The database.
        database: String,
        /// How long it was borne.
        waited: Duration,
        /// Who is in the way.
        blockers: Vec<Blocker>,
    },
    /// Tables came and went faster than they could be locked.
    #[error("the tables of database `{database}` changed during each of {attempts} attempts")]
    Unsettled {
        /// The database.
        database: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A tool that says nothing.
    #[error("{tool} has said nothing for {} s", .waited.as_secs_f32())]
    Silent {
        /// Its name.
        tool: &'static str,
        /// How long.
        waited: Duration,
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
    /// A dump that was to be restored is not whole.
    #[error("the dump of {what} that was read for the restore is damaged or incomplete")]
    Damaged {
        /// The stream, for people.
        what: String,
        /// What is wrong.
        source: WalkError,
    },
    /// Data of a cluster is not in the copy that its server sends.
    #[error("the server leaves data out of the base backup: {}", .what.join(", "))]
    LeftOut {
        /// Where it lies in the data directory.
        what: Vec<String>,
    },
    /// A copy of a cluster that was laid out or put together is not the one that it should be.
    #[error("what lies in {place} is not what its list of files says")]
    Differs {
        /// The data directory.
        place: String,
        /// What is wrong.
        source: WalkError,
    },
    /// The rows in the dump are not those that the server counted on the same snapshot.
    #[error("the dump of database `{database}` does not have the rows that the server counted: {}",
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
    /// A database bears the mark of a restore that has not come to its end.
    #[error("the target is not whole: the restore of {} is under way, or broke off", quoted(.names))]
    Unfinished {
        /// Which ones.
        names: Vec<String>,
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
    #[error("the restore of database `{database}` failed; {left}")]
    RestoreFailed {
        /// The database, as it is named on the target.
        database: String,
        /// What is left of it.
        left: Leftover,
        /// Why it failed.
        source: Box<EngineError>,
    },
    /// What only one engine knows of.
    #[error(transparent)]
    Own(OwnError),
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
            EngineError::Connect { .. } | EngineError::NoEntry { .. } => "connect",
            EngineError::Auth { .. } => "auth",
            EngineError::Pooler { .. } => "pooler",
            EngineError::NoDatabase { .. } => "no_database",
            EngineError::NoTable { .. } => "no_table",
            EngineError::Locks { .. }
            | EngineError::Unsettled { .. }
            | EngineError::Waits { .. } => "locks",
            EngineError::ToolFailed { .. } => "tool_failed",
            EngineError::Silent { .. } => "silent",
            EngineError::Structure { .. } | EngineError::Damaged { .. } => "structure",
            EngineError::LeftOut { .. } => "copy_incomplete",
            EngineError::Differs { .. } => "copy_differs",
            EngineError::Counts { .. } => "counts",
            EngineError::NotEmpty { .. } => "not_empty",
            EngineError::Unfinished { .. } => "unfinished",
            EngineError::Exists { .. } => "exists",
            EngineError::Permission { .. } => "permission",
            EngineError::Query { .. } => "query",
            EngineError::RestoreFailed { source, .. } => source.code(),
            EngineError::Own(own) => own.said().code(),
            EngineError::Config(_) => "config",
            EngineError::Io { .. } => "io",
        }
    }
}

impl Classified for EngineError {
    fn code(&self) -> &'static str {
        EngineError::code(self)
    }

    fn class(&self) -> Class {
        match self {
            EngineError::Own(own) => own.said().class(),
            EngineError::RestoreFailed { source, .. } => source.class(),
            EngineError::NotEmpty { .. }
            | EngineError::Unfinished { .. }
            | EngineError::Exists { .. } => Class::Target,
            EngineError::NoTable { .. } => Class::NoTarget,
            EngineError::Differs { .. } => Class::Verification,
            _ => Class::Source,
        }
    }

    fn hint(&self) -> Option<String> {
        EngineError::hint(self)
    }
}
