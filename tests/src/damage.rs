//! What can happen to an object of a repository, and what comes of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drctl_model::Manifest;
use serde_json::Value;

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

/// What is asked of a damaged repository.
pub struct Commands<'a, T> {
    /// What `status` tells.
    pub status: &'a dyn Fn() -> String,
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
/// If anything is restored that was not stored, or refused without a word.
#[must_use]
pub fn matrix<T: PartialEq>(
    subjects: &[Subject],
    commands: &Commands<'_, T>,
) -> BTreeMap<String, Came> {
    let Commands { status, verify, restore, forget } = commands;
    assert!(!verify(), "nothing is damaged yet");
    let before = status();
    let mut table = BTreeMap::new();
    for subject in subjects {
        let good = restore(&subject.restore).unwrap_or_else(|said| panic!("it restores: {said}"));
        let good_bytes =
            [&subject.path, &subject.sibling].map(|path| fs::read(path).expect("read"));
        let mut came = Came::default();
        for how in DAMAGES {
            forget();
            subject.harm(how);
            came.told += u64::from(status() != before);
            came.found += u64::from(verify());
            match restore(&subject.restore) {
                Ok(bytes) => {
                    assert!(bytes == good, "{} {how}: a wrong success", subject.kind);
                    came.right += 1;
                }
                Err(said) => {
                    assert!(!said.is_empty(), "{} {how}: refused without a word", subject.kind);
                    came.refused += 1;
                }
            }
            for (path, bytes) in [&subject.path, &subject.sibling].into_iter().zip(&good_bytes) {
                write(path, bytes);
            }
        }
        table.insert(subject.kind.to_owned(), came);
    }
    forget();
    table
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
        let came =
            Came { told: number(2)?, found: number(3)?, refused: number(4)?, right: number(5)? };
        Some((cells[1].to_owned(), came))
    };
    let rows = table.lines().filter(|line| line.starts_with("| ")).filter_map(row);
    rows.filter(|(kind, _)| subjects.iter().any(|subject| subject.kind == kind)).collect()
}
