//! drctl's own stream of the log beside pgBackRest: what never got into pgBackRest's archive.

use std::fs::File;
use std::process::Stdio;

use drctl_tests::cluster::{Cluster as _, list, ticks};
use drctl_tests::site::until;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::Shop;

const SAFE: &str = "select coalesce(bool_or(restart_lsn >= '{}'), false) from pg_replication_slots";

#[test]
fn streamed_log_reaches_what_the_server_never_archived() {
    let shop = Shop::start();
    let _ = shop.back_up();
    shop.tick(1..6);
    shop.archived();
    let said = tempfile::NamedTempFile::new().unwrap();
    let mut command = shop.command(&["wal", "stream", "shop", "--interval", "1"]);
    command.stdout(Stdio::null()).stderr(File::create(said.path()).unwrap());
    let mut stream = command.spawn().unwrap();
    shop.tick(6..11);
    let written = shop.sql("select pg_current_wal_flush_lsn()");
    let name = shop.sql(&format!("select pg_walfile_name('{written}')"));
    until("the log to be shipped", || shop.sql(&SAFE.replace("{}", &written)) == "t");
    // The host dies: the segment under way is in no archive.
    kill_process(Pid::from_child(&stream), Signal::KILL).unwrap();
    stream.wait().unwrap();
    let archived = |name: &str| {
        let mut segments = shop.segments().into_iter();
        segments.any(|file| file.file_name().unwrap().to_string_lossy().starts_with(name))
    };
    assert!(!archived(&name), "{name} is archived");
    let last = shop.committed(10);
    let (ran, _folder, path) = shop.recover(&["--to-time", &last, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..11));
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..11));
}
