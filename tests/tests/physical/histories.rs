//! Two histories under one source, and log that is there and leads nowhere.

use std::path::{Path, PathBuf};
use std::process::Command;

use drctl_tests::cluster::{Cluster as _, caught_up, list, open_folder, place, standby, ticks};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, until};
use tempfile::TempDir;

use crate::clocks::moved_to;
use crate::log::Archiving;
use crate::refused::is_told;
use crate::streaming::{Streaming, shipped};

/// A clone of the server, on the same timeline, which archives nowhere.
fn clone(shop: &Archiving) -> (Postgres, TempDir) {
    let folder = open_folder("drctl-clone-");
    let data = folder.path().join("clone");
    let mut copy = shop.server.client("pg_basebackup");
    let copied = copy.args(["-c", "fast", "-D"]).arg(&data).status();
    assert!(copied.expect("start pg_basebackup").success());
    let clone = Postgres::builder().data(&data).start();
    clone.psql("postgres", "alter system set archive_command = 'true'; select pg_reload_conf()");
    (clone, folder)
}

/// Writes until the server is in a later segment than this one, and all before is archived.
fn writes_past(server: &Postgres, segment: &str) {
    let current = "select pg_walfile_name(pg_current_wal_lsn())";
    while server.psql("postgres", current).as_str() <= segment {
        server.psql(
            "postgres",
            "create table if not exists other (id int); insert into other values (1)",
        );
        server.psql("postgres", "select pg_switch_wal()");
        server.psql("postgres", "insert into other values (2)");
    }
    let archived = "select coalesce(last_archived_wal, '') from pg_stat_archiver";
    until("it to be archived", || server.psql("postgres", archived).as_str() >= segment);
}

/// Writes other log than the bucket holds up to `written`, in step with it: a stream of it is refused.
fn stream_in_step(shop: &Archiving, written: &str, before: &[PathBuf]) {
    let ahead = format!("select pg_current_wal_flush_lsn() > '{written}'::pg_lsn + 4096");
    let mut id = 1000;
    while shop.sql(&ahead) != "t" {
        shop.tick(id..id + 5);
        id += 5;
    }
    let said = Streaming::refused(shop, written).failed(4, "log_other_history");
    assert!(said.contains("two histories of one cluster"), "{said}");
    assert_eq!(shop.pieces(), before);
    is_told(shop, &format!("streamed from {}", shop.server.socket_dir().display()));
}

#[test]
fn log_of_a_clone_is_not_stored_behind_the_log_of_its_original() {
    let mut shop = Archiving::start(true);
    shop.tick(1..11);
    shop.back_up();
    let (other, _folder) = clone(&shop);
    shop.tick(11..21);
    let last = shop.archived();
    let command = shop.sql("show archive_command");
    shop.server.stop();
    let last = shop
        .pieces()
        .iter()
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.split_once('-')?.0.to_owned();
            u64::from_str_radix(&name, 16).ok()
        })
        .max()
        .map_or(last, |start| {
            format!("00000001{:08X}{:08X}", start >> 32, (start & 0xffff_ffff) >> 20)
        });
    writes_past(&other, &last);
    let before = shop.pieces();
    other.psql(
        "postgres",
        &format!("alter system set archive_command = '{command}'; select pg_reload_conf()"),
    );
    other.psql("postgres", "insert into ticks values (99, ''); select pg_switch_wal()");
    // What is to be done stands below what failed.
    until("the clone's log to be refused", || other.log().contains("is a clone, or was set back"));
    assert!(other.log().contains("two histories"), "{}", other.log());
    assert_eq!(shop.pieces(), before);
    is_told(&shop, &format!("pushed from {}", other.data_dir().display()));
    moved_to(&mut shop, other);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..21));
}

#[test]
fn a_stream_of_a_clone_in_step_is_refused_before_anything_is_stored() {
    let mut shop = Archiving::start(false);
    let mut streaming = Streaming::start(&shop, &["--interval", "1"]);
    shop.tick(1..11);
    shop.back_up();
    let (other, _folder) = clone(&shop);
    shop.tick(11..31);
    shipped(&shop.server);
    streaming.kill();
    let written = shop.sql("select pg_current_wal_flush_lsn()");
    shop.server.crash();
    let before = shop.pieces();
    moved_to(&mut shop, other);
    // In step, and with other rows.
    stream_in_step(&shop, &written, &before);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..31));
}

