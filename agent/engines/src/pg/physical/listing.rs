//! `backup_manifest`: the server's list of what it sent, against what came.

use std::collections::{BTreeSet, HashMap};

use drctl_model::{Digest, Lsn, MAX_HISTORY_BYTES, Timeline, shown};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::brought::Brought;
use super::complete::directory_of;
use super::members::is_expected;
use super::tar::{Member, MemberKind, Visit};
use crate::pg::dump::WalkError;

/// The most bytes of a server's manifest: some 200 for each file.
pub const MAX_LISTING_BYTES: usize = 512 << 20;

/// The file that says which cluster it is, and where it stands.
const CONTROL: &str = "global/pg_control";

/// Where a backup says what it is.
const LABEL: &str = "backup_label";

/// Where the WAL lies.
const LOG: &str = "pg_wal/";

/// The most bytes of it that are looked at: it has some ten short lines.
const MAX_LABEL_BYTES: usize = 64 << 10;

/// What came of one file.
pub(super) type Came = (u64, Digest);

/// Hashes every file of an archive as it passes.
#[derive(Debug, Default)]
pub(super) struct Hasher {
    prefix: String,
    label: Vec<u8>,
    /// The first bytes of the control file.
    control: Vec<u8>,
    current: Option<(String, u64, Sha256)>,
    files: HashMap<String, Came>,
    told: usize,
    /// The WAL that it brings along.
    pub(super) brought: Option<Brought>,
    /// Histories of timelines that lie with that: the name's number, and the text.
    pub(super) histories: Vec<(Timeline, Vec<u8>)>,
    in_history: bool,
}

impl Hasher {
    /// Walks over the WAL that passes, too.
    pub(super) fn walking(brought: Brought) -> Self {
        Hasher { brought: Some(brought), ..Hasher::default() }
    }

    /// Goes on with the archive whose members lie below `prefix` in the data directory.
    pub(super) fn begin_archive(&mut self, prefix: &str) {
        prefix.clone_into(&mut self.prefix);
    }

    /// The name of the file of the WAL that passes, and its length.
    fn log_file(&self) -> Option<(&str, u64)> {
        let (path, size, _) = self.current.as_ref()?;
        Some((path.strip_prefix(LOG)?, *size))
    }

    /// What came of `backup_label`.
    pub(super) fn label(&self) -> &[u8] {
        &self.label
    }

    /// Whether the cluster that came is the one that the server says it is, by the first field of its
    /// control file (`ControlFileData`): somebody between could have altered the server's word, and
    /// recoveries would look for another cluster's WAL.
    pub(super) fn is_of(&self, said: u64) -> Result<(), WalkError> {
        let came = self.control.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        if came == Some(said) {
            return Ok(());
        }
        let came = came.map_or("none".to_owned(), |came| came.to_string());
        Err(wrong(format!("its pg_control is of the cluster {came}, and the server says {said}")))
    }

    /// The directories of databases that came: tablespace and database of each.
    pub(super) fn directories(&self) -> BTreeSet<(u32, u32)> {
        self.files.keys().filter_map(|path| directory_of(path)).collect()
    }

    /// How many files came since this was asked last.
    pub(super) fn take_new(&mut self) -> u64 {
        let new = self.files.len() - self.told;
        self.told = self.files.len();
        new as u64
    }
}

