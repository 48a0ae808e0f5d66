use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use crate::CatalogError;
use crate::error::{Fault, io};
use crate::image;
use crate::schema::{self, Nature, STEPS};

/// How long a process waits for another one before it says that the catalog is busy.
pub(crate) const PATIENCE: Duration =
    if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(5) };

/// An open catalog, and the lock that keeps a rebuild from replacing its file meanwhile.
///
/// The fields' order matters: the database is closed before the lock goes.
pub(crate) struct Home {
    pub(crate) connection: Connection,
    _lock: Option<File>,
}

/// Opens for reading and writing; makes the file where there is none. Waits for others for as long as
/// `patience`.
pub(crate) fn read_write(path: &Path, patience: Duration) -> Result<Home, Fault> {
    local_directory(path)?;
    regular(path)?;
    if is_empty(path) {
        note_empty(path, patience)?;
    }
    let lock = lock(path, Share::Shared, patience)?;
    // No rebuild can run while we hold the lock, so what looks like one is a dead one's.
    sweep(path)?;
    create(path)?;
    let mut connection = connect(path)?;
    connection.busy_timeout(patience)?;
    schema::inspect(&connection, path, STEPS)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let source = io::Error::other("SQLite cannot keep a write-ahead log here");
        return Err(Fault::Io { verb: "open", source });
    }
    schema::migrate(&mut connection, STEPS)?;
    Ok(Home { connection, _lock: Some(lock) })
}

/// What lies beside a catalog in whose place was one that was lost, until somebody has taken note: what
/// that remembered is not known.
#[must_use]
pub fn forgotten(path: &Path) -> PathBuf {
    beside(path, ".forgotten")
}

/// What lies beside a catalog in which something damaged was met: whoever opens it next reads all of it.
fn doubt(path: &Path) -> PathBuf {
    beside(path, ".doubt")
}

/// Notes that something damaged was met, as far as the place takes it.
pub(crate) fn note_doubt(path: &Path) {
    let _ = note_lost(&doubt(path));
}

/// Whether something damaged was met since all of it was last read.
pub(crate) fn is_in_doubt(path: &Path) -> bool {
    doubt(path).exists()
}

/// All of it was read, or it was made anew.
pub(crate) fn end_doubt(path: &Path) {
    let _ = fs::remove_file(doubt(path));
}

/// Whether there is a file and nothing in it, not in its log either.
fn is_empty(path: &Path) -> bool {
    let length = |suffix| fs::metadata(beside(path, suffix)).map(|found| found.len());
    length("").is_ok_and(|length| length == 0) && length("-wal").unwrap_or(0) == 0
}

/// Notes that a catalog is empty: a crash or a full disk has left it so. One that somebody makes at this
/// moment is held open, and is none of that kind.
fn note_empty(path: &Path, patience: Duration) -> Result<(), Fault> {
    let Ok(_alone) = lock(path, Share::Alone, patience) else { return Ok(()) };
    if is_empty(path) {
        note_lost(&forgotten(path)).map_err(io("note what was lost beside"))?;
        remove(path)?;
    }
    Ok(())
}

/// Makes the note, or leaves one that is there; what a link leads to is nobody's note.
fn note_lost(place: &Path) -> io::Result<()> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(place);
    let is_file = || fs::symlink_metadata(place).is_ok_and(|found| found.is_file());
    match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && is_file() => Ok(()),
        made => made.map(drop),
    }
}

/// Opens an existing catalog for reading, also while another process writes to it.
pub(crate) fn read_only(path: &Path, patience: Duration) -> Result<Home, Fault> {
    local_directory(path)?;
    regular(path)?;
    if !exists(path)? {
        return Err(CatalogError::Missing { path: path.to_owned() }.into());
    }
    let lock = match exists(&beside(path, ".lock"))?.then(|| lock(path, Share::Shared, patience)) {
        Some(Ok(lock)) => Some(lock),
        // Not ours to make: root's would keep its owner out. The worst that a rebuild can do to us
        // is that we read the old file to its end.
        None => None,
        Some(Err(fault)) if is_forbidden(&fault) => None,
        Some(Err(fault)) => return Err(fault),
    };
    let connection = match look(path) {
        // A disk that is full or read-only has no room for what SQLite keeps beside it.
        Err(fault) if wants_room(&fault) => from_image(path).map_err(|_| fault)?,
        looked => looked?,
    };
    Ok(Home { connection, _lock: lock })
}

