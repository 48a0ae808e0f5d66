//! The log of an engine that is made up, kept and learnt by the same rooms: its lineages are reels of
//! tape, its positions what the counter shows, and a piece of it has no length that they tell.

use std::fmt;
use std::sync::Arc;

use drctl_catalog::Catalog;
use drctl_model::{
    Digest, Holds, Lineage, LogAt, LogNotes, LogPart, LogPlace, Lsn, Marker, NoteName, Position,
    RepositoryId, Timeline,
};
use drctl_store::{
    Bucket, Identities, Recipients, SigningKey, Trust, encode_marker, layout, new_identity,
};
use jiff::Timestamp;
use object_store::memory::InMemory;
use serde_json::{Map, Value, json};

use super::heads::{Log, heads};
use super::log_engine::LogEngine;
use super::log_store::{Kept, Writer};
use super::{LogStore, Records};
use crate::host::Limits;
use crate::repository::Repository;

/// What stands for the feature that the tape's log would have: any that this program knows.
const FEATURE: &str = "pgbackrest";

/// Positions of a piece.
const UNIT: u64 = 1 << 33;

#[derive(Debug, Clone, Copy)]
pub(super) struct Tape;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Counter(pub(super) u64);

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "turn {}", self.0)
    }
}

impl Position for Counter {
    fn of(number: u64) -> Counter {
        Counter(number)
    }

    fn number(self) -> u64 {
        self.0
    }
}

/// Marks on a reel, and what its label says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Marks {
    marks: Vec<(Counter, Counter, String)>,
    label: Option<String>,
}

impl LogEngine for Tape {
    type At = Counter;
    type Notes = Marks;

    const LOG: &'static str = "tape";

    fn called(lineage: &Lineage) -> String {
        format!("reel {lineage}")
    }

    fn note() -> Option<NoteName> {
        Some(label())
    }

    fn is_possible((start, end): (LogAt, LogAt), _: u64) -> bool {
        start < end
    }

    fn begins(_: LogAt, _: u64) -> bool {
        true
    }

    fn read(notes: &LogNotes) -> Option<Marks> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mark = |value: &Value| {
            Some((Counter(value[0].as_u64()?), Counter(value[1].as_u64()?), text(&value[2])?))
        };
        let marks = match notes.own.get("marks") {
            Some(marks) => marks.as_array()?.iter().map(mark).collect::<Option<_>>()?,
            None => Vec::new(),
        };
        Some(Marks { marks, label: notes.own.get("label").and_then(text) })
    }

    fn written(notes: &Marks) -> Map<String, Value> {
        let marks: Vec<Value> =
            notes.marks.iter().map(|(from, until, mark)| json!([from.0, until.0, mark])).collect();
        json!({ "marks": marks, "label": notes.label }).as_object().unwrap().clone()
    }

    fn learn(notes: &mut Marks, (start, end): (Counter, Counter), holds: &Holds) {
        let mark = holds.others[FEATURE]["mark"].as_str().map(str::to_owned);
        notes.marks.extend(mark.map(|mark| (start, end, mark)));
    }

    fn join(old: Marks, fresh: Marks, is_there: impl Fn((Counter, Counter)) -> bool) -> Marks {
        let all = old.marks.into_iter().chain(fresh.marks);
        let mut marks: Vec<_> = all.filter(|(from, until, _)| is_there((*from, *until))).collect();
        marks.sort();
        marks.dedup();
        Marks { marks, label: None }
    }

    fn keep_note(notes: &mut Marks, from: &Marks) -> bool {
        notes.label.clone_from(&from.label);
        notes.label.is_some()
    }

    fn learn_note(notes: &mut Marks, holds: &Holds) {
        notes.label = holds.others[FEATURE]["label"].as_str().map(str::to_owned);
    }
}

impl Records for Tape {
    fn plain_bytes(&self, _: &LogPlace) -> u64 {
        0
    }

    fn check(&mut self, place: &LogPlace, _: &Holds, plain: &[u8]) -> Result<(), String> {
        let is_noise = place.lineage == reel() && plain == b"noise";
        if is_noise { Err("noise on the tape".to_owned()) } else { Ok(()) }
    }

    fn interrupt(&mut self) {}
}

