use drctl_model::{
    Digest, Lineage, LogAt, LogEntry, LogNotes, Lsn, NotedBreak, NotedPoint, Timeline, WalNotes,
};
use rusqlite::{Connection, params};

use crate::testing::{at, place, source};
use crate::{CachedLog, Catalog, schema};

const TRUST: Digest = Digest([1; 32]);

fn entry(n: u64) -> LogEntry {
    let commits = (at(1), at(2));
    LogEntry::new((Lsn(n * 16), Lsn(n * 16 + 16)), (!n.is_multiple_of(3)).then_some(commits), None)
}

/// The greatest system identifier: the catalog's numbers have a sign.
fn lineage() -> Lineage {
    Lineage::of_timeline(u64::MAX - 5, Timeline::FIRST)
}

fn notes() -> LogNotes {
    let point = |name: &str| NotedPoint {
        start: Lsn(0),
        end: Lsn(16),
        lsn: Lsn(5),
        at: at(3),
        name: name.to_owned(),
    };
    let wal = WalNotes {
        history: Some(vec![(Timeline::FIRST, Lsn(7))]),
        points: vec![point("a"), point("b")],
        breaks: vec![NotedBreak { start: Lsn(0), end: Lsn(16), at: Lsn(6) }],
    };
    LogNotes { bytes: Some(7), own: wal.written() }
}

async fn known(catalog: &Catalog, trust: Digest) -> CachedLog {
    let logs = catalog.logs(&source("shop"), |_| true, trust).await.unwrap();
    logs.into_values().next().unwrap_or_default()
}

/// Changes what is known, as one process that read it before.
async fn put(catalog: &Catalog, before: &CachedLog, entries: &[LogEntry]) -> bool {
    let Some(change) = before.change(entries, &notes()) else { return false };
    catalog.change_log(&source("shop"), &lineage(), TRUST, change).await.unwrap()
}

#[tokio::test]
async fn what_is_known_of_a_log_comes_back_and_follows_every_change() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let all: Vec<LogEntry> = (0..5000).map(entry).collect();
    let mut holed = all.clone();
    holed.remove(2500);
    for entries in [&all[..0], &all[..1], &all[..1024], &all[..1025], &all[..], &holed, &all[..9]] {
        let before = known(&catalog, TRUST).await;
        assert!(put(&catalog, &before, entries).await);
        let after = known(&catalog, TRUST).await;
        assert_eq!(after.entries, entries);
        assert_eq!(after.notes, notes());
        assert!(!put(&catalog, &after, entries).await, "nothing has changed");
    }
    catalog.integrity().await.unwrap();
    assert_eq!(catalog.logged().await.unwrap(), [(source("shop"), lineage())]);
    let other = catalog.logs::<Lsn>(&source("shop"), |of| *of != lineage(), TRUST).await.unwrap();
    assert!(other.is_empty());
    assert!(catalog.logs::<Lsn>(&source("blog"), |_| true, TRUST).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_piece_more_rewrites_one_block() {
    let all: Vec<LogEntry> = (0..3000).map(entry).collect();
    let before = CachedLog {
        entries: all[..2999].to_vec(),
        notes: notes(),
        generation: 1,
        ..CachedLog::default()
    };
    let change = before.change(&all, &notes()).unwrap();
    let changed: Vec<usize> = change.changed.iter().map(|(n, _)| *n).collect();
    assert_eq!((changed, change.blocks), (vec![2], 3));
}

#[tokio::test]
async fn two_processes_do_not_mix_what_they_know() {
    let (_directory, path) = place();
    let (one, other) = (Catalog::open(&path).await.unwrap(), Catalog::open(&path).await.unwrap());
    let all: Vec<LogEntry> = (0..3000).map(entry).collect();
    let nothing = known(&one, TRUST).await;
    assert!(put(&one, &nothing, &all).await);
    assert!(!put(&other, &nothing, &all[..5]).await);
    let (seen, seen_too) = (known(&one, TRUST).await, known(&other, TRUST).await);
    assert!(put(&other, &seen_too, &all[5..]).await);
    assert!(!put(&one, &seen, &all[..2000]).await);
    assert_eq!(known(&one, TRUST).await.entries, all[5..]);
}

#[tokio::test]
async fn with_other_keys_nothing_is_known() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let all: Vec<LogEntry> = (0..3).map(entry).collect();
    assert!(put(&catalog, &CachedLog::default(), &all).await);
    let stranger = known(&catalog, Digest([2; 32])).await;
    assert!(stranger.entries.is_empty() && stranger.notes == LogNotes::default());
    // And is learnt anew in its place.
    assert!(put(&catalog, &stranger, &all[..2]).await);
    assert_eq!(known(&catalog, TRUST).await.entries, all[..2]);
}