#[test]
fn a_copy_of_a_clone_is_told_and_not_joined_with_the_log_of_its_original() {
    let mut shop = Archiving::start(true);
    shop.tick(1..11);
    let first = shop.back_up()["backup"]["backup"].clone();
    let (other, _folder) = clone(&shop);
    // The clone's base backup begins with a segment of its own.
    for from in [11, 14, 17] {
        shop.tick(from..from + 3);
        shop.archived();
    }
    shop.tick(20..21);
    shop.archived();
    shop.server.stop();
    moved_to(&mut shop, other);
    shop.tick(51..56);
    let notes = shop.back_up()["notes"].to_string();
    assert!(notes.contains("CONFLICT"), "{notes}");
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    let bases = &view["timelines"][0]["bases"];
    assert_eq!(
        (&bases[0]["other_history"], &bases[1]["other_history"]),
        (&false.into(), &true.into()),
        "{view}"
    );
    let status = shop.drctl(&["status", "--check"]).ended(3).json();
    assert!(status["sources"][0]["log"]["gaps"].to_string().contains("other_history"), "{status}");
    // The clone's rows are not in it: who asks for everything is told before anything is done.
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    assert!(ran.failed(5, "no_plan").contains("another history") && !path.exists());
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote", "--accept-loss"]);
    let done = ran.ended(0).json();
    assert_eq!((&done["base"], ticks(&path)), (&first, list(1..21)));
}

/// Goes on for a while, and is set back to what its disk held before: on the same timeline.
pub(crate) fn set_back(shop: &mut Archiving, meanwhile: impl FnOnce(&Archiving)) {
    let data = shop.server.data_dir().to_owned();
    let kept = data.with_extension("snapshot");
    let copy = |from: &Path, to: &Path| {
        let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(copied.expect("start cp").success());
    };
    shop.server.stop();
    copy(&data, &kept);
    shop.server.start_again();
    meanwhile(shop);
    shop.server.crash();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&kept, &data);
    shop.server.start_again();
}

#[test]
fn a_cluster_that_was_set_back_does_not_push_over_its_own_future() {
    let mut shop = Archiving::start(true);
    shop.tick(1..11);
    shop.back_up();
    shop.tick(11..16);
    shop.archived();
    set_back(&mut shop, |shop| {
        shop.tick(16..21);
        shop.archived();
    });
    let before = shop.pieces();
    shop.tick(101..106);
    shop.sql("select pg_switch_wal()");
    until("its WAL to be refused", || shop.server.log().contains("other WAL"));
    let failed = || shop.sql("select failed_count > 0 from pg_stat_archiver");
    until("the server to know it", || failed() == "t");
    assert_eq!(shop.pieces(), before, "nothing was overwritten, nothing was joined");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..21));
}

#[test]
fn a_cluster_that_was_set_back_is_not_streamed_onto_its_own_future() {
    let mut shop = Archiving::start(false);
    let mut streaming = Streaming::start(&shop, &["--interval", "1"]);
    shop.tick(1..11);
    shop.back_up();
    shipped(&shop.server);
    let mut written = String::new();
    set_back(&mut shop, |shop| {
        shop.tick(11..21);
        shipped(&shop.server);
        streaming.kill();
        written = shop.sql("select pg_current_wal_flush_lsn()");
    });
    let before = shop.pieces();
    // In step with what is stored, and with other rows.
    stream_in_step(&shop, &written, &before);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..21));
}

#[test]
fn a_cluster_that_was_set_back_is_not_streamed_where_its_newest_segments_look_the_same() {
    let mut shop = Archiving::start(false);
    // Nothing else writes.
    for setting in ["autovacuum = off", "bgwriter_delay = '10s'", "checkpoint_timeout = '1d'"] {
        shop.sql(&format!("alter system set {setting}; select pg_reload_conf()"));
    }
    let mut streaming = Streaming::start(&shop, &["--interval", "1"]);
    shop.tick(1..11);
    shop.back_up();
    shipped(&shop.server);
    // Rows in one segment; the records behind it have neither time nor transaction.
    let alike = |shop: &Archiving, first: u32| {
        shop.tick(first..first + 5);
        for _ in 0..3 {
            shop.sql("select pg_switch_wal()");
            shop.sql("select pg_logical_emit_message(false, 'a', 'b')");
        }
    };
    let (mut written, mut differs) = (String::new(), String::new());
    set_back(&mut shop, |shop| {
        differs = shop.sql("select pg_walfile_name(pg_current_wal_lsn())");
        alike(shop, 101);
        shipped(&shop.server);
        streaming.kill();
        written = shop.sql("select pg_current_wal_flush_lsn()");
    });
    let before = shop.pieces();
    alike(&shop, 201);
    let said = Streaming::refused(&shop, &written).failed(4, "log_other_history");
    let (high, segment) = (&differs[8..16], &differs[21..24]);
    let named = format!("/{high}{segment}").to_lowercase();
    assert!(said.contains(&named), "it is the segment with the rows, {named}: {said}");
    assert_eq!(shop.pieces(), before);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), format!("{},{}", list(1..11), list(101..106)));
}