fn look(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    configure(&connection)?;
    let known = schema::known(STEPS);
    let found = match schema::inspect(&connection, path, STEPS)? {
        Nature::Fresh => 0,
        Nature::Catalog(found) => found,
    };
    if found < known {
        return Err(CatalogError::Older { path: path.to_owned(), found, known }.into());
    }
    Ok(connection)
}

/// Opens one in memory: what is written to it is lost.
pub(crate) fn in_memory(path: &Path) -> Result<Home, Fault> {
    regular(path)?;
    Ok(Home { connection: from_image(path)?, _lock: None })
}

/// The same in memory, of the present version whatever it was.
fn from_image(path: &Path) -> Result<Connection, Fault> {
    let mut connection = image::read(path)?;
    configure(&connection)?;
    schema::inspect(&connection, path, STEPS)?;
    schema::migrate(&mut connection, STEPS)?;
    Ok(connection)
}

/// Whether SQLite failed for want of room beside the catalog, or of leave to write there.
fn wants_room(fault: &Fault) -> bool {
    use rusqlite::ErrorCode as C;
    let Fault::Sqlite(error) = fault else { return false };
    let code = error.sqlite_error_code();
    matches!(code, Some(C::ReadOnly | C::DiskFull | C::CannotOpen | C::SystemIoFailure))
}

/// That a catalog, and what SQLite keeps beside it, are files as far as they are there: to open a pipe
/// would wait for somebody at its other end.
pub(crate) fn regular(path: &Path) -> Result<(), Fault> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        match fs::metadata(beside(path, suffix)) {
            Ok(found) if !found.is_file() => {
                let text = format!("{}{suffix} is no regular file", path.display());
                return Err(io("open")(io::Error::other(text)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Connects to an existing file, whatever it is, and changes nothing.
pub(crate) fn connect(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    configure(&connection)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> Result<(), Fault> {
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(())
}

/// Makes an empty file that only its owner can read, unless there is one.
///
/// An existing file is never opened here: closing it again would drop the locks that SQLite holds
/// on it elsewhere in this process.
pub(crate) fn create(path: &Path) -> Result<(), Fault> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => sync_directory(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io("make")(error)),
    }
}

pub(crate) fn exists(path: &Path) -> Result<bool, Fault> {
    path.try_exists().map_err(io("look for"))
}

pub(crate) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes the names in the catalog's directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), Fault> {
    File::open(directory(path))
        .and_then(|directory| directory.sync_all())
        .map_err(io("sync the directory of"))
}

/// The path with `suffix` behind its file name.
#[must_use]
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Who else may hold the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// Everybody who has the catalog open.
    Shared,
    /// Nobody: the file is replaced.
    Alone,
}

/// Takes the lock beside the catalog, `….lock`; the kernel frees it when its holder dies.
///
/// SQLite's own locks do not do: they belong to a file, and a rebuild puts another file in its
/// place. The lock file itself is never removed, which would make it two.
pub(crate) fn lock(path: &Path, share: Share, patience: Duration) -> Result<File, Fault> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(beside(path, ".lock"))
        .map_err(io("open the lock of"))?;
    let until = Instant::now() + patience;
    loop {
        let taken = match share {
            Share::Shared => file.try_lock_shared(),
            Share::Alone => file.try_lock(),
        };
        match (taken, share) {
            (Ok(()), _) => return Ok(file),
            (Err(TryLockError::Error(error)), _) => return Err(io("lock")(error)),
            (Err(TryLockError::WouldBlock), _) if Instant::now() < until => {
                thread::sleep(patience / 100);
            }
            (Err(TryLockError::WouldBlock), Share::Shared) => {
                return Err(Fault::Busy("it is being rebuilt"));
            }
            (Err(TryLockError::WouldBlock), Share::Alone) => {
                return Err(Fault::Busy("another drctl process has it open"));
            }
        }
    }
}

