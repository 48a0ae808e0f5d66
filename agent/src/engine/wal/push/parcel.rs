//! A file of `pg_wal` with all that a push looks at beside it, opened by whoever may read it, for somebody
//! who may not. The opened files are handed on, and not their bytes: whoever takes them reads no more than
//! he needs, and knows each by what the kernel says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use drctl_model::{Timeline, WalSegmentSize};
use serde::{Deserialize, Serialize};

use super::batch::MOST_FILES;
use super::room;
use super::waiting::{Waiting, is_segment};
use crate::engine::wal::files::{CONTROL, Files, Handed};
use crate::engine::wal::preceding::file_before;

/// The most files of a parcel: the one, those that wait behind it, the one before, the cluster's identity, and
/// histories. The kernel
/// passes no more than 253 at once.
pub(crate) const MOST_HANDED: usize = MOST_FILES + 3 + MOST_HISTORIES;

/// The most histories among them.
const MOST_HISTORIES: usize = 16;

/// The longest name of a file, and the longest path.
const LONGEST_NAME: usize = 64;
const LONGEST_PATH: usize = 4096;

/// What is told of files that are handed on; they come in the order of the names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ParcelLabel {
    /// Where they lie, for people.
    pg_wal: PathBuf,
    /// The first one is to be stored.
    names: Vec<String>,
    /// Those of which the server has said that it writes no more into them.
    marked: Vec<String>,
    waiting: Option<Waiting>,
    /// The room that is left in the file system of `pg_wal`.
    room: Option<u64>,
}

/// The files, opened.
pub(crate) struct Parcel {
    label: ParcelLabel,
    files: Files,
}

impl Parcel {
    /// Opens a file and what a push looks at beside it: what is told of them, and the files.
    ///
    /// # Errors
    /// The file system's, for the file itself. What cannot be opened beside it is not handed on.
    pub(crate) fn gather(path: &Path) -> io::Result<(ParcelLabel, Vec<File>)> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let files = Files::beside(path);
        let mut gathered =
            Gathered { pg_wal: path.parent().unwrap_or(Path::new("")), all: Vec::new() };
        gathered.all.push((name.to_owned(), File::open(path)?));
        let mut waiting = Waiting::beside(path, name).unwrap_or_default();
        let kept = is_segment(name) || name.ends_with(".history");
        let followers: Vec<String> = match &waiting {
            Some(waiting) if is_segment(name) => waiting.behind(name, MOST_FILES).to_vec(),
            Some(waiting) if kept => waiting.past_history().behind(name, MOST_FILES).to_vec(),
            _ => Vec::new(),
        };
        let size =
            gathered.all[0].1.metadata().ok().and_then(|file| WalSegmentSize::new(file.len()));
        let parsed = size.and_then(|size| Some((size, size.parse_file_name(name).ok()?)));
        if let Some((size, (timeline, start))) = parsed
            && let Some((before, _)) = file_before(&files, timeline, start, size)
        {
            let _ = gathered.add(&before);
        }
        if kept {
            // Whoever stores a history, also one beside a segment, asks whose cluster it is of.
            gathered.control(&files);
        }
        let segments: Vec<String> =
            followers.into_iter().take_while(|name| gathered.add(name)).collect();
        gathered.histories(std::iter::once(name).chain(segments.iter().map(String::as_str)));
        if let Some(waiting) = &mut waiting {
            waiting.segments = segments;
        }
        let (names, opened): (Vec<String>, Vec<File>) = gathered.all.into_iter().unzip();
        let marked = names.iter().filter(|name| files.is_handed_over(name)).cloned().collect();
        let at = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let pg_wal = at.parent().unwrap_or(Path::new("/")).to_owned();
        Ok((ParcelLabel { pg_wal, names, marked, waiting, room: room(path) }, opened))
    }

    /// What somebody has handed on.
    ///
    /// # Errors
    /// What is no parcel: names that are none of `pg_wal`, other files than are named, what is no file.
    pub(crate) fn open(label: ParcelLabel, opened: Vec<File>) -> Result<Parcel> {
        if opened.len() != label.names.len() || opened.is_empty() || opened.len() > MOST_HANDED {
            bail!("{} files came, and {} are named", opened.len(), label.names.len());
        }
        let waiting = label.waiting.iter().flat_map(|waiting| &waiting.segments);
        if !label.names.iter().all(|name| is_name(name))
            || !waiting.clone().all(|name| is_segment(name))
        {
            bail!("a name is none of a file of pg_wal");
        }
        if !waiting.clone().is_sorted() || waiting.count() > MOST_FILES {
            bail!("what waits is not in order, or too much");
        }
        if label.pg_wal.as_os_str().len() > LONGEST_PATH {
            bail!("the path is too long");
        }
        for file in &opened {
            // What is read from anything else may never come.
            if !file.metadata().context("look at what was handed over")?.is_file() {
                bail!("what was handed over is no file");
            }
        }
        let files = label.names.iter().cloned().zip(opened.into_iter().map(Arc::new));
        let files: BTreeMap<String, Arc<File>> = files.collect();
        let marked: BTreeSet<String> = label.marked.iter().cloned().collect();
        let files = Files::handed(label.pg_wal.clone(), Handed { files, marked });
        Ok(Parcel { label, files })
    }

    /// The file that is to be stored.
    pub(crate) fn name(&self) -> &str {
        self.label.names.first().map_or("", String::as_str)
    }

    /// Where it lies.
    pub(crate) fn pg_wal(&self) -> &Path {
        &self.label.pg_wal
    }

    pub(super) fn files(&self) -> Files {
        self.files.clone()
    }

    pub(super) fn waiting(&self) -> Option<Waiting> {
        self.label.waiting.clone()
    }

    pub(super) fn room(&self) -> Option<u64> {
        self.label.room
    }
}

