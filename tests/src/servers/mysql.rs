//! MariaDB and MySQL: a server of its own for one test. Both have the same options and speak the same
//! protocol.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::component;
use super::port::{on_free_port, on_same_port};
use super::postgres::account;
use super::process::{End, Process, StartError, bound};

/// How long a clean stop may take: it writes out all that is changed.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// Which of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    MariaDb,
    MySql,
}

/// A running MariaDB or MySQL. Ends when dropped, its data with it.
///
/// Its user `root` has no password. It does not wait for disks: what is committed outlives its own end, not
/// the machine's.
#[derive(Debug)]
pub struct MySql {
    // Dropped before its folder.
    process: Option<Process>,
    place: Place,
    port: u16,
}

/// What a server is to be like.
#[derive(Debug)]
pub struct Builder {
    kind: Kind,
    socket: Option<&'static str>,
    networking: bool,
    by_file: bool,
    options: Vec<String>,
}

/// All of a server but its port: what is needed to start it again.
#[derive(Debug)]
struct Place {
    folder: TempDir,
    wanted: Builder,
}

impl Builder {
    fn new(kind: Kind) -> Builder {
        let socket = Some("mysqld.sock");
        Builder { kind, socket, networking: true, by_file: false, options: Vec::new() }
    }

    /// What its socket is called, other than `mysqld.sock`.
    #[must_use]
    pub fn socket(mut self, name: &'static str) -> Builder {
        self.socket = Some(name);
        self
    }

    /// Listens on its port alone.
    #[must_use]
    pub fn no_socket(mut self) -> Builder {
        self.socket = None;
        self
    }

    /// Listens on its socket alone.
    #[must_use]
    pub fn no_port(mut self) -> Builder {
        self.networking = false;
        self
    }

    /// Is told all of it by a file of options, as packages do, and nothing but that file by its arguments.
    #[must_use]
    pub fn by_file(mut self) -> Builder {
        self.by_file = true;
        self
    }

    /// One more option, such as `log-bin=bin`.
    #[must_use]
    pub fn option(mut self, option: &str) -> Builder {
        self.options.push(option.to_owned());
        self
    }

    /// Makes its data directory and starts it; it takes connections.
    ///
    /// # Panics
    /// When it is not installed, or does not start.
    #[must_use]
    pub fn start(self) -> MySql {
        let folder = tempfile::Builder::new().prefix("drctl-my-").tempdir().expect("a folder");
        let place = Place { folder, wanted: self };
        fs::create_dir(place.temporary()).expect("a folder for temporary files");
        // Clients may run under any account, and must reach the socket.
        for folder in [place.folder.path(), &place.temporary()] {
            fs::set_permissions(folder, Permissions::from_mode(0o777)).expect("open the folder");
        }
        place.init();
        let (port, process) = on_free_port(|port| place.run(port));
        MySql { process: Some(process), place, port }
    }
}

impl Kind {
    /// Where it is installed.
    fn home(self) -> PathBuf {
        match self {
            Kind::MariaDb => component::unpacked("mariadb").join("usr"),
            Kind::MySql => component::unpacked("mysql"),
        }
    }

    fn program(self) -> PathBuf {
        match self {
            Kind::MariaDb => self.home().join("sbin/mariadbd"),
            Kind::MySql => self.home().join("bin/mysqld"),
        }
    }

    /// What it wants to know, whatever it does.
    fn options(self) -> Vec<String> {
        let home = self.home();
        let mut all = vec![format!("basedir={}", home.display())];
        match self {
            Kind::MariaDb => {
                all.push(format!("plugin-dir={}", home.join("lib/mysql/plugin").display()));
            }
            // Clients of MariaDB lack what it asks for otherwise.
            Kind::MySql => all.extend(
                ["default-authentication-plugin=mysql_native_password", "mysqlx=0"]
                    .map(str::to_owned),
            ),
        }
        all.extend(
            ["innodb-log-file-size=4M", "innodb-flush-log-at-trx-commit=2"].map(str::to_owned),
        );
        all
    }
}

impl MySql {
    /// MariaDB of this Debian.
    #[must_use]
    pub fn mariadb() -> Builder {
        Builder::new(Kind::MariaDb)
    }

