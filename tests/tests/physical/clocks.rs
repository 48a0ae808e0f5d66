//! Hosts whose clocks are wrong, and clusters that took another one's place.

use std::fs;

use drctl_model::{Lineage, Timeline};
use drctl_tests::cluster::{Cluster as _, list, ticks};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, faketime};
use serde_json::Value;

use crate::log::Archiving;
use crate::prune::put_floor;

/// Runs drctl with a clock of its own that is so many seconds off.
fn drctl_at(shop: &Archiving, off: i32, words: &[&str]) -> Value {
    // Not for the program that changes the account: the library's files would be that one's.
    let mut command = shop.as_owner("env");
    command.arg(format!("LD_PRELOAD={}", faketime())).arg(format!("FAKETIME={off:+}s"));
    command.args(["FAKETIME_DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1"]).arg(shop.program());
    command.env("DRCTL_CONFIG", shop.site.config()).arg("--json").args(words);
    Ran::of(&command.output().expect("start drctl")).ended(0).json()
}

/// The same backs up.
fn back_up_at(shop: &Archiving, off: i32) -> Value {
    drctl_at(shop, off, &["backup", "shop"])
}

#[test]
fn log_that_is_configured_and_never_came_is_told_when_it_had_time() {
    let told = |shop: &Archiving, off: i32| {
        let status = drctl_at(shop, off, &["status"])["sources"][0].clone();
        let findings = status["findings"].as_array().unwrap().clone();
        let found = findings.iter().find(|one| one["code"] == "log_missing").cloned();
        assert!(found.is_none() || status["health"] == "attention", "{status}");
        found
    };
    let shop = Archiving::start(false);
    shop.back_up();
    assert_eq!(told(&shop, 7200), None, "none is asked for");
    shop.site.source("log = \"push\"");
    assert_eq!(told(&shop, 0), None, "it may still come");
    let found = told(&shop, 7200).unwrap();
    let text = found["text"].as_str().unwrap();
    assert!(text.contains("log = \"push\"") && text.contains("archive_command"), "{found}");
    assert_eq!(found["severity"], "bad", "{found}");
    let shop = Archiving::start(true);
    shop.site.source("log = \"push\"");
    shop.back_up();
    shop.segments_of_ten(1);
    assert_eq!(told(&shop, 7200), None, "it came");
}

#[test]
fn order_in_time_comes_from_the_log_and_never_from_the_clock_of_the_host_that_copied() {
    let shop = Archiving::start(true);
    shop.tick(1..11);
    let first = shop.back_up()["backup"]["backup"].clone();
    shop.tick(11..21);
    // This one would serve every time of the last hour, if its host were asked.
    let behind = back_up_at(&shop, -3600)["backup"]["backup"].clone();
    shop.tick(21..31);
    // And this one none before the next.
    let ahead = back_up_at(&shop, 3600)["backup"]["backup"].clone();
    shop.tick(31..41);
    shop.archived();
    for (id, base, until) in [(15, &first, 16), (25, &behind, 26), (35, &ahead, 36)] {
        let (ran, _folder, path) = shop.recover(&["--to-time", &shop.committed(id), "--promote"]);
        let done = ran.ended(0).json();
        assert_eq!(&done["base"], base, "{done}");
        assert_eq!(ticks(&path), list(1..until), "{done}");
    }
    // The newest is the one that ends last in the log.
    let last = back_up_at(&shop, -7200)["backup"]["backup"].clone();
    let to = shop.site.path("latest").display().to_string();
    let plan = ["restore", "shop", "--latest", "--to-directory", &to, "--plan"];
    assert_eq!(shop.drctl(&plan).ended(0).json()["backup"], last);
    let status = shop.drctl(&["status"]).json();
    assert!(status["sources"][0]["log"]["age_seconds"].as_f64() < Some(600.0), "{status}");
    let (newest, age) =
        (&status["sources"][0]["newest_good"], &status["sources"][0]["age_seconds"]);
    assert_eq!(newest["backup"], last, "{status}");
    assert!((0.0..600.0).contains(&age.as_f64().unwrap()), "by the clock of the server: {status}");
}

#[test]
fn a_position_leaves_out_what_begins_there_unless_it_is_asked_for() {
    let shop = Archiving::start(true);
    shop.tick(1..11);
    shop.back_up();
    // What begins at this position is the commit itself.
    let sql = "begin; insert into ticks values (11, ''); \
               select pg_current_wal_insert_lsn(); commit";
    let lsn = shop.sql(sql);
    shop.tick(12..14);
    shop.archived();
    let reached = |arguments: &[&str]| {
        let (ran, _folder, path) = shop.recover(&[arguments, &["--promote"]].concat());
        let done = ran.ended(0).json();
        (ticks(&path), done["target"]["lsn"]["inclusive"].clone())
    };
    assert_eq!(reached(&["--to-lsn", &lsn]), (list(1..11), false.into()));
    assert_eq!(reached(&["--to-lsn", &lsn, "--inclusive"]), (list(1..12), true.into()));
    // A time is inclusive, and a flag changes it.
    let at = shop.committed(12);
    assert_eq!(reached(&["--to-time", &at, "--exclusive"]).0, list(1..12));
    let xid = shop.sql("select xmin from ticks where id = 12");
    assert_eq!(reached(&["--to-xid", &xid, "--exclusive"]).0, list(1..12));
}

