//! What `/healthz` answers to whoever only asks whether the agent lives, and of what it makes a word too.

use std::fs;

use drctl_tests::site::until;

use crate::common::{NEVER, Shop};
use crate::metrics::{get, scrape, told_at};
use crate::standstill::Standstill;
use crate::timed::Timed;

/// Whether the page is answered with this status and these words.
fn says(port: u16, status: &str, words: &str) -> bool {
    let answer = get(port, "/healthz").unwrap_or_default();
    answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(words)
}

fn works(port: u16) -> bool {
    says(port, "200 OK", "the agent works")
}

#[test]
fn a_loop_that_stands_still_for_a_minute_is_told_until_it_turns_again() {
    let shop = Shop::open(NEVER);
    let port = told_at(&shop.site);
    let timed = Timed::start(&shop.site);
    until("an answer", || works(port));
    let standstill = Standstill::of(&shop.site, &timed.agent);
    assert!(works(port), "it is no news before a minute is over");
    timed.pass(2);
    until("the page to say so", || {
        says(port, "503 Service Unavailable", "the agent's loop stands still")
    });
    standstill.ends();
    until("the loop to turn again", || works(port));
    timed.agent.says("the configuration was read again");
    let _ = timed.agent.stop().ended(0);
}

#[test]
fn a_look_that_fails_is_a_metric_of_its_own_and_no_agent_that_does_not_work() {
    let shop = Shop::open(NEVER);
    let port = told_at(&shop.site);
    // A host that has no catalog yet makes one from what the repository has.
    let (there, away) = (shop.site.path("repository"), shop.site.path("away"));
    fs::rename(&there, &away).unwrap();
    let timed = Timed::start(&shop.site);
    let failed = |port| scrape(port).get("drctl_agent_look_failed").copied();
    until("the look that failed to be told", || failed(port) == Some(1.0));
    let told = scrape(port);
    // Of what no look found nothing is told, neither good nor bad.
    let of_looks = ["drctl_source_", "drctl_backup_", "drctl_agent_look_timestamp_seconds"];
    let guessed = told.keys().filter(|name| of_looks.iter().any(|of| name.starts_with(of)));
    assert_eq!(guessed.collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(works(port), "whoever restarts the agent for it helps nobody");
    fs::rename(&away, &there).unwrap();
    timed.looks_again();
    until("a look that did not fail", || failed(port) == Some(0.0));
    let told = scrape(port);
    assert!(told.contains_key("drctl_agent_look_timestamp_seconds"));
    assert_eq!(told["drctl_source_unprotected{source=\"shop\"}"], 1.0);
    assert!(works(port));
    let _ = timed.agent.stop().ended(0);
}
