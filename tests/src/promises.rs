//! What a recovery promises wherever the cluster's base backups and its log lie.

use std::fs;

use crate::cluster::{Cluster, list, own_place, recovery, ticks};
use crate::servers::postgres::Postgres;

/// All that an operator can ask for in a directory with a recovery.
pub const CHOICES: [&[&str]; 4] =
    [&[], &["--open"], &["--promote"], &["--extract", "postgres:public.ticks"]];

/// Asserts that a cluster that was promoted and taken into use is never touched. There are the
/// ticks from 1 to 40, the last one of this time.
///
/// # Panics
/// If it is.
pub fn what_is_in_use_is_never_touched(shop: &impl Cluster, last: &str) {
    let (_folder, path) = own_place();
    let target = ["--to-time", last];
    let restore = recovery(shop, &target, &path);
    let _ = restore(&["--promote"]).ended(0);
    let mut server = Postgres::builder().data(&path.join("data")).start();
    let pid = server.pid();
    for choice in CHOICES {
        let said = restore(&[&["--resume"], choice].concat()).failed(12, "target_unfit");
        assert!(said.contains("did not start") && said.contains(&pid.to_string()), "{said}");
        server.psql("postgres", "insert into ticks select max(id) + 1 from ticks");
    }
    // Once it is stopped it is still somebody's: only what needs nothing of it is answered.
    server.stop();
    for choice in [CHOICES[0], CHOICES[1], CHOICES[3]] {
        let said = restore(&[&["--resume"], choice].concat()).failed(12, "target_unfit");
        assert!(said.contains("a cluster of its own"), "{said}");
    }
    let _ = restore(&["--resume", "--promote"]).ended(0);
    assert_eq!(ticks(&path), list(1..45));
}

/// Asserts that settings which a server must have as large as its source are taken from the log,
/// where they were raised after the backup, each by itself. The cluster has no backup yet.
///
/// # Panics
/// If they are not.
pub fn raised_settings_are_taken_from_the_log(shop: &mut impl Cluster) {
    shop.back_up();
    let raised = [
        ("max_connections", 300),
        ("max_worker_processes", 40),
        ("max_wal_senders", 30),
        ("max_prepared_transactions", 50),
        ("max_locks_per_transaction", 200),
    ];
    // The server that replays meets one after the other.
    for (round, (name, value)) in (0u32..).zip(raised) {
        shop.sql(&format!("alter system set {name} = {value}"));
        shop.server_mut().stop();
        shop.server_mut().start_again();
        shop.tick(round * 2 + 1..round * 2 + 3);
    }
    let time = shop.committed(9);
    shop.archived();
    for (target, until) in [(&["--to-time", &time][..], 10), (&["--to-end"], 11)] {
        let (ran, _folder, path) = shop.recover(&[target, &["--promote"]].concat());
        let _ = ran.ended(0);
        assert_eq!(ticks(&path), list(1..until), "{target:?}");
        let log = fs::read_to_string(path.join("recovery.log")).unwrap();
        assert!(log.contains("insufficient parameter settings"), "{log}");
    }
}
