//! A new and empty cluster in a sandbox, for a restore that is looked at and thrown away.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use drctl_model::{SslMode, shown};
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use super::Layout;
use super::forced::{forced, session_options};
use super::guard::CONFIGURATION;
use super::orphan::{SOCKETS, server_of, sockets};
use super::private::{Private, SCRATCH, folder};
use super::question::{Question, ask_all};
use super::run::may_run;
use super::surroundings::Surroundings;
use crate::common::sandbox::Sandbox;
use crate::common::{EngineError, blocking};
use crate::pg::server::session::Session;
use crate::pg::server::{PgServer, SILENCE, ServerError, ServerSaid, major_of};

/// Its superuser: no role of a source has this name, so that all of them are made.
const SUPERUSER: &str = "drctl_scratch";

/// Its port: only the name of its socket.
const PORT: u16 = 5432;

/// How long it may take to be made, and to let us in.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How often is looked whether it lets us in.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The name under which it sees us.
const APPLICATION: &str = "drctl/scratch";

/// Its log, beside its data.
pub(super) const LOG: &str = "scratch.log";

/// What it is given beside what every server of a restore is: it is written to, and holds whatever a dump brings.
const SETTINGS: &[(&str, &str)] = &[
    ("default_transaction_read_only", "off"),
    ("max_connections", "20"),
    // pg_dump locks every table: so many that a source of any size can be compared.
    ("max_locks_per_transaction", "16384"),
    // Nobody reads its log, which takes room.
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("max_wal_size", "512MB"),
];

/// A server without a network, at a socket that only this account reaches. It ends when it is dropped.
pub struct Scratch {
    child: Child,
    server: PgServer,
    private: Option<Private>,
    /// Where its socket has another name, out of its own reach.
    ours: (TempDir, File),
}

impl Scratch {
    /// Makes a cluster below a new directory, and starts its server in a sandbox in which `hidden` is not seen.
    ///
    /// # Errors
    /// [`EngineError::Io`]; [`EngineError::Config`] as root, as whom PostgreSQL does not run, and where `initdb`
    /// fails; [`ServerError::Query`] with the server's last words.
    pub async fn start(
        layout: &Layout,
        bin_dir: &Path,
        (sandbox, hidden): (&Sandbox, Vec<PathBuf>),
    ) -> Result<Self, EngineError> {
        may_run()?;
        let data = layout.data();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&data);
        made.map_err(EngineError::io(format!("make the directory {}", data.display())))?;
        let private = Private::make(&[SUPERUSER], "")?;
        let around = Surroundings::of_scratch(sandbox, hidden);
        initdb(&around, (layout, bin_dir, &private)).await?;
        // Its sandbox is another one than the server's, which makes its root anew.
        let root = layout.sandbox_root();
        let removed = blocking(|| std::fs::remove_dir_all(&root));
        removed.map_err(EngineError::io(format!("remove {}", root.display())))?;
        let version = std::fs::read_to_string(data.join("PG_VERSION"));
        let version = version.map_err(EngineError::io("read the version of the new cluster"))?;
        let major = major_of(&version).unwrap_or_default();
        let below = layout.root().and_then(|root| root.append(Path::new(LOG)));
        let log = below.map_err(EngineError::io("write the log of the new cluster"))?;
        let arguments = arguments(layout, &private, major);
        let child = around.start((layout, bin_dir, &private), &arguments, log)?;
        let server = server((&private, SUPERUSER), bin_dir, major);
        Scratch::begun(child, (server, private), (&data.with_file_name(LOG), &[])).await
    }

    /// One that was started: waits until it lets us in.
    pub(super) async fn begun(
        child: Child,
        (server, private): (PgServer, Private),
        (log, databases): (&Path, &[String]),
    ) -> Result<Self, EngineError> {
        let ours = folder(SCRATCH)?;
        let mut scratch = Scratch { child, server, private: Some(private), ours };
        scratch.lets_us_in(log, databases).await?;
        scratch.name_anew()?;
        Ok(scratch)
    }

    /// Its rules of access, while it runs.
    pub(super) fn rules(&self) -> Option<PathBuf> {
        self.private.as_ref().map(|private| private.file("pg_hba.conf"))
    }

    /// How it ended, where it has.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>, EngineError> {
        self.child.try_wait().map_err(EngineError::io("look at the server"))
    }

    /// Gives its socket another name, by which it is reached from now on: what is restored may run in it, and put
    /// a link to another server into the place of the first.
    fn name_anew(&mut self) -> Result<(), EngineError> {
        let name = format!(".s.PGSQL.{PORT}");
        let from = Path::new(&self.server.host).join(&name);
        let to = self.ours.0.path().join(&name);
        std::fs::hard_link(&from, &to)
            .map_err(EngineError::io("name the scratch server's socket"))?;
        self.server.host = self.ours.0.path().display().to_string();
        Ok(())
    }

    /// How it is reached, while it runs.
    #[must_use]
    pub fn server(&self) -> &PgServer {
        &self.server
    }

    /// Asks what an operator wants to know of it: of each question the answer, or what kept it from being given.
    pub async fn ask_all(
        &self,
        questions: &[Question],
    ) -> Vec<Result<Option<String>, EngineError>> {
        ask_all(&self.server, questions).await
    }

    /// Waits until it lets us in: into the database that is usual, or else into one of these, since that may be gone.
    async fn lets_us_in(&mut self, log: &Path, databases: &[String]) -> Result<(), EngineError> {
        let deadline = Instant::now() + READY_WITHIN;
        let usual = [self.server.maintenance_database.clone()];
        loop {
            let mut last = None;
            for database in usual.iter().chain(databases) {
                match Session::open(&self.server, database, APPLICATION).await {
                    Ok(_) => {
                        self.server.maintenance_database.clone_from(database);
                        return Ok(());
                    }
                    Err(error) => last = last.or(Some(error)),
                }
            }
            let Some(last) = last else { return Ok(()) };
            let ended = self.ended()?;
            if ended.is_none() && Instant::now() < deadline {
                sleep(LOOK_EVERY).await;
                continue;
            }
            let words = std::fs::read_to_string(log).unwrap_or_default();
            let words = words.lines().rev().take(3).collect::<Vec<_>>().join("; ");
            return match ended {
                None => Err(last),
                Some(status) => Err(EngineError::from(ServerError::Query {
                    action: "start a scratch server".to_owned(),
                    source: ServerSaid::new(format!("{status}; {}", shown(&words, 600))),
                })),
            };
        }
    }

    /// Ends it; what it holds is of no use any more. Waits until it is gone.
    ///
    /// # Errors
    /// [`EngineError::Io`].
    pub async fn stop(mut self) -> Result<(), EngineError> {
        self.ends();
        let gone = timeout(READY_WITHIN, self.child.wait()).await;
        self.private = None;
        match gone {
            Ok(ended) => ended.map(drop).map_err(EngineError::io("stop the scratch server")),
            Err(_) => self.child.kill().await.map_err(EngineError::io("stop the scratch server")),
        }
    }

    /// An immediate shutdown: its children go with it.
    fn ends(&mut self) {
        let pid = self.private.as_ref().and_then(|private| server_of(private.path()));
        if pid.is_none_or(|pid| kill_process(pid, Signal::QUIT).is_err()) {
            let _ = self.child.start_kill();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.private.is_some() {
            self.ends();
        }
    }
}

