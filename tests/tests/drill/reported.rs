//! What reports say of drills.

use std::collections::BTreeSet;

use drctl_tests::cluster::Cluster as _;
use serde_json::Value;

use crate::common::Shop;
use crate::scheduled::with_drills_at;

/// A shop with a drill due each night, of which two were run, and another one by hand.
fn drilled() -> Shop {
    let shop = Shop::open();
    with_drills_at(&shop, "0 3 * * *", "");
    shop.back_up_days_ago(12);
    let _ = shop.days_ago(6, &["drill", "run", "shop"]).ended(0);
    let _ = shop.days_ago(4, &["drill", "run", "shop"]).ended(0);
    shop.with_script("pg_restore", "LC_ALL=C sed 's/order 17$/order 71/' | exec \"$REAL\" \"$@\"");
    let _ = shop.days_ago(4, &["drill", "run", "shop"]).ended(4);
    shop
}

fn report(shop: &Shop, period: &str, format: &str) -> String {
    let asked = ["report", "shop", "--period", period, "--format", format];
    let ran = shop.command(&asked).output();
    let ran = ran.expect("start drctl");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).expect("text")
}

#[test]
fn each_drill_that_was_due_is_reported_also_where_none_was_run() {
    let shop = drilled();
    let told: Value = serde_json::from_str(&report(&shop, "10d", "json")).unwrap();
    let drills = &told["sources"][0]["drills"];
    let all = drills["all"].as_array().expect("a list");
    let of = |is: &dyn Fn(&Value) -> bool| all.iter().filter(|one| is(one)).count();
    let due = of(&|one| !one["due"].is_null());
    let ran = of(&|one| !one["drill"].is_null());
    let by_hand = of(&|one| one["due"].is_null());
    assert_eq!((ran, by_hand), (3, 1), "{drills}");
    // The last one may still come: less than a day has passed.
    assert_eq!(drills["missed"].as_u64(), Some(due as u64 - 2 - 1), "{drills}");
    assert!((9..=11).contains(&due), "{drills}");
    let verdicts: BTreeSet<&str> =
        all.iter().filter_map(|one| one["drill"]["verdict"].as_str()).collect();
    assert_eq!(verdicts, ["fail_data", "pass"].into());
    // One of one is proven, and two drills foretell.
    assert_eq!(drills["proven"], serde_json::json!({ "days_30": 1, "days_90": 1, "kept": 1 }));
    assert_eq!(drills["forecast"]["drills"], 2, "{drills}");
    let text = report(&shop, "10d", "text");
    let failed = shop.told("drill_failed");
    assert_eq!(
        (failed.len(), told["sources"][0]["health"].as_str()),
        (1, Some("attention")),
        "{failed:?} {told}"
    );
    assert!(text.contains("drills: 2 passed, 1 FAILED, "), "{text}");
    assert!(text.contains(" MISSED; of 1 backup good, 1 proven in 30 days, 1 in 90"), "{text}");
    // What was not run yet is no miss, and what is over tells no more than was in it.
    let month = report(&shop, "2001-02", "json");
    let month: Value = serde_json::from_str(&month).unwrap();
    assert_eq!(month["sources"][0]["drills"]["all"].as_array().map(Vec::len), Some(28), "{month}");
}

#[test]
fn a_page_needs_no_other_file_and_tells_the_same() {
    let shop = drilled();
    let page = report(&shop, "10d", "html");
    for needed in [
        "<!DOCTYPE html>",
        "<svg",
        "MISSED: none was run",
        "FAIL DATA: ",
        "@media print",
        "by hand",
    ] {
        assert!(page.contains(needed), "{needed}: {page}");
    }
    for foreign in ["http", "<script", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    // Nothing of the data is named.
    assert!(!page.contains("orders"), "{page}");
    let marked = report(&shop, "10d", "md");
    let rows = |text: &str, what: &str| text.matches(what).count();
    for what in ["MISSED: none was run", "FAIL DATA: ", "PASS: "] {
        assert_eq!(rows(&page, what), rows(&marked, what), "{what}: {marked}");
        assert!(rows(&marked, what) > 0, "{what}: {marked}");
    }
}