    /// MySQL 8.0.
    #[must_use]
    pub fn mysql() -> Builder {
        Builder::new(Kind::MySql)
    }

    /// Its port on 127.0.0.1, where it has one.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its socket.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.place.socket().expect("it has a socket")
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.place.data()
    }

    /// Its release, as it tells it: `10.11.19-MariaDB-0+deb12u1`.
    #[must_use]
    pub fn version(&self) -> String {
        self.sql("select version()")
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it is stopped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").pid()
    }

    /// What it said since it was started last; nothing while it is stopped.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// A client of it, under `root`: `mariadb`, `mariadb-dump`, `mariadb-binlog`, `mariadb-admin`,
    /// `mariadb-backup`. MySQL has none of its own here, and no `mariadb-backup`.
    #[must_use]
    pub fn client(&self, program: &str) -> Command {
        let home = Kind::MariaDb.home();
        let mut client = Command::new(home.join("bin").join(program));
        client.args(["--no-defaults", "--user=root"]).stdin(Stdio::null());
        client.env("TMPDIR", self.place.temporary());
        match self.place.socket() {
            Some(socket) => client.arg(format!("--socket={}", socket.display())),
            None => {
                client.args(["--protocol=tcp", "--host=127.0.0.1"]);
                client.arg(format!("--port={}", self.port))
            }
        };
        client
    }

    /// What it answers: a line for each row, their columns apart by tabs.
    ///
    /// # Panics
    /// When it refuses.
    pub fn sql(&self, sql: &str) -> String {
        let output =
            self.client("mariadb").args(["-BN", "-e", sql]).output().expect("start mariadb");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Stops it cleanly; its data stay.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Kills it, in the middle of whatever it does; its data stay.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Starts it again, on its port and data.
    ///
    /// # Panics
    /// When it runs, or does not start.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        self.process = Some(on_same_port(|| self.place.run(self.port)));
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut process) = self.process.take() {
            process.end(signal, STOP_PATIENCE);
        }
    }
}

impl Place {
    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where it keeps temporary files: each server removes at its start what it finds of the kind, whoever uses it.
    fn temporary(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }

    fn socket(&self) -> Option<PathBuf> {
        Some(self.folder.path().join(self.wanted.socket?))
    }

    /// Makes its data directory.
    fn init(&self) {
        let kind = self.wanted.kind;
        let mut options = vec!["--no-defaults".to_owned()];
        options.extend(kind.options().into_iter().map(|option| format!("--{option}")));
        options.push(format!("--datadir={}", self.data().display()));
        options.push(format!("--tmpdir={}", self.temporary().display()));
        let mut command = match kind {
            Kind::MariaDb => {
                let program = kind.home().join("bin/mariadb-install-db");
                let mut command = bound(program, End::Kill, account());
                options.push("--auth-root-authentication-method=normal".to_owned());
                command.args(options).args(["--skip-test-db", "--skip-name-resolve"]);
                command
            }
            Kind::MySql => {
                let mut command = bound(kind.program(), End::Kill, account());
                command.args(options).arg("--initialize-insecure");
                command
            }
        };
        let output = command.output().expect("make a data directory");
        let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        assert!(output.status.success(), "{said:?}");
    }

    fn run(&self, port: u16) -> Result<Process, StartError> {
        let wanted = &self.wanted;
        let socket = self.socket().unwrap_or_default();
        let mut options = wanted.kind.options();
        options.push(format!("datadir={}", self.data().display()));
        options.push(format!("tmpdir={}", self.temporary().display()));
        options.push(format!("socket={}", socket.display()));
        options.push(format!("port={port}"));
        options.push("bind-address=127.0.0.1".to_owned());
        if !wanted.networking {
            options.push("skip-networking".to_owned());
        }
        options.extend(wanted.options.iter().cloned());
        let mut command = bound(wanted.kind.program(), End::Kill, account());
        if wanted.by_file {
            let file = self.folder.path().join("my.cnf");
            fs::write(&file, format!("[mysqld]\n{}\n", options.join("\n"))).expect("write it");
            command.arg(format!("--defaults-file={}", file.display()));
        } else {
            command.arg("--no-defaults");
            command.args(options.iter().map(|option| format!("--{option}")));
        }
        Process::start(command, End::Kill, "ready for connections")
    }
}
