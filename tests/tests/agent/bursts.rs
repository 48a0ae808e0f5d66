//! Much at once: WAL that comes faster than it may go, a stop in the middle of it, backups by hand while one
//! is due, and removals by an agent that has credentials and a key for nothing else.

use std::fs;
use std::process::{Child, Stdio};

use drctl_model::{BackupId, RepositoryId, SourceId};
use drctl_store::{SigningKey, Trust, decode_manifest, decode_tombstone};
use drctl_tests::agent::Agent;
use drctl_tests::fake::Tools;
use drctl_tests::servers::minio::Minio;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::servers::sts::{WRITES, assume};
use drctl_tests::site::{Ran, until};
use jiff::Timestamp;
use serde_json::Value;

use crate::beats::{as_one_who_may, in_bucket};
use crate::channels::secret;
use crate::common::{NEVER, Shop};
use crate::flows::Streamed;
use crate::metrics::{scrape, told_at};
use crate::throttle::waited;
use crate::told::run;

/// WAL may wait for half of it: longer than any test takes.
const PATIENT: &str = "\n[objectives]\nrpo = \"1h\"\n";

/// All of a burst would take five minutes.
const SLOW: &str = "\n[throttle.slow]\nbytes_per_second = \"256KiB\"\n";

/// Some 40 MB.
const BULK: &str = "create table bulk as select g as id, repeat(md5(g::text), 12) as note \
    from generate_series(1, 100000) g";

/// What tells its rows from all others.
const ROWS: &str = "select count(*) || md5(string_agg(note, ',' order by id)) from bulk";

const MIB: u64 = 1 << 20;

/// Some 80 MB of WAL with two rows in the middle of it and at its end; gives where it ends.
fn burst(host: &Streamed) -> String {
    let one = |id: u32| format!("vacuum full bulk; insert into ticks values ({id}, 'x')");
    host.sql(&format!("{}; {}; select pg_current_wal_flush_lsn()", one(1), one(2)))
}

/// How many bytes of WAL lie between two places.
fn between(host: &Streamed, from: &str, until: &str) -> u64 {
    let bytes = host.sql(&format!("select ('{until}'::pg_lsn - '{from}'::pg_lsn)::bigint"));
    bytes.parse().unwrap_or_else(|_| panic!("from {from} to {until}: {bytes}"))
}

/// Where the WAL ends that the bucket has without a gap.
fn end(host: &Streamed) -> String {
    let log = host.site.status()["log"].clone();
    assert_eq!(log["gaps"], serde_json::json!([]), "{log}");
    log["end"].as_str().unwrap_or_else(|| panic!("no end: {log}")).to_owned()
}

