//! Catalogs and buckets of any size.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;

use bytes::Bytes;
use drctl::Setup;
use drctl_catalog::{CachedLog, Catalog};
use drctl_model::{
    BackupId, BackupKind, BackupSummary, Child, Coordinates, CopiedLog, Digest, Dumped, Engine,
    Facts, JobEvent, JobKind, Lineage, LogEntry, LogNotes, Lsn, MOST_NAMED, Manifest, Named,
    Parent, Segment, SourceId, Stream, StreamId, Timeline, WalSegmentSize,
};
use drctl_store::{Sealer, digest, encode_manifest, layout, seal_facts};
use futures_util::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};

/// Bytes of a piece of WAL: a segment.
pub(crate) const SIZE: u64 = 16 << 20;

/// The cluster.
pub(crate) const SYSTEM_ID: u64 = 7_000_000_000_000_000_001;

/// Requests at once.
const AT_ONCE: usize = 32;

/// One backup an hour.
pub(crate) const EVERY: SignedDuration = SignedDuration::from_hours(1);

/// An incremental backup is based on the one before; every so many is a full one.
const CHAIN: u64 = 24;

/// When the `n`th of so many backups was made: the last one was made a moment ago.
pub(crate) fn made_at(n: u64, backups: u64) -> Timestamp {
    let ago = EVERY * i32::try_from(backups - n).expect("few backups");
    Timestamp::now() - ago
}

/// A time that is the same for all rounds: whole seconds.
fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).expect("a time")
}

/// The `n`th base backup of so many, over so many pieces of WAL.
pub(crate) fn base(n: u64, (backups, pieces): (u64, u64), source: &SourceId) -> BackupSummary {
    let started = whole(made_at(n, backups));
    let first = pieces / backups * n;
    let begins = Lsn(first * SIZE);
    let at = Coordinates {
        system_id: SYSTEM_ID,
        segment_size: WalSegmentSize::new(SIZE).expect("a size"),
        timeline: Timeline::FIRST,
        start: Lsn(begins.0 + 40),
        stop: Lsn(begins.0 + SIZE - 100),
        stop_timeline: Timeline::FIRST,
        listing_sha256: Some(sha(n, b"listing")),
        log: Some(CopiedLog {
            checkpoint: started,
            last_commit: Some(started + SignedDuration::from_secs(1)),
            segments: vec![(begins, sha(first, b"segment"))],
        }),
    };
    let kind = match n % CHAIN {
        0 => BackupKind::Full(at),
        _ => {
            let backup = BackupId::new(whole(made_at(n - 1, backups)), n - 1);
            let parent = Parent { backup, manifest_sha256: sha(n - 1, b"manifest") };
            BackupKind::Incremental(drctl_model::Increment { parent, at })
        }
    };
    BackupSummary {
        source: source.clone(),
        backup: BackupId::new(started, n),
        engine: Engine::BaseBackup,
        kind,
        host: "bench".to_owned(),
        started,
        finished: started + SignedDuration::from_secs(60),
        plain_bytes: 1 << 30,
        sealed_bytes: 1 << 28,
        segments: 64,
        suspect: Vec::new(),
        manifest_sha256: sha(n, b"manifest"),
        signer: sha(0, b"signer").to_string(),
        objects: Some((66, 1 << 28)),
        accepted: None,
    }
}

fn sha(n: u64, of: &[u8]) -> Digest {
    digest(&[&n.to_le_bytes(), of].concat())
}

/// The `n`th piece of WAL of so many; one in so many seconds, so that the last is as old as the last backup.
pub(crate) fn entry(n: u64, (backups, pieces): (u64, u64)) -> LogEntry {
    let hours = i64::try_from(backups).expect("few backups");
    let every = hours * 3_600_000 / i64::try_from(pieces).expect("few pieces");
    let first = whole(made_at(0, backups));
    let first = first + SignedDuration::from_millis(every * i64::try_from(n).expect("few pieces"));
    let commits = Some((first, first + SignedDuration::from_millis(every * 9 / 10)));
    let xid = u32::try_from(n * 37 % (1 << 32)).expect("a number");
    LogEntry::new((Lsn(n * SIZE), Lsn((n + 1) * SIZE)), commits, Some((xid, xid.wrapping_add(36))))
}