impl Visit for Hasher {
    fn begin(&mut self, member: &Member) -> Result<(), WalkError> {
        is_expected(member, !self.prefix.is_empty())?;
        let file = member.kind == MemberKind::File;
        self.current =
            file.then(|| (format!("{}{}", self.prefix, member.path), member.size, Sha256::new()));
        if let Some((name, size)) = self.log_file().map(|(name, size)| (name.to_owned(), size)) {
            let id = name.strip_suffix(".history").and_then(|id| u32::from_str_radix(id, 16).ok());
            let history = id.and_then(Timeline::new).filter(|_| size <= MAX_HISTORY_BYTES);
            self.histories.extend(history.map(|timeline| (timeline, Vec::new())));
            self.in_history = history.is_some();
            if let Some(brought) = &mut self.brought {
                brought.begin(&name, size);
            }
        }
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), WalkError> {
        if let Some((path, _, hash)) = &mut self.current {
            hash.update(bytes);
            if path.starts_with(LOG) {
                if let Some(brought) = &mut self.brought {
                    brought.data(bytes);
                }
                if let Some((_, text)) = self.histories.last_mut().filter(|_| self.in_history) {
                    text.extend_from_slice(bytes);
                }
            }
            if path == CONTROL && self.control.len() < size_of::<u64>() {
                self.control.extend_from_slice(bytes);
            }
            if path == LABEL && self.label.len() < MAX_LABEL_BYTES {
                self.label.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), WalkError> {
        let Some((path, size, hash)) = self.current.take() else { return Ok(()) };
        let digest = Digest(hash.finalize().into());
        if let Some(brought) = self.brought.as_mut().filter(|_| path.starts_with(LOG)) {
            brought.end(digest);
        }
        self.in_history = false;
        if self.files.insert(path.clone(), (size, digest)).is_some() {
            return Err(WalkError::Contents(format!("{} occurs twice", shown(&path, 200))));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
pub(super) struct Listing {
    #[serde(rename = "PostgreSQL-Backup-Manifest-Version")]
    version: u32,
    #[serde(rename = "System-Identifier")]
    system_id: Option<u64>,
    #[serde(rename = "Files")]
    pub(super) files: Vec<Listed>,
    #[serde(rename = "WAL-Ranges")]
    ranges: Vec<Range>,
    #[serde(rename = "Manifest-Checksum")]
    checksum: String,
}

/// What the list tells of one file.
#[derive(Deserialize)]
pub(super) struct Listed {
    #[serde(rename = "Path")]
    path: Option<String>,
    /// For a name that is not UTF-8.
    #[serde(rename = "Encoded-Path")]
    encoded: Option<String>,
    #[serde(rename = "Size")]
    pub(super) size: u64,
    #[serde(rename = "Checksum-Algorithm")]
    algorithm: Option<String>,
    #[serde(rename = "Checksum")]
    pub(super) checksum: Option<String>,
}

#[derive(Deserialize)]
struct Range {
    #[serde(rename = "Timeline")]
    timeline: Timeline,
    #[serde(rename = "Start-LSN")]
    start: Lsn,
    #[serde(rename = "End-LSN")]
    end: Lsn,
}

/// The WAL that a base backup needs to be consistent, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WalRange {
    /// The timeline.
    pub(super) timeline: Timeline,
    /// From here on.
    pub(super) start: Lsn,
    /// Up to here.
    pub(super) end: Lsn,
}

/// What the server's manifest says beside the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// The WAL that is needed.
    pub(super) ranges: Vec<WalRange>,
    /// The cluster's system identifier, where the manifest tells it (since PostgreSQL 17).
    pub(super) system_id: Option<u64>,
    /// How many files it lists, without those of the WAL.
    pub(super) files: u64,
}

/// Compares the server's manifest with what came, file by file.
///
/// # Errors
/// [`WalkError::Contents`] for a manifest that is cut or altered, a file that is missing, too many,
/// or of other bytes.
pub(super) fn compare(listing: &[u8], came: &Hasher) -> Result<Said, WalkError> {
    let parsed = read(listing)?;
    let mut listed = 0u64;
    for file in &parsed.files {
        let path = file.path()?;
        // What the WAL brings is not the manifest's to list.
        if path.starts_with("pg_wal/") {
            continue;
        }
        same(path, file, came.files.get(path))?;
        listed += 1;
    }
    let others = came.files.keys().filter(|path| !path.starts_with("pg_wal/")).count() as u64;
    if others != listed {
        return Err(wrong(format!("{others} files arrived, but it lists {listed}")));
    }
    let range =
        |range: &Range| WalRange { timeline: range.timeline, start: range.start, end: range.end };
    let ranges = parsed.ranges.iter().map(range).collect();
    Ok(Said { ranges, system_id: parsed.system_id, files: listed })
}

/// How many files a manifest lists, without those of the WAL.
///
/// # Errors
/// [`WalkError::Contents`] for a manifest that is cut or altered.
pub(super) fn count(listing: &[u8]) -> Result<u64, WalkError> {
    let parsed = read(listing)?;
    let in_log = |file: &&Listed| file.path().is_ok_and(|path| path.starts_with("pg_wal/"));
    Ok((parsed.files.len() - parsed.files.iter().filter(in_log).count()) as u64)
}

/// Parses a manifest and checks that it is whole.
///
/// # Errors
/// [`WalkError::Contents`].
pub(super) fn read(listing: &[u8]) -> Result<Listing, WalkError> {
    let parsed: Listing = serde_json::from_slice(listing)
        .map_err(|error| wrong(format!("it cannot be read: {}", shown(&error.to_string(), 200))))?;
    if !(1..=2).contains(&parsed.version) {
        return Err(wrong(format!("it is of the unknown version {}", parsed.version)));
    }
    own_checksum(listing, &parsed.checksum)?;
    Ok(parsed)
}

impl Listed {
    /// Its path, relative to the data directory.
    pub(super) fn path(&self) -> Result<&str, WalkError> {
        match (&self.path, &self.encoded) {
            (Some(path), _) => Ok(path),
            (None, Some(encoded)) => {
                Err(wrong(format!("a name that is not UTF-8: {}", shown(encoded, 200))))
            }
            (None, None) => Err(wrong("a file without a name")),
        }
    }
}

/// The files of a server's manifest, in its order, each with its path in the data directory.
///
/// # Errors
/// [`WalkError::Contents`] for a manifest that is cut or altered.
pub(super) fn read_listing(listing: &[u8]) -> Result<Vec<(String, Listed)>, WalkError> {
    let files = read(listing)?.files;
    files.into_iter().map(|file| Ok((file.path()?.to_owned(), file))).collect()
}

pub(super) fn same(path: &str, listed: &Listed, came: Option<&Came>) -> Result<(), WalkError> {
    let shown = shown(path, 200);
    let (size, hash) = came.ok_or_else(|| wrong(format!("{shown} did not arrive")))?;
    if listed.algorithm.as_deref() != Some("SHA256") {
        return Err(wrong(format!("{shown} has no SHA-256 in it")));
    }
    if *size != listed.size || listed.checksum.as_deref() != Some(hash.to_string().as_str()) {
        return Err(wrong(format!("{shown} arrived with other content")));
    }
    Ok(())
}

/// The manifest's last line holds the SHA-256 of all before it.
fn own_checksum(listing: &[u8], stated: &str) -> Result<(), WalkError> {
    let line = memchr::memmem::rfind(listing, b"\"Manifest-Checksum\"");
    let Some(end) = line else { return Err(wrong("its own checksum is missing")) };
    let found = Digest(Sha256::digest(&listing[..end]).into()).to_string();
    if found == stated { Ok(()) } else { Err(wrong("its own checksum is wrong")) }
}

pub(super) fn wrong(problem: impl Into<String>) -> WalkError {
    WalkError::Contents(format!("the server's manifest: {}", problem.into()))
}
