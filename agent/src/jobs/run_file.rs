//! The file of a job: its process has it locked while it runs, and notes in it what the catalog may not
//! take. The kernel lets go of the lock however the process ends, in whatever container it ran.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use drctl_engines::open_file;
use drctl_model::{JobNote, RunId};

use crate::host::locks::{Taken, is_locked, share_file, take_file};
use crate::host::private;

/// Where the files lie, below the state directory.
const FOLDER: &str = "jobs";

/// How much of a file is read: more is none of ours.
const LONGEST: u64 = 1 << 20;

/// How many names are tried. Somebody who looks may be faster than we at a new file.
const NAMES: usize = 10;

/// A job of this process, for as long as it lives.
#[derive(Debug)]
pub(super) struct RunFile {
    file: File,
    path: PathBuf,
}

/// The job of a process that is gone.
#[derive(Debug)]
pub(super) struct Left {
    /// What it noted last; nothing where that cannot be read.
    pub(super) note: Option<JobNote>,
    path: PathBuf,
    /// Keeps others from taking it for one that runs.
    _shared: File,
}

fn path(state: &Path, run: RunId) -> PathBuf {
    state.join(FOLDER).join(format!("{run}.job"))
}

impl RunFile {
    /// Makes and locks the file of a job, under a name that nobody has, which becomes the note's.
    ///
    /// # Errors
    /// The file system's, also of one that knows no locks;
    /// [`AgentError::NotPrivate`](crate::host::AgentError::NotPrivate).
    pub(super) fn begin(state: &Path, note: &mut JobNote) -> anyhow::Result<Self> {
        private::directory(&state.join(FOLDER))?;
        for _ in 0..NAMES {
            let path = path(state, note.run);
            if let Taken::Ours(file) = take_file(&path)?
                // Somebody may have taken it for one that was left, and removed it.
                && file.metadata()?.nlink() > 0
            {
                let mut begun = RunFile { file, path };
                begun.write(note)?;
                return Ok(begun);
            }
            note.run = RunId(rand::random());
        }
        Err(io::Error::from(ErrorKind::AlreadyExists).into())
    }

    /// Notes how things are now, behind what was noted before: a process that dies in the middle leaves
    /// that.
    pub(super) fn write(&mut self, note: &JobNote) -> io::Result<()> {
        let mut line = serde_json::to_vec(note)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.sync_data()
    }

    /// Ends it: everything that it tells is known elsewhere.
    pub(super) fn remove(self) {
        // What stays is taken in once more, and changes nothing.
        let _ = fs::remove_file(&self.path);
    }
}

impl Left {
    /// Removes it, once all that it tells is known elsewhere.
    pub(super) fn remove(self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the process of a job lives. One of which that cannot be seen is not taken for dead.
pub(super) fn lives(state: &Path, run: RunId) -> bool {
    is_locked(&path(state, run)).unwrap_or(true)
}

/// The jobs whose processes are gone and that nobody has taken in yet.
pub(super) fn left(state: &Path) -> Vec<Left> {
    let files = files(state).into_iter();
    let of_dead = files.filter_map(|path| {
        let mut shared = share_file(&path).ok().flatten()?;
        let note = read(&mut shared).ok().flatten();
        Some(Left { note, path, _shared: shared })
    });
    of_dead.collect()
}

/// What all processes note of their jobs, the living ones too.
pub(super) fn notes(state: &Path) -> Vec<JobNote> {
    let note = |path: PathBuf| read(&mut open_file(&path).ok()?).ok().flatten();
    files(state).into_iter().filter_map(note).collect()
}

/// All files of jobs; none where they cannot be listed.
fn files(state: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(state.join(FOLDER)) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|ending| ending == "job")).collect()
}

/// The last line that is whole.
fn read(file: &mut File) -> io::Result<Option<JobNote>> {
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text.lines().rev().find_map(|line| serde_json::from_str(line).ok()))
}

#[cfg(test)]
mod tests {
    use drctl_model::{JobEvent, JobKind};
    use jiff::Timestamp;

    use super::*;

    fn note() -> JobNote {
        JobNote {
            run: RunId(7),
            kind: JobKind::Verify,
            source: "shop".parse().unwrap(),
            backup: None,
            started: Timestamp::UNIX_EPOCH,
            ended: None,
        }
    }

    #[test]
    fn a_job_is_left_when_its_process_is_gone_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let mut note = note();
        let mut runs = RunFile::begin(state, &mut note).unwrap();
        // One of the same name is another job.
        let mut second = self::note();
        let twin = RunFile::begin(state, &mut second).unwrap();
        assert_ne!(second.run, note.run);
        twin.remove();
        assert!(lives(state, note.run) && !lives(state, second.run));
        assert!(left(state).is_empty(), "it runs");
        assert_eq!(notes(state), [note.clone()]);
        note.ended = Some((Timestamp::MAX, JobEvent::Succeeded));
        runs.write(&note).unwrap();
        runs.file.write_all(b"{\"run\":").unwrap();
        drop(runs);
        assert!(!lives(state, note.run));
        let mut found = left(state);
        assert_eq!(found[0].note, Some(note.clone()), "the last that is whole");
        // Who only looks takes it for no living one while somebody else does.
        assert!(!lives(state, note.run) && left(state).len() == 1);
        found.pop().unwrap().remove();
        assert!(left(state).is_empty() && notes(state).is_empty());
    }
}
