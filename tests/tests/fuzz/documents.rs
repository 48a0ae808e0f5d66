//! Good documents, to be spoilt, and the keys to them.

use drctl_model::{
    BackupId, BackupKind, Beat, BeatAmiss, BeatFindings, BeatJob, BeatOutcome, BeatRun, BeatState,
    Child, ClusterNeeds, Content, DatabaseFacts, DatabaseNeeds, Digest, Dumped, Engine, Extension,
    Facts, Header, LocaleProvider, Manifest, Named, Outside, OutsideItem, PageRef, RepositoryId,
    Segment, SourceId, Stream, StreamFacts, StreamId, TableFile, TableRows,
};
use drctl_store::{
    Identities, Recipients, SigningKey, Trust, digest, new_identity, seal_bytes, seal_facts,
};
use drctl_tests::envelope::{MANIFEST, sealed};

/// Plain bytes of a segment in these documents.
const SEGMENT: u64 = 1_000;

/// A host's keys.
pub(crate) struct Keys {
    pub(crate) signing: SigningKey,
    pub(crate) trust: Trust,
    pub(crate) recipients: Recipients,
    pub(crate) identities: Identities,
    /// The same, for what is opened without drctl's help.
    pub(crate) identity: age::x25519::Identity,
}

impl Keys {
    pub(crate) fn new() -> Keys {
        let signing = SigningKey::generate();
        let (text, recipient) = new_identity("2026-03-01T00:00:00Z");
        Keys {
            trust: Trust::new(vec![signing.verifying_key()]),
            signing,
            recipients: Recipients::parse([recipient.as_str()]).expect("a recipient"),
            identities: Identities::parse(&text).expect("an identity"),
            identity: text.lines().last().expect("a line").parse().expect("an identity"),
        }
    }

    /// An envelope around any bytes, made by what the specification says and not by drctl.
    pub(crate) fn envelope(&self, payload: &[u8]) -> Vec<u8> {
        sealed(MANIFEST, payload, &self.signing)
    }

    pub(crate) fn seal(&self, plain: &[u8]) -> Vec<u8> {
        seal_bytes(plain, 3, &self.recipients).expect("seal")
    }
}

pub(crate) fn source() -> SourceId {
    "shop".parse().expect("a source")
}

pub(crate) fn backup() -> BackupId {
    BackupId::new("2026-03-01T00:00:00Z".parse().expect("a time"), 7)
}

/// A beat with everything that one can tell.
pub(crate) fn beat() -> Beat {
    let at = "2026-03-01T00:00:00Z".parse().expect("a time");
    let job = BeatJob {
        source: source(),
        kind: "backup".to_owned(),
        state: BeatState::Running,
        since: Some(at),
        due: Some(at),
        next: None,
        last: Some(BeatRun { ended: at, outcome: BeatOutcome::Failed }),
    };
    let codes = vec!["damaged".to_owned()];
    let amiss = BeatAmiss { source: source(), breached: 1, attention: 2, codes };
    let (host, sources) = (vec!["alert_path".to_owned()], vec![amiss]);
    Beat {
        header: Header::new([]),
        repository: RepositoryId::new(7),
        host: "db1".to_owned(),
        agent: "0123456789abcdef".to_owned(),
        seq: 7,
        written: at,
        version: "0.1.0".to_owned(),
        started: at,
        next_seconds: 300,
        jobs: vec![job.clone(), BeatJob { kind: "prune".to_owned(), ..job }],
        findings: Some(BeatFindings { looked: at, host, sources }),
    }
}

fn needs() -> ClusterNeeds {
    let extension = Extension { name: "plpgsql".to_owned(), version: "1.0".to_owned() };
    let database = DatabaseNeeds {
        name: "shop".to_owned(),
        collate: "de_AT.UTF-8".to_owned(),
        ctype: "C".to_owned(),
        provider: Some(LocaleProvider::Icu),
        collation_version: Some("153.120".to_owned()),
        extensions: Some(vec![extension]),
        oid: Some(16_384),
        tables: vec![TableFile { file: 16_385, name: "public.orders".to_owned() }],
    };
    ClusterNeeds {
        libraries: Some(vec!["auto_explain".to_owned()]),
        sizes: [("shared_buffers".to_owned(), "128MB".to_owned())].into(),
        databases: vec![database],
        unknown: vec!["nothing".to_owned()],
    }
}

