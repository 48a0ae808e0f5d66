//! Where the server of a restored cluster runs, and what it is given there.

use std::fs::{self, DirBuilder, File};
use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use drctl_model::shown;
use tokio::process::{Child, Command};

use super::Layout;
use super::places::lead;
use super::private::Private;
use crate::common::process::told;
use crate::common::sandbox::{self, Sandbox, Wanted, as_in_sandbox};
use crate::common::{Below, EngineError, runs, temporary};

/// Where drctl itself is in a sandbox.
const CLIENT: &str = "/run/drctl";

/// Dictionaries that Debian makes of the system's own, and links to from where servers look.
const CACHE: &str = "/var/cache/postgresql";

/// The most bytes of a configuration that is looked at.
const MOST: u64 = 1 << 20;

/// Makes what brings the server its WAL, in its private directory, and tells the shell command that
/// asks for it (`restore_command`); drctl itself is where the second path says.
pub type BringLog<'a> = dyn Fn(&Path, &Path) -> std::io::Result<String> + Sync + 'a;

/// What surrounds a server that recovers.
pub struct Surroundings<'a> {
    /// How a sandbox is made for it; without one it sees what we see.
    pub sandbox: Option<&'a Sandbox>,
    /// What it must not see in its sandbox, wherever that lies.
    pub hidden: Vec<PathBuf>,
    /// Whether it goes on when we end.
    pub outlives: bool,
    /// Libraries that it loads when it starts.
    pub preload: Vec<String>,
    /// Its WAL.
    pub log: &'a BringLog<'a>,
    /// Tablespaces that the WAL makes at places where something else would be seen.
    pub led: Vec<(u32, PathBuf)>,
}

/// No WAL comes from anywhere.
fn no_log(_: &Path, _: &Path) -> std::io::Result<String> {
    Ok(String::new())
}

impl<'a> Surroundings<'a> {
    /// Those of a server that replays nothing, and ends with us.
    pub(super) fn of_scratch(sandbox: &'a Sandbox, hidden: Vec<PathBuf>) -> Self {
        let (sandbox, preload, led) = (Some(sandbox), Vec::new(), Vec::new());
        Surroundings { sandbox, hidden, outlives: false, preload, log: &no_log, led }
    }
}

impl Surroundings<'_> {
    /// The command that brings the WAL.
    pub(super) fn restore_command(&self, private: &Path) -> Result<String, EngineError> {
        let told = match self.sandbox {
            Some(_) => (self.log)(private, Path::new(CLIENT)),
            None => (self.log)(private, &program()?),
        };
        told.map_err(EngineError::io("listen for the server that recovers"))
    }

    /// Starts the server.
    pub(super) fn start(
        &self,
        (layout, bin_dir, private): (&Layout, &Path, &Private),
        arguments: &[String],
        log: File,
    ) -> Result<Child, EngineError> {
        let mut command = self.command((layout, bin_dir, private), "postgres")?;
        // What a terminal sends when it is closed, or when its keys are pressed, is ours to answer.
        command.args(arguments).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().map_err(EngineError::io("start the restored server"))
    }

    /// One of the server's programs, where it is to run.
    pub(super) fn command(
        &self,
        (layout, bin_dir, private): (&Layout, &Path, &Private),
        program: &str,
    ) -> Result<Command, EngineError> {
        let program = bin_dir.join(program);
        runs(&program)?;
        let mut command = match self.sandbox {
            Some(sandbox) => {
                let wanted = self.wanted(layout, bin_dir, private)?;
                self.lead(layout)?;
                // What bubblewrap makes in a root it does not make there again.
                let root = tempfile::tempdir_in(temporary()?);
                let root = root.map_err(EngineError::io("make a sandbox to try the server in"))?;
                may_be_run(sandbox.command((root.path(), &wanted, true), &program)?, bin_dir)?;
                sandbox.command((&layout.sandbox_root(), &wanted, !self.outlives), &program)?
            }
            None => Command::new(program),
        };
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
        Ok(command)
    }

    /// Makes the places that lead elsewhere, in the root of a sandbox that is still to be made.
    fn lead(&self, layout: &Layout) -> Result<(), EngineError> {
        let root = layout.sandbox_root();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&root);
        made.map_err(EngineError::io(format!("make the directory {}", root.display())))?;
        self.led.iter().try_for_each(|(oid, place)| lead(layout, *oid, place))
    }

    fn wanted(
        &self,
        layout: &Layout,
        bin_dir: &Path,
        private: &Private,
    ) -> Result<Wanted, EngineError> {
        let tablespaces = layout.tablespaces();
        let made = fs::create_dir_all(&tablespaces);
        made.map_err(EngineError::io(format!("make the directory {}", tablespaces.display())))?;
        Ok(Wanted {
            programs: programs(bin_dir),
            readable: Vec::new(),
            // Not all of the restore's directory: how far it has come is not for the server to say.
            writable: vec![layout.data(), tablespaces, private.path().to_owned()],
            files: vec![
                (program()?, CLIENT.into()),
                (private.file("passwd"), "/etc/passwd".into()),
                (private.file("group"), "/etc/group".into()),
            ],
            hidden: self.hidden.clone(),
            led: self
                .led
                .iter()
                .map(|(oid, place)| (as_in_sandbox(place), layout.tablespace(*oid)))
                .collect(),
        })
    }
}