/// Where a segment of 1 MiB ends.
fn end_of(segment: &str) -> String {
    let number = |range| u64::from_str_radix(&segment[range], 16).unwrap();
    let end = (number(8..16) << 32) + ((number(16..24) + 1) << 20);
    format!("{:X}/{:X}", end >> 32, end & 0xffff_ffff)
}

/// A cluster whose WAL is pushed up to a segment's end, is set back, and writes other rows, and other
/// records besides, until it is in the next segment.
fn set_back_at_a_segments_end(besides: &str) -> (Archiving, String) {
    let mut shop = Archiving::start(true);
    shop.sql("alter system set wal_keep_size = '64MB'");
    shop.sql("alter system set checkpoint_timeout = '1d'; alter system set autovacuum = off");
    shop.tick(1..11);
    shop.back_up();
    shop.tick(11..16);
    shop.archived();
    let mut last = String::new();
    set_back(&mut shop, |shop| {
        shop.tick(16..21);
        last = shop.archived();
    });
    shop.sql("alter system set archive_command = 'true'; select pg_reload_conf()");
    let current = "select pg_walfile_name(pg_current_wal_lsn())";
    shop.tick(116..121);
    shop.sql(besides);
    while shop.sql(current) <= last {
        shop.sql("select pg_switch_wal()");
        shop.sql("insert into ticks select max(id) + 1, '' from ticks");
    }
    // A new slot keeps nothing of what lies before.
    shop.sql("checkpoint");
    (shop, last)
}

/// Waits until the server has removed a segment.
fn removed(shop: &Archiving, segment: &str) {
    shop.sql("alter system set wal_keep_size = 0; select pg_reload_conf()");
    let there = format!("select count(*) from pg_ls_waldir() where name = '{segment}'");
    until("the server to remove its log", || {
        shop.sql("insert into ticks select max(id) + 1, '' from ticks; checkpoint");
        shop.sql(&there) == "0"
    });
}

/// Nothing of its log is stored, and what was stored before comes back.
fn is_refused(shop: &Archiving, last: &str) {
    let before = shop.pieces();
    let said = Streaming::refused(shop, &end_of(last)).failed(4, "log_other_history");
    assert!(said.contains("two histories of one cluster"), "{said}");
    assert_eq!(shop.pieces(), before);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..21));
}

#[test]
fn a_cluster_that_was_set_back_is_not_streamed_behind_a_segments_end() {
    let (shop, last) = set_back_at_a_segments_end("");
    is_refused(&shop, &last);
}

#[test]
fn a_record_that_follows_another_one_is_refused_where_the_segment_before_is_gone() {
    let (shop, last) = set_back_at_a_segments_end("create table besides (id int)");
    removed(&shop, &last);
    is_refused(&shop, &last);
}

/// The places of a plan that nobody has compared.
fn unproven(shop: &Archiving, target: &[&str]) -> Vec<String> {
    let plan = [&["restore", "shop"], target, &["--to-directory", "x", "--plan"]].concat();
    let planned = shop.drctl(&plan).ended(0).json();
    let warnings = planned["plan"]["warnings"].as_array().unwrap().iter();
    let places = warnings.filter_map(|warning| warning["unproven"]["lsn"].as_str());
    places.map(str::to_owned).collect()
}

