//! Signed beats in the bucket, and whoever watches them from elsewhere: a host that fell silent is told,
//! and nobody makes it look alive.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use drctl_model::{Beat, BeatJob};
use drctl_store::{SigningKey, encode_beat, host_id};
use drctl_tests::agent::Agent;
use drctl_tests::envelope::opened;
use drctl_tests::servers::minio::Minio;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::servers::sts::assume;
use drctl_tests::site::{Ran, Site, faketime, until};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::channels::secret;
use crate::common::{NEVER, Shop};
use crate::told::Person;

/// A machine that can read the repository of a site, and has nothing else: no source, no private key.
fn elsewhere(site: &Site) -> PathBuf {
    let text = fs::read_to_string(site.config()).expect("a configuration");
    let (before, _) = text.split_once("\n[sources.").expect("sources");
    let private = ["signing_key", "identity", "state_dir", "runtime_dir", "host = "];
    let lines = before.lines().filter(|line| !private.iter().any(|key| line.starts_with(key)));
    let text: Vec<&str> = lines.collect();
    let text = text.join("\n").replace("\n[paths]", "");
    let folder = site.path("elsewhere");
    fs::create_dir_all(&folder).expect("a directory");
    let state = folder.join("state");
    let paths = format!("\n[paths]\nstate_dir = \"{}\"\n", state.display());
    fs::write(folder.join("drctl.toml"), text + &paths).expect("written");
    folder.join("drctl.toml")
}

/// Gives a command a clock that is off by so much; times of files are what they are.
fn with_clock(command: &mut Command, off: &str) {
    command.env("LD_PRELOAD", faketime()).env("FAKETIME", off);
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
}

/// What it says with a clock that is off by so much, such as `+20m`.
#[track_caller]
fn watched_at(site: &Site, code: i32, off: &str, more: &[&str]) -> Value {
    let config = elsewhere(site).display().to_string();
    let mut command = site.command(&[&["--json", "--config", &config, "watch"], more].concat());
    with_clock(&mut command, off);
    Ran::of(&command.output().expect("start drctl")).ended(code).json()
}

#[track_caller]
fn watched(site: &Site, code: i32) -> Value {
    watched_at(site, code, "+0s", &[])
}

/// What is amiss, by codes.
fn codes(watched: &Value) -> Vec<&str> {
    let amiss = watched["amiss"].as_array().expect("a list");
    amiss.iter().map(|one| one["code"].as_str().expect("a code")).collect()
}

/// The folder of the beats of the host that a test runs on.
fn folder(site: &Site) -> PathBuf {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    site.path("repository/beat").join(host_id(&host).as_str())
}

/// The numbers that lie there.
fn numbers(site: &Site) -> BTreeSet<u64> {
    let Ok(entries) = fs::read_dir(folder(site)) else { return BTreeSet::new() };
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let names = names.map(|name| name.expect("UTF-8"));
    names.filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect()
}

fn place(site: &Site, seq: u64) -> PathBuf {
    folder(site).join(format!("{seq:010}.json"))
}

fn read(site: &Site, seq: u64) -> Beat {
    let bytes = fs::read(place(site, seq)).expect("a beat");
    serde_json::from_value(opened(&bytes)).expect("a beat")
}

fn put(site: &Site, beat: &Beat, key: &SigningKey) {
    fs::write(place(site, beat.seq), encode_beat(beat, key).expect("signed")).expect("written");
}

/// When the agent last wrote one.
fn beaten(site: &Site) -> Value {
    site.json(0, &["jobs"])["beaten"].clone()
}

/// Has it write one more.
#[track_caller]
fn one_more(site: &Site) {
    let before = beaten(site);
    let _ = site.json(0, &["reload"]);
    until("another beat", || beaten(site) != before);
}

/// The first beat of an agent that was stopped since, and found nothing amiss.
fn beaten_once(shop: &Shop) -> Beat {
    let _ = shop.site.backup();
    let agent = Agent::start(&shop.site);
    until("a beat", || !beaten(&shop.site).is_null());
    let _ = agent.stop().ended(0);
    read(&shop.site, 1)
}

