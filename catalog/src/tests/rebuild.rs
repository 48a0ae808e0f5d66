use std::fs;
use std::path::Path;

use drctl_model::{BackupSummary, Digest, Job, JobId, JobKind, RepositoryId};
use rusqlite::Connection;

use crate::open::beside;
use crate::testing::{STORED, at, backup, commit, place, repository};
use crate::{Catalog, CatalogError, Rebuild, Rebuilt};

/// A catalog with three committed backups and a job that runs.
async fn filled(path: &Path) -> (Vec<BackupSummary>, Vec<Job>) {
    let catalog = Catalog::open(path).await.unwrap();
    catalog.claim(&repository()).await.unwrap();
    for (name, hour) in [("shop", 1), ("blog", 2), ("shop", 3)] {
        commit(&catalog, &backup(name, hour)).await;
    }
    let open = backup("shop", 4);
    let job =
        catalog.begin_job(at(4), JobKind::Backup, &open.source, Some(&open.backup)).await.unwrap();
    catalog.append(job, at(5), &STORED).await.unwrap();
    content(&catalog).await
}

async fn content(catalog: &Catalog) -> (Vec<BackupSummary>, Vec<Job>) {
    catalog.integrity().await.unwrap();
    (catalog.backups(None).await.unwrap(), catalog.jobs(None, 99).await.unwrap())
}

