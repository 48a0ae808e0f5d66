//! What nobody knows has no series, and is not told as zero: neither as the year 1970 nor as a failure.

use std::collections::{BTreeMap, BTreeSet};

use drctl_tests::agent::Agent;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::until;

use crate::common::{NEVER, Shop};
use crate::log_index::site;
use crate::metrics::{looked, scrape, told_at};

/// What is known of a source that exists, and of which there is nothing else.
const OF_ANY: [&str; 4] = [
    "drctl_source_health",
    "drctl_source_unprotected",
    "drctl_backup_overdue",
    "drctl_retention_frozen",
];

/// What the first good backup makes known.
const OF_BACKED_UP: [&str; 10] = [
    "drctl_backup_last_success_timestamp_seconds",
    "drctl_backup_last_attempt_timestamp_seconds",
    "drctl_backup_plain_bytes",
    "drctl_backup_stored_bytes",
    "drctl_backup_duration_seconds",
    "drctl_source_stored_bytes",
    "drctl_source_unproven",
    "drctl_recoverable_from_timestamp_seconds",
    "drctl_recoverable_to_timestamp_seconds",
    "drctl_rpo_seconds",
];

/// The metrics that have a series of `shop` itself, but for what stands amiss with it.
fn of_source(told: &BTreeMap<String, f64>) -> BTreeSet<&str> {
    let of_it = told.keys().filter(|name| name.contains("source=\"shop\""));
    let of_it = of_it.filter(|name| !name.contains("kind=\""));
    let names = of_it.filter_map(|name| name.split('{').next());
    names.filter(|name| *name != "drctl_findings").collect()
}

/// A series of one job of `shop`.
fn of_job(metric: &str, job: &str) -> String {
    format!("{metric}{{source=\"shop\",kind=\"{job}\"}}")
}

/// Waits until a look tells of a good backup.
fn backed_up(port: u16) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    until("the backup to be told", || {
        found = scrape(port);
        of_source(&found).contains("drctl_backup_last_success_timestamp_seconds")
    });
    found
}

#[test]
fn a_dump_that_was_never_made_has_no_figures_but_that_there_is_none() {
    let shop = Shop::open(NEVER);
    let port = told_at(&shop.site);
    // It stands behind the other line of the agent's own table.
    shop.site.append("beat = \"0s\"\n");
    let agent = Agent::start(&shop.site);
    let before = looked(port);
    assert_eq!(of_source(&before), BTreeSet::from(OF_ANY));
    assert_eq!(before["drctl_source_unprotected{source=\"shop\"}"], 1.0);
    let ends = ["drctl_job_last_end_timestamp_seconds", "drctl_job_last_failed"];
    for metric in ends {
        assert!(!before.contains_key(&of_job(metric, "backup")), "{metric}");
    }
    // Nobody writes beats here.
    for metric in ["drctl_beat_timestamp_seconds", "drctl_beat_interval_seconds"] {
        assert!(!before.contains_key(metric), "{metric}");
    }
    let _ = agent.ends_anew("backup", "succeeded", || {
        let _ = shop.site.json(0, &["run", "shop"]);
    });
    let after = backed_up(port);
    // A dump has no WAL, no drill was run, and its policy promises nothing.
    let known: BTreeSet<&str> = OF_ANY.into_iter().chain(OF_BACKED_UP).collect();
    assert_eq!(of_source(&after), known);
    assert_eq!(after["drctl_source_unprotected{source=\"shop\"}"], 0.0);
    assert!(ends.iter().all(|metric| after.contains_key(&of_job(metric, "backup"))));
    let _ = agent.stop().ended(0);
}

#[test]
fn a_cluster_that_no_drill_and_no_verify_has_tried_is_unproven_and_has_no_date_of_either() {
    let server = Postgres::builder().start();
    let site = site(&server, "\n[verify]\nschedule = \"0 0 1 * *\"\nwithin = \"365d\"\n");
    site.source("checkpoint = \"fast\"");
    let port = told_at(&site);
    let agent = Agent::start(&site);
    let before = looked(port);
    for metric in OF_BACKED_UP {
        assert!(!of_source(&before).contains(metric), "{metric}");
    }
    let drilled = "drctl_drill_last_pass_timestamp_seconds";
    let ends = ["drctl_job_last_end_timestamp_seconds", "drctl_job_last_failed"];
    let runs = "drctl_job_runs_total{source=\"shop\",kind=\"verify\",outcome=\"succeeded\"}";
    let _ = agent.ends_anew("backup", "succeeded", || {
        let _ = site.json(0, &["run", "shop"]);
    });
    let after = backed_up(port);
    for told in [&before, &after] {
        assert!(!of_source(told).contains(drilled), "{drilled}");
        for metric in ends {
            assert!(!told.contains_key(&of_job(metric, "verify")), "{metric}");
        }
        // How often something happened is known, and is zero.
        assert_eq!(told[runs], 0.0);
    }
    assert_eq!(after["drctl_source_unproven{source=\"shop\"}"], 1.0);
    let _ = agent.ends_anew("verify", "succeeded", || {
        let _ = site.json(0, &["run", "shop", "verify"]);
    });
    let verified = scrape(port);
    assert_eq!(verified[runs], 1.0);
    assert!(ends.iter().all(|metric| verified.contains_key(&of_job(metric, "verify"))));
    assert_eq!(verified[&of_job("drctl_job_last_failed", "verify")], 0.0);
    assert!(!of_source(&verified).contains(drilled), "a verify is no drill");
    let _ = agent.stop().ended(0);
}
