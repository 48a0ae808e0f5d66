//! `archive_command`: what waits behind a file is stored with it, and no promise is made for it
//! that was not kept.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use drctl_tests::cluster::{Cluster as _, give_away, list, place, ticks};
use drctl_tests::servers::minio::Minio;
use drctl_tests::site::{Ran, until};
use serde_json::Value;

use crate::log::{Archiving, in_s3};

/// A cluster whose log waits, because its `archive_command` fails.
pub(crate) struct Queue {
    pub(crate) shop: Archiving,
    /// The names of the segments that wait, in order.
    pub(crate) names: Vec<String>,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Queue::of(Archiving::start(false))
    }

    /// With a base backup, and at least eight segments behind it.
    pub(crate) fn of(shop: Archiving) -> Self {
        let _ = shop.drctl(&["backup", "shop"]).ended(0);
        let mut queue = Queue { shop, names: Vec::new() };
        queue.write(0);
        assert!(queue.names.len() >= 8, "{:?}", queue.names);
        queue
    }

    /// Writes eight more segments, and waits until all that wait have been left alone for a while.
    pub(crate) fn write(&mut self, from: u32) {
        for round in 0..8 {
            self.shop.tick(from + round * 5 + 1..from + round * 5 + 6);
            self.shop.sql("select pg_switch_wal()");
        }
        self.names = self.waiting();
        let last = fs::metadata(self.file(self.names.len() - 1)).unwrap().modified().unwrap();
        until("the log to have settled", || {
            last.elapsed().is_ok_and(|age| age > Duration::from_millis(300))
        });
    }

    fn status(&self) -> PathBuf {
        self.shop.server.data_dir().join("pg_wal/archive_status")
    }

    fn waiting(&self) -> Vec<String> {
        let entries = fs::read_dir(self.status()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names
            .filter_map(|name| name.strip_suffix(".ready").map(str::to_owned))
            .filter(|name| name.len() == 24)
            .collect();
        names.sort();
        names
    }

    /// The path of the segment with this number in the queue.
    pub(crate) fn file(&self, at: usize) -> PathBuf {
        self.shop.server.data_dir().join("pg_wal").join(&self.names[at])
    }

    pub(crate) fn command(&self, at: usize) -> Command {
        self.shop.command(&["--json", "wal", "push", "shop", &self.file(at).display().to_string()])
    }

    fn push(&self, at: usize) -> Ran {
        Ran::of(&self.command(at).output().unwrap())
    }

    #[track_caller]
    fn done(&self, at: usize) -> Value {
        self.push(at).ended(0).json()
    }

    /// The whole queue, file after file, as the server asks: how each ended.
    #[track_caller]
    fn drain(&self) -> Vec<String> {
        let words = (0..self.names.len()).map(|at| self.done(at)["done"].as_str().unwrap().into());
        words.collect()
    }

    /// What lies where notes are left.
    pub(crate) fn notes(&self) -> Vec<String> {
        if !self.shop.site.path("state/pushed/shop").exists() {
            return Vec::new();
        }
        let mut files = self.shop.site.files("state/pushed/shop");
        // What was stored last is none of them.
        files.retain(|path| !path.ends_with(".lock") && !path.ends_with(".last"));
        files.iter().map(|path| path.display().to_string()).collect()
    }

    /// Asserts that the bucket holds every segment of the queue, once and whole.
    #[track_caller]
    pub(crate) fn all_stored(&self) {
        assert_eq!(self.shop.pieces().len(), self.names.len());
        let verified = self.shop.drctl(&["timeline", "shop"]).ended(0).json();
        let spans = &verified["timelines"][0]["spans"];
        assert_eq!(spans.as_array().map(Vec::len), Some(1), "{verified}");
    }
}

