//! A base backup as streams: an archive for each tablespace, and the server's own manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use drctl_model::{
    BackupKind, Child, Content, Coordinates, Digest, Engine, Increment, Lsn, Parent, StreamFacts,
    StreamId, TablespaceFacts, Timeline, WalSegmentSize,
};
use futures_util::stream;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use super::brought::Brought;
use super::complete::{Census, all_came, census};
use super::increment::{ParentBackup, begin_on, is_based_on, shrunk};
use super::listing::{Hasher, MAX_LISTING_BYTES, compare, count};
use super::pieces::{Pieces, StreamRead};
use super::tar::TarWalker;
use crate::common::{
    BackupSource, Brought as Along, EngineError, Finished, StreamOutcome, ToolRun,
};
use crate::pg::dump::DumpError;
use crate::pg::dump::WalkError;
use crate::pg::replication::{BaseBackup, BaseEvent, BaseOptions, Replication};
use crate::pg::server::PgServer;
use crate::pg::server::ServerError;

/// What the server calls the backup in its errors and ours.
const TOOL: &str = "BASE_BACKUP";

/// How a physical backup is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseBackupOptions {
    /// Whether the checkpoint before it is done at once.
    pub fast_checkpoint: bool,
    /// The most KiB a second that the server sends; nothing: as fast as it can.
    pub max_rate_kib: Option<u32>,
}

/// A physical backup of a whole cluster.
pub struct BaseBackupSource {
    shared: Arc<Mutex<Copy>>,
    /// Keeps the WAL that the backup needs until it is in it; ends with its connection.
    keeper: Replication,
    server: PgServer,
    label: String,
    facts: Cluster,
    tablespaces: usize,
    expected: Vec<Option<u64>>,
    /// What has come already.
    streams: BTreeSet<StreamId>,
}

/// What is known of the cluster before the first byte.
struct Cluster {
    system_id: u64,
    segment_size: WalSegmentSize,
    version: String,
    start: (Lsn, Timeline),
    /// Of an incremental backup: its parent, where that began, and how many files it lists.
    parent: Option<(Parent, Lsn, u64)>,
    /// What must be in the backup, or why that is not known.
    census: Result<Census, EngineError>,
    notes: Vec<String>,
}

/// The backup under way; the stream that is read has it, then the next one.
struct Copy {
    backup: BaseBackup,
    /// What ended the stream before: the beginning of the next.
    pending: Option<BaseEvent>,
    walker: Option<TarWalker<Hasher>>,
    listing: Vec<u8>,
    in_listing: bool,
    /// The tablespaces whose archives came.
    archives: BTreeSet<u32>,
    stop: Option<(Lsn, Timeline)>,
    /// The server's last word, where it is not that all went well.
    complaint: Option<EngineError>,
}

impl BaseBackupSource {
    /// Connects, makes a temporary slot so that no WAL goes missing, and begins the backup: the
    /// server makes a checkpoint first. On a parent the backup is an incremental one; where the
    /// server makes none it is a full one all the same, and a note says why.
    ///
    /// # Errors
    /// Those of connecting; [`ServerError::Query`]; [`ServerError::LeftOut`].
    pub async fn open(
        server: &PgServer,
        options: &BaseBackupOptions,
        application_name: &str,
        parent: Option<&ParentBackup>,
    ) -> Result<Self, EngineError> {
        let mut keeper = Replication::open(server, application_name).await?;
        let all = census(server, application_name).await;
        let major = keeper.major();
        let inside = all.as_ref().map(|all| all.not_sent(major)).unwrap_or_default();
        if !inside.is_empty() {
            return Err(EngineError::from(ServerError::LeftOut { what: inside }));
        }
        let identity = keeper.identify().await?;
        let segment_size = keeper.segment_size().await?;
        keeper.keep_log().await?;
        let base = BaseOptions {
            label: application_name.to_owned(),
            fast_checkpoint: options.fast_checkpoint,
            max_rate_kib: options.max_rate_kib,
            incremental: parent.is_some(),
        };
        let mut notes = Vec::new();
        let begun = match parent {
            None => None,
            Some(parent) => {
                let copier = Replication::open(server, application_name).await?;
                match begin_on(copier, &base, parent, &identity, segment_size).await {
                    Ok(begun) => Some((begun, parent)),
                    Err(why) => {
                        notes
                            .push(format!("a full backup was made, not an incremental one: {why}"));
                        None
                    }
                }
            }
        };
        let (backup, parent) = match begun {
            Some((backup, parent)) => {
                let files = count(&parent.listing).map_err(|error| damaged("its parent", error))?;
                (backup, Some((parent.parent.clone(), parent.at.start, files)))
            }
            None => {
                let copier = Replication::open(server, application_name).await?;
                let base = BaseOptions { incremental: false, ..base };
                (copier.base_backup(&base).await?, None)
            }
        };
        Ok(Self::of(
            backup,
            keeper,
            (server, application_name),
            parent,
            (all, notes),
            (identity.system_id, segment_size),
        ))
    }