/// A stream of a cluster that was set back goes on where nothing can be compared: it is told wherever
/// somebody could rely on it.
fn says_that_it_is_not_known(make_slot: &str) {
    let (shop, last) = set_back_at_a_segments_end("");
    removed(&shop, &last);
    shop.sql(make_slot);
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    shop.tick(201..206);
    shipped(&shop.server);
    assert!(streaming.said().contains("is not known"), "{}", streaming.said());
    assert_eq!(streaming.end(), Some(130));
    // Also where another stream goes on within that segment, and by what the bucket alone tells.
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    shop.tick(206..211);
    shop.sql("select pg_switch_wal()");
    shipped(&shop.server);
    assert_eq!(streaming.end(), Some(130));
    let place = end_of(&last);
    let _ = shop.drctl(&["status", "--check"]).ended(3);
    let told = shop.told("log_doubtful");
    assert!(told[0]["text"].as_str().unwrap().contains("is not known"), "{told:?}");
    assert!(shop.told("log_gap").is_empty());
    assert_eq!(unproven(&shop, &["--to-end"]), [place.as_str()]);
    assert_eq!(unproven(&shop, &["--to-time", &shop.committed(203)]), [place.as_str()]);
    assert!(unproven(&shop, &["--to-lsn", &place]).is_empty());
    let plan = ["restore", "shop", "--to-end", "--to-directory", "x", "--plan"];
    let said = Ran::of(&shop.command(&plan).output().unwrap()).out;
    assert!(said.contains(&format!("--to-lsn {place}")), "{said}");
    let (ran, _folder, _) = shop.recover(&["--to-end"]);
    let done = ran.ended(0).json();
    assert_eq!(done["unproven"][0]["lsn"], place.as_str(), "{done}");
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert_eq!(view["timelines"][0]["unproven"][0]["lsn"], place.as_str(), "{view}");
    let looked = shop.drctl(&["verify", "shop"]).ended(0).json();
    assert!(looked["logs"][0]["unproven"][0].to_string().contains("is not known"), "{looked}");
    let checked = shop.drctl(&["catalog", "check"]).ended(0).json();
    assert!(checked["unproven"][0].to_string().contains("is not known"), "{checked}");
    // A base backup begins behind it.
    shop.back_up();
    shop.tick(211..216);
    let _ = shop.drctl(&["status", "--check"]).ended(0);
    assert!(unproven(&shop, &["--to-end"]).is_empty());
}

#[test]
fn a_stream_that_cannot_tell_whose_log_it_goes_on_says_so() {
    says_that_it_is_not_known("");
}

#[test]
fn a_slot_that_somebody_made_proves_nothing() {
    says_that_it_is_not_known("select pg_create_physical_replication_slot('drctl_shop', true)");
}

#[test]
fn a_stream_that_goes_on_where_its_slot_was_confirmed_is_not_in_doubt() {
    let shop = Archiving::start(false);
    shop.sql("alter system set archive_command = 'true'; select pg_reload_conf()");
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    shop.back_up();
    shop.tick(1..11);
    let last = shop.sql("select pg_walfile_name(pg_switch_wal() - 1)");
    shipped(&shop.server);
    assert_eq!(streaming.end(), Some(130));
    removed(&shop, &last);
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    shop.tick(201..211);
    shipped(&shop.server);
    assert!(!streaming.said().contains("not known"), "{}", streaming.said());
    assert_eq!(streaming.end(), Some(130));
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert_eq!(view["timelines"][0]["unproven"], serde_json::json!([]), "{view}");
    let _ = shop.drctl(&["status", "--check"]).ended(0);
}

#[test]
fn a_detour_over_too_little_log_is_told_and_no_plan_crosses_it() {
    let mut shop = Archiving::start(true);
    shop.back_up();
    shop.tick(1..11);
    shop.archived();
    shop.detour(11..16);
    shop.tick(16..21);
    shop.archived();
    let (ran, _folder, path) = shop.recover(&["--to-time", &shop.committed(18)]);
    let said = ran.failed(5, "no_plan");
    assert!(said.contains("wal_level = minimal") && !path.exists(), "{said}");
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert_eq!(view["timelines"][0]["gaps"][0]["why"], "minimal", "{view}");
    let status = shop.drctl(&["status", "--check"]).ended(3).json();
    assert!(status["sources"][0]["advice"].to_string().contains("drctl backup shop"), "{status}");
    let looked = shop.drctl(&["verify", "shop"]).ended(4).json();
    assert!(looked["logs"][0]["problems"].to_string().contains("wal_level = minimal"), "{looked}");
    let checked = shop.drctl(&["catalog", "check"]).ended(4).json();
    assert!(checked["gaps"].to_string().contains("minimal"), "{checked}");
    // All that can be replayed is, and nothing behind it.
    let (ran, _folder, path) = shop.recover(&["--to-end", "--accept-loss", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..11));
    shop.back_up();
    shop.tick(21..26);
    shop.archived();
    let _ = shop.drctl(&["status", "--check"]).ended(0);
    // A later base backup makes up for it: it is told, and nothing to be mended.
    let looked = shop.drctl(&["verify", "shop"]).ended(0).json();
    assert!(looked["logs"][0]["covered_gaps"][0].to_string().contains("minimal"), "{looked}");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..26));
}

