use drctl_model::Digest;

use crate::testing::{backup, commit, place, repository, source};
use crate::{Catalog, Reading, Rebuild};

#[tokio::test]
async fn how_far_a_backup_was_read_is_known_until_it_is_read_or_gone() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    catalog.claim(&repository()).await.unwrap();
    let shop = source("shop");
    let reading = |hour: u32, objects: u64| Reading {
        backup: backup("shop", hour).backup,
        manifest_sha256: Digest([7; 32]),
        objects,
        bytes: objects << 20,
        problems: vec![("segment_damaged".to_owned(), "a segment".to_owned())],
    };
    for hour in 1..=3 {
        commit(&catalog, &backup("shop", hour)).await;
        catalog.note_reading(&shop, reading(hour, 1)).await.unwrap();
    }
    catalog.note_reading(&shop, reading(2, 5)).await.unwrap();
    catalog.end_reading(&shop, &reading(1, 1).backup).await.unwrap();
    assert_eq!(catalog.readings(&shop).await.unwrap(), [reading(2, 5), reading(3, 1)]);
    assert_eq!(catalog.readings(&source("bank")).await.unwrap(), []);
    catalog.take_out(&shop, [reading(3, 1).backup].into()).await.unwrap();
    assert_eq!(catalog.readings(&shop).await.unwrap(), [reading(2, 5)]);
    drop(catalog);
    // What is made anew from the bucket begins anew.
    Rebuild::start(&path, &repository()).await.unwrap().finish().await.unwrap();
    let catalog = Catalog::open(&path).await.unwrap();
    assert_eq!(catalog.readings(&shop).await.unwrap(), []);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_damage_that_the_next_opening_finds() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let row = "INSERT INTO reading VALUES ('shop', '20260101T000000Z-0000000000000002', 'x', 1, 1, 'none')";
    rusqlite::Connection::open(&path).unwrap().execute_batch(row).unwrap();
    assert_eq!(catalog.readings(&source("shop")).await.unwrap_err().code(), "catalog_corrupt");
    drop(catalog);
    let catalog = Catalog::open(&path).await.unwrap();
    assert_eq!(catalog.soundness().await.unwrap_err().code(), "catalog_corrupt");
}
