//! What runs and who is let in once a restored cluster is started, as the server's own program reads its
//! configuration: as it will be, before anything of it is changed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use drctl_model::Digest;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::{Changes, ask};
use crate::common::EngineError;
use crate::pg::physical::conf;
use crate::pg::physical::guard::{CONFIGURATION, INSTANCE};
use crate::pg::physical::private::{TAKE_OVER, folder};

/// Settings that name code, and what they are where nobody set them.
const CODE: [(&str, &str); 11] = [
    ("shared_preload_libraries", ""),
    ("session_preload_libraries", ""),
    ("local_preload_libraries", ""),
    ("dynamic_library_path", "$libdir"),
    ("jit_provider", "llvmjit"),
    ("archive_command", ""),
    ("archive_library", ""),
    ("restore_command", ""),
    ("archive_cleanup_command", ""),
    ("recovery_end_command", ""),
    ("ssl_passphrase_command", ""),
];

/// Settings that name the files of who is let in.
const FILES: [&str; 2] = ["hba_file", "ident_file"];

/// How many files may include each other; the server takes no more than ten.
const DEEP: usize = 12;

/// What counts once the server is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// For people.
    pub says: Vec<String>,
    /// All of it, with the bytes of every file that counts: a digest over it stands for them.
    pub text: String,
}

/// Asks the server's own program what it would make of the configuration, and reads all files of it.
///
/// # Errors
/// [`EngineError::Config`] with its words where it cannot read it; [`EngineError::Io`].
pub fn running(
    bin_dir: &Path,
    data: &Path,
    configuration: Option<&Path>,
    (changes, archive_command): (&Changes, &str),
) -> Result<Running, EngineError> {
    let failed = |error| EngineError::io("write the configuration beside the data")(error);
    let folder = folder(TAKE_OVER)?;
    let likeness = Likeness::of(folder, data, configuration, changes).map_err(failed)?;
    let (mut says, mut text) = (Vec::new(), format!("{}\n", data.display()));
    for (name, usual) in CODE {
        let value = likeness.value(bin_dir, name)?;
        text += &format!("{name} {value:?}\n");
        // What archives is told of by itself.
        let ours = name == "archive_command" && [archive_command, "(disabled)"].contains(&&*value);
        if value != usual && !ours {
            says.push(format!("{name} = {} is in force, and runs code", conf::quoted(&value)));
        }
    }
    let mut files = Files { likeness: &likeness, seen: BTreeSet::new(), text: String::new() };
    files.configuration(&likeness.config, 0);
    files.configuration(&likeness.data.join(INSTANCE), 0);
    for name in FILES {
        let file = PathBuf::from(likeness.value(bin_dir, name)?);
        for line in files.access(&file, 0) {
            if line.split_whitespace().any(|word| word == "trust") {
                says.push(format!("{}: lets in without a password: {line}", likeness.told(&file)));
            }
        }
    }
    text += &files.text;
    Ok(Running { says, text })
}

/// The configuration as it will be: what changes is written there, all else is linked to.
struct Likeness {
    _folder: (TempDir, File),
    data: PathBuf,
    config: PathBuf,
    /// Where it lies, and where what it stands for does.
    places: Vec<(PathBuf, PathBuf)>,
}

impl Likeness {
    fn of(
        (folder, owner): (TempDir, File),
        data: &Path,
        configuration: Option<&Path>,
        changes: &Changes,
    ) -> io::Result<Likeness> {
        let (own, etc) = (folder.path().join("data"), folder.path().join("etc"));
        let mut places = vec![(own.clone(), data.to_owned())];
        let config = match configuration.and_then(|file| Some((file.parent()?, file.file_name()?)))
        {
            Some((at, name)) => {
                places.push((etc.clone(), at.to_owned()));
                etc.join(name)
            }
            None => own.join(CONFIGURATION),
        };
        for (likeness, of) in &places {
            fs::create_dir(likeness)?;
            for entry in fs::read_dir(of)? {
                let entry = entry?;
                symlink(entry.path(), likeness.join(entry.file_name()))?;
            }
            for edit in changes.edits.iter().filter(|edit| edit.file.parent() == Some(of.as_path()))
            {
                let file = likeness.join(edit.file.file_name().unwrap_or_default());
                let _ = fs::remove_file(&file);
                fs::write(file, &edit.new)?;
            }
        }
        Ok(Likeness { _folder: (folder, owner), data: own, config, places })
    }

