use std::collections::BTreeSet;

use drctl_model::{BackupSummary, Digest, Illegal, JobEvent, JobId, JobKind, JobState};
use proptest::prelude::*;
use proptest::sample::select;

use crate::testing::{STORED, at, backup, commit, place, repository, source};
use crate::{Catalog, CatalogError};

#[tokio::test]
async fn every_field_comes_back() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let full = BackupSummary {
        host: "größe \" ' ; \u{1F40C}".to_owned(),
        plain_bytes: u64::MAX,
        sealed_bytes: u64::MAX / 2 + 1,
        segments: 0,
        suspect: vec!["small: 1 % of the last".to_owned(), String::new()],
        manifest_sha256: Digest(std::array::from_fn(|i| u8::try_from(i * 8).unwrap())),
        ..backup("shop", 1)
    };
    commit(&catalog, &full).await;
    drop(catalog);
    let catalog = Catalog::open(&path).await.unwrap();
    assert_eq!(catalog.backup(&full.source, &full.backup).await.unwrap(), Some(full.clone()));
    assert_eq!(catalog.backups(None).await.unwrap(), [full]);
}

#[tokio::test]
async fn backups_come_newest_first() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let [a, b, c] = [backup("shop", 2), backup("blog", 3), backup("shop", 4)];
    for backup in [&b, &c, &a] {
        catalog.adopt(backup).await.unwrap();
    }
    assert_eq!(catalog.backups(None).await.unwrap(), [c.clone(), b, a.clone()]);
    assert_eq!(catalog.backups(Some(&source("shop"))).await.unwrap(), [c, a]);
    assert_eq!(catalog.backups(Some(&source("none"))).await.unwrap(), []);
}

#[tokio::test]
async fn the_newest_good_one_is_not_suspect() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let good = backup("shop", 1);
    let suspect = BackupSummary { suspect: vec!["empty".to_owned()], ..backup("shop", 2) };
    catalog.adopt(&suspect).await.unwrap();
    assert_eq!(catalog.newest_good(&good.source).await.unwrap(), None);
    catalog.adopt(&good).await.unwrap();
    catalog.adopt(&backup("blog", 3)).await.unwrap();
    assert_eq!(catalog.newest_good(&good.source).await.unwrap(), Some(good));
}

#[tokio::test]
async fn what_a_newer_program_wrote_is_told_and_hides_no_other() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let [old, new] = [backup("shop", 1), backup("shop", 2)];
    catalog.adopt(&old).await.unwrap();
    catalog.adopt(&new).await.unwrap();
    // As a newer program would have put it.
    let raw = rusqlite::Connection::open(&path).unwrap();
    let sql =
        "UPDATE backups SET engine = 'abacus', kind = '{\"type\":\"beads\"}' WHERE backup = ?1";
    assert_eq!(raw.execute(sql, [new.backup.as_str()]).unwrap(), 1);
    catalog.soundness().await.unwrap();
    assert_eq!(catalog.backups(None).await.unwrap(), std::slice::from_ref(&old));
    assert_eq!(catalog.newest_good(&old.source).await.unwrap(), Some(old));
    let newer = catalog.newer(Some(&new.source)).await.unwrap();
    assert!(newer[&(new.source.clone(), new.backup.clone())].contains("install"), "{newer:?}");
    let noted = [((source("blog"), new.backup.clone()), "install drctl 9".to_owned())];
    catalog.set_newer(noted.into()).await.unwrap();
    assert_eq!(catalog.newer(None).await.unwrap().len(), 2);
    catalog.set_newer(std::iter::empty().collect()).await.unwrap();
    assert_eq!(catalog.newer(Some(&source("blog"))).await.unwrap().len(), 0);
}

