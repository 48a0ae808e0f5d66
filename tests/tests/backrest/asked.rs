//! What pgBackRest is asked for on the way to a recovery, and when.

use std::fs;

use drctl_tests::cluster::{Cluster as _, give_away, list, own_place, ticks};

use crate::common::Shop;

/// How often pgBackRest was called with this command since the last time.
fn called(shop: &Shop, command: &str) -> usize {
    let text = fs::read_to_string(shop.path("calls")).unwrap();
    text.lines().filter(|call| *call == command).count()
}

/// How often it was asked for a segment since the last time.
fn fetched(shop: &Shop) -> usize {
    let count = called(shop, "archive-get");
    fs::write(shop.path("calls"), "").unwrap();
    count
}

#[test]
fn a_plan_reads_the_segments_that_decide_and_no_others() {
    let shop = Shop::start();
    // Segments in which nothing is committed, before the backup and behind it.
    let large = "insert into ticks select n, repeat('x', 1000) from generate_series";
    shop.sql(&format!("{large}(1001, 9000) n"));
    let _ = shop.back_up();
    shop.tick(1..11);
    shop.archived();
    shop.sql(&format!("{large}(11001, 19000) n"));
    shop.tick(11..21);
    shop.archived();
    assert!(shop.segments().len() > 16, "{:?}", shop.segments());
    let log = shop.path("calls").display().to_string();
    fs::write(&log, "").unwrap();
    give_away(&shop.path("calls"));
    shop.instead_of_pgbackrest(&format!(
        "#!/bin/sh\necho \"$1\" >> {log}\nexec pgbackrest \"$@\"\n"
    ));
    let plan = |target: &[&str]| {
        let (_folder, path) = own_place();
        let to = path.display().to_string();
        let plan = [&["restore", "shop"], target, &["--to-directory", &to, "--plan"]].concat();
        shop.drctl(&plan).ended(0).json()
    };
    // The last segment tells where the log ends; each that is replayed is read once for what it asks.
    let found = plan(&["--to-end"]);
    assert_eq!(fetched(&shop), 12, "{found}");
    let found = plan(&["--to-end"]);
    assert_eq!(fetched(&shop), 1, "{found}");
    let time = shop.committed(5);
    let found = plan(&["--to-time", &time]);
    assert!((1..8).contains(&fetched(&shop)), "{found}");
    let _ = shop.drctl(&["status"]).ended(0);
    assert_eq!(called(&shop, "info"), 1, "what it said serves all that is told");
    assert_eq!(fetched(&shop), 1);
    fs::write(&log, "").unwrap();
    let _ = shop.drctl(&["verify", "shop"]).ended(0);
    assert_eq!(called(&shop, "info"), 1, "and all that is verified");
    assert_eq!(fetched(&shop), 0);
    // What is shown has times from the beginning.
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert!(fetched(&shop) > 1, "{view}");
}

#[test]
fn log_waits_for_the_server_before_the_base_backup_is_extracted() {
    let shop = Shop::start();
    let _ = shop.back_up();
    shop.segments_of_ten(4);
    let (_folder, path) = own_place();
    let to = path.display().to_string();
    // pgBackRest restores only when something waits.
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in restore)\n  n=0\n  until ls {to}/ahead | grep -Eq '^[0-9A-F]+[.][0-9a-f]+([.]quiet)?$'; do\n\
         n=$((n + 1)); [ $n -lt 600 ] || exit 1; sleep 0.1; done ;;\nesac\nexec pgbackrest \"$@\"\n"
    );
    shop.instead_of_pgbackrest(&script);
    let arguments = ["restore", "shop", "--to-end", "--promote", "--to-directory", &to];
    let _ = shop.drctl(&arguments).ended(0);
    assert_eq!(ticks(&path), list(1..41));
    assert!(!path.join("ahead").exists());
}

#[test]
fn a_point_older_than_the_copies_is_found_and_said_to_be_too_early() {
    let shop = Shop::start();
    shop.sql("select pg_create_restore_point('early')");
    shop.archived();
    let _ = shop.back_up();
    shop.tick(1..11);
    shop.archived();
    let (ran, _folder, path) = shop.recover(&["--to-name", "early"]);
    let said = ran.failed(5, "no_plan");
    assert!(said.contains("consistent at") && !path.exists(), "{said}");
}
