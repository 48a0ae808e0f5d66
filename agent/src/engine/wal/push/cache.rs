//! What a call of `archive_command` leaves for the calls that follow it: this file is stored.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use drctl_engines::Below;
use drctl_model::{Digest, RepositoryId, SourceId};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::engine::wal::files::Files;
use crate::host::locks::{Taken, take_file};
use crate::host::{private, read_within};

/// For how long a note is believed. It says that the bucket held the piece when the note was
/// written; after this, the bucket is asked again.
const BELIEVED_FOR: SignedDuration = SignedDuration::from_mins(5);

/// How long a file must have been left alone before it is read for a note. A change leaves its
/// mark only as finely as the kernel's clock ticks (10 ms at most): one right after the reading
/// could look like none.
const SETTLED_AFTER: SignedDuration = SignedDuration::from_millis(100);

/// The most bytes of a note.
const MAX_NOTE_BYTES: u64 = 4096;

/// The version of a note's form.
const VERSION: u32 = 1;

/// One state of one file: no write to it, and no other file in its place, leaves all of this as it
/// was. The time of the last change cannot be set by anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileMark {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileMark {
    pub(super) fn of(file: &Metadata) -> Self {
        FileMark {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    /// Whether a change from `now` on is sure to be seen.
    pub(super) fn settled(&self, now: Timestamp) -> bool {
        let at = |(seconds, nanos): (i64, i64)| {
            Timestamp::new(seconds, i32::try_from(nanos).unwrap_or_default())
        };
        let old = |time| at(time).is_ok_and(|at| now.duration_since(at) >= SETTLED_AFTER);
        old(self.changed) && old(self.modified)
    }
}

/// What a note is for, besides its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Scope {
    pub(super) source: SourceId,
    /// Of the whole configuration: where the repository is, who signs, who can read.
    pub(super) configuration: Digest,
}

/// A file that lies in the bucket, read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    v: u32,
    #[serde(flatten)]
    scope: Scope,
    /// Whose bucket it is.
    repository: RepositoryId,
    name: String,
    file: FileMark,
    written: Timestamp,
}

impl Note {
    /// Whether it stands for this file, as it is now.
    fn stands_for(&self, scope: &Scope, name: &str, file: &FileMark, now: Timestamp) -> bool {
        let age = now.duration_since(self.written);
        self.v == VERSION
            && self.scope == *scope
            && self.name == name
            && self.file == *file
            && (SignedDuration::ZERO..=BELIEVED_FOR).contains(&age)
    }
}

/// The last segment that was stored: what lies in the one before it need not be read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LastNote {
    v: u32,
    name: String,
    file: FileMark,
    plain_sha256: Digest,
}

/// Its name among the notes.
const LAST: &str = ".last";

/// The notes of one source.
#[derive(Debug, Clone)]
pub(super) struct PushCache {
    directory: PathBuf,
    scope: Scope,
}

impl PushCache {
    pub(super) fn new(state_dir: &Path, scope: Scope) -> Self {
        let directory = state_dir.join("pushed").join(scope.source.as_str());
        PushCache { directory, scope }
    }

    /// Whether a note says that this very file is stored. Read once, it is gone.
    pub(super) fn take(&self, files: &Files, name: &str, now: Timestamp) -> bool {
        let note = self.read(name);
        if note.is_some() {
            let _ = fs::remove_file(self.directory.join(name));
        }
        self.believed(note.as_ref(), files, name, now)
    }

    /// Whether a history of this name was stored under this configuration.
    pub(super) fn is_kept(&self, name: &str) -> bool {
        let scope = self.scope.configuration.to_string();
        read_within(&self.directory.join(name), 64 << 10, std::time::Duration::ZERO)
            .is_ok_and(|text| text == scope.as_bytes())
    }