#[test]
fn a_host_that_falls_silent_is_late_by_whoever_watches() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    assert_eq!(codes(&watched(site, 3)), ["no_beats"]);
    let _ = site.json(0, &["backup", "shop"]);
    let agent = Agent::start(site);
    until("a beat", || !beaten(site).is_null());
    let fine = watched(site, 0);
    let host = &fine["hosts"][0];
    assert_eq!((&host["fine"], &fine["hosts"][1]), (&true.into(), &Value::Null), "{fine}");
    let job = &host["agents"][0]["jobs"][0];
    assert_eq!((&job["source"], &job["kind"]), (&"shop".into(), &"backup".into()), "{fine}");
    // Whoever is paused says so, and whoever was named and never came is missed.
    let _ = site.json(0, &["pause", "shop"]);
    one_more(site);
    let paused = watched(site, 3);
    assert!(codes(&paused).iter().all(|code| *code == "job_paused"), "{paused}");
    let _ = site.json(0, &["resume", "shop"]);
    one_more(site);
    let expected = watched_at(site, 3, "+0s", &["--expect", "db9"]);
    assert_eq!(codes(&expected), ["host_never"], "{expected}");
    agent.kill();
    let _ = watched_at(site, 0, "+8m", &[]);
    let late = watched_at(site, 3, "+20m", &[]);
    assert_eq!(codes(&late), ["host_late"], "{late}");
    let by = late["amiss"][0]["late_seconds"].as_i64().expect("seconds");
    assert!((14 * 60..19 * 60).contains(&by), "{late}");
    assert_eq!(codes(&watched_at(site, 3, "+8m", &["--max-age", "5m"])), ["host_late"]);
    let _ = watched_at(site, 0, "+20m", &["--max-age", "1d"]);
    // A clock that is far ahead, there or here, makes nothing new.
    assert_eq!(codes(&watched_at(site, 3, "-1h", &[])), ["host_clock"]);
    let name = host["host"].as_str().expect("a name");
    let _ = watched_at(site, 0, "+20m", &["--ignore", name]);
    let text = site.drctl(&["watch", "--ignore", name]).ended(0).out;
    assert!(text.contains("--ignore leaves out every host"), "{text}");
}

/// What the last beat of the host tells of the shop's findings: codes.
fn findings(found: &Value) -> Vec<&str> {
    let sources = found["hosts"][0]["agents"][0]["findings"]["sources"].as_array().expect("a look");
    let codes = sources.iter().flat_map(|one| one["codes"].as_array().expect("codes"));
    codes.map(|code| code.as_str().expect("a code")).collect()
}

#[test]
fn what_status_finds_on_a_host_is_told_by_whoever_watches() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    let looked = |before: &Value| {
        until("a beat", || !beaten(site).is_null());
        until("a look", || site.json(0, &["jobs"])["looked"] != *before);
        site.json(0, &["jobs"])["looked"].clone()
    };
    let agent = Agent::start(site);
    let first = looked(&Value::Null);
    // Whoever beats has looked: an agent that dies of each look beats never.
    assert!(read(site, 1).findings.is_some());
    one_more(site);
    let found = watched(site, 3);
    assert_eq!((codes(&found), findings(&found)), (vec!["findings"], vec!["no_good_backup"]));
    let one = &found["amiss"][0];
    assert_eq!((&one["source"], &one["job"]), (&"shop".into(), &Value::Null), "{found}");
    let text = one["text"].as_str().expect("a text");
    assert!(text.contains("1 BREACHED (no_good_backup): see `drctl status` there"), "{text}");
    let _ = site.json(0, &["run", "shop"]);
    let second = looked(&first);
    one_more(site);
    let found = watched(site, 0);
    assert!(findings(&found).is_empty(), "{found}");
    // Somebody deletes the backup: nobody of the jobs fails.
    let backup = site.json(0, &["list"])["backups"][0]["backup"].as_str().expect("one").to_owned();
    fs::remove_dir_all(site.path(&format!("repository/s/shop/b/{backup}"))).expect("removed");
    let _ = agent.stop().ended(0);
    let agent = Agent::start(site);
    let _ = looked(&second);
    one_more(site);
    let found = watched(site, 3);
    assert_eq!(codes(&found), ["findings"], "{found}");
    assert!(findings(&found).contains(&"object_gone"), "{found}");
    let _ = agent.stop().ended(0);
}