/// Makes the cluster.
async fn initdb(
    around: &Surroundings<'_>,
    place: (&Layout, &Path, &Private),
) -> Result<(), EngineError> {
    let mut command = around.command(place, "initdb")?;
    command.args([
        "--encoding=UTF8",
        "--locale=C",
        "--auth=peer",
        "--no-sync",
        "--no-instructions",
    ]);
    command.arg(format!("--username={SUPERUSER}")).arg("--pgdata").arg(place.0.data());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let failed = || EngineError::io("make a scratch cluster");
    let made = timeout(READY_WITHIN, command.output()).await;
    let made = made.map_err(|_| failed()(std::io::ErrorKind::TimedOut.into()))?.map_err(failed())?;
    if made.status.success() {
        return Ok(());
    }
    let says = String::from_utf8_lossy(&made.stderr);
    let text = format!("no scratch cluster can be made: initdb says: {}", shown(says.trim(), 600));
    Err(EngineError::Config(text))
}

fn arguments(layout: &Layout, private: &Private, major: u32) -> Vec<String> {
    let settings = forced(major).chain(SETTINGS.iter().copied());
    let mut arguments = places(layout, private);
    for (name, value) in settings {
        arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    arguments
}

/// Where it finds all that it needs.
pub(super) fn places(layout: &Layout, private: &Private) -> Vec<String> {
    let shown = |path: &Path| path.display().to_string();
    let places = [
        ("port", PORT.to_string()),
        (SOCKETS, sockets(private.path())),
        ("config_file", shown(&private.file(CONFIGURATION))),
        ("data_directory", shown(&layout.data())),
        ("external_pid_file", shown(&private.file("server.pid"))),
        ("hba_file", shown(&private.file("pg_hba.conf"))),
        ("ident_file", shown(&private.file("pg_ident.conf"))),
    ];
    let mut arguments = vec!["-D".to_owned(), shown(&layout.data())];
    for (name, value) in places {
        arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    arguments
}

pub(super) fn server((private, user): (&Private, &str), bin_dir: &Path, major: u32) -> PgServer {
    PgServer {
        host: private.path().display().to_string(),
        port: PORT,
        user: user.to_owned(),
        maintenance_database: "postgres".to_owned(),
        password: None,
        sslmode: SslMode::Disable,
        ssl_root_cert: None,
        require_peer: None,
        bin_dir: Some(bin_dir.to_owned()),
        runtime_dir: private.path().to_owned(),
        options: session_options(major),
        silence: SILENCE,
    }
}
