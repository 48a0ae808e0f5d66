//! PostgreSQL: a cluster of its own for one test.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use super::component;
use super::port::{on_free_port, on_same_port};
use super::process::{End, Process, StartError, bound};

/// The superuser of every cluster, and the account it runs under when the tests run as root.
const USER: &str = "postgres";

/// How long a clean shutdown may take: it writes a checkpoint and serves what still streams.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// A running PostgreSQL. Ends when dropped, its data with it.
///
/// It listens on a socket in its folder and on a port of 127.0.0.1, and does not wait for disks
/// (`fsync = off`).
#[derive(Debug)]
pub struct Postgres {
    // Dropped before its folder.
    process: Option<Process>,
    place: Place,
    port: u16,
}

/// All of a cluster but its port: what is needed to start it again.
#[derive(Debug)]
struct Place {
    folder: Folder,
    data: PathBuf,
    bin: PathBuf,
    password: Option<String>,
    /// The folder of its configuration, where that is another one than of its data.
    configuration: Option<PathBuf>,
}

/// What a cluster is to be like.
#[derive(Debug, Default)]
pub struct Builder {
    password: Option<String>,
    conf: Vec<(String, String)>,
    initdb: Vec<String>,
    data: Option<PathBuf>,
    at_least: u32,
    elsewhere: bool,
}

impl Builder {
    /// Wants this password (`scram-sha-256`) from everyone, on the socket too. Without: trust.
    pub fn password(mut self, password: &str) -> Builder {
        self.password = Some(password.to_owned());
        self
    }

    /// A line of `postgresql.conf`. The value is quoted here.
    pub fn conf(mut self, key: &str, value: &str) -> Builder {
        self.conf.push((key.to_owned(), value.to_owned()));
        self
    }

    /// One more argument for `initdb`, such as `--wal-segsize=1`.
    pub fn initdb(mut self, argument: &str) -> Builder {
        self.initdb.push(argument.to_owned());
        self
    }

    /// Keeps its configuration outside of its data folder, as Debian does: `postgresql.conf` includes
    /// all of `conf.d` there, which has `own.conf`.
    pub fn elsewhere(mut self) -> Builder {
        self.elsewhere = true;
        self
    }

    /// Of this major version at least. Where the PostgreSQL to test with is older, it is the one that
    /// `tests/components/install` keeps beside it.
    pub fn at_least(mut self, major: u32) -> Builder {
        self.at_least = major;
        self
    }

    /// Runs on this data folder, a restored one for instance, instead of making a new cluster, with a
    /// PostgreSQL that is new enough for it.
    ///
    /// Run as root it is given to the account that the server runs under; nobody removes it.
    /// The account must be able to reach it. A [`password`](Self::password) given is the one that
    /// the cluster has already.
    pub fn data(mut self, data: &Path) -> Builder {
        self.data = Some(data.to_owned());
        self
    }

    /// Makes the cluster and starts it; it takes connections (in recovery: read-only ones).
    ///
    /// # Panics
    /// When PostgreSQL is not installed, or does not start.
    pub fn start(self) -> Postgres {
        let found = self.data.as_deref().and_then(major_of).unwrap_or_default();
        let bin = component::postgres_bin(self.at_least.max(found));
        let folder = Folder::new();
        let data = self.data.clone().unwrap_or_else(|| folder.path().join("data"));
        let configuration = self.elsewhere.then(|| folder.path().join("etc"));
        let place = Place { folder, data, bin, password: self.password, configuration };
        place.give_away(place.folder.path());
        if self.data.is_some() {
            place.give_away(&place.data);
        } else {
            place.init(&self.initdb);
            place.move_configuration();
        }
        place.configure(&self.conf);
        let (port, process) = on_free_port(|port| place.run(port));
        Postgres { process: Some(process), place, port }
    }
}

/// The folder of a server, in one that is ours: in a place of everybody its name would be whoever came
/// first's, and a client would not believe the server's account there.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    _above: TempDir,
}

