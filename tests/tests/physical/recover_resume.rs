//! Recoveries that break off, and go on.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use drctl::RECOVERY_CRASH_POINTS;
use drctl_tests::cluster::{Cluster as _, give_away, held, list, own_place, postmaster, ticks};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, until};
use rustix::process::{Pid, Signal, kill_process};

use crate::log::{Archiving, several};

fn into<'a>(to: &'a str, last: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["restore", "shop", "--to-time", last, "--to-directory", to], more].concat()
}

/// A directory that is not there yet, in one that the server's account owns.
fn new_place() -> (tempfile::TempDir, PathBuf, String) {
    let (folder, path) = own_place();
    let text = path.display().to_string();
    (folder, path, text)
}

/// Kills drctl at a named step.
#[track_caller]
pub(crate) fn killed(shop: &Archiving, arguments: &[&str], step: &str) {
    killed_in(shop, arguments, step, &std::env::temp_dir());
}

#[track_caller]
fn killed_in(shop: &Archiving, arguments: &[&str], step: &str, temporary: &Path) {
    let mut command = shop.command(arguments);
    let ran = command.env("DRCTL_CRASH_AT", step).env("TMPDIR", temporary).output().unwrap();
    let ran = Ran::of(&ran);
    assert_eq!(ran.code, None, "{step} was not reached: {} {}", ran.out, ran.err);
}

#[test]
fn a_recovery_that_was_killed_at_any_step_goes_on() {
    let (shop, last) = several();
    for step in RECOVERY_CRASH_POINTS {
        let (_folder, path, to) = new_place();
        let (_temporary, temporary) = own_place();
        let temporary = temporary.parent().unwrap();
        killed_in(&shop, &into(&to, &last, &["--promote"]), step, temporary);
        // Neither begun anew in the same place, nor taken for another one.
        let said = shop.drctl(&into(&to, &last, &["--promote"])).failed(12, "target_unfit");
        assert!(said.contains("--resume"), "{step}: {said}");
        let other = shop.committed(30);
        let said = shop.drctl(&into(&to, &other, &["--resume"])).failed(12, "target_unfit");
        assert!(said.contains("another recovery"), "{step}: {said}");
        let again = into(&to, &last, &["--promote", "--resume", "--json"]);
        let again = shop.command(&again).env("TMPDIR", temporary).output().unwrap();
        let done = Ran::of(&again).ended(0).json();
        // Nor does anything stay of the private directory of the one that was killed.
        let left: Vec<_> = fs::read_dir(temporary).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(left.is_empty(), "{step}: {left:?}");
        assert_eq!((&done["promoted"], &done["shows"]), (&true.into(), &last.as_str().into()));
        assert!(done["stopped"].is_string() || done["stopped"].is_null(), "{done}");
        assert_eq!(ticks(&path), list(1..41), "{step}");
    }
}

#[test]
fn what_is_whole_is_kept_and_what_is_damaged_comes_again() {
    let shop = Archiving::start(true);
    let outside = own_place().0;
    shop.sql(&format!("create tablespace far location '{}'", outside.path().display()));
    shop.sql("create table far_one tablespace far as select generate_series(1, 5000) x");
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shop.tick(1..11);
    shop.archived();
    let last = shop.committed(9);
    let file = |path: &Path| {
        let spaces = path.join("tablespaces");
        let mut found = walk(&spaces);
        found.sort_by_key(|file| fs::metadata(file).unwrap().len());
        found.pop().expect("a table's file")
    };
    for damage in [false, true] {
        let (_folder, path, to) = new_place();
        killed(&shop, &into(&to, &last, &[]), "recovery-stream-extracted");
        assert!(!path.join("data").exists(), "a tablespace comes first");
        let table = file(&path);
        // Held open: the number of a file that is gone would be given to the next one.
        let held = fs::File::open(&table).unwrap();
        let (inode, mut bytes) = (held.metadata().unwrap().ino(), fs::read(&table).unwrap());
        if damage {
            bytes[9000] ^= 1;
            fs::write(&table, bytes).unwrap();
        }
        let _ = shop.drctl(&into(&to, &last, &["--resume", "--promote"])).ended(0);
        assert_eq!(fs::metadata(&table).unwrap().ino() == inode, !damage);
        let restored = Postgres::builder().data(&path.join("data")).start();
        assert_eq!(restored.psql("postgres", "select sum(x) from far_one"), "12502500");
    }
}

