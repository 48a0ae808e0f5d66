//! What is due is begun, once, and what was missed is made up for, once.

use std::fs::{File, FileTimes};
use std::time::{Duration, SystemTime};

use drctl_tests::agent::Agent;
use drctl_tests::site::{Ran, faketime, until};

use crate::common::{NEVER, Shop};

/// Backs up with a clock that is so many days behind.
pub(crate) fn backed_up_days_ago(shop: &Shop, days: u32) {
    let mut command = shop.site.command(&["--json", "backup", "shop"]);
    command.env("LD_PRELOAD", faketime()).env("FAKETIME", format!("-{days}d"));
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
    let _ = Ran::of(&command.output().expect("start drctl")).ended(0);
}

#[test]
fn what_is_due_is_begun_and_is_on_record() {
    let shop = Shop::open("* * * * *");
    let agent = Agent::start(&shop.site);
    let next = agent.job("backup")["next"].clone();
    assert!(next.is_string(), "{next}");
    agent.is_due("backup");
    until("a backup", || !shop.site.manifests().is_empty());
    let job = agent.job_is("backup", |job| job["last"]["outcome"] == "succeeded");
    assert_eq!(job["missed"], serde_json::Value::Null, "{job}");
    let _ = shop.site.json(0, &["verify", "--data"]);
    let _ = agent.stop().ended(0);
    assert_eq!(shop.site.status()["last_job"]["state"], "committed");
}

#[test]
fn what_was_missed_is_made_up_for_once() {
    let shop = Shop::open("0 2 * * *");
    backed_up_days_ago(&shop, 3);
    assert_eq!(shop.site.manifests().len(), 1);
    let agent = Agent::start(&shop.site);
    agent.says("missed 3 runs");
    until("what was missed to be made up for", || shop.site.manifests().len() == 2);
    let job = agent.job_is("backup", |job| job["state"] == "idle");
    assert_eq!(job["missed"], serde_json::Value::Null, "{job}");
    let _ = agent.stop().ended(0);
    // Who starts again has nothing to make up for.
    let again = Agent::start(&shop.site);
    assert_eq!(again.job("backup")["state"], "idle");
    let _ = again.stop().ended(0);
    assert_eq!(shop.site.manifests().len(), 2);
}

#[test]
fn what_never_ran_and_was_due_since_it_was_configured_is_made_up_for() {
    let shop = Shop::open("0 2 * * *");
    let long_ago = SystemTime::now() - Duration::from_secs(3 * 86_400);
    let times = FileTimes::new().set_modified(long_ago);
    for path in [shop.site.config(), shop.policy_file()] {
        File::options().write(true).open(path).unwrap().set_times(times).unwrap();
    }
    // Whoever has no catalog knows nothing of the past, and the agent makes one.
    let agent = Agent::start(&shop.site);
    assert_eq!(agent.job("backup")["state"], "idle");
    until("a catalog that is whole", || shop.site.drctl(&["status"]).code == Some(0));
    let _ = agent.stop().ended(0);
    let agent = Agent::start(&shop.site);
    agent.says("missed 3 runs");
    until("the first backup", || shop.site.manifests().len() == 1);
    let _ = agent.job_is("backup", |job| job["state"] == "idle");
    assert_eq!(shop.site.manifests().len(), 1);
    let _ = agent.stop().ended(0);
    // A catalog that was made anew knows what is in the bucket.
    std::fs::remove_file(shop.site.path("state/catalog.db")).unwrap();
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    let agent = Agent::start(&shop.site);
    let job = agent.job("backup");
    assert_eq!((&job["state"], &job["last"]["outcome"]), (&"idle".into(), &"succeeded".into()));
    let _ = agent.stop().ended(0);
    assert_eq!(shop.site.manifests().len(), 1);
}

#[test]
fn a_host_that_never_backed_up_waits_for_its_schedule() {
    let shop = Shop::open(NEVER);
    let agent = Agent::start(&shop.site);
    let job = agent.job("backup");
    assert_eq!((&job["state"], &job["last"]), (&"idle".into(), &serde_json::Value::Null), "{job}");
    let _ = agent.stop().ended(0);
    assert!(shop.site.manifests().is_empty());
}

#[test]
fn what_fails_is_tried_again_and_then_told() {
    let shop = Shop::open("* * * * *");
    shop.policy("attempts = ", "attempts = 1");
    let agent = Agent::start(&shop.site);
    std::fs::rename(shop.site.path("repository"), shop.site.path("gone")).unwrap();
    agent.is_due("backup");
    let _ = agent.job_is("backup", |job| job["last"]["outcome"] == "failed");
    agent.says("gave up");
    std::fs::rename(shop.site.path("gone"), shop.site.path("repository")).unwrap();
    let _ = shop.site.json(0, &["run", "shop"]);
    let _ = agent.job_is("backup", |job| job["last"]["outcome"] == "succeeded");
    let _ = agent.stop().ended(0);
}