#[test]
fn no_number_of_objects_hides_the_last_beat_and_no_signed_one_ends_the_numbers() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    let (beat, key) = (beaten_once(&shop), site.signing_key());
    put(site, &Beat { seq: 60, ..beat.clone() }, &key);
    fs::remove_file(place(site, 1)).expect("removed");
    let junk = |numbers: std::ops::Range<u64>| {
        for seq in numbers {
            fs::write(place(site, seq), "no beat").expect("written");
        }
    };
    let told = |count: std::ops::Range<u64>, last: u64| {
        let found = watched(site, 3);
        assert_eq!(codes(&found), ["beat_refused"], "{found}");
        let host = &found["hosts"][0];
        assert_eq!(host["agents"][0]["seq"], last, "{found}");
        assert!(count.contains(&host["refused"].as_u64().expect("a count")), "{found}");
        found["amiss"][0]["text"].as_str().expect("a text").to_owned()
    };
    junk(1_000_000..1_000_040);
    assert!(told(40..41, 60).contains("40 objects among the beats of"));
    // More than are read from the newest down.
    junk(1_000_040..1_001_200);
    let _ = told(1_024..1_201, 60);
    // The agent goes on behind its own.
    let again = || {
        let agent = Agent::start(site);
        until("a beat", || !beaten(site).is_null());
        let _ = agent.stop().ended(0);
    };
    again();
    let _ = told(1_024..1_201, 61);
    // Nor does a pile of older ones keep it from being found.
    for seq in 2..60 {
        put(site, &Beat { seq, ..beat.clone() }, &key);
    }
    let _ = told(1_024..1_201, 61);
    let numbers = numbers(site).into_iter().filter(|seq| *seq >= 1_000_000);
    numbers.for_each(|seq| fs::remove_file(place(site, seq)).expect("removed"));
    // A trusted key signs the last number of all, and one that may be reached in a century.
    for seq in [9_999_999_999, 5_000_000_000] {
        put(site, &Beat { seq, ..beat.clone() }, &key);
    }
    assert!(told(2..3, 61).contains("no agent can have come to its number"));
    again();
    let _ = told(2..3, 62);
}

#[test]
fn folders_that_others_make_are_counted_and_not_listed() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    let _ = beaten_once(&shop);
    let _ = watched(site, 0);
    for n in 0..30 {
        for name in [format!("a{n}"), format!("Not_A_Host_{n}")] {
            let folder = site.path(&format!("repository/beat/{name}"));
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join("0000000001.json"), "no beat").expect("written");
        }
    }
    let found = watched(site, 3);
    let count = |code: &str| codes(&found).iter().filter(|one| **one == code).count();
    let counts = ["host_unknown", "beat_refused", "foreign"].map(count);
    assert_eq!(counts, [20, 20, 2], "{found}");
    let texts = found["amiss"].to_string();
    assert!(texts.contains("10 more folders below beat/ hold no beat that counts"), "{texts}");
    assert!(texts.contains("30 folders, such as beat/Not_A_Host_"), "{texts}");
    assert_eq!(found["hosts"].as_array().map(Vec::len), Some(21), "{found}");
    // Whoever was named is told.
    let found = watched_at(site, 3, "+0s", &["--expect", "a29", "--expect", "b1"]);
    let named: Vec<&Value> = found["hosts"].as_array().expect("hosts").iter().collect();
    let of = |name: &str| named.iter().find(|host| host["host"] == name).copied().cloned();
    assert!(of("a29").is_some() && of("b1").is_some(), "{found}");
    let amiss = found["amiss"].as_array().expect("a list").iter();
    let amiss: Vec<&Value> = amiss.filter(|one| one["host"] == "b1").collect();
    assert_eq!((amiss.len(), &amiss[0]["code"]), (1, &"host_never".into()), "{found}");
}

