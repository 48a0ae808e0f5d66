use std::fs::{self, File};
use std::path::{Path, PathBuf};

use drctl_model::{BackupSummary, RepositoryId};
use rusqlite::{Connection, ErrorCode};

use crate::backups::Before;
use crate::error::{Fault, io};
use crate::open::{
    PATIENCE, Share, beside, connect, create, end_doubt, exists, local_directory, lock, regular,
    remove, sweep, sync_directory,
};
use crate::schema::{Nature, STEPS};
use crate::thread::Worker;
use crate::{
    CatalogError, Hook, backups, carried, check, jobs, lost, named, no_hook, schema, verified,
};

/// Files that SQLite keeps beside a database and would apply to whatever has its name.
const SIDE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// A catalog that is being made anew from what the bucket holds.
///
/// Written to a file of its own and put in the old one's place at the end. Nobody else can have
/// the catalog open meanwhile, and dropping it unfinished leaves the old one as it was.
///
/// # What a crash leaves
///
/// 1. Up to the swap: the old catalog, and a `….rebuild-…` that the next start sweeps.
/// 2. The old catalog is taken out of WAL mode. SQLite first copies its log into the file, syncs
///    it, and then removes `-wal` and `-shm`: the old catalog is complete at every moment, and no
///    log is left that SQLite could apply to the new file. The directory is synced, so that a
///    removed log does not come back after the rename.
///    (An old catalog that SQLite cannot read is no longer one: its side files are moved away, to
///    `….damaged-wal` and so on, next to a link to the file itself.)
/// 3. The new file was never in WAL mode, is closed and synced, has nothing beside it. The rename
///    puts it in place: the name stands for the old file or for the new one.
pub struct Rebuild {
    worker: Worker<Build>,
    hook: Hook,
}

/// What a rebuild did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Backups that the new catalog holds.
    pub backups: u64,
    /// Jobs that were taken over from the old catalog.
    pub jobs: u64,
    /// Where the old catalog lies now, when not all of its job log could be read.
    pub damaged: Option<PathBuf>,
}

impl Rebuild {
    /// Begins the rebuild of the catalog at `path`, whether or not there is one.
    ///
    /// # Errors
    /// [`Busy`](CatalogError::Busy) while another process has the catalog open,
    /// [`Foreign`](CatalogError::Foreign), [`Newer`](CatalogError::Newer) and
    /// [`OtherRepository`](CatalogError::OtherRepository) where a file would be replaced that is
    /// not this repository's old catalog; and those of any write.
    pub async fn start(path: &Path, repository: &RepositoryId) -> Result<Self, CatalogError> {
        let repository = repository.clone();
        let worker = Worker::start(path, move |path| Build::start(path, &repository)).await?;
        Ok(Rebuild { worker, hook: no_hook })
    }

    /// Calls `hook` at the crash points.
    #[must_use]
    pub fn with_hook(mut self, hook: Hook) -> Self {
        self.hook = hook;
        self
    }

    /// Takes up backups that the bucket holds.
    ///
    /// # Errors
    /// [`Conflict`](CatalogError::Conflict) when one came before with another manifest; and those
    /// of any write.
    pub async fn add(&self, backups: &[BackupSummary]) -> Result<(), CatalogError> {
        let backups = backups.to_vec();
        self.worker.call(move |build| build.add(&backups)).await
    }

    /// Takes over the old catalog's job log and what was found by looking, checks the new catalog and puts it in place.
    ///
    /// # Errors
    /// [`Busy`](CatalogError::Busy) when another program has the old file open; and those of any
    /// write. The old catalog is in place then.
    pub async fn finish(self) -> Result<Rebuilt, CatalogError> {
        let hook = self.hook;
        self.worker.call(move |build| build.finish(hook)).await
    }
}

struct Build {
    path: PathBuf,
    new: PathBuf,
    connection: Option<Connection>,
    _lock: File,
}

impl Build {
    fn start(path: &Path, repository: &RepositoryId) -> Result<Self, Fault> {
        local_directory(path)?;
        regular(path)?;
        let lock = lock(path, Share::Alone, PATIENCE)?;
        sweep(path)?;
        may_be_replaced(path, repository)?;
        let new = beside(path, &format!(".rebuild-{}", std::process::id()));
        create(&new)?;
        let mut build = Build { path: path.to_owned(), new, connection: None, _lock: lock };
        let mut connection = connect(&build.new)?;
        // Nobody reads this file before it is complete, so its journal needs no file; it is
        // synced as a whole at the end.
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "MEMORY", |row| row.get(0))?;
        debug_assert_eq!(mode, "memory");
        connection.pragma_update(None, "synchronous", "OFF")?;
        schema::migrate(&mut connection, STEPS)?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        schema::claim(&connection, path, repository)?;
        build.connection = Some(connection);
        Ok(build)
    }

    fn add(&mut self, backups: &[BackupSummary]) -> Result<(), Fault> {
        let connection = self.connection.as_ref().ok_or(CatalogError::Stopped)?;
        backups::put_all(connection, backups, Before::Same)
    }

    fn finish(&mut self, hook: Hook) -> Result<Rebuilt, Fault> {
        let connection = self.connection.take().ok_or(CatalogError::Stopped)?;
        let log = copy_log(&self.path, &connection)?;
        let backups: i64 =
            connection.query_row("SELECT count(*) FROM backups", [], |row| row.get(0))?;
        connection.execute_batch("COMMIT")?;
        check::integrity(&connection)?;
        connection.close().map_err(|(_, error)| error)?;
        File::open(&self.new).and_then(|file| file.sync_all()).map_err(io("sync"))?;
        let damaged = retire(&self.path, log.damaged)?;
        hook("rebuild-before-rename");
        fs::rename(&self.new, &self.path).map_err(io("put in place"))?;
        sync_directory(&self.path)?;
        end_doubt(&self.path);
        hook("rebuild-after-rename");
        Ok(Rebuilt { backups: backups.cast_unsigned(), jobs: log.jobs, damaged })
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        self.connection = None;
        // After a rename it is gone; what cannot be removed now is swept by the next start.
        let _ = fs::remove_file(&self.new);
    }
}

