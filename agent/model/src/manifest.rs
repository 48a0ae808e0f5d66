use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    BackupId, BackupKind, Digest, Engine, Header, INCREMENTAL, Named, RepositoryId, SourceId,
    StreamId, shown, total,
};

/// The most plain bytes of one segment, when reading and writing.
pub const MAX_SEGMENT_BYTES: u64 = 256 << 20;

/// The most streams of a backup: one for each database, or tablespace, and two more.
pub const MAX_STREAMS: usize = 16_384;

/// The most stored bytes of a segment: what zstd, age and many recipients may add.
#[must_use]
pub fn max_sealed(plain: u64) -> u64 {
    plain.saturating_add(plain / 128).saturating_add(1 << 20)
}

/// What makes segments a backup: written last, signed over its exact bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What is read before the rest.
    #[serde(flatten)]
    pub header: Header,
    /// The repository it was written into.
    pub repository: RepositoryId,
    /// The source that was backed up.
    pub source: SourceId,
    /// The backup's own identifier.
    pub backup: BackupId,
    /// The host that wrote it.
    pub host: String,
    /// What took it.
    pub engine: Engine,
    /// What it is made of.
    pub kind: BackupKind,
    /// When the attempt began (clock of the host).
    pub started: Timestamp,
    /// When the last byte was stored (clock of the host).
    pub finished: Timestamp,
    /// Versions of drctl, of the tools and of the server, by name.
    pub tools: BTreeMap<String, String>,
    /// The age recipients that every segment is encrypted to.
    pub recipients: Vec<String>,
    /// Every process that took part, and how it ended.
    pub children: Vec<Child>,
    /// Why this backup is not to be trusted although it is complete; empty when it is good.
    #[serde(default)]
    pub suspect: Vec<String>,
    /// The newest manifests of the source that were there when it was signed, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Named>,
    /// The data.
    pub streams: Vec<Stream>,
    /// [`Facts`](crate::Facts) as JSON, compressed with zstd, encrypted with age, in base64.
    pub sealed: String,
}

/// A process that took part in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// The program's name, without its path.
    pub program: String,
    /// The stream that it wrote.
    pub stream: StreamId,
    /// Its exit status. A manifest with another one than 0 is not a backup.
    pub status: i32,
}

/// One stream of bytes, cut into segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Its name, part of its segments' keys.
    pub id: StreamId,
    /// Plain bytes of every segment but the last.
    pub segment_bytes: u64,
    /// Number of segments.
    pub segments: u64,
    /// Plain bytes in all.
    pub plain_bytes: u64,
    /// Stored bytes in all.
    pub sealed_bytes: u64,
    /// The full pages of the segment list, objects of their own, in order.
    #[serde(default)]
    pub pages: Vec<PageRef>,
    /// The segments behind the last page.
    pub tail: Vec<Segment>,
}

/// A page of the segment list: an object that holds a JSON array of [`Segment`]s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRef {
    /// Its number, from 0.
    pub n: u64,
    /// How many segments it lists.
    pub segments: u64,
    /// The object's length.
    pub bytes: u64,
    /// The object's digest.
    pub sha256: Digest,
}

/// At most N plain bytes: one zstd frame in one age file in one object, written with one PUT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its number in the stream, from 0.
    pub n: u64,
    /// Plain bytes in it.
    pub plain: u64,
    /// The object's length.
    pub sealed: u64,
    /// The digest of the object, so that it can be checked without any key.
    pub sha256: Digest,
}

/// Why a manifest with a good signature is still not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Written by a later version.
    #[error(
        "it is written in format {needs}, and this drctl reads up to {reads}: install {install}"
    )]
    TooNew {
        /// The format version that is needed.
        needs: u32,
        /// The newest that this program reads.
        reads: u32,
        /// What reads it.
        install: String,
    },
    /// Uses a part of the format that this program does not know.
    #[error("it uses the feature `{feature}`, which this drctl does not know: install {install}")]
    UnknownFeature {
        /// The part.
        feature: String,
        /// What reads it.
        install: String,
    },
    /// It names another source, backup or repository than the place where it was found.
    #[error("it belongs to {0}, not to the place where it was found")]
    Misplaced(String),
    /// Its own numbers contradict each other.
    #[error("its own numbers contradict each other: {0}")]
    Inconsistent(String),
}

impl Manifest {
    /// The header of what an engine has made.
    #[must_use]
    pub fn header(engine: Engine, kind: &BackupKind) -> Header {
        let more = kind.parent().map(|_| INCREMENTAL);
        Header::new([engine.as_str()].into_iter().chain(more))
    }