#[tokio::test]
async fn damaged_pieces_are_not_known_and_are_learnt_anew() {
    let damages = [
        "UPDATE log_blocks SET entries = x'00' WHERE n = 1",
        "DELETE FROM log_blocks WHERE n = 0",
        "UPDATE log_blocks SET n = n + 7 WHERE n = 1",
        "UPDATE log_blocks SET entries = (SELECT entries FROM log_blocks WHERE n = 0) WHERE n = 1",
        "UPDATE logs SET notes = '{'",
    ];
    for damage in damages {
        let (_directory, path) = place();
        let catalog = Catalog::open(&path).await.unwrap();
        let all: Vec<LogEntry> = (0..2048).map(entry).collect();
        assert!(put(&catalog, &CachedLog::default(), &all).await);
        Connection::open(&path).unwrap().execute_batch(damage).unwrap();
        assert_eq!(catalog.integrity().await.unwrap_err().code(), "catalog_corrupt", "{damage}");
        let found = known(&catalog, TRUST).await;
        assert!(found.entries.is_empty() && found.notes == LogNotes::default(), "{damage}");
        assert!(found.change(&[], &LogNotes::default()).is_some(), "{damage}: also by nothing");
        assert!(put(&catalog, &found, &all).await, "{damage}");
        assert_eq!(known(&catalog, TRUST).await.entries, all, "{damage}");
        catalog.integrity().await.unwrap();
    }
}

#[tokio::test]
async fn the_log_of_any_engine_is_kept_by_its_lineage() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let reel: Lineage = "tape-3".parse().unwrap();
    let all: Vec<LogEntry> = (0..3).map(entry).collect();
    assert!(put(&catalog, &CachedLog::default(), &all).await);
    // What it notes is its own, and comes back as it was.
    let own = serde_json::json!({ "reels": ["a", "b"] }).as_object().unwrap().clone();
    let noted = LogNotes { bytes: None, own };
    let change = CachedLog::default().change(&all[..2], &noted).unwrap();
    assert!(catalog.change_log(&source("shop"), &reel, TRUST, change).await.unwrap());
    let logs = catalog.logs::<Lsn>(&source("shop"), |_| true, TRUST).await.unwrap();
    let pieces: Vec<_> = logs.iter().map(|(of, log)| (of.clone(), log.entries.len())).collect();
    assert_eq!(pieces, [(lineage(), 3), (reel.clone(), 2)]);
    let is_tape = |of: &Lineage| of.timeline().is_none();
    let only = catalog.logs::<LogAt>(&source("shop"), is_tape, TRUST).await.unwrap();
    let places: Vec<_> = only.values().flat_map(|log| &log.entries).map(LogEntry::place).collect();
    assert_eq!(places, [(LogAt(0), LogAt(16)), (LogAt(16), LogAt(32))]);
    assert_eq!(only[&reel].notes, noted);
    assert_eq!(only.into_keys().collect::<Vec<_>>(), [reel]);
}

#[tokio::test]
async fn an_earlier_catalog_keeps_what_it_knew_of_the_log() {
    let (_directory, path) = place();
    let mut earlier = Connection::open(&path).unwrap();
    schema::migrate(&mut earlier, &schema::STEPS[..8]).unwrap();
    let all: Vec<LogEntry> = (0..3).map(entry).collect();
    let mut bytes = Vec::new();
    all.iter().for_each(|entry| entry.to_bytes(&mut bytes));
    let notes_text = serde_json::to_string(&notes()).unwrap();
    let (system_id, timeline) = lineage().timeline().unwrap();
    earlier
        .execute(
            "INSERT INTO logs VALUES (7, 'shop', ?1, ?2, ?3, 4, ?4)",
            params![system_id.cast_signed(), timeline.id(), TRUST.to_string(), notes_text],
        )
        .unwrap();
    earlier.execute("INSERT INTO log_blocks VALUES (7, 0, ?1)", [bytes]).unwrap();
    drop(earlier);
    let catalog = Catalog::open(&path).await.unwrap();
    let before = known(&catalog, TRUST).await;
    assert_eq!((&before.entries, &before.notes), (&all, &notes()));
    assert_eq!(catalog.logged().await.unwrap(), [(source("shop"), lineage())]);
    catalog.integrity().await.unwrap();
    // What is changed of it later takes its place.
    assert!(put(&catalog, &before, &all[..2]).await);
    assert_eq!(known(&catalog, TRUST).await.entries, all[..2]);
}
