//! What is due is begun, once, and what was missed is made up for, once.

use std::fs::{File, FileTimes};
use std::time::{Duration, SystemTime};

use drctl_tests::agent::Agent;
use drctl_tests::site::{Ran, faketime, until};
use jiff::{SignedDuration, Timestamp};

use crate::common::{NEVER, Shop};
use crate::timed::Timed;

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

/// Adds to a shop's policy.
fn append(shop: &Shop, text: &str) {
    let policy = std::fs::read_to_string(shop.policy_file()).expect("a policy");
    std::fs::write(shop.policy_file(), policy + text).expect("written");
}

#[test]
fn what_was_missed_waits_for_its_window_unless_too_much_would_be_lost() {
    let hours = |hours| Timestamp::now() + SignedDuration::from_hours(hours);
    let time = |at: Timestamp| at.strftime("%H:%M").to_string();
    let (opens, closes) = (hours(3), hours(4));
    let shop = Shop::open(&opens.strftime("%-M %-H * * *").to_string());
    append(
        &shop,
        &format!("\n[window]\nfrom = \"{}\"\nuntil = \"{}\"\n", time(opens), time(closes)),
    );
    backed_up_days_ago(&shop, 3);
    let agent = Agent::start(&shop.site);
    agent.says("missed 3 runs");
    let job = agent.job("backup");
    assert_eq!(job["waits_for"], "the window to open", "{job}");
    let objective = "\n[objectives]\nrpo = \"26h\"\n";
    append(&shop, objective);
    let _ = shop.site.json(0, &["reload"]);
    until("what was missed to be made up for", || shop.site.manifests().len() == 2);
    let _ = agent.job_is("backup", |job| job["state"] == "idle");
    let _ = agent.stop().ended(0);
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

/// Minutes of a day.
const DAY: u32 = 24 * 60;

/// A shop with one backup, and the next one due once a day, in eleven to twelve hours: by the true clock nothing
/// comes due while a test runs.
fn due_in_half_a_day() -> Shop {
    let hour = (Timestamp::now().as_second() / 3_600 + 12) % 24;
    let shop = Shop::open(&format!("0 {hour} * * *"));
    shop.policy("timezone = ", "timezone = \"UTC\"");
    let _ = shop.site.backup();
    shop
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

/// When the next backup is due.
#[track_caller]
fn next_backup(agent: &Agent<'_>) -> Timestamp {
    let job = agent.job("backup");
    let next = job["next"].as_str().unwrap_or_else(|| panic!("nothing is due: {job}"));
    next.parse().expect("a time")
}

/// Has the agent take notice of what its clock shows now: nothing begins, and the next backup is due then.
#[track_caller]
fn waits_until(shop: &Shop, agent: &Agent<'_>, next: Timestamp) {
    let _ = shop.site.json(0, &["reload"]);
    let job = agent.job("backup");
    assert_eq!((&job["state"], next_backup(agent)), (&"idle".into(), next), "{}", agent.said());
}

#[test]
fn a_clock_that_leaps_a_year_ahead_and_back_makes_one_backup_and_silences_none() {
    let shop = due_in_half_a_day();
    let timed = Timed::with_wall_clock(&shop.site);
    let agent = &timed.agent;
    let next = next_backup(agent);
    let job = agent.ends_anew("backup", "succeeded", || timed.pass(365 * DAY));
    assert!(agent.said().contains("missed 365 runs"), "{}", agent.said());
    assert_eq!(job["missed"], serde_json::Value::Null, "{job}");
    waits_until(&shop, agent, next + days(365));
    assert_eq!(shop.site.manifests().len(), 2);
    // What the wrong clock said is no reason to be silent, and none to begin anything.
    timed.comes_back();
    waits_until(&shop, agent, next);
    assert_eq!(shop.site.manifests().len(), 2);
    let _ = agent.ends_anew("backup", "succeeded", || timed.pass(DAY / 2));
    waits_until(&shop, agent, next + days(1));
    assert_eq!(shop.site.manifests().len(), 3);
    let _ = timed.agent.stop().ended(0);
}

#[test]
fn a_host_that_slept_for_days_makes_up_for_them_once() {
    let shop = due_in_half_a_day();
    let timed = Timed::start(&shop.site);
    let next = next_backup(&timed.agent);
    let job = timed.backs_up(3 * DAY);
    assert!(timed.agent.said().contains("missed 3 runs"), "{}", timed.agent.said());
    assert_eq!(job["missed"], serde_json::Value::Null, "{job}");
    waits_until(&shop, &timed.agent, next + days(3));
    assert_eq!(shop.site.manifests().len(), 2);
    let _ = timed.agent.stop().ended(0);
}