#[tokio::test]
async fn what_another_tool_has_expired_is_no_good_one() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let [old, new] = [backup("shop", 1), backup("shop", 2)];
    catalog.adopt_all(&[old.clone(), new.clone(), backup("blog", 3)]).await.unwrap();
    let shop = source("shop");
    let say = |ids: &[&BackupSummary]| -> BTreeSet<_> {
        ids.iter().map(|backup| backup.backup.clone()).collect()
    };
    catalog.set_expired(&shop, at(5), say(&[&new])).await.unwrap();
    catalog.set_expired(&source("blog"), at(6), BTreeSet::new()).await.unwrap();
    assert_eq!(catalog.newest_good(&shop).await.unwrap(), Some(old.clone()));
    catalog.set_expired(&shop, at(7), say(&[&old, &new])).await.unwrap();
    assert_eq!(catalog.newest_good(&shop).await.unwrap(), None);
    let found = catalog.expired(Some(&shop)).await.unwrap();
    let name = |backup: &BackupSummary| (shop.clone(), backup.backup.clone());
    assert_eq!((found[&name(&new)], found[&name(&old)]), (at(5), at(7)), "the first time stays");
    catalog.set_expired(&shop, at(8), say(&[&old])).await.unwrap();
    assert_eq!(catalog.newest_good(&shop).await.unwrap(), Some(new), "it is there again");
    assert_eq!(catalog.expired(None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn adopting_replaces_and_committing_does_not() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let first = backup("shop", 1);
    let other = BackupSummary { manifest_sha256: Digest([9; 32]), ..first.clone() };
    let job = catalog
        .begin_job(at(1), JobKind::Backup, &first.source, Some(&first.backup))
        .await
        .unwrap();
    catalog.append(job, at(1), &STORED).await.unwrap();
    catalog.adopt(&other).await.unwrap();
    let error = catalog.commit_backup(job, at(2), &first).await.unwrap_err();
    assert!(matches!(error, CatalogError::Conflict { .. }), "{error}");
    assert_eq!(catalog.backups(None).await.unwrap(), [other]);
    assert_eq!(catalog.unfinished_jobs().await.unwrap().len(), 1);
    catalog.adopt(&first).await.unwrap();
    catalog.commit_backup(job, at(2), &first).await.unwrap();
    assert_eq!(catalog.backups(None).await.unwrap(), [first]);
}

#[tokio::test]
async fn a_backup_is_found_by_the_beginning_of_its_id() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let all: Vec<BackupSummary> = (0..15).map(|hour| backup("shop", hour)).collect();
    for backup in &all {
        catalog.adopt(backup).await.unwrap();
    }
    let twin = BackupSummary { source: source("blog"), ..all[3].clone() };
    catalog.adopt(&twin).await.unwrap();
    assert_eq!(catalog.find("20260101T02").await.unwrap(), all[2]);
    assert_eq!(catalog.find(all[2].backup.as_str()).await.unwrap(), all[2]);
    for none in ["", "2025", "20260101T02%", "_", "20260101T020000Z-~", "é", "\n"] {
        let error = catalog.find(none).await.unwrap_err();
        assert!(matches!(error, CatalogError::NoSuchBackup { .. }), "{none:?}: {error}");
        assert!(!error.to_string().contains('\n'));
    }
    let error = catalog.find(all[3].backup.as_str()).await.unwrap_err();
    let id = &all[3].backup;
    assert!(error.to_string().ends_with(&format!(": blog/{id}, shop/{id}")), "{error}");
    let CatalogError::Ambiguous { matches, .. } = catalog.find("2026").await.unwrap_err() else {
        panic!("not ambiguous")
    };
    assert_eq!((matches.len(), matches[10].as_str()), (11, "…"));
}