fn label() -> NoteName {
    "label".parse().unwrap()
}

pub(super) fn reel() -> Lineage {
    "tape-3".parse().unwrap()
}

fn piece(n: u64) -> LogPlace {
    let (start, end) = (LogAt(n * UNIT), LogAt((n + 1) * UNIT));
    LogPlace { lineage: reel(), part: LogPart::Range { start, end } }
}

fn told(told: Value) -> Holds {
    let times = |s| Timestamp::from_second(s).unwrap();
    Holds { records: 1, commits: Some((times(5), times(9))), ..Holds::of_engine(FEATURE, told) }
}

/// An empty repository in memory, whose log can be written, and what opens it.
pub(crate) async fn store() -> (LogStore, Identities) {
    let (text, recipient) = new_identity("2026-03-01T00:00:00Z");
    let recipients = Recipients::parse([recipient.as_str()]).unwrap();
    let key = SigningKey::generate();
    let trust = Trust::new(vec![key.verifying_key()]);
    let bucket = Bucket::new(Arc::new(InMemory::new()), "memory:");
    let marker = Marker::new(RepositoryId::new(7), Timestamp::UNIX_EPOCH);
    bucket.put(&layout::marker(), encode_marker(&marker).into()).await.unwrap();
    let repository = Repository::open(bucket, trust, None).await.unwrap();
    let reader = LogStore::reader(&repository, &"shop".parse().unwrap());
    let writer = Some(Arc::new(Writer::new(&recipients, key)));
    (LogStore { writer, ..reader }, Identities::parse(&text).unwrap())
}

async fn learnt(log_store: &LogStore, catalog: &Catalog) -> (Log<Tape>, Vec<String>) {
    let mut refused = Vec::new();
    let is_tape = |of: &Lineage| *of == reel();
    let mut all = heads::<Tape>(log_store, is_tape, Some(catalog), &mut refused).await.unwrap();
    (all.remove(&reel()).unwrap(), refused)
}

#[tokio::test]
async fn the_log_of_any_engine_is_kept_read_indexed_and_learnt_by_the_same_rooms() {
    let (log_store, identities) = store().await;
    for n in 0..65 {
        let mark = if n == 7 { json!({ "mark": "chorus" }) } else { json!({}) };
        let plain = format!("bars of turn {n}").into_bytes();
        assert_eq!(log_store.keep(piece(n), plain, told(mark)).await.unwrap(), Kept::Created);
        log_store.settle_in::<Tape>(&piece(n), UNIT).await;
    }
    let note = LogPlace { lineage: reel(), part: LogPart::Note { name: label() } };
    let holds = told(json!({ "label": "side A" }));
    log_store.keep(note.clone(), b"side A".to_vec(), holds).await.unwrap();
    // A cluster's log lies beside it, and neither is in the other's way.
    let wal = LogPlace::of_wal((7, Timeline::FIRST), (Lsn(0), Lsn(3)));
    let holds = Holds { wal: Some(drctl_model::WalHolds::default()), ..Holds::default() };
    log_store.keep(wal.clone(), vec![1; 3], holds).await.unwrap();
    // The same once more is the same, and something else is told.
    let again = log_store.keep(piece(7), b"bars of turn 7".to_vec(), told(json!({}))).await;
    assert_eq!(again.unwrap(), Kept::Present);
    assert!(log_store.keep(piece(7), b"noise".to_vec(), told(json!({}))).await.is_err());
    let (head, plain) = log_store.read(&piece(7), &identities).await.unwrap();
    assert_eq!(plain, b"bars of turn 7");
    assert_eq!((head.place, &head.header.features[..]), (piece(7), &[FEATURE.to_owned()][..]));
    let places = log_store.places().await.unwrap();
    assert_eq!((places.len(), &places[0]), (67, &wal));
    assert!(places.contains(&note) && places.contains(&piece(64)));
    let from = LogAt(60 * UNIT);
    let ranges = log_store.ranges_of(&reel(), |_| true, from, None).await.unwrap();
    assert_eq!(ranges.len(), 5);
    let indexes = log_store.index_places().await.unwrap();
    assert_eq!(indexes.len(), 1, "{indexes:?}");
    assert_eq!((indexes[0].start, indexes[0].end), (LogAt(0), LogAt(64 * UNIT)));
    let indexed = log_store.log_index(&indexes[0]).await.unwrap();
    assert_eq!(
        (indexed.len(), indexed[7].holds.others[FEATURE]["mark"].clone()),
        (64, json!("chorus"))
    );
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&folder.path().join("catalog.db")).await.unwrap();
    let (first, refused) = learnt(&log_store, &catalog).await;
    assert_eq!((first.entries.len(), &refused[..]), (65, &[][..]));
    let mark = (Counter(7 * UNIT), Counter(8 * UNIT), "chorus".to_owned());
    assert_eq!(first.notes, Marks { marks: vec![mark], label: Some("side A".to_owned()) });
    // What the catalog knows is the same.
    let (second, _) = learnt(&log_store, &catalog).await;
    assert_eq!((second.entries, second.notes), (first.entries, first.notes));
    let trust = super::trust_digest(&log_store.repository.trust);
    let is_tape = |of: &Lineage| *of == reel();
    let known = catalog.logs::<Counter>(&log_store.source, is_tape, trust).await.unwrap();
    assert_eq!(known[&reel()].entries.len(), 65);
    // What lies there and is not believed is told by the engine's own words.
    let bucket = &log_store.repository.bucket;
    bucket.put(&layout::piece(&log_store.source, &piece(70)), "noise".into()).await.unwrap();
    let (_, refused) = learnt(&log_store, &catalog).await;
    assert!(refused[0].starts_with("tape of reel tape-3: "), "{refused:?}");
    let none =
        catalog.logs::<Lsn>(&log_store.source, |of| of.timeline().is_some(), Digest([0; 32]));
    assert!(none.await.unwrap().is_empty());
}

