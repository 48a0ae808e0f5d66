//! Whose version of an object counts where somebody with the signing key writes it anew.

use bytes::Bytes;
use drctl::repository::statements::statements;
use drctl::{Limits, LogStore, Repository, drills, log_floor, tombstone, verify_log};
use drctl_model::{
    Acceptance, BackupId, BackupKind, Digest, Drill, DrillId, DrillOutcome, Dumped, Engine, Header,
    Holds, IndexPlace, IndexedPiece, Lineage, LogAt, LogFloor, LogIndex, LogPiece, LogPlace, Lsn,
    Manifest, Marker, RepositoryId, Segment, SourceId, Stated, Statement, Stream, StreamId,
    Timeline, Tombstone, WAL, WalPart, WalPlace,
};
use drctl_store::{
    Bucket, Identities, Odd, Recipients, SigningKey, Trust, decode_signed_head, digest,
    encode_acceptance, encode_drill, encode_log_floor, encode_log_index, encode_manifest,
    encode_marker, encode_piece, encode_statement, encode_tombstone, layout, new_identity,
    seal_bytes,
};
use drctl_tests::servers::hiding::Hiding;
use drctl_tests::servers::minio::Minio;
use jiff::Timestamp;
use object_store::path::Path;

use crate::places::{open, s3_location, s3_place};

/// What an attacker has: the bucket's credentials and the signing key.
pub(crate) struct Thief {
    key: SigningKey,
    recipients: Recipients,
    pub(crate) identities: Identities,
    pub(crate) id: RepositoryId,
    pub(crate) source: SourceId,
}

impl Thief {
    pub(crate) fn new() -> Self {
        let (text, recipient) = new_identity("2026-03-01T00:00:00Z");
        Thief {
            key: SigningKey::generate(),
            recipients: Recipients::parse([recipient.as_str()]).unwrap(),
            identities: Identities::parse(&text).unwrap(),
            id: RepositoryId::new(7),
            source: "shop".parse().unwrap(),
        }
    }

    /// Manifests of one backup that differ in the host that they name; `streams` says whether
    /// there are any.
    fn manifest(&self, host: &str, streams: bool) -> Bytes {
        self.manifest_of(host, streams, Vec::new())
    }

    fn manifest_of(&self, host: &str, streams: bool, suspect: Vec<String>) -> Bytes {
        let segment = Segment { n: 0, plain: 5, sealed: 300, sha256: Digest([1; 32]) };
        let stream = Stream {
            id: StreamId::database(0),
            segment_bytes: 1000,
            segments: 1,
            plain_bytes: 5,
            sealed_bytes: 300,
            pages: Vec::new(),
            tail: vec![segment],
        };
        let manifest = Manifest {
            header: Header::new(["pg_dump"]),
            repository: self.id.clone(),
            source: self.source.clone(),
            backup: backup(),
            host: host.to_owned(),
            engine: Engine::PgDump,
            kind: BackupKind::Logical(Dumped::default()),
            started: Timestamp::UNIX_EPOCH,
            finished: Timestamp::UNIX_EPOCH,
            tools: [].into(),
            recipients: Vec::new(),
            children: Vec::new(),
            suspect,
            before: Vec::new(),
            streams: if streams { vec![stream] } else { Vec::new() },
            sealed: String::new(),
        };
        encode_manifest(&manifest, &self.key).into()
    }

    /// A piece of log or a history of these plain bytes.
    pub(crate) fn piece(&self, part: WalPart, plain: &[u8]) -> Bytes {
        let sealed = seal_bytes(plain, 1, &self.recipients).unwrap();
        let piece = LogPiece {
            header: Header::new([WAL]),
            repository: self.id.clone(),
            source: self.source.clone(),
            host: "db1".to_owned(),
            written: Timestamp::UNIX_EPOCH,
            place: place(part),
            plain: plain.len() as u64,
            plain_sha256: digest(plain),
            sealed: sealed.len() as u64,
            sealed_sha256: digest(&sealed),
            holds: Holds::default(),
        };
        encode_piece(&piece, &sealed, &self.key).into()
    }

    fn drill(&self, target: &str) -> Bytes {
        let drill = Drill {
            header: Header::new([]),
            repository: self.id.clone(),
            source: self.source.clone(),
            drill: drill_id(),
            host: "db1".to_owned(),
            started: Timestamp::UNIX_EPOCH,
            took_ms: 1,
            system_id: Some(7),
            timeline: Some(Timeline::FIRST),
            base: Some(backup()),
            newest: None,
            target: target.to_owned(),
            outcome: DrillOutcome::Failed { error: "x".to_owned() },
            run: None,
        };
        encode_drill(&drill, &self.key).unwrap().into()
    }

