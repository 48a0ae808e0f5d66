//! Roles that may do little, and what doctor says of those that may do all.

use drctl_tests::cluster::{Cluster as _, standby};
use drctl_tests::site::until;
use serde_json::Value;

use crate::clocks::moved_to;
use crate::log::Archiving;
use crate::streaming::Streaming;

/// What doctor found under this name: its level, and its words.
fn finding(shop: &Archiving, check: &str) -> Option<(String, String)> {
    let found = shop.drctl(&["doctor"]).json();
    let all = found["findings"].as_array().expect("findings");
    let one = all.iter().find(|one| one["check"] == check)?;
    let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
    Some((text("level"), format!("{} {}", text("text"), text("hint"))))
}

#[test]
fn a_role_that_may_replicate_and_no_more_is_enough_for_all() {
    let shop = Archiving::start(true);
    let (level, text) = finding(&shop, "source.shop.role").expect("a superuser is told of");
    assert_eq!(level, "warning");
    assert!(text.contains("REPLICATION"), "{text}");
    // Nor may it log in where there is nothing to back up.
    shop.sql(
        "create role copier login replication; revoke connect on database postgres from public; \
         grant connect on database postgres to copier",
    );
    shop.site.replace("user = \"postgres\"", "user = \"copier\"");
    assert_eq!(finding(&shop, "source.shop.role"), None);
    shop.back_up();
    shop.tick(1..11);
    shop.archived();
    let _ = shop.drctl(&["verify", "--data"]).ended(0);
    let drill = ["--to-end", "--drill", "--extract", "postgres:public.ticks"];
    let (ran, _folder, _) = shop.recover(&drill);
    let done = ran.ended(0).json();
    assert_eq!(done["extracted"][0]["rows"], 10, "{done}");
    let (ran, _folder, _) = shop.recover(&["--to-end", "--extract", "postgres:public.nothing"]);
    let said = ran.failed(5, "no_table");
    assert!(said.contains("does not exist at this point"), "{said}");
}

#[test]
fn a_role_that_may_only_replicate_hears_of_an_archiver_that_fails() {
    let shop = Archiving::start(false);
    shop.sql("create role copier login replication; select pg_switch_wal()");
    until("a failure to archive", || {
        shop.sql("select failed_count > 0 from pg_stat_archiver") == "t"
    });
    shop.site.replace("user = \"postgres\"", "user = \"copier\"");
    let log = || {
        let found = shop.drctl(&["doctor"]).json();
        let all = found["findings"].as_array().expect("findings").clone();
        let told = |one: &Value| {
            format!("{}: {} {}", one["level"], one["text"], one["hint"]).replace("\\\"", "'")
        };
        let ours = all.iter().filter(|one| one["check"] == "source.shop.log");
        ours.map(told).collect::<Vec<_>>().join("\n")
    };
    let said = log();
    assert!(said.contains("\"bad\": \"the server cannot archive 0000000100000000"), "{said}");
    assert!(said.contains("copier may not see how much WAL waits"), "{said}");
    assert!(said.contains("GRANT pg_monitor TO 'copier';"), "{said}");
    let streaming = Streaming::start(&shop, &[]);
    until("the stream to tell of it", || streaming.said().contains("the server cannot archive"));
    let _ = streaming.end();
    shop.sql("grant pg_monitor to copier");
    assert!(!log().contains("may not see"), "{}", log());
}

#[test]
fn doctor_tells_of_a_history_that_is_missing() {
    let mut shop = Archiving::start(true);
    assert_eq!(finding(&shop, "source.shop.history"), None, "the first timeline has none");
    let (second, _folder) = standby(&shop.server);
    shop.server.crash();
    second.psql("postgres", "select pg_promote()");
    moved_to(&mut shop, second);
    shop.tick(1..11);
    shop.archived();
    let (level, text) = finding(&shop, "source.shop.history").expect("it is looked for");
    assert_eq!(level, "good", "{text}");
    let files = shop.site.files("repository");
    let stored = files.iter().find(|path| path.ends_with("history")).expect("a history");
    std::fs::remove_file(shop.site.path("repository").join(stored)).expect("remove it");
    let (level, text) = finding(&shop, "source.shop.history").expect("it is looked for");
    assert_eq!(level, "warning", "{text}");
    assert!(text.contains("00000002.history") && text.contains("drctl wal push shop"), "{text}");
}