    fn of(
        backup: BaseBackup,
        keeper: Replication,
        (server, application_name): (&PgServer, &str),
        parent: Option<(Parent, Lsn, u64)>,
        (census, notes): (Result<Census, EngineError>, Vec<String>),
        (system_id, segment_size): (u64, WalSegmentSize),
    ) -> Self {
        let version = backup.version().to_owned();
        let expected: Vec<_> = backup
            .tablespaces()
            .iter()
            .map(|t| t.kib.map(|kib| kib.saturating_mul(1024)))
            .collect();
        let start = backup.start();
        let facts = Cluster { system_id, segment_size, version, start, parent, census, notes };
        let hasher = Hasher::walking(Brought::new(start, segment_size));
        let copy = Copy {
            backup,
            pending: None,
            walker: Some(TarWalker::new(hasher)),
            listing: Vec::new(),
            in_listing: false,
            archives: BTreeSet::new(),
            stop: None,
            complaint: None,
        };
        BaseBackupSource {
            shared: Arc::new(Mutex::new(copy)),
            keeper,
            server: server.clone(),
            label: application_name.to_owned(),
            facts,
            tablespaces: expected.len(),
            expected,
            streams: BTreeSet::new(),
        }
    }

    /// The stream that begins with the next archive.
    fn archive(&self, name: &str, path: &str) -> Result<ToolRun, EngineError> {
        let stem = name.strip_suffix(".tar").unwrap_or(name);
        let oid: Option<u32> = stem.parse().ok();
        if oid.is_none() && stem != "base" {
            return Err(damaged("an archive", WalkError::Contents("its name is odd".to_owned())));
        }
        let (id, label) = match oid {
            Some(oid) => (StreamId::tablespace(oid), format!("tablespace {path}")),
            None => (StreamId::base(), "the data directory".to_owned()),
        };
        let facts = TablespaceFacts { oid, path: path.to_owned(), files: 0 };
        let expected_bytes = self.expected.get(self.streams.len()).copied().flatten();
        Ok(self.run(id, label, expected_bytes, Content::Tablespace(facts)))
    }

    fn run(
        &self,
        id: StreamId,
        label: String,
        expected_bytes: Option<u64>,
        content: Content,
    ) -> ToolRun {
        let output = Box::pin(StreamRead::new(bytes_of(Arc::clone(&self.shared))));
        let (shared, what) = (Arc::clone(&self.shared), label.clone());
        let child = Child { program: TOOL.to_owned(), stream: id.clone(), status: 0 };
        let outcome = Box::pin(async move {
            let content = shared.lock().await.close(&what, content)?;
            Ok(StreamOutcome { children: vec![child], content })
        });
        ToolRun { id, label, expected_bytes, output, outcome }
    }
}

/// The backup as a whole is not what it should be.
fn broken(why: &str) -> EngineError {
    damaged("the base backup", WalkError::Contents(why.to_owned()))
}

fn damaged(what: &str, source: WalkError) -> EngineError {
    EngineError::from(DumpError::Structure { tool: TOOL, what: what.to_owned(), source })
}

