//! Where pgBackRest and PostgreSQL say that all is well, and it is not: each of these opened a
//! server that had lost rows, or passed as whole, when it was tried by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use drctl_tests::cluster::{Cluster as _, give_away, list, open_folder, ticks};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::until;
use serde_json::Value;

use crate::adopt::sha1;
use crate::common::{Shop, walk};

/// Segments behind the backup, ten rows in each of four, and a time at their end.
fn several(global: &[&str]) -> (Shop, Vec<String>, String) {
    let shop = Shop::with(global);
    shop.sql("alter system set wal_keep_size = '1GB'; select pg_reload_conf()");
    let _ = shop.back_up();
    let names = shop.segments_of_ten(4);
    let last = shop.committed(40);
    (shop, names, last)
}

/// Whether the server of a recovery that failed was opened all the same.
fn opened(path: &Path) -> bool {
    let signals = ["standby.signal", "recovery.signal"];
    let data = path.join("data");
    data.join("PG_VERSION").exists() && !signals.iter().any(|signal| data.join(signal).exists())
}

/// Flips bits in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 8] {
        *byte ^= 0xff;
    }
    fs::write(path, bytes).unwrap();
}

fn codes(verdict: &Value) -> Vec<&str> {
    let problems = verdict["problems"].as_array().unwrap();
    problems.iter().map(|problem| problem["code"].as_str().unwrap()).collect()
}

/// What `verify` says of the stanza.
#[track_caller]
fn verified(shop: &Shop, code: i32, more: &[&str]) -> Value {
    let ran = shop.drctl(&[&["verify", "shop"], more].concat());
    ran.ended(code).json()["logs"][0].clone()
}

#[test]
fn a_missing_middle_segment_is_a_gap_and_no_plan_crosses_it() {
    let (shop, names, last) = several(&[]);
    let early = shop.committed(5);
    assert_eq!(codes(&verified(&shop, 0, &[])), [""; 0]);
    fs::remove_file(shop.segment(&names[1])).unwrap();
    let said = shop.pgbackrest(&["verify"]).ended(0);
    assert!(!said.out.contains("error") && !said.err.contains("ERROR"), "{said:?}");
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert_eq!(view["timelines"][0]["gaps"].as_array().map(Vec::len), Some(1), "{view}");
    let verdict = verified(&shop, 4, &[]);
    assert!(codes(&verdict).contains(&"log_gap"), "{verdict}");
    let status = shop.drctl(&["status"]).ended(0).json();
    assert_eq!(status["sources"][0]["health"], "breached", "{status}");
    let advice = status["sources"][0]["advice"].as_str().unwrap();
    assert!(advice.contains(&names[1]) && advice.contains("--full"), "{advice}");
    let doctor = shop.drctl(&["doctor", "shop"]).ended(1).json();
    assert!(doctor.to_string().contains(&names[1]), "{doctor}");
    let (ran, _folder, path) = shop.recover(&["--to-time", &last]);
    let said = ran.failed(5, "no_plan");
    assert!(said.contains("missing from") && !path.exists(), "{said}");
    for more in [&[][..], &["--drill"], &["--promote"]] {
        let (ran, _folder, path) = shop.recover(&[&["--to-end"], more].concat());
        let said = ran.failed(5, "no_plan");
        assert!(said.contains("--accept-loss") && !path.exists(), "{said}");
    }
    assert_eq!(shop.drctl(&["timeline", "shop"]).json()["drills"], serde_json::json!([]));
    let (ran, _folder, path) = shop.recover(&["--to-time", &early, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..6));
    // The next backup is a full one, and nothing that follows it is out of reach.
    let done = shop.back_up();
    assert_eq!(done["backup"]["kind"]["backup_type"], "full", "{done}");
    let status = shop.drctl(&["status"]).ended(0).json();
    assert_eq!(status["sources"][0]["health"], "good", "{status}");
}