/// Whether it may be the name of a file of `pg_wal`: letters, digits and full stops.
fn is_name(name: &str) -> bool {
    let fits = (1..=LONGEST_NAME).contains(&name.len()) && !name.starts_with('.');
    fits && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_'))
}

struct Gathered<'a> {
    pg_wal: &'a Path,
    all: Vec<(String, File)>,
}

impl Gathered<'_> {
    /// Opens another one; whether that is done, or was.
    fn add(&mut self, name: &str) -> bool {
        if self.all.iter().any(|(known, _)| known == name) {
            return true;
        }
        let file = File::open(self.pg_wal.join(name));
        file.map(|file| self.all.push((name.to_owned(), file))).is_ok()
    }

    fn control(&mut self, files: &Files) {
        if let Ok(file) = File::open(files.control()) {
            self.all.push((CONTROL.to_owned(), file));
        }
    }

    /// The histories of the timelines that segments are of.
    fn histories<'n>(&mut self, segments: impl Iterator<Item = &'n str>) {
        let ids: BTreeSet<&str> =
            segments.filter(|name| is_segment(name)).map(|name| &name[..8]).collect();
        let first = format!("{:08X}", Timeline::FIRST.id());
        for id in ids.into_iter().filter(|id| **id != first).take(MOST_HISTORIES) {
            let _ = self.add(&format!("{id}.history"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "000000010000000000000007";

    fn label(names: &[&str]) -> ParcelLabel {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let (marked, pg_wal) = (Vec::new(), PathBuf::from("/data/pg_wal"));
        ParcelLabel { pg_wal, names, marked, waiting: None, room: None }
    }

    fn files(n: usize) -> Vec<File> {
        (0..n).map(|_| tempfile::tempfile().unwrap()).collect()
    }

    #[test]
    fn what_is_no_parcel_is_not_opened() {
        assert_eq!(Parcel::open(label(&[NAME]), files(1)).unwrap().name(), NAME);
        for (names, count) in [(&[][..], 0), (&[NAME][..], 0), (&[NAME][..], 2), (&[NAME, NAME], 1)]
        {
            assert!(Parcel::open(label(names), files(count)).is_err(), "{names:?} {count}");
        }
        for name in
            ["", "..", "../global/pg_control", ".last", ".lock", "a/b", "a\nb", &"7".repeat(65)]
        {
            assert!(Parcel::open(label(&[name]), files(1)).is_err(), "{name:?}");
        }
        let waits = |names: &[&str]| {
            let segments = names.iter().map(|name| (*name).to_owned()).collect();
            let waiting = Some(Waiting { segments, files: 1, history: false });
            Parcel::open(ParcelLabel { waiting, ..label(&[NAME]) }, files(1))
        };
        assert!(waits(&[NAME]).is_ok());
        assert!(waits(&["../../etc/cron.d/own"]).is_err());
        assert!(waits(&["000000010000000000000009", "000000010000000000000008"]).is_err());
        let pipe = || rustix::pipe::pipe().unwrap().0;
        assert!(Parcel::open(label(&[NAME]), vec![File::from(pipe())]).is_err(), "no file");
        let null = File::open("/dev/zero").unwrap();
        assert!(Parcel::open(label(&[NAME]), vec![null]).is_err(), "no file");
    }

    #[test]
    fn what_a_push_looks_at_is_gathered() {
        let root = tempfile::tempdir().unwrap();
        let (pg_wal, global) = (root.path().join("pg_wal"), root.path().join("global"));
        let status = pg_wal.join("archive_status");
        std::fs::create_dir_all(&status).unwrap();
        std::fs::create_dir(&global).unwrap();
        std::fs::write(global.join(CONTROL), [7; 8]).unwrap();
        let segment = |n: u64| format!("00000002000000000000000{n:X}");
        for n in 4..9 {
            std::fs::write(pg_wal.join(segment(n)), vec![0; 1 << 20]).unwrap();
            let mark = if n < 6 { "done" } else { "ready" };
            std::fs::write(status.join(format!("{}.{mark}", segment(n))), "").unwrap();
        }
        std::fs::write(pg_wal.join("00000002.history"), "1\t0/1000\tx\n").unwrap();
        let (label, files) = Parcel::gather(&pg_wal.join(segment(6))).unwrap();
        let history = "00000002.history".to_owned();
        let control = CONTROL.to_owned();
        let expected =
            [segment(6), segment(5), control.clone(), segment(7), segment(8), history.clone()];
        assert_eq!(label.names, expected);
        assert_eq!(label.marked, [segment(6), segment(5), segment(7), segment(8)]);
        let waiting = label.waiting.clone().unwrap();
        assert_eq!((waiting.segments.len(), waiting.files), (2, 3));
        assert!(Parcel::open(label, files).is_ok());
        std::fs::write(status.join("00000002.history.ready"), "").unwrap();
        let (label, _) = Parcel::gather(&pg_wal.join("00000002.history")).unwrap();
        assert_eq!(
            label.names[..3],
            ["00000002.history".to_owned(), CONTROL.to_owned(), segment(6)]
        );
        // While a history waits nothing is stored before it.
        let (label, _) = Parcel::gather(&pg_wal.join(segment(6))).unwrap();
        assert_eq!(label.names, [segment(6), segment(5), control, history]);
    }
}