/// Refuses to replace what is not an old catalog of this repository. A damaged file may go.
fn may_be_replaced(path: &Path, repository: &RepositoryId) -> Result<(), Fault> {
    let look = || {
        let connection = connect(path)?;
        if schema::inspect(&connection, path, STEPS)? == Nature::Fresh {
            return Ok(());
        }
        match schema::repository(&connection)? {
            Some(found) if &found != repository => {
                let (path, expected) = (path.to_owned(), repository.clone());
                Err(CatalogError::OtherRepository { path, found, expected }.into())
            }
            _ => Ok(()),
        }
    };
    if !exists(path)? {
        return Ok(());
    }
    look().or_else(|fault: Fault| if fault.is_damage() { Ok(()) } else { Err(fault) })
}

/// What became of the old job log.
#[derive(Debug, Default)]
struct Log {
    jobs: u64,
    damaged: bool,
}

/// Tables whose rows are carried over as they are, and whether those of a damaged catalog are too: what
/// was met, told and removed is better believed once too often, but what is missed for its rows is not.
const CARRIED: [(&str, &str, bool); 7] = [
    ("expired", "source, backup, at", true),
    ("findings", "source, code, subject, text, hint, first, last, settled", true),
    (
        "notices",
        "channel, source, code, subject, severity, text, since, stands, told, changes, counted, \
         extent",
        true,
    ),
    ("alert_tests", "channel, code, sent, acked", true),
    ("statements", "source, n, sha256", false),
    ("documents", "source, key", false),
    ("table_marks", "id, source, backup, marks", false),
];

/// Copies every job of the old catalog that can be read, and what was found by looking.
fn copy_log(old: &Path, new: &Connection) -> Result<Log, Fault> {
    let mut log = Log::default();
    if !exists(old)? {
        return Ok(log);
    }
    let open = || {
        let mut connection = connect(old)?;
        let nature = schema::inspect(&connection, old, STEPS)?;
        if nature != Nature::Fresh {
            schema::migrate(&mut connection, STEPS)?;
        }
        Ok((connection, nature))
    };
    let connection = match open() {
        Ok((connection, Nature::Catalog(_))) => connection,
        Ok((_, Nature::Fresh)) => return Ok(log),
        Err(fault) if Fault::is_damage(&fault) => return Ok(Log { jobs: 0, damaged: true }),
        Err(fault) => return Err(fault),
    };
    let (ids, read) = jobs::readable_ids(&connection);
    let mut outcomes = vec![read];
    for id in ids {
        let copied = jobs::load(&connection, id).and_then(|record| jobs::put(new, &record));
        log.jobs += u64::from(copied.is_ok());
        outcomes.push(copied);
    }
    // Of a damaged one nothing says what is missing in it, nor which rows never were there.
    let integrity = check::integrity(&connection);
    let is_sound = integrity.is_ok();
    outcomes.push(integrity);
    outcomes.push(verified::copy(&connection, new));
    outcomes.push(lost::carry_over(&connection, new, is_sound));
    outcomes.push(named::carry_over(&connection, new, is_sound));
    for (table, columns, of_damaged) in CARRIED {
        if is_sound || of_damaged {
            outcomes.push(carried::rows(&connection, new, table, columns));
        }
    }
    for outcome in outcomes {
        match outcome {
            Err(fault) if fault.is_damage() || is_double(&fault) => log.damaged = true,
            other => other?,
        }
    }
    Ok(log)
}

/// Whether a job came twice, which only a damaged index can let happen.
fn is_double(fault: &Fault) -> bool {
    matches!(fault, Fault::Sqlite(error)
        if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation))
}

/// Leaves the old catalog complete in its one file, with nothing beside it; a damaged one is kept
/// under another name too.
fn retire(path: &Path, mut damaged: bool) -> Result<Option<PathBuf>, Fault> {
    if exists(path)? {
        match settle(path) {
            Err(fault) if fault.is_damage() => damaged = true,
            other => other?,
        }
    }
    let kept = beside(path, ".damaged");
    let mut side_files = Vec::new();
    for suffix in SIDE_FILES {
        if exists(&beside(path, suffix))? {
            side_files.push(suffix);
        }
    }
    if damaged || !side_files.is_empty() {
        for suffix in [""].iter().chain(&SIDE_FILES) {
            remove(&beside(&kept, suffix))?;
        }
    }
    if damaged {
        fs::hard_link(path, &kept)
            .or_else(|_| fs::copy(path, &kept).map(drop))
            .map_err(io("keep a copy of"))?;
    }
    // They belong to a file that could not be read, or that somebody removed without them.
    for suffix in side_files {
        fs::rename(beside(path, suffix), beside(&kept, suffix))
            .map_err(io("move away a log beside"))?;
    }
    sync_directory(path)?;
    Ok(damaged.then_some(kept))
}

/// Takes the old catalog out of WAL mode, which needs it for ourselves.
fn settle(path: &Path) -> Result<(), Fault> {
    let connection = connect(path)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0))?;
    if mode != "delete" {
        return Err(Fault::Busy("another program has it open"));
    }
    connection.close().map_err(|(_, error)| error.into())
}