/// The most memory that the agent ever had, in bytes.
fn peak(host: &Streamed) -> u64 {
    let pid = host.site.json(0, &["jobs"])["pid"].as_u64().expect("a process");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

/// Up to when the source can be recovered, by the metric of a look that the agent begins now.
#[track_caller]
fn recoverable(host: &Streamed, agent: &Agent<'_>, port: u16) -> f64 {
    let begin = || drop(host.site.json(0, &["run", "shop", "log_index"]));
    let job = agent.ends_anew("log_index", "succeeded", begin);
    let at: Timestamp = job["last"]["ended"].as_str().expect("its end").parse().expect("a time");
    let (at, mut found) = (at.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64(), None);
    until("a look behind it", || {
        let all = scrape(port);
        let looked = all.get("drctl_agent_look_timestamp_seconds");
        if looked.is_some_and(|looked| *looked >= at) {
            found = all.get("drctl_recoverable_to_timestamp_seconds{source=\"shop\"}").copied();
        }
        found.is_some()
    });
    found.expect("it was found")
}

#[test]
fn wal_that_comes_faster_than_it_goes_is_told_and_bounded_and_arrives() {
    let host = Streamed::open("stream", PATIENT);
    let port = told_at(&host.site);
    let fast = fs::read(host.site.config()).expect("a configuration");
    host.site.append(SLOW);
    host.sql(BULK);
    let agent = host.agent();
    let _ = host.site.backup();
    let before = peak(&host);
    let written = burst(&host);
    let late: f64 =
        host.sql("select extract(epoch from clock_timestamp())").parse().expect("a time");
    host.sql("insert into ticks values (3, 'x')");
    // What is told while it lasts is the truth: what would be lost, and that it grows.
    assert!(between(&host, &end(&host), &written) > 40 * MIB, "{}", host.site.status()["log"]);
    until("an age that grows", || {
        host.site.status()["log"]["age_seconds"].as_u64().is_some_and(|age| age >= 5)
    });
    let shown = recoverable(&host, &agent, port);
    assert!(shown < late, "{shown} is not before {late}");
    assert!(between(&host, &end(&host), &written) > 40 * MIB, "it is still behind");
    assert_eq!(agent.job("log_stream")["state"], "running");
    // It goes as it may, and does not stand still.
    assert!(host.site.told("log_stands_still").is_empty(), "{}", host.site.status());
    // Nothing of it piles up here: the server keeps it.
    let kept = "select pg_current_wal_flush_lsn() - restart_lsn > 40 * 1048576 \
        from pg_replication_slots";
    assert_eq!(host.sql(kept), "t");
    fs::write(host.site.config(), fast).expect("written");
    let _ = host.site.json(0, &["reload"]);
    let written = host.shipped();
    let safe = format!("select '{}'::pg_lsn >= '{written}'", end(&host));
    assert_eq!(host.sql(&safe), "t", "{}", host.site.status()["log"]);
    until("the metric to move on", || recoverable(&host, &agent, port) >= late);
    let grown = peak(&host).saturating_sub(before);
    assert!(grown < 40 * MIB, "{} MiB for 80 MiB of WAL", grown / MIB);
    let said = agent.stop().ended(0).err;
    assert!(waited(&said, "log_stream").is_some(), "{said}");
    assert!(!said.contains("broke off"), "{said}");
}

/// What an agent said that it leaves on the server: from where to where.
#[track_caller]
fn left(said: &str) -> (String, String) {
    let mut lines = said.lines().filter(|line| line.contains("NOT in the bucket yet"));
    let line = lines.next().unwrap_or_else(|| panic!("it left nothing: {said}"));
    assert!(lines.next().is_none(), "{said}");
    assert!(line.contains("WARN") && line.contains("the slot drctl_shop"), "{line}");
    let (_, range) = line.split_once(" of WAL, ").expect(line);
    let (range, _) = range.split_once(", are").expect(line);
    let (from, until) = range.split_once(" to ").expect(line);
    (from.to_owned(), until.to_owned())
}

#[test]
fn what_a_stop_leaves_on_the_server_is_told_and_comes_with_the_next_agent() {
    let host = Streamed::open("stream", PATIENT);
    let fast = fs::read(host.site.config()).expect("a configuration");
    host.site.append(SLOW);
    host.sql(BULK);
    let agent = host.agent();
    let base = host.site.backup();
    let written = burst(&host);
    let (from, until_there) = left(&agent.stop().ended(0).err);
    // All before it is in the bucket, and the server was told so: it keeps the rest.
    // (A base backup has brought some of it.)
    let _ = between(&host, &from, &end(&host));
    let keeps = format!("select restart_lsn = '{from}' from pg_replication_slots");
    until("the server to keep the rest", || host.sql(&keeps) == "t");
    assert!(between(&host, &from, &written) > 40 * MIB, "from {from} to {written}");
    assert!(between(&host, &from, &until_there) > 40 * MIB, "from {from} to {until_there}");
    // No less than that is there.
    let _ = between(&host, &until_there, &host.sql("select pg_current_wal_flush_lsn()"));
    fs::write(host.site.config(), fast).expect("written");
    let agent = host.agent();
    host.sql("insert into ticks values (3, 'x')");
    let written = host.shipped();
    let safe = format!("select '{}'::pg_lsn >= '{written}'", end(&host));
    assert_eq!(host.sql(&safe), "t", "{}", host.site.status()["log"]);
    let _ = agent.stop().ended(0);
    let rows = host.sql(ROWS);
    let (_folder, path) = host.recovered(&base);
    let restored = Postgres::builder().data(&path.join("data")).start();
    assert_eq!(restored.psql("postgres", ROWS), rows);
    let ticks = "select string_agg(id::text, ',' order by id) from ticks";
    assert_eq!(restored.psql("postgres", ticks), "1,2,3");
}

/// `drctl backup shop` by hand, in the middle of it.
struct ByHand(Option<Child>);

impl ByHand {
    #[track_caller]
    fn paused(shop: &Shop, tools: &Tools) -> Self {
        tools.pause("pg_dump", 10);
        let mut command = shop.site.command(&["--json", "backup", "shop"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let by_hand = ByHand(Some(child.expect("start drctl")));
        tools.await_pause();
        by_hand
    }

    /// Goes on to its end; gives its backup.
    #[track_caller]
    fn ends(mut self, tools: &Tools) -> String {
        tools.honest("pg_dump");
        tools.go_on();
        let child = self.0.take().expect("it runs");
        let answer = Ran::of(&child.wait_with_output().expect("wait for drctl")).ended(0).json();
        answer["backup"]["backup"].as_str().expect("an identifier").to_owned()
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = (child.kill(), child.wait());
        }
    }
}

/// An agent that waits for whoever works on the source, with the backup that it was asked for.
#[track_caller]
fn waits(shop: &Shop, agent: &Agent<'_>) {
    agent.says("another drctl works on it: waiting until it ends");
    assert_eq!(agent.job("backup")["state"], "running");
    assert!(shop.site.manifests().is_empty(), "two work on it at once");
}

#[test]
fn where_a_backup_by_hand_serves_what_is_due_the_agent_waits_and_makes_none() {
    let (shop, tools) = Shop::with_tools(NEVER);
    shop.policy("attempts = ", "attempts = 1");
    let by_hand = ByHand::paused(&shop, &tools);
    // Nothing on record has served what was due before; what runs is no failed attempt.
    let agent = Agent::start(&shop.site);
    waits(&shop, &agent);
    let made = by_hand.ends(&tools);
    let job = agent.job_is("backup", |job| job["state"] == "idle");
    assert_eq!(job["last"]["outcome"], "succeeded", "{job}");
    let rows = shop.site.rows();
    assert_eq!((rows.len(), &rows[0]["backup"]), (1, &made.as_str().into()), "{rows:?}");
    assert_eq!(shop.site.status()["last_job"]["backup"], made.as_str(), "no other was tried");
    assert_eq!(shop.site.files("repository/s/shop/b").len(), shop.site.files(&folder(&made)).len());
    assert!(!agent.said().contains("gave up"), "{}", agent.said());
    // What somebody asks for now is made.
    run(&shop, &agent, "succeeded");
    assert_eq!(shop.site.rows().len(), 2);
    let _ = agent.stop().ended(0);
}

/// Where the objects of a backup lie.
fn folder(id: &str) -> String {
    format!("repository/s/shop/b/{id}")
}

#[test]
fn a_backup_that_somebody_asks_for_is_made_behind_the_one_by_hand() {
    let (shop, tools) = Shop::with_tools(NEVER);
    let agent = Agent::start(&shop.site);
    assert_eq!(agent.job("backup")["state"], "idle", "nothing is due");
    let by_hand = ByHand::paused(&shop, &tools);
    let _ = shop.site.json(0, &["run", "shop"]);
    waits(&shop, &agent);
    let made = by_hand.ends(&tools);
    let job = agent.job_is("backup", |job| job["state"] == "idle");
    assert_eq!(job["last"]["outcome"], "succeeded", "{job}");
    let rows = shop.site.rows();
    assert_eq!((rows.len(), &rows[1]["backup"]), (2, &made.as_str().into()), "{rows:?}");
    let started = |at: usize| rows[at]["started"].as_str().expect("a time").parse::<Timestamp>();
    let finished = rows[1]["finished"].as_str().expect("a time").parse::<Timestamp>();
    assert!(started(0).unwrap() >= finished.unwrap(), "two worked on it at once: {rows:?}");
    let _ = agent.stop().ended(0);
}

#[test]
fn a_backup_by_hand_from_before_it_was_due_does_not_stand_for_what_is_due() {
    let (shop, tools) = Shop::with_tools("* * * * *");
    until("a minute that lasts", || Timestamp::now().as_second() % 60 < 40);
    let agent = Agent::start(&shop.site);
    let by_hand = ByHand::paused(&shop, &tools);
    let due = agent.job("backup")["next"].as_str().expect("a time").parse::<Timestamp>().unwrap();
    until("it to be due", || Timestamp::now() >= due);
    waits(&shop, &agent);
    assert!(agent.said().contains("job=\"backup\" why=\"scheduled\""), "{}", agent.said());
    let made = by_hand.ends(&tools);
    until("the backup that was due", || shop.site.manifests().len() > 1);
    let mut rows = shop.site.rows();
    rows.reverse();
    assert_eq!(rows[0]["backup"], made.as_str());
    let started = |row: &Value| row["started"].as_str().expect("a time").parse::<Timestamp>();
    assert!(started(&rows[0]).unwrap() < due && started(&rows[1]).unwrap() >= due, "{rows:?}");
    let _ = agent.stop().ended(0);
}

/// Gives removals a key and credentials of their own, which the host trusts with nothing else.
fn prunes_by_itself(shop: &Shop, minio: &Minio) -> SigningKey {
    let own = SigningKey::generate();
    let (site, verifying) = (&shop.site, own.verifying_key());
    site.replace(
        "verifying_keys = [",
        &format!("verifying_keys = [\n    {{ key = \"{verifying}\", sources = [\"shop\"], roles = [\"prune\"] }},"),
    );
    let removes = [&WRITES[..], &["s3:DeleteObject", "s3:DeleteObjectVersion"]].concat();
    let of = assume(minio, &removes);
    let lines = [
        ("signing_key", own.to_secret_text()),
        ("access_key_id", of.access_key),
        ("secret_access_key", of.secret_key),
        ("session_token", of.token),
    ];
    let line = |(key, text): &(&str, String)| {
        format!("{key} = {}\n", secret(site, &format!("pruner.{key}"), text))
    };
    let lines: String = lines.iter().map(line).collect();
    site.append(&format!("\n[repository.prune]\n{lines}"));
    own
}

/// The bytes of an object, if it is there.
fn object(minio: &Minio, key: &str) -> Option<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let got = minio.client().get_object().bucket("shop").key(format!("below/{key}"));
        Some(got.send().await.ok()?.body.collect().await.unwrap().to_vec())
    })
}

