use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use drctl_model::{JobKind, JobState, RepositoryId};
use rusqlite::Connection;

use crate::testing::{STORED, at, backup, commit, place, repository, source};
use crate::{Catalog, CatalogError};

/// A catalog as the first version left it. Never edited: it stands for files out there.
const FIXTURE_V1: &str = include_str!("../../tests/data/v1.sql");

#[tokio::test]
async fn a_catalog_of_version_1_opens() {
    let (_directory, path) = place();
    Connection::open(&path).unwrap().execute_batch(FIXTURE_V1).unwrap();
    let catalog = Catalog::open(&path).await.unwrap();
    catalog.integrity().await.unwrap();
    assert_eq!(catalog.repository().await.unwrap(), Some(RepositoryId::new(0xF1)));
    let backups = catalog.backups(None).await.unwrap();
    assert_eq!(backups.len(), 2);
    assert_eq!(backups[0].suspect, ["1.0 MiB, the last good one had 1.0 GiB"]);
    assert_eq!(backups[1].plain_bytes, u64::MAX);
    assert_eq!(catalog.newest_good(&source("shop")).await.unwrap().as_ref(), Some(&backups[1]));
    let states: Vec<_> = catalog
        .jobs(None, 10)
        .await
        .unwrap()
        .into_iter()
        .map(|job| (job.id.0, job.state))
        .collect();
    let expected = [
        (9, JobState::Running),
        (5, JobState::Committed),
        (4, JobState::Interrupted),
        (3, JobState::Cancelled),
        (2, JobState::Failed),
        (1, JobState::Committed),
    ];
    assert_eq!(states, expected);
    let jobs = catalog.jobs(None, 10).await.unwrap();
    assert!(jobs.iter().all(|job| job.kind == JobKind::Backup && job.backup.is_some()), "{jobs:?}");
    assert!(jobs[4].code.is_some() && jobs[4].message.is_some(), "{:?}", jobs[4]);
    let next = backup("shop", 999);
    assert_eq!(commit(&catalog, &next).await.0, 10);
}

fn expect(error: &CatalogError, code: &str) {
    assert_eq!(error.code(), code, "{error}");
    assert!(error.hint().is_some_and(|hint| hint.ends_with('.')), "{error}");
}

#[tokio::test]
async fn a_new_catalog_is_its_owners_alone_and_durable() {
    let (directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    commit(&catalog, &backup("shop", 1)).await;
    for entry in fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
    }
    let (journal, synchronous, foreign_keys) = catalog
        .call(|db| {
            Ok((
                db.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0))?,
                db.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))?,
                db.pragma_query_value(None, "foreign_keys", |row| row.get::<_, i64>(0))?,
            ))
        })
        .await
        .unwrap();
    assert_eq!((journal.as_str(), synchronous, foreign_keys), ("wal", 2, 1));
}

#[tokio::test]
async fn other_files_are_refused_and_left_alone() {
    let (_directory, path) = place();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let before = fs::read(&path).unwrap();
    expect(&Catalog::open(&path).await.unwrap_err(), "catalog_foreign");
    expect(&Catalog::open_read_only(&path).await.unwrap_err(), "catalog_foreign");
    assert_eq!(fs::read(&path).unwrap(), before);

    fs::write(&path, "[repository]\nurl = \"s3://bucket\"\n".repeat(40)).unwrap();
    expect(&Catalog::open(&path).await.unwrap_err(), "catalog_corrupt");
}

#[tokio::test]
async fn a_newer_catalog_is_refused() {
    let (_directory, path) = place();
    drop(Catalog::open(&path).await.unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Catalog::open(&path).await.unwrap_err();
    expect(&error, "catalog_newer");
    assert!(error.to_string().contains("version 99"), "{error}");
    expect(&Catalog::open_read_only(&path).await.unwrap_err(), "catalog_newer");
}

#[tokio::test]
async fn places_without_a_catalog() {
    let (directory, path) = place();
    expect(&Catalog::open_read_only(&path).await.unwrap_err(), "catalog_missing");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    fs::write(&path, "").unwrap();
    expect(&Catalog::open_read_only(&path).await.unwrap_err(), "catalog_older");
    let nowhere = directory.path().join("none/catalog.db");
    expect(&Catalog::open(&nowhere).await.unwrap_err(), "catalog_no_directory");
    let taken = directory.path().join("taken.db");
    fs::create_dir(&taken).unwrap();
    expect(&Catalog::open(&taken).await.unwrap_err(), "catalog_io");
    assert!(!Path::new("none").exists());
}

#[tokio::test]
async fn every_page_that_is_overwritten_is_noticed_or_harmless() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    catalog.claim(&repository()).await.unwrap();
    for hour in 0..40 {
        commit(&catalog, &backup("shop", hour)).await;
    }
    let (backups, jobs) =
        (catalog.backups(None).await.unwrap(), catalog.jobs(None, 99).await.unwrap());
    drop(catalog);
    let whole = fs::read(&path).unwrap();
    let mut noticed = 0;
    for page in 0..whole.len() / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096].iter_mut().step_by(3).for_each(|b| *b ^= 0x55);
        fs::write(&path, &bytes).unwrap();
        let found = async {
            let catalog = Catalog::open(&path).await?;
            catalog.integrity().await?;
            Ok((catalog.backups(None).await?, catalog.jobs(None, 99).await?))
        };
        match found.await {
            Ok(found) => assert_eq!(found, (backups.clone(), jobs.clone()), "page {page}"),
            Err(error) => {
                expect(&error, "catalog_corrupt");
                noticed += 1;
            }
        }
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(crate::open::beside(&path, suffix));
        }
    }
    assert!(noticed > 10, "{noticed}");
}