impl Folder {
    fn new() -> Folder {
        let above = tempfile::Builder::new().prefix("drctl-pg-").tempdir().expect("make a folder");
        let path = above.path().join("s");
        fs::create_dir(&path).expect("make a folder");
        // Clients may run under any account, and must reach the socket.
        for folder in [above.path(), &path] {
            fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("open the folder");
        }
        Folder { path, _above: above }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Place {
    /// Makes a folder and all in it the server's, when that runs under another account.
    fn give_away(&self, folder: &Path) {
        if account().is_none() {
            return;
        }
        let owner = format!("{USER}:{USER}");
        done(Command::new("chown").args(["-R", &owner]).arg(folder), "chown");
        let reach = self.command("test").arg("-x").arg(folder).status().expect("run test");
        assert!(reach.success(), "{USER} cannot reach {}: set TMPDIR", folder.display());
    }

    /// A command under the server's account, in its folder.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.bound(program, End::Kill)
    }

    fn bound(&self, program: impl AsRef<OsStr>, end: End) -> Command {
        let mut command = bound(program, end, account());
        command
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("LC_ALL", "C.UTF-8");
        command
    }

    fn init(&self, arguments: &[String]) {
        let mut initdb = self.command(self.bin.join("initdb"));
        initdb.args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--lc-messages=C"]);
        initdb.arg(format!("--username={USER}")).arg("-D").arg(&self.data).args(arguments);
        let Some(password) = &self.password else {
            done(initdb.arg("--auth=trust"), "initdb");
            return;
        };
        let file = self.folder.path().join("password");
        fs::write(&file, password).expect("write the password");
        self.give_away(self.folder.path());
        initdb.arg("--auth=scram-sha-256").arg("--pwfile").arg(&file);
        done(&mut initdb, "initdb");
        fs::remove_file(&file).expect("remove the password");
    }

    /// Puts the configuration into its own folder, if it has one.
    fn move_configuration(&self) {
        let Some(at) = &self.configuration else { return };
        fs::create_dir_all(at.join("conf.d")).expect("make a folder");
        for name in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
            fs::rename(self.data.join(name), at.join(name)).expect("move the configuration");
        }
        fs::write(at.join("conf.d/own.conf"), "work_mem = '5MB'\n").expect("write the conf");
        let file = |name| at.join(name).display().to_string();
        let lines = [
            ("data_directory", self.data.display().to_string()),
            ("hba_file", file("pg_hba.conf")),
            ("ident_file", file("pg_ident.conf")),
            ("include_dir", "conf.d".to_owned()),
        ];
        self.configure(&lines.map(|(key, value)| (key.to_owned(), value)));
        self.give_away(at);
    }

    fn configure(&self, conf: &[(String, String)]) {
        let file = self.configuration.as_ref().unwrap_or(&self.data).join("postgresql.conf");
        let mut file = fs::OpenOptions::new().append(true).open(&file).expect("open the conf");
        for (key, value) in conf {
            writeln!(file, "{key} = '{}'", value.replace('\'', "''")).expect("write the conf");
        }
    }

    fn run(&self, port: u16) -> Result<Process, StartError> {
        let mut postgres = self.bound(self.bin.join("postgres"), End::Quit);
        postgres.arg("-D").arg(&self.data).arg("-k").arg(self.folder.path());
        postgres.arg("-p").arg(port.to_string());
        if let Some(at) = &self.configuration {
            postgres.arg("-c").arg(format!("config_file={}/postgresql.conf", at.display()));
        }
        for setting in ["listen_addresses=127.0.0.1", "fsync=off", "logging_collector=off"] {
            postgres.arg("-c").arg(setting);
        }
        Process::start(postgres, End::Quit, "database system is ready to accept")
    }
}

impl Postgres {
    /// Starts a new cluster that trusts everyone.
    ///
    /// # Panics
    /// As [`Builder::start`].
    pub fn start() -> Postgres {
        Postgres::builder().start()
    }

    /// A cluster to be described further.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The folder of its socket.
    pub fn socket_dir(&self) -> &Path {
        self.place.folder.path()
    }

