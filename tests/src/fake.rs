//! PostgreSQL's tools behind scripts that misbehave on cue.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::servers::postgres::Postgres;
use crate::site::until;

const TOOLS: [&str; 3] = ["pg_dump", "pg_dumpall", "pg_restore"];

/// A directory for `bin_dir`: scripts named as the tools, which call the real ones.
pub struct Tools {
    directory: TempDir,
    real: PathBuf,
}

impl Tools {
    /// The tools of `server`; they behave until told otherwise.
    ///
    /// # Panics
    /// If there is no temporary directory.
    #[must_use]
    pub fn of(server: &Postgres) -> Self {
        let directory = tempfile::Builder::new().prefix("drctl-tools-").tempdir();
        let directory = directory.expect("a temporary directory");
        let tools = Tools { directory, real: server.bin_dir().to_owned() };
        for tool in TOOLS {
            tools.honest(tool);
        }
        tools
    }

    /// Where they are.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The line of a source's configuration that makes drctl use them.
    #[must_use]
    pub fn line(&self) -> String {
        format!("bin_dir = \"{}\"", self.path().display())
    }

    /// From now on `tool` is this shell script. In it `$REAL` is the tool itself, `$HERE` this
    /// directory, and `tell NAME` makes the file that [`await_file`](Self::await_file) waits for.
    /// Asked for its version the tool tells the truth.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn set(&self, tool: &str, script: &str) {
        let version = "case \"$*\" in --version) exec \"$REAL\" --version ;; esac";
        self.write(tool, &format!("{version}\n{script}"));
    }

    /// From now on `tool` claims to be of this version, and else is as good as any.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn claim(&self, tool: &str, version: &str) {
        let script = format!(
            "case \"$*\" in --version) echo '{tool} (PostgreSQL) {version}'; exit ;; esac\n\
             exec \"$REAL\" \"$@\""
        );
        self.write(tool, &script);
    }

    /// From now on `tool` behaves.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn honest(&self, tool: &str) {
        self.write(tool, "exec \"$REAL\" \"$@\"");
    }

    /// From now on `tool` passes on `bytes` of what it writes, tells `mid`, and goes on when
    /// [`go_on`](Self::go_on) lets it.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn pause(&self, tool: &str, bytes: u64) {
        let _ = fs::remove_file(self.path().join("mid"));
        let _ = fs::remove_file(self.path().join("gate"));
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            self.path().join("gate"),
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        )
        .expect("make a fifo");
        let script = format!(
            "set -o pipefail\n\"$REAL\" \"$@\" | {{ head -c {bytes}; tell mid; \
             cat \"$HERE/gate\" >/dev/null; exec cat; }}"
        );
        self.set(tool, &script);
    }

    /// Waits until a paused tool has told `mid`.
    ///
    /// # Panics
    /// If it never does.
    pub fn await_pause(&self) {
        self.await_file("mid");
    }

    /// Lets a paused tool go on, also one that was ended meanwhile.
    pub fn go_on(&self) {
        let gate = self.path().join("gate");
        // Opening a fifo for writing waits for its reader, for ever where the tool is gone.
        std::thread::spawn(move || fs::OpenOptions::new().write(true).open(gate)?.write_all(b"x"));
    }

    /// Takes a tool away.
    ///
    /// # Panics
    /// If it is not there.
    pub fn remove(&self, tool: &str) {
        fs::remove_file(self.path().join(tool)).expect("remove a tool");
    }

    /// Waits for a file that a script tells of; gives what is in it.
    ///
    /// # Panics
    /// If it does not come.
    pub fn await_file(&self, name: &str) -> String {
        let path = self.path().join(name);
        until(&format!("{name} to be told"), || path.exists());
        fs::read_to_string(path).expect("read what was told")
    }

    fn write(&self, tool: &str, script: &str) {
        let (real, here) = (self.real.join(tool), self.path());
        let text = format!(
            "#!/bin/bash\nREAL='{}'\nHERE='{}'\n\
             tell() {{ echo \"${{2:-}}\" > \"$HERE/$1.new\"; mv \"$HERE/$1.new\" \"$HERE/$1\"; }}\n\
             {script}\n",
            real.display(),
            here.display()
        );
        // A new file each time: the old one may be running.
        let (new, path) = (here.join(format!("{tool}.new")), here.join(tool));
        fs::write(&new, text).expect("write a tool");
        fs::set_permissions(&new, Permissions::from_mode(0o755)).expect("make it executable");
        fs::rename(&new, &path).expect("put a tool in place");
    }
}
