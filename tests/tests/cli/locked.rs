//! A backup that waits: what another one and a signal make of it.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, Site, until};
use rustix::process::{Pid, Signal, kill_process};

use crate::server_with;

/// How long anything here may take before the test has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the answer is the wanted one.
fn wait_for(server: &Postgres, query: &str, wanted: &str) {
    let began = Instant::now();
    loop {
        let found = server.psql("shop", query);
        if found == wanted {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{query}: {found}, not {wanted}");
    }
}

/// A session that keeps everybody away from the table, until it is dropped.
struct Lock(Child);

impl Lock {
    fn take(server: &Postgres) -> Lock {
        let mut psql = server.client("psql");
        psql.args(["-Xq", "-d", "shop"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = psql.spawn().expect("start psql");
        let input = child.stdin.as_mut().expect("its input");
        input.write_all(b"BEGIN; LOCK TABLE orders;\n").expect("ask for the lock");
        wait_for(
            server,
            "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted \
             AND relation = 'orders'::regclass",
            "1",
        );
        Lock(child)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn start_waiting(site: &Site, server: &Postgres) -> Child {
    let mut command = site.command(&["backup", "shop"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start drctl");
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity \
                 WHERE application_name LIKE 'drctl/%' AND wait_event_type = 'Lock'";
    wait_for(server, waits, "t");
    child
}

#[test]
fn busy_is_6_and_a_signal_is_130() {
    let server = server_with(100);
    let site = Site::with(&server);
    let lock = Lock::take(&server);
    let child = start_waiting(&site, &server);
    let told = site.drctl(&["backup", "shop"]).ended(6);
    let holder = format!("another drctl works on `shop` (process {})", child.id());
    assert!(told.err.contains(&holder), "{}", told.err);
    assert_eq!(site.json(6, &["backup", "shop"])["code"], "busy");
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a process");
    kill_process(pid, Signal::INT).expect("interrupt it");
    let ran = Ran::of(&child.wait_with_output().expect("wait for drctl")).ended(130);
    assert_eq!(ran.out, "");
    assert!(ran.err.contains("stopped by a signal"), "{}", ran.err);
    wait_for(
        &server,
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'drctl/%'",
        "0",
    );
    drop(lock);
    assert_eq!(site.json(0, &["list"])["backups"], serde_json::json!([]));
    let _ = site.backup();
    let _ = site.drctl(&["status", "--check"]).ended(0);
}

#[test]
fn locks_that_cannot_be_had_name_who_has_them() {
    let server = server_with(100);
    let site = Site::with(&server);
    site.replace(
        "user = \"postgres\"",
        "user = \"postgres\"\nlock_timeout = \"1s\"\nlock_attempts = 1",
    );
    let lock = Lock::take(&server);
    let object = site.json(10, &["backup", "shop"]);
    assert_eq!(object["code"], "locks");
    let hint = object["hint"].as_str().expect("a hint");
    assert!(hint.contains("public.orders is locked") && hint.contains("psql"), "{hint}");
    drop(lock);
    let status = site.drctl(&["status", "--check"]).ended(11);
    assert!(status.out.contains("no good backup: run `drctl backup shop`"), "{}", status.out);
}

/// Whether a process hears of SIGHUP, the last of the signals that end it.
fn hears(child: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
    let status = status.expect("it lives");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("its signals");
    u64::from_str_radix(caught.trim(), 16).expect("a mask") & 1 != 0
}

#[test]
fn a_signal_ends_what_waits_for_a_pipe_that_nobody_writes_into() {
    let server = server_with(10);
    let site = Site::with(&server);
    let _ = site.backup();
    let pipe = site.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("start mkfifo").success());
    let restore = ["restore", "shop", "--latest", "--to-files", "f", "--identity", "pipe"];
    let uses: [(&[&str], bool); 5] = [
        (&restore, false),
        (&["verify", "--data", "--identity", "pipe"], false),
        (&["keys", "test", "--identity", "pipe"], false),
        (&["doctor", "--identity", "pipe"], false),
        (&["list"], true),
    ];
    for (arguments, as_configuration) in uses {
        for signal in [Signal::INT, Signal::TERM] {
            let mut command = site.command(arguments);
            if as_configuration {
                command.env("DRCTL_CONFIG", &pipe);
            }
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().expect("start drctl");
            until("drctl to hear signals", || hears(&child));
            let pid =
                Pid::from_raw(i32::try_from(child.id()).expect("a number")).expect("a number");
            kill_process(pid, signal).expect("tell it");
            until("it to end", || child.try_wait().expect("look at it").is_some());
            let ran = Ran::of(&child.wait_with_output().expect("it ended")).ended(130);
            assert!(ran.err.contains("stopped by a signal"), "{arguments:?}: {}", ran.err);
        }
    }
}
