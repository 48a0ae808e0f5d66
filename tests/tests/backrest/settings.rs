//! What a configuration asks of pgBackRest's own restores: a recovery is of the whole cluster, and
//! writes nowhere else, whatever that is.

use std::fs;

use drctl_tests::cluster::{Cluster as _, give_away, list, open_folder, ticks};
use drctl_tests::servers::postgres::Postgres;

use crate::common::Shop;

#[test]
fn settings_for_restores_by_hand_take_nothing_from_a_recovery() {
    let elsewhere = open_folder("drctl-elsewhere-");
    give_away(elsewhere.path());
    let (spaces, links) = (elsewhere.path().join("spaces"), elsewhere.path().join("links"));
    let shop = Shop::start();
    let space = open_folder("drctl-space-");
    give_away(space.path());
    shop.sql(&format!("create tablespace fast location '{}'", space.path().display()));
    shop.sql("create database apart tablespace fast");
    shop.server.psql("apart", "create table kept (id int); insert into kept values (1), (2)");
    let _ = shop.back_up();
    shop.tick(1..11);
    shop.archived();
    let config = shop.path("pgbackrest.conf");
    let text = fs::read_to_string(&config).unwrap();
    // Each of these is valid, and of use to somebody who restores by hand.
    for settings in [
        "db-include=postgres".to_owned(),
        "db-exclude=apart".to_owned(),
        "delta=y".to_owned(),
        format!("tablespace-map-all={}", spaces.display()),
        format!("link-all=y\nlink-map=pg_wal={}", links.display()),
        "recovery-option=recovery_target=immediate\nrecovery-option=restore_command=true"
            .to_owned(),
        "type=standby\narchive-mode=preserve".to_owned(),
    ] {
        fs::write(&config, format!("{text}\n[global:restore]\n{settings}\n")).unwrap();
        let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
        let _ = ran.ended(0);
        assert_eq!(ticks(&path), list(1..11), "{settings}");
        let restored = Postgres::builder().data(&path.join("data")).start();
        assert_eq!(restored.psql("apart", "select count(*) from kept"), "2", "{settings}");
        assert_eq!(restored.psql("postgres", "show archive_mode"), "off", "{settings}");
        assert!(!spaces.exists() && !links.exists(), "{settings}");
    }
}
