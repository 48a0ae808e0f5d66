//! What is asked of the agent, and what it does, is on record, and shipped.

use std::fs;

use drctl_tests::agent::Agent;
use drctl_tests::hostile::as_nobody;
use drctl_tests::site::until;
use serde_json::Value;

use crate::common::{NEVER, Shop};

/// The entries of the log.
fn entries(shop: &Shop) -> Vec<Value> {
    let shown = shop.site.json(0, &["audit", "show"]);
    shown["entries"].as_array().expect("entries").clone()
}

#[test]
fn what_is_asked_and_what_is_refused_is_on_record_and_shipped() {
    let shop = Shop::open(NEVER);
    let agent = Agent::start(&shop.site);
    let socket = shop.socket_for_all();
    let ask = "my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die $!; \
        print $s qq({\"version\":1,\"do\":\"cancel\",\"source\":\"shop\",\"kind\":\"backup\"}\\n); print <$s>";
    let mut perl = as_nobody("/usr/bin/perl");
    let ran = perl.args(["-MIO::Socket::UNIX", "-e", ask]).arg(&socket).output().unwrap();
    assert!(String::from_utf8_lossy(&ran.stdout).contains("denied"), "{ran:?}");
    let _ = shop.site.json(0, &["run", "shop"]);
    let _ = agent.job_is("backup", |job| job["last"]["outcome"] == "succeeded");
    let all = entries(&shop);
    let one = |verb: &str, outcome: &str| {
        let found = all.iter().find(|one| one["verb"] == verb && one["outcome"] == outcome);
        found.unwrap_or_else(|| panic!("no {verb} is {outcome} in {all:?}"))
    };
    let refused = one("request cancel", "refused");
    assert_eq!(
        (&refused["actor"]["uid"], &refused["actor"]["socket"]),
        (&65_534.into(), &true.into())
    );
    assert_eq!(
        (&refused["details"]["code"], &refused["source"]),
        (&"denied".into(), &"shop".into())
    );
    assert_eq!(one("request run", "succeeded")["actor"]["socket"], true);
    assert_eq!(one("backup", "succeeded")["details"]["by"], "agent");
    let _ = one("agent", "begun");
    assert!(all.iter().all(|one| one["verb"] != "request jobs"), "{all:?}");
    // It ships by itself, after a look.
    until("the log in the bucket", || {
        let audit = shop.site.json(0, &["status"])["audit"].clone();
        audit["shipped"].as_u64() >= Some(all.len() as u64)
    });
    let _ = shop.site.json(0, &["audit", "verify", "--bucket"]);
    let text = fs::read_to_string(shop.policy_file()).unwrap();
    fs::write(shop.policy_file(), format!("{text}\n# A word.\n")).unwrap();
    let _ = shop.site.json(0, &["reload"]);
    assert!(entries(&shop).iter().any(|one| one["verb"] == "configuration"));
    let _ = agent.stop().ended(0);
    let last = entries(&shop).pop().expect("an entry");
    assert_eq!((&last["verb"], &last["outcome"]), (&"agent".into(), &"succeeded".into()));
}