    /// Of the suspect manifest, so many seconds later.
    fn acceptance(&self, second: i64) -> Bytes {
        let acceptance = Acceptance {
            header: Header::new([]),
            repository: self.id.clone(),
            source: self.source.clone(),
            backup: backup(),
            manifest_sha256: digest(&self.suspect()),
            host: "db1".to_owned(),
            accepted: Timestamp::from_second(second).unwrap(),
        };
        encode_acceptance(&acceptance, &self.key).unwrap().into()
    }

    fn suspect(&self) -> Bytes {
        self.manifest_of("a", true, vec!["it is small".to_owned()])
    }

    /// That a backup was removed whose manifest has this digest.
    fn tombstone(&self, of: u8) -> Bytes {
        let tombstone = Tombstone {
            header: Header::new([]),
            repository: self.id.clone(),
            source: self.source.clone(),
            backup: backup(),
            manifest_sha256: Digest([of; 32]),
            system_id: None,
            host: "db1".to_owned(),
            removed: Timestamp::UNIX_EPOCH,
        };
        encode_tombstone(&tombstone, &self.key).unwrap().into()
    }

    /// That log was removed up to a position, as a host says it.
    fn log_floor(&self, host: &str) -> Bytes {
        let floor = LogFloor {
            header: Header::new([]),
            repository: self.id.clone(),
            source: self.source.clone(),
            lineage: index_place().lineage,
            before: FLOOR,
            host: host.to_owned(),
            removed: Timestamp::UNIX_EPOCH,
        };
        encode_log_floor(&floor, &self.key).unwrap().into()
    }

    /// The first statement: a freeze, for a reason.
    fn statement(&self, reason: &str) -> Bytes {
        let statement = Statement {
            header: Header::new([]),
            repository: self.id.clone(),
            source: self.source.clone(),
            n: 1,
            statement: Stated::Freeze,
            backup: None,
            reason: reason.to_owned(),
            without: Vec::new(),
            host: "db1".to_owned(),
            account: "postgres".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        };
        encode_statement(&statement, &self.key).unwrap().into()
    }

