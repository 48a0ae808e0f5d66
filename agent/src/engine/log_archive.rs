//! The seam over the archives of a source's log: drctl's own pieces in the bucket, and the archive that
//! another tool keeps. Whoever lists, verifies or reads log asks archives, and not which one it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use drctl_catalog::Subject;
use drctl_engines::backrest::{BackRest, Info};
use drctl_model::{Closeness, External, LogEntry, Lsn, Timeline, TimelineHistory, WalSegmentSize};
use drctl_policies::recovery::{Archive, Leg, RestorePoint, Want};
use drctl_store::Identities;
use jiff::Timestamp;

use super::pg::FoundChanges;
use super::pgbackrest::{self, StanzaArchive, StanzaView};
use super::pieces::Pieces;
use super::wal::{self, Ahead, Expected, Fetched, LogRequest, Segment};
use crate::host::{AgentError, Limits, Meter, Setup};
use crate::log::{LogStore, LogVerdict, NewerLog};

/// An archive of a source's log. Each verb fails as its store or tool does; what is damaged or missing is
/// told in what it gives.
#[async_trait::async_trait(?Send)]
pub(crate) trait LogArchive {
    /// What it has of a cluster's log: with an extent as far as that asks for, else what costs little.
    async fn list(&self, system_id: u64, extent: Option<Extent>) -> Result<ArchivedLog>;

    /// Looks at all of it; nothing where it has nothing.
    async fn verify(&self, look: &Look<'_>) -> Result<Option<ArchiveVerdict>>;

    /// What was done to relations.
    async fn changes(&self, search: &Search<'_>) -> Result<FoundChanges>;

    /// What only the records that a plan replays tell of it.
    async fn requirements(&self, plan: &Replay<'_>) -> Result<Requirements>;

    /// The bytes of a segment as far as they are there.
    async fn segment(&self, segment: &Segment) -> Result<Option<Vec<u8>>>;
}

/// How much of a cluster's log has to be known: of what ends before `since` only that it is there.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) size: WalSegmentSize,
    pub(crate) want: Want,
    pub(crate) since: Lsn,
}

/// How closely an archive is looked at.
pub(crate) struct Look<'a> {
    /// Whether every byte is read.
    pub(crate) data: bool,
    /// The backups that are recorded to be in it.
    pub(crate) recorded: &'a [&'a External],
    pub(crate) limits: Limits,
}

/// A search for what was done to relations from one time to another, to `least` rows or more.
pub(crate) struct Search<'a> {
    pub(crate) system_id: u64,
    pub(crate) size: WalSegmentSize,
    /// All that is known of the log.
    pub(crate) known: &'a Archive,
    pub(crate) times: (Timestamp, Timestamp),
    pub(crate) least: u64,
    pub(crate) meter: &'a Meter,
}

/// What a plan replays.
pub(crate) struct Replay<'a> {
    pub(crate) system_id: u64,
    pub(crate) size: WalSegmentSize,
    pub(crate) legs: &'a [Leg],
}

/// What an archive has of a cluster's log.
#[derive(Debug, Default, Clone)]
pub(crate) struct ArchivedLog {
    pub(crate) entries: BTreeMap<Timeline, Vec<LogEntry>>,
    pub(crate) points: Vec<RestorePoint>,
    pub(crate) histories: Vec<TimelineHistory>,
    /// Where nothing leads across.
    pub(crate) breaks: Vec<(Timeline, Lsn)>,
    /// Up to where there was log that is gone.
    pub(crate) once: Vec<(Timeline, Lsn)>,
    /// Up to where there are objects with its names that are not believed.
    pub(crate) unbelieved: Vec<(Timeline, Lsn)>,
    /// What only a newer drctl reads.
    pub(crate) newer: BTreeMap<Timeline, NewerLog<Lsn>>,
    /// How many pieces or segments there are.
    pub(crate) pieces: u64,
    /// What does not count, with the reason.
    pub(crate) refused: Vec<String>,
}

impl ArchivedLog {
    /// What two archives have.
    pub(crate) fn join(mut self, other: ArchivedLog) -> ArchivedLog {
        for (timeline, entries) in other.entries {
            self.entries.entry(timeline).or_default().extend(entries);
        }
        self.points.extend(other.points);
        self.histories.extend(other.histories);
        self.breaks.extend(other.breaks);
        self.once.extend(other.once);
        self.unbelieved.extend(other.unbelieved);
        self.newer.extend(other.newer);
        self.pieces += other.pieces;
        self.refused.extend(other.refused);
        self
    }
}

/// What a look at an archive found.
pub(crate) struct ArchiveVerdict {
    /// As what it is remembered.
    pub(crate) subject: Subject,
    pub(crate) closeness: Closeness,
    /// What was looked at, in words.
    pub(crate) words: &'static str,
    pub(crate) log: LogVerdict,
    /// What is wrong with each backup that it keeps too and that was read, by its label.
    pub(crate) backups: BTreeMap<String, Option<String>>,
    /// Whether it tells all that is missing of the log.
    pub(crate) tells_gaps: bool,
}

