//! A sandbox for a program that works on a stranger's data, and may obey it: namespaces of its own, in
//! which the keys, the network, other processes and all other files of the host do not exist. It is
//! bubblewrap that makes it.

mod limits;
mod mounts;
mod probe;

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::process::Command;

pub use limits::Limits;
pub use mounts::Wanted;
use mounts::{Host, Kind, SYSTEM, arguments, mounts};
pub use probe::{NoSandbox, look_for_sandbox};

use super::EngineError;

/// Namespaces of its own for all that there is one for.
const APART: [&str; 5] =
    ["--unshare-user", "--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts"];

/// A sandbox can be had on this host: how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    program: PathBuf,
    /// Whether it can have a `/proc`; what runs in it does without, where not.
    proc: bool,
    /// Which part it does without, and why.
    pub lacks: Option<String>,
    /// What runs in it may take no more than that.
    limits: Option<Arc<Limits>>,
}

/// Enters a control group, and becomes what is to run in it.
const ENTER: &str = r#"echo 0 > "$1" && shift && exec "$@""#;

impl Sandbox {
    /// The same, in which programs may take no more than that of the host; nothing where they may take all.
    #[must_use]
    pub fn limited(self, limits: Option<Arc<Limits>>) -> Self {
        Sandbox { limits, ..self }
    }

    /// The command of a sandbox in which `program` runs; its arguments follow. The directory `root` is `/`
    /// there: what the host does not show in it can be made in it, from inside and from outside.
    ///
    /// `dies` says that it is to end with us, whatever becomes of us.
    pub(crate) fn command(
        &self,
        (root, wanted, dies): (&Path, &Wanted, bool),
        program: &Path,
    ) -> Result<Command, EngineError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(root);
        made.map_err(EngineError::io(format!("make the directory {}", root.display())))?;
        let mut command = match &self.limits {
            Some(limits) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", ENTER, "sh"]).arg(limits.entry()).arg(&self.program);
                shell
            }
            None => Command::new(&self.program),
        };
        command.args(self.options(root, wanted));
        if dies {
            command.arg("--die-with-parent");
        }
        command.arg("--").arg(program);
        Ok(command)
    }

    fn options(&self, root: &Path, wanted: &Wanted) -> Vec<std::ffi::OsString> {
        let mut all: Vec<std::ffi::OsString> = APART.iter().map(Into::into).collect();
        all.extend(["--new-session", "--hostname", "sandbox", "--bind"].map(Into::into));
        all.extend([root.as_os_str().to_owned(), "/".into()]);
        let proc = if self.proc { ["--proc", "/proc"] } else { ["--dir", "/proc"] };
        all.extend(proc.map(Into::into));
        all.extend(["--dev", "/dev", "--dir", "/tmp", "--chdir", "/"].map(Into::into));
        all.extend(arguments(&mounts(&host(wanted), wanted)));
        all
    }
}

/// What of the host could be shown.
fn host(wanted: &Wanted) -> Host {
    let named = wanted.programs.iter().chain(&wanted.readable).chain(&wanted.hidden).cloned();
    let all = SYSTEM.iter().map(PathBuf::from).chain(named);
    let kind = |path: PathBuf| {
        let meta = fs::symlink_metadata(&path).ok()?;
        let kind = if meta.is_symlink() {
            match SYSTEM.iter().any(|known| Path::new(known) == path) {
                true => Kind::Link(fs::read_link(&path).ok()?),
                // What it leads to is what counts.
                false if fs::metadata(&path).ok()?.is_dir() => Kind::Directory,
                false => Kind::File,
            }
        } else if meta.is_dir() {
            Kind::Directory
        } else {
            Kind::File
        };
        Some((path, kind))
    };
    let mut host: Host = all.filter_map(kind).collect();
    for (place, _) in &wanted.led {
        let seen = |folder: &&Path| shown_by(folder, &wanted.programs);
        let way: Vec<&Path> = place.ancestors().skip(1).filter(seen).collect();
        host.extend(way.into_iter().flat_map(beside));
    }
    host
}

/// What lies in a directory of the host, where it is one and no link to one.
fn beside(folder: &Path) -> Vec<(PathBuf, Kind)> {
    if !fs::symlink_metadata(folder).is_ok_and(|meta| meta.is_dir()) {
        return Vec::new();
    }
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let kind = |entry: fs::DirEntry| {
        let (path, what) = (entry.path(), entry.file_type().ok()?);
        let kind = match () {
            () if what.is_symlink() => Kind::Link(fs::read_link(&path).ok()?),
            () if what.is_dir() => Kind::Directory,
            () if what.is_file() => Kind::File,
            () => return None,
        };
        Some((path, kind))
    };
    entries.filter_map(kind).collect()
}

/// Whether a directory of the host is seen in a sandbox, as the system's or among these.
fn shown_by(folder: &Path, programs: &[PathBuf]) -> bool {
    let system = SYSTEM.iter().map(Path::new);
    system.chain(programs.iter().map(PathBuf::as_path)).any(|shown| folder.starts_with(shown))
}

/// Whether a place is not the sandbox's own in one with these programs that was made without knowing of it:
/// something else is seen there.
#[must_use]
pub(crate) fn is_covered(place: &Path, programs: &[PathBuf], hidden: &[PathBuf]) -> bool {
    let (place, within) = (as_in_sandbox(place), |at: &PathBuf| place.starts_with(at));
    place.starts_with("/dev")
        || shown_by(&place, &[])
        || programs.iter().any(within)
        || hidden.iter().any(within)
}

/// A path as a sandbox has it, where the system's own links are followed, as `/lib` is one.
pub(crate) fn as_in_sandbox(place: &Path) -> PathBuf {
    let leads = |link: &&str| {
        let rest = place.strip_prefix(link).ok()?;
        let to = fs::read_link(link).ok()?;
        Some(Path::new(link).parent()?.join(to).join(rest))
    };
    SYSTEM.iter().find_map(leads).unwrap_or_else(|| place.to_owned())
}