#[tokio::test]
async fn a_job_tells_what_happened() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let (a, b) = (backup("shop", 1), backup("shop", 2));
    let done = commit(&catalog, &a).await;
    let job = catalog.begin_job(at(2), JobKind::Backup, &b.source, Some(&b.backup)).await.unwrap();
    assert!(job > done);
    let unfinished = catalog.unfinished_jobs().await.unwrap();
    assert_eq!(unfinished.iter().map(|job| job.id).collect::<Vec<_>>(), [job]);
    let failed = JobEvent::Failed { code: "tool_failed".into(), message: "pg_dump died".into() };
    assert_eq!(catalog.append(job, at(3), &failed).await.unwrap(), JobState::Failed);
    let last = catalog.last_job(JobKind::Backup, &b.source).await.unwrap().unwrap();
    assert_eq!((last.id, last.state), (job, JobState::Failed));
    assert_eq!((last.started, last.changed), (at(2), at(3)));
    assert_eq!(last.code.as_deref(), Some("tool_failed"));
    assert_eq!(last.message.as_deref(), Some("pg_dump died"));
    let jobs = catalog.jobs(None, 10).await.unwrap();
    assert_eq!(jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [job, done]);
    assert_eq!(catalog.jobs(None, 1).await.unwrap().len(), 1);
    assert_eq!(catalog.jobs(Some(&source("blog")), 1).await.unwrap(), []);
    let started =
        JobEvent::Started { kind: JobKind::Backup, source: b.source, backup: Some(b.backup) };
    assert_eq!(catalog.events(job).await.unwrap(), [(at(2), started), (at(3), failed)]);
    assert_eq!(catalog.unfinished_jobs().await.unwrap(), []);
}

#[tokio::test]
async fn a_job_of_another_kind_is_no_attempt_to_back_up() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let (shop, a) = (source("shop"), backup("shop", 1));
    let done = commit(&catalog, &a).await;
    let mut jobs = Vec::new();
    for kind in JobKind::ALL.into_iter().filter(|kind| !kind.makes_a_backup()) {
        // Several at once: nothing but its number tells one from another.
        for _ in 0..2 {
            jobs.push(catalog.begin_job(at(2), kind, &shop, None).await.unwrap());
        }
        let last = catalog.last_job(kind, &shop).await.unwrap().unwrap();
        assert_eq!((last.kind, last.backup, Some(&last.id)), (kind, None, jobs.last()));
        assert_eq!(
            catalog.append(last.id, at(3), &STORED).await.unwrap_err().code(),
            "catalog_illegal_event"
        );
        let ended = catalog.append(last.id, at(3), &JobEvent::Succeeded).await.unwrap();
        assert_eq!(ended, JobState::Succeeded);
        let with = catalog.begin_job(at(2), kind, &shop, Some(&a.backup)).await.unwrap_err();
        assert_eq!(with.code(), "catalog_illegal_event");
    }
    let without = catalog.begin_job(at(2), JobKind::Backup, &shop, None).await.unwrap_err();
    assert_eq!(without.code(), "catalog_illegal_event");
    let last = catalog.last_job(JobKind::Backup, &shop).await.unwrap().unwrap();
    assert_eq!((last.id, last.backup.as_ref()), (done, Some(&a.backup)));
    assert_eq!(catalog.job_of(&shop, &a.backup).await.unwrap(), Some(last));
    assert_eq!(catalog.unfinished_jobs().await.unwrap().len(), jobs.len() / 2);
    catalog.integrity().await.unwrap();
}

#[tokio::test]
async fn what_a_dead_process_committed_is_found() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let backup = backup("shop", 1);
    let job = catalog
        .begin_job(at(1), JobKind::Backup, &backup.source, Some(&backup.backup))
        .await
        .unwrap();
    // That all was stored may have been noted in a catalog that is gone.
    let early = catalog.commit_backup(job, at(2), &backup).await.unwrap_err();
    assert!(matches!(early, CatalogError::IllegalEvent { .. }), "{early}");
    assert_eq!(catalog.backups(None).await.unwrap(), []);
    catalog.found_committed(job, at(2), &backup).await.unwrap();
    assert_eq!(
        catalog.last_job(JobKind::Backup, &backup.source).await.unwrap().unwrap().state,
        JobState::Committed
    );
    assert_eq!(catalog.backups(None).await.unwrap(), [backup]);
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_not_written() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let (a, b) = (backup("shop", 1), backup("shop", 2));
    let job = catalog.begin_job(at(1), JobKind::Backup, &a.source, Some(&a.backup)).await.unwrap();
    let illegal = JobEvent::Committed { manifest_sha256: a.manifest_sha256 };
    let error = catalog.append(job, at(2), &illegal).await.unwrap_err();
    let cause = Illegal { state: JobState::Running, event: "committed" };
    assert!(matches!(error, CatalogError::IllegalEvent { source, .. } if source == cause));
    let error = catalog.commit_backup(job, at(2), &a).await.unwrap_err();
    assert_eq!(error.code(), "catalog_illegal_event");
    let error =
        catalog.begin_job(at(2), JobKind::Backup, &a.source, Some(&a.backup)).await.unwrap_err();
    assert_eq!(error.code(), "catalog_backup_reused");
    let error = catalog.append(JobId(99), at(2), &STORED).await.unwrap_err();
    assert_eq!(error.code(), "catalog_unknown_job");
    assert_eq!(catalog.events(job).await.unwrap().len(), 1);
    catalog.append(job, at(2), &STORED).await.unwrap();
    let error = catalog.commit_backup(job, at(3), &b).await.unwrap_err();
    assert_eq!(error.code(), "catalog_job_mismatch");
    assert_eq!(catalog.events(job).await.unwrap().len(), 2);
    assert_eq!(catalog.backups(None).await.unwrap(), []);
    catalog.integrity().await.unwrap();
}