#[test]
fn what_waits_behind_a_file_is_stored_with_it_and_known_at_once() {
    let queue = Queue::new();
    let first = queue.done(0);
    let behind = queue.names.len() - 1;
    assert_eq!((&first["done"], &first["ahead"]), (&"stored".into(), &behind.into()), "{first}");
    assert_eq!(queue.notes(), queue.names[1..]);
    queue.all_stored();
    // The bucket is not asked for what is known.
    let (here, away) = (queue.shop.site.path("repository"), queue.shop.site.path("away"));
    fs::rename(&here, &away).unwrap();
    for at in 1..=behind {
        let done = queue.done(at);
        assert_eq!((&done["done"], &done["ahead"]), (&"noted".into(), &0.into()), "{done}");
    }
    // Each note is used once.
    assert_eq!(queue.notes(), [""; 0]);
    assert_eq!(queue.push(1).code, Some(1));
    fs::rename(&away, &here).unwrap();
    // What is there already is not stored twice, and leaves notes that are used as well.
    let words = queue.drain();
    assert_eq!((words[0].as_str(), words[1].as_str()), ("present", "noted"));
    assert_eq!(queue.notes(), [""; 0]);
    queue.all_stored();
}

/// Writes a file anew under its name, as the server's account.
#[test]
fn a_batch_that_ends_at_a_file_written_just_now_tells_of_the_gap_in_it() {
    let queue = Queue::new();
    // The third one is done with, as the server says, and stored nowhere.
    let third = queue.status().join(format!("{}.ready", queue.names[2]));
    fs::rename(&third, third.with_extension("done")).unwrap();
    // What is written at this very moment is left for the server's own call.
    let last = queue.names.len() - 1;
    let newest = fs::File::options().append(true).open(queue.file(last)).unwrap();
    newest.set_modified(std::time::SystemTime::now() + Duration::from_secs(3600)).unwrap();
    let ran = queue.push(0);
    assert!(ran.err.contains("GAP in the WAL of timeline 1"), "{}", ran.err);
    let done = ran.ended(0).json();
    assert_eq!(done["ahead"], last - 2, "all but the third and the last: {done}");
}

pub(crate) fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
    give_away(path);
}

#[test]
fn a_note_is_believed_for_this_very_file_alone() {
    let queue = Queue::new();
    assert_eq!(queue.done(0)["ahead"], queue.names.len() - 1);
    // Another file with the same bytes, and one that was written to: looked at again.
    let bytes = fs::read(queue.file(1)).unwrap();
    replace(&queue.file(1), &bytes);
    assert_eq!(queue.done(1)["done"], "present");
    fs::write(queue.file(2), fs::read(queue.file(2)).unwrap()).unwrap();
    assert_eq!(queue.done(2)["done"], "present");
    // Damage, at the same length and with the time of the last write set back.
    let file = fs::File::options().write(true).open(queue.file(3)).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let good = fs::read(queue.file(3)).unwrap();
    let mut bad = good.clone();
    bad[300] ^= 1;
    fs::write(queue.file(3), &bad).unwrap();
    file.set_modified(modified).unwrap();
    let ran = queue.push(3);
    assert_eq!((ran.code, &ran.json()["code"]), (Some(1), &"log_damaged".into()), "{}", ran.out);
    fs::write(queue.file(3), &good).unwrap();
    assert_eq!(queue.done(3)["done"], "present");
}

#[test]
fn other_log_under_a_noted_name_is_refused() {
    let mut queue = Queue::new();
    // A clone of the cluster writes log of its own under the names that come.
    let (folder, _) = place();
    let data = folder.path().join("clone");
    let server = &queue.shop.server;
    let copied = server.client("pg_basebackup").args(["-c", "fast", "-D"]).arg(&data).status();
    assert!(copied.unwrap().success());
    let clone = drctl_tests::servers::postgres::Postgres::builder().data(&data).start();
    clone.psql("postgres", "insert into ticks select g, 'other' from generate_series(900, 999) g");
    let name = clone.psql("postgres", "select pg_walfile_name(pg_switch_wal() - 1)");
    queue.write(40);
    let at = queue.names.iter().position(|found| *found == name).expect("both wrote it");
    assert!(queue.done(0)["ahead"].as_u64().unwrap() >= at as u64);
    assert!(queue.notes().contains(&name));
    replace(&queue.file(at), &fs::read(data.join("pg_wal").join(&name)).unwrap());
    let ran = queue.push(at);
    assert_eq!((ran.code, &ran.json()["code"]), (Some(1), &"log_conflict".into()), "{}", ran.out);
}

