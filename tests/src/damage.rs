//! What can happen to an object of a repository, and what comes of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drctl_model::Manifest;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use crate::site::Ran;

/// So long may a command take on a damaged repository, on a machine that is busy with more.
const MOST: Duration = Duration::from_secs(60);

/// The kinds of damage.
pub const DAMAGES: [&str; 7] =
    ["deleted", "cut", "flipped", "emptied", "swapped", "older", "signed by a stranger"];

/// Makes a directory what another one is.
///
/// # Panics
/// If it cannot be copied.
pub fn replace(to: &Path, from: &Path) {
    let _ = fs::remove_dir_all(to);
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("run cp").success());
}

/// What an envelope says of itself, without any proof; nothing where it cannot be read.
#[must_use]
pub fn unproven_manifest(envelope: &[u8]) -> Option<Manifest> {
    let value: Value = serde_json::from_slice(envelope).ok()?;
    let payload = STANDARD.decode(value.get("payload")?.as_str()?).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// One object of a kind.
pub struct Subject {
    /// Which kind.
    pub kind: &'static str,
    /// Where it lies.
    pub path: PathBuf,
    /// Another one of the kind, or of any where there is none.
    pub sibling: PathBuf,
    /// What is put in its place as something older.
    pub older: PathBuf,
    /// The same object as a stranger would write it.
    pub strange: Vec<u8>,
    /// The arguments of a command that needs it.
    pub restore: Vec<String>,
}

/// What came of all damages of one kind of object.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    /// `status` told something that it had not told before.
    pub told: u64,
    /// `catalog check` found something.
    pub checked: u64,
    /// Verify found something.
    pub found: u64,
    /// The restore was refused.
    pub refused: u64,
    /// The restore gave what was stored.
    pub right: u64,
}