fn walk(at: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn only_a_directory_with_this_recovery_is_gone_on_with() {
    let (shop, last) = several();
    let (_folder, path, to) = new_place();
    let said = shop.drctl(&into(&to, &last, &["--resume"])).failed(12, "target_unfit");
    assert!(said.contains("no recovery") && !path.exists(), "{said}");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("recovery.json"), "{\"v\": 1}").unwrap();
    fs::write(path.join("precious"), "x").unwrap();
    give_away(&path);
    let said = shop.drctl(&into(&to, &last, &["--resume"])).failed(12, "target_unfit");
    assert!(said.contains("drctl did not write"), "{said}");
    let _ = shop.drctl(&into(&to, &last, &[])).failed(12, "target_unfit");
    assert_eq!(fs::read(path.join("precious")).unwrap(), b"x");
    assert!(!path.join("data").exists());
}

#[test]
fn a_failure_ends_with_five_lines_and_the_command_to_go_on_works() {
    let (shop, last) = several();
    let (_folder, path, to) = new_place();
    let piece = shop.pieces().into_iter().rev().nth(1).unwrap();
    let hidden = piece.with_extension("hidden");
    let damaged = {
        let mut bytes = fs::read(&piece).unwrap();
        let at = bytes.len() - 50;
        bytes[at] ^= 1;
        bytes
    };
    fs::rename(&piece, &hidden).unwrap();
    fs::write(&piece, damaged).unwrap();
    let ran = Ran::of(&shop.command(&into(&to, &last, &[])).output().unwrap()).ended(4);
    let (_, error) = ran.err.split_once("error: the recovery").expect("an error");
    let error = format!("the recovery{error}");
    let lines: Vec<&str> = error.lines().take_while(|line| !line.starts_with("hint: ")).collect();
    let begins = ["the recovery to ", "  safe: ", "  the source was not touched"];
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(begin), "{error}");
    }
    assert_eq!(lines.len(), 5, "{error}");
    // The same again would meet the same damage.
    assert!(lines[3].starts_with("  best alternative: all WAL before what is damaged"), "{error}");
    let command = "  command: drctl restore shop --to-end --accept-loss --to-directory NEW";
    assert!(lines[4].starts_with(command), "{error}");
    // The damage is mended; what fails then is no fault of the bucket: the same command goes on.
    fs::rename(&hidden, &piece).unwrap();
    let again = shop.drctl(&into(&to, &last, &["--resume"])).failed(5, "no_plan");
    assert!(again.contains("damaged") || again.contains("the WAL ends at"), "{again}");
    let _ = shop.drctl(&["verify", "shop", "--data"]).ended(0);
    fs::write(path.join("extracted"), "in the way").unwrap();
    let ran = shop.drctl(&into(&to, &last, &["--resume", "--extract", "postgres:public.ticks"]));
    let said = ran.ended(1).json()["messages"][0].as_str().unwrap().to_owned();
    let command = said.lines().find_map(|line| line.strip_prefix("  command: ")).unwrap();
    assert!(said.contains("make the directory") && command.ends_with("--resume"), "{said}");
    fs::remove_file(path.join("extracted")).unwrap();
    let words: Vec<&str> = command.split(' ').collect();
    assert_eq!(words[0], "drctl");
    let words = words[1..].to_vec();
    let done = shop.drctl(&words).ended(0).json();
    assert_eq!(done["extracted"][0]["rows"], 40, "{done}");
}

/// The process whose command line has both words, and is not that of a shell.
fn process(words: [&str; 2]) -> Option<Pid> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).find_map(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let program = line.split('\0').next()?.to_owned();
        let found = program.ends_with("/drctl") && words.iter().all(|word| line.contains(word));
        found.then(|| Pid::from_raw(pid))?
    })
}

/// drctl on a terminal.
fn on_terminal(shop: &Archiving, arguments: &[&str]) -> Command {
    let command = shop.command(arguments);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let line = format!("stty cols 200; {}", words.join(" "));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    script.env("DRCTL_CONFIG", shop.site.config()).env("TZ", "UTC").env("TERM", "xterm");
    script.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    script
}