#[test]
fn the_agent_removes_with_a_key_and_credentials_that_it_backs_up_without() {
    let minio = Minio::start();
    minio.make_bucket("shop");
    let shop = in_bucket(&minio, "shop");
    let policy = format!(
        "schedule = \"{NEVER}\"\n\n[retention]\nlast = 2\n\n[prune]\nschedule = \"{NEVER}\"\n"
    );
    fs::write(shop.policy_file(), policy).expect("a policy");
    as_one_who_may(&shop.site, &minio, "writer", &WRITES);
    let sources = "sources = [\"shop\"]";
    let without = format!("{sources}, roles = [\"backup\", \"log\", \"drill\"]");
    shop.site.replace(sources, &without);
    let oldest = shop.site.backup();
    let _ = shop.site.backup();
    let agent = Agent::start(&shop.site);
    run(&shop, &agent, "succeeded");
    // What backs up here can remove nothing.
    let _ = shop.site.json(0, &["run", "shop", "prune"]);
    let _ = agent.job_is("prune", |job| job["last"]["outcome"] == "failed");
    assert_eq!(shop.site.rows().len(), 3);
    let _ = agent.stop().ended(0);
    let (writer, pruner) = (shop.site.signing_key(), prunes_by_itself(&shop, &minio));
    let (writers, pruners) = (writer.verifying_key(), pruner.verifying_key());
    let agent = Agent::start(&shop.site);
    let _ = shop.site.json(0, &["run", "shop", "prune"]);
    let _ = agent.job_is("prune", |job| job["last"]["outcome"] == "succeeded");
    run(&shop, &agent, "succeeded");
    let ids: Vec<String> =
        shop.site.rows().iter().map(|row| row["backup"].as_str().unwrap().to_owned()).collect();
    assert!(ids.len() == 3 && !ids.contains(&oldest), "{ids:?}");
    let manifest = |id: &str| object(&minio, &format!("s/shop/b/{id}/manifest.json"));
    assert!(manifest(&oldest).is_none(), "it is gone from the bucket");
    let [of_writer, of_pruner] = [&writers, &pruners].map(|key| Trust::new(vec![key.clone()]));
    for id in &ids {
        let bytes = manifest(id).expect("a manifest");
        assert_eq!(decode_manifest(&bytes, &of_writer).expect("the writer's").1, writers);
        assert!(decode_manifest(&bytes, &of_pruner).is_err(), "{id}");
    }
    let marker = object(&minio, "drctl-repo.json").expect("a marker");
    let marker: Value = serde_json::from_slice(&marker).unwrap();
    let repository: RepositoryId = marker["repository"].as_str().unwrap().parse().unwrap();
    let (source, id): (SourceId, BackupId) = ("shop".parse().unwrap(), oldest.parse().unwrap());
    let stone = object(&minio, &format!("s/shop/x/{oldest}.json")).expect("a tombstone");
    let read = |trust: &Trust| decode_tombstone(&stone, trust, &repository, (&source, &id));
    assert_eq!(read(&of_pruner).expect("the pruner's").1, pruners);
    assert!(read(&of_writer).is_err());
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    let _ = agent.stop().ended(0);
}
