//! WAL that the agent streams: from its start, again after each end, and no more when it is not asked for.

use std::collections::BTreeMap;

use drctl_tests::agent::Agent;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Site, until};

use crate::metrics::{scrape, told_at};

/// A cluster whose WAL the agent streams.
fn site(server: &Postgres) -> Site {
    let site = Site::empty();
    let url = format!("file://{}", site.path("repository").display());
    site.init(server, &url, &[]);
    site.replace("engine = \"pg_dump\"", "engine = \"base_backup\"\nlog = \"stream\"");
    site
}

/// How many pieces of WAL the repository holds.
fn pieces(site: &Site) -> usize {
    let files = site.files("repository");
    files.iter().filter(|path| path.to_string_lossy().contains("/l/")).count()
}

#[test]
fn wal_is_streamed_from_the_start_and_again_when_the_server_is_back() {
    let mut server = Postgres::builder().start();
    let site = site(&server);
    let agent = Agent::start(&site);
    let _ = agent.job_is("log_stream", |job| job["state"] == "running");
    server.psql("postgres", "create table t as select 1");
    until("WAL in the bucket", || pieces(&site) > 0);
    server.stop();
    let before = pieces(&site);
    server.start_again();
    server.psql("postgres", "create table t2 as select 1");
    until("more WAL in the bucket", || pieces(&site) > before);
    let ran = agent.stop().ended(0);
    assert!(ran.err.contains("stopped"), "{}", ran.err);
}

#[test]
fn heartbeats_let_recent_times_of_an_idle_server_be_recovered() {
    let server = Postgres::builder().start();
    let site = site(&server);
    site.source("log_heartbeat = \"1s\"");
    let port = told_at(&site);
    let agent = Agent::start(&site);
    let _ = agent.job_is("log_stream", |job| job["state"] == "running");
    let _ = site.json(0, &["run", "shop"]);
    let _ = agent.job_is("backup", |job| job["last"]["outcome"] == "succeeded");
    let until_when = || site.status()["log"]["last_commit"].as_str().map(str::to_owned);
    let mut first = None;
    until("a first time", || {
        first = until_when();
        first.is_some()
    });
    until("a later one, without a word of ours", || until_when() > first);
    // What the server keeps of it meanwhile is told.
    let mut seen = BTreeMap::new();
    until("what the server holds", || {
        seen = scrape(port);
        seen.contains_key("drctl_log_held_bytes{source=\"shop\"}")
    });
    let (held, free) = ("drctl_log_held_bytes", "drctl_log_disk_free_bytes");
    let of = |name: &str| seen[&format!("{name}{{source=\"shop\"}}")];
    assert!(of(held) < 1e9 && of(free) > 1e6, "{seen:?}");
    let _ = agent.stop().ended(0);
}
