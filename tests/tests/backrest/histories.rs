//! Stanzas that were made after a promotion: their archive lacks the history of the timeline.

use std::fs;
use std::path::Path;

use drctl_tests::cluster::{Cluster as _, caught_up, list, standby, ticks};
use drctl_tests::site::until;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::Shop;

/// Has the server accept or refuse connections for replication.
fn replication(shop: &Shop, verdict: &str) {
    let hba = shop.server.data_dir().join("pg_hba.conf");
    let lines = "local replication all reject\n";
    let text = fs::read_to_string(&hba).unwrap();
    let rest = text.strip_prefix(lines).unwrap_or(&text);
    let first = if verdict == "reject" { lines } else { "" };
    fs::write(&hba, format!("{first}{rest}")).unwrap();
    shop.sql("select pg_reload_conf()");
    let rules = "select count(*) from pg_hba_file_rules where auth_method = 'reject'";
    let expected = if verdict == "reject" { "1" } else { "0" };
    until("the rules to be read", || shop.sql(rules) == expected);
}

/// The newest timeline, as drctl shows it.
fn timeline(shop: &Shop) -> Value {
    let view = shop.drctl(&["timeline", "shop"]).json();
    view["timelines"].as_array().unwrap().last().unwrap().clone()
}

/// A server on its second timeline, whose history was archived elsewhere, and a stanza that was made
/// after that; with the folder of the server.
fn promoted() -> (Shop, TempDir) {
    let mut shop = Shop::bare(&[]);
    // What was archived until now is nobody's.
    shop.archive_by("true");
    shop.tick(1..6);
    let (second, folder) = standby(&shop.server);
    caught_up(&shop.server, &second);
    shop.fail_over(second);
    let config = fs::read_to_string(shop.site.config()).unwrap();
    let line = |name: &str| config.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
    let socket = shop.server.socket_dir().display().to_string();
    shop.site.replace(&line("host = "), &format!("host = \"{socket}\""));
    shop.site.replace(&line("port = "), &format!("port = {}", shop.server.port()));
    let done = shop.server.data_dir().join("pg_wal/archive_status/00000002.history.done");
    until("the history to be archived elsewhere", || done.exists());
    let _ = shop.pgbackrest(&["stanza-create"]).ended(0);
    shop.archive();
    (shop, folder)
}

#[test]
fn a_stanza_that_was_made_after_a_promotion_is_recovered_from() {
    let (shop, _server) = promoted();
    // Where nobody hands the history over, a recovery on its timeline works all the same.
    replication(&shop, "reject");
    let said = shop.back_up().to_string();
    shop.tick(6..11);
    shop.archived();
    assert_eq!(timeline(&shop)["known"], false);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..11));
    let history = |path: &Path, id: u32| {
        fs::read_to_string(path.join(format!("data/pg_wal/{id:08X}.history"))).unwrap()
    };
    let third = history(&path, 3);
    assert!(third.trim_start().starts_with("2\t"), "{third}");
    assert!(said.contains("the history of timeline 2 is neither in"), "{said}");
    // The server has it, and a backup brings it along.
    replication(&shop, "accept");
    let said = shop.back_up().to_string();
    assert!(!said.contains("the history of timeline"), "{said}");
    shop.tick(11..16);
    shop.archived();
    let view = timeline(&shop);
    assert_eq!(view["known"], true, "{view}");
    assert!(!view["parent"].is_null(), "{view}");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..16));
    let third = history(&path, 3);
    assert!(third.starts_with("1\t") && third.contains("\n2\t"), "{third}");
}

#[test]
fn adopting_a_stanza_keeps_the_history_that_its_archive_lacks() {
    let (shop, _server) = promoted();
    let _ = shop.pgbackrest(&["backup", "--type=full"]).ended(0);
    let _ = shop.drctl(&["stanza", "adopt", "shop"]).ended(0);
    assert_eq!(timeline(&shop)["known"], true);
}