#[test]
fn no_beat_that_is_altered_copied_or_a_strangers_makes_a_host_look_alive() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    let (beat, key) = (beaten_once(&shop), site.signing_key());
    assert!(beat.findings.is_some(), "it has looked");
    // It fell silent an hour ago.
    let hour_ago = Timestamp::now().saturating_sub(SignedDuration::from_hours(1)).expect("a time");
    let silent = Beat { written: hour_ago, ..beat };
    put(site, &silent, &key);
    let late = |more: &[&str]| {
        let found = watched(site, 3);
        // Its look is later than the beat: the clock is wrong, and says nothing of the look.
        let expected: Vec<&str> = ["host_late", "not_looked"].iter().chain(more).copied().collect();
        assert_eq!(codes(&found), expected, "{found}");
        found["amiss"].to_string()
    };
    assert!(late(&[]).contains("stored it again"));
    // Copied to a number of its own; altered; signed by a stranger: each with the time of now.
    let now = Beat { written: Timestamp::now(), seq: 7, ..silent.clone() };
    fs::copy(place(site, 1), place(site, 7)).expect("copied");
    assert!(late(&["beat_refused"]).contains("beat 7"));
    let mut altered = encode_beat(&now, &key).expect("signed");
    let at = altered.len() / 2;
    altered[at] ^= 1;
    fs::write(place(site, 7), altered).expect("written");
    let _ = late(&["beat_refused"]);
    put(site, &now, &SigningKey::generate());
    let _ = late(&["beat_refused"]);
    fs::write(place(site, 7), "no beat at all").expect("written");
    let _ = late(&["beat_refused"]);
    // Of another host, in this one's folder.
    put(site, &Beat { host: "db9".to_owned(), ..now.clone() }, &key);
    let _ = late(&["beat_refused"]);
    fs::remove_file(place(site, 7)).expect("removed");
    // Another agent, of other sources, stands for nobody else.
    let job = BeatJob { source: "blog".parse().expect("a source"), ..silent.jobs[0].clone() };
    let other = Beat { agent: "0".repeat(16), jobs: vec![job], ..now.clone() };
    let config = fs::read_to_string(site.config()).expect("a configuration");
    site.replace("sources = [\"shop\"]", "sources = [\"shop\", \"blog\"]");
    put(site, &other, &key);
    let found = watched(site, 3);
    assert_eq!(codes(&found), ["two_agents", "host_late", "not_looked"], "{found}");
    // A key of one source tells nothing of another one.
    fs::write(site.config(), config).expect("written");
    assert!(late(&["beat_refused"]).contains("blog"));
    fs::remove_file(place(site, 7)).expect("removed");
    // Folders that no agent makes.
    let hostile = site.path("repository/beat/Not_A_Host");
    fs::create_dir_all(&hostile).expect("a folder");
    fs::copy(place(site, 1), hostile.join("0000000001.json")).expect("copied");
    let _ = late(&["foreign"]);
    fs::remove_dir_all(hostile).expect("removed");
    // The next one that it signs counts.
    put(site, &now, &key);
    let _ = watched(site, 0);
    // With a clock a day ahead nobody knows whether it is new.
    let day = Timestamp::now().saturating_add(SignedDuration::from_hours(24)).expect("a time");
    put(site, &Beat { written: day, seq: 8, ..now }, &key);
    assert_eq!(codes(&watched(site, 3)), ["host_clock"]);
}

#[test]
fn an_agent_goes_on_with_its_numbers_and_removes_only_beats_of_its_own() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    let first = beaten_once(&shop);
    let key = site.signing_key();
    // What others have there: another agent of this name, a stranger, and rubbish.
    let job = BeatJob { source: "blog".parse().expect("a source"), ..first.jobs[0].clone() };
    let other = Beat { agent: "0".repeat(16), jobs: vec![job], seq: 5, ..first.clone() };
    site.replace("sources = [\"shop\"]", "sources = [\"shop\", \"blog\"]");
    put(site, &other, &key);
    put(site, &Beat { seq: 6, ..first.clone() }, &SigningKey::generate());
    fs::write(place(site, 7), "no beat").expect("written");
    let theirs: Vec<Vec<u8>> = (5..8).map(|seq| fs::read(place(site, seq)).unwrap()).collect();
    let agent = Agent::start(site);
    until("a beat", || !beaten(site).is_null());
    (0..5).for_each(|_| one_more(site));
    let _ = agent.stop().ended(0);
    // 1 to 4, then 8 to 10, of which the last three are left.
    assert_eq!(numbers(site), [5, 6, 7, 8, 9, 10].into());
    for (seq, bytes) in (5..8).zip(&theirs) {
        assert_eq!(fs::read(place(site, seq)).unwrap(), *bytes, "{seq}");
    }
    // Its state is moved, and its clock set back: it goes on, and stands for what it was before.
    fs::rename(site.path("state"), site.path("moved")).expect("moved");
    let state = |name: &str| format!("state_dir = \"{}\"", site.path(name).display());
    site.replace(&state("state"), &state("moved"));
    let mut command = site.command(&["agent"]);
    with_clock(&mut command, "-5m");
    let agent = Agent::start_as(site, command);
    until("a beat", || !beaten(site).is_null());
    let _ = agent.stop().ended(0);
    assert_eq!(numbers(site), [5, 6, 7, 9, 10, 11].into());
    assert_ne!(read(site, 11).agent, first.agent);
    assert!(read(site, 11).written < read(site, 10).written);
    fs::remove_file(place(site, 5)).expect("removed");
    let found = watched(site, 0);
    assert_eq!(found["hosts"][0]["agents"].as_array().map(Vec::len), Some(1), "{found}");
}