#[tokio::test]
async fn two_handles_write_in_turn() {
    let (_directory, path) = place();
    let one = Catalog::open(&path).await.unwrap();
    let two = Catalog::open(&path).await.unwrap();
    let write = async |catalog: &Catalog, first: u32| {
        for hour in first..first + 20 {
            commit(catalog, &backup("shop", hour)).await;
        }
    };
    tokio::join!(write(&one, 0), write(&two, 100));
    assert_eq!(one.backups(None).await.unwrap().len(), 40);
    assert_eq!(one.jobs(None, 99).await.unwrap(), two.jobs(None, 99).await.unwrap());
    one.integrity().await.unwrap();
}

#[tokio::test]
async fn a_writer_that_does_not_end_makes_it_busy() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    commit(&catalog, &backup("shop", 1)).await;
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = catalog.adopt(&backup("shop", 2)).await.unwrap_err();
    expect(&error, "catalog_busy");
    assert!(!error.is_permanent());
    assert_eq!(catalog.backups(None).await.unwrap().len(), 1);
    other.execute_batch("ROLLBACK").unwrap();
    catalog.adopt(&backup("shop", 2)).await.unwrap();
}

#[tokio::test]
async fn it_is_read_while_another_writes() {
    let (_directory, path) = place();
    let writer = Catalog::open(&path).await.unwrap();
    commit(&writer, &backup("shop", 1)).await;
    let reader = Catalog::open_read_only(&path).await.unwrap();
    let locked = Connection::open(&path).unwrap();
    locked.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(reader.backups(None).await.unwrap().len(), 1);
    locked.execute_batch("ROLLBACK").unwrap();
    commit(&writer, &backup("shop", 2)).await;
    assert_eq!(reader.backups(None).await.unwrap().len(), 2);
    assert_eq!(reader.unfinished_jobs().await.unwrap(), []);
    expect(&reader.adopt(&backup("shop", 3)).await.unwrap_err(), "catalog_read_only");
    drop(writer);
    assert_eq!(reader.backups(None).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_full_disk_is_told_and_the_next_write_succeeds() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let job = catalog
        .begin_job(at(1), JobKind::Backup, &source("shop"), Some(&backup("shop", 1).backup))
        .await
        .unwrap();
    let limit = async |pages: i64| {
        let set = move |db: &mut Connection| {
            Ok(db.pragma_update_and_check(None, "max_page_count", pages, |row| {
                row.get::<_, i64>(0)
            })?)
        };
        catalog.call(set).await.unwrap();
    };
    limit(1).await;
    let mut hour = 2;
    let error = loop {
        match catalog.adopt(&backup("shop", hour)).await {
            Ok(()) => hour += 1,
            Err(error) => break error,
        }
    };
    expect(&error, "catalog_full");
    assert!(!error.is_permanent());
    limit(1 << 20).await;
    catalog.adopt(&backup("shop", hour)).await.unwrap();
    catalog.append(job, at(hour), &STORED).await.unwrap();
    catalog.integrity().await.unwrap();
}

#[tokio::test]
async fn what_is_no_file_is_refused_and_not_opened() {
    for suffix in ["", "-wal"] {
        let (_directory, path) = place();
        drop(Catalog::open(&path).await.unwrap());
        let odd = format!("{}{suffix}", path.display());
        let _ = fs::remove_file(&odd);
        let made = std::process::Command::new("mkfifo").arg(&odd).status().unwrap();
        assert!(made.success());
        // To open a pipe would wait for ever.
        let within = std::time::Duration::from_secs(20);
        let opened = tokio::time::timeout(within, Catalog::open(&path)).await.unwrap();
        expect(&opened.err().unwrap(), "catalog_io");
        let opened = tokio::time::timeout(within, Catalog::open_read_only(&path)).await.unwrap();
        expect(&opened.err().unwrap(), "catalog_io");
    }
}
