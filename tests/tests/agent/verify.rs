//! What is stored is read again by itself, a share in each run, and damage is found by nobody's command.

use std::fs::{self, File, FileTimes};
use std::process::Command;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::ByteStream;
use drctl_tests::agent::Agent;
use drctl_tests::servers::minio::Minio;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Site, until};
use serde_json::Value;

use crate::common::{NEVER, Shop};

/// A run once a month, which reads a small part of what there is.
const RARELY: &str = "schedule = \"0 0 1 * *\"\nwithin = \"365d\"";

/// Has a shop's host verify once a month; backups are made by hand.
pub(crate) fn verifies(shop: &Shop) {
    let policy = format!("schedule = \"{NEVER}\"\n\n[retention]\nlast = 3\n\n[verify]\n{RARELY}\n");
    fs::write(shop.policy_file(), policy).expect("a policy");
}

/// The backups all of whose stored bytes were read and found well, oldest first.
fn read(shop: &Shop) -> Vec<String> {
    let rows = shop.site.rows();
    let was_read =
        |row: &&Value| row["verified_as"].as_str().is_some_and(|depth| depth != "structure");
    let read = rows.iter().filter(was_read);
    let mut read: Vec<String> =
        read.map(|row| row["backup"].as_str().expect("text").to_owned()).collect();
    read.sort();
    read
}

/// Has the agent verify, for the `n`th time.
#[track_caller]
fn verify(shop: &Shop, agent: &Agent<'_>, n: usize) {
    let _ = shop.site.json(0, &["run", "shop", "verify"]);
    let ends = || agent.said().matches("verified: nothing is amiss").count();
    until(&format!("run {n}: {}", agent.said()), || ends() == n);
}

/// A shop whose backups lie in a bucket of `minio`.
fn shop(minio: &Minio) -> Shop {
    minio.make_bucket("shop");
    let server = Postgres::builder().start();
    server.psql("postgres", "create table orders as select g from generate_series(1, 1000) g");
    let shop = Shop { site: Site::empty(), server };
    shop.site.init_s3(&shop.server, (minio, &minio.endpoint()), "s3://shop/below", &[]);
    verifies(&shop);
    shop
}

/// Alters one byte of a stored object, which keeps its length.
fn alter(minio: &Minio, key: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = minio.client();
        let got = client.get_object().bucket("shop").key(key).send().await.unwrap();
        let mut bytes = got.body.collect().await.unwrap().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let put = client.put_object().bucket("shop").key(key);
        put.body(ByteStream::from(bytes)).send().await.unwrap();
    });
}

#[test]
fn an_altered_object_is_found_by_the_agent_by_itself() {
    let minio = Minio::start();
    let shop = shop(&minio);
    let backup = shop.site.backup();
    alter(&minio, &format!("below/s/shop/b/{backup}/globals/000000.zst.age"));
    assert!(!shop.site.finds("damaged", &backup), "nobody has read it");
    // A run has been due since it was configured.
    let long_ago = SystemTime::now() - Duration::from_secs(40 * 86_400);
    let times = FileTimes::new().set_modified(long_ago);
    for path in [shop.site.config(), shop.policy_file()] {
        File::options().write(true).open(path).unwrap().set_times(times).unwrap();
    }
    let agent = Agent::start(&shop.site);
    until("the agent to find it", || shop.site.finds("damaged", &backup));
    let _ = agent.job_is("verify", |job| job["last"]["outcome"] == "succeeded");
    agent.says("segment_damaged");
    let _ = agent.stop().ended(0);
}

#[test]
fn each_run_reads_a_part_and_goes_on_where_the_last_one_ended() {
    let shop = Shop::open(NEVER);
    for name in ["books", "music", "tea", "wine"] {
        shop.server.psql("postgres", &format!("create database {name}"));
        shop.server.psql(name, "create table t as select g from generate_series(1, 1000) g");
    }
    verifies(&shop);
    let backups = [shop.site.backup(), shop.site.backup()];
    let mut agent = Agent::start(&shop.site);
    let (mut runs, mut before) = (0, 0);
    while read(&shop).len() < backups.len() {
        runs += 1;
        verify(&shop, &agent, 1);
        let now = read(&shop);
        assert_eq!(now, backups[..now.len()], "oldest first");
        assert!(now.len() <= before + 1 && runs < 100, "{runs} runs: {now:?}");
        before = now.len();
        // A new agent goes on where the last one was.
        let _ = agent.stop().ended(0);
        agent = Agent::start(&shop.site);
    }
    assert!(runs > backups.len(), "each of {runs} runs reads a part of a backup");
    let _ = agent.stop().ended(0);
}

#[test]
fn what_is_damaged_stays_so_when_later_runs_read_what_is_well() {
    let shop = Shop::open(NEVER);
    verifies(&shop);
    let backup = shop.site.backup();
    let below = format!("repository/s/shop/b/{backup}");
    let files = shop.site.files(&below);
    let objects = files.iter().filter(|path| path.ends_with("000000.zst.age")).count();
    assert!(objects > 1, "{files:?}");
    let first = shop.site.path(&below).join("globals/000000.zst.age");
    let mut bytes = fs::read(&first).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&first, bytes).unwrap();
    let agent = Agent::start(&shop.site);
    for n in 1..=objects + 1 {
        let _ = shop.site.json(0, &["run", "shop", "verify"]);
        until("its end", || agent.said().matches("verify: it found").count() == n);
        assert!(shop.site.finds("damaged", &backup), "{}", agent.said());
    }
    let _ = agent.stop().ended(0);
}

#[test]
fn a_reading_on_record_that_cannot_be_is_not_believed() {
    let shop = Shop::open(NEVER);
    verifies(&shop);
    let backup = shop.site.backup();
    let below = format!("repository/s/shop/b/{backup}");
    for path in shop.site.files(&below).iter().filter(|path| path.ends_with("000000.zst.age")) {
        let path = shop.site.path(&below).join(path);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let more_than_there_are = "insert into reading select source, backup, manifest_sha256, 99, 5, '[]' \
                               from backups";
    let catalog = shop.site.path("state/catalog.db");
    let ran = Command::new("sqlite3").arg(catalog).arg(more_than_there_are).status();
    assert!(ran.expect("start sqlite3").success());
    let agent = Agent::start(&shop.site);
    let _ = shop.site.json(0, &["run", "shop", "verify"]);
    agent.says("verify: it found");
    assert!(shop.site.finds("damaged", &backup), "{}", agent.said());
    let _ = agent.stop().ended(0);
}

#[test]
fn a_verify_does_not_wait_for_a_backup() {
    let (shop, tools) = Shop::with_tools(NEVER);
    verifies(&shop);
    let _ = shop.site.backup();
    let agent = shop.in_the_middle(&tools);
    verify(&shop, &agent, 1);
    assert_eq!(agent.job("backup")["state"], "running");
    let _ = agent.ends_anew("backup", "succeeded", || tools.go_on());
    let _ = agent.stop().ended(0);
}