/// Fills the catalog of a configuration: backups with their jobs, and pieces of WAL.
pub(crate) fn catalog(config: &Path, source: &str, sizes: (u64, u64)) -> io::Result<()> {
    let setup = Setup::load(config).expect("a configuration");
    let source: SourceId = source.parse().expect("a name");
    tokio::runtime::Runtime::new()?.block_on(async {
        let repository = setup.repository().await.expect("the repository");
        setup.private_directory(&setup.config.paths.state_dir).expect("the state directory");
        let catalog = Catalog::open(&setup.catalog_path()).await.expect("a catalog");
        catalog.claim(&repository.id).await.expect("a new catalog");
        for n in 0..sizes.0 {
            let of = base(n, sizes, &source);
            let id = Some(&of.backup);
            let job = catalog.begin_job(of.started, JobKind::Backup, &source, id).await;
            let job = job.expect("a job");
            let stored = JobEvent::Stored { plain_bytes: of.plain_bytes };
            let _ = catalog.append(job, of.finished, &stored).await.expect("its event");
            catalog.commit_backup(job, of.finished, &of).await.expect("its backup");
        }
        let entries: Vec<LogEntry> = (0..sizes.1).map(|n| entry(n, sizes)).collect();
        let change = CachedLog::default().change(&entries, &LogNotes::default());
        let log = Lineage::of_timeline(SYSTEM_ID, Timeline::FIRST);
        let (change, trust) = (change.expect("pieces"), sha(0, b"trust"));
        assert!(catalog.change_log(&source, &log, trust, change).await.expect("the log"));
    });
    Ok(())
}

/// Fills the repository of a configuration with signed backups, each of one small segment and its manifest.
pub(crate) fn bucket(config: &Path, source: &str, backups: u64) -> io::Result<()> {
    let setup = Setup::load(config).expect("a configuration");
    let source: SourceId = source.parse().expect("a name");
    tokio::runtime::Runtime::new()?.block_on(async {
        let repository = setup.repository().await.expect("the repository");
        let key = setup.signing_key().expect("a signing key");
        let recipients = setup.recipients().expect("recipients");
        let sealed = Sealer::new(&recipients, 3).seal(0, &[7; 512]).expect("a segment");
        let facts = seal_facts(&Facts::default(), &recipients).expect("facts");
        let mut before: VecDeque<Named> = VecDeque::new();
        let each = (0..backups).map(|n| {
            let started = whole(made_at(n, backups));
            let (id, kind) = (BackupId::new(started, n), BackupKind::Logical(Dumped::default()));
            let manifest = Manifest {
                header: Manifest::header(Engine::PgDump, &kind),
                repository: repository.id.clone(),
                source: source.clone(),
                backup: id.clone(),
                host: "bench".to_owned(),
                engine: Engine::PgDump,
                kind,
                started,
                finished: started + SignedDuration::from_secs(60),
                tools: BTreeMap::from([("drctl".to_owned(), "0.1.0".to_owned())]),
                recipients: recipients.texts(),
                children: vec![child()],
                suspect: Vec::new(),
                before: before.iter().cloned().collect(),
                streams: vec![stream_of(sealed.segment.clone())],
                sealed: facts.clone(),
            };
            let bytes = Bytes::from(encode_manifest(&manifest, &key));
            before.push_front(Named { backup: id.clone(), manifest_sha256: digest(&bytes) });
            before.truncate(MOST_NAMED);
            (id, bytes)
        });
        let (bucket, data) = (&repository.bucket, Bytes::from(sealed.bytes.clone()));
        let put = |(id, manifest): (BackupId, Bytes)| {
            let (source, data) = (&source, data.clone());
            async move {
                let segment = layout::segment(source, &id, &StreamId::globals(), 0);
                bucket.put(&segment, data).await.expect("store a segment");
                let key = layout::manifest(source, &id);
                let _ = bucket.put_once(&key, manifest).await.expect("store a manifest");
            }
        };
        stream::iter(each).map(put).buffer_unordered(AT_ONCE).for_each(|()| async {}).await;
    });
    Ok(())
}

fn child() -> Child {
    Child { program: "pg_dumpall".to_owned(), stream: StreamId::globals(), status: 0 }
}

fn stream_of(segment: Segment) -> Stream {
    Stream {
        id: StreamId::globals(),
        segment_bytes: 16 << 20,
        segments: 1,
        plain_bytes: segment.plain,
        sealed_bytes: segment.sealed,
        pages: Vec::new(),
        tail: vec![segment],
    }
}
