//! A cluster's files extracted into a new directory.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use drctl_model::shown;

use super::members::{is_expected, tablespace_link};
use super::tar::{Member, MemberKind, TarWalker, Visit};
use crate::common::{Below, EngineError, FileTarget};
use crate::pg::dump::DumpError;
use crate::pg::dump::WalkError;

/// The data directory's name below the root of a restore.
const DATA: &str = "data";

/// The name of what holds the tablespaces.
const TABLESPACES: &str = "tablespaces";

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
        self.root.join(DATA)
    }

    /// A tablespace's directory.
    #[must_use]
    pub fn tablespace(&self, oid: u32) -> PathBuf {
        self.tablespaces().join(oid.to_string())
    }

    /// The directory of all tablespaces.
    #[must_use]
    pub fn tablespaces(&self) -> PathBuf {
        self.root.join(TABLESPACES)
    }

    /// Everything, to be reached without following a link.
    pub(super) fn root(&self) -> std::io::Result<Below> {
        Below::open(&self.root)
    }

    /// The data directory, to be reached without following a link.
    pub(super) fn below_data(&self) -> std::io::Result<Below> {
        self.root()?.enter(Path::new(DATA))
    }

    /// Where a file of the server's list lies below the root: those of tablespaces are listed below
    /// the link that leads to them.
    pub(super) fn listed(path: &str) -> PathBuf {
        let inner = path.strip_prefix("pg_tblspc/").and_then(|rest| rest.split_once('/'));
        match inner.and_then(|(oid, rest)| Some((oid.parse::<u32>().ok()?, rest))) {
            Some((oid, rest)) => Path::new(TABLESPACES).join(oid.to_string()).join(rest),
            // Joined as text: an absolute path stays one that is refused.
            None => PathBuf::from(format!("{DATA}/{path}")),
        }
    }
}

/// Extracts one archive: the data directory's, or a tablespace's.
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
        let what = root.display().to_string();
        let made = Below::make(&layout.root).and_then(|top| match oid {
            None => top.directory(Path::new(DATA)),
            Some(oid) => top.directory(&Path::new(TABLESPACES).join(oid.to_string())),
        });
        let below = made.map_err(EngineError::io(format!("make the directory {what}")))?;
        if !below.is_empty().map_err(EngineError::io(format!("look into {what}")))? {
            return Err(EngineError::NotEmpty { found: vec![what] });
        }
        let in_tablespace = oid.is_some();
        let extractor = Extractor { below, in_tablespace, layout: layout.clone(), current: None };
        Ok(DirectoryTarget { walker: Some(TarWalker::new(extractor)), what })
    }
}

impl FileTarget for DirectoryTarget {
    /// # Errors
    /// [`DumpError::Damaged`] for an archive that is none; also where a file cannot be written.
    fn push(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let Some(walker) = &mut self.walker else { return Ok(()) };
        let what = &self.what;
        walker
            .push(bytes)
            .map_err(|source| EngineError::from(DumpError::Damaged { what: what.clone(), source }))
    }

    fn finish(&mut self) -> Result<(), EngineError> {
        let Some(walker) = self.walker.take() else { return Ok(()) };
        let what = self.what.clone();
        let extractor = walker
            .finish()
            .map_err(|source| EngineError::from(DumpError::Damaged { what, source }))?;
        if !extractor.in_tablespace {
            let linked = extractor.link_in_place();
            linked.map_err(EngineError::io(format!("make the links in {}", self.what)))?;
        }
        let synced = extractor.below.sync_all();
        synced.map_err(EngineError::io(format!("sync {}", self.what)))
    }
}

struct Extractor {
    below: Below,
    in_tablespace: bool,
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
        let path = Path::new(&member.path);
        match (&member.kind, tablespace_link(&member.path)) {
            (MemberKind::Directory, _) => self.below.directory(path).map(|_| None),
            // Links lead to tablespaces, and theirs are elsewhere now.
            (MemberKind::Link(_), Some(oid)) => self.link(oid).map(|()| None),
            // Refused before.
            (MemberKind::Link(_), None) => Err(std::io::ErrorKind::InvalidInput.into()),
            (MemberKind::File, _) => {
                let file = self.below.create_new(path, member.mode & 0o700 | 0o600)?;
                let map = (member.path == "tablespace_map").then(Vec::new);
                Ok(Some(Current { path: member.path.clone(), file, map }))
            }
        }
    }

    fn link(&self, oid: u32) -> std::io::Result<()> {
        let path = Path::new("pg_tblspc").join(oid.to_string());
        self.below.link(&path, &self.layout.tablespace(oid))
    }

    /// Links to tablespaces that no map names: on the source they were directories of the data
    /// directory. Their archives come before this one's.
    fn link_in_place(&self) -> std::io::Result<()> {
        let came = match std::fs::read_dir(self.layout.tablespaces()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            came => came?,
        };
        for entry in came {
            let name = entry?.file_name();
            let oid = name.to_str().and_then(|name| name.parse().ok());
            let Some(oid) = oid.filter(|oid| *oid != 0) else { continue };
            match self.link(oid) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
        }
        Ok(())
    }

    /// `tablespace_map` as it must be here, and the links.
    fn moved(&self, map: &[u8]) -> Result<Vec<u8>, WalkError> {
        for oid in mapped(map)? {
            // The server makes the link again; tools that look before it want it too.
            self.link(oid).map_err(|error| Self::failed("pg_tblspc", &error))?;
        }
        relocated(map, &self.layout)
    }
}

