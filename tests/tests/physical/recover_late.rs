//! What a recovery says of what it does not hold.

use std::fs;
use std::process::Stdio;

use drctl_tests::cluster::{Cluster as _, held, list, own_place, ticks};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Ran;
use rustix::process::{Signal, kill_process};

use crate::log::{Archiving, several};
use crate::streaming::{Streaming, shipped};

/// Recovers to the last commit of forty rows while its server is held and more is written.
fn reached_while(shop: &Archiving, last: &str, write: impl FnOnce()) {
    let (_folder, path) = own_place();
    let to = path.display().to_string();
    let arguments =
        ["--json", "restore", "shop", "--to-time", last, "--promote", "--to-directory", &to];
    let mut command = shop.command(&arguments);
    let drctl = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let server = held(&path.join("data"));
    write();
    kill_process(server, Signal::CONT).unwrap();
    let done = Ran::of(&drctl.wait_with_output().unwrap()).ended(0).json();
    assert_eq!(done["shows"], last, "{done}");
    assert_eq!(ticks(&path), list(1..41));
}

#[test]
fn a_target_at_the_last_commit_is_reached_while_more_log_comes() {
    let (shop, last) = several();
    reached_while(&shop, &last, || {
        shop.tick(41..51);
        shop.archived();
    });
}

#[test]
fn a_target_at_the_last_commit_is_reached_while_more_log_is_streamed() {
    let shop = Archiving::start(false);
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    shop.back_up();
    shop.tick(1..41);
    shipped(&shop.server);
    let last = shop.committed(40);
    for round in 1..3 {
        // In the segment of the target.
        reached_while(&shop, &last, || {
            shop.tick(round * 50..round * 50 + 10);
            shipped(&shop.server);
        });
    }
    assert_eq!(streaming.end(), Some(130));
}

#[test]
fn the_number_of_a_transaction_that_was_rolled_back_chooses_the_base_before_it() {
    let shop = Archiving::start(true);
    shop.tick(1..6);
    let first = shop.back_up()["backup"]["backup"].clone();
    let aborted =
        shop.sql("begin; insert into ticks values (6, ''); select pg_current_xact_id(); rollback");
    shop.tick(7..11);
    shop.archived();
    shop.back_up();
    shop.tick(11..16);
    shop.archived();
    for flag in ["--to-xid", "--before-xid"] {
        let (ran, _folder, path) = shop.recover(&[flag, &aborted, "--promote"]);
        let done = ran.ended(0).json();
        assert_eq!((&done["base"], ticks(&path)), (&first, list(1..6)), "{done}");
    }
}

#[test]
fn a_recovery_of_all_that_there_is_over_a_gap_is_no_success_unless_the_loss_is_accepted() {
    let (shop, _) = several();
    let pieces = shop.pieces();
    fs::remove_file(&pieces[pieces.len() - 2]).unwrap();
    let plan = ["restore", "shop", "--to-end", "--to-directory", "/x", "--plan"];
    let plan = shop.drctl(&plan).ended(0).json();
    assert!(plan["checks"]["refused"].is_string(), "{plan}");
    for more in [&[][..], &["--drill"], &["--promote"]] {
        let (ran, _folder, path) = shop.recover(&[&["--to-end"], more].concat());
        let said = ran.failed(5, "no_plan");
        assert!(said.contains("would not hold all") && said.contains("--accept-loss"), "{said}");
        assert!(said.contains("is missing from") && !path.exists(), "{said}");
    }
    let (ran, _folder, path) = shop.recover(&["--to-end", "--accept-loss", "--drill"]);
    let done = ran.ended(0).json();
    let told = done["left_out"][0].as_str().unwrap_or_default();
    assert!(told.contains("after a gap is left out"), "{done}");
    assert!(done["loses"]["bytes"].as_u64() > Some(0), "{done}");
    let log = fs::read_to_string(path.join("drctl.log")).unwrap();
    assert!(log.contains("NOT IN IT: the WAL after a gap"), "{log}");
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert_eq!(view["drills"][0]["left_out"][0], told, "{view}");
    // Where nothing is missing nothing is told.
    let (shop, _) = several();
    let (ran, _folder, _) = shop.recover(&["--to-end"]);
    assert_eq!(ran.ended(0).json()["left_out"], serde_json::json!([]));
}

/// Every commit that the server's own tool finds in its log, in the order of the log: number and
/// time.
fn commits(shop: &Archiving, from: &str) -> Vec<(u32, String)> {
    let mut tool = shop.as_owner(shop.server.bin_dir().join("pg_waldump"));
    tool.arg("-p").arg(shop.server.data_dir().join("pg_wal"));
    let output = tool.args(["-r", "Transaction", "-s", from]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let commit = |line: &str| {
        let (_, rest) = line.split_once("tx:")?;
        let xid = rest.split(',').next()?.trim().parse().ok()?;
        let (_, time) = line.split_once("COMMIT ")?;
        Some((xid, time.split(" UTC").next()?.to_owned()))
    };
    text.lines().filter_map(commit).collect()
}

#[test]
fn commits_that_were_overtaken_are_named_with_what_takes_them_in() {
    let shop = Archiving::start(true);
    shop.sql("alter system set wal_keep_size = '500MB'; select pg_reload_conf()");
    shop.sql("alter database postgres set timezone = 'UTC'; create table races (x bigint)");
    shop.back_up();
    let from = shop.sql("select pg_current_wal_insert_lsn()");
    let script = shop.site.path("race.sql");
    fs::write(&script, "insert into races values (pg_current_xact_id()::text::bigint);").unwrap();
    // Among many writers some commits come into the log later than others that began to end after
    // them.
    let (mut found, mut rounds) = (None, 0);
    while found.is_none() {
        let mut bench = shop.server.client("pgbench");
        bench.args(["-n", "-c", "24", "-j", "2", "-t", "300", "-f"]).arg(&script).arg("postgres");
        assert!(bench.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
        let all = commits(&shop, &from);
        found = all.windows(2).find(|pair| pair[0].1 > pair[1].1).map(|pair| pair[1].1.clone());
        rounds += 1;
        assert!(rounds < 50, "nothing was overtaken in {} commits", all.len());
    }
    let time = found.unwrap();
    shop.tick(1..3);
    shop.archived();
    let all = commits(&shop, &from);
    let stop = all.iter().position(|(_, at)| *at > time).expect("a later commit");
    let missing: Vec<_> = all[stop..].iter().filter(|(_, at)| *at <= time).collect();
    let (last, _) = missing.last().expect("one was overtaken");
    let target = format!("{}Z", time.replace(' ', "T"));
    let (ran, _folder, path) = shop.recover(&["--to-time", &target, "--promote"]);
    let done = ran.ended(0).json();
    assert_eq!(done["overtaken"]["commits"], missing.len(), "{done}");
    assert_eq!(done["overtaken"]["xid"], *last, "{done}");
    let log = fs::read_to_string(path.join("drctl.log")).unwrap();
    let flag = format!("--to-xid {last}");
    assert!(log.contains("which come after the stop") && log.contains(&flag), "{log}");
    let holds = |path: &std::path::Path| {
        let restored = Postgres::builder().data(&path.join("data")).start();
        restored.psql("postgres", &format!("select count(*) from races where x = {last}"))
    };
    assert_eq!(holds(&path), "0");
    let xid = last.to_string();
    let (ran, _folder, path) = shop.recover(&["--to-xid", &xid, "--promote"]);
    assert!(ran.ended(0).json()["overtaken"].is_null());
    assert_eq!(holds(&path), "1");
}