/// Puts a new cluster in the place of a source's server, which archives as that did.
fn replaced(shop: &mut Archiving) {
    let command = shop.sql("show archive_command");
    let new = Postgres::builder()
        .initdb("--wal-segsize=1")
        .conf("archive_mode", "on")
        .conf("archive_command", &command)
        .conf("track_commit_timestamp", "on")
        .start();
    new.psql("postgres", "create table ticks (id int primary key, note text)");
    shop.server.stop();
    moved_to(shop, new);
}

/// Makes another server the one of the source.
pub(crate) fn moved_to(shop: &mut Archiving, new: Postgres) {
    let (port, sockets) = (shop.server.port(), shop.server.socket_dir().display().to_string());
    let host = new.socket_dir().display().to_string();
    shop.site.replace(&format!("port = {port}"), &format!("port = {}", new.port()));
    shop.site.replace(&sockets, &host);
    shop.server = new;
}

/// A base backup of the cluster with this identifier.
fn of_cluster(shop: &Archiving, system_id: &str) -> String {
    let is_of = |row: &&serde_json::Value| {
        row["kind"]["system_id"].to_string().trim_matches('"') == system_id
    };
    let rows = shop.site.rows();
    let row = rows.iter().find(is_of).unwrap_or_else(|| panic!("{rows:?}"));
    row["backup"].as_str().expect("an identifier").to_owned()
}

#[test]
fn a_cluster_that_took_anothers_place_hides_none_of_the_old_ones_moments() {
    let mut shop = Archiving::start(true);
    shop.tick(1..11);
    shop.back_up();
    shop.tick(11..21);
    shop.sql("select pg_create_restore_point('before the move')");
    shop.archived();
    let (moment, old) =
        (shop.committed(15), shop.sql("select system_identifier from pg_control_system()"));
    let between = jiff::Timestamp::now().to_string();
    replaced(&mut shop);
    shop.tick(101..111);
    shop.archived();
    let new = shop.sql("select system_identifier from pg_control_system()");
    // There is no base backup of what runs now: that is said, and what there is is still reached.
    let status = shop.drctl(&["status", "--check"]).ended(3).json();
    let why = status["sources"][0]["advice"].as_str().unwrap_or_default();
    assert!(why.contains(&new) && why.contains("drctl backup shop"), "{status}");
    let doctor = shop.drctl(&["doctor"]).json();
    let told = doctor["findings"]
        .as_array()
        .unwrap()
        .iter()
        .any(|one| one["check"] == "source.shop.cluster" && one["level"] == "warning");
    assert!(told, "{doctor}");
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert_eq!(
        (&view["system_id"], &view["uncopied"]),
        (&old.as_str().into(), &new.as_str().into())
    );
    // Its base backup is dated before the old one's.
    back_up_at(&shop, -7200);
    shop.tick(111..121);
    shop.archived();
    let told = shop.site.told("cluster_changed");
    assert_eq!(told.len(), 1, "{told:?}");
    // Somebody says that it was meant: every host hears of it, also one that forgot all.
    let accepted = format!("shop/{}", of_cluster(&shop, told[0]["subject"].as_str().unwrap()));
    let _ = shop.drctl(&["accept", &accepted]).ended(0);
    assert!(shop.site.told("cluster_changed").is_empty());
    let _ = shop.drctl(&["accept", &accepted]).ended(0);
    let _ = shop.drctl(&["catalog", "check"]).ended(0);
    let _ = shop.drctl(&["catalog", "rebuild"]).ended(0);
    assert!(shop.site.told("cluster_changed").is_empty());
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert_eq!(view["system_id"], new.as_str(), "{view}");
    assert_eq!(view["others"][0]["system_id"], old.as_str(), "{view}");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(101..121));
    // What names a timeline or a position means those of one cluster: people say of which.
    for target in
        [&["--to-time", &moment, "--timeline", "1"][..], &["--to-name", "before the move"]]
    {
        let (ran, _folder, path) = shop.recover(target);
        let said = ran.failed(5, "no_plan");
        assert!(said.contains(&format!("--system-id {old}")) && !path.exists(), "{said}");
    }
    // Between the two only the one before is known.
    let (ran, _folder, _) = shop.recover(&["--to-time", &between]);
    let said = ran.failed(5, "no_plan");
    assert!(
        said.contains(&format!("another cluster of this source, {old}, is known up to")),
        "{said}"
    );
    // At that time no other cluster lived.
    let (ran, _folder, path) = shop.recover(&["--to-time", &moment, "--promote"]);
    let told = fs::read_to_string(path.join("drctl.log")).unwrap();
    assert!(told.contains(&format!("of the EARLIER cluster {old} ")), "{told}");
    // Also to whoever is quiet.
    let warned = format!("warning: this recovers the EARLIER cluster {old} ");
    assert!(ran.err.contains(&warned), "{}", ran.err);
    let done = ran.ended(0).json();
    let clusters = (&done["system_id"], &done["current_system_id"]);
    assert_eq!(clusters, (&old.as_str().into(), &new.as_str().into()));
    assert_eq!(ticks(&path), list(1..16));
    let (ran, _folder, path) =
        shop.recover(&["--to-time", &moment, "--system-id", &old, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..16));
    let (ran, _folder, _) = shop.recover(&["--to-end", "--system-id", "77"]);
    assert!(ran.failed(5, "no_backup").contains(&old));
    nobody_chooses_while_something_is_gone(&shop, (&moment, &old));
}