#[test]
fn a_note_is_believed_for_this_repository_and_for_a_while() {
    let queue = Queue::new();
    let site = &queue.shop.site;
    assert_eq!(queue.done(0)["ahead"], queue.names.len() - 1);
    // Another repository that has nothing of it.
    let (here, other) = (site.path("repository"), site.path("other"));
    fs::create_dir(&other).unwrap();
    for entry in fs::read_dir(&here).unwrap().map(Result::unwrap).filter(|e| e.path().is_file()) {
        fs::copy(entry.path(), other.join(entry.file_name())).unwrap();
    }
    give_away(&other);
    let url = |path: &Path| format!("file://{}", path.display());
    site.replace(&url(&here), &url(&other));
    assert_eq!(queue.done(1)["done"], "stored");
    let stored = site.files("other").iter().filter(|path| path.extension().is_some()).count();
    assert!(stored >= queue.names.len() - 1, "{stored}");
    site.replace(&url(&other), &url(&here));
    // Those notes are of the other place: here each file is looked at again.
    assert_eq!(queue.done(2)["done"], "present");
    // A note says what the bucket held a moment ago; one that is old says nothing.
    fs::remove_file(&queue.shop.pieces()[3]).unwrap();
    assert_eq!(queue.done(3)["done"], "noted");
    fs::remove_file(&queue.shop.pieces()[3]).unwrap();
    let path = site.path("state/pushed/shop").join(&queue.names[4]);
    let mut note: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let written: jiff::Timestamp = note["written"].as_str().unwrap().parse().unwrap();
    note["written"] = (written - jiff::SignedDuration::from_mins(6)).to_string().into();
    fs::write(&path, note.to_string()).unwrap();
    let done = queue.done(4);
    assert_eq!((&done["done"], &done["ahead"]), (&"stored".into(), &0.into()), "{done}");
    // And no longer than its file may anybody's note lie there.
    fs::remove_file(queue.file(5)).unwrap();
    assert_eq!(queue.push(5).code, Some(1));
}

#[test]
fn a_file_that_cannot_be_stored_fails_nobody_but_itself() {
    let queue = Queue::new();
    let good = fs::read(queue.file(3)).unwrap();
    let mut bad = good.clone();
    bad[300] ^= 1;
    fs::write(queue.file(3), &bad).unwrap();
    until("the log to have settled", || {
        let age = fs::metadata(queue.file(3)).unwrap().modified().unwrap().elapsed();
        age.is_ok_and(|age| age > Duration::from_millis(300))
    });
    let first = queue.done(0);
    assert!(first["ahead"].as_u64().unwrap() < queue.names.len() as u64 - 1, "{first}");
    for at in 1..3 {
        let _ = queue.done(at);
    }
    for _ in 0..2 {
        let ran = queue.push(3);
        let object = ran.json();
        assert_eq!((ran.code, &object["code"]), (Some(1), &"log_damaged".into()), "{}", ran.out);
        // It stored nothing ahead: what fails again and again does nothing else.
        assert!(!ran.out.contains("ahead"), "{}", ran.out);
    }
    fs::write(queue.file(3), &good).unwrap();
    assert_eq!(queue.done(3)["done"], "stored");
    let _ = queue.drain();
    queue.all_stored();
}

#[test]
fn a_crash_in_the_middle_loses_nothing() {
    for point in drctl::PUSH_CRASH_POINTS {
        let queue = Queue::new();
        let killed = queue.command(0).env("DRCTL_CRASH_AT", point).output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{point}: {killed:?}");
        let noted = queue.notes();
        assert!(queue.shop.pieces().len() > noted.len(), "{point}: {noted:?}");
        assert_eq!(*point == "push-ahead-noted", !noted.is_empty(), "{point}: {noted:?}");
        let words = queue.drain();
        assert_eq!(words[0], "present", "{point}: {words:?}");
        queue.all_stored();
        assert_eq!(queue.notes(), [""; 0], "{point}");
    }
}