    /// Whether what it says fits together. Whether this program understands it, its header tells
    /// before the rest is read.
    ///
    /// # Errors
    /// [`ManifestError::Inconsistent`].
    pub fn check(&self) -> Result<(), ManifestError> {
        if let Some(child) = self.children.iter().find(|child| child.status != 0) {
            let name = shown(&child.program, 40);
            return Err(inconsistent(format!("{name} ended with status {}", child.status)));
        }
        if self.streams.len() > MAX_STREAMS {
            return Err(inconsistent(format!("it has more than {MAX_STREAMS} streams")));
        }
        let mut seen = BTreeSet::new();
        for stream in &self.streams {
            if !seen.insert(&stream.id) {
                return Err(inconsistent(format!("the stream {} occurs twice", stream.id)));
            }
            stream.check()?;
        }
        self.check_kind()
    }

    /// What other programs may not know is named in the header, where they look first; an
    /// incremental backup is based on another, and of what another tool keeps nothing is in the
    /// bucket.
    fn check_kind(&self) -> Result<(), ManifestError> {
        let needed = Self::header(self.engine, &self.kind).features;
        needed.iter().try_for_each(|needed| self.header.names(needed))?;
        if !self.engine.makes(&self.kind) {
            let (engine, kind) = (self.engine.as_str(), self.kind.as_str());
            return Err(inconsistent(format!("{engine} makes no {kind} backup")));
        }
        match &self.kind {
            BackupKind::Incremental(increment) if increment.parent.backup == self.backup => {
                Err(inconsistent("it is an incremental backup that is based on itself".to_owned()))
            }
            BackupKind::External(_) if !self.streams.is_empty() => {
                Err(inconsistent("it has streams, and its data is elsewhere".to_owned()))
            }
            BackupKind::External(external) => external.check().map_err(inconsistent),
            _ if self.streams.is_empty() => {
                Err(inconsistent("it has no streams: nothing can be restored from it".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Whether it lies where it says it belongs.
    ///
    /// # Errors
    /// [`ManifestError::Misplaced`].
    pub fn belongs(
        &self,
        repository: &RepositoryId,
        source: &SourceId,
        backup: &BackupId,
    ) -> Result<(), ManifestError> {
        if &self.repository != repository {
            return Err(ManifestError::Misplaced(format!("repository {}", self.repository)));
        }
        if &self.source != source || &self.backup != backup {
            return Err(ManifestError::Misplaced(format!("{}/{}", self.source, self.backup)));
        }
        Ok(())
    }

    /// Plain bytes of all streams; of what another tool keeps, the bytes of the cluster.
    #[must_use]
    pub fn plain_bytes(&self) -> u64 {
        match self.kind.external() {
            Some(external) => external.bytes,
            None => total(self.streams.iter().map(|stream| stream.plain_bytes)),
        }
    }

    /// Stored bytes of all streams; of what another tool keeps, what it takes in that tool's
    /// repository, and 0 where the tool does not tell.
    #[must_use]
    pub fn sealed_bytes(&self) -> u64 {
        match self.kind.external() {
            Some(external) => external.repository_bytes.unwrap_or(0),
            None => total(self.streams.iter().map(|stream| stream.sealed_bytes)),
        }
    }

    /// The row that the catalog keeps of it; `sha256` is that of the manifest object.
    #[must_use]
    pub fn summary(&self, sha256: Digest) -> BackupSummary {
        BackupSummary {
            source: self.source.clone(),
            backup: self.backup.clone(),
            engine: self.engine,
            kind: self.kind.clone(),
            host: self.host.clone(),
            started: self.started,
            finished: self.finished,
            plain_bytes: self.plain_bytes(),
            sealed_bytes: self.sealed_bytes(),
            segments: total(self.streams.iter().map(|stream| stream.segments)),
            suspect: self.suspect.clone(),
            manifest_sha256: sha256,
            signer: String::new(),
            objects: Some(self.objects()),
            accepted: None,
        }
    }
}

fn inconsistent(what: String) -> ManifestError {
    ManifestError::Inconsistent(what)
}

impl Stream {
    /// Objects of the stream, and their bytes: segments and pages.
    #[must_use]
    pub fn objects(&self) -> (u64, u64) {
        let pages = u64::try_from(self.pages.len()).unwrap_or(u64::MAX);
        let page_bytes = total(self.pages.iter().map(|page| page.bytes));
        (self.segments.saturating_add(pages), self.sealed_bytes.saturating_add(page_bytes))
    }

    /// The number of segments in the pages.
    #[must_use]
    pub fn paged_segments(&self) -> u64 {
        total(self.pages.iter().map(|page| page.segments))
    }

    /// The plain length that segment `n` must have.
    #[must_use]
    pub fn plain_of(&self, n: u64) -> u64 {
        let before = n.saturating_mul(self.segment_bytes);
        self.plain_bytes.saturating_sub(before).min(self.segment_bytes)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let id = &self.id;
        if self.segment_bytes == 0 {
            return Err(inconsistent(format!("stream {id} has segments of no size")));
        }
        if self.segment_bytes > MAX_SEGMENT_BYTES {
            return Err(inconsistent(format!("stream {id} has segments of more than 256 MiB")));
        }
        if self.plain_bytes.div_ceil(self.segment_bytes) != self.segments {
            return Err(inconsistent(format!("stream {id} has another length than its segments")));
        }
        let tail = u64::try_from(self.tail.len()).unwrap_or(u64::MAX);
        let paged = self.pages.iter().try_fold(tail, |sum, page| sum.checked_add(page.segments));
        if paged != Some(self.segments) {
            return Err(inconsistent(format!("stream {id} lists another number of segments")));
        }
        if self.pages.iter().zip(0..).any(|(page, n)| page.n != n || page.segments == 0) {
            return Err(inconsistent(format!("stream {id} has pages out of order")));
        }
        self.check_segments(self.paged_segments(), &self.tail)
    }

    /// Whether `list` can be this stream's segments from number `first` on.
    ///
    /// # Errors
    /// [`ManifestError::Inconsistent`] where a number or a plain length is not what it must be.
    pub fn check_segments(&self, first: u64, list: &[Segment]) -> Result<(), ManifestError> {
        for (segment, at) in list.iter().zip(0..) {
            let n = first.saturating_add(at);
            let fits = segment.n == n && n < self.segments && segment.plain == self.plain_of(n);
            if !fits || segment.sealed > max_sealed(segment.plain) {
                let id = &self.id;
                return Err(inconsistent(format!(
                    "segment {n} of stream {id} is not what it says"
                )));
            }
        }
        Ok(())
    }
}

/// What the catalog keeps of a committed backup: all that is needed to list and choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSummary {
    /// The source that was backed up.
    pub source: SourceId,
    /// The backup's own identifier.
    pub backup: BackupId,
    /// What took it.
    pub engine: Engine,
    /// What it is made of.
    pub kind: BackupKind,
    /// The host that wrote it.
    pub host: String,
    /// When the attempt began.
    pub started: Timestamp,
    /// When the last byte was stored.
    pub finished: Timestamp,
    /// Plain bytes of all streams.
    pub plain_bytes: u64,
    /// Stored bytes of all streams.
    pub sealed_bytes: u64,
    /// Segments of all streams.
    pub segments: u64,
    /// Why it is not to be trusted; empty when it is good.
    pub suspect: Vec<String>,
    /// The digest of the manifest object: the backup's identity.
    pub manifest_sha256: Digest,
    /// The identifier of the key that signed the manifest; empty where it was not noted yet.
    #[serde(default)]
    pub signer: String,
    /// The objects that its manifest names and their bytes; unknown where they were not noted yet.
    #[serde(skip)]
    pub objects: Option<(u64, u64)>,
    /// When somebody took it for good although it is suspect.
    #[serde(default)]
    pub accepted: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Coordinates, External, ExternalType, Increment, Lsn, Origin, Parent, Timeline,
        WalSegmentSize,
    };

    /// The features of an incremental base backup.
    const COPIES: &[&str] = &["base_backup", INCREMENTAL];

    fn incremental(parent: &str, features: &[&str]) -> Manifest {
        let at = Coordinates {
            system_id: 7,
            segment_size: WalSegmentSize::new(1 << 20).unwrap(),
            timeline: Timeline::FIRST,
            start: Lsn(1),
            stop: Lsn(2),
            stop_timeline: Timeline::FIRST,
            listing_sha256: None,
            log: None,
        };
        let parent = Parent { backup: parent.parse().unwrap(), manifest_sha256: Digest([1; 32]) };
        Manifest {
            header: Header::new(features.iter().copied()),
            repository: "0123456789abcdef0123456789abcdef".parse().unwrap(),
            source: "shop".parse().unwrap(),
            backup: "20260302T000000Z-0000000000000002".parse().unwrap(),
            host: "db1".into(),
            engine: Engine::BaseBackup,
            kind: BackupKind::Incremental(Increment { parent, at }),
            started: Timestamp::UNIX_EPOCH,
            finished: Timestamp::UNIX_EPOCH,
            tools: BTreeMap::new(),
            recipients: vec![],
            children: vec![],
            suspect: vec![],
            before: vec![],
            streams: vec![stream(0)],
            sealed: String::new(),
        }
    }

    /// A stream of no bytes.
    fn stream(n: u32) -> Stream {
        Stream {
            id: StreamId::database(n as usize),
            segment_bytes: 1,
            segments: 0,
            plain_bytes: 0,
            sealed_bytes: 0,
            pages: vec![],
            tail: vec![],
        }
    }

    #[test]
    fn a_manifest_has_streams_and_not_too_many() {
        let manifest = incremental("20260301T000000Z-0000000000000001", COPIES);
        let with =
            |count: u32| Manifest { streams: (0..count).map(stream).collect(), ..manifest.clone() };
        let most = u32::try_from(MAX_STREAMS).unwrap();
        assert_eq!((with(1).check(), with(most).check()), (Ok(()), Ok(())));
        assert!(with(0).check().unwrap_err().to_string().contains("no streams"));
        assert!(with(most + 1).check().unwrap_err().to_string().contains("more than 16384"));
        let twice = Manifest { streams: vec![stream(3), stream(3)], ..manifest.clone() };
        assert!(twice.check().unwrap_err().to_string().contains("occurs twice"));
    }

    #[test]
    fn an_incremental_copy_says_so_where_readers_that_know_none_look() {
        let before = "20260301T000000Z-0000000000000001";
        assert_eq!(incremental(before, COPIES).check(), Ok(()));
        let refused = [
            (before, &["base_backup"][..], "does not name the feature `incremental`"),
            (before, &[INCREMENTAL][..], "does not name the feature `base_backup`"),
            ("20260302T000000Z-0000000000000002", COPIES, "is based on itself"),
        ];
        for (parent, features, why) in refused {
            let said = incremental(parent, features).check().unwrap_err().to_string();
            assert!(said.contains(why), "{why}: {said}");
        }
    }

    #[test]
    fn an_engine_makes_its_own_kinds_of_backups() {
        let other = Manifest {
            engine: Engine::PgDump,
            ..incremental("20260301T000000Z-0000000000000001", &["pg_dump", INCREMENTAL])
        };
        let said = other.check().unwrap_err().to_string();
        assert!(said.contains("pg_dump makes no incremental backup"), "{said}");
    }

    fn external() -> Manifest {
        let mut manifest = incremental("20260301T000000Z-0000000000000001", &["pgbackrest"]);
        let BackupKind::Incremental(increment) = &manifest.kind else { unreachable!() };
        manifest.engine = Engine::Pgbackrest;
        manifest.streams = vec![];
        manifest.kind = BackupKind::External(Box::new(External {
            tool: "pgbackrest".into(),
            stanza: "main".into(),
            repo: 1,
            label: "20261126-010203F_20261127-010203I".into(),
            backup_type: ExternalType::Incremental,
            prior: Some("20261126-010203F".into()),
            references: vec!["20261126-010203F".into()],
            wal: ("000000010000000000000002".into(), "000000010000000000000003".into()),
            database_id: 1,
            origin: Origin::Drctl,
            page_errors: false,
            cipher: "none".into(),
            bytes: 1_000,
            delta_bytes: 100,
            repository_bytes: Some(10),
            version: "2.45".into(),
            format: 5,
            at: increment.at.clone(),
        }));
        manifest
    }

    #[test]
    fn an_external_backup_is_checked_for_what_goes_into_arguments_and_paths() {
        assert_eq!(external().check(), Ok(()));
        assert_eq!((external().plain_bytes(), external().sealed_bytes()), (1_000, 10));
        type Change = fn(&mut External);
        let refused: [(&str, Change); 8] = [
            ("not known", |it| it.tool = "other".into()),
            ("no name of a stanza", |it| it.stanza = "../x".into()),
            ("none of 1 to 256", |it| it.repo = 0),
            ("no label", |it| it.label = "20261126-010203F/..".into()),
            ("is no full backup", |it| it.backup_type = ExternalType::Full),
            ("no label", |it| it.prior = Some("--set".into())),
            ("no label", |it| it.references = vec!["x".into()]),
            ("segments that it needs", |it| it.wal.0 = "000000010000000000000004".into()),
        ];
        for (why, change) in refused {
            let mut manifest = external();
            let BackupKind::External(inner) = &mut manifest.kind else { unreachable!() };
            change(inner);
            let said = manifest.check().unwrap_err().to_string();
            assert!(said.contains(why), "{why}: {said}");
        }
        let unnamed = Manifest { header: Header::new([]), ..external() };
        assert!(unnamed.check().unwrap_err().to_string().contains("the feature `pgbackrest`"));
    }

    #[test]
    fn an_external_backup_is_written_as_documented() {
        let kind = external().kind;
        let text = serde_json::to_value(&kind).unwrap();
        assert_eq!(
            (&text["type"], &text["backup_type"]),
            (&"external".into(), &"incremental".into())
        );
        assert_eq!((&text["system_id"], &text["origin"]), (&"7".into(), &"drctl".into()));
        assert_eq!(serde_json::from_value::<BackupKind>(text).unwrap(), kind);
    }
}
