//! Whole ways through the agent: commits that wait for the bucket, log that may be slow, what goes on
//! schedule, a catalog that is lost while it runs, and a server that is down for a while.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use drctl_tests::agent::Agent;
use drctl_tests::cluster::{Program, as_owner, give_away, list, own_place, ticks};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, Site, until};
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{NEVER, Shop};
use crate::log_index::{indexes, site};
use crate::throttle::waited;
use crate::told::{Person, run};

/// Some 3 MB of log in one transaction: more than two segments of 1 MiB.
const NOISE: &str = "select count(pg_logical_emit_message(true, 'noise', repeat('x', 100000))) \
    from generate_series(1, 30)";

/// A cluster whose WAL the agent streams, in segments of 1 MiB.
pub(crate) struct Streamed {
    pub(crate) site: Site,
    server: Postgres,
}

impl Streamed {
    /// One with this `log`, and these lines in its policy.
    pub(crate) fn open(log: &str, lines: &str) -> Self {
        let server = Postgres::builder().initdb("--wal-segsize=1").start();
        server.psql("postgres", "create table ticks (id int primary key, note text)");
        let site = Site::empty();
        let url = format!("file://{}", site.path("repository").display());
        site.init(&server, &url, &[]);
        let physical = format!("engine = \"base_backup\"\ncheckpoint = \"fast\"\nlog = \"{log}\"");
        site.replace("engine = \"pg_dump\"", &physical);
        let policy = format!("schedule = \"{NEVER}\"\n\n[retention]\nlast = 3\n{lines}");
        fs::write(site.path("etc/policies.d/daily.toml"), policy).expect("a policy");
        Streamed { site, server }
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.server.psql("postgres", sql)
    }

    /// An agent to which the server sends.
    #[track_caller]
    pub(crate) fn agent(&self) -> Agent<'_> {
        let agent = Agent::start(&self.site);
        let sends = "select count(*) from pg_stat_replication \
            where application_name = 'drctl_wal' and state = 'streaming'";
        until("the stream to begin", || self.sql(sends) == "1");
        agent
    }

    /// Waits until the server was told that all it has written is safe, and gives where that ends.
    #[track_caller]
    pub(crate) fn shipped(&self) -> String {
        let written = self.sql("select pg_current_wal_flush_lsn()");
        let safe = format!("select bool_or(restart_lsn >= '{written}') from pg_replication_slots");
        until("the WAL to be shipped", || self.sql(&safe) == "t");
        written
    }

    /// A commit of a row, under way.
    fn commits(&self, id: u32) -> Child {
        let mut psql = self.server.client("psql");
        let sql = format!("insert into ticks values ({id}, 'x')");
        psql.args(["-XAtq", "-d", "postgres", "-c", &sql]).stdout(Stdio::null());
        psql.spawn().expect("start psql")
    }

    /// Recovers to the end of the WAL from that base backup on, with nothing of this host but its
    /// configuration and keys. Nothing else can be done with the host afterwards.
    #[track_caller]
    pub(crate) fn recovered(&self, base: &str) -> (TempDir, PathBuf) {
        for gone in ["state", "run"] {
            let _ = fs::remove_dir_all(self.site.path(gone));
        }
        // A server does not run as root.
        give_away(&self.site.path(""));
        let (program, (folder, path)) = (Program::placed(), own_place());
        let mut command = as_owner(program.path());
        command.env("DRCTL_CONFIG", self.site.config()).env_remove("DRCTL_LOG");
        command.args(["--json", "restore", "shop", "--to-end", "--promote"]);
        command.args(["--backup", base, "--to-directory"]).arg(&path);
        let _ = Ran::of(&command.output().expect("start drctl")).ended(0);
        (folder, path)
    }
}

#[test]
fn commits_wait_for_the_agent_and_what_it_acknowledged_outlives_it() {
    let host = Streamed::open("synchronous", "");
    let agent = host.agent();
    let _ = host.site.json(0, &["run", "shop"]);
    let _ = agent.job_is("backup", |job| job["last"]["outcome"] == "succeeded");
    let base = host.site.rows()[0]["backup"].as_str().expect("a backup").to_owned();
    host.sql("alter system set synchronous_standby_names = 'drctl_wal'; select pg_reload_conf()");
    let state = "select sync_state from pg_stat_replication where application_name = 'drctl_wal'";
    until("the standby to be synchronous", || host.sql(state) == "sync");
    // Each of them returns when it is in the bucket, the last one right before the agent dies.
    let rows = (1..11).map(|id| format!("insert into ticks values ({id}, md5('{id}'));"));
    host.sql(&rows.collect::<Vec<_>>().join("\n"));
    agent.kill();
    // The server does wait: nobody confirms this one.
    let mut waiting = host.commits(11);
    let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    until("the commit to wait", || host.sql(waits) == "1");
    let (_folder, path) = host.recovered(&base);
    assert_eq!(ticks(&path), list(1..11));
    assert!(waiting.try_wait().expect("look at psql").is_none(), "it returned without the agent");
    host.sql("alter system reset synchronous_standby_names; select pg_reload_conf()");
    until("the commit to return", || waiting.try_wait().expect("look at psql").is_some());
    assert!(waiting.wait().expect("wait for psql").success());
}