/// Refuses a server's program that cannot be run in its sandbox: it, or a library that it loads, is a link to
/// what is not shown there.
fn may_be_run(mut command: Command, bin_dir: &Path) -> Result<(), EngineError> {
    let command = command.as_std_mut();
    command.arg("--version").env_clear().env("LC_ALL", "C");
    let output =
        told(command).map_err(EngineError::io("try the server's program in its sandbox"))?;
    if output.status.success() {
        return Ok(());
    }
    let says = String::from_utf8_lossy(&output.stderr);
    Err(EngineError::Config(format!(
        "the server's program in {} does not run in the sandbox of a recovery, so no server was started: \
         only the directories of the system are shown there, that one, and lib, lib64 and share beside \
         it, and no place that a link leads to. Name the directory in bin_dir where the program itself \
         is, beside its libraries, then go on with --resume. It says: {}",
        bin_dir.display(),
        shown(says.trim(), 300)
    )))
}

/// Where a server's programs and all that they load are, beside the system's own places.
fn programs(bin_dir: &Path) -> Vec<PathBuf> {
    let mut all = vec![bin_dir.to_owned(), CACHE.into()];
    if let Some(prefix) = bin_dir.parent() {
        all.extend(["lib", "lib64", "share"].map(|name| prefix.join(name)));
    }
    let mut tool = std::process::Command::new(bin_dir.join("pg_config"));
    tool.args(["--libdir", "--pkglibdir", "--sharedir"]).env_clear();
    let told = told(&mut tool).map(|output| output.stdout).unwrap_or_default();
    all.extend(String::from_utf8_lossy(&told).lines().map(PathBuf::from));
    all.retain(|path| path.is_absolute() && path.parent().is_some());
    all
}

/// Whether a place is not the sandbox's own in a server's sandbox that was made without knowing of it: something
/// else is seen there.
#[must_use]
pub fn is_covered(place: &Path, bin_dir: &Path, hidden: &[PathBuf]) -> bool {
    sandbox::is_covered(place, &programs(bin_dir), hidden)
}

/// Ourselves.
fn program() -> Result<PathBuf, EngineError> {
    std::env::current_exe().map_err(EngineError::io("find drctl itself"))
}

/// A file that lies in a data directory; nothing where it is no plain one: what ran on these data may
/// have put something else in its place.
pub(super) fn open_plain(path: &Path) -> Option<File> {
    let folder = Below::open(path.parent()?).ok()?;
    folder.read(Path::new(path.file_name()?)).ok()
}

/// The same as text.
pub(super) fn read_plain(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    open_plain(path)?.take(MOST).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}