#[test]
fn a_beat_that_cannot_be_written_is_told_until_one_is() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    let person = Person::new();
    person.channel(site, "dba");
    let _ = site.json(0, &["backup", "shop"]);
    let agent = Agent::start(site);
    until("a beat", || !beaten(site).is_null());
    let _ = site.json(0, &["status", "--check"]);
    let (there, away) = (site.path("repository/beat"), site.path("away"));
    fs::rename(&there, &away).expect("moved");
    fs::write(&there, "in the way").expect("written");
    let _ = site.json(0, &["reload"]);
    agent.says("the beat of this host was not written");
    let notice = person.hears("beat_failed", &["begun"]);
    assert!(notice["text"].as_str().expect("a text").contains("drctl watch"), "{notice}");
    let status = site.json(3, &["status", "--check"]);
    assert!(status["agent"]["beat_failed"].is_string(), "{status}");
    for verb in ["status", "jobs"] {
        let text = site.drctl(&[verb]).ended(0).out;
        assert!(text.contains("the beat of this host cannot be written"), "{verb}: {text}");
    }
    fs::remove_file(&there).expect("removed");
    fs::rename(&away, &there).expect("moved back");
    one_more(site);
    let _ = person.hears("beat_failed", &["begun", "recovered"]);
    let status = site.json(0, &["status", "--check"]);
    assert!(status["agent"]["beat_failed"].is_null(), "{status}");
}

#[test]
fn an_agent_without_beats_writes_none() {
    let shop = Shop::open(NEVER);
    shop.site.append("\n[agent]\nbeat = \"0s\"\n");
    let agent = Agent::start(&shop.site);
    until("a look", || !shop.site.json(0, &["jobs"])["looked"].is_null());
    assert!(beaten(&shop.site).is_null());
    let _ = agent.stop().ended(0);
    assert!(numbers(&shop.site).is_empty());
}

/// Puts credentials with these rights into a site's configuration.
pub(crate) fn as_one_who_may(site: &Site, minio: &Minio, name: &str, actions: &[&str]) {
    let of = assume(minio, actions);
    let config = fs::read_to_string(site.config()).expect("a configuration");
    let keys = ["access_key_id", "secret_access_key", "session_token"];
    let others = config.lines().filter(|line| !keys.iter().any(|key| line.starts_with(key)));
    let others: Vec<&str> = others.collect();
    let one = |key: &str, text: &str| secret(site, &format!("{name}.{key}"), text);
    let lines = format!(
        "[repository]\naccess_key_id = {}\nsecret_access_key = {}\nsession_token = {}",
        one("id", &of.access_key),
        one("secret", &of.secret_key),
        one("token", &of.token)
    );
    let config = others.join("\n").replacen("[repository]", &lines, 1);
    fs::write(site.config(), config + "\n").expect("written");
}

/// A shop in a bucket.
pub(crate) fn in_bucket(minio: &Minio, bucket: &str) -> Shop {
    let (site, server) = (Site::empty(), Postgres::start());
    server.psql("postgres", "create table orders as select g from generate_series(1, 1000) g");
    site.init_s3(&server, (minio, &minio.endpoint()), &format!("s3://{bucket}/below"), &[]);
    let shop = Shop { site, server };
    let policy = format!("schedule = \"{NEVER}\"\n\n[retention]\nlast = 3\n");
    fs::write(shop.policy_file(), policy).expect("written");
    shop
}

#[test]
fn a_host_that_may_not_delete_beats_all_the_same_and_whoever_may_only_read_watches() {
    const READS: [&str; 5] = [
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:ListBucket",
        "s3:ListBucketVersions",
        "s3:GetBucketVersioning",
    ];
    let minio = Minio::start();
    for versions in [false, true] {
        let bucket = if versions { "versioned" } else { "plain" };
        minio.make_bucket(bucket);
        if versions {
            minio.set_versioning(bucket);
        }
        let shop = in_bucket(&minio, bucket);
        let site = &shop.site;
        let _ = site.json(0, &["backup", "shop"]);
        as_one_who_may(site, &minio, "writer", &[&READS[..], &["s3:PutObject"]].concat());
        let agent = Agent::start(site);
        until("a beat", || !beaten(site).is_null());
        (0..5).for_each(|_| one_more(site));
        let said = agent.said().to_lowercase();
        assert!(!said.contains("beat") && !said.contains("denied"), "{said}");
        let _ = agent.stop().ended(0);
        as_one_who_may(site, &minio, "reader", &READS);
        let found = watched(site, 0);
        assert_eq!(found["hosts"][0]["agents"][0]["seq"], 6, "{found}");
        assert_eq!(codes(&watched_at(site, 3, "+12m", &[])), ["host_late"]);
    }
}
