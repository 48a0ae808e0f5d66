//! What no policy keeps goes by itself, on schedule, and only where nothing is in doubt.

use drctl_tests::agent::Agent;
use drctl_tests::site::until;

use crate::common::{NEVER, Shop};

/// A policy that keeps two backups, and prunes only when it is asked to.
fn shop() -> Shop {
    let shop = Shop::open(NEVER);
    let text = format!(
        "schedule = \"{NEVER}\"\n\n[retention]\nlast = 2\n\n[prune]\nschedule = \"{NEVER}\"\n"
    );
    std::fs::write(shop.policy_file(), text).expect("a policy");
    shop
}

#[test]
fn what_no_policy_keeps_goes_when_it_is_due_and_no_more() {
    let shop = shop();
    let backups: Vec<String> = (0..3).map(|_| shop.site.backup()).collect();
    let agent = Agent::start(&shop.site);
    let _ = shop.site.json(0, &["run", "shop", "prune"]);
    let _ = agent.job_is("prune", |job| job["last"]["outcome"] == "succeeded");
    until("the oldest to go", || shop.site.manifests().len() == 2);
    let rows = shop.site.rows();
    assert!(rows.iter().all(|row| row["backup"] != backups[0].as_str()), "{rows:?}");
    let _ = shop.site.json(0, &["verify", "--data"]);
    let _ = agent.stop().ended(0);
}

#[test]
fn what_is_frozen_stays_and_the_agent_says_why() {
    let shop = shop();
    let _backups: Vec<String> = (0..3).map(|_| shop.site.backup()).collect();
    let _ = shop.site.json(0, &["freeze", "shop", "--reason", "an audit"]);
    let agent = Agent::start(&shop.site);
    let _ = shop.site.json(0, &["run", "shop", "prune"]);
    let _ = agent.job_is("prune", |job| job["last"]["outcome"] == "succeeded");
    assert!(agent.said().contains("an audit"), "{}", agent.said());
    assert_eq!(shop.site.manifests().len(), 3);
}

#[test]
fn much_goes_only_when_a_person_says_how_much() {
    let shop = shop();
    let _backups: Vec<String> = (0..5).map(|_| shop.site.backup()).collect();
    let agent = Agent::start(&shop.site);
    let _ = shop.site.json(0, &["run", "shop", "prune"]);
    let _ = agent.job_is("prune", |job| job["last"]["outcome"] == "failed");
    agent.says("drctl prune shop");
    assert_eq!(shop.site.manifests().len(), 5);
}