/// The tablespaces in a `tablespace_map` (OID, blank, path; `do_pg_backup_start` in `xlog.c`).
fn mapped(map: &[u8]) -> Result<Vec<u32>, WalkError> {
    let text = String::from_utf8_lossy(map);
    let oid = |line: &str| {
        let oid: Option<u32> = line.split(' ').next().and_then(|oid| oid.parse().ok());
        oid.ok_or_else(|| WalkError::Contents("its tablespace_map is invalid".into()))
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
        is_expected(member, self.in_tablespace)?;
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::super::listing::Hasher;
    use super::super::tar::sample::{Sample, archive};
    use super::*;

    fn extracted(root: &Path, oid: Option<u32>, members: &[Sample<'_>]) -> Result<(), String> {
        let words = |error: EngineError| format!("{error:?}");
        let mut target = DirectoryTarget::new(&Layout::new(root), oid).map_err(words)?;
        target.push(&archive(members)).map_err(words)?;
        target.finish().map_err(words)
    }

    #[test]
    fn a_tablespace_in_place_is_reached_by_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let inside = [("PG_17_202406281/5/16390", b'0', "", &b"rows"[..])];
        extracted(root, Some(16385), &inside).unwrap();
        extracted(root, Some(16386), &[("PG_17_202406281/5/1", b'0', "", &b"more"[..])]).unwrap();
        let data = [
            ("pg_tblspc", b'5', "", &b""[..]),
            ("tablespace_map", b'0', "", &b"16386 /srv/fast\n"[..]),
        ];
        extracted(root, None, &data).unwrap();
        let rows = root.join("data/pg_tblspc/16385/PG_17_202406281/5/16390");
        assert_eq!(fs::read(rows).unwrap(), b"rows");
        assert_eq!(
            fs::read(root.join("data/pg_tblspc/16386/PG_17_202406281/5/1")).unwrap(),
            b"more"
        );
        let map = fs::read_to_string(root.join("data/tablespace_map")).unwrap();
        assert!(map.lines().count() == 1 && map.starts_with("16386 "), "{map}");
    }

    /// As a backup walks over it.
    fn walk(members: &[Sample<'_>]) -> Result<(), WalkError> {
        let mut walker = TarWalker::new(Hasher::default());
        walker.push(&archive(members))?;
        walker.finish().map(drop)
    }

    #[test]
    fn what_is_written_from_a_strangers_bytes_stays_below_its_directory() {
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("authorized_keys");
        fs::write(&secret, "theirs").unwrap();
        let (at, key) = (outside.path().to_str().unwrap(), secret.to_str().unwrap());
        let up = format!("pg_wal/../../../..{key}");
        let cases: [&[Sample<'_>]; 12] = [
            &[("base", b'2', at, b""), ("base/authorized_keys", b'0', "", b"ours")],
            &[("pg_wal", b'2', at, b""), ("pg_wal/000000010000000000000001", b'0', "", b"x")],
            &[("pg_wal/x", b'2', at, b""), ("pg_wal/x/authorized_keys", b'0', "", b"ours")],
            &[("pg_wal/authorized_keys", b'0', "", b"ours")],
            &[("pg_tblspc/1/", b'2', at, b""), ("pg_tblspc/1/authorized_keys", b'0', "", b"ours")],
            &[("pg_tblspc/x", b'2', at, b"")],
            &[("postgresql.auto.conf", b'2', key, b"")],
            &[("tablespace_map", b'2', key, b"")],
            &[(&up, b'0', "", b"ours")],
            &[(key, b'0', "", b"ours")],
            &[("base/1", b'1', key, b"")],
            &[("PG_VERSION", b'0', "", b"15"), ("PG_VERSION", b'0', "", b"16")],
        ];
        for members in cases {
            let root = tempfile::tempdir().unwrap();
            assert!(extracted(root.path(), None, members).is_err(), "{members:?}");
            // A backup takes none of them, unless all that is wrong is a link that leads elsewhere here.
            assert!(walk(members).is_err() || members[0].0 == "pg_tblspc/1/", "{members:?}");
        }
        let root = tempfile::tempdir().unwrap();
        let link: &[Sample<'_>] = &[("PG_15", b'2', at, b""), ("PG_15/x", b'0', "", b"ours")];
        assert!(extracted(root.path(), Some(5), link).is_err());
        assert_eq!(fs::read_to_string(&secret).unwrap(), "theirs");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_server_sends_is_extracted() {
        let root = tempfile::tempdir().unwrap();
        let members: &[Sample<'_>] = &[
            ("tablespace_map", b'0', "", b"16400 /srv/fast\n"),
            ("./pg_wal/", b'5', "", b""),
            ("./pg_wal/archive_status/", b'5', "", b""),
            ("base/", b'5', "", b""),
            ("base/1/", b'5', "", b""),
            ("base/1/1259", b'0', "", b"rows"),
            ("pg_wal/000000010000000000000001", b'0', "", b"log"),
        ];
        walk(members).unwrap();
        extracted(root.path(), None, members).unwrap();
        extracted(root.path(), Some(16400), &[("PG_15/1", b'0', "", b"more")]).unwrap();
        let data = root.path().join("data");
        assert_eq!(fs::read_to_string(data.join("base/1/1259")).unwrap(), "rows");
        let through = data.join("pg_tblspc/16400/PG_15/1");
        assert_eq!(fs::read_to_string(through).unwrap(), "more");
    }

    #[test]
    fn a_link_in_place_of_the_data_directory_is_not_followed() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(elsewhere.path(), root.path().join("data")).unwrap();
        assert!(extracted(root.path(), None, &[("PG_VERSION", b'0', "", b"15")]).is_err());
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}