impl Subject {
    fn harm(&self, how: &str) {
        let good = fs::read(&self.path).expect("the object");
        match how {
            "deleted" => fs::remove_file(&self.path).expect("remove"),
            "cut" => write(&self.path, &good[..good.len() - 7]),
            "emptied" => write(&self.path, b""),
            "flipped" => {
                let mut bytes = good;
                let at = bytes.len() * 2 / 3;
                bytes[at] ^= 0x04;
                write(&self.path, &bytes);
            }
            "swapped" => {
                write(&self.path, &fs::read(&self.sibling).expect("a sibling"));
                write(&self.sibling, &good);
            }
            "older" => write(&self.path, &fs::read(&self.older).expect("an older one")),
            _ => write(&self.path, &self.strange),
        }
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("write");
}

/// A cell of the table: one command on one damage, which has to end in time.
#[derive(Debug, Default)]
pub struct Cell(RefCell<String>);

impl Cell {
    fn begin(&self, kind: &str, how: &str, verb: &str) {
        *self.0.borrow_mut() = format!("{kind}, {how}, {verb}");
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// With the name of the cell, if it takes too long.
    #[must_use]
    pub fn run(&self, command: Command) -> Ran {
        self.run_within(MOST, command)
    }

    fn run_within(&self, most: Duration, mut command: Command) -> Ran {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("start the command");
        // It stands for this very process, also when that has ended.
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
        let process = process.expect("hold the process");
        let (ended, ends) = channel::<()>();
        let watch = thread::spawn(move || {
            let late = ends.recv_timeout(most) == Err(RecvTimeoutError::Timeout);
            if late {
                let _ = pidfd_send_signal(&process, Signal::KILL);
            }
            late
        });
        let output = child.wait_with_output().expect("wait for the command");
        drop(ended);
        let late = watch.join().expect("the watch");
        assert!(!late, "{}: it did not end within {most:?}: {command:?}", self.0.borrow());
        Ran::of(&output)
    }
}

/// What is asked of a damaged repository.
pub struct Commands<'a, T> {
    /// By what they run.
    pub cell: &'a Cell,
    /// What `status` tells.
    pub status: &'a dyn Fn() -> String,
    /// What `prune` would remove.
    pub prune: &'a dyn Fn() -> BTreeSet<String>,
    /// Whether `catalog check` found anything.
    pub check: &'a dyn Fn() -> bool,
    /// Whether verify found anything.
    pub verify: &'a dyn Fn() -> bool,
    /// What was restored, or what was said.
    pub restore: &'a dyn Fn(&[String]) -> Result<T, String>,
    /// Makes the host forget what it has seen.
    pub forget: &'a dyn Fn(),
}

/// Does everything to every object, and undoes it.
///
/// # Panics
/// If anything is restored that was not stored, or refused without a word; or if anything would be removed
/// that has to stay.
#[must_use]
pub fn matrix<T: PartialEq>(
    subjects: &[Subject],
    commands: &Commands<'_, T>,
) -> BTreeMap<String, Came> {
    let Commands { cell, status, prune, check, verify, restore, forget } = commands;
    cell.begin("everything", "whole", "all verbs");
    assert!(!verify() && !check(), "nothing is damaged yet");
    let (before, may_go) = (status(), prune());
    let mut table = BTreeMap::new();
    for subject in subjects {
        let kind = subject.kind;
        cell.begin(kind, "whole", "restore");
        let good = restore(&subject.restore).unwrap_or_else(|said| panic!("it restores: {said}"));
        let good_bytes =
            [&subject.path, &subject.sibling].map(|path| fs::read(path).expect("read"));
        let mut came = Came::default();
        for how in DAMAGES {
            forget();
            subject.harm(how);
            cell.begin(kind, how, "status");
            came.told += u64::from(status() != before);
            cell.begin(kind, how, "prune");
            let goes = prune();
            assert!(goes.is_subset(&may_go), "{kind} {how}: {goes:?} would be removed");
            cell.begin(kind, how, "catalog check");
            came.checked += u64::from(check());
            cell.begin(kind, how, "verify");
            came.found += u64::from(verify());
            cell.begin(kind, how, "restore");
            match restore(&subject.restore) {
                Ok(bytes) => {
                    assert!(bytes == good, "{kind} {how}: a wrong success");
                    came.right += 1;
                }
                Err(said) => {
                    assert!(!said.is_empty(), "{kind} {how}: refused without a word");
                    came.refused += 1;
                }
            }
            for (path, bytes) in [&subject.path, &subject.sibling].into_iter().zip(&good_bytes) {
                write(path, bytes);
            }
        }
        table.insert(kind.to_owned(), came);
    }
    forget();
    table
}

/// Takes an object away, and asserts that everybody says so until it is back, or forgotten.
///
/// # Panics
/// If somebody does not.
pub fn is_missed(path: &Path, key: &str, run: &dyn Fn(&[&str]) -> Ran) {
    let good = fs::read(path).expect("the object");
    let status = || run(&["status"]).ended(0).json()["sources"][0]["vanished"].to_string();
    let is_told = |what: &Value, who: &str| {
        assert!(what.to_string().contains(key), "{who} does not miss {key}: {what}");
    };
    assert!(!status().contains(key), "{key} is there");
    fs::remove_file(path).expect("remove");
    for _ in 0..2 {
        assert!(status().contains(key), "status does not miss {key}: {}", status());
        is_told(&run(&["verify", "shop"]).ended(4).json()["lost"], "verify");
        is_told(&run(&["catalog", "check"]).ended(4).json()["lost"], "catalog check");
        // Nor does a catalog that is made anew forget it.
        let _ = run(&["catalog", "rebuild"]).ended_well_or(&[3]);
    }
    let plan = run(&["prune", "shop"]).ended(0).json();
    assert!(plan["sources"][0]["blocked"].to_string().contains("LOST"), "{key}: {plan}");
    write(path, &good);
    for words in [&["catalog", "check"][..], &["verify", "shop"]] {
        let lost = run(words).json()["lost"].to_string();
        assert!(!lost.contains(key), "{words:?} misses {key}, which is back: {lost}");
    }
    assert!(!status().contains(key), "{key} is back");
    fs::remove_file(path).expect("remove");
    let _ = status();
    let asked = run(&["catalog", "forget", "shop"]).ended(0).json();
    let yes = format!("--yes={}", asked["digest"].as_str().expect("a digest"));
    let _ = run(&["catalog", "forget", "shop", &yes]).ended(0);
    assert!(!status().contains(key), "{key} is forgotten");
    let lost = run(&["catalog", "check"]).json()["lost"].to_string();
    assert!(!lost.contains(key), "{key} is forgotten: {lost}");
    write(path, &good);
    let _ = status();
}

/// The rows of the table in the documentation that are of these kinds.
///
/// # Panics
/// If there is no table.
#[must_use]
pub fn documented(subjects: &[Subject]) -> BTreeMap<String, Came> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let page = fs::read_to_string(root.join("docs/stores.md")).expect("a page");
    let table = page.split("## What damage leads to").nth(1).expect("a section");
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let number = |at: usize| cells.get(at)?.parse().ok();
        let came = Came {
            told: number(2)?,
            checked: number(3)?,
            found: number(4)?,
            refused: number(5)?,
            right: number(6)?,
        };
        Some((cells[1].to_owned(), came))
    };
    let rows = table.lines().filter(|line| line.starts_with("| ")).filter_map(row);
    rows.filter(|(kind, _)| subjects.iter().any(|subject| subject.kind == kind)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "a piece, emptied, verify: it did not end within")]
    fn a_command_that_hangs_names_its_cell() {
        let cell = Cell::default();
        cell.begin("a piece", "emptied", "verify");
        let mut hangs = Command::new("sleep");
        hangs.arg("600");
        let _ = cell.run_within(Duration::from_millis(50), hangs);
    }
}