    /// Remembers it; where that fails it is asked for again.
    pub(super) fn keep(&self, name: &str) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        let scope = self.scope.configuration.to_string().into_bytes();
        let path = self.directory.join(name);
        if made.and_then(|()| private::write(&path, scope)).is_err() {
            tracing::debug!("no note could be written that {name} is stored");
        }
    }

    /// The digest of a file of this name, as it is now, where it is the one that was stored last.
    pub(super) fn last(&self, name: &str, file: &Metadata) -> Option<Digest> {
        let note: LastNote = self.read(LAST)?;
        let is_it = note.v == VERSION && note.name == name && note.file == FileMark::of(file);
        is_it.then_some(note.plain_sha256)
    }

    /// Remembers what was stored last; where that fails it is read again.
    pub(super) fn keep_last(&self, name: &str, file: FileMark, plain_sha256: Digest) {
        let note = LastNote { v: VERSION, name: name.to_owned(), file, plain_sha256 };
        let write = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
            private::replace(&self.directory.join(LAST), serde_json::to_vec(&note)?)
        };
        if let Err(error) = write() {
            tracing::debug!("no note could be written of what was stored last: {error}");
        }
    }

    fn believed(&self, note: Option<&Note>, files: &Files, name: &str, now: Timestamp) -> bool {
        let Some((note, file)) = note.zip(files.metadata(name).ok()) else { return false };
        note.stands_for(&self.scope, name, &FileMark::of(&file), now)
    }

    /// A note that was torn by a crash is none.
    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let mut bytes = Vec::new();
        let file = Below::open(&self.directory).and_then(|below| below.read(Path::new(name)));
        let file = file.ok()?;
        let ours = file.metadata().ok()?.uid() == rustix::process::geteuid().as_raw();
        file.take(MAX_NOTE_BYTES).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok().filter(|_| ours)
    }

    /// Makes ready to write notes, unless another process is at it.
    ///
    /// # Errors
    /// The file system's: then nothing is stored ahead.
    pub(super) fn open(&self) -> io::Result<Option<OpenPushCache>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        if !private::is_ours(&self.directory.metadata()?) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        match take_file(&self.directory.join(".lock"))? {
            Taken::Ours(lock) => Ok(Some(OpenPushCache { cache: self.clone(), _lock: lock })),
            Taken::Held(_) => Ok(None),
        }
    }
}

/// Notes that only we write.
pub(super) struct OpenPushCache {
    cache: PushCache,
    _lock: File,
}