#[test]
fn log_that_no_commit_waits_for_gives_way_and_synchronous_log_does_not() {
    for (log, gives_way) in [("stream", true), ("synchronous", false)] {
        let host = Streamed::open(log, "\n[objectives]\nrpo = \"1h\"\n");
        // Some 12 seconds for all of it: less than a piece waits at most.
        host.site.append("\n[throttle.slow]\nbytes_per_second = \"256KiB\"\n");
        let agent = host.agent();
        host.sql(NOISE);
        let _ = host.shipped();
        let said = agent.stop().ended(0).err;
        assert_eq!(waited(&said, "log_stream").is_some(), gives_way, "{log}: {said}");
    }
}

#[test]
fn log_arrives_within_half_of_what_may_be_lost_whatever_the_bounds_are() {
    let host = Streamed::open("stream", "\n[objectives]\nrpo = \"1m\"\n");
    // All of it would take most of an hour.
    host.site.append("\n[throttle.slow]\nbytes_per_second = \"1KiB\"\n");
    let agent = host.agent();
    // What a person starts gives way to nothing.
    let _ = host.site.backup();
    host.sql(NOISE);
    let written = host.shipped();
    let log = host.site.status()["log"].clone();
    let end = log["end"].as_str().unwrap_or_else(|| panic!("no end: {log}"));
    assert_eq!(host.sql(&format!("select '{end}'::pg_lsn >= '{written}'")), "t", "{log}");
    assert_eq!(agent.job("log_stream")["state"], "running");
    let _ = agent.stop().ended(0);
}

/// Where an agent said that it began a job of this kind, and why.
fn begun<'a>(said: &'a str, kind: &str) -> Vec<&'a str> {
    let of_kind = format!("job=\"{kind}\"");
    said.lines().filter(|line| line.contains(" begun") && line.contains(&of_kind)).collect()
}

#[track_caller]
fn all_scheduled(said: &str, kind: &str) {
    let lines = begun(said, kind);
    let scheduled = lines.iter().all(|line| line.contains("why=\"scheduled\""));
    assert!(!lines.is_empty() && scheduled, "{said}");
}

#[test]
fn what_no_policy_keeps_goes_when_its_schedule_says_so() {
    let shop = Shop::open(NEVER);
    let ids = [shop.site.backup(), shop.site.backup()];
    let text = format!(
        "schedule = \"{NEVER}\"\n\n[retention]\nlast = 2\n\n[prune]\nschedule = \"* * * * *\"\n"
    );
    fs::write(shop.policy_file(), text).expect("a policy");
    let agent = Agent::start(&shop.site);
    run(&shop, &agent, "succeeded");
    agent.is_due("prune");
    let went = |line: &str| line.contains("pruned") && line.contains("backups=1");
    until("the oldest to go", || agent.said().lines().any(went));
    all_scheduled(&agent.said(), "prune");
    let rows = shop.site.rows();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows.iter().all(|row| row["backup"] != ids[0].as_str()), "{rows:?}");
    assert_eq!(rows[1]["backup"], ids[1].as_str());
    assert!(!shop.site.path("repository/s/shop/b").join(&ids[0]).exists());
    let succeeded = |job: &Value| job["kind"] == "prune" && job["state"] == "succeeded";
    until("it to be on record", || {
        shop.site.status()["jobs"].as_array().expect("jobs").iter().any(succeeded)
    });
    // Nobody asked for it.
    let shown = shop.site.json(0, &["audit", "show"]);
    let mut entries = shown["entries"].as_array().expect("entries").iter();
    let is_it = |one: &&Value| one["verb"] == "prune" && one["outcome"] == "succeeded";
    let details = &entries.find(is_it).unwrap_or_else(|| panic!("no prune: {shown}"))["details"];
    assert_eq!((&details["by"], &details["gone"]), (&"agent".into(), &"1".into()), "{details}");
    let _ = agent.stop().ended(0);
}

