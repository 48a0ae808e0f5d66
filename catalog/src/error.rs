mod system;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use drctl_model::{BackupId, Class, Classified, Illegal, JobId, RepositoryId, SourceId};

use system::{io_error, is_damage, sqlite_error};

/// Whatever lies beneath an error.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Why the catalog did not do what it was asked. Nothing was written then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// Its file does not hold what drctl wrote.
    #[error("the catalog {path} is damaged")]
    Corrupt {
        /// The catalog's file.
        path: PathBuf,
        /// What is wrong with it.
        source: Cause,
    },
    /// A database of some other program.
    #[error("{path} is a SQLite database, but not a catalog of drctl")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Written by a later drctl.
    #[error("the catalog {path} has version {found}; this drctl knows up to {known}")]
    Newer {
        /// The catalog's file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// Written by an earlier drctl, and opened for reading only.
    #[error("the catalog {path} has version {found}; this drctl reads {known}")]
    Older {
        /// The catalog's file.
        path: PathBuf,
        /// Its version; 0 before it was first written.
        found: i64,
        /// The version that this program reads.
        known: i64,
    },
    /// Another process was in the way for longer than is waited.
    #[error("the catalog {path} is busy: {who}")]
    Busy {
        /// The catalog's file.
        path: PathBuf,
        /// What is in the way.
        who: &'static str,
    },
    /// It may be read but not written.
    #[error("the catalog {path} cannot be written")]
    ReadOnly {
        /// The catalog's file.
        path: PathBuf,
        /// What said so.
        source: Cause,
    },
    /// The file system has no space left.
    #[error("no space is left for the catalog {path}")]
    Full {
        /// The catalog's file.
        path: PathBuf,
        /// What said so.
        source: Cause,
    },
    /// On a file system whose locks and shared memory SQLite cannot rely on.
    #[error("the catalog {path} would lie on {kind}")]
    Network {
        /// The catalog's file.
        path: PathBuf,
        /// The kind of file system.
        kind: &'static str,
    },
    /// The directory that it should lie in does not exist.
    #[error("the directory of the catalog {path} does not exist")]
    NoDirectory {
        /// The catalog's file.
        path: PathBuf,
    },
    /// Opened for reading, and not there.
    #[error("this host has no catalog: there is no {path}")]
    Missing {
        /// The catalog's file.
        path: PathBuf,
    },
    /// It is there, or may be, and this account may not look.
    #[error("this account may not read the catalog {path}")]
    Denied {
        /// The catalog's file.
        path: PathBuf,
        /// What said so.
        source: Cause,
    },
    /// The operating system refused.
    #[error("{verb} the catalog {path}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The catalog's file.
        path: PathBuf,
        /// What said so.
        source: Cause,
    },
    /// It caches another repository than the one that is configured.
    #[error("the catalog {path} belongs to the repository {found}, not to {expected}")]
    OtherRepository {
        /// The catalog's file.
        path: PathBuf,
        /// The repository that it belongs to.
        found: RepositoryId,
        /// The repository that was asked for.
        expected: RepositoryId,
    },
    /// An event that cannot happen to this job.
    #[error("the log of job {job} refuses the event")]
    IllegalEvent {
        /// The job.
        job: JobId,
        /// State and event.
        source: Illegal,
    },
    /// No job has this number.
    #[error("there is no job {0}")]
    UnknownJob(JobId),
    /// The job was begun for another backup than the one that is committed.
    #[error("job {job} was begun for the backup {began}")]
    JobMismatch {
        /// The job.
        job: JobId,
        /// The attempt that it logs.
        began: BackupId,
    },
    /// An identifier was used for a second attempt.
    #[error("the backup {source_id}/{backup} already has a job")]
    Reused {
        /// The source.
        source_id: SourceId,
        /// The attempt's identifier.
        backup: BackupId,
    },
    /// One backup with two manifests.
    #[error("the catalog knows the backup {source_id}/{backup} with another manifest")]
    Conflict {
        /// The source.
        source_id: SourceId,
        /// The backup's identifier.
        backup: BackupId,
    },
    /// No backup's identifier begins like this.
    #[error("no backup's id begins with `{prefix}`")]
    NoSuchBackup {
        /// What was asked for, shortened and printable.
        prefix: String,
    },
    /// Several backups' identifiers begin like this.
    #[error("several backups' ids begin with `{prefix}`: {}", .matches.join(", "))]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// The first of them, newest first, as `source/backup`.
        matches: Vec<String>,
    },
    /// A fault in drctl.
    #[error("ask the catalog {path}")]
    Internal {
        /// The catalog's file.
        path: PathBuf,
        /// What SQLite said.
        source: Cause,
    },
    /// The thread that owns the database is gone: a fault in drctl.
    #[error("the catalog's thread has ended")]
    Stopped,
}