#[test]
fn a_segment_that_a_backup_needs_is_missed_before_it_is_restored() {
    let (shop, ..) = several(&[]);
    let info = shop.pgbackrest(&["info", "--output=json"]).ended(0).json();
    let backup = &info[0]["backup"][0];
    let needed = backup["archive"]["start"].as_str().unwrap();
    fs::remove_file(shop.segment(needed)).unwrap();
    let said = shop.pgbackrest(&["verify"]).ended(0);
    assert!(!said.err.contains("ERROR"), "{said:?}");
    let verdict = verified(&shop, 4, &[]);
    let label = backup["label"].as_str().unwrap();
    assert!(
        verdict.to_string().contains(&format!("{label} cannot be made consistent")),
        "{verdict}"
    );
    let (ran, _folder, path) = shop.recover(&["--to-end"]);
    let _ = ran.failed(5, "no_plan");
    assert!(!path.exists());
}

#[test]
fn a_damaged_segment_that_pgbackrest_delivers_never_opens_a_server_that_has_lost_rows() {
    let (shop, names, last) = several(&["compress-type=none"]);
    let segment = shop.segment(&names[1]);
    let good = fs::read(&segment).unwrap();
    damage(&segment);
    // It is delivered as if it were good.
    let to = shop.path("delivered");
    let text = to.display().to_string();
    let _ = shop.pgbackrest(&["archive-get", &names[1], &text]).ended(0);
    assert_ne!(fs::read(&to).unwrap(), good);
    // A plan to the end does not read it, and one to a time may: neither loses a row in silence.
    for target in [&["--to-end"][..], &["--to-time", &last]] {
        let (ran, _folder, path) = shop.recover(&[target, &["--promote"]].concat());
        let said = ran.failed(4, "log_damaged");
        assert!(said.contains(&format!("the segment {} is not what", names[1])), "{said}");
        assert!(!opened(&path), "{said}");
    }
    let verdict = verified(&shop, 4, &["--data"]);
    assert!(codes(&verdict).contains(&"log_damaged"), "{verdict}");
    fs::write(&segment, good).unwrap();
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..41));
}

#[test]
fn a_damaged_file_of_a_backup_is_never_restored_as_good() {
    let (shop, ..) = several(&[]);
    let mut files = Vec::new();
    walk(&shop.path("repo/backup/shop"), &mut files);
    let is_data = |path: &&PathBuf| {
        let text = path.display().to_string();
        text.contains("/pg_data/base/") && text.ends_with(".gz")
    };
    let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let file = files.iter().filter(is_data).max_by_key(|path| size(path)).unwrap();
    damage(file);
    let _ = shop.pgbackrest(&["info"]).ended(0);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let said = ran.failed(10, "pgbackrest_repository");
    assert!(!opened(&path), "{said}");
    let verdict = verified(&shop, 4, &["--data"]);
    assert!(codes(&verdict).contains(&"segment_damaged"), "{verdict}");
}

/// A program in pgBackRest's place that does something to the repository when a recovering server
/// asks for a segment, once, and then is pgBackRest.
fn breaks_at(shop: &Shop, name: &str, breakage: &str) {
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *archive-get*{name}*restored*)\n  \
         [ -e {once} ] || {{ touch {once}; {breakage}; }} ;;\nesac\nexec pgbackrest \"$@\"\n",
        once = shop.path("once").display()
    );
    shop.instead_of_pgbackrest(&script);
}

/// The recovery stopped, and goes on when the repository can be read again.
#[track_caller]
fn stopped_and_goes_on(shop: &Shop, heal: impl FnOnce()) {
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    // Log is fetched ahead while the backup is restored: it broke before pgBackRest had read which
    // backups there are, before it had read all of this one, or under the server that replays.
    let code = ran.json()["code"].as_str().unwrap_or_default().to_owned();
    let broken = [(5, "pgbackrest_no_backup"), (10, "pgbackrest_repository"), (10, "query")];
    assert!(broken.iter().any(|one| (Some(one.0), one.1) == (ran.code, &code)), "{}", ran.out);
    assert!(shop.path("once").exists(), "it was not broken in the middle: {}", ran.out);
    assert!(!opened(&path), "{}", ran.out);
    heal();
    let to = path.display().to_string();
    let again = ["restore", "shop", "--to-end", "--promote", "--to-directory", &to, "--resume"];
    let _ = shop.drctl(&again).ended(0);
    assert_eq!(ticks(&path), list(1..41));
}