#[test]
fn calls_at_once_do_not_hurt_each_other() {
    let queue = Queue::new();
    let start = |at: usize| {
        let mut command = queue.command(at);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running = [start(0), start(0), start(1), start(2)];
    for child in running {
        let ran = Ran::of(&child.wait_with_output().unwrap()).ended(0).json();
        assert!(["stored", "present", "noted"].contains(&ran["done"].as_str().unwrap()), "{ran}");
    }
    let _ = queue.drain();
    queue.all_stored();
    assert_eq!(queue.notes(), [""; 0]);
}

#[test]
fn what_is_no_segment_goes_its_own_way() {
    let queue = Queue::new();
    let pg_wal = queue.shop.server.data_dir().join("pg_wal");
    let push = |name: &str| {
        let path = pg_wal.join(name).display().to_string();
        queue.shop.drctl(&["wal", "push", "shop", &path])
    };
    // While a history waits, which the server hands over first, nothing else is stored ahead.
    let history = pg_wal.join("00000002.history");
    fs::write(&history, "1\t0/1800000\tno recovery target specified\n").unwrap();
    let marks = ["ready", "done"].map(|end| queue.status().join(format!("00000002.history.{end}")));
    fs::write(&marks[0], "").unwrap();
    give_away(&history);
    give_away(&marks[0]);
    assert_eq!(queue.done(0)["ahead"], 0);
    let pushed = push("00000002.history").ended(0).json();
    assert_eq!((&pushed["done"], &pushed["ahead"]), (&"stored".into(), &0.into()), "{pushed}");
    assert_eq!(push("00000002.history").ended(0).json()["done"], "present");
    fs::rename(&marks[0], &marks[1]).unwrap();
    // A file that PostgreSQL does not wait for is pushed by itself.
    let copy = place().0;
    fs::copy(queue.file(1), copy.path().join(&queue.names[1])).unwrap();
    give_away(copy.path());
    let path = copy.path().join(&queue.names[1]).display().to_string();
    let alone = queue.shop.drctl(&["wal", "push", "shop", &path]).ended(0).json();
    assert_eq!((&alone["done"], &alone["ahead"]), (&"stored".into(), &0.into()), "{alone}");
    assert_eq!(queue.done(2)["ahead"], queue.names.len() - 3);
    // For what is not kept no bucket is needed.
    fs::rename(queue.shop.site.path("repository"), queue.shop.site.path("away")).unwrap();
    for name in ["000000010000000000000001.partial", "000000010000000000000001.00000028.backup"] {
        assert_eq!(push(name).ended(0).json()["done"], "not_kept", "{name}");
    }
}

/// Lets the server's archiver work off what waits, while more is written.
fn worked_off(queue: Queue) {
    let shop = &queue.shop;
    let pgbench = |arguments: &[&str]| {
        let mut command = shop.server.client("pgbench");
        command.args(arguments).arg("postgres").stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    assert!(pgbench(&["-i", "-q", "-s", "2"]).wait().unwrap().success());
    let command = format!(
        "{} --json --config {} wal push shop %p",
        shop.program().display(),
        shop.site.config().display()
    );
    shop.sql(&format!("alter system set archive_command = '{command}'; select pg_reload_conf()"));
    let mut load = pgbench(&["-n", "-c", "2", "-t", "1500"]);
    shop.tick(101..131);
    assert!(load.wait().unwrap().success());
    shop.archived();
    assert_eq!(shop.sql("select failed_count > 0 from pg_stat_archiver where last_failed_time > last_archived_time"), "");
    let archived: u64 = shop.sql("select archived_count from pg_stat_archiver").parse().unwrap();
    // What the command prints stands in the server's log.
    let log = shop.server.log();
    let count = |word: &str| log.matches(&format!("\"done\":\"{word}\"")).count() as u64;
    assert!(count("noted") >= 8, "{} noted, {} stored", count("noted"), count("stored"));
    assert!(count("noted") + count("stored") + count("not_kept") >= archived, "{log}");
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert_eq!(view["timelines"][0]["gaps"].as_array().map(Vec::len), Some(0), "{view}");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), format!("{},{}", list(1..41), list(101..131)));
    assert_eq!(queue.notes(), [""; 0]);
}