const REBUILD: &str = "Stop drctl's service and run `drctl catalog rebuild`: the catalog is only \
    a cache, it is made anew from the bucket, and nothing in the bucket is touched.";

impl CatalogError {
    /// A short, stable name for logs, metrics and exit reports.
    #[must_use]
    pub fn code(&self) -> &'static str {
        use CatalogError as E;
        match self {
            E::Corrupt { .. } => "catalog_corrupt",
            E::Foreign { .. } => "catalog_foreign",
            E::Newer { .. } => "catalog_newer",
            E::Older { .. } => "catalog_older",
            E::Busy { .. } => "catalog_busy",
            E::ReadOnly { .. } => "catalog_read_only",
            E::Full { .. } => "catalog_full",
            E::Network { .. } => "catalog_network",
            E::NoDirectory { .. } => "catalog_no_directory",
            E::Missing { .. } => "catalog_missing",
            E::Denied { .. } => "catalog_denied",
            E::Io { .. } => "catalog_io",
            E::OtherRepository { .. } => "catalog_other_repository",
            E::IllegalEvent { .. } => "catalog_illegal_event",
            E::UnknownJob(_) => "catalog_unknown_job",
            E::JobMismatch { .. } => "catalog_job_mismatch",
            E::Reused { .. } => "catalog_backup_reused",
            E::Conflict { .. } => "catalog_conflict",
            E::NoSuchBackup { .. } => "catalog_no_such_backup",
            E::Ambiguous { .. } => "catalog_ambiguous_backup",
            E::Internal { .. } => "catalog_internal",
            E::Stopped => "catalog_stopped",
        }
    }

    /// What the operator can do about it, as an imperative sentence.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        use CatalogError as E;
        match self {
            E::Corrupt { .. } => Some(REBUILD),
            E::Foreign { .. } => Some(
                "Name another file for the catalog in the configuration; drctl leaves this one \
                 alone.",
            ),
            E::Newer { .. } => Some(
                "Use the newer drctl that wrote it; or move the file away and run `drctl catalog \
                 rebuild`: the catalog is only a cache, and nothing in the bucket is touched.",
            ),
            E::Older { .. } => Some(
                "Start drctl's service once, which brings the catalog up to date; or run `drctl \
                 catalog rebuild`: the catalog is only a cache, and nothing in the bucket is \
                 touched.",
            ),
            E::Busy { .. } => Some(
                "Wait for the other drctl process to end and try again; before a rebuild, stop \
                 drctl's service.",
            ),
            E::ReadOnly { .. } => Some(
                "Run drctl as the user who owns the catalog, and see that its directory and file \
                 system are writable; nothing in the bucket is touched.",
            ),
            E::Full { .. } => Some(
                "Free space on the catalog's file system and try again; backups in the bucket \
                 are not touched.",
            ),
            E::Network { .. } => Some(
                "Put the catalog on a local disk: SQLite's locks cannot be relied on elsewhere. \
                 It is only a cache and needs no copy; `drctl catalog rebuild` makes it anew.",
            ),
            E::NoDirectory { .. } => {
                Some("Make the directory, owned by the user who runs drctl, with mode 0700.")
            }
            E::Missing { .. } => Some(
                "The first backup makes it: `drctl backup SOURCE`. Where backups were made already, run \
                 `drctl catalog rebuild`: the catalog is only a cache, and is made anew from the bucket.",
            ),
            E::Denied { .. } => Some(
                "Run this as the account that makes the backups, or as root. For other accounts it \
                 can save the output of `drctl --json status` where they may read it.",
            ),
            E::Io { .. } => Some(
                "Check the disk and the permissions of the catalog's directory; the catalog is \
                 only a cache, and `drctl catalog rebuild` makes it anew from the bucket.",
            ),
            E::OtherRepository { .. } => Some(
                "Name another file for the catalog in the configuration, or the repository that \
                 this one belongs to.",
            ),
            E::Conflict { .. } => Some(
                "Run `drctl catalog check`, and find out who wrote the second manifest before \
                 anything is restored from either.",
            ),
            E::NoSuchBackup { .. } => Some("List the backups with `drctl list`."),
            E::Ambiguous { .. } => Some("Give more of the id's characters."),
            E::IllegalEvent { .. }
            | E::UnknownJob(_)
            | E::JobMismatch { .. }
            | E::Reused { .. }
            | E::Internal { .. }
            | E::Stopped => None,
        }
    }

    /// Whether the same call cannot succeed later without anyone doing something else.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        use CatalogError as E;
        !matches!(self, E::Busy { .. } | E::Full { .. } | E::Io { .. })
    }
}