/// What is gone may have been of a third cluster, whoever looks first.
fn nobody_chooses_while_something_is_gone(shop: &Archiving, (moment, old): (&str, &str)) {
    let gone = shop.back_up()["backup"]["backup"].as_str().unwrap().to_owned();
    let (place, aside) =
        (shop.site.path("repository/s/shop/b").join(&gone), shop.site.path("aside"));
    fs::rename(&place, &aside).unwrap();
    let (ran, _folder, path) = shop.recover(&["--to-time", moment]);
    let said = ran.failed(5, "no_plan");
    assert!(said.contains(&format!("--system-id {old}")) && !path.exists(), "{said}");
    fs::rename(&aside, &place).unwrap();
    // Whoever looks sees that it is back.
    let _ = shop.drctl(&["status"]).ended(0);
    let (ran, _folder, _) = shop.recover(&["--to-time", moment, "--plan"]);
    let _ = ran.ended(0);
    // What says of which cluster a backup was that was removed is not believed.
    let stone = shop.site.path("repository/s/shop/x/20200101T000000Z-0123456789abcdef.json");
    fs::create_dir_all(stone.parent().unwrap()).unwrap();
    fs::write(&stone, "{}").unwrap();
    let (ran, _folder, _) = shop.recover(&["--to-time", moment]);
    let said = ran.failed(5, "no_plan");
    assert!(said.contains(&format!("--system-id {old}")), "{said}");
    fs::remove_file(&stone).unwrap();
    let (ran, _folder, _) = shop.recover(&["--to-time", moment, "--plan"]);
    let _ = ran.ended(0);
    // Of a third one, which is older, all was removed on purpose.
    let third = old.parse::<u64>().unwrap() - (10 << 32);
    put_floor(shop, Lineage::of_timeline(third, Timeline::FIRST));
    let (ran, _folder, path) = shop.recover(&["--to-time", moment]);
    let said = ran.failed(5, "no_plan");
    assert!(said.contains(&format!("--system-id {old}")) && !path.exists(), "{said}");
}

#[test]
fn a_damaged_copy_blocks_nothing_that_an_older_one_leads_to() {
    let shop = Archiving::start(true);
    shop.tick(1..11);
    let older = shop.back_up()["backup"]["backup"].as_str().unwrap().to_owned();
    shop.tick(11..21);
    let newer = shop.back_up()["backup"]["backup"].as_str().unwrap().to_owned();
    shop.tick(21..31);
    shop.archived();
    let mut files = shop.site.files("repository");
    files.retain(|path| {
        let text = path.display().to_string();
        text.contains(&newer) && text.contains("/base/") && text.ends_with(".age")
    });
    let file = shop.site.path("repository").join(&files[0]);
    let whole = std::fs::read(&file).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    // What is damaged is found when it is read, and never named as the way out.
    let (ran, _folder, _) = shop.recover(&["--to-end"]);
    let said = ran.failed(4, "segment_damaged");
    assert!(said.contains(&format!("--backup {older}")), "{said}");
    assert!(!said.contains(&format!("--backup {newer}")), "{said}");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--backup", &older, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..31));
    // What is missing is seen before, and passed over.
    std::fs::remove_file(&file).unwrap();
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let done = ran.ended(0).json();
    assert_eq!((&done["base"], ticks(&path)), (&older.as_str().into(), list(1..31)));
}

