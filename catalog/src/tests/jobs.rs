//! Jobs as their processes note them.

use std::time::Duration;

use drctl_model::{JobEvent, JobKind, JobNote, JobState, RunId};
use rusqlite::Connection;

use crate::testing::{STORED, at, backup, commit, place, repository, source};
use crate::{Catalog, KEPT, Rebuild};

fn note(kind: JobKind, run: u64) -> JobNote {
    let backup = kind.makes_a_backup().then(|| backup("shop", 1).backup);
    JobNote { run: RunId(run), kind, source: source("shop"), backup, started: at(1), ended: None }
}

fn ended(note: &JobNote, event: JobEvent) -> JobNote {
    JobNote { ended: Some((at(2), event)), ..note.clone() }
}

#[tokio::test]
async fn a_note_is_taken_in_once() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let note = note(JobKind::Verify, 7);
    let failed = JobEvent::Failed { code: "store_failed".into(), message: "away".into() };
    let job = catalog.note_jobs(std::slice::from_ref(&note)).await.unwrap();
    assert_eq!(catalog.note_jobs(std::slice::from_ref(&note)).await.unwrap(), job);
    assert_eq!(catalog.note_jobs(&[ended(&note, failed.clone())]).await.unwrap(), job);
    // Neither a second end nor a death follows.
    assert_eq!(catalog.note_jobs(&[ended(&note, JobEvent::Succeeded)]).await.unwrap(), job);
    catalog.found_dead(job[0], at(3)).await.unwrap();
    let last = catalog.last_job(JobKind::Verify, &note.source).await.unwrap().unwrap();
    assert_eq!((last.id, last.state, last.run), (job[0], JobState::Failed, Some(note.run)));
    // One that was never begun here is begun and ended.
    let other = JobNote { run: RunId(8), ..note };
    let other = ended(&other, failed);
    let second = catalog.note_jobs(std::slice::from_ref(&other)).await.unwrap();
    let last = catalog.last_job(JobKind::Verify, &other.source).await.unwrap().unwrap();
    assert_eq!((last.id, last.state), (second[0], JobState::Failed));
    assert_eq!((last.started, last.changed, last.run), (at(1), at(2), Some(other.run)));
    catalog.integrity().await.unwrap();
}

#[tokio::test]
async fn of_a_backup_whose_bytes_are_stored_a_note_tells_no_end() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let note = note(JobKind::Backup, 7);
    let job = catalog.note_jobs(std::slice::from_ref(&note)).await.unwrap()[0];
    catalog.append(job, at(2), &STORED).await.unwrap();
    catalog.note_jobs(&[ended(&note, JobEvent::Cancelled)]).await.unwrap();
    let last = catalog.last_job(JobKind::Backup, &note.source).await.unwrap().unwrap();
    assert_eq!(last.state, JobState::Committing);
}

#[tokio::test]
async fn old_jobs_go_and_backups_and_what_runs_stay() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let runs = note(JobKind::LogStream, 1);
    catalog.note_jobs(std::slice::from_ref(&runs)).await.unwrap();
    let drill = ended(&note(JobKind::Drill, 2), JobEvent::Succeeded);
    catalog.note_jobs(&[drill]).await.unwrap();
    commit(&catalog, &backup("shop", 1)).await;
    let more = 3;
    let notes: Vec<JobNote> = (10..10 + KEPT as u64 + more)
        .map(|run| ended(&note(JobKind::LogStream, run), JobEvent::Succeeded))
        .collect();
    catalog.note_jobs(&notes).await.unwrap();
    let left = catalog.last_jobs(JobKind::LogStream, &runs.source, usize::MAX).await.unwrap();
    assert_eq!(left.len(), KEPT + 1);
    assert_eq!(left.last().unwrap().run, Some(runs.run), "it runs");
    assert_eq!(left[KEPT - 1].run, Some(RunId(10 + more)), "the oldest go");
    for kind in [JobKind::Drill, JobKind::Backup] {
        assert!(catalog.last_job(kind, &runs.source).await.unwrap().is_some(), "{kind:?}");
    }
    catalog.integrity().await.unwrap();
}

#[tokio::test]
async fn a_rebuild_keeps_what_names_a_job() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    catalog.claim(&repository()).await.unwrap();
    let note = note(JobKind::Verify, 7);
    let job = catalog.note_jobs(std::slice::from_ref(&note)).await.unwrap();
    drop(catalog);
    Rebuild::start(&path, &repository()).await.unwrap().finish().await.unwrap();
    let catalog = Catalog::open(&path).await.unwrap();
    assert_eq!(catalog.note_jobs(&[ended(&note, JobEvent::Succeeded)]).await.unwrap(), job);
    assert_eq!(catalog.unfinished_jobs().await.unwrap(), []);
}

#[tokio::test]
async fn a_catalog_that_was_waited_for_in_vain_is_not_waited_for_again() {
    let (_directory, path) = place();
    let (_other, elsewhere) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let usual = crate::open::PATIENCE;
    let patience = |path| crate::waits::patience(path, usual);
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let hasty = catalog.note_jobs(&[note(JobKind::Verify, 7)]).await.unwrap_err();
    assert_eq!(hasty.code(), "catalog_busy");
    assert!(patience(&path) < usual / 2, "{:?}", patience(&path));
    assert_eq!(patience(&elsewhere), usual);
    other.execute_batch("ROLLBACK").unwrap();
    catalog.note_jobs(&[note(JobKind::Verify, 7)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_must_not_be_held_up_waits_no_longer_than_it_says() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let (held, is_held) = tokio::sync::oneshot::channel();
    let (free, is_free) = std::sync::mpsc::channel::<()>();
    let holder = catalog.clone();
    let holder = tokio::spawn(async move {
        let holds = move |connection: &mut Connection| {
            let _transaction = crate::schema::write(connection)?;
            let _ = held.send(());
            let _ = is_free.recv();
            Ok(())
        };
        holder.call(holds).await
    });
    is_held.await.unwrap();
    let patience = Duration::from_millis(20);
    let hasty = Catalog::open_within(&path, patience).await;
    let said = match hasty {
        Ok(hasty) => hasty.note_jobs(&[note(JobKind::Verify, 7)]).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(said.code(), "catalog_busy");
    free.send(()).unwrap();
    holder.await.unwrap().unwrap();
    let later = Catalog::open_within(&path, patience).await.unwrap();
    later.note_jobs(&[note(JobKind::Verify, 7)]).await.unwrap();
}
