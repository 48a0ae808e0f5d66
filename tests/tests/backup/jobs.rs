//! Jobs that are no backups, and attempts to back up whose catalog somebody else has: all are on record.

use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use drctl_catalog::Catalog;
use drctl_model::{
    BackupId, BackupKind, BackupSummary, Digest, Dumped, Engine, Job, JobEvent, JobKind, JobState,
};
use drctl_tests::servers::scripted::Scripted;
use drctl_tests::site::until;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::common::Shop;

/// The jobs of one kind that the catalog knows, the one begun last first.
fn known(shop: &Shop, kind: JobKind) -> Vec<Job> {
    let path = shop.site.path("state/catalog.db");
    let source = "shop".parse().unwrap();
    let jobs = async { Catalog::open_read_only(&path).await?.last_jobs(kind, &source, 99).await };
    tokio::runtime::Runtime::new().unwrap().block_on(jobs).unwrap()
}

fn states(shop: &Shop, kind: JobKind) -> Vec<JobState> {
    known(shop, kind).iter().map(|job| job.state).collect()
}

/// What `status` tells of the last job of a kind.
fn last(shop: &Shop, kind: &str) -> Value {
    let status = shop.site.status();
    let found = status["jobs"].as_array().unwrap().iter().find(|job| job["kind"] == kind).cloned();
    found.unwrap_or_default()
}

/// The settings of a bucket that a scripted server is.
pub(crate) fn bucket_at(server: &Scripted) -> String {
    format!(
        "url = \"s3://bucket/below\"\nendpoint = \"http://127.0.0.1:{}\"\nallow_http = true\n\
         access_key_id = {{ env = \"KEY\" }}\nsecret_access_key = {{ env = \"KEY\" }}",
        server.port()
    )
}

/// A bucket that never answers in place of the shop's, until [`back`](Away::back).
struct Away {
    here: String,
    away: String,
    _silent: Scripted,
}

impl Away {
    fn of(shop: &Shop) -> Away {
        let here = format!("url = \"file://{}\"", shop.site.path("repository").display());
        let silent = Scripted::silent();
        let away = bucket_at(&silent);
        Away { here, away, _silent: silent }
    }

    /// A command that hangs at it, once one more job of the kind is on record as running.
    fn hangs(&self, shop: &Shop, kind: JobKind, arguments: &[&str]) -> Child {
        shop.site.replace(&self.here, &self.away);
        let before = known(shop, kind).len();
        let mut command = shop.site.command(arguments);
        let child = command.env("KEY", "key").stderr(Stdio::null()).spawn().unwrap();
        until("the job to be on record", || known(shop, kind).len() > before);
        shop.site.replace(&self.away, &self.here);
        child
    }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    let _ = child.wait().unwrap();
}

