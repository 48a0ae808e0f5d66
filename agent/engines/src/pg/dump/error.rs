use std::fmt::Write as _;
use std::time::Duration;

use drctl_model::{Class, Classified};

use super::counts::RowDifference;
use super::leftover::Leftover;
use super::walker::WalkError;
use crate::common::EngineError;
use crate::pg::server::error::quoted;
use crate::pg::server::{ServerSaid, typed_ident};

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

/// What goes wrong with a dump, or with what is made of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
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
    /// The rows in the dump are not those that the server counted on the same snapshot.
    #[error("the dump of database `{database}` does not have the rows that the server counted: {}",
            list_rows(.differences))]
    Counts {
        /// The database.
        database: String,
        /// The tables that differ.
        differences: Vec<RowDifference>,
    },
    /// A database bears the mark of a restore that has not come to its end.
    #[error("the target is incomplete: the restore of {} is still running, or broke off", quoted(.names))]
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
    /// A database that is there lacks the schema that every new one has.
    #[error(
        "the database `{name}` is there, and has no schema public, which tables of the backup need"
    )]
    NoPublic {
        /// Its name.
        name: String,
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
}

impl From<DumpError> for EngineError {
    fn from(error: DumpError) -> Self {
        EngineError::from_own(error)
    }
}

impl Classified for DumpError {
    fn code(&self) -> &'static str {
        match self {
            DumpError::Locks { .. } | DumpError::Unsettled { .. } | DumpError::Waits { .. } => {
                "locks"
            }
            DumpError::Structure { .. } | DumpError::Damaged { .. } => "structure",
            DumpError::Counts { .. } => "counts",
            DumpError::Unfinished { .. } => "unfinished",
            DumpError::Exists { .. } => "exists",
            DumpError::NoPublic { .. } => "no_public_schema",
            DumpError::RestoreFailed { source, .. } => source.code(),
        }
    }

    fn class(&self) -> Class {
        match self {
            DumpError::Unfinished { .. }
            | DumpError::Exists { .. }
            | DumpError::NoPublic { .. } => Class::Target,
            DumpError::RestoreFailed { source, .. } => source.class(),
            _ => Class::Source,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            DumpError::Locks { blockers, .. } => locks_hint(blockers) + ", or raise lock_timeout",
            DumpError::Waits { blockers, .. } => locks_hint(blockers) + ", and restore again",
            DumpError::Unfinished { names } => unfinished_hint(names),
            DumpError::RestoreFailed { database, left, source } => {
                return restore_hint(database, *left, source);
            }
            DumpError::Damaged { .. } => {
                "verify the backup, and restore another one if it is damaged in the bucket"
                    .to_owned()
            }
            DumpError::Unsettled { .. } => {
                "run the backup when no tables are being created and dropped, or raise \
                 lock_attempts"
                    .to_owned()
            }
            DumpError::Exists { name } => {
                format!("restore under another name, or drop `{name}` first; nothing was changed")
            }
            DumpError::NoPublic { name } => format!(
                "drop `{name}`, and the restore makes it as it was, or run `CREATE SCHEMA public` in it; \
                 nothing was changed"
            ),
            DumpError::Structure { .. } => {
                "this attempt is not a backup and earlier backups are not affected; run it again, \
                 and check memory and disks of this host if it repeats"
                    .to_owned()
            }
            DumpError::Counts { .. } => {
                "this attempt is not a backup and earlier backups are not affected; run it again, \
                 and check the tables for a damaged index or heap (amcheck) if it repeats"
                    .to_owned()
            }
        })
    }
}

fn list_rows(differences: &[RowDifference]) -> String {
    let mut text: Vec<String> = differences.iter().take(10).map(ToString::to_string).collect();
    if differences.len() > 10 {
        text.push(format!("and {} more tables", differences.len() - 10));
    }
    text.join(", ")
}

fn restore_hint(database: &str, left: Leftover, source: &EngineError) -> Option<String> {
    let before = source.hint();
    if !matches!(left, Leftover::Ours | Leftover::Theirs) {
        return before;
    }
    let drop = format!("DROP DATABASE {};", typed_ident(database));
    let before = before.map(|hint| hint + "; ").unwrap_or_default();
    Some(format!("{before}remove what was restored with `{drop}` before the next attempt"))
}

fn unfinished_hint(names: &[String]) -> String {
    let drop = |name: &String| format!("DROP DATABASE {};", typed_ident(name));
    let drop: Vec<String> = names.iter().map(drop).collect();
    format!(
        "wait for a restore that still runs; if none runs (`SELECT * FROM pg_stat_activity`), \
         remove what was restored with `{}` and restore again. Nothing was changed",
        drop.join(" ")
    )
}

fn locks_hint(blockers: &[Blocker]) -> String {
    let Some(first) = blockers.first() else {
        return "run it when no schema changes run".to_owned();
    };
    let mut text = String::new();
    for blocker in blockers.iter().take(5) {
        let Blocker { pid, user, application, query, table } = blocker;
        let _ = write!(
            text,
            "{table} is locked or waited for by pid {pid} ({user}, {application}; its last \
             statement: `{query}`); "
        );
    }
    let pid = first.pid;
    text + &format!("wait for it, or end it with `SELECT pg_terminate_backend({pid})`")
}