#[test]
fn a_repository_that_goes_away_in_the_middle_of_a_recovery_ends_no_log() {
    let (shop, names, _) = several(&[]);
    let (repo, away) = (shop.path("repo"), shop.path("away"));
    breaks_at(&shop, &names[1], &format!("mv {} {}", repo.display(), away.display()));
    stopped_and_goes_on(&shop, || fs::rename(&away, &repo).unwrap());
    // And of one that is away altogether nobody says that it is empty.
    fs::rename(&repo, &away).unwrap();
    let _ = shop.drctl(&["timeline", "shop"]).failed(10, "pgbackrest_repository");
}

#[test]
fn a_passphrase_that_is_wrong_in_the_middle_of_a_recovery_ends_no_log() {
    let cipher = ["repo1-cipher-type=aes-256-cbc", "repo1-cipher-pass=right"];
    let (shop, names, _) = several(&cipher);
    let conf = shop.path("pgbackrest.conf");
    let good = fs::read_to_string(&conf).unwrap();
    let breakage = format!("sed -i s/cipher-pass=right/cipher-pass=wrong/ {}", conf.display());
    breaks_at(&shop, &names[1], &breakage);
    stopped_and_goes_on(&shop, || fs::write(&conf, &good).unwrap());
    fs::write(&conf, good.replace("cipher-pass=right", "cipher-pass=wrong")).unwrap();
    let _ = shop.drctl(&["timeline", "shop"]).failed(10, "pgbackrest_repository");
}

#[test]
fn two_segments_of_one_name_are_shown_and_no_plan_crosses_them() {
    let (shop, names, last) = several(&[]);
    let segment = shop.segment(&names[1]);
    let name = segment.file_name().unwrap().to_str().unwrap();
    let other = format!("{}-{}.gz", &name[..24], "ab".repeat(20));
    fs::copy(&segment, segment.with_file_name(other)).unwrap();
    let verdict = verified(&shop, 4, &[]);
    assert!(codes(&verdict).contains(&"log_conflict"), "{verdict}");
    let (ran, _folder, path) = shop.recover(&["--to-time", &last]);
    let _ = ran.failed(5, "no_plan");
    assert!(!path.exists());
}

#[test]
fn log_that_was_dropped_is_an_incident_until_the_next_full_backup() {
    let shop = Shop::with(&["archive-push-queue-max=3MiB"]);
    let _ = shop.back_up();
    shop.archive_by("false");
    for round in 0..6 {
        shop.tick(round * 10 + 1..round * 10 + 11);
        shop.sql("select pg_switch_wal()");
    }
    until("a failure to archive", || {
        shop.sql("select failed_count > 0 from pg_stat_archiver") == "t"
    });
    shop.archive();
    let name = shop.archived();
    // The server believes that all is stored.
    assert_eq!(shop.sql("select last_failed_time < last_archived_time from pg_stat_archiver"), "t");
    assert!(shop.segments().len() < 8, "{name}: nothing was dropped");
    let status = shop.drctl(&["status"]).ended(0).json();
    let source = &status["sources"][0];
    assert!(source["advice"].as_str().unwrap().contains("archive-push-queue-max"), "{status}");
    assert_eq!(source["health"], "breached", "{status}");
    // That is known without drctl's own bucket too.
    let (bucket, away) = (shop.site.path("repository"), shop.site.path("away"));
    fs::rename(&bucket, &away).unwrap();
    let status = shop.drctl(&["status"]).ended(0).json();
    assert_eq!(status["sources"][0]["health"], "breached", "{status}");
    fs::rename(&away, &bucket).unwrap();
    let done = shop.back_up();
    assert_eq!(done["backup"]["kind"]["backup_type"], "full", "{done}");
    let status = shop.drctl(&["status"]).ended(0).json();
    assert_eq!(status["sources"][0]["health"], "good", "{status}");
}