#[test]
fn a_cluster_that_was_promoted_before_its_first_archive_has_its_history_stored() {
    let mut shop = Archiving::start(false);
    let (second, _folder) = standby(&shop.server);
    shop.server.crash();
    second.psql("postgres", "select pg_promote()");
    moved_to(&mut shop, second);
    let (program, config) = (shop.program().display(), shop.site.config());
    let command = format!("{program} --config {} wal push shop %p", config.display());
    shop.sql(&format!("alter system set archive_command = '{command}'; select pg_reload_conf()"));
    shop.tick(1..11);
    shop.archived();
    let history = |shop: &Archiving| {
        shop.site.files("repository").iter().any(|path| path.ends_with("history"))
    };
    assert!(history(&shop), "by the first segment that was pushed");
    let stored: Vec<_> =
        shop.site.files("repository").into_iter().filter(|p| p.ends_with("history")).collect();
    std::fs::remove_file(shop.site.path("repository").join(&stored[0])).unwrap();
    shop.back_up();
    assert!(history(&shop), "by the base backup");
    shop.tick(11..21);
    shop.archived();
    let _ = shop.drctl(&["status", "--check"]).ended(0);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..21));
    // Nothing older is needed for that: it works without the history, and says that it is missing.
    std::fs::remove_file(shop.site.path("repository").join(&stored[0])).unwrap();
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    let all = view["timelines"].as_array().unwrap();
    let own = all.iter().find(|one| one["timeline"] == 2).unwrap();
    assert_eq!(own["known"], false, "{view}");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..21));
}

/// What is said of log that is not there: by `timeline`, `verify` and `catalog check`.
fn is_missed(shop: &Archiving, words: &str) {
    let seen = shop.drctl(&["timeline", "shop"]).ended(3).json();
    let looked = shop.drctl(&["verify", "shop"]).ended(4).json();
    let checked = shop.drctl(&["catalog", "check"]).ended(4).json();
    assert!(looked["logs"].to_string().contains(words), "{looked}");
    assert!(checked["gaps"].to_string().contains(words), "{checked} {seen}");
    let status = shop.drctl(&["status", "--check"]).ended(3).json();
    assert!(status["sources"][0]["findings"].to_string().contains(words), "{status}");
}

#[test]
fn a_gap_before_a_branch_a_missing_history_and_a_lost_end_are_told() {
    let mut shop = Archiving::start(true);
    shop.back_up();
    shop.segments_of_ten(2);
    let (standby, _folder) = standby(&shop.server);
    shop.tick(21..31);
    shop.archived();
    caught_up(&shop.server, &standby);
    shop.server.crash();
    standby.psql("postgres", "select pg_promote()");
    moved_to(&mut shop, standby);
    shop.tick(31..41);
    shop.archived();
    let well = |shop: &Archiving| {
        let _ = shop.drctl(&["timeline", "shop"]).ended(0);
        let _ = shop.drctl(&["verify", "shop"]).ended(0);
        let _ = shop.drctl(&["catalog", "check"]).ended(0);
    };
    well(&shop);
    let (_away, path) = place();
    let kept = path.with_file_name("kept");
    let on = |id: &str| -> Vec<std::path::PathBuf> {
        let mut of = shop.pieces();
        of.retain(|path| path.parent().unwrap().to_str().unwrap().ends_with(id));
        of
    };
    // Right before the branch, with log of the new timeline and without.
    let (first, second) = (on("-00000001"), on("-00000002"));
    let before = first.last().unwrap();
    std::fs::rename(before, &kept).unwrap();
    is_missed(&shop, "WAL of timeline 1 is missing from");
    let own: Vec<_> = second.iter().map(|path| (path, std::fs::read(path).unwrap())).collect();
    second.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    is_missed(&shop, "WAL of timeline 1 is missing from");
    own.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    std::fs::rename(&kept, before).unwrap();
    well(&shop);
    // The history.
    let history = second[0].with_file_name("notes/history");
    std::fs::rename(&history, &kept).unwrap();
    is_missed(&shop, "there is WAL of timeline 2, but its history file is missing");
    std::fs::rename(&kept, &history).unwrap();
    // The end, which only the server knows of.
    let stored = |code: i32| {
        let found = shop.drctl(&["doctor"]).ended(code).json();
        let all = found["findings"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["check"] == "source.shop.stored").expect("a finding")
    };
    assert_eq!(stored(3)["level"], "good");
    // The last that it archived may be one of the timeline before: it had it from its base backup.
    std::fs::remove_file(on("-00000002").last().unwrap()).unwrap();
    let lost = stored(1);
    assert!(lost["text"].to_string().contains("in the bucket it ends at"), "{lost}");
}
