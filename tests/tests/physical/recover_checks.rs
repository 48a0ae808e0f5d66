//! What is looked at before anything is copied.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use drctl::Setup;
use drctl::restore::cluster::{Choice, time_of};
use drctl::restore::recovery::{PlanNote, RecoveryRequest, Refusal, plan};
use drctl_policies::recovery::Target;
use drctl_tests::cluster::{
    Cluster as _, caught_up, give_away, list, own_place, place, standby, ticks,
};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Ran;

use crate::common::site;
use crate::log::{Archiving, several};
use crate::stream::point_at;

/// The server's programs, but for one that says that extensions and libraries lie elsewhere.
fn programs_without_extensions(server: &Postgres, at: &Path) {
    fs::create_dir(at).unwrap();
    for entry in fs::read_dir(server.bin_dir()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name != "pg_config" {
            symlink(&path, at.join(name)).unwrap();
        }
    }
    let nothing = at.join("nothing");
    fs::create_dir(&nothing).unwrap();
    let config = at.join("pg_config");
    fs::write(&config, format!("#!/bin/sh\necho {}\n", nothing.display())).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_host_without_the_extensions_is_refused_before_anything_is_copied() {
    let (shop, last) = several();
    let (folder, path) = place();
    programs_without_extensions(&shop.server, &folder.path().join("bin"));
    give_away(folder.path());
    let to = path.display().to_string();
    let restore = |more: &[&str]| {
        let all = ["restore", "shop", "--to-time", &last, "--to-directory", &to];
        shop.drctl(&[&all[..], more].concat())
    };
    let plan = restore(&["--plan"]).ended(0).json();
    assert_eq!(plan["checks"]["missing"].as_array().map(Vec::len), Some(0), "{plan}");
    assert!(plan["checks"]["refused"].is_null() && plan["estimate"]["fetch_seconds"].is_f64());
    shop.site.source(&format!("bin_dir = \"{}\"", folder.path().join("bin").display()));
    let plan = restore(&["--plan"]).ended(0).json();
    let missing = plan["checks"]["missing"][0].as_str().unwrap_or_default().to_owned();
    assert!(missing.contains("the extension plpgsql") && missing.contains("install"), "{plan}");
    let said = restore(&[]).failed(12, "target_unfit");
    assert!(said.contains("plpgsql") && said.contains("--despite-missing"), "{said}");
    assert!(!path.exists(), "nothing was touched");
    let _ = restore(&["--despite-missing", "--promote"]).ended(0);
    assert_eq!(ticks(&path), list(1..41));
}

#[test]
fn a_copy_records_what_its_cluster_needs_and_what_it_could_not_ask() {
    let server = Postgres::builder().conf("shared_preload_libraries", "auto_explain").start();
    server.psql("postgres", "create database hr");
    server.psql("postgres", "create database shop");
    server.psql("shop", "create schema x; create table x.t (id int)");
    let rules = server.data_dir().join("pg_hba.conf");
    let old = fs::read_to_string(&rules).unwrap();
    fs::write(&rules, format!("local hr all reject\n{old}")).unwrap();
    server.psql("postgres", "select pg_reload_conf()");
    let site = site(&server);
    let id = site.backup();
    let shown = site.json(0, &["show", &id]);
    let cluster = &shown["facts"]["cluster"];
    assert_eq!(cluster["libraries"][0], "auto_explain", "{cluster}");
    let find = |name: &str| {
        let all = cluster["databases"].as_array().unwrap();
        all.iter().find(|database| database["name"] == name).unwrap().clone()
    };
    assert_eq!(find("shop")["extensions"][0]["name"], "plpgsql", "{cluster}");
    assert_eq!(find("shop")["collate"], "C.UTF-8", "{cluster}");
    assert!(find("hr")["extensions"].is_null(), "{cluster}");
    let unknown = cluster["unknown"][0].as_str().unwrap_or_default();
    assert!(unknown.contains("the extensions of hr could not be asked for"), "{cluster}");
}

#[test]
fn a_recovered_cluster_does_nothing_to_its_source() {
    let shop = Archiving::start(true);
    let folder = own_place().0;
    let mark = |name: &str| folder.path().join(name);
    let touch = |name: &str| format!("touch {}", mark(name).display());
    // What the source's own file says is copied with it.
    let data = shop.server.data_dir();
    let mut lines = fs::read_to_string(data.join("postgresql.conf")).unwrap();
    for (name, value) in [
        ("archive_cleanup_command", touch("cleaned")),
        ("recovery_end_command", touch("ended")),
        ("recovery_min_apply_delay", "1h".to_owned()),
        ("recovery_target_name", "another".to_owned()),
        ("primary_conninfo", "host=127.0.0.1 port=1".to_owned()),
        ("data_directory", data.display().to_string()),
        ("external_pid_file", mark("pid").display().to_string()),
    ] {
        lines.push_str(&format!("{name} = '{value}'\n"));
    }
    fs::write(data.join("postgresql.conf"), lines).unwrap();
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shop.tick(1..11);
    shop.archived();
    let time = shop.committed(8);
    // From within a sandbox the source's places could not be reached anyway.
    for more in [&["--without-sandbox"][..], &[]] {
        let (ran, _folder, path) =
            shop.recover(&[&["--to-time", &time, "--promote"], more].concat());
        let told = ran.ended(0).json()["unfit_settings"].to_string();
        assert!(
            ["data_directory", "external_pid_file"].iter().all(|name| told.contains(name)),
            "{told}"
        );
        let left = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        assert_eq!(left.count(), 0);
        // Started by hand it is the operator's to correct what names the source's places.
        let conf = path.join("data/postgresql.conf");
        let own = fs::read_to_string(&conf).unwrap();
        let kept = own.lines().filter(|line| !line.starts_with("data_directory"));
        let own: String = kept.map(|line| format!("{line}\n")).collect();
        fs::write(&conf, own).unwrap();
        assert_eq!(ticks(&path), list(1..9));
        // The operator's server has written its number where that names.
        let _ = fs::remove_file(mark("pid"));
    }
    assert_eq!(shop.sql("select count(*) from ticks"), "10");
}

#[test]
fn a_plan_tells_how_long_only_where_it_was_measured() {
    let (shop, last) = several();
    let plan = || {
        let all = ["restore", "shop", "--to-time", &last, "--to-directory", "/x", "--plan"];
        shop.drctl(&all).ended(0).json()
    };
    assert!(plan()["estimate"]["replay_seconds"].is_null(), "{}", plan());
    let file = shop.site.path("state/replay-rate.json");
    for (text, known) in [
        ("{\"bytes\": 100000000, \"seconds\": 50.0}", true),
        // Too little to tell anything; and what is none.
        ("{\"bytes\": 1000, \"seconds\": 50.0}", false),
        ("{\"bytes\": 100000000, \"seconds\": 0}", false),
        ("nonsense", false),
    ] {
        fs::write(&file, text).unwrap();
        give_away(&file);
        let plan = plan();
        let seconds = plan["estimate"]["replay_seconds"].as_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let expected = plan["plan"]["log_bytes"].as_u64().unwrap() as f64 / 2e6;
        assert_eq!(seconds.is_some(), known, "{text}");
        assert!(seconds.is_none_or(|seconds| (seconds - expected).abs() < 0.01), "{plan}");
    }
}

#[test]
fn a_time_that_the_clock_shows_twice_is_refused_and_one_without_a_zone_is_told_in_both() {
    let (shop, last) = several();
    let restore = |time: &str| {
        let all = ["restore", "shop", "--to-time", time, "--to-directory", "/x", "--plan"];
        let mut command = shop.command(&all);
        let output = command.env("TZ", "Europe/Vienna").output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    for time in ["2026-10-25T02:30:00", "2026-03-29 02:30:00"] {
        let (code, said) = restore(time);
        assert!(code == Some(2) && said.contains("skipped or comes twice"), "{said}");
    }
    let zone = jiff::tz::TimeZone::get("Europe/Vienna").expect("tzdata is missing");
    let here = last.parse::<jiff::Timestamp>().unwrap().to_zoned(zone);
    let (code, said) = restore(&here.datetime().to_string());
    let local = here.strftime("%Y-%m-%d %H:%M:%S %Z").to_string();
    assert!(code == Some(0) && said.contains(&last) && said.contains(&local), "{said}");
}

#[test]
fn a_part_of_a_transaction_is_refused_with_its_whole_before_anything_is_touched() {
    let shop = Archiving::start(true);
    shop.back_up();
    shop.tick(1..6);
    // Each part writes, so that each has a number; the last one is rolled back by itself.
    let numbers = shop.sql(
        "begin; insert into ticks values (6, ''); select pg_current_xact_id(); \
         savepoint a; insert into ticks values (7, ''); savepoint b; \
         insert into ticks values (8, ''); release b; release a; \
         select xmin from ticks where id in (7, 8) order by id; commit",
    );
    shop.tick(9..11);
    let aborted = shop.sql(
        "begin; insert into ticks values (11, ''); select pg_current_xact_id(); \
         savepoint a; insert into ticks values (12, ''); \
         select xmin from ticks where id = 12; rollback",
    );
    shop.tick(13..15);
    shop.archived();
    let numbers: Vec<&str> = numbers.lines().chain(aborted.lines()).collect();
    let [whole, a, b, whole_aborted, part_aborted] = numbers[..] else { panic!("{numbers:?}") };
    // Of what was rolled back the log tells each part by itself: the server stops there.
    assert_ne!(part_aborted, whole_aborted);
    let (ran, ..) = shop.recover(&["--to-xid", part_aborted]);
    let _ = ran.ended(0);
    for (part, of) in [(a, whole), (b, whole)] {
        for flag in ["--to-xid", "--before-xid"] {
            let (ran, _folder, path) = shop.recover(&[flag, part]);
            let said = ran.failed(5, "no_plan");
            assert!(said.contains(&format!("{flag} {of}")) && !path.exists(), "{said}");
        }
    }
    let planned =
        shop.drctl(&["restore", "shop", "--to-xid", a, "--to-directory", "x", "--plan"]).ended(0);
    let planned = planned.json();
    let refused = planned["checks"]["refused"].as_str().expect("a reason");
    assert!(refused.contains(whole), "{refused}");
    let (ran, _folder, path) = shop.recover(&["--to-xid", whole, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..9));
}

#[test]
fn transactions_in_the_last_segment_of_a_standbys_copy_are_reached_by_their_numbers() {
    let shop = Archiving::start(true);
    let (standby, _folder) = standby(&shop.server);
    shop.tick(1..6);
    shop.sql("checkpoint");
    caught_up(&shop.server, &standby);
    point_at(&shop, &standby);
    let base = shop.back_up()["backup"]["backup"].clone();
    point_at(&shop, &shop.server);
    let segment = "select pg_walfile_name(pg_current_wal_insert_lsn())";
    let last = shop.sql(segment);
    shop.tick(6..9);
    assert_eq!(shop.sql(segment), last, "they are in the segment in which the base backup ended");
    assert!(shop.archived() == last);
    let number = |id: u32| shop.sql(&format!("select xmin from ticks where id = {id}"));
    for (flag, id, held) in [("--to-xid", 6, 1..7), ("--before-xid", 8, 1..8)] {
        let (ran, _folder, path) = shop.recover(&[flag, &number(id), "--promote"]);
        assert_eq!(ran.ended(0).json()["base"], base, "{flag} of {id}");
        assert_eq!(ticks(&path), list(held), "{flag} of {id}");
    }
}

#[test]
fn a_recovery_is_planned_by_verbs_that_need_no_command_line() {
    let (shop, last) = several();
    let (_folder, path) = place();
    let to = ["--to-time", &last, "--to-directory", &path.display().to_string(), "--plan"];
    let wanted = shop.drctl(&[&["restore", "shop"][..], &to].concat()).ended(0).json();
    // As a drill or a daemon would ask.
    let request = |target: Target, confirmed: Option<&str>| RecoveryRequest {
        source: "shop".parse().unwrap(),
        target,
        timeline: None,
        system_id: None,
        backup: None,
        directory: None,
        identity: None,
        then: Choice::Stop,
        confirmed: confirmed.map(str::to_owned),
        accept_loss: false,
        despite_missing: false,
        without_sandbox: false,
        limits: None,
        preload: Vec::new(),
        resume: false,
    };
    let setup = Setup::load(&shop.site.config()).unwrap();
    let work = async {
        let mut notes = Vec::new();
        let mut tell = |note: PlanNote| notes.push(format!("{note:?}"));
        let target = Target::Time(time_of(&last).unwrap());
        let request_of_it = request(target.clone(), Some("another"));
        let planned = plan(&setup, request_of_it, &mut tell).await.unwrap().unwrap();
        assert_eq!(wanted["digest"], planned.digest.as_str());
        assert_eq!(wanted["plan"], serde_json::to_value(&planned.plan).unwrap());
        assert_eq!(wanted["signed_by"].as_str(), planned.signer().as_deref());
        assert_eq!(planned.complete(), Ok(()));
        let (digest, confirmed) = (planned.digest.clone(), "another".to_owned());
        assert_eq!(planned.confirmed(), Err(Refusal::Changed { digest, confirmed, grows: false }));
        let nowhere = Target::Name("nowhere".to_owned());
        let refused = plan(&setup, request(nowhere.clone(), None), &mut tell).await.unwrap();
        let Err(Refusal::NoPlan { no, elsewhere, lived, bad, .. }) = refused else {
            panic!("a plan")
        };
        assert_eq!((no.target, elsewhere, lived, bad), (nowhere, Vec::new(), None, None));
        assert_eq!(notes, Vec::<String>::new());
    };
    tokio::runtime::Runtime::new().unwrap().block_on(work);
}

#[test]
fn a_recovery_makes_nothing_where_others_could_replace_it() {
    let (shop, last) = several();
    let (folder, path) = own_place();
    let to = path.display().to_string();
    let below = |name: &str, mode: u32| {
        let at = folder.path().join(name);
        fs::create_dir(&at).unwrap();
        give_away(&at);
        fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
        at
    };
    let open = below("open", 0o777);
    let extract: &[&str] = &["--extract", "postgres:public.ticks"];
    for (temporary, more, code) in [
        (open.clone(), extract, "not_private"),
        (below("open/ours", 0o700), &[][..], "not_private"),
        (below(&"x".repeat(90), 0o700), &[], "temporary_directory"),
        (below("a,b", 0o700), extract, "temporary_directory"),
        (below("c,d", 0o700), &["--open"], "temporary_directory"),
    ] {
        let all = ["--json", "restore", "shop", "--to-time", &last, "--to-directory", &to];
        let mut command = shop.command(&[&all[..], more].concat());
        let ran = Ran::of(&command.env("TMPDIR", &temporary).output().unwrap());
        let said = ran.failed(7, code);
        assert!(said.contains("set TMPDIR"), "{said}");
        assert!(!path.exists(), "nothing was extracted: {}", temporary.display());
        assert_eq!(fs::read_dir(&open).unwrap().count(), usize::from(open.join("ours").exists()));
    }
    // In a directory like /tmp what is ours is ours.
    let sticky = below("sticky", 0o1777);
    let all = ["--json", "restore", "shop", "--to-time", &last, "--to-directory", &to];
    let mut command = shop.command(&all);
    let _ = Ran::of(&command.env("TMPDIR", sticky).output().unwrap()).ended(0);
}

#[test]
fn a_cluster_with_more_buffers_than_this_host_has_memory_is_recovered() {
    let (shop, _) = several();
    shop.sql("alter system set shared_buffers = '4000GB'");
    let _ = shop.back_up();
    shop.tick(50..60);
    shop.archived();
    let (folder, path) = own_place();
    let to = path.display().to_string();
    let last = shop.committed(59);
    let ran = shop.drctl(&["restore", "shop", "--to-time", &last, "--to-directory", &to]);
    let ran = ran.ended(0);
    assert!(
        ran.err.contains("the source's shared_buffers = 4000GB is too much for this host"),
        "{}",
        ran.err
    );
    drop(folder);
}

#[test]
fn a_restore_around_a_place_of_a_tablespace_goes_elsewhere() {
    let (shop, _) = several();
    let (folder, _) = own_place();
    let make = |name: &str| {
        let at = folder.path().join(name);
        fs::create_dir(&at).unwrap();
        give_away(&at);
        fs::set_permissions(&at, fs::Permissions::from_mode(0o700)).unwrap();
        at
    };
    let (known, made) = (make("known"), make("made"));
    shop.sql(&format!("create tablespace known location '{}'", known.display()));
    let _ = shop.back_up();
    shop.sql(&format!("create tablespace made location '{}'", made.display()));
    shop.tick(50..60);
    shop.archived();
    let last = shop.committed(59);
    shop.sql("drop tablespace known");
    shop.sql("drop tablespace made");
    let restore = |at: &Path| {
        let to = at.join("restored").display().to_string();
        shop.drctl(&["restore", "shop", "--to-time", &last, "--to-directory", &to])
    };
    let said = restore(&known).failed(12, "target_unfit");
    assert!(said.contains("where the source has a tablespace"), "{said}");
    assert!(!known.join("restored").exists(), "nothing was done");
    let ran = restore(&made);
    assert_eq!(ran.code, Some(10), "{}{}", ran.out, ran.err);
    let said = ran.json()["messages"].to_string();
    assert!(said.contains("elsewhere") && said.contains("--to-directory NEW"), "{said}");
    assert!(!said.contains("--resume"), "the same again fails again: {said}");
}
