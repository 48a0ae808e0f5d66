//! Indexes over WAL in the bucket that the agent writes on a schedule, where nobody else has written them.

use std::path::PathBuf;

use drctl_tests::agent::Agent;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Site, until};

use crate::common::{NEVER, Shop};

/// A cluster whose WAL the agent streams, in segments of 1 MiB, and a policy with these lines.
pub(crate) fn site(server: &Postgres, lines: &str) -> Site {
    let site = Site::empty();
    let url = format!("file://{}", site.path("repository").display());
    site.init(server, &url, &[]);
    site.replace("engine = \"pg_dump\"", "engine = \"base_backup\"\nlog = \"stream\"");
    let policy = format!("schedule = \"{NEVER}\"\n\n[retention]\nlast = 3\n{lines}");
    std::fs::write(site.path("etc/policies.d/daily.toml"), policy).expect("a policy");
    site
}

pub(crate) fn indexes(site: &Site) -> Vec<PathBuf> {
    let mut files = site.files("repository");
    files.retain(|path| path.extension().is_some_and(|ending| ending == "index"));
    files.iter().map(|path| site.path("repository").join(path)).collect()
}

fn kinds(site: &Site) -> Vec<String> {
    let jobs = site.json(0, &["jobs"])["jobs"].as_array().expect("jobs").clone();
    jobs.iter().map(|job| job["kind"].as_str().expect("a kind").to_owned()).collect()
}

#[test]
fn an_index_that_is_missing_is_written_as_a_job_of_the_agent() {
    let server = Postgres::builder().initdb("--wal-segsize=1").start();
    let site = site(&server, "");
    let agent = Agent::start(&site);
    let _ = agent.job_is("log_stream", |job| job["state"] == "running");
    let job = agent.job("log_index");
    assert!(job["next"].is_string(), "it is due every night unless said otherwise: {job}");
    server.psql("postgres", "create table t (id int)");
    let rows = (0..70).map(|n| format!("insert into t values ({n}); select pg_switch_wal();"));
    server.psql("postgres", &rows.collect::<Vec<_>>().join("\n"));
    until("an index by the stream", || !indexes(&site).is_empty());
    let written = indexes(&site);
    for path in &written {
        std::fs::remove_file(path).expect("remove an index");
    }
    let _ = site.json(0, &["run", "shop", "log_index"]);
    let job = agent.job_is("log_index", |job| job["last"]["outcome"] == "succeeded");
    assert_eq!(job["state"], "idle", "{job}");
    assert_eq!(indexes(&site), written);
    let status = site.status();
    let told = status["jobs"].as_array().expect("jobs").clone();
    let ours = told.iter().find(|job| job["kind"] == "log_index").expect("it is on record");
    assert_eq!(ours["state"], "succeeded", "{status}");
    assert!(agent.said().contains("the log is indexed"), "{}", agent.said());
}

#[test]
fn who_wants_no_indexes_has_no_such_job_nor_has_a_source_without_log() {
    let server = Postgres::builder().start();
    let site = site(&server, "[log_index]\nschedule = \"never\"\n");
    let agent = Agent::start(&site);
    assert_eq!(kinds(&site), ["backup", "log_stream"]);
    let said = site.fails(1, "agent_refused", &["run", "shop", "index"]);
    assert!(
        said.contains("[log_index] has schedule") && said.contains("drctl wal index"),
        "{said}"
    );
    drop(agent);
    let dumps = Shop::open(NEVER);
    let _agent = Agent::start(&dumps.site);
    assert_eq!(kinds(&dumps.site), ["backup"]);
}
