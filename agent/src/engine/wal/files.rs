//! The files of a server's log as whoever hands it over sees them: where they lie, or opened by him and
//! handed on to somebody who may not look there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a cluster's control file is called among files that are handed on.
pub(super) const CONTROL: &str = "pg_control";

/// A server's `pg_wal`, or what was handed on of it; clones are the same.
#[derive(Clone)]
pub(crate) struct Files(Arc<Seen>);

struct Seen {
    pg_wal: PathBuf,
    handed: Option<Handed>,
}

/// Files that somebody else has opened.
pub(super) struct Handed {
    pub(super) files: BTreeMap<String, Arc<File>>,
    /// Those of which the server has said that it writes no more into them.
    pub(super) marked: BTreeSet<String>,
}

/// An opened file, read from its beginning, whoever reads it beside us.
pub(super) struct LogFile {
    file: Arc<File>,
    at: u64,
}

impl LogFile {
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }
}

impl Read for LogFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Files {
    /// Those beside a file.
    pub(crate) fn beside(path: &Path) -> Self {
        let pg_wal = path.parent().unwrap_or(Path::new("")).to_owned();
        Files(Arc::new(Seen { pg_wal, handed: None }))
    }

    /// Those that were handed on, of this directory.
    pub(super) fn handed(pg_wal: PathBuf, handed: Handed) -> Self {
        Files(Arc::new(Seen { pg_wal, handed: Some(handed) }))
    }

    /// Where one lies: to be named.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.pg_wal.join(name)
    }

    /// Opens one.
    ///
    /// # Errors
    /// The file system's, also for one that was not handed on.
    pub(super) fn open(&self, name: &str) -> io::Result<LogFile> {
        let file = match &self.0.handed {
            None if name == CONTROL => Arc::new(File::open(self.control())?),
            None => Arc::new(File::open(self.path(name))?),
            Some(handed) => {
                let file = handed.files.get(name).map(Arc::clone);
                file.ok_or_else(|| io::Error::new(ErrorKind::NotFound, "it was not handed over"))?
            }
        };
        Ok(LogFile { file, at: 0 })
    }

    /// What is known of one without reading it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(super) fn metadata(&self, name: &str) -> io::Result<Metadata> {
        match &self.0.handed {
            None => std::fs::metadata(self.path(name)),
            Some(_) => self.open(name)?.metadata(),
        }
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.metadata(name).is_ok()
    }

    /// Where the cluster's identity is.
    pub(super) fn control(&self) -> PathBuf {
        self.0.pg_wal.parent().unwrap_or(Path::new("")).join("global").join(CONTROL)
    }

    /// Whether the server has said of a segment that it writes no more into it. Its records fill one, or
    /// a switch ends them, but for the last one of a timeline that a standby left behind
    /// (`archive_mode = always`): that is told apart from the one that is being written by this mark.
    pub(super) fn is_handed_over(&self, name: &str) -> bool {
        match &self.0.handed {
            None => {
                let status = self.0.pg_wal.join("archive_status");
                let marked = |end: &str| status.join(format!("{name}{end}")).exists();
                marked(".ready") || marked(".done")
            }
            Some(handed) => handed.marked.contains(name),
        }
    }
}