fn is_forbidden(fault: &Fault) -> bool {
    use ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(fault, Fault::Io { source, .. }
        if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem))
}

/// Removes what rebuilds left that did not reach their end. Only under the lock.
pub(crate) fn sweep(path: &Path) -> Result<(), Fault> {
    let Some(name) = path.file_name() else { return Ok(()) };
    let prefix = beside(Path::new(name), ".rebuild-");
    let prefix = prefix.as_os_str().as_encoded_bytes();
    for entry in fs::read_dir(directory(path)).map_err(io("list the directory of"))? {
        let entry = entry.map_err(io("list the directory of"))?;
        if entry.file_name().as_encoded_bytes().starts_with(prefix) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) -> Result<(), Fault> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(io("remove a leftover beside")(error))
        }
        _ => Ok(()),
    }
}

/// Whether the directory is there, and on a file system that SQLite can rely on.
pub(crate) fn local_directory(path: &Path) -> Result<(), Fault> {
    let directory = directory(path);
    if !directory.is_dir() {
        return Err(CatalogError::NoDirectory { path: path.to_owned() }.into());
    }
    #[cfg(target_os = "linux")]
    {
        let facts = rustix::fs::statfs(directory)
            .map_err(|errno| io("find the file system of")(errno.into()))?;
        // The field's type differs between architectures; the numbers fit into 32 bits.
        if let Some(kind) = unreliable(facts.f_type as u32) {
            return Err(CatalogError::Network { path: path.to_owned(), kind }.into());
        }
    }
    Ok(())
}

/// The name of a file system on which locks or shared memory do not hold between processes.
///
/// The numbers are those of `statfs(2)`. FUSE is among them although some of its file systems
/// are local: what lies behind it cannot be seen.
#[cfg(target_os = "linux")]
fn unreliable(magic: u32) -> Option<&'static str> {
    match magic {
        0x6969 => Some("NFS"),
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => Some("an SMB share"),
        0x6573_5546 => Some("a FUSE file system"),
        0x0102_1997 => Some("9P"),
        0x00C3_6400 => Some("CephFS"),
        0x0BD0_0BD0 => Some("Lustre"),
        0x4750_4653 => Some("GPFS"),
        0x5346_414F | 0x6B41_4653 => Some("AFS"),
        0x7375_7245 => Some("Coda"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn network_file_systems_are_known() {
        let cases = [
            (0x6969, true),
            (0xFF53_4D42, true),
            (0x6573_5546, true),
            (0xEF53, false),
            (0x5846_5342, false),
            (0x9123_683E, false),
            (0x0102_1994, false),
            (0x794C_7630, false),
        ];
        for (magic, network) in cases {
            assert_eq!(unreliable(magic).is_some(), network, "{magic:x}");
        }
    }

    #[test]
    fn a_link_in_the_place_of_the_note_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (path, precious) = (folder.path().join("c.db"), folder.path().join("precious"));
        fs::write(&precious, "kept").unwrap();
        std::os::unix::fs::symlink(&precious, forgotten(&path)).unwrap();
        fs::write(&path, "").unwrap();
        assert!(note_empty(&path, PATIENCE).is_err());
        assert_eq!(fs::read_to_string(&precious).unwrap(), "kept");
        // Nothing was lost on the way: the next one comes to the same.
        assert!(path.exists());
        // A note that is there stays as it is.
        fs::remove_file(forgotten(&path)).unwrap();
        fs::write(forgotten(&path), "kept").unwrap();
        assert!(note_empty(&path, PATIENCE).is_ok() && !path.exists());
        assert_eq!(fs::read_to_string(forgotten(&path)).unwrap(), "kept");
    }

    #[test]
    fn names_beside_a_bare_file_name() {
        assert_eq!(directory(Path::new("c.db")), Path::new("."));
        assert_eq!(directory(Path::new("/a/c.db")), Path::new("/a"));
        assert_eq!(beside(Path::new("/a/c.db"), "-wal"), Path::new("/a/c.db-wal"));
    }
}