#[test]
fn a_terminal_shows_how_far_the_replay_is() {
    let (shop, _) = several();
    // So much that the replay lasts for longer than a picture.
    shop.sql("create table filler as select repeat('x', 100) from generate_series(1, 300000)");
    shop.archived();
    let (_folder, _, to) = new_place();
    let recover = ["restore", "shop", "--to-end", "--to-directory", &to, "--promote"];
    let output = on_terminal(&shop, &recover).output();
    let ran = Ran::of(&output.expect("script is missing: apt-get install bsdutils")).ended(0);
    // Which of both it is for longer than a picture depends on the host.
    let stages = ["replaying until the base backup is consistent", "last commit replayed: "];
    assert!(stages.iter().any(|stage| ran.out.contains(stage)), "{}", ran.out);
    assert!(ran.out.contains("iB/s"), "a rate: {}", ran.out);
}

#[test]
fn a_closed_terminal_does_not_end_a_recovery() {
    let (shop, last) = several();
    let (_folder, path, to) = new_place();
    let mut script = on_terminal(&shop, &into(&to, &last, &[]));
    script.stdout(Stdio::null());
    let mut script = script.spawn().expect("script is missing: apt-get install bsdutils");
    // The recovering server is held, so that the recovery is surely under way.
    let server = held(&path.join("data"));
    let drctl = process(["restore", &to]).expect("drctl runs");
    script.kill().unwrap();
    script.wait().unwrap();
    let words = format!("/proc/{}/fd/2", drctl.as_raw_nonzero());
    let gone = || fs::read_link(&words).is_ok_and(|at| at.to_string_lossy().contains("deleted"));
    until("the terminal to go away", || gone() || !Path::new(&words).exists());
    assert!(Path::new(&words).exists(), "it ended with its terminal");
    // Another one cannot take over what is under way.
    let said = shop.drctl(&into(&to, &last, &["--resume"])).failed(12, "target_unfit");
    assert!(said.contains("another drctl works in"), "{said}");
    kill_process(server, Signal::CONT).unwrap();
    let log = path.join("drctl.log");
    let told = || fs::read_to_string(&log).unwrap_or_default();
    until("the recovery to end", || process(["restore", &to]).is_none());
    assert!(told().contains(&format!("/data: {last}")), "{}", told());
    let _ = shop.drctl(&into(&to, &last, &["--resume", "--promote"])).ended(0);
    assert_eq!(ticks(&path), list(1..41));
}

#[test]
fn commits_that_came_between_the_proof_and_a_promotion_are_not_taken_for_proven() {
    let (shop, last) = several();
    let (_folder, path, to) = new_place();
    killed(&shop, &into(&to, &last, &["--promote"]), "recovery-proven");
    let data = path.join("data");
    until("its server to end with it", || postmaster(&data).is_none());
    // It is given the plan's log and no more; told otherwise, it goes on with log that comes.
    shop.tick(41..46);
    shop.archived();
    for name in ["postgresql.conf", "postgresql.auto.conf"] {
        fs::rename(path.join(format!("{name}.source")), data.join(name)).unwrap();
    }
    let auto = data.join("postgresql.auto.conf");
    let lines = fs::read_to_string(&auto).unwrap();
    let more = |line: &str| match line.strip_suffix(".'") {
        Some(line) if line.starts_with("restore_command") => format!("{line}'\n"),
        _ => format!("{line}\n"),
    };
    let changed: String = lines.lines().map(more).collect();
    assert_ne!(changed, lines);
    fs::write(&auto, changed).unwrap();
    // Somebody starts one by hand, which goes on with log that comes, and opens it.
    let mut by_hand = Postgres::builder().data(&data).start();
    let rows = || by_hand.psql("postgres", "select count(*) from ticks");
    until("the later log to be replayed", || rows() == "45");
    by_hand.psql("postgres", "select pg_promote()");
    by_hand.stop();
    let state = fs::read_to_string(path.join("recovery.json")).unwrap();
    assert!(state.contains("\"proven\""), "{state}");
    let state = state.replace("\"proven\"", "\"promoting\"");
    fs::write(path.join("recovery.json"), state).unwrap();
    for _ in 0..2 {
        let resumed = shop.drctl(&into(&to, &last, &["--promote", "--resume"]));
        let said = resumed.failed(4, "mismatch");
        assert!(said.contains("was not proven"), "{said}");
    }
}