    /// Its port on 127.0.0.1, which also names its socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its programs are: `pg_dump`, `pg_basebackup` and so on.
    pub fn bin_dir(&self) -> &Path {
        &self.place.bin
    }

    /// Whether drctl finds its programs without being told where they are.
    pub fn is_debians(&self) -> bool {
        self.place.bin.starts_with(component::DEBIANS)
    }

    /// Its data folder.
    pub fn data_dir(&self) -> &Path {
        &self.place.data
    }

    /// The folder of its configuration.
    pub fn configuration(&self) -> &Path {
        self.place.configuration.as_ref().unwrap_or(&self.place.data)
    }

    /// The process id of its postmaster.
    ///
    /// # Panics
    /// When it is stopped.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").pid()
    }

    /// What it said since it was started last; nothing while it is stopped.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// A connection string for a database, as superuser over TCP.
    pub fn url(&self, db: &str) -> String {
        let password = match &self.place.password {
            Some(password) => format!(":{}", percent(password)),
            None => String::new(),
        };
        format!("postgres://{USER}{password}@127.0.0.1:{}/{}", self.port, percent(db))
    }

    /// One of its client programs, set to connect to it by its socket through the environment.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.place.bin.join(program));
        for stray in ["PGDATABASE", "PGOPTIONS", "PGSERVICE", "PGPASSFILE", "PGSSLMODE"] {
            command.env_remove(stray);
        }
        command.env("PGHOST", self.socket_dir()).env("PGPORT", self.port.to_string());
        command.env("PGUSER", USER).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        match &self.place.password {
            Some(password) => command.env("PGPASSWORD", password),
            None => command.env_remove("PGPASSWORD"),
        };
        command
    }

    /// Runs SQL in a database and gives the rows, unaligned and without headers.
    ///
    /// # Panics
    /// When a statement fails, with what psql said.
    pub fn psql(&self, db: &str, sql: &str) -> String {
        self.try_psql(db, sql).unwrap_or_else(|said| panic!("psql {db}: {sql}\n{said}"))
    }

    /// As [`psql`](Self::psql).
    ///
    /// # Errors
    /// What psql said, when a statement fails. The ones before it are done: each is on its own.
    pub fn try_psql(&self, db: &str, sql: &str) -> Result<String, String> {
        let mut psql = self.client("psql");
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", db]);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = psql.spawn().expect("start psql");
        let mut input = child.stdin.take().expect("psql's input");
        let output = thread::scope(|scope| {
            // When psql stops at an error it reads no further: that is not ours to complain of.
            scope.spawn(move || drop(input.write_all(sql.as_bytes())));
            child.wait_with_output().expect("wait for psql")
        });
        if output.status.success() {
            Ok(text(&output.stdout).trim_end_matches('\n').to_owned())
        } else {
            Err(text(&output.stderr))
        }
    }

    /// Shuts it down cleanly; its data stays.
    pub fn stop(&mut self) {
        self.end(Signal::INT);
    }

    /// Stops it as a power cut does: no checkpoint, nobody is told. Its data stays.
    pub fn crash(&mut self) {
        self.end(Signal::QUIT);
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

/// The account for servers: PostgreSQL refuses to run as root.
pub(crate) fn account() -> Option<&'static str> {
    geteuid().is_root().then_some(USER)
}

/// The major version that made a data folder.
fn major_of(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("PG_VERSION")).ok()?.trim().parse().ok()
}

/// Runs a command that must succeed.
fn done(command: &mut Command, what: &str) {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("start {what}: {error}"));
    assert!(status.success(), "{what}: {status}\n{}{}", text(&stdout), text(&stderr));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Encodes all but letters, digits and `-._~` for a URL.
fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::port::hold_port;

    #[test]
    fn a_taken_port_is_told_from_other_failures() {
        let (_held, port) = hold_port();
        let mut postgres = Postgres::start();
        postgres.stop();
        let error = postgres.place.run(port).unwrap_err();
        assert!(error.port_is_taken(), "{error}");
    }
}