#[tokio::test]
async fn what_any_engines_log_says_is_checked_as_the_engine_knows() {
    let (log_store, identities) = store().await;
    for (n, plain) in [(0, "bars"), (1, "noise"), (2, "bars")] {
        log_store.keep(piece(n), plain.as_bytes().to_vec(), told(json!({}))).await.unwrap();
    }
    let (repository, source) = (&log_store.repository, &log_store.source);
    for (data, identities, found) in
        [(true, Some(&identities), 1), (true, None, 0), (false, None, 0)]
    {
        let look = (data, identities, Limits::default());
        let verdict = super::verify(repository, source, look, &mut Tape).await.unwrap();
        assert_eq!((verdict.pieces, verdict.problems.len()), (3, found), "{verdict:?}");
        for (code, text) in &verdict.problems {
            let key = layout::piece(source, &piece(1));
            assert_eq!(code, "log_damaged");
            assert!(text.starts_with(&format!("{key}: noise on the tape; ")), "{text}");
        }
    }
}

#[tokio::test]
async fn log_of_an_engine_that_is_not_known_is_told_and_stops_nothing_else() {
    let (log_store, identities) = store().await;
    let unknown = Holds::of_engine("beads", json!({}));
    log_store.keep(piece(0), b"beads".to_vec(), unknown).await.unwrap();
    let wal = LogPlace::of_wal((7, Timeline::FIRST), (Lsn(0), Lsn(3)));
    let holds = Holds { wal: Some(drctl_model::WalHolds::default()), ..Holds::default() };
    log_store.keep(wal.clone(), vec![1; 3], holds).await.unwrap();
    let lineages = log_store.lineages().await.unwrap();
    assert_eq!(lineages.len(), 2);
    let told = log_store.unread(&lineages).await.unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("log of tape-3: ") && told[0].contains("`beads`"), "{told:?}");
    assert!(told[0].contains("install drctl 0.1.0 or newer"), "{told:?}");
    assert_eq!(log_store.read(&wal, &identities).await.unwrap().1, [1; 3]);
    let look = (true, Some(&identities), Limits::default());
    let (repository, source) = (&log_store.repository, &log_store.source);
    let verdict = super::verify(repository, source, look, &mut Tape).await.unwrap();
    let codes: Vec<&str> = verdict.problems.iter().map(|(code, _)| code.as_str()).collect();
    assert_eq!((verdict.pieces, &codes[..]), (2, &["format_newer"][..]));
}
