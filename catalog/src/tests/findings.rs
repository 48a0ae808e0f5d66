use drctl_model::{Checked, Finding, FindingCode};
use rusqlite::Connection;

use crate::testing::{at, place, repository, source};
use crate::{Catalog, CatalogError, Rebuild, Standing, schema};

fn found(code: FindingCode, subject: &str, text: &str) -> Finding {
    Finding {
        code,
        source: source("shop"),
        subject: subject.to_owned(),
        text: text.to_owned(),
        hint: Some("do something".to_owned()),
    }
}

fn gap(text: &str) -> Finding {
    found(FindingCode::LogGap, "timeline 1 from 0/100", text)
}

/// What stands of a source: the text, and the hours of its first and last time.
async fn standing(catalog: &Catalog) -> Vec<(String, u32, u32)> {
    let hour = |time| (0..1000).find(|hour| at(*hour) == time).unwrap();
    let told =
        |Standing { finding, first, last }: Standing| (finding.text, hour(first), hour(last));
    let all = catalog.findings(Some(&source("shop"))).await.unwrap();
    all.into_iter().map(told).collect()
}

#[tokio::test]
async fn a_finding_that_is_met_again_keeps_its_beginning_until_it_is_settled() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let shop = source("shop");
    let note = async |hour: u32, checked: Checked| {
        catalog.note_findings(&shop, at(hour), checked).await.unwrap();
    };
    let told = |text: &str, first, last| (text.to_owned(), first, last);
    note(1, Checked::met(gap("a"))).await;
    note(2, Checked::met(found(FindingCode::SlotLost, "one", "b"))).await;
    assert_eq!(standing(&catalog).await, [told("a", 1, 1), told("b", 2, 2)]);
    note(3, Checked::met(gap("c"))).await;
    assert_eq!(standing(&catalog).await, [told("c", 1, 3), told("b", 2, 2)]);
    let gaps = &[FindingCode::LogGap];
    note(4, Checked::all(gaps, vec![gap("d")])).await;
    assert_eq!(standing(&catalog).await, [told("d", 1, 4), told("b", 2, 2)]);
    note(5, Checked::all(gaps, vec![])).await;
    assert_eq!(standing(&catalog).await, [told("b", 2, 2)]);
    assert_eq!(catalog.findings(Some(&source("blog"))).await.unwrap(), []);
    note(6, Checked::met(gap("e"))).await;
    assert_eq!(standing(&catalog).await, [told("e", 6, 6), told("b", 2, 2)], "it begins anew");
    // What is settled is not kept for ever.
    note(7, Checked::all(gaps, vec![])).await;
    let rows = || -> i64 {
        let raw = Connection::open(&path).unwrap();
        raw.query_row("SELECT count(*) FROM findings", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(rows(), 2);
    note(7 + 24 * 91, Checked::met(found(FindingCode::SlotLost, "one", "f"))).await;
    assert_eq!(rows(), 1);
}

#[tokio::test]
async fn findings_outlive_a_rebuild_and_unknown_ones_are_left_out() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    catalog.claim(&repository()).await.unwrap();
    let shop = source("shop");
    catalog.note_findings(&shop, at(1), Checked::met(gap("a"))).await.unwrap();
    catalog.note_findings(&shop, at(2), Checked::met(gap("b"))).await.unwrap();
    let raw = Connection::open(&path).unwrap();
    let newer = "INSERT INTO findings SELECT source, 'sunspots', subject, text, hint, first, last, \
                 settled FROM findings";
    assert_eq!(raw.execute(newer, []).unwrap(), 1);
    let before = catalog.findings(None).await.unwrap();
    assert_eq!(before.len(), 1, "{before:?}");
    drop((catalog, raw));
    Rebuild::start(&path, &repository()).await.unwrap().finish().await.unwrap();
    let catalog = Catalog::open(&path).await.unwrap();
    catalog.integrity().await.unwrap();
    assert_eq!(catalog.findings(None).await.unwrap(), before);
    let raw = Connection::open(&path).unwrap();
    let count: i64 = raw.query_row("SELECT count(*) FROM findings", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 2, "what a newer program found is kept for it");
}

#[tokio::test]
async fn what_is_forgotten_is_gone_and_nothing_else() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let shop = source("shop");
    let refused = |whose: &str| found(FindingCode::LogRefused, whose, "other log");
    for whose in ["one", "two"] {
        catalog.note_findings(&shop, at(1), Checked::met(refused(whose))).await.unwrap();
    }
    let of = vec![(FindingCode::LogRefused, "one".to_owned())];
    assert_eq!(catalog.forget_lost(&shop, vec![], vec![], of).await.unwrap(), 1);
    let left = catalog.findings(None).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].finding, refused("two"));
}

#[tokio::test]
async fn a_catalog_that_cannot_be_written_says_so_and_keeps_what_it_has() {
    let (_directory, path) = place();
    let writable = Catalog::open(&path).await.unwrap();
    let shop = source("shop");
    writable.note_findings(&shop, at(1), Checked::met(gap("a"))).await.unwrap();
    let catalog = Catalog::open_read_only(&path).await.unwrap();
    let error = catalog.note_findings(&shop, at(2), Checked::met(gap("b"))).await.unwrap_err();
    assert!(matches!(error, CatalogError::ReadOnly { .. }), "{error}");
    assert_eq!(standing(&catalog).await, [("a".to_owned(), 1, 1)]);
    // With nothing to say nothing is written.
    let nothing = Checked::all(&[FindingCode::SlotLost], vec![]);
    catalog.note_findings(&shop, at(2), nothing).await.unwrap();
}

#[test]
fn refusals_of_an_older_catalog_are_findings() {
    let mut db = Connection::open_in_memory().unwrap();
    schema::migrate(&mut db, &schema::STEPS[..10]).unwrap();
    let put = "INSERT INTO lost (source, key, why, at) VALUES ('shop', ?1, ?2, ?3)";
    let when = crate::rows::time(at(1));
    let rows = [
        ("refused: cluster 7 timeline 1 pushed from here", "other log"),
        ("s/shop/b/x/manifest.json", "gone"),
    ];
    for (key, why) in rows {
        db.execute(put, [key, why, &when]).unwrap();
    }
    schema::migrate(&mut db, schema::STEPS).unwrap();
    let all = crate::findings::list(&db, None).unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    let Standing { finding, first, last } = &all[0];
    assert_eq!((finding.code, *first, *last), (FindingCode::LogRefused, at(1), at(1)));
    assert_eq!(finding.subject, "cluster 7 timeline 1 pushed from here");
    assert_eq!(finding.text, "other log");
    let left: String = db.query_row("SELECT key FROM lost", [], |row| row.get(0)).unwrap();
    assert_eq!(left, "s/shop/b/x/manifest.json");
}
