//! The log streamed as it is written, and what piles up where nobody reads it.

use std::process::Stdio;

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::until;
use rustix::process::{Pid, Signal, kill_process};

use crate::log::{Archiving, list, ticks};

#[test]
fn streamed_log_reaches_what_was_committed_seconds_before_the_host_died() {
    let mut shop = Archiving::start(false);
    let stream = ["wal", "stream", "shop", "--interval", "1"];
    let mut streaming =
        shop.command(&stream).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let slots = "select count(*) from pg_replication_slots where active";
    until("the stream to begin", || shop.sql(slots) == "1");
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shop.tick(1..31);
    let written = shop.sql("select pg_current_wal_flush_lsn()");
    let confirmed = format!("select restart_lsn >= '{written}' from pg_replication_slots");
    until("the log to be shipped", || shop.sql(&confirmed) == "t");
    shop.server.crash();
    kill_process(Pid::from_child(&streaming), Signal::KILL).unwrap();
    streaming.wait().unwrap();
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..31));
}

#[test]
fn no_acknowledged_commit_is_lost_in_synchronous_mode() {
    let mut shop = Archiving::start(false);
    let stream = ["wal", "stream", "shop", "--synchronous"];
    let mut streaming =
        shop.command(&stream).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let slots = "select count(*) from pg_replication_slots where active";
    until("the stream to begin", || shop.sql(slots) == "1");
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shop.sql("alter system set synchronous_standby_names = 'drctl_wal'; select pg_reload_conf()");
    let is_sync = "select sync_state from pg_stat_replication where application_name = 'drctl_wal'";
    until("the standby to be synchronous", || shop.sql(is_sync) == "sync");
    let mut psql = shop.server.client("psql");
    psql.args(["-XAtq", "-d", "postgres"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = psql.spawn().unwrap();
    let mut input = client.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        use std::io::Write as _;
        for id in 1..100_000 {
            let row = format!("insert into ticks values ({id}, 'x') returning id;\n");
            if input.write_all(row.as_bytes()).is_err() {
                return;
            }
        }
    });
    // Whoever was told a number was told that it is safe.
    let mut acknowledged = 0;
    let mut answers = std::io::BufReader::new(client.stdout.take().unwrap());
    while acknowledged < 200 {
        let mut line = String::new();
        assert!(std::io::BufRead::read_line(&mut answers, &mut line).unwrap() > 0);
        acknowledged = line.trim().parse().unwrap();
    }
    // The whole host dies: the server and the agent, at once.
    kill_process(Pid::from_child(&streaming), Signal::KILL).unwrap();
    shop.server.crash();
    let mut line = String::new();
    while std::io::BufRead::read_line(&mut answers, &mut line).unwrap() > 0 {
        acknowledged = line.trim().parse().unwrap_or(acknowledged);
        line.clear();
    }
    let _ = (streaming.wait(), client.kill(), client.wait(), writer.join());
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    let restored = Postgres::builder().data(&path.join("data")).start();
    let found = restored.psql("postgres", "select count(*), coalesce(max(id), 0) from ticks");
    let (count, last) = found.split_once('|').unwrap();
    let (count, last): (u32, u32) = (count.parse().unwrap(), last.parse().unwrap());
    assert_eq!(count, last, "a row in the middle is missing");
    assert!(last >= acknowledged, "{acknowledged} were acknowledged, {last} are there");
}

#[test]
fn a_heartbeat_makes_recent_times_reachable_on_an_idle_server() {
    let shop = Archiving::start(false);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shop.tick(1..4);
    let stream = ["wal", "stream", "shop", "--interval", "1", "--heartbeat", "1"];
    let mut streaming =
        shop.command(&stream).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Nobody commits anything any more, and still this moment can be named soon.
    let now = shop.sql(
        "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    );
    let plan = ["restore", "shop", "--to-time", &now, "--to-directory", "x", "--plan"];
    until("the moment to be reachable", || shop.drctl(&plan).code == Some(0));
    let (ran, _folder, path) = shop.recover(&["--to-time", &now, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..4));
    kill_process(Pid::from_child(&streaming), Signal::TERM).unwrap();
    assert_eq!(streaming.wait().unwrap().code(), Some(130));
}

#[test]
fn the_doctor_sees_log_that_piles_up() {
    let shop = Archiving::start(false);
    let findings = |code: i32| shop.drctl(&["doctor"]).ended(code).json()["findings"].to_string();
    // archive_command is `false`: PostgreSQL tries for ever, and tells nobody.
    shop.sql("select pg_switch_wal()");
    until("a failure to archive", || {
        shop.sql("select failed_count > 0 from pg_stat_archiver") == "t"
    });
    assert!(findings(1).contains("cannot archive 0000000100000000"), "{}", findings(1));
    shop.sql("alter system set archive_command = 'true'; select pg_reload_conf()");
    // After failures the archiver sleeps for a minute, unless there is something new.
    until("the archiver to go on", || {
        shop.sql("select txid_current(); select pg_switch_wal()");
        let newer = "select last_archived_time > last_failed_time from pg_stat_archiver";
        shop.sql(newer) == "t"
    });
    shop.sql("select pg_create_physical_replication_slot('forgotten', true)");
    let found = findings(3);
    assert!(found.contains("the slot forgotten is not read from"), "{found}");
    shop.sql("alter system set max_slot_wal_keep_size = '1MB'; select pg_reload_conf()");
    for _ in 0..6 {
        shop.sql(
            "create table if not exists t(x text); insert into t values (repeat('x', 9)); \
                  select pg_switch_wal()",
        );
    }
    shop.sql("checkpoint");
    until("the slot to be given up", || {
        shop.sql(
            "checkpoint; select wal_status in ('lost', 'unreserved') from pg_replication_slots",
        ) == "t"
    });
    assert!(findings(1).contains("the slot forgotten has lost log"), "{}", findings(1));
}