/// An error inside the crate: it does not know yet which file it is about.
#[derive(Debug)]
pub(crate) enum Fault {
    Sqlite(rusqlite::Error),
    /// A row, or the whole file, does not hold what drctl wrote.
    Damage(String),
    Io {
        verb: &'static str,
        source: io::Error,
    },
    Busy(&'static str),
    Said(CatalogError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Fault::Sqlite(error)
    }
}

impl From<CatalogError> for Fault {
    fn from(error: CatalogError) -> Self {
        Fault::Said(error)
    }
}

/// Names what was tried, for `map_err`.
pub(crate) fn io(verb: &'static str) -> impl FnOnce(io::Error) -> Fault {
    move |source| Fault::Io { verb, source }
}

impl Fault {
    /// Whether the content is wrong, so that trying again or elsewhere is of no use.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Fault::Damage(_) => true,
            Fault::Sqlite(error) => is_damage(error),
            Fault::Said(CatalogError::Corrupt { .. }) => true,
            Fault::Said(_) | Fault::Io { .. } | Fault::Busy(_) => false,
        }
    }

    pub(crate) fn at(self, path: &Path) -> CatalogError {
        let path = path.to_owned();
        match self {
            Fault::Said(error) => error,
            Fault::Busy(who) => CatalogError::Busy { path, who },
            Fault::Damage(what) => CatalogError::Corrupt { path, source: what.into() },
            Fault::Io { verb, source } => io_error(path, verb, source),
            Fault::Sqlite(error) => sqlite_error(path, error),
        }
    }
}

impl Classified for CatalogError {
    fn code(&self) -> &'static str {
        CatalogError::code(self)
    }

    fn class(&self) -> Class {
        match self {
            CatalogError::Busy { .. } => Class::Busy,
            CatalogError::Denied { .. } => Class::Configuration,
            _ => Class::Failure,
        }
    }

    fn hint(&self) -> Option<String> {
        CatalogError::hint(self).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(code: i32) -> CatalogError {
        Fault::from(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None))
            .at(Path::new("c.db"))
    }

    #[test]
    fn every_failure_of_sqlite_has_its_own_code() {
        use rusqlite::ffi as f;
        let cases = [
            (f::SQLITE_CORRUPT, "catalog_corrupt"),
            (f::SQLITE_NOTADB, "catalog_corrupt"),
            (f::SQLITE_BUSY, "catalog_busy"),
            (f::SQLITE_BUSY_SNAPSHOT, "catalog_busy"),
            (f::SQLITE_LOCKED, "catalog_busy"),
            (f::SQLITE_READONLY, "catalog_read_only"),
            (f::SQLITE_PERM, "catalog_read_only"),
            (f::SQLITE_FULL, "catalog_full"),
            (f::SQLITE_IOERR_SHMSIZE, "catalog_full"),
            (f::SQLITE_CANTOPEN, "catalog_io"),
            (f::SQLITE_IOERR, "catalog_io"),
            (f::SQLITE_IOERR_CORRUPTFS, "catalog_corrupt"),
            (f::SQLITE_ERROR, "catalog_internal"),
        ];
        for (code, name) in cases {
            let error = sqlite(code);
            assert_eq!(error.code(), name, "{code}");
            assert!(std::error::Error::source(&error).is_some() || name == "catalog_busy");
        }
    }

    #[test]
    fn failures_of_the_system_are_told_apart() {
        use io::ErrorKind as K;
        let cases = [
            (K::StorageFull, "catalog_full"),
            (K::PermissionDenied, "catalog_read_only"),
            (K::ReadOnlyFilesystem, "catalog_read_only"),
            (K::Other, "catalog_io"),
        ];
        for (kind, name) in cases {
            let error = io("make")(kind.into()).at(Path::new("c.db"));
            assert_eq!(error.code(), name, "{kind}");
            assert!(error.hint().is_some());
        }
    }
}
