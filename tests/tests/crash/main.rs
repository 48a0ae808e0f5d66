//! `kill -9` of drctl at every named step and at random moments, then a start: no acknowledged
//! backup lost, no half one visible, nothing forgotten, the job's record true.

mod host;

use std::time::{Duration, Instant};

use drctl_tests::fake::Tools;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::until;
use rustix::process::{Pid, Signal, kill_process};

use host::Host;

/// The steps of a backup, and whether the manifest is in the bucket when it dies there.
const OF_A_BACKUP: &[(&str, bool)] = &[
    ("catalog-job-begun", false),
    ("backup-job-begun", false),
    ("backup-first-segment", false),
    ("backup-stream-stored", false),
    ("backup-before-manifest", false),
    ("backup-manifest-put", true),
    ("backup-manifest-read-back", true),
    ("catalog-before-commit", true),
    ("catalog-after-commit", true),
];

/// The steps of a rebuild of the catalog.
const OF_A_REBUILD: &[&str] = &["rebuild-before-rename", "rebuild-after-rename"];

#[test]
fn every_crash_point_is_tried_here() {
    let mut tried: Vec<&str> = OF_A_BACKUP.iter().map(|(point, _)| *point).collect();
    tried.extend(OF_A_REBUILD);
    let mut all = [drctl::CRASH_POINTS, drctl_catalog::CRASH_POINTS].concat();
    tried.sort_unstable();
    all.sort_unstable();
    assert_eq!(tried, all);
}

#[test]
fn a_crash_at_any_step_of_a_backup_loses_no_acknowledged_backup_and_shows_no_half_one() {
    let server = host::filled();
    for (point, committed) in OF_A_BACKUP {
        let host = Host::on(&server);
        let good = host.site.backup();
        host.crash(point, &["backup", "shop"]);
        let attempt = host.attempt();
        assert_eq!(host.site.manifests().len(), 1 + usize::from(*committed), "{point}");
        host.recovers(&[&good], Some((&attempt, *committed)));
    }
}

#[test]
fn a_crash_of_the_very_first_backup_leaves_a_host_that_backs_up() {
    let server = host::filled();
    for (point, committed) in OF_A_BACKUP {
        let host = Host::on(&server);
        host.crash(point, &["backup", "shop"]);
        let attempt = host.attempt();
        host.recovers(&[], Some((&attempt, *committed)));
    }
}

#[test]
fn a_strangers_manifest_in_a_dead_jobs_place_stops_no_later_backup() {
    let server = host::filled();
    let host = Host::on(&server);
    host.crash("backup-stream-stored", &["backup", "shop"]);
    let attempt = host.attempt();
    let place = host.site.path("repository/s/shop/b").join(&attempt).join("manifest.json");
    std::fs::write(place, "{}").unwrap();
    let good = host.site.backup();
    assert_eq!(host.listed(), [good]);
    assert_eq!(host.unsettled(), 0);
}

#[test]
fn crashes_one_after_the_other_are_all_settled() {
    let server = host::filled();
    let host = Host::on(&server);
    let good = host.site.backup();
    let mut committed = vec![good];
    for (point, is_committed) in OF_A_BACKUP {
        host.crash(point, &["backup", "shop"]);
        // Where the step is also one of settling the job before, this one came no further.
        let attempt = host.attempt();
        if *is_committed && host.committed().contains(&attempt) {
            committed.push(attempt);
        }
        assert_eq!(host.committed(), committed, "{point}");
    }
    let last = host.site.backup();
    committed.push(last);
    assert_eq!(host.listed(), committed);
    assert_eq!(host.unsettled(), 0);
    host.agrees();
}