#[test]
fn looks_and_restores_leave_a_job_also_where_the_bucket_is_away() {
    let shop = Shop::open();
    let _ = shop.site.backup();
    let restore = ["restore", "shop", "--latest", "--to-files", "files"];
    assert_eq!(shop.site.status()["jobs"], json!([]));
    let _ = shop.site.drctl(&["verify"]).ended(0);
    let _ = shop.site.drctl(&[&restore[..], &["--plan"]].concat()).ended(0);
    let _ = shop.site.drctl(&["restore", "shop", "--latest", "--to-files"]).ended(2);
    assert_eq!(last(&shop, "restore"), Value::Null, "neither a plan nor a wrong command is a job");
    let _ = shop.site.drctl(&restore).ended(0);
    for kind in ["verify", "restore"] {
        let job = last(&shop, kind);
        assert_eq!((&job["state"], &job["running"]), (&"succeeded".into(), &Value::Null), "{job}");
    }
    assert_eq!(shop.site.told("verify_failed"), Vec::<Value>::new());
    let (repository, aside) = (shop.site.path("repository"), shop.site.path("aside"));
    fs::rename(&repository, &aside).unwrap();
    let _ = shop.site.drctl(&["verify", "--data"]).ended(8);
    let _ = shop.site.drctl(&["restore", "shop", "--latest", "--to-files", "more"]).ended(8);
    for kind in ["verify", "restore"] {
        let job = last(&shop, kind);
        assert_eq!(job["state"], "failed", "{job}");
        assert!(job["code"].is_string() && job["message"].is_string(), "{job}");
    }
    fs::rename(&aside, &repository).unwrap();
    // A look that failed is told and spoils nothing; a restore is somebody's who knows.
    let told = shop.site.drctl(&["status", "--check"]).ended(0).out;
    assert!(told.contains("the last verify, begun at "), "{told}");
    assert!(told.contains("look again with `drctl verify shop`"), "{told}");
    assert!(!told.contains("restore"), "{told}");
    assert_eq!(shop.site.told("verify_failed")[0]["health"], "good");
    // What it found amiss is on record of it too.
    let segment =
        shop.site.files("repository").into_iter().find(|path| path.ends_with("000000.zst.age"));
    let segment = repository.join(segment.unwrap());
    let bytes = fs::read(&segment).unwrap();
    fs::write(&segment, b"nothing").unwrap();
    let _ = shop.site.drctl(&["verify", "shop"]).ended(4);
    let job = last(&shop, "verify");
    assert!(job["message"].as_str().unwrap().starts_with("it found "), "{job}");
    fs::write(&segment, bytes).unwrap();
    let _ = shop.site.drctl(&["verify", "shop"]).ended(0);
    assert_eq!(shop.site.told("verify_failed"), Vec::<Value>::new());
    assert_eq!(states(&shop, JobKind::Verify).len(), 4);
}

#[test]
fn a_look_at_a_backup_that_the_catalog_does_not_know_leaves_a_job() {
    let shop = Shop::open();
    let id = shop.site.backup();
    fs::remove_file(shop.site.path("state/catalog.db")).unwrap();
    let _ = shop.site.drctl(&["verify", &id]).ended(0);
    assert_eq!(states(&shop, JobKind::Verify), [JobState::Succeeded]);
    let _ = shop.site.drctl(&["verify", "20000101"]).ended(5);
    assert_eq!(states(&shop, JobKind::Verify).len(), 1, "what is nowhere is nobody's");
}

