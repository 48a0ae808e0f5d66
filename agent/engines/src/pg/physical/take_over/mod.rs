//! A restored cluster takes the place of the server that is gone: what of its configuration has to
//! change, and the change. Its data stay where they are.

mod beside;
mod configuration;
mod control;
mod running;

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

pub use beside::{Beside, Server, servers_beside};
use configuration::Edited;
pub use control::{Control, control};
pub use running::{Running, running};

use super::Layout;
use super::guard::{CONFIGURATION, INSTANCE};
use super::surroundings::read_plain;
use crate::common::process::told;
use crate::common::{Below, EngineError};

/// What is asked for.
pub struct TakeOver<'a> {
    /// Where the cluster lies.
    pub layout: &'a Layout,
    /// What its control file says.
    pub control: &'a Control,
    /// The server's configuration, where it lies outside the data directory, as on Debian.
    pub configuration: Option<&'a Path>,
    /// The command that archives its WAL; nothing where it is streamed.
    pub archive_command: Option<&'a str>,
}

/// A file that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Which one.
    pub file: PathBuf,
    /// What changes in it, for people.
    pub says: Vec<String>,
    /// What is in it now.
    old: Vec<u8>,
    /// What will be in it.
    pub new: Vec<u8>,
}

/// All that would change, and what is to be known of what does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The files that change.
    pub edits: Vec<Edit>,
    /// WAL and history of its own timeline that nobody has archived yet: the archiver is told.
    pub ready: Vec<String>,
    /// What counts from now on, and was not obeyed while it was recovered.
    pub notes: Vec<String>,
}

/// Finds out what has to change. Changes nothing.
///
/// # Errors
/// [`EngineError::Io`].
pub fn changes(take_over: &TakeOver<'_>) -> Result<Changes, EngineError> {
    let data = take_over.layout.data();
    let mut edits = Vec::new();
    let mut notes = Vec::new();
    let mut add = |file: PathBuf, change: &dyn Fn(&[u8]) -> Edited| {
        let old = match read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            old => old.map_err(EngineError::io(format!("read {}", file.display())))?,
        };
        let Edited { new, says, notes: told } = change(&old);
        notes.extend(told.into_iter().map(|note| format!("{}: {note}", file.display())));
        if new != old {
            edits.push(Edit { file, says, old, new });
        }
        Ok::<_, EngineError>(())
    };
    add(data.join(INSTANCE), &|old| configuration::auto(old, take_over.archive_command))?;
    match take_over.configuration {
        Some(file) => add(file.to_owned(), &|old| configuration::elsewhere(old, &data))?,
        None => add(data.join(CONFIGURATION), &|old| configuration::own(old, &data))?,
    }
    let ready = match take_over.archive_command {
        Some(_) => unarchived(&data, take_over.control)?,
        None => Vec::new(),
    };
    Ok(Changes { edits, ready, notes })
}

/// Makes the changes: each file is the old or the new one at every moment, and the old one is kept
/// beside it.
///
/// # Errors
/// [`EngineError::Io`]; what was changed by then is changed back.
pub fn make(changes: &Changes, data: &Path) -> Result<(), EngineError> {
    let status = data.join("pg_wal/archive_status");
    for name in &changes.ready {
        let file = status.join(format!("{name}.ready"));
        match File::create_new(&file) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(EngineError::io(format!("write {}", file.display()))(error));
            }
            _ => {}
        }
    }
    for (at, edit) in changes.edits.iter().enumerate() {
        let written = keep(edit).and_then(|()| replace(&edit.file, &edit.new));
        if let Err(error) = written {
            for done in &changes.edits[..at] {
                let _ = replace(&done.file, &done.old);
            }
            return Err(EngineError::io(format!("write {}", edit.file.display()))(error));
        }
    }
    Ok(())
}

/// Takes the changes of the configuration back.
///
/// # Errors
/// [`EngineError::Io`].
pub fn unmake(changes: &Changes) -> Result<(), EngineError> {
    for edit in &changes.edits {
        let written = replace(&edit.file, &edit.old);
        written.map_err(EngineError::io(format!("write {}", edit.file.display())))?;
    }
    Ok(())
}

/// What the server's own program makes of its configuration: the value of a setting, when it starts.
/// It starts no server, and loads nothing that the configuration names.
///
/// # Errors
/// [`EngineError::Config`] with its words where it cannot read it.
pub fn value_of(
    bin_dir: &Path,
    data: &Path,
    configuration: Option<&Path>,
    name: &str,
) -> Result<String, EngineError> {
    let file = configuration.map(|file| ("config_file", file));
    ask(bin_dir, data, file.as_slice(), name)
}

/// The same, with places that are told on the command line.
fn ask(
    bin_dir: &Path,
    data: &Path,
    places: &[(&str, &Path)],
    name: &str,
) -> Result<String, EngineError> {
    let mut tool = std::process::Command::new(bin_dir.join("postgres"));
    tool.arg("-D").arg(data).args(["-C", name]).env_clear().env("LC_ALL", "C").current_dir("/");
    for (setting, place) in places {
        tool.arg("-c").arg(format!("{setting}={}", place.display()));
    }
    let output = told(&mut tool).map_err(EngineError::io("ask postgres for its configuration"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(EngineError::Config(format!(
            "no server starts with the configuration of the restored cluster, which was left as it is: \
             correct it, then run this again. What PostgreSQL refuses: {}",
            text(&output.stderr).lines().map(str::trim).collect::<Vec<_>>().join("; ")
        ))),
    }
}

/// Whole WAL of the cluster's own timeline, and its history, which nobody was told to archive while
/// it was restored.
fn unarchived(data: &Path, control: &Control) -> Result<Vec<String>, EngineError> {
    let folder = data.join("pg_wal");
    let failed = || EngineError::io(format!("look into {}", folder.display()));
    let status = folder.join("archive_status");
    let told = |name: &str| {
        ["done", "ready"].iter().any(|end| status.join(format!("{name}.{end}")).exists())
    };
    let history = format!("{:08X}.history", control.timeline.id());
    let open = control.segment_size.start_of(control.checkpoint);
    let whole = |name: &str| match control.segment_size.parse_file_name(name) {
        Ok((timeline, start)) => timeline == control.timeline && start < open,
        Err(_) => name == history,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        found.extend(name.to_str().filter(|name| whole(name) && !told(name)).map(str::to_owned));
    }
    found.sort();
    Ok(found)
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Keeps what was there before, the first time.
fn keep(edit: &Edit) -> io::Result<()> {
    let beside = with_end(&edit.file, ".before-take-over");
    let mut file = match File::create_new(&beside) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        file => file?,
    };
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(&edit.old)?;
    file.sync_all()
}

/// Puts a file in the place of another one, with that one's mode.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mode = fs::symlink_metadata(file).map_or(0o600, |meta| meta.mode() & 0o777);
    let name = Path::new(file.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    let below = Below::open(file.parent().unwrap_or(Path::new("/")))?;
    below.replace_as(with_end(name, ".drctl-part"), name, bytes, mode)
}

fn with_end(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// The major version of a data directory.
#[must_use]
pub fn version_of(layout: &Layout) -> Option<String> {
    Some(read_plain(&layout.data().join("PG_VERSION"))?.trim().to_owned())
}
