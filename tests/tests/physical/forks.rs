//! A recovered copy that was tried and thrown away, while its original lives on.

use std::fs;
use std::io::Write as _;

use drctl_tests::cluster::{Cluster as _, list, ticks};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::until;

use crate::log::{Archiving, several};
use crate::stream::point_at;

/// Recovers to the end, starts what came of it with the archive of its original, writes a little, is
/// backed up once, and is gone.
fn tried(shop: &Archiving) {
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    let data = path.join("data");
    let auto = fs::OpenOptions::new().append(true).open(data.join("postgresql.auto.conf"));
    let command = shop.sql("show archive_command");
    writeln!(auto.unwrap(), "archive_mode = on\narchive_command = '{command}'").unwrap();
    let trial = Postgres::builder().data(&data).start();
    trial.psql("postgres", "insert into ticks values (2000, 'a trial')");
    let name = trial.psql("postgres", "select pg_walfile_name(pg_switch_wal() - 1)");
    let archived = "select coalesce(last_archived_wal, '') from pg_stat_archiver";
    until("its log to be archived", || trial.psql("postgres", archived) >= name);
    point_at(shop, &trial);
    shop.back_up();
    let name = trial.psql("postgres", "select pg_walfile_name(pg_switch_wal() - 1)");
    until("its log to be archived", || trial.psql("postgres", archived) >= name);
    point_at(shop, &shop.server);
}

#[test]
fn a_promotion_that_was_thrown_away_never_passes_for_the_server() {
    let shop = Archiving::start(true);
    shop.tick(1..11);
    shop.back_up();
    shop.archived();
    tried(&shop);
    for round in 1..5 {
        shop.tick(round * 10 + 1..round * 10 + 11);
        shop.archived();
    }
    let newest = shop.back_up()["backup"]["backup"].clone();
    shop.tick(51..61);
    shop.archived();
    // Everybody is told.
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    let fork = view["forks"][0].as_str().unwrap_or_default();
    assert!(fork.contains("timeline 1") && fork.contains("timeline 2"), "{view}");
    assert!(fork.contains(&shop.committed(60)), "{fork}");
    let status = shop.drctl(&["status", "--check"]).ended(3).json();
    let status = &status["sources"][0];
    assert_eq!(
        (&status["newest_good"]["backup"], &status["log"]["timeline"]),
        (&newest, &1.into())
    );
    assert!(status["findings"].to_string().contains("--timeline"), "{status}");
    let verified = shop.drctl(&["verify", "shop"]).ended(4);
    assert!(verified.out.contains("two timelines"), "{}", verified.out);
    // Nothing is chosen for anybody, and no loss is accepted for another one's log.
    for more in [&[][..], &["--accept-loss"], &["--drill"], &["--promote"]] {
        let (ran, _folder, path) = shop.recover(&[&["--to-end"], more].concat());
        let said = ran.failed(5, "no_plan");
        assert!(said.contains(fork) && said.contains("--timeline") && !path.exists(), "{said}");
    }
    let plan = ["restore", "shop", "--to-end", "--to-directory", "/x", "--plan"];
    let plan = shop.drctl(&plan).ended(0).json();
    assert!(plan["checks"]["refused"].as_str().unwrap_or_default().contains(fork), "{plan}");
    let (ran, _folder, path) = shop.recover(&["--latest"]);
    let said = ran.failed(5, "no_plan");
    assert!(said.contains(newest.as_str().unwrap()) && said.contains("--backup"), "{said}");
    assert!(!path.exists());
    // Whoever names it has it.
    let (ran, _folder, path) = shop.recover(&["--to-end", "--timeline", "1", "--promote"]);
    assert_eq!(ran.ended(0).json()["base"], newest);
    assert_eq!(ticks(&path), list(1..61));
    let two = ["--to-end", "--timeline", "2", "--to-directory", "/x", "--plan"];
    let plan = shop.drctl(&[&["restore", "shop"][..], &two].concat()).ended(0).json();
    let left = &plan["plan"]["warnings"][0]["left_behind"];
    assert_eq!((&left["timeline"], &left["until"]), (&1.into(), &shop.committed(60).into()));
}

#[test]
fn a_larger_loss_than_was_shown_is_not_confirmed() {
    let (shop, _) = several();
    let pieces = shop.pieces();
    fs::remove_file(&pieces[pieces.len() - 2]).unwrap();
    let plan = || {
        let plan = ["--to-end", "--accept-loss", "--to-directory", "/x", "--plan"];
        shop.drctl(&[&["restore", "shop"][..], &plan].concat()).ended(0).json()
    };
    let shown = plan();
    assert_eq!(plan()["digest"], shown["digest"]);
    shop.tick(41..51);
    shop.archived();
    assert!(plan()["plan"]["loses"]["bytes"].as_u64() > shown["plan"]["loses"]["bytes"].as_u64());
    let yes = shown["digest"].as_str().unwrap();
    let (ran, _folder, path) = shop.recover(&["--to-end", "--accept-loss", "--yes", yes]);
    let said = ran.failed(2, "usage");
    assert!(said.contains("the plan has changed") && !path.exists(), "{said}");
}