impl Copy {
    /// The next bytes of the stream that is read; nothing at its end.
    async fn more(&mut self) -> Result<Option<Bytes>, EngineError> {
        if self.pending.is_some() || self.stop.is_some() {
            return Ok(None);
        }
        match self.backup.next().await? {
            Some(BaseEvent::Data(bytes)) => {
                self.look(&bytes)?;
                Ok(Some(bytes))
            }
            Some(BaseEvent::End { lsn, timeline }) => {
                self.stop = Some((lsn, timeline));
                // The server's last word comes behind it.
                self.complaint = self.backup.next().await.err();
                Ok(None)
            }
            Some(begins) => {
                self.pending = Some(begins);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    fn look(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        if !self.in_listing {
            let Some(walker) = &mut self.walker else { return Ok(()) };
            return walker.push(bytes).map_err(|error| damaged("the base backup", error));
        }
        if self.listing.len().saturating_add(bytes.len()) > MAX_LISTING_BYTES {
            let error = WalkError::TooLong { limit: MAX_LISTING_BYTES };
            return Err(damaged("the server's manifest", error));
        }
        self.listing.extend_from_slice(bytes);
        Ok(())
    }

    /// Ends a stream: an archive must have come to its own end.
    fn close(&mut self, what: &str, content: Content) -> Result<Content, EngineError> {
        if self.in_listing {
            return Ok(content);
        }
        let Some(walker) = self.walker.take() else { return Ok(content) };
        let mut hasher = walker.finish().map_err(|error| damaged(what, error))?;
        let before = hasher.take_new();
        self.walker = Some(TarWalker::new(hasher));
        Ok(match content {
            Content::Tablespace(facts) => {
                Content::Tablespace(TablespaceFacts { files: before, ..facts })
            }
            other => other,
        })
    }
}

#[async_trait]
impl BackupSource for BaseBackupSource {
    async fn next_stream(&mut self) -> Result<Option<ToolRun>, EngineError> {
        let shared = Arc::clone(&self.shared);
        let mut copy = shared.lock().await;
        if copy.pending.is_none() && copy.stop.is_none() {
            copy.pending = copy.backup.next().await?;
        }
        let run = match copy.pending.take() {
            Some(BaseEvent::Archive { name, path }) => {
                let oid: Option<u32> = name.strip_suffix(".tar").and_then(|stem| stem.parse().ok());
                copy.archives.extend(oid);
                if let Some(walker) = &mut copy.walker {
                    let oid = name.strip_suffix(".tar").filter(|stem| *stem != "base");
                    let prefix = oid.map_or(String::new(), |oid| format!("pg_tblspc/{oid}/"));
                    walker.visitor().begin_archive(&prefix);
                }
                Some(self.archive(&name, &path)?)
            }
            Some(BaseEvent::Manifest) => {
                copy.in_listing = true;
                let label = "the server's manifest".to_owned();
                Some(self.run(StreamId::listing(), label, None, Content::Listing))
            }
            _ => None,
        };
        if let Some(run) = run.as_ref().filter(|run| !self.streams.insert(run.id.clone())) {
            return Err(broken(&format!("the server sends {} twice", run.label)));
        }
        Ok(run)
    }

    async fn finish(self: Box<Self>, _streams: &[StreamFacts]) -> Result<Finished, EngineError> {
        let BaseBackupSource { shared, server, label, facts, tablespaces, streams, .. } = *self;
        let mut copy = shared.lock().await;
        let (stop, timeline) =
            copy.stop.ok_or_else(|| broken("the server did not say where it ends"))?;
        if streams.len() <= tablespaces || !copy.in_listing {
            return Err(broken("an archive or the manifest is missing"));
        }
        let walker = copy.walker.take().ok_or_else(|| broken("cut"))?;
        let mut hasher = walker.into_visitor();
        let said =
            compare(&copy.listing, &hasher).map_err(|error| damaged("the base backup", error))?;
        let parent = facts.parent;
        is_based_on(hasher.label(), parent.as_ref().map(|(_, start, _)| *start))
            .map_err(|error| damaged("the base backup", error))?;
        let ranges = said.ranges;
        let start = ranges.first().map_or(facts.start.0, |range| range.start);
        if start != facts.start.0 || ranges.last().is_none_or(|range| range.end != stop) {
            let odd = "the server's manifest needs another part of the WAL than the server says";
            return Err(broken(odd));
        }
        if said.system_id.is_some_and(|id| id != facts.system_id) {
            return Err(broken("the server's manifest is of another cluster"));
        }
        hasher.is_of(facts.system_id).map_err(|error| damaged("the base backup", error))?;
        let mut suspect: Vec<String> =
            copy.complaint.take().map(judge).transpose()?.into_iter().collect();
        suspect.extend(parent.as_ref().and_then(|(.., files)| shrunk(said.files, *files)));
        let mut notes = facts.notes;
        notes.extend(copy.backup.notes());
        let came = (hasher.directories(), std::mem::take(&mut copy.archives));
        notes.extend(all_came(facts.census, &server, &label, came).await?);
        let listing = std::mem::take(&mut copy.listing);
        let mut versions = BTreeMap::new();
        let version = facts.version.split(' ').next().unwrap_or_default().to_owned();
        versions.insert("server".to_owned(), version);
        let at = Coordinates {
            system_id: facts.system_id,
            segment_size: facts.segment_size,
            timeline: facts.start.1,
            start: facts.start.0,
            stop,
            stop_timeline: timeline,
            listing_sha256: Some(Digest(Sha256::digest(&listing).into())),
            log: hasher.brought.take().and_then(|brought| brought.finish(stop)),
        };
        let histories = std::mem::take(&mut hasher.histories);
        let kind = match parent {
            Some((parent, ..)) => BackupKind::Incremental(Increment { parent, at }),
            None => BackupKind::Full(at),
        };
        let (engine, brought) = (Engine::BaseBackup, Some(Along { listing, histories }));
        Ok(Finished { engine, kind, versions, suspect, notes, brought })
    }

    async fn abort(self: Box<Self>) {
        // Both connections end with us, and the server ends what they were doing.
        tracing::debug!("the base backup {} was cancelled", self.label);
        drop(self.keeper);
    }
}

/// The server's complaint about a backup that came whole: pages whose checksums are wrong make it
/// suspect, anything else makes it none. The words may be in any language; the state is not.
fn judge(complaint: EngineError) -> Result<String, EngineError> {
    match complaint.own() {
        // XX001: data_corrupted.
        Some(ServerError::Query { source, .. }) if source.sqlstate() == Some("XX001") => {
            Ok(format!("pages of the server's files have wrong checksums ({source})"))
        }
        _ => Err(complaint),
    }
}

fn bytes_of(shared: Arc<Mutex<Copy>>) -> Pieces {
    Box::pin(stream::try_unfold(shared, |shared| async move {
        let more = shared.lock().await.more().await?;
        Ok(more.map(|bytes| (bytes, shared)))
    }))
}