impl ArchiveVerdict {
    /// What is wrong with this backup and those that it is based on; nothing where it was not read.
    pub(crate) fn of(&self, backup: &External) -> Option<Vec<(String, String)>> {
        self.backups.get(&backup.label)?;
        let all = std::iter::once(&backup.label).chain(&backup.references);
        let found = all.filter_map(|label| self.backups.get(label)?.clone());
        Some(found.map(|text| ("segment_damaged".to_owned(), text)).collect())
    }
}

/// What only the records of the log tell of a plan.
#[derive(Debug, Default)]
pub(crate) struct Requirements {
    /// Where nothing leads across.
    pub(crate) breaks: Vec<(Timeline, Lsn)>,
    /// How many segments were not read: there are too many for one plan.
    pub(crate) unread: usize,
}

/// All archives of a source's log.
pub(crate) struct LogArchives<'a> {
    stanza: Option<StanzaArchive<'a>>,
    own: Pieces<'a>,
}

impl<'a> LogArchives<'a> {
    /// The source's own pieces, and the stanza as it was seen, if it has one.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn of(
        setup: &'a Setup,
        seen: Option<&Arc<StanzaView>>,
        own: Pieces<'a>,
    ) -> Result<Self> {
        let source = &own.log_store.source;
        let stanza = seen.map(|seen| StanzaArchive::new(setup, source, Arc::clone(seen)));
        Ok(LogArchives { stanza: stanza.transpose()?, own })
    }

    /// The same of a source as it is now: another tool's archive is looked at, and the server asked. What
    /// that tool `said` of its backups need not be asked again.
    ///
    /// # Errors
    /// The other tool's.
    pub(crate) async fn now(setup: &'a Setup, own: Pieces<'a>, said: Option<Info>) -> Result<Self> {
        let seen = StanzaView::with_server(setup, own.log_store.source.as_str(), said).await?;
        LogArchives::of(setup, seen.map(Arc::new).as_ref(), own)
    }

    /// Another tool's archive as it was seen.
    pub(crate) fn seen(&self) -> Option<Arc<StanzaView>> {
        self.stanza.as_ref().map(|stanza| Arc::clone(&stanza.seen))
    }

    /// Each, in the order in which they are asked.
    pub(crate) fn all(&self) -> impl Iterator<Item = &dyn LogArchive> {
        let stanza = self.stanza.iter().map(|archive| archive as &dyn LogArchive);
        stanza.chain([&self.own as &dyn LogArchive])
    }

    /// The bytes of a segment, of the first that has it.
    ///
    /// # Errors
    /// The archives'; log that is not what was written.
    pub(crate) async fn segment(&self, segment: &Segment) -> Result<Option<Vec<u8>>> {
        for archive in self.all() {
            if let Some(bytes) = archive.segment(segment).await? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// Fetches a file of the log for a recovering server; another tool's `segments` may have been
    /// noted.
    ///
    /// # Errors
    /// Everything else than an absence that is proven; [`AgentError::NoIdentityToTest`] where nothing
    /// can be opened.
    pub(crate) async fn fetch(&self, asked: &LogRequest<'_>, segments: &Path) -> Result<Fetched> {
        let Pieces { log_store, identities, .. } = &self.own;
        let own = async || Ok(identities.map(|identities| (log_store.clone(), identities.clone())));
        let backrest = self.stanza.as_ref().map(|stanza| &stanza.seen.backrest);
        fetch(backrest, (asked, Some(segments)), own).await
    }

    /// Fetches what `legs` need ahead of a server that asks for it, `fetches` segments at once.
    /// Never fails: what cannot be had is left to the server's own question.
    pub(crate) async fn fetch_ahead(
        &self,
        ahead: &Ahead,
        of: (u64, WalSegmentSize),
        legs: &[Expected],
        fetches: usize,
    ) {
        let Pieces { log_store, identities, .. } = &self.own;
        match (&self.stanza, identities) {
            (Some(StanzaArchive { seen, .. }), _) => {
                pgbackrest::fetch_ahead(ahead, seen, of, legs, fetches).await;
            }
            (None, Some(identities)) => {
                wal::fetch_ahead(ahead, log_store, of, legs, fetches, identities).await;
            }
            (None, None) => {}
        }
    }
}

/// The same of a source by its name, for a server that was started by hand: nothing is looked at but for
/// this file. `own` gives the pieces, with what opens them, where another tool does not have it.
///
/// # Errors
/// As [`LogArchives::fetch`]; those of `own`.
pub(crate) async fn fetch_of(
    (setup, source): (&Setup, &str),
    asked: (&LogRequest<'_>, Option<&Path>),
    own: impl AsyncFnOnce() -> Result<Option<(LogStore, Identities)>>,
) -> Result<Fetched> {
    fetch(pgbackrest::engine_of(setup, source)?.as_ref(), asked, own).await
}

async fn fetch(
    backrest: Option<&BackRest>,
    (asked, segments): (&LogRequest<'_>, Option<&Path>),
    own: impl AsyncFnOnce() -> Result<Option<(LogStore, Identities)>>,
) -> Result<Fetched> {
    let stored = async || match own().await? {
        Some((log_store, identities)) => wal::fetch(&log_store, asked, &identities).await.map(Some),
        None => Ok(None),
    };
    match backrest {
        Some(backrest) => pgbackrest::fetch(backrest, asked, segments, stored).await,
        None => Ok(stored().await?.ok_or(AgentError::NoIdentityToTest)?),
    }
}