#[test]
fn a_look_that_was_killed_is_told_and_settled_by_the_next_one() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let away = Away::of(&shop);
    let hangs = away.hangs(&shop, JobKind::Verify, &["verify", "--data"]);
    let job = last(&shop, "verify");
    assert_eq!((&job["state"], &job["running"]), (&"running".into(), &true.into()), "{job}");
    assert_eq!(shop.site.told("verify_failed"), Vec::<Value>::new(), "it runs");
    kill(hangs);
    let job = last(&shop, "verify");
    assert_eq!((&job["state"], &job["running"]), (&"running".into(), &false.into()), "{job}");
    let told = shop.site.told("verify_failed")[0]["text"].clone();
    assert!(told.as_str().unwrap().contains("the process of the last verify, begun at"), "{told}");
    // One of a single backup is of its source too.
    let told = shop.site.drctl(&["verify", &id]).ended(0).err;
    assert!(told.contains("an earlier verify of shop died"), "{told}");
    assert_eq!(states(&shop, JobKind::Verify), [JobState::Succeeded, JobState::Interrupted]);
    assert_eq!(shop.site.told("verify_failed"), Vec::<Value>::new());
    assert_eq!(shop.site.files("state/jobs"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn two_looks_at_once_do_not_settle_each_other() {
    let shop = Shop::open();
    let _ = shop.site.backup();
    let away = Away::of(&shop);
    let first = away.hangs(&shop, JobKind::Verify, &["verify", "--data"]);
    let second = away.hangs(&shop, JobKind::Verify, &["verify", "--data"]);
    let running = [JobState::Running, JobState::Running];
    assert_eq!(states(&shop, JobKind::Verify), running);
    let told = shop.site.drctl(&["verify"]).ended(0).err;
    assert!(!told.contains("died"), "{told}");
    assert_eq!(states(&shop, JobKind::Verify)[1..], running);
    kill(first);
    let _ = shop.site.drctl(&["verify"]).ended(0);
    let now = states(&shop, JobKind::Verify);
    assert_eq!(now[2..], [JobState::Running, JobState::Interrupted]);
    kill(second);
    let _ = shop.site.drctl(&["verify"]).ended(0);
    assert_eq!(states(&shop, JobKind::Verify)[3..], [JobState::Interrupted; 2]);
}

/// Whether the catalog is held, and whether it shall be.
static HELD: AtomicBool = AtomicBool::new(false);
static HOLD: AtomicBool = AtomicBool::new(true);

/// In a transaction of the catalog: keeps everybody else from writing.
fn hold(point: &'static str) {
    if point == "catalog-before-commit" {
        HELD.store(true, Ordering::SeqCst);
        while HOLD.load(Ordering::SeqCst) {
            thread::yield_now();
        }
    }
}

/// Has a process of ours write into the catalog for as long as [`HOLD`] says.
fn held(shop: &Shop) -> thread::JoinHandle<()> {
    let path = shop.site.path("state/catalog.db");
    let at = Timestamp::UNIX_EPOCH;
    let other = BackupSummary {
        source: "other".parse().unwrap(),
        backup: BackupId::new(at, 1),
        engine: Engine::PgDump,
        kind: BackupKind::Logical(Dumped::default()),
        host: "elsewhere".to_owned(),
        started: at,
        finished: at,
        plain_bytes: 1,
        sealed_bytes: 1,
        segments: 1,
        suspect: Vec::new(),
        manifest_sha256: Digest([1; 32]),
        accepted: None,
        signer: String::new(),
        objects: None,
    };
    let holding = async move {
        let catalog = Catalog::open(&path).await.unwrap().with_hook(hold);
        let of = (&other.source, Some(&other.backup));
        let job = catalog.begin_job(at, JobKind::Backup, of.0, of.1).await.unwrap();
        catalog.append(job, at, &JobEvent::Stored { plain_bytes: 1 }).await.unwrap();
        catalog.commit_backup(job, at, &other).await.unwrap();
    };
    let holder = thread::spawn(move || tokio::runtime::Runtime::new().unwrap().block_on(holding));
    until("the catalog to be held", || HELD.load(Ordering::SeqCst));
    holder
}

#[test]
fn a_catalog_that_somebody_holds_hides_no_job_and_stops_neither_look_nor_restore() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let holder = held(&shop);
    let began = Instant::now();
    let told = shop.site.drctl(&["backup", "shop"]).ended(6).err;
    assert!(told.contains("another process writes to it"), "{told}");
    assert!(told.contains("hint: "), "what to do: {told}");
    let _ = shop.site.drctl(&["verify", &id]).ended(0);
    let _ = shop.site.drctl(&["restore", "shop", "--latest", "--to-files", "files"]).ended(0);
    assert!(began.elapsed() < Duration::from_secs(90), "{:?}", began.elapsed());
    // It is told although no catalog has it.
    let check = || {
        let status = shop.site.json(3, &["status", "--check"])["sources"][0].clone();
        let failed = &status["last_job"];
        assert_eq!((&failed["state"], &failed["code"]), (&"failed".into(), &"catalog_busy".into()));
        let told = status["findings"].to_string();
        assert!(
            told.contains("the last backup failed: ") && told.contains("drctl backup shop"),
            "{told}"
        );
        let jobs: Vec<_> =
            status["jobs"].as_array().unwrap().iter().map(|job| &job["state"]).collect();
        assert_eq!(jobs, ["succeeded", "succeeded"], "{status}");
    };
    assert_eq!(states(&shop, JobKind::Backup).len(), 1, "the catalog takes nothing");
    check();
    HOLD.store(false, Ordering::SeqCst);
    holder.join().unwrap();
    check();
    // Whoever works next takes it in.
    let _ = shop.site.drctl(&["restore", "shop", "--latest", "--to-files", "more"]).ended(0);
    assert_eq!(states(&shop, JobKind::Backup), [JobState::Failed, JobState::Committed]);
    assert_eq!(states(&shop, JobKind::Restore), [JobState::Succeeded; 2]);
    assert_eq!(shop.site.files("state/jobs"), Vec::<std::path::PathBuf>::new());
    check();
    let _ = shop.site.backup();
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
}
