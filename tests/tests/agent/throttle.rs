//! What the agent leaves to the databases: bounds, pauses, and that neither keeps it from ending.

use std::process::{Child, Command};
use std::thread::available_parallelism;

use drctl_tests::agent::Agent;
use drctl_tests::cluster::{caught_up, standby};
use drctl_tests::site::until;

use crate::common::{NEVER, Shop};
use crate::verify::verifies;

/// How long runs waited while the newest of a kind ran, as the agent told.
pub(crate) fn waited(said: &str, job: &str) -> Option<u64> {
    let of_job =
        |line: &&str| line.contains("gave way") && line.contains(&format!("job=\"{job}\""));
    let (_, after) = said.lines().rfind(of_job)?.split_once("waited_ms=")?;
    after.split_whitespace().next()?.parse().ok()
}

#[test]
fn backups_and_verify_go_no_faster_than_they_may() {
    let shop = Shop::open(NEVER);
    verifies(&shop);
    shop.site.append("\n[throttle.slow]\nrequests_per_second = 5\n");
    let agent = Agent::start(&shop.site);
    for job in ["backup", "verify"] {
        let _ = shop.site.json(0, &["run", "shop", job]);
        until(&format!("a {job} that gave way"), || waited(&agent.said(), job).is_some());
        let _ = agent.job_is(job, |job| job["last"]["outcome"] == "succeeded");
    }
    let _ = agent.stop().ended(0);
}

#[test]
fn a_slow_backup_is_cancelled_and_goes_on_when_the_bounds_are_gone() {
    let shop = Shop::open(NEVER);
    let without = std::fs::read(shop.site.config()).unwrap();
    // All of it would take an hour.
    shop.site.append("\n[throttle.slow]\nbytes_per_second = \"1KiB\"\n");
    shop.server.psql(
        "postgres",
        "create table noise as select gen_random_uuid() from generate_series(1, 100000)",
    );
    let agent = Agent::start(&shop.site);
    let begun = || {
        let _ = shop.site.json(0, &["run", "shop"]);
        let _ = agent.job_is("backup", |job| job["bytes"].as_u64() > Some(0));
    };
    begun();
    let _ = shop.site.json(0, &["cancel", "shop"]);
    let _ = agent.job_is("backup", |job| job["last"]["outcome"] == "stopped");
    begun();
    std::fs::write(shop.site.config(), without).unwrap();
    let _ = shop.site.json(0, &["reload"]);
    let _ = agent.job_is("backup", |job| job["last"]["outcome"] == "succeeded");
    assert!(waited(&agent.said(), "backup").is_some(), "{}", agent.said());
    let _ = agent.stop().ended(0);
}

/// Processes that leave this host no processor.
struct Busy(Vec<Child>);

impl Busy {
    fn begin() -> Self {
        let most = 4 * available_parallelism().map_or(2, usize::from);
        let one = |_| {
            Command::new("nice")
                .args(["-n", "19", "sh", "-c", "while :; do :; done"])
                .spawn()
                .expect("nice")
        };
        Busy((0..most).map(one).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn what_runs_pauses_under_pressure_and_comes_to_its_end_when_the_agent_stops() {
    let shop = Shop::open(NEVER);
    shop.site.append("\n[throttle.gentle]\npause_above_pressure = 1\n");
    let _busy = Busy::begin();
    let agent = Agent::start(&shop.site);
    agent.says("backups, verify and WAL that can wait pause");
    let _ = shop.site.json(0, &["run", "shop"]);
    let pauses = |job: &serde_json::Value| {
        job["waits_for"].as_str().is_some_and(|why| why.contains("under pressure"))
    };
    let job = agent.job_is("backup", pauses);
    assert_eq!(job["state"], "running", "{job}");
    let said = agent.stop().ended(0).err;
    assert!(waited(&said, "backup").is_some(), "{said}");
    assert_eq!(shop.site.status()["last_job"]["state"], "committed");
    assert_eq!(shop.site.manifests().len(), 1);
}

#[test]
fn a_backup_pauses_while_a_replica_is_far_behind() {
    let shop = Shop::open(NEVER);
    let (replica, _folder) = standby(&shop.server);
    let change = |n: u32| {
        shop.server.psql("postgres", &format!("insert into orders values ({n})"));
    };
    change(1);
    caught_up(&shop.server, &replica);
    replica.psql("postgres", "alter system set wal_receiver_status_interval = '1s'");
    replica.psql("postgres", "select pg_reload_conf()");
    replica.psql("postgres", "select pg_wal_replay_pause()");
    change(2);
    let lag = "select count(*) from pg_stat_replication where replay_lag > '2s'";
    until("a replica that is behind", || {
        change(3);
        shop.server.psql("postgres", lag) == "1"
    });
    shop.site.append("\n[throttle.gentle]\npause_above_replica_lag = \"1s\"\n");
    let agent = Agent::start(&shop.site);
    let _ = shop.site.json(0, &["run", "shop"]);
    agent.says("the backup pauses");
    replica.psql("postgres", "select pg_wal_replay_resume()");
    caught_up(&shop.server, &replica);
    until("a replica that is not behind", || {
        change(4);
        shop.server.psql("postgres", lag) == "0"
    });
    let _ = agent.job_is("backup", |job| job["last"]["outcome"] == "succeeded");
    agent.says("the backup waited for replicas");
    let _ = agent.stop().ended(0);
}

/// The name of a process or a thread that runs, and how much it gives way.
fn niceness(pid: &str) -> Option<(String, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (before, after) = stat.rsplit_once(')').expect("a name");
    let (_, name) = before.split_once('(').expect("a name");
    let nice = after.split_whitespace().nth(16).expect("the 19th field");
    Some((name.to_owned(), nice.parse().expect("a number")))
}

#[test]
fn a_dump_gives_way_to_other_processes_by_as_much_as_the_agent_is_told() {
    let (shop, tools) = Shop::with_tools(NEVER);
    shop.site.append("\n[agent]\nnice = 7\n");
    // More than the pipes hold, so that pg_dump itself waits.
    shop.server.psql(
        "postgres",
        "create table noise as select gen_random_uuid() from generate_series(1, 100000)",
    );
    tools.pause("pg_dump", 10);
    tools.set(
        "pg_dump",
        "set -o pipefail\n{ tell pid \"$BASHPID\"; exec \"$REAL\" \"$@\"; } | \
         { head -c 10; tell mid; cat \"$HERE/gate\" >/dev/null; exec cat; }",
    );
    let agent = Agent::start(&shop.site);
    let _ = shop.site.json(0, &["run", "shop"]);
    tools.await_pause();
    let (_, ours) = niceness("self").expect("it runs");
    let dump = niceness(tools.await_file("pid").trim()).expect("it runs");
    let given = (ours + 7).min(19);
    assert_eq!(dump, ("pg_dump".to_owned(), given));
    // Linux knows of threads alone, and the runtime's were there before the configuration was read.
    let agents = shop.site.json(0, &["jobs"])["pid"].to_string();
    let mut seen = 0;
    for thread in std::fs::read_dir(format!("/proc/{agents}/task")).expect("it runs") {
        let thread = format!("{agents}/task/{}", thread.expect("a thread").file_name().display());
        // One of them may end by itself just now.
        let Some((_, nice)) = niceness(&thread) else { continue };
        assert_eq!(nice, given, "{thread}");
        seen += 1;
    }
    assert!(seen > 2, "{seen} threads");
    let _ = agent.ends_anew("backup", "succeeded", || tools.go_on());
    let _ = agent.stop().ended(0);
}
