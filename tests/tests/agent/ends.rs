//! How an agent begins and ends: alone, in time, with a true record, whatever ends it.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use drctl_tests::agent::Agent;
use drctl_tests::site::until;

use crate::common::{NEVER, Shop};

#[test]
fn a_second_agent_is_refused() {
    let shop = Shop::open(NEVER);
    let agent = Agent::start(&shop.site);
    let said = shop.site.fails(6, "agent_running", &["agent"]);
    assert!(said.contains("process "), "{said}");
    let _ = agent.job("backup");
    let _ = agent.stop().ended(0);
    // The first one's socket and lock went with it.
    let _ = Agent::start(&shop.site).stop().ended(0);
}

#[test]
fn what_runs_may_end_before_the_agent_does() {
    let (shop, tools) = Shop::with_tools(NEVER);
    let agent = shop.in_the_middle(&tools);
    agent.signal(rustix::process::Signal::TERM);
    agent.says("the agent ends");
    tools.go_on();
    let ran = agent.ended().ended(0);
    assert!(ran.err.contains("done"), "{}", ran.err);
    assert_eq!(shop.site.manifests().len(), 1);
    let _ = shop.site.json(0, &["verify", "--data"]);
}

#[test]
fn what_does_not_end_in_time_is_stopped_and_made_up_for() {
    let (shop, tools) = Shop::with_tools(NEVER);
    shop.site.append("\n[agent]\nstop_timeout = \"1s\"\n");
    let agent = shop.in_the_middle(&tools);
    let ran = agent.stop().ended(0);
    assert!(ran.err.contains("stopped before its end"), "{}", ran.err);
    assert!(shop.site.manifests().is_empty());
    assert_eq!(shop.site.status()["last_job"]["state"], "cancelled");
    assert_eq!(shop.server.psql("postgres", SESSIONS), "0");
}

const SESSIONS: &str =
    "select count(*) from pg_stat_activity where application_name like 'drctl/%'";

#[test]
fn a_killed_agent_leaves_nothing_that_stops_the_next_one() {
    let (shop, tools) = Shop::with_tools(NEVER);
    let agent = shop.in_the_middle(&tools);
    agent.kill();
    // The tool writes to nobody now, and ends by that.
    tools.go_on();
    tools.honest("pg_dump");
    until("the sessions of the killed one to end", || {
        shop.server.psql("postgres", SESSIONS) == "0"
    });
    let agent = Agent::start(&shop.site);
    let _ = shop.site.json(0, &["run", "shop"]);
    let _ = agent.job_is("backup", |job| job["last"]["outcome"] == "succeeded");
    let _ = agent.stop().ended(0);
    assert_eq!(shop.site.manifests().len(), 1);
    let _ = shop.site.json(0, &["verify", "--data"]);
}

#[test]
fn the_service_manager_hears_that_it_is_ready_alive_and_ending() {
    let shop = Shop::open(NEVER);
    let path = shop.site.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut command = shop.site.command(&["agent"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "2000000");
    let agent = Agent::start_as(&shop.site, command);
    let hears = |word: &str| {
        let mut text = [0; 4096];
        loop {
            let length = manager.recv(&mut text).expect("a word of the agent");
            if String::from_utf8_lossy(&text[..length]).contains(word) {
                return;
            }
        }
    };
    hears("READY=1");
    hears("WATCHDOG=1");
    agent.signal(rustix::process::Signal::HUP);
    hears("RELOADING=1");
    hears("READY=1");
    agent.signal(rustix::process::Signal::TERM);
    hears("STOPPING=1");
    let _ = agent.ended().ended(0);
}