#[test]
fn commits_behind_a_clock_that_was_set_back_within_a_segment_are_named() {
    let mut shop = Archiving::start(true);
    shop.back_up();
    shop.tick(1..6);
    let (at, last) = (shop.committed(3), shop.committed(5));
    let segment = "select pg_walfile_name(pg_current_wal_lsn())";
    let first = shop.sql(segment);
    // Not cleanly: one that archives ends its segment then.
    shop.server.crash();
    // The same server on the same socket, ten minutes ago.
    let tool = |verb: &[&str]| {
        let mut tool = shop.as_owner("env");
        tool.arg(format!("LD_PRELOAD={}", faketime())).arg("FAKETIME=-600s");
        tool.arg("FAKETIME_DONT_FAKE_MONOTONIC=1").arg(shop.server.bin_dir().join("pg_ctl"));
        tool.arg("-D").arg(shop.server.data_dir()).args(["-w", "-l", "/dev/null"]).args(verb);
        assert!(tool.stdout(std::process::Stdio::null()).status().unwrap().success(), "{verb:?}");
    };
    let (socket, port) = (shop.server.socket_dir().display(), shop.server.port());
    let options = format!("-k {socket} -p {port} -c fsync=off -c listen_addresses=");
    tool(&["-o", &options, "start"]);
    shop.tick(6..9);
    shop.sql("select pg_create_restore_point('behind')");
    let lsn = shop.sql("select pg_current_wal_insert_lsn()");
    shop.tick(9..11);
    let back = shop.committed(8);
    tool(&["-m", "immediate", "stop"]);
    shop.server.start_again();
    assert!(back < at, "the clock was set back: {back}, {at}");
    assert_eq!(shop.sql(segment), first, "all of it lies in one segment");
    shop.tick(11..16);
    shop.archived();
    // The log is replayed in its own order: what stands behind the stop is not in it, and is named.
    let (ran, _folder, path) = shop.recover(&["--to-time", &at, "--promote"]);
    let done = ran.ended(0).json();
    assert_eq!((ticks(&path), &done["overtaken"]["commits"]), (list(1..4), &5.into()), "{done}");
    let xid = done["overtaken"]["xid"].to_string();
    assert_eq!(xid, shop.sql("select xmin from ticks where id = 10"));
    // What was asked for is proven by itself, whatever the times say.
    let eight = shop.sql("select xmin from ticks where id = 8");
    for (arguments, until) in [
        (["--to-xid", xid.as_str()], 11),
        (["--to-xid", eight.as_str()], 9),
        (["--before-xid", eight.as_str()], 8),
        (["--to-lsn", lsn.as_str()], 9),
        (["--to-name", "behind"], 9),
        // It stops before the first one that is later: where the clock is right again.
        (["--to-time", last.as_str()], 11),
    ] {
        let (ran, _folder, path) = shop.recover(&[&arguments[..], &["--promote"]].concat());
        let done = ran.ended(0).json();
        assert_eq!(ticks(&path), list(1..until), "{arguments:?}: {done}");
        assert!(done["stopped"].as_str().is_some_and(|said| said.starts_with("recovery stopping")));
    }
}

#[test]
fn a_cluster_of_the_year_2038_has_one_identifier_however_it_is_told() {
    let mut shop = Archiving::start(true);
    let (port, data) = (shop.server.port(), shop.server.data_dir().to_owned());
    shop.server.stop();
    // Its highest bits are the seconds when it was made.
    let control = data.join("global/pg_control");
    let mut bytes = fs::read(&control).unwrap();
    bytes[..8].copy_from_slice(&((1u64 << 63) + 4711).to_ne_bytes());
    fs::write(&control, bytes).unwrap();
    let mut reset = shop.as_owner(shop.server.bin_dir().join("pg_resetwal"));
    let reset = reset.arg("-f").arg("-D").arg(&data).output().unwrap();
    let _ = Ran::of(&reset).ended(0);
    shop.server.start_again();
    assert_eq!(shop.server.port(), port);
    let signed = shop.sql("select system_identifier from pg_control_system()");
    assert!(signed.starts_with('-'), "{signed}");
    shop.tick(1..11);
    let _ = shop.back_up();
    shop.tick(11..21);
    shop.archived();
    let id = ((1u64 << 63) + 4711).to_string();
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert_eq!(view["system_id"], id.as_str(), "{view}");
    let doctor = shop.drctl(&["doctor", "shop"]).json();
    let stored = |doctor: &Value| {
        let mut findings = doctor["findings"].as_array().unwrap().iter();
        let found = findings.find(|one| one["check"] == "source.shop.stored");
        found.expect("it was compared")["level"].clone()
    };
    assert_eq!(stored(&doctor), "good", "{doctor}");
    let _ = shop.drctl(&["status", "--check"]).ended(0);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..21));
    // What the server was told is stored is looked for under the same number.
    fs::remove_file(shop.pieces().pop().unwrap()).unwrap();
    let doctor = shop.drctl(&["doctor", "shop"]).json();
    assert_ne!(stored(&doctor), "good", "{doctor}");
}
