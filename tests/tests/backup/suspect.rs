//! Backups that are complete and yet not to be trusted.

use crate::common::{Shop, id_of};

#[test]
fn a_backup_that_is_empty_is_stored_and_marked_and_never_counts_as_good() {
    let shop = Shop::open();
    let good = shop.site.backup();
    shop.sql("truncate orders");
    let answer = shop.site.json(3, &["backup", "shop"]);
    let empty = id_of(&answer);
    assert_eq!(answer["backup"]["good"], false, "{answer}");
    assert!(answer["backup"]["suspect"].to_string().contains("no table in it holds a row"));

    let status = shop.site.status();
    assert_eq!(status["newest_good"]["backup"], good.as_str(), "{status}");
    assert_eq!(status["health"], "attention");
    let advice = status["advice"].as_str().unwrap();
    assert!(advice.contains(&empty) && advice.contains("suspect"), "{advice}");
    let _ = shop.site.drctl(&["status", "--check"]).ended(3);

    // The one that is chosen when nothing is said is the older one, which is whole.
    let new = shop.beside(&["--latest"], &[]);
    assert_eq!(shop.server.psql(&new, "select count(*) from orders"), "20000");
    // Asked for by name it can be had.
    let new = shop.beside(&["--backup", &empty], &[]);
    assert_eq!(shop.server.psql(&new, "select count(*) from orders"), "0");
    // Two of them in a row: the second is measured against the last good one, not the first.
    let _ = shop.site.json(3, &["backup", "shop"]);
    assert_eq!(shop.site.status()["newest_good"]["backup"], good.as_str());
}

#[test]
fn a_backup_that_is_implausibly_small_against_the_last_good_one_is_suspect() {
    let shop = Shop::open();
    shop.sql("insert into orders select g, repeat('x', 90) from generate_series(20001, 40000) g");
    let good = shop.site.backup();
    shop.sql("delete from orders where id > 5000");
    let answer = shop.site.json(3, &["backup", "shop"]);
    let why = answer["backup"]["suspect"].to_string();
    assert!(why.contains("% of the bytes of") && why.contains(&good), "{why}");
    assert_eq!(shop.site.status()["newest_good"]["backup"], good.as_str());
}

#[test]
fn nothing_but_suspect_backups_is_no_backup_at_all() {
    let shop = Shop::open();
    shop.sql("truncate orders");
    let _ = shop.site.json(3, &["backup", "shop"]);
    let said = shop.site.fails(5, "no_backup", &["restore", "shop", "--latest", "--to-files", "x"]);
    assert!(said.contains("suspect") && said.contains("drctl list"), "{said}");
    assert_eq!(shop.site.status()["health"], "breached");
    let _ = shop.site.drctl(&["status", "--check"]).ended(11);
}
