//! A cluster's files laid out in a new directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use drctl_model::shown;

use super::tar::{Member, MemberKind, TarWalker, Visit};
use crate::EngineError;
use crate::pg::WalkError;

/// Where the parts of a cluster lie after a restore, all below one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Everything below `root`, which is new or empty.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Layout { root: root.to_owned() }
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// A tablespace's directory.
    #[must_use]
    pub fn tablespace(&self, oid: u32) -> PathBuf {
        self.root.join("tablespaces").join(oid.to_string())
    }
}

/// Lays out one archive: the data directory's, or a tablespace's.
pub struct DirectoryTarget {
    walker: Option<TarWalker<Extractor>>,
    what: String,
}

impl DirectoryTarget {
    /// Makes the directory that the archive belongs into.
    ///
    /// # Errors
    /// [`EngineError::Io`], also for one that holds something.
    pub fn new(layout: &Layout, oid: Option<u32>) -> Result<Self, EngineError> {
        let root = oid.map_or_else(|| layout.data(), |oid| layout.tablespace(oid));
        let action = || format!("make the directory {}", root.display());
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&root);
        made.map_err(EngineError::io(action()))?;
        let mut entries = std::fs::read_dir(&root).map_err(EngineError::io(action()))?;
        if entries.next().is_some() {
            let found = vec![root.display().to_string()];
            return Err(EngineError::NotEmpty { found });
        }
        let what = root.display().to_string();
        let extractor = Extractor { root, layout: layout.clone(), current: None };
        Ok(DirectoryTarget { walker: Some(TarWalker::new(extractor)), what })
    }

    /// The next bytes of the archive. Writes files: for the blocking pool.
    ///
    /// # Errors
    /// [`EngineError::Damaged`] for an archive that is none; also where a file cannot be written.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let Some(walker) = &mut self.walker else { return Ok(()) };
        let what = &self.what;
        walker.push(bytes).map_err(|source| EngineError::Damaged { what: what.clone(), source })
    }

    /// Ends the archive; everything of it is on the disk then.
    ///
    /// # Errors
    /// As [`DirectoryTarget::push`].
    pub fn finish(&mut self) -> Result<(), EngineError> {
        let Some(walker) = self.walker.take() else { return Ok(()) };
        let what = self.what.clone();
        let extractor = walker.finish().map_err(|source| EngineError::Damaged { what, source })?;
        let action = || format!("sync {}", extractor.root.display());
        let root = File::open(&extractor.root).map_err(EngineError::io(action()))?;
        rustix::fs::syncfs(&root).map_err(|errno| EngineError::io(action())(errno.into()))
    }
}

struct Extractor {
    root: PathBuf,
    layout: Layout,
    current: Option<Current>,
}

struct Current {
    path: String,
    file: File,
    /// The content of `tablespace_map`, which is written with other places at its end.
    map: Option<Vec<u8>>,
}

impl Extractor {
    fn failed(path: &str, error: &std::io::Error) -> WalkError {
        WalkError::Contents(format!("{} cannot be written: {error}", shown(path, 200)))
    }

    fn make(&self, member: &Member) -> std::io::Result<Option<Current>> {
        let path = self.root.join(&member.path);
        let oid = member.path.strip_prefix("pg_tblspc/").and_then(|oid| oid.parse().ok());
        match (&member.kind, oid) {
            (MemberKind::Directory, _) => {
                DirBuilder::new().recursive(true).mode(0o700).create(path).map(|()| None)
            }
            // Links lead to tablespaces, and theirs are elsewhere now.
            (MemberKind::Link(_), Some(oid)) => {
                symlink(self.layout.tablespace(oid), path).map(|()| None)
            }
            (MemberKind::Link(target), None) => symlink(target, path).map(|()| None),
            (MemberKind::File, _) => {
                if let Some(parent) = path.parent() {
                    DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
                }
                let mode = member.mode & 0o700 | 0o600;
                let file =
                    OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
                let map = (member.path == "tablespace_map").then(Vec::new);
                Ok(Some(Current { path: member.path.clone(), file, map }))
            }
        }
    }

    fn link(&self, oid: u32, place: &Path) -> std::io::Result<()> {
        let links = self.root.join("pg_tblspc");
        DirBuilder::new().recursive(true).mode(0o700).create(&links)?;
        symlink(place, links.join(oid.to_string()))
    }

    /// `tablespace_map` as it must be here, and the links.
    fn moved(&self, map: &[u8]) -> Result<Vec<u8>, WalkError> {
        for oid in mapped(map)? {
            let place = self.layout.tablespace(oid);
            // The server makes the link again; tools that look before it want it too.
            self.link(oid, &place).map_err(|error| Self::failed("pg_tblspc", &error))?;
        }
        relocated(map, &self.layout)
    }
}

/// The tablespaces in a `tablespace_map` (OID, blank, path; `do_pg_backup_start` in `xlog.c`).
fn mapped(map: &[u8]) -> Result<Vec<u32>, WalkError> {
    let text = String::from_utf8_lossy(map);
    let oid = |line: &str| {
        let oid: Option<u32> = line.split(' ').next().and_then(|oid| oid.parse().ok());
        oid.ok_or_else(|| WalkError::Contents("its tablespace_map is odd".into()))
    };
    text.lines().filter(|line| !line.is_empty()).map(oid).collect()
}

/// The lines of a `tablespace_map` with the places where the tablespaces lie in `layout`: the server
/// makes its links from it.
pub(super) fn relocated(map: &[u8], layout: &Layout) -> Result<Vec<u8>, WalkError> {
    let mut moved = Vec::new();
    for oid in mapped(map)? {
        let place = layout.tablespace(oid).display().to_string();
        // The server reads a backslash as the sign of an escaped character.
        let place = place.replace('\\', "\\\\").replace('\n', "\\\n");
        moved.extend_from_slice(format!("{oid} {place}\n").as_bytes());
    }
    Ok(moved)
}

impl Visit for Extractor {
    fn begin(&mut self, member: &Member) -> Result<(), WalkError> {
        let made = self.make(member).map_err(|error| Self::failed(&member.path, &error));
        self.current = made?;
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), WalkError> {
        match &mut self.current {
            Some(Current { map: Some(map), .. }) => map.extend_from_slice(bytes),
            Some(Current { file, path, .. }) => {
                file.write_all(bytes).map_err(|error| Self::failed(path, &error))?;
            }
            None => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), WalkError> {
        if let Some(Current { mut file, path, map: Some(map) }) = self.current.take() {
            let moved = self.moved(&map)?;
            file.write_all(&moved).map_err(|error| Self::failed(&path, &error))?;
        }
        Ok(())
    }
}
