//! Made-up clusters: their log, and base backups of them that take their time.

use std::io::Cursor;

use drctl::LogStore;
use drctl::host::Setup;
use drctl_engines::{BackupSource, EngineError, Finished, StreamOutcome, ToolRun};
use drctl_model::{
    BackupKind, Content, Coordinates, CopiedLog, Engine, Holds, Increment, LogPlace, Lsn, Parent,
    SourceId, StreamFacts, StreamId, TablespaceFacts, Timeline, WalHolds, WalSegmentSize,
};
use jiff::{SignedDuration, Timestamp};

use crate::random::Random;
use crate::store::World;
use crate::truth::{OfSource, Piece};

/// The cluster of every source; each source has its own log.
const SYSTEM: u64 = 7;

/// How long a segment is: a server that recovers reads it from its begin.
pub(crate) const SEGMENT: u64 = 1 << 20;

/// How long a stretch of log is.
const LONG: u64 = 256 << 10;

/// Where the log begins.
const BEGIN: u64 = SEGMENT;

/// A server writes log that ends with a commit.
pub(crate) fn write_log(of: &mut OfSource, now: Timestamp) {
    let start = of.log.last().map_or(BEGIN, |last| last.end);
    // Times of commits are whole microseconds, and no two are alike.
    let commit = Timestamp::from_microsecond(now.as_microsecond()).expect("a time");
    of.log.push(Piece { start, end: start + LONG, commit });
}

/// Where a cluster's log is.
fn place(piece: Piece) -> LogPlace {
    LogPlace::of_wal((SYSTEM, Timeline::FIRST), (Lsn(piece.start), Lsn(piece.end)))
}

/// Hands over what is not acknowledged yet, as an `archive_command` does; the first error ends it.
pub(crate) async fn ship(setup: &Setup, world: &World, source: &SourceId) -> Option<String> {
    let log_store = match LogStore::open(setup, source.as_str()).await {
        Ok(log_store) => log_store,
        Err(error) => return Some(format!("{error:#}")),
    };
    loop {
        let next = {
            let state = world.state();
            let of = &state.truth.sources[source];
            of.log.get(of.shipped).copied()
        };
        let piece = next?;
        let plain = vec![piece.start.to_le_bytes()[2]; usize::try_from(LONG).expect("a length")];
        let wal = WalHolds { segment_size: WalSegmentSize::new(SEGMENT), ..WalHolds::default() };
        let holds = Holds {
            records: 1,
            commits: Some((piece.commit, piece.commit)),
            wal: Some(wal),
            ..Holds::default()
        };
        if let Err(error) = log_store.keep(place(piece), plain, holds).await {
            return Some(format!("{error:#}"));
        }
        world.state().truth.of(source).shipped += 1;
    }
}

/// A base backup of a made-up cluster.
pub(crate) struct Copying {
    world: World,
    source: SourceId,
    took: SignedDuration,
    /// No two are of one length: what random signs change in that of a manifest decides nothing.
    length: u64,
    start: u64,
    begun: Timestamp,
    parent: Option<Parent>,
    sent: bool,
}

impl Copying {
    /// One that begins now; sometimes based on the newest that is there.
    pub(crate) fn begin(world: &World, source: &SourceId) -> Self {
        let mut state = world.state();
        let now = state.now;
        let took = state.random.seconds(20, 5_000);
        let incremental = state.random.chance(40);
        let length = 2_000 + state.random.below(20_000);
        let state = &mut *state;
        let of = state.truth.of(source);
        write_log(of, now);
        let start = of.log.last().expect("it was written").start;
        let there = of.there(&state.objects, source);
        let newest = there.into_iter().max_by_key(|(_, made)| made.stop);
        let parent = newest.filter(|(_, made)| incremental && made.stop <= start);
        let parent =
            parent.map(|(id, made)| Parent { backup: id.clone(), manifest_sha256: made.sha256 });
        let (world, source) = (world.clone(), source.clone());
        Copying { world, source, took, length, start, begun: now, parent, sent: false }
    }
}

#[async_trait::async_trait]
impl BackupSource for Copying {
    async fn next_stream(&mut self) -> Result<Option<ToolRun>, EngineError> {
        if std::mem::replace(&mut self.sent, true) {
            return Ok(None);
        }
        self.world.rest(self.took).await;
        let mut random = Random::new(self.start);
        let bytes =
            (0..self.length).map(|_| random.below(256).to_le_bytes()[0]).collect::<Vec<u8>>();
        let tablespace = TablespaceFacts { oid: None, path: String::new(), files: 1 };
        let content = Content::Tablespace(tablespace);
        let outcome = async move { Ok(StreamOutcome { children: Vec::new(), content }) };
        Ok(Some(ToolRun {
            id: StreamId::base(),
            label: "base".to_owned(),
            expected_bytes: None,
            output: Box::pin(Cursor::new(bytes)),
            outcome: Box::pin(outcome),
        }))
    }

    async fn finish(self: Box<Self>, _: &[StreamFacts]) -> Result<Finished, EngineError> {
        let (stop, last) = {
            let mut state = self.world.state();
            let now = state.now;
            let of = state.truth.of(&self.source);
            write_log(of, now);
            let last = of.log.last().expect("it was written");
            (last.end, last.commit)
        };
        let log = CopiedLog {
            checkpoint: Timestamp::from_second(self.begun.as_second()).expect("a time"),
            last_commit: Some(last),
            segments: Vec::new(),
        };
        let at = Coordinates {
            system_id: SYSTEM,
            segment_size: WalSegmentSize::new(SEGMENT).expect("a size that there is"),
            timeline: Timeline::FIRST,
            start: Lsn(self.start),
            stop: Lsn(stop),
            stop_timeline: Timeline::FIRST,
            listing_sha256: None,
            log: Some(log),
        };
        let kind = match self.parent {
            Some(parent) => BackupKind::Incremental(Increment { parent, at }),
            None => BackupKind::Full(at),
        };
        Ok(Finished {
            engine: Engine::BaseBackup,
            kind,
            versions: [].into(),
            suspect: Vec::new(),
            notes: Vec::new(),
            brought: None,
        })
    }

    async fn abort(self: Box<Self>) {}
}