impl OpenPushCache {
    /// Removes every note that is of no use any more, and tells which of the waiting files have one.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn tidy(
        &self,
        files: &Files,
        waiting: &[String],
        now: Timestamp,
    ) -> io::Result<Vec<String>> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.cache.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == ".lock" || name.starts_with(LAST) || name.ends_with(".history") {
                continue;
            }
            let note = waiting.contains(&name).then(|| self.cache.read(&name)).flatten();
            if self.cache.believed(note.as_ref(), files, &name, now) {
                kept.push(name);
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(kept)
    }

    /// Writes that this file, as it was when it was read, lies in the bucket: appears whole or not
    /// at all. It is not synced: a note that a crash takes away costs a second look, no log.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn write(
        &self,
        name: &str,
        file: FileMark,
        repository: &RepositoryId,
        now: Timestamp,
    ) -> io::Result<()> {
        let note = Note {
            v: VERSION,
            scope: self.cache.scope.clone(),
            repository: repository.clone(),
            name: name.to_owned(),
            file,
            written: now,
        };
        private::replace(&self.cache.directory.join(name), serde_json::to_vec(&note)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "000000010000000000000007";

    fn scope(source: &str) -> Scope {
        Scope { source: source.parse().unwrap(), configuration: Digest([7; 32]) }
    }

    fn file() -> FileMark {
        FileMark { device: 1, inode: 2, bytes: 3, modified: (40, 5), changed: (60, 7) }
    }

    #[test]
    fn a_note_stands_for_one_state_of_one_file_for_a_while() {
        let now = Timestamp::from_second(1_000).unwrap();
        let note = Note {
            v: VERSION,
            scope: scope("shop"),
            repository: RepositoryId::new(7),
            name: NAME.to_owned(),
            file: file(),
            written: now,
        };
        let stands = |note: &Note, file: FileMark, later: i64| {
            let now = now + SignedDuration::from_secs(later);
            note.stands_for(&scope("shop"), NAME, &file, now)
        };
        assert!(stands(&note, file(), 0) && stands(&note, file(), 300));
        assert!(!stands(&note, file(), 301), "too old");
        assert!(!stands(&note, file(), -1), "from the future");
        let others: [fn(&mut FileMark); 7] = [
            |file| file.device += 1,
            |file| file.inode += 1,
            |file| file.bytes += 1,
            |file| file.modified.0 += 1,
            |file| file.modified.1 += 1,
            |file| file.changed.0 += 1,
            |file| file.changed.1 += 1,
        ];
        for change in others {
            let mut other = file();
            change(&mut other);
            assert!(!stands(&note, other, 0), "{other:?}");
        }
        let others: [fn(&mut Note); 4] = [
            |note| note.v += 1,
            |note| note.scope.configuration = Digest([8; 32]),
            |note| note.scope.source = "other".parse().unwrap(),
            |note| note.name = NAME.replace('7', "8"),
        ];
        for change in others {
            let mut other = note.clone();
            change(&mut other);
            assert!(!stands(&other, file(), 0), "{other:?}");
        }
    }

    #[test]
    fn a_file_that_was_changed_just_now_has_not_settled() {
        let at = |millis: i64| Timestamp::from_millisecond(60_000 + millis).unwrap();
        assert!(!file().settled(at(0)) && !file().settled(at(99)) && file().settled(at(101)));
        // A clock that was set back.
        assert!(!file().settled(at(-5_000)));
        let written = FileMark { modified: (60, 0), changed: (1, 0), ..file() };
        assert!(!written.settled(at(50)), "the last write counts too");
    }

    #[test]
    fn notes_are_used_once_and_what_is_of_no_use_goes() {
        let root = tempfile::tempdir().unwrap();
        let (state, pg_wal) = (root.path().join("state"), root.path().join("pg_wal"));
        fs::create_dir(&pg_wal).unwrap();
        let cache = PushCache::new(&state, scope("shop"));
        let now = Timestamp::from_second(1_000).unwrap();
        let path = pg_wal.join(NAME);
        fs::write(&path, "log").unwrap();
        let files = Files::beside(&path);
        assert!(!cache.take(&files, NAME, now));
        let open = cache.open().unwrap().unwrap();
        assert!(cache.open().unwrap().is_none(), "one process at a time");
        let mark = FileMark::of(&fs::metadata(&path).unwrap());
        let write = |name: &str| open.write(name, mark, &RepositoryId::new(7), now).unwrap();
        write(NAME);
        assert!(cache.take(&files, NAME, now) && !cache.take(&files, NAME, now));
        write(NAME);
        // Not waiting any more, torn, left by a crash: gone. The one that is of use stays.
        write("000000010000000000000001");
        let directory = state.join("pushed/shop");
        fs::write(directory.join("000000010000000000000002"), "{\"v\":1,").unwrap();
        fs::write(directory.join("000000010000000000000009.new"), "").unwrap();
        let waiting = [NAME.to_owned(), "000000010000000000000002".to_owned()];
        assert_eq!(open.tidy(&files, &waiting, now).unwrap(), [NAME]);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2, "the note and the lock");
        fs::write(&path, "other").unwrap();
        assert_eq!(open.tidy(&files, &waiting, now).unwrap(), [""; 0]);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn what_was_stored_last_is_known_as_long_as_the_file_is_the_same() {
        let root = tempfile::tempdir().unwrap();
        let cache = PushCache::new(&root.path().join("state"), scope("shop"));
        let path = root.path().join(NAME);
        fs::write(&path, "log").unwrap();
        let file = || fs::metadata(&path).unwrap();
        assert_eq!(cache.last(NAME, &file()), None);
        cache.keep_last(NAME, FileMark::of(&file()), Digest([9; 32]));
        assert_eq!(cache.last(NAME, &file()), Some(Digest([9; 32])));
        assert_eq!(cache.last("000000010000000000000008", &file()), None);
        // It stays when the others are tidied up.
        let now = Timestamp::from_second(1_000).unwrap();
        let open = cache.open().unwrap().unwrap();
        assert_eq!(open.tidy(&Files::beside(&path), &[], now).unwrap(), [""; 0]);
        assert_eq!(cache.last(NAME, &file()), Some(Digest([9; 32])));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "gol").unwrap();
        assert_eq!(cache.last(NAME, &file()), None, "another file in its place");
    }
}
