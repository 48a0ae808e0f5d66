//! Streams of log and drills are jobs: on record from their beginning, however they end.

use std::fs;

use drctl_tests::cluster::{Cluster as _, own_place};
use serde_json::Value;

use crate::log::{Archiving, several};
use crate::streaming::{Streaming, shipped};

/// What `status` tells of the last job of a kind: how it stands, and whether it runs.
fn last(shop: &Archiving, kind: &str) -> (String, Value) {
    let status = shop.drctl(&["status"]).ended(0).json();
    let jobs = status["sources"][0]["jobs"].as_array().unwrap().clone();
    let job = jobs.into_iter().find(|job| job["kind"] == kind).unwrap_or_default();
    (job["state"].as_str().unwrap_or("none").to_owned(), job["running"].clone())
}

/// The texts by a code.
fn told(shop: &Archiving, code: &str) -> String {
    shop.told(code).iter().map(|one| format!("{} {}", one["health"], one["text"])).collect()
}

#[test]
fn a_stream_of_log_is_a_job_however_it_ends() {
    let shop = Archiving::start(false);
    let mut streaming = Streaming::start(&shop, &["--interval", "1"]);
    let _ = shop.back_up();
    shop.tick(1..4);
    shipped(&shop.server);
    assert_eq!(last(&shop, "log_stream"), ("running".to_owned(), true.into()));
    assert_eq!(told(&shop, "log_stream_ended"), "");
    streaming.kill();
    assert_eq!(last(&shop, "log_stream"), ("running".to_owned(), false.into()));
    let said = told(&shop, "log_stream_ended");
    assert!(said.contains("the process of the last log stream") && said.contains("died"), "{said}");
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    assert!(
        streaming.said().contains("an earlier log stream of shop died"),
        "{}",
        streaming.said()
    );
    assert_eq!(last(&shop, "log_stream"), ("running".to_owned(), true.into()));
    assert_eq!(told(&shop, "log_stream_ended"), "");
    assert_eq!(streaming.end(), Some(130));
    assert_eq!(last(&shop, "log_stream").0, "cancelled");
    let said = told(&shop, "log_stream_ended");
    assert!(said.starts_with("\"good\"") && said.contains("`wal stream` was stopped at"), "{said}");
    let (repository, aside) = (shop.site.path("repository"), shop.site.path("aside"));
    fs::rename(&repository, &aside).unwrap();
    let mut streaming = Streaming::launch(&shop, &[]);
    assert_eq!(streaming.ended(), Some(8));
    fs::rename(&aside, &repository).unwrap();
    assert_eq!(last(&shop, "log_stream").0, "failed");
    let said = told(&shop, "log_stream_ended");
    assert!(said.contains("the last log stream, begun at") && said.contains("failed: "), "{said}");
}

#[test]
fn a_drill_is_a_job_however_it_ends() {
    let (shop, _) = several();
    let (ran, _folder, _) = shop.recover(&["--to-end", "--drill"]);
    let _ = ran.ended(0);
    assert_eq!(last(&shop, "drill").0, "succeeded");
    assert_eq!(last(&shop, "restore").0, "none");
    let (_folder, path) = own_place();
    let to = path.display().to_string();
    let drill = ["restore", "shop", "--to-end", "--drill", "--to-directory", &to];
    let mut command = shop.command(&drill);
    let killed = command.env("DRCTL_CRASH_AT", "recovery-begun").output().unwrap();
    assert_eq!(killed.status.code(), None);
    assert_eq!(last(&shop, "drill"), ("running".to_owned(), false.into()));
    let said = told(&shop, "drill_failed");
    assert!(said.contains("the process of the last drill") && said.contains("died"), "{said}");
    let (repository, aside) = (shop.site.path("repository"), shop.site.path("aside"));
    fs::rename(&repository, &aside).unwrap();
    let (ran, _folder, _) = shop.recover(&["--to-end", "--drill"]);
    let _ = ran.ended(8);
    let (ran, _folder, _) = shop.recover(&["--to-end"]);
    let _ = ran.ended(8);
    fs::rename(&aside, &repository).unwrap();
    assert_eq!(last(&shop, "drill").0, "failed");
    assert_eq!(last(&shop, "restore").0, "failed");
    let said = told(&shop, "drill_failed");
    assert!(said.starts_with("\"good\"") && said.contains("failed: "), "{said}");
    let (ran, _folder, _) = shop.recover(&["--to-end", "--drill"]);
    let _ = ran.ended(0);
    assert_eq!(told(&shop, "drill_failed"), "");
}
