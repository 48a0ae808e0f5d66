//! Drills of base backups.

use std::fs;
use std::path::PathBuf;

use drctl_tests::cluster::{Cluster as _, caught_up, give_away, standby};

use crate::common::{Shop, damage};

#[test]
fn a_cluster_is_recovered_to_the_end_of_its_log_and_thrown_away() {
    let shop = Shop::cluster();
    let first = shop.back_up()["backup"]["backup"].clone();
    shop.tick(1..11);
    shop.archived();
    let last = shop.committed(10);
    let done = shop.drill(0, &[]);
    assert_eq!((&done["verdict"], &done["backup"]), (&"pass".into(), &first), "{done}");
    assert_eq!(done["result"]["outcome"], "proven", "{done}");
    assert_eq!(done["result"]["shows"], last, "{done}");
    assert!(done["run"]["lost_ms"].as_u64().is_some(), "{done}");
    assert!(done["restore_ms"].as_u64().unwrap() > 0, "{done}");
    assert!(shop.left().is_empty(), "{:?}", shop.left());
    // An older base backup is tried up to the next one.
    shop.tick(11..21);
    let _ = shop.back_up();
    shop.tick(21..31);
    shop.archived();
    let done = shop.drill(0, &["--point", "oldest"]);
    assert_eq!((&done["verdict"], &done["backup"]), (&"pass".into(), &first), "{done}");
    assert_eq!(done["result"]["shows"], shop.committed(20), "{done}");
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert_eq!(view["drills"].as_array().map(Vec::len), Some(2), "{view}");
    let all = shop.drctl(&["drill", "list"]).ended(0).json();
    assert_eq!(all["drills"].as_array().map(Vec::len), Some(2), "{all}");
}

#[test]
fn a_moment_is_recovered_as_it_was() {
    let shop = Shop::cluster();
    let _ = shop.back_up();
    shop.tick(1..11);
    let (before, at) = (shop.committed(9), shop.committed(10));
    shop.tick(11..21);
    let _ = shop.back_up();
    shop.archived();
    let done = shop.drill(0, &["--point", &at]);
    let run = &done["run"];
    assert_eq!((&done["verdict"], &run["point"]["wanted"]), (&"pass".into(), &"time".into()));
    assert_eq!((&done["result"]["shows"], &run["with"]), (&at.into(), &serde_json::Value::Null));
    let done = shop.drill(0, &["--point", &before]);
    assert_eq!(done["result"]["shows"], before, "{done}");
    // Nothing had ended then; and what is no point.
    let done = shop.drill(3, &["--point", "2001-01-01T00:00:00Z"]);
    assert_eq!(done["result"]["error"], "no_backup", "{done}");
    let refused = shop.drill(2, &["--point", "newest"]);
    assert_eq!(refused["code"], "usage", "{refused}");
}

/// The last piece of log but one, from the repository's root: what comes after it shows that it is missed.
fn last_piece_but_one(shop: &Shop) -> PathBuf {
    let mut pieces = shop.site.files("repository");
    pieces.retain(|path| path.to_string_lossy().contains("/l/"));
    pieces.sort();
    pieces.swap_remove(pieces.len() - 2)
}

#[test]
fn log_that_is_missing_fails_it() {
    let shop = Shop::cluster();
    let _ = shop.back_up();
    shop.segments_of_ten(4);
    fs::remove_file(shop.site.path("repository").join(last_piece_but_one(&shop))).unwrap();
    let done = shop.drill(4, &[]);
    assert_eq!(
        (&done["verdict"], &done["result"]["error"]),
        (&"fail_data".into(), &"no_plan".into())
    );
    assert!(shop.left().is_empty(), "{:?}", shop.left());
}

#[test]
fn log_that_is_damaged_fails_it() {
    let shop = Shop::cluster();
    let _ = shop.back_up();
    shop.segments_of_ten(4);
    damage(&shop, &last_piece_but_one(&shop));
    let done = shop.drill(4, &[]);
    assert_eq!(done["verdict"], "fail_data", "{done}");
    assert!(shop.left().is_empty(), "{:?}", shop.left());
}

#[test]
fn the_newest_base_backup_is_the_one_that_is_tried() {
    let shop = Shop::cluster();
    let first = shop.back_up()["backup"]["backup"].clone();
    // Nothing is committed in between: its log tells no time behind it.
    let newest = shop.back_up()["backup"]["backup"].clone();
    let done = shop.drill(0, &["--point", "oldest"]);
    assert_eq!((&done["verdict"], &done["backup"]), (&"pass".into(), &first), "{done}");
    damage(&shop, &shop.largest_of(newest.as_str().unwrap()));
    let done = shop.drill(4, &[]);
    assert_eq!((&done["verdict"], &done["backup"]), (&"fail_data".into(), &newest), "{done}");
}

#[test]
fn a_switch_of_the_timeline_and_moments_at_random_are_tried_too() {
    let mut shop = Shop::cluster();
    let first = shop.back_up()["backup"]["backup"].clone();
    shop.tick(1..11);
    let second = shop.back_up()["backup"]["backup"].clone();
    shop.tick(11..21);
    shop.archived();
    let moment = shop.drill(0, &["--point", "moment"]);
    let point = &moment["run"]["point"];
    assert_eq!((&moment["verdict"], &point["wanted"]), (&"pass".into(), &"moment".into()));
    // The same number chooses the same one again.
    let again = shop.drill(0, &["--point", "moment", "--seed", point["seed"].as_str().unwrap()]);
    for what in ["backup", "target"] {
        assert_eq!(again[what], moment[what], "{again}");
    }
    assert_eq!((&again["run"]["point"], &moment["backup"]), (point, &first), "{moment}");
    let (standby, _folder) = standby(&shop.server);
    caught_up(&shop.server, &standby);
    let (port, sockets) = (shop.server.port(), shop.server.socket_dir().display().to_string());
    shop.fail_over(standby);
    shop.site.replace(&format!("port = {port}"), &format!("port = {}", shop.server.port()));
    shop.site.replace(&sockets, &shop.server.socket_dir().display().to_string());
    give_away(&shop.site.config());
    shop.tick(21..31);
    let _ = shop.back_up();
    shop.tick(31..41);
    shop.archived();
    let done = shop.drill(0, &["--point", "timeline"]);
    assert_eq!((&done["verdict"], &done["backup"]), (&"pass".into(), &second), "{done}");
    assert_eq!(
        (&done["timeline"], &done["result"]["shows"]),
        (&2.into(), &shop.committed(40).into()),
        "{done}"
    );
    let none = shop.drill(3, &["--point", "suspect"]);
    assert_eq!(none["result"]["error"], "no_backup", "{none}");
}