    /// Each kind of object: what a reader takes for it, a good one, another good one, and one that is odd.
    fn kinds(&self) -> [(&'static str, String, Bytes, Bytes, Bytes); 10] {
        let rubbish = || Bytes::from_static(b"mine");
        let removed = Digest([1; 32]).to_string();
        let manifest = |host, streams| self.manifest(host, streams);
        let of = |kind, said: &str, [one, other]: [Bytes; 2], odd| {
            (kind, said.to_owned(), one, other, odd)
        };
        let histories = [self.piece(WalPart::History, b"a"), self.piece(WalPart::History, b"b")];
        let (sixteen, short) = ("sixteen bytes a.", self.piece(RANGE, b"short"));
        let pieces =
            [self.piece(RANGE, sixteen.as_bytes()), self.piece(RANGE, b"sixteen bytes b.")];
        let manifests = [manifest("a", true), manifest("b", true)];
        let both = |make: &dyn Fn(&str) -> Bytes| [make("a"), make("b")];
        let acceptances = [self.acceptance(1), self.acceptance(2)];
        let indexes = [self.index(b"a", "db1"), self.index(b"b", "db1")];
        let markers = [self.marker(0), self.marker(8)];
        let tombstones = [self.tombstone(1), self.tombstone(2)];
        [
            of("manifest", "a", manifests, manifest("c", false)),
            of("piece", sixteen, pieces, short),
            of("history", "a", histories, rubbish()),
            of("drill", "a", both(&|target| self.drill(target)), rubbish()),
            of("acceptance", "1", acceptances, rubbish()),
            of("index", "[]", indexes, rubbish()),
            of("marker", self.id.as_str(), markers, rubbish()),
            of("tombstone", &removed, tombstones, rubbish()),
            of("log floor", "a", both(&|host| self.log_floor(host)), rubbish()),
            of("statement", "a", both(&|reason| self.statement(reason)), rubbish()),
        ]
    }

    pub(crate) fn marker(&self, id: u128) -> Bytes {
        let id = if id == 0 { self.id.clone() } else { RepositoryId::new(id) };
        encode_marker(&Marker::new(id, Timestamp::UNIX_EPOCH)).into()
    }

    /// Over one piece, of these plain bytes.
    fn index(&self, plain: &[u8], host: &str) -> Bytes {
        self.index_at(index_place(), plain, host)
    }

    /// Over one piece, as its own head tells of it.
    pub(crate) fn index_of(&self, place: IndexPlace, part: WalPart, bytes: &[u8]) -> Bytes {
        let at = self::place(part);
        let (head, ..) =
            decode_signed_head(bytes, &self.trust(), &self.id, &self.source, &at).unwrap();
        let IndexPlace { start, end, .. } = place;
        let LogPiece { plain_sha256, sealed, sealed_sha256, holds, .. } = head;
        let head = None;
        let piece = IndexedPiece { start, end, plain_sha256, sealed, head, sealed_sha256, holds };
        self.index_with(place, piece, "db1")
    }

    fn index_at(&self, place: IndexPlace, plain: &[u8], host: &str) -> Bytes {
        let IndexPlace { start, end, .. } = place;
        let piece = IndexedPiece {
            start,
            end,
            plain_sha256: digest(plain),
            sealed: 16,
            head: None,
            sealed_sha256: digest(plain),
            holds: Holds::default(),
        };
        self.index_with(place, piece, host)
    }

    fn index_with(&self, place: IndexPlace, piece: IndexedPiece, host: &str) -> Bytes {
        let index = LogIndex {
            header: Header::new([WAL]),
            repository: self.id.clone(),
            source: self.source.clone(),
            host: host.to_owned(),
            written: Timestamp::UNIX_EPOCH,
            place,
            pieces: vec![piece],
        };
        encode_log_index(&index, &self.key).unwrap().into()
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::new(vec![self.key.verifying_key()])
    }
}

fn backup() -> BackupId {
    BackupId::new(Timestamp::UNIX_EPOCH, 7)
}

fn drill_id() -> DrillId {
    DrillId::new(Timestamp::UNIX_EPOCH, 9)
}

pub(crate) fn place(part: WalPart) -> LogPlace {
    WalPlace { system_id: 7, timeline: Timeline::FIRST, part }.into()
}

fn index_place() -> IndexPlace {
    let (start, end) = (LogAt(1 << 20), LogAt((1 << 20) + 16));
    IndexPlace { lineage: Lineage::of_timeline(7, Timeline::FIRST), start, end }
}

const FLOOR: LogAt = LogAt(1 << 20);

const RANGE: WalPart = WalPart::Range { start: Lsn(1 << 20), end: Lsn((1 << 20) + 16) };

/// What a reader takes for the object, in words, and what alarmed it.
async fn told(at: &dyn Fn() -> Bucket, thief: &Thief, kind: &str) -> (String, Vec<Odd>) {
    let bucket = at();
    let opened = Repository::open(bucket.clone(), thief.trust(), Some(&thief.id)).await;
    let repository = match opened {
        Ok(repository) => repository,
        Err(error) => return (format!("{error:#}"), Vec::new()),
    };
    let log_store = LogStore::reader(&repository, &thief.source);
    let log_store = &log_store;
    let read = |part| async move {
        let place = place(part);
        let (piece, plain) = match log_store.read(&place, &thief.identities).await {
            Ok(read) => read,
            Err(error) => return format!("{error:#}"),
        };
        let told =
            [log_store.head(&place).await.unwrap(), log_store.stored_size(&place).await.unwrap()];
        assert!(told.iter().all(|other| other.plain_sha256 == piece.plain_sha256));
        String::from_utf8(plain).unwrap()
    };
    let text = match kind {
        "manifest" => match repository.manifest(&thief.source, &backup()).await {
            Ok(found) => found.map_or("nothing".to_owned(), |found| found.manifest.host),
            Err(error) => format!("{error:#}"),
        },
        "piece" => read(RANGE).await,
        "history" => read(WalPart::History).await,
        "drill" => match drills(&repository, &thief.source, &mut Vec::new()).await {
            Ok(all) => all.first().map_or("nothing".to_owned(), |(one, _)| one.target.clone()),
            Err(error) => format!("{error:#}"),
        },
        "acceptance" => match repository.manifest(&thief.source, &backup()).await {
            Ok(found) => {
                let accepted = found.and_then(|found| found.accepted);
                accepted.map_or("nothing".to_owned(), |one| one.at.as_second().to_string())
            }
            Err(error) => format!("{error:#}"),
        },
        "index" => {
            match verify_log(&repository, &thief.source, false, None, Limits::default()).await {
                Ok(looked) => format!("{:?}", looked.problems),
                Err(error) => format!("{error:#}"),
            }
        }
        "tombstone" => match tombstone(&repository, &thief.source, &backup()).await {
            Ok(found) => found.map_or("nothing".to_owned(), |one| one.manifest_sha256.to_string()),
            Err(error) => format!("{error:#}"),
        },
        "log floor" => {
            let of = index_place().lineage;
            match log_floor(&repository, &thief.source, &of, FLOOR).await {
                Ok(found) => found.map_or("nothing".to_owned(), |one| one.host),
                Err(error) => format!("{error:#}"),
            }
        }
        "statement" => match statements(&repository, &thief.source).await {
            Ok(all) => all
                .said
                .first()
                .map_or_else(|| all.doubts().concat(), |one| one.statement.reason.clone()),
            Err(error) => format!("{error:#}"),
        },
        _ => repository.id.to_string(),
    };
    let key = key_of(thief, kind);
    let alarms = repository.alarms().into_iter().filter(|alarm| alarm.key == key.as_ref());
    (text, alarms.map(|alarm| alarm.odd).collect())
}

fn key_of(thief: &Thief, kind: &str) -> Path {
    match kind {
        "manifest" => layout::manifest(&thief.source, &backup()),
        "piece" => layout::piece(&thief.source, &place(RANGE)),
        "history" => layout::piece(&thief.source, &place(WalPart::History)),
        "drill" => layout::drill(&thief.source, &drill_id()),
        "acceptance" => layout::acceptance(&thief.source, &backup()),
        "index" => layout::log_index(&thief.source, &index_place()),
        "tombstone" => layout::tombstone(&thief.source, &backup()),
        "log floor" => layout::log_floor(&thief.source, &index_place().lineage, FLOOR),
        "statement" => layout::statement(&thief.source, 1),
        _ => layout::marker(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_valid_version_of_an_object_wins_for_every_kind_of_object() {
    let minio = Minio::start();
    minio.make_bucket("shop");
    minio.set_versioning("shop");
    let gate = Hiding::before(&minio, "shop");
    let port = gate.endpoint().rsplit_once(':').unwrap().1.parse().unwrap();
    let thief = Thief::new();
    let reach = s3_place(port, minio.access_key(), minio.secret_key());
    let rubbish = Bytes::from_static(b"mine");
    let good_marker = thief.marker(0);
    for (kind, value, good, other, odd) in thief.kinds() {
        // The marker that says another repository is none of ours, whoever wrote it.
        // Floors of one key all say the same, whoever signed them and when.
        let disputed = match kind {
            "marker" => vec![Odd::Hidden],
            "log floor" => vec![],
            _ => vec![Odd::Disputed],
        };
        let stories: [(&str, Vec<&Bytes>, bool, Vec<Odd>); 7] = [
            ("alone", vec![&good], false, vec![]),
            ("again", vec![&good, &good], false, vec![]),
            ("signed anew", vec![&good, &other], false, disputed),
            ("signed and useless", vec![&good, &odd], false, vec![Odd::Hidden]),
            ("rubbish", vec![&good, &rubbish, &rubbish], false, vec![Odd::Hidden]),
            ("squatted", vec![&rubbish, &good], false, vec![]),
            ("deleted", vec![&good], true, vec![Odd::Deleted]),
        ];
        for (story, writes, deleted, alarms) in stories {
            let prefix = format!("{kind}/{}", story.replace(' ', "-"));
            let at = || open(&s3_location("shop", &prefix), &reach);
            let bucket = at();
            if kind != "marker" {
                bucket.put(&layout::marker(), good_marker.clone()).await.unwrap();
            }
            if kind == "acceptance" {
                let place = layout::manifest(&thief.source, &backup());
                bucket.put(&place, thief.suspect()).await.unwrap();
            }
            let key = key_of(&thief, kind);
            for bytes in writes {
                bucket.put(&key, bytes.clone()).await.unwrap();
            }
            if deleted {
                bucket.delete(&key).await.unwrap();
            }
            let found = told(&at, &thief, kind).await;
            assert_eq!(found, (value.clone(), alarms), "{kind}, {story}");
            if kind == "manifest" {
                let repository =
                    Repository::open(at(), thief.trust(), Some(&thief.id)).await.unwrap();
                assert_eq!(repository.attempts(&thief.source).await.unwrap(), [backup()]);
                assert_eq!(
                    repository.sources().await.unwrap(),
                    std::slice::from_ref(&thief.source)
                );
            }
        }
    }
}
