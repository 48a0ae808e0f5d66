//! What the system and SQLite say, as errors of the catalog.

use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;

use super::CatalogError;

pub(super) fn io_error(path: PathBuf, verb: &'static str, source: io::Error) -> CatalogError {
    use io::ErrorKind as K;
    let kind = source.kind();
    let source = Box::new(source);
    match kind {
        K::StorageFull | K::QuotaExceeded => CatalogError::Full { path, source },
        K::PermissionDenied | K::ReadOnlyFilesystem => CatalogError::ReadOnly { path, source },
        _ => CatalogError::Io { verb, path, source },
    }
}

pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    match error {
        E::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                || failure.extended_code == rusqlite::ffi::SQLITE_IOERR_CORRUPTFS
        }
        E::InvalidColumnType(..)
        | E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::Utf8Error(..) => true,
        _ => false,
    }
}

pub(super) fn sqlite_error(path: PathBuf, error: rusqlite::Error) -> CatalogError {
    use ErrorCode as C;
    if is_damage(&error) {
        return CatalogError::Corrupt { path, source: Box::new(error) };
    }
    let code = match error.sqlite_error() {
        // The shared index of the log does not get the size that it needs.
        Some(e) if e.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE => Some(C::DiskFull),
        _ => error.sqlite_error_code(),
    };
    let source = Box::new(error);
    match code {
        Some(C::DatabaseBusy | C::DatabaseLocked | C::FileLockingProtocolFailed) => {
            CatalogError::Busy { path, who: "another process writes to it" }
        }
        Some(C::ReadOnly | C::PermissionDenied) => CatalogError::ReadOnly { path, source },
        Some(C::DiskFull) => CatalogError::Full { path, source },
        Some(C::CannotOpen) => CatalogError::Io { verb: "open", path, source },
        Some(C::SystemIoFailure) => CatalogError::Io { verb: "read or write", path, source },
        _ => CatalogError::Internal { path, source },
    }
}