#[test]
fn indexes_that_are_missing_are_written_when_their_schedule_says_so() {
    let server = Postgres::builder().initdb("--wal-segsize=1").start();
    let site = site(&server, "\n[log_index]\nschedule = \"* * * * *\"\n");
    let agent = Agent::start(&site);
    let _ = agent.job_is("log_stream", |job| job["state"] == "running");
    server.psql("postgres", "create table t (id int)");
    let rows = (0..70).map(|n| format!("insert into t values ({n}); select pg_switch_wal();"));
    server.psql("postgres", &rows.collect::<Vec<_>>().join("\n"));
    until("an index by the stream", || !indexes(&site).is_empty());
    let wrote = || {
        let said = agent.said();
        let lines = said.lines().filter(|line| line.contains("the log is indexed"));
        lines.filter(|line| !line.contains("indexes=0")).count()
    };
    let (written, before) = (indexes(&site), wrote());
    for path in &written {
        fs::remove_file(path).expect("remove an index");
    }
    agent.is_due("log_index");
    until("the indexes", || indexes(&site) == written && wrote() > before);
    all_scheduled(&agent.said(), "log_index");
    let _ = agent.stop().ended(0);
}

/// Waits until the agent has looked where the sources stand since its last backup: it is idle then.
#[track_caller]
fn looked(shop: &Shop, agent: &Agent<'_>) {
    let time = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let ended = time(&agent.job("backup")["last"]["ended"]);
    until("a look", || {
        let looked = time(&shop.site.json(0, &["jobs"])["looked"]);
        looked.is_some() && looked >= ended
    });
}

/// The backups that a list has, the newest first.
fn ids(list: &Value) -> Vec<String> {
    let rows = list["backups"].as_array().expect("backups").iter();
    rows.map(|row| row["backup"].as_str().expect("an identifier").to_owned()).collect()
}

#[test]
fn a_catalog_that_is_lost_while_the_agent_runs_stops_no_backup_and_is_told() {
    let shop = Shop::open(NEVER);
    let agent = Agent::start(&shop.site);
    run(&shop, &agent, "succeeded");
    for what in ["deleted", "damaged"] {
        looked(&shop, &agent);
        let before = ids(&shop.site.json(0, &["list"]));
        let path = shop.site.path("state/catalog.db");
        if what == "damaged" {
            fs::write(&path, vec![0x5a; 9000]).expect("damage the catalog");
        } else {
            fs::remove_file(&path).expect("delete the catalog");
            for beside in ["-wal", "-shm"] {
                let _ = fs::remove_file(shop.site.path(&format!("state/catalog.db{beside}")));
            }
        }
        run(&shop, &agent, "succeeded");
        agent.says("the rows of single tables were not compared");
        let list = shop.site.json(3, &["list"]);
        let now = ids(&list);
        assert_eq!(now.len(), before.len() + 1, "{what}: {list}");
        assert_eq!((&now[1..], &list["forgotten"]), (&before[..], &true.into()), "{what}");
        let status = shop.site.status();
        assert_eq!(status["last_job"]["state"], "committed", "{what}: {status}");
        assert_eq!(status["last_job"]["backup"], now[0].as_str(), "{what}: {status}");
        assert_eq!(shop.site.told("catalog_unknown").len(), 1, "{what}: {status}");
        let blocked = status["blocked"].to_string();
        assert!(blocked.contains("what this host remembers is not known"), "{what}: {blocked}");
        // Somebody takes note.
        looked(&shop, &agent);
        let _ = shop.site.json(0, &["catalog", "rebuild"]);
        assert!(shop.site.told("catalog_unknown").is_empty(), "{what}");
        assert_eq!(ids(&shop.site.json(0, &["list"])), now, "{what}");
        assert_eq!(shop.site.json(0, &["catalog", "check"])["equal"], true, "{what}");
    }
    agent.says("rebuilt");
    let _ = agent.stop().ended(0);
}

#[test]
fn a_server_that_is_down_is_told_and_so_is_the_first_backup_behind_it() {
    let mut shop = Shop::open(NEVER);
    let person = Person::new();
    person.channel(&shop.site, "dba");
    let agent = Agent::start(&shop.site);
    run(&shop, &agent, "succeeded");
    assert!(shop.site.told("job_failed").is_empty());
    shop.server.stop();
    run(&shop, &agent, "failed");
    assert!(agent.said().contains("(connect)"), "{}", agent.said());
    let job = shop.site.status()["last_job"].clone();
    assert_eq!((&job["state"], &job["code"]), (&"failed".into(), &"connect".into()), "{job}");
    assert_eq!(shop.site.told("job_failed").len(), 1);
    let notice = person.hears("job_failed", &["begun"]);
    assert_eq!(notice["source"], "shop", "{notice}");
    assert!(notice["text"].as_str().unwrap().contains("the last backup failed"), "{notice}");
    assert!(notice["safe"].as_str().unwrap().contains("the newest good backup is"), "{notice}");
    assert_eq!(shop.site.rows().len(), 1, "what is there stays");
    shop.server.start_again();
    run(&shop, &agent, "succeeded");
    let _ = person.hears("job_failed", &["begun", "recovered"]);
    assert!(shop.site.told("job_failed").is_empty());
    assert_eq!(shop.site.rows().len(), 2);
    let _ = agent.stop().ended(0);
}