#[test]
fn a_servers_archiver_works_off_what_waits_while_more_is_written() {
    worked_off(Queue::new());
}

#[test]
fn a_bucket_of_s3_takes_what_waits_several_at_once() {
    let minio = Minio::start();
    minio.make_bucket("shop");
    worked_off(Queue::of(Archiving::with(false, in_s3(&minio, minio.endpoint()))));
}

/// Puts the log that waits onto a file system of its own, in a mount namespace that goes with the
/// script; there `push` hands a file over.
#[test]
fn it_is_said_in_time_that_the_disk_of_the_log_fills() {
    let queue = Queue::new();
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    let text = "set -eu\nmkdir \"$SITE/full\" \"$SITE/full/pg_wal\"\n\
        mount -t tmpfs -o size=${SIZE}k none \"$SITE/full\"\n\
        mkdir \"$SITE/full/pg_wal\"; cp -a \"$WAL/.\" \"$SITE/full/pg_wal/\"\n\
        chown 0:0 \"$SITE\"\n\
        chown -R 0:0 \"$SITE/full\" \"$SITE/repository\" \"$SITE/state\"\n\
        push() { \"$DRCTL\" --quiet wal push shop \"$SITE/full/pg_wal/$2\" 2> \"$SITE/$1.err\"; }\n\
        push roomy \"$FIRST\"\n\
        dd if=/dev/zero of=\"$SITE/full/ballast\" bs=1k status=none 2> /dev/null || true\n\
        truncate -s -1500k \"$SITE/full/ballast\"\n\
        mv \"$SITE/repository\" \"$SITE/away\"; push failing \"$SECOND\" && exit 3\n\
        push again \"$SECOND\" && exit 3\nmv \"$SITE/away\" \"$SITE/repository\"\n\
        push later \"$SECOND\"\n";
    let site = &queue.shop.site;
    let kept = queue.shop.server.data_dir().join("pg_wal");
    // Twice of what is there: room for as much again.
    let size = fs::read_dir(&kept).unwrap().count() * 2 * 1024 + 4096;
    unshare.args(["--mount", "bash", "-c", text]).env("SIZE", size.to_string());
    unshare.env("DRCTL", drctl_tests::site::drctl()).env("DRCTL_CONFIG", site.config());
    unshare.env("SITE", site.path("")).env("WAL", &kept);
    // The last one is handed over first: nothing behind it is stored ahead, and no note is left.
    unshare.env("FIRST", queue.names.last().unwrap()).env("SECOND", &queue.names[0]);
    let output = unshare.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = |name: &str| fs::read_to_string(site.path(&format!("{name}.err"))).unwrap();
    assert_eq!(said("roomy"), "");
    let warned = said("failing");
    let line = warned.lines().next().unwrap();
    let waits = format!("warning: {} WAL files (", queue.names.len());
    assert!(line.starts_with(&waits) && line.contains("drctl doctor shop"), "{warned}");
    assert!(line.contains("the server stops") && line.contains("is left"), "{warned}");
    for name in ["again", "later"] {
        assert!(!said(name).contains("warning:"), "said again too soon: {}", said(name));
    }
    // It stands until less waits.
    give_away(&site.path(""));
    let told = || {
        let status = queue.shop.drctl(&["status"]).json();
        let all = status["sources"][0]["findings"].as_array().unwrap().clone();
        all.into_iter().find(|finding| finding["code"] == "log_waits")
    };
    let finding = told().expect("a finding");
    assert_eq!(finding["severity"], "warning");
    assert!(finding["text"].as_str().unwrap().contains("the server stops"), "{finding}");
    let _ = queue.done(queue.names.len() - 1);
    assert_eq!(told(), None);
}