    /// The value of a setting, when the server starts.
    fn value(&self, bin_dir: &Path, name: &str) -> Result<String, EngineError> {
        let at = self.config.parent().unwrap_or(&self.data);
        let places = [("config_file", &*self.config), ("data_directory", &*self.data)];
        ask(bin_dir, at, &places, name).map_err(|error| match error {
            EngineError::Config(text) => EngineError::Config(self.told_in(&text)),
            other => other,
        })
    }

    /// A path as people know it.
    fn told(&self, file: &Path) -> String {
        self.told_in(&file.display().to_string())
    }

    fn told_in(&self, text: &str) -> String {
        let told = |text: String, (likeness, of): &(PathBuf, PathBuf)| {
            text.replace(&likeness.display().to_string(), &of.display().to_string())
        };
        self.places.iter().fold(text.to_owned(), told)
    }
}

/// All files that count, each once.
struct Files<'a> {
    likeness: &'a Likeness,
    seen: BTreeSet<PathBuf>,
    text: String,
}

impl Files<'_> {
    /// What is in a file that was not read yet; that it is not there counts too.
    fn read(&mut self, file: &Path, depth: usize) -> Option<String> {
        if depth > DEEP || !self.seen.insert(file.to_owned()) {
            return None;
        }
        let bytes = fs::read(file);
        let told = self.likeness.told(file);
        let found = match &bytes {
            Ok(bytes) => Digest(Sha256::digest(bytes).into()).to_string(),
            Err(error) => error.kind().to_string(),
        };
        self.text += &format!("{told} {found}\n");
        Some(String::from_utf8_lossy(&bytes.ok()?).into_owned())
    }

    /// A file of settings, and what it includes.
    fn configuration(&mut self, file: &Path, depth: usize) {
        let Some(text) = self.read(file, depth) else { return };
        for line in text.lines() {
            if let Some((name, value)) = conf::setting(line) {
                for file in included(file, &name, &value) {
                    self.configuration(&file, depth + 1);
                }
            }
        }
    }

    /// A file of those who are let in, with what it includes: its lines.
    fn access(&mut self, file: &Path, depth: usize) -> Vec<String> {
        let Some(text) = self.read(file, depth) else { return Vec::new() };
        let mut lines = Vec::new();
        for line in text.replace("\\\n", " ").lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let mut words = line.split([' ', '\t', ',']).filter(|word| !word.is_empty());
            let (first, second) = (words.next().unwrap_or_default(), words.next());
            let unquoted = second.unwrap_or_default().trim_matches('"');
            for file in included(file, first, unquoted) {
                lines.extend(self.access(&file, depth + 1));
            }
            // Names out of a file.
            for named in line.split([' ', '\t', ',']).filter_map(|word| word.strip_prefix('@')) {
                let named = beside(file, named.trim_matches('"'));
                lines.extend(self.access(&named, depth + 1));
            }
            lines.extend((!line.is_empty()).then(|| line.to_owned()));
        }
        lines
    }
}

/// The files that a line brings in.
fn included(file: &Path, name: &str, value: &str) -> Vec<PathBuf> {
    let place = beside(file, value);
    match name {
        "include" | "include_if_exists" => vec![place],
        "include_dir" => {
            let Ok(entries) = fs::read_dir(&place) else { return Vec::new() };
            let names = entries.filter_map(|entry| Some(entry.ok()?.path()));
            let mut files: Vec<PathBuf> = names.filter(|file| is_conf(file)).collect();
            files.sort();
            files
        }
        _ => Vec::new(),
    }
}

fn is_conf(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".conf") && !name.starts_with('.')
}

fn beside(file: &Path, name: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("/")).join(name)
}
