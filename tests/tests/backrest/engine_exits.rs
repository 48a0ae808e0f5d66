//! What keeps pgBackRest from working: each is named, with what to do.

use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use drctl_engines::EngineError;
use drctl_engines::backrest::{BackRestError, BackupStep, Exit, Got};
use drctl_model::ExternalType::{Full, Incremental};
use drctl_tests::cluster::Cluster as _;
use drctl_tests::site::until;

use crate::common::{STANZA, Shop};
use crate::engine::{Engine, ends};

/// The lock of the stanza, held until it is dropped.
pub(crate) struct Lock(Child);

impl Drop for Lock {
    fn drop(&mut self) {
        // The lock goes with the process that has it open: it ends with its input.
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// Holds the lock that a backup and an expiry take.
pub(crate) fn hold_lock(shop: &Shop) -> Lock {
    // By the second name since backups into several repositories may run at once.
    let file = |name: &str| shop.path("lock").join(format!("{STANZA}-{name}.lock"));
    let mut command = shop.as_owner("flock");
    command.arg(file("backup")).arg("flock").arg(file("backup-1"));
    command.args(["sh", "-c", "echo held; exec cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 5];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    Lock(child)
}

#[track_caller]
fn expect(result: Result<impl Sized, EngineError>, code: i32, word: &str, hint: &str) {
    let Err(error) = result else { panic!("it succeeds") };
    let Some(BackRestError::Failed { exit, .. }) = error.own() else { panic!("{error}") };
    assert_eq!(*exit, Exit::of(code), "{error}");
    assert_eq!(error.code(), word);
    assert!(error.hint().is_some_and(|said| said.contains(hint)), "{:?}", error.hint());
}

#[tokio::test]
async fn a_held_lock_is_waited_for_and_is_no_failure() {
    let shop = Shop::start();
    let engine = Engine::of(&shop);
    let lock = hold_lock(&shop);
    let now = Duration::ZERO;
    expect(engine.rest.back_up(Full, "a", now, |_| {}).await, 50, "pgbackrest_busy", "wait");
    expect(engine.rest.expire(now).await, 50, "pgbackrest_busy", "wait");
    // It ends while it is waited for.
    let held = Mutex::new((Some(lock), 0));
    let note = |step| {
        if let BackupStep::Busy(_) = step {
            let mut held = held.lock().unwrap();
            held.1 += 1;
            if held.1 == 2 {
                held.0 = None;
            }
        }
    };
    let made = engine.rest.back_up(Full, "b", Duration::from_secs(120), note).await.unwrap();
    assert_eq!(made.backup.annotation.as_deref(), Some("b"));
    assert_eq!(held.into_inner().unwrap().1, 2);
    assert_eq!(engine.rest.info().await.unwrap().backups.len(), 1);
}

#[tokio::test]
async fn a_stanza_that_was_stopped_says_so() {
    let shop = Shop::start();
    let engine = Engine::of(&shop);
    let made = engine.back_up(Full, "a").await;
    let _ = shop.pgbackrest(&["stop"]).ended(0);
    let (word, hint) = ("pgbackrest_stopped", "start");
    let wait = Duration::from_secs(60);
    expect(engine.rest.back_up(Full, "b", wait, |_| {}).await, 62, word, hint);
    expect(engine.rest.expire(wait).await, 62, word, hint);
    let name = ends(&made).0.to_string();
    let got = engine.rest.get_segment(Some(&made.cluster), &name, &engine.path("x")).await;
    // Later versions deliver all the same. None says that it is missing.
    if !matches!(got, Ok(Got::Delivered)) {
        expect(got, 62, word, hint);
    }
    // What only looks goes on.
    assert_eq!(engine.rest.info().await.unwrap().backups, [made.backup]);
    assert_eq!(engine.walk().await.gaps().count(), 0);
    let _ = shop.pgbackrest(&["start"]).ended(0);
    engine.back_up(Incremental, "b").await;
}

#[tokio::test]
async fn an_archiver_that_does_not_work_makes_no_backup() {
    let mut shop = Shop::with(&["archive-timeout=2"]);
    let engine = Engine::of(&shop);
    let word = "pgbackrest_archiving";
    let good = engine.back_up(Full, "good").await;
    let now = Duration::ZERO;
    shop.archive_by("false");
    let made = engine.rest.back_up(Full, "a", now, |_| {}).await;
    expect(made, 68, word, "archive-push");
    expect(engine.rest.check().await, 68, word, "archive-push");
    // It fails only when it runs.
    shop.archive_by("false && pgbackrest");
    until("the setting to count", || shop.sql("show archive_command") == "false && pgbackrest");
    expect(engine.rest.back_up(Full, "b", now, |_| {}).await, 82, word, "pg_stat_archiver");
    expect(engine.rest.check().await, 82, word, "pg_stat_archiver");
    shop.sql("alter system set archive_mode = off");
    shop.server.stop();
    let word_of_server = "pgbackrest_server";
    let made = engine.rest.back_up(Full, "c", now, |_| {}).await;
    expect(made, 56, word_of_server, "runs");
    expect(engine.rest.check().await, 27, "pgbackrest_configuration", "start the server");
    shop.server.start_again();
    expect(engine.rest.back_up(Full, "d", now, |_| {}).await, 87, word, "archive_mode");
    // None of the attempts is a backup.
    assert_eq!(engine.rest.info().await.unwrap().backups, [good.backup]);
}

/// `archive-push-queue-max` drops log to keep the disk from filling up: with status 0, and the
/// server believes it archived.
#[tokio::test]
async fn log_that_was_dropped_at_the_queues_limit_is_a_gap() {
    let shop = Shop::with(&["archive-push-queue-max=3MiB"]);
    let engine = Engine::of(&shop);
    let good = engine.back_up(Full, "good").await;
    shop.tick(1..4);
    shop.archived();
    assert_eq!(engine.walk().await.gaps().count(), 0);
    // The archive cannot be reached for a while.
    shop.archive_by("false");
    let mut names = Vec::new();
    for id in 4..12 {
        shop.tick(id..id + 1);
        names.push(shop.sql("select pg_walfile_name(pg_switch_wal() - 1)"));
    }
    shop.archive();
    let last = names.last().unwrap();
    until("the server to believe it archived", || {
        shop.sql("select coalesce(last_archived_wal, '') from pg_stat_archiver") >= *last
    });
    shop.tick(12..13);
    let end = shop.archived();

    assert!(engine.rest.verify(None).await.unwrap().is_good());
    assert!(engine.rest.info().await.unwrap().is_whole());
    let walk = engine.walk().await;
    let gaps: Vec<_> = walk.gaps().collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].first().to_string(), names[0]);
    assert!((2..8).contains(&gaps[0].segments()), "{gaps:?}");
    assert!(!gaps[0].may_be_expired(&[ends(&good)]));
    assert_eq!(walk.end_of(gaps[0].timeline).map(|end| end > gaps[0].to), Some(true));
    assert_eq!(walk.missing(gaps[0].last(), gaps[0].last()).unwrap().len(), 1);
    assert!(end > *last);
}