#[tokio::test]
async fn the_log_is_append_only() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    commit(&catalog, &backup("shop", 1)).await;
    for sql in [
        "DELETE FROM job_events",
        "DELETE FROM jobs",
        "UPDATE job_events SET at = ''",
        "UPDATE jobs SET id = 7",
    ] {
        let tried = catalog.call(move |db| Ok(db.execute(sql, [])?)).await;
        assert!(tried.is_err(), "{sql}");
    }
}

#[tokio::test]
async fn a_catalog_belongs_to_one_repository() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    assert_eq!(catalog.repository().await.unwrap(), None);
    catalog.claim(&repository()).await.unwrap();
    catalog.claim(&repository()).await.unwrap();
    let error = catalog.claim(&drctl_model::RepositoryId::new(8)).await.unwrap_err();
    assert_eq!(error.code(), "catalog_other_repository");
    assert_eq!(catalog.repository().await.unwrap(), Some(repository()));
}

fn events() -> impl Strategy<Value = Vec<JobEvent>> {
    let (a, manifest_sha256) = (backup("shop", 1), Digest([1; 32]));
    let event = select(vec![
        STORED,
        STORED,
        JobEvent::Committed { manifest_sha256 },
        JobEvent::FoundCommitted { manifest_sha256 },
        JobEvent::Failed { code: "c".into(), message: "m".into() },
        JobEvent::Cancelled,
        JobEvent::FoundDead,
        JobEvent::Succeeded,
        JobEvent::Started { kind: JobKind::Backup, source: a.source, backup: Some(a.backup) },
    ]);
    prop::collection::vec(event, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    // The state that a log tells is the fold of `next` over the events that it accepted.
    #[test]
    fn the_log_is_the_fold_of_its_events(jobs in prop::collection::vec(events(), 1..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (_directory, path) = place();
            let catalog = Catalog::open(&path).await.unwrap();
            for (events, n) in jobs.iter().zip(0..) {
                let a = backup("shop", n);
                let job = catalog.begin_job(at(n), JobKind::Backup, &a.source, Some(&a.backup)).await.unwrap();
                let (mut state, mut taken) = (JobState::Running, 1);
                for event in events {
                    let said = catalog.append(job, at(n), event).await;
                    match state.next(JobKind::Backup, event) {
                        Ok(next) => {
                            prop_assert_eq!(said.unwrap(), next);
                            state = next;
                            taken += 1;
                        }
                        Err(_) => prop_assert_eq!(said.unwrap_err().code(), "catalog_illegal_event"),
                    }
                }
                prop_assert_eq!(catalog.last_job(JobKind::Backup, &a.source).await.unwrap().unwrap().state, state);
                prop_assert_eq!(catalog.events(job).await.unwrap().len(), taken);
                let open = catalog.unfinished_jobs().await.unwrap();
                prop_assert_eq!(open.iter().any(|open| open.id == job), !state.is_final());
            }
            catalog.integrity().await.unwrap();
            Ok(())
        })?;
    }
}