async fn rebuild(path: &Path, bucket: &[BackupSummary]) -> Result<Rebuilt, CatalogError> {
    let rebuild = Rebuild::start(path, &repository()).await?;
    rebuild.add(bucket).await?;
    rebuild.finish().await
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn rebuilt_it_equals_what_it_was() {
    let (directory, path) = place();
    let before = filled(&path).await;
    let bucket: Vec<_> = before.0.iter().rev().cloned().collect();
    let rebuilt = rebuild(&path, &bucket).await.unwrap();
    assert_eq!(rebuilt, Rebuilt { backups: 3, jobs: 4, damaged: None });
    assert_eq!(names(directory.path()), ["catalog.db", "catalog.db.lock"]);
    let catalog = Catalog::open(&path).await.unwrap();
    assert_eq!(content(&catalog).await, before);
    assert_eq!(catalog.repository().await.unwrap(), Some(repository()));
    assert_eq!(catalog.unfinished_jobs().await.unwrap()[0].id, JobId(4));
    assert_eq!(commit(&catalog, &backup("blog", 9)).await, JobId(5));
}

#[tokio::test]
async fn deleted_it_is_rebuilt_and_knows_the_same_backups() {
    let (_directory, path) = place();
    let (backups, _) = filled(&path).await;
    fs::remove_file(&path).unwrap();
    let rebuilt = rebuild(&path, &backups).await.unwrap();
    assert_eq!(rebuilt, Rebuilt { backups: 3, jobs: 0, damaged: None });
    let catalog = Catalog::open(&path).await.unwrap();
    assert_eq!(content(&catalog).await, (backups, Vec::new()));
}

#[tokio::test]
async fn the_log_of_the_old_file_is_never_applied_to_the_new_one() {
    let (_directory, path) = place();
    let (backups, jobs) = filled(&path).await;
    // As if the process had been killed: the log keeps what the file does not have yet.
    let late = Catalog::open(&path).await.unwrap();
    commit(&late, &backup("shop", 7)).await;
    let log = fs::read(beside(&path, "-wal")).unwrap();
    let file = fs::read(&path).unwrap();
    drop(late);
    fs::write(&path, &file).unwrap();
    fs::write(beside(&path, "-wal"), &log).unwrap();
    let rebuilt = rebuild(&path, &backups).await.unwrap();
    assert_eq!((rebuilt.backups, rebuilt.jobs), (3, 5), "the job in the log counts");
    let catalog = Catalog::open(&path).await.unwrap();
    assert_eq!(catalog.backups(None).await.unwrap(), backups);
    assert_eq!(content(&catalog).await.1[1..], jobs);
    drop(catalog);
    // And where the file is gone but its log is not.
    fs::remove_file(&path).unwrap();
    fs::write(beside(&path, "-wal"), &log).unwrap();
    rebuild(&path, &backups[..1]).await.unwrap();
    assert!(!beside(&path, "-wal").exists());
    let catalog = Catalog::open(&path).await.unwrap();
    assert_eq!(content(&catalog).await, (backups[..1].to_vec(), Vec::new()));
}

#[tokio::test]
async fn a_damaged_catalog_is_replaced_and_kept() {
    let (_directory, path) = place();
    let (backups, _) = filled(&path).await;
    let mut bytes = fs::read(&path).unwrap();
    bytes[..64].fill(0xEE);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(Catalog::open(&path).await.unwrap_err().code(), "catalog_corrupt");
    let kept = beside(&path, ".damaged");
    let rebuilt = rebuild(&path, &backups).await.unwrap();
    assert_eq!(rebuilt, Rebuilt { backups: 3, jobs: 0, damaged: Some(kept.clone()) });
    assert_eq!(fs::read(&kept).unwrap(), bytes);
    let catalog = Catalog::open(&path).await.unwrap();
    assert_eq!(content(&catalog).await, (backups, Vec::new()));
}

/// Fills the first page of a table with what is none.
fn harm(path: &Path, table: &str) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let sql = "SELECT rootpage FROM sqlite_master WHERE name = ?1";
    let page: u32 = connection.query_row(sql, [table], |row| row.get(0)).unwrap();
    let page = page as usize;
    drop(connection);
    let mut bytes = fs::read(path).unwrap();
    bytes[(page - 1) * 4096..page * 4096].fill(0xFF);
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn whatever_is_damaged_of_what_only_the_catalog_knew_is_told() {
    for table in ["statements", "documents", "named", "backups", "lost", "newer", "notices"] {
        let (_directory, path) = place();
        let (backups, _) = filled(&path).await;
        harm(&path, table);
        let rebuilt = rebuild(&path, &backups).await.unwrap();
        assert!(rebuilt.damaged.is_some_and(|kept| kept.exists()), "{table}");
        let catalog = Catalog::open(&path).await.unwrap();
        catalog.integrity().await.unwrap();
    }
}

#[tokio::test]
async fn what_was_met_damaged_is_looked_for_when_it_is_opened_again() {
    let (_directory, path) = place();
    let (backups, _) = filled(&path).await;
    harm(&path, "job_events");
    let catalog = Catalog::open(&path).await.unwrap();
    catalog.soundness().await.unwrap();
    assert_eq!(catalog.jobs(None, 9).await.unwrap_err().code(), "catalog_corrupt");
    drop(catalog);
    let catalog = Catalog::open(&path).await.unwrap();
    assert_eq!(catalog.soundness().await.unwrap_err().code(), "catalog_corrupt");
    drop(catalog);
    let _ = rebuild(&path, &backups).await.unwrap();
    assert!(!beside(&path, ".doubt").exists());
    Catalog::open(&path).await.unwrap().soundness().await.unwrap();
}

#[tokio::test]
async fn of_a_damaged_log_the_good_jobs_are_kept() {
    let (_directory, path) = place();
    let (backups, jobs) = filled(&path).await;
    let hurt = "DROP TRIGGER job_events_fixed; \
        UPDATE job_events SET event = '{\"event\":\"unheard\"}' WHERE job = 2 AND n = 2; \
        UPDATE job_events SET ends = 0 WHERE job = 3";
    Connection::open(&path).unwrap().execute_batch(hurt).unwrap();
    let catalog = Catalog::open(&path).await.unwrap();
    assert_eq!(catalog.integrity().await.unwrap_err().code(), "catalog_corrupt");
    assert_eq!(catalog.jobs(None, 9).await.unwrap_err().code(), "catalog_corrupt");
    drop(catalog);
    let rebuilt = rebuild(&path, &backups).await.unwrap();
    assert_eq!(rebuilt.jobs, 2);
    assert!(rebuilt.damaged.is_some_and(|kept| kept.exists()));
    let catalog = Catalog::open(&path).await.unwrap();
    assert_eq!(content(&catalog).await, (backups, vec![jobs[0].clone(), jobs[3].clone()]));
}

#[tokio::test]
async fn what_is_not_our_old_catalog_is_not_replaced() {
    let (directory, path) = place();
    filled(&path).await;
    let other = Rebuild::start(&path, &RepositoryId::new(8)).await.err().unwrap();
    assert_eq!(other.code(), "catalog_other_repository");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert_eq!(rebuild(&path, &[]).await.unwrap_err().code(), "catalog_newer");
    let theirs = directory.path().join("theirs.db");
    Connection::open(&theirs).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert_eq!(rebuild(&theirs, &[]).await.unwrap_err().code(), "catalog_foreign");
}

#[tokio::test]
async fn nobody_else_has_it_open_meanwhile() {
    let (_directory, path) = place();
    let before = filled(&path).await;
    let catalog = Catalog::open(&path).await.unwrap();
    assert_eq!(rebuild(&path, &[]).await.unwrap_err().code(), "catalog_busy");
    drop(catalog);
    let running = Rebuild::start(&path, &repository()).await.unwrap();
    assert_eq!(Catalog::open(&path).await.unwrap_err().code(), "catalog_busy");
    assert_eq!(Catalog::open_read_only(&path).await.unwrap_err().code(), "catalog_busy");
    assert_eq!(rebuild(&path, &[]).await.unwrap_err().code(), "catalog_busy");
    // Another program that knows nothing of our lock is found in time, too.
    let shell = Connection::open(&path).unwrap();
    shell.query_row("SELECT count(*) FROM jobs", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(running.finish().await.unwrap_err().code(), "catalog_busy");
    drop(shell);
    assert_eq!(content(&Catalog::open(&path).await.unwrap()).await, before);
}

#[tokio::test]
async fn leftovers_are_swept_and_an_unfinished_rebuild_leaves_none() {
    let (directory, path) = place();
    let before = filled(&path).await;
    for name in ["catalog.db.rebuild-1", "catalog.db.rebuild-1-journal", "catalog.db.mine"] {
        fs::write(directory.path().join(name), "x").unwrap();
    }
    let running = Rebuild::start(&path, &repository()).await.unwrap();
    running.add(&[backup("shop", 9)]).await.unwrap();
    drop(running);
    assert_eq!(names(directory.path()), ["catalog.db", "catalog.db.lock", "catalog.db.mine"]);
    fs::write(directory.path().join("catalog.db.rebuild-2"), "x").unwrap();
    assert_eq!(content(&Catalog::open(&path).await.unwrap()).await, before);
    assert_eq!(names(directory.path()), ["catalog.db", "catalog.db.lock", "catalog.db.mine"]);
}

#[tokio::test]
async fn one_backup_with_two_manifests_stops_the_rebuild() {
    let (_directory, path) = place();
    let running = Rebuild::start(&path, &repository()).await.unwrap();
    let a = backup("shop", 1);
    running.add(std::slice::from_ref(&a)).await.unwrap();
    running.add(std::slice::from_ref(&a)).await.unwrap();
    let other = BackupSummary { manifest_sha256: Digest([9; 32]), ..a };
    assert_eq!(running.add(&[other]).await.unwrap_err().code(), "catalog_conflict");
}