#[test]
fn what_drctl_stored_beside_leads_over_a_gap_in_pgbackrests_archive() {
    let (shop, names, last) = several(&[]);
    fs::remove_file(shop.segment(&names[1])).unwrap();
    let (ran, _folder, path) = shop.recover(&["--to-time", &last]);
    let _ = ran.failed(5, "no_plan");
    assert!(!path.exists());
    let file = shop.server.data_dir().join("pg_wal").join(&names[1]);
    let file = file.display().to_string();
    let _ = shop.drctl(&["wal", "push", "shop", &file]).ended(0);
    let (ran, _folder, path) = shop.recover(&["--to-time", &last, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..41));
}

#[test]
fn what_a_clone_has_stored_beside_leads_over_no_gap_in_the_archive_of_its_original() {
    let mut shop = Shop::start();
    let _ = shop.back_up();
    let _ = shop.segments_of_ten(2);
    shop.server.stop();
    let folder = open_folder("drctl-clone-");
    let data = folder.path().join("data");
    let copied = Command::new("cp").arg("-a").arg(shop.server.data_dir()).arg(&data).status();
    assert!(copied.unwrap().success());
    // It must not archive: pgBackRest would take whichever comes first.
    let auto = data.join("postgresql.auto.conf");
    let text = fs::read_to_string(&auto).unwrap() + "archive_command = 'false'\n";
    fs::write(&auto, text).unwrap();
    shop.server.start_again();
    let clone = Postgres::builder().data(&data).start();
    // In step: the same statements, other rows.
    let mut names = Vec::new();
    for round in 2..5 {
        let (first, other) = (round * 10 + 1, round * 10 + 101);
        shop.tick(first..first + 10);
        names.push(shop.archived());
        let row = |id: u32| format!("insert into ticks values ({id}, md5('{id}'));");
        clone.psql("postgres", &(other..other + 10).map(row).collect::<String>());
        let theirs = clone.psql("postgres", "select pg_walfile_name(pg_switch_wal() - 1)");
        assert_eq!(Some(&theirs), names.last());
    }
    let last = shop.committed(50);
    fs::remove_file(shop.segment(&names[1])).unwrap();
    let file = data.join("pg_wal").join(&names[1]).display().to_string();
    let _ = shop.drctl(&["wal", "push", "shop", &file]).ended(0);
    let (ran, _folder, path) = shop.recover(&["--to-time", &last]);
    let said = ran.failed(5, "no_plan");
    assert!(said.contains("another history") && !path.exists(), "{said}");
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert!(view["timelines"][0]["gaps"].to_string().contains("history"), "{view}");
}

#[test]
fn a_server_that_never_becomes_consistent_is_given_up_with_its_own_words() {
    let shop = Shop::with(&["compress-type=none"]);
    shop.sql("alter system set wal_keep_size = '1GB'; select pg_reload_conf()");
    let _ = shop.back_up();
    let _ = shop.segments_of_ten(1);
    // The log of the backup without its end: it ends as log does to which more will be written.
    let info = shop.pgbackrest(&["info", "--output=json"]).ended(0).json();
    let backup = &info[0]["backup"][0];
    let (stop, from) = (backup["archive"]["stop"].as_str(), backup["lsn"]["start"].as_str());
    let (name, mut tool) = (stop.unwrap(), shop.as_owner(shop.server.bin_dir().join("pg_waldump")));
    tool.arg("-p").arg(shop.server.data_dir().join("pg_wal")).args(["-s", from.unwrap()]);
    let told = String::from_utf8(tool.output().unwrap().stdout).unwrap();
    let line = told.lines().find(|line| line.contains("BACKUP_END")).expect("its record");
    let low = line.split("lsn: ").nth(1).and_then(|rest| rest.split(',').next());
    let low = low.and_then(|lsn| lsn.split('/').nth(1)).expect("a position");
    let at = usize::try_from(u32::from_str_radix(low, 16).unwrap() & 0xf_ffff).unwrap();
    let segment = shop.segment(name);
    let mut bytes = fs::read(&segment).unwrap();
    bytes[at..].fill(0);
    let other = segment.with_file_name(format!("{name}-{}", sha1(&bytes)));
    fs::remove_file(&segment).unwrap();
    fs::write(&other, bytes).unwrap();
    give_away(&other);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let said = ran.failed(4, "mismatch");
    assert!(said.contains("lets nobody in, and says: invalid record length"), "{said}");
    assert!(!opened(&path));
}