pub(crate) fn facts() -> Facts {
    let tables = [("public", "orders", 12_345), ("audit", "größe \"x\"", 0)];
    let tables = tables.map(|(schema, table, rows)| TableRows {
        schema: schema.to_owned(),
        table: table.to_owned(),
        rows,
    });
    let database = DatabaseFacts {
        name: "shop".to_owned(),
        owner: "app".to_owned(),
        encoding: "UTF8".to_owned(),
        collate: "C.UTF-8".to_owned(),
        ctype: "C.UTF-8".to_owned(),
        bytes: 8_000_000,
        tables: tables.into(),
        runs: Some(vec!["constraint c of public.t runs public.f of app".to_owned()]),
        forced: Some(vec!["public.t".to_owned()]),
        ..DatabaseFacts::default()
    };
    let entry = |id, content| StreamFacts { id, plain_xxh128: "0".repeat(32), content };
    Facts {
        streams: vec![
            entry(StreamId::globals(), Content::Globals),
            entry(StreamId::database(0), Content::Database(Box::new(database))),
        ],
        cluster: Some(needs()),
        outside: Some(Outside {
            items: vec![
                OutsideItem::held("rules", "/etc/rules".to_owned(), b"caf\xe9".to_vec()),
                OutsideItem::missing("roles", None, "they are left out"),
            ],
            unknown: vec!["the rest".to_owned()],
        }),
    }
}

/// Segment `n` of the long stream.
pub(crate) fn segment(n: u64) -> Segment {
    Segment { n, plain: SEGMENT, sealed: SEGMENT + 300, sha256: digest(&n.to_le_bytes()) }
}

pub(crate) fn page(n: u64) -> Vec<u8> {
    let list: Vec<Segment> = (n * 4..n * 4 + 4).map(segment).collect();
    serde_json::to_vec(&list).expect("JSON")
}

/// A stream of ten segments: two pages of four, and a tail of two.
pub(crate) fn long_stream() -> Stream {
    let page_of = |n| {
        let bytes = page(n);
        PageRef { n, segments: 4, bytes: bytes.len() as u64, sha256: digest(&bytes) }
    };
    Stream {
        id: StreamId::database(0),
        segment_bytes: SEGMENT,
        segments: 10,
        plain_bytes: 10 * SEGMENT,
        sealed_bytes: 10 * (SEGMENT + 300),
        pages: vec![page_of(0), page_of(1)],
        tail: vec![segment(8), segment(9)],
    }
}

pub(crate) fn manifest(keys: &Keys) -> Manifest {
    let time = "2026-03-01T00:00:00.123Z".parse().expect("a time");
    let globals = Stream {
        id: StreamId::globals(),
        segment_bytes: SEGMENT,
        segments: 1,
        plain_bytes: 7,
        sealed_bytes: 300,
        pages: Vec::new(),
        tail: vec![Segment { n: 0, plain: 7, sealed: 300, sha256: digest(b"globals") }],
    };
    let child = |program: &str, stream| Child { program: program.to_owned(), stream, status: 0 };
    Manifest {
        header: Header::new(["pg_dump"]),
        repository: RepositoryId::new(7),
        source: source(),
        backup: backup(),
        host: "db1".to_owned(),
        engine: Engine::PgDump,
        kind: BackupKind::Logical(Dumped::default()),
        started: time,
        finished: time,
        tools: [("drctl".to_owned(), "0.1.0".to_owned())].into(),
        recipients: keys.recipients.texts(),
        children: vec![
            child("pg_dumpall", StreamId::globals()),
            child("pg_dump", StreamId::database(0)),
        ],
        suspect: vec!["it is small".to_owned()],
        before: vec![Named {
            backup: "20260301T000000Z-0000000000000001".parse().expect("an identifier"),
            manifest_sha256: Digest([7; 32]),
        }],
        streams: vec![globals, long_stream()],
        sealed: seal_facts(&facts(), &keys.recipients).expect("seal"),
    }
}
