//! Targets that a recovery reaches, and targets that it refuses, wherever a cluster's base backups
//! and its log lie.

use crate::cluster::{Cluster, list, ticks};

/// Brings a new cluster to targets of every kind, and leaves it with the ticks from 30 to 40 at the
/// end of its log.
///
/// # Panics
/// If anything else is there than what was at the target.
pub fn are_reached(shop: &impl Cluster) {
    shop.tick(1..11);
    shop.back_up();
    shop.tick(11..31);
    let (time, later) = (shop.committed(20), shop.committed(21));
    let xid = shop.sql("select xmin from ticks where id = 25");
    let lsn = shop.sql("select pg_current_wal_insert_lsn()");
    shop.tick(31..41);
    shop.sql("select pg_create_restore_point('before the mistake')");
    shop.sql("delete from ticks where id < 30");
    shop.archived();
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert_eq!(view["timelines"][0]["gaps"].as_array().map(Vec::len), Some(0), "{view}");
    for (target, expected) in [
        (["--to-time", time.as_str()], list(1..21)),
        (["--to-time", later.as_str()], list(1..22)),
        (["--to-xid", xid.as_str()], list(1..26)),
        (["--before-xid", xid.as_str()], list(1..25)),
        (["--to-lsn", lsn.as_str()], list(1..31)),
        (["--to-name", "before the mistake"], list(1..41)),
    ] {
        let (ran, _folder, path) = shop.recover(&[&target[..], &["--promote"]].concat());
        let done = ran.ended(0).json();
        assert_eq!(done["promoted"], true, "{done}");
        if target[0] == "--to-time" {
            assert_eq!(done["shows"], target[1], "{done}");
        }
        assert_eq!(ticks(&path), expected, "{target:?}: {done}");
    }
}

/// Asks a new cluster for targets that lie outside of what it has, of which none may touch anything.
/// It has the ticks from 1 to 10; gives the time of the last one.
///
/// # Panics
/// If one of them is not refused, or something is there afterwards.
pub fn are_refused(shop: &impl Cluster) -> String {
    let early =
        shop.sql("select to_char((now() - interval '2 seconds') at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')");
    shop.back_up();
    shop.tick(1..11);
    shop.archived();
    let last = shop.committed(10);
    for (target, word) in [
        (["--to-time", "2199-01-01T00:00:00Z"], last.as_str()),
        (["--to-time", early.as_str()], "consistent at"),
        (["--to-lsn", "FF/0"], "ends at"),
        (["--to-name", "nobody"], "no restore point"),
    ] {
        let (ran, _folder, path) = shop.recover(&target);
        let said = ran.failed(5, "no_plan");
        assert!(said.contains(word), "{target:?}: {said}");
        assert!(!path.exists());
    }
    for (target, word) in [
        // What `pg_current_xact_id()` tells after the first round of numbers.
        (["--to-xid", "4294968000"], "the WAL has this one as 704"),
        (["--before-xid", "18446744073709551615"], "the WAL has this one as 4294967295"),
        (["--to-time", "2026-06-30T23:59:60Z"], "leap second"),
    ] {
        let (ran, _folder, path) = shop.recover(&target);
        let said = ran.failed(2, "usage");
        assert!(said.contains(word) && !path.exists(), "{target:?}: {said}");
    }
    last
}