#[test]
fn a_crash_at_any_step_of_a_rebuild_leaves_a_catalog_that_is_the_old_or_the_new_one() {
    let server = host::filled();
    for point in OF_A_REBUILD {
        let host = Host::on(&server);
        let ids = [host.site.backup(), host.site.backup()];
        let rows = host.site.rows();
        host.crash(point, &["catalog", "rebuild"]);
        assert_eq!(host.site.rows(), rows, "{point}");
        assert_eq!(host.site.status()["last_job"]["backup"], ids[1].as_str());
        let _ = host.site.json(0, &["catalog", "rebuild"]);
        assert_eq!(host.site.rows(), rows, "{point}");
        host.recovers(&[&ids[0], &ids[1]], None);
        assert_eq!(host.leftovers(), Vec::<String>::new(), "{point}");
    }
}

#[test]
fn a_crash_while_a_deleted_catalog_is_filled_again_loses_nothing() {
    let server = host::filled();
    let points = ["catalog-job-begun", "backup-before-manifest", "catalog-before-commit"];
    for point in [drctl_catalog::CLAIMED].into_iter().chain(points) {
        let host = Host::on(&server);
        let good = host.site.backup();
        for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
            let _ = std::fs::remove_file(host.site.path("state").join(file));
        }
        host.crash(point, &["backup", "shop"]);
        let attempt = host.attempt();
        // That it was deleted is told, whenever its filling died; here it is taken note of.
        assert_eq!(host.site.told("catalog_unknown").len(), 1, "{point}");
        std::fs::remove_file(host.site.path("state/catalog.db.forgotten")).unwrap();
        let died = (attempt.as_str(), point == "catalog-before-commit");
        host.recovers(&[&good], (attempt != good).then_some(died));
    }
}

/// Waits until a time after `began`, in steps that a busy machine does not stretch much.
fn at(began: Instant, moment: Duration) {
    until("a moment to come", || began.elapsed() >= moment);
}

#[test]
fn a_kill_at_any_moment_loses_no_acknowledged_backup_and_shows_no_half_one() {
    let server = host::filled();
    let host = Host::on(&server);
    let mut committed = vec![host.site.backup()];
    let began = Instant::now();
    committed.push(host.site.backup());
    let whole = began.elapsed();
    // Seeded, so that a failure can be tried again; the machine's own timing does the rest.
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..10 {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = whole.mul_f64(f64::from((random >> 32) as u32) / f64::from(u32::MAX));
        let mut child = host.site.command(&["--json", "backup", "shop"]);
        child.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
        let child = child.spawn().expect("start drctl");
        let began = Instant::now();
        at(began, moment);
        // It may have ended already: then it is a zombie, and takes no notice.
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        let output = child.wait_with_output().expect("wait for drctl");
        let acknowledged = output.status.success();
        let id = if acknowledged { Some(host::id_in(&output.stdout)) } else { None };
        let manifests = host.site.manifests();
        if let Some(id) = &id {
            assert!(manifests.iter().any(|path| path.to_string_lossy().contains(id)), "{id}");
        }
        let next = host.site.backup();
        committed = host.committed();
        assert!(id.is_none_or(|id| committed.contains(&id)) && committed.contains(&next));
        assert_eq!(host.listed(), committed);
        assert_eq!(host.unsettled(), 0);
    }
    assert!(committed.len() >= 12);
    host.agrees();
    host.no_session();
    let _ = host.site.json(0, &["verify", "--data"]);
}

#[test]
fn a_killed_drctl_leaves_no_session_and_no_password_file_for_good() {
    let server = Postgres::builder().password("canary").start();
    host::fill(&server);
    let (host, tools) = (Host::with_password(&server, "canary"), Tools::of(&server));
    host.site.source(&tools.line());
    tools.pause("pg_dump", 300_000);
    let mut child = host.site.command(&["backup", "shop"]);
    child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = child.spawn().expect("start drctl");
    tools.await_pause();
    assert_eq!(host.site.files("run").len(), 1, "the password file");
    child.kill().unwrap();
    child.wait().unwrap();
    tools.go_on();
    host.no_session();
    tools.honest("pg_dump");
    let _ = host.site.backup();
    assert!(host.site.files("run").is_empty(), "{:?}", host.site.files("run"));
}
