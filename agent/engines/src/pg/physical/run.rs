//! A restored cluster's server, started in private to see where its recovery comes to.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use drctl_model::{Lsn, shown};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::Layout;
use super::forced::{forced, lasting, session_options, sizes};
use super::private::Private;
use crate::pg::server::Session;
use crate::pg::tools::major_of;
use crate::pg::{PgServer, SslMode};
use crate::{EngineError, ServerSaid};

/// The private port: only the name of its socket.
const PORT: u16 = 5432;

/// How often it is asked where it is.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A server that recovers, on a socket that only we can reach. Ended when dropped, unless it was
/// [left](Recovering::leave) to itself.
pub struct Recovering {
    child: Child,
    server: PgServer,
    log: PathBuf,
    /// How long its log was when it was started: what stands before is of earlier attempts.
    log_from: u64,
    /// Holds the socket and the rules of access; nothing once the server was left to itself.
    private: Option<Private>,
    /// The session in which it is asked where it is, while it lasts.
    session: Option<Session>,
}

/// Where a recovery is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Whether it replays, or has become a server of its own.
    pub in_recovery: bool,
    /// Whether it has come to its target and waits there.
    pub paused: bool,
    /// How far the log was replayed.
    pub replayed: Option<Lsn>,
    /// The time of the last commit that was replayed: what the data show.
    pub shows: Option<Timestamp>,
}

/// The settings of the source that a hot standby must not fall below, as its control file has
/// them (`CheckRequiredParameterValues` in `xlogrecovery.c`); they may lie outside the copy.
fn source_settings(bin_dir: &Path, data: &Path) -> Vec<(&'static str, String)> {
    const NAMES: [(&str, &str); 5] = [
        ("max_connections setting:", "max_connections"),
        ("max_worker_processes setting:", "max_worker_processes"),
        ("max_wal_senders setting:", "max_wal_senders"),
        ("max_prepared_xacts setting:", "max_prepared_transactions"),
        ("max_locks_per_xact setting:", "max_locks_per_transaction"),
    ];
    let mut tool = std::process::Command::new(bin_dir.join("pg_controldata"));
    let output = tool.arg("-D").arg(data).env_clear().env("LC_ALL", "C").output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let find = |(label, name): &(&str, &'static str)| {
        let value = text.lines().find_map(|line| line.strip_prefix(label))?.trim();
        value.parse::<u32>().ok().map(|value| (*name, value.to_string()))
    };
    NAMES.iter().filter_map(find).collect()
}

/// Whether this account can run a server at all.
///
/// # Errors
/// [`EngineError::Config`] as root.
pub fn may_run() -> Result<(), EngineError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let text = "PostgreSQL does not run as root: restore as the account that will own the \
                cluster, for example `sudo -u postgres drctl restore …`";
    Err(EngineError::Config(text.to_owned()))
}

impl Recovering {
    /// Starts the server of a laid-out cluster; it listens on no address.
    ///
    /// # Errors
    /// [`EngineError::Io`]; [`EngineError::Config`] as root, as whom PostgreSQL does not run.
    pub fn start(layout: &Layout, bin_dir: &Path, user: &str) -> Result<Self, EngineError> {
        may_run()?;
        let data = layout.data();
        let read = |name: &str| fs::read_to_string(data.join(name)).unwrap_or_default();
        let major = major_of(&read("PG_VERSION")).unwrap_or_default();
        let own = ["postgresql.conf", "postgresql.auto.conf"].map(read);
        let private = Private::make(&[user], &sizes(&own))?;
        let at = private.path();
        let log = data.with_file_name("recovery.log");
        let mut options = File::options();
        let out = options.create(true).append(true).mode(0o600).open(&log);
        let out = out.map_err(EngineError::io(format!("write {}", log.display())))?;
        let log_from = fs::metadata(&log).map(|meta| meta.len()).unwrap_or_default();
        let mut command = Command::new(bin_dir.join("postgres"));
        command.arg("-D").arg(&data).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        let shown = |path: &Path| path.display().to_string();
        for (name, value) in [
            ("port", PORT.to_string()),
            ("unix_socket_directories", shown(at)),
            // The source's own configuration is not read: it may name the source's own places, and
            // what an intruder there wants to be run.
            ("config_file", shown(&private.file("postgresql.conf"))),
            ("data_directory", shown(&data)),
            ("external_pid_file", shown(&private.file("server.pid"))),
            ("hba_file", shown(&private.file("pg_hba.conf"))),
            ("ident_file", shown(&private.file("pg_ident.conf"))),
            ("shared_preload_libraries", String::new()),
        ] {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        for (name, value) in forced(major) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        for (name, value) in lasting(bin_dir, &data) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        for (name, value) in source_settings(bin_dir, &data) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        // What a terminal sends when it is closed, or when its keys are pressed, is ours to answer.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(out);
        let child = command.spawn().map_err(EngineError::io("start the restored server"))?;
        let server = PgServer {
            host: at.display().to_string(),
            port: PORT,
            user: user.to_owned(),
            maintenance_database: "postgres".to_owned(),
            password: None,
            sslmode: SslMode::Disable,
            ssl_root_cert: None,
            bin_dir: Some(bin_dir.to_owned()),
            runtime_dir: at.to_owned(),
            options: session_options(major),
        };
        Ok(Recovering { child, server, log, log_from, private: Some(private), session: None })
    }

    /// How to reach it, while it runs.
    #[must_use]
    pub fn server(&self) -> &PgServer {
        &self.server
    }

    /// Where it is after a moment; nothing while it does not answer yet.
    ///
    /// # Errors
    /// [`EngineError::Query`] with the server's last words, where it has ended.
    pub async fn look(&mut self) -> Result<Option<Progress>, EngineError> {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Some(status) =
            self.child.try_wait().map_err(EngineError::io("look at the server"))?
        {
            let source = ServerSaid::new(format!("{status}; {}", self.last_words()));
            return Err(EngineError::Query {
                action: "recover the restored cluster".into(),
                source,
            });
        }
        // One session for all questions: a recovering server has better things to do than logins.
        let session = match self.session.take() {
            Some(session) => session,
            None => match Session::open(&self.server, "postgres", "drctl/recovery").await {
                Ok(session) => session,
                Err(_) => return Ok(None),
            },
        };
        let query = "SELECT pg_catalog.pg_is_in_recovery(), \
            CASE WHEN pg_catalog.pg_is_in_recovery() \
                 THEN pg_catalog.pg_get_wal_replay_pause_state() END, \
            pg_catalog.pg_last_wal_replay_lsn()::text, \
            pg_catalog.to_char(pg_catalog.pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', \
                               'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        let Ok(row) = session.client.query_one(query, &[]).await else { return Ok(None) };
        self.session = Some(session);
        let text = |at: usize| row.try_get::<_, Option<String>>(at).ok().flatten();
        Ok(Some(Progress {
            in_recovery: row.try_get(0).unwrap_or(true),
            paused: text(1).as_deref() == Some("paused"),
            replayed: text(2).and_then(|lsn| lsn.parse().ok()),
            shows: text(3).and_then(|at| at.parse().ok()),
        }))
    }

    /// What it wrote into its log since it was started.
    fn words(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.log_from))?;
            file.read_to_end(&mut text)
        });
        // One that cannot be read tells nothing, and a proof that needs its words fails.
        let _ = read;
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The last lines that the server wrote of something that went wrong.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = self.words();
        let bad = |line: &&str| {
            let told = ["FATAL", "PANIC", "ERROR", "error:", "hint:"];
            // What it answers to our own looks while it starts is no reason for anything.
            told.iter().any(|w| line.contains(w))
                && !line.contains("FATAL:  the database system is")
        };
        let lines: Vec<&str> = text.lines().filter(bad).collect();
        let from = lines.len().saturating_sub(6);
        shown(&lines[from..].join("; "), 1500)
    }

    /// The lines that tell where and why the replay stopped.
    #[must_use]
    pub fn stop_line(&self) -> Option<String> {
        let text = self.words();
        let line = text.lines().rev().find(|line| line.contains("recovery stopping "))?;
        Some(shown(line.rsplit("LOG:").next().unwrap_or(line).trim(), 300))
    }

    /// Makes it a cluster of its own (`promote` in the data directory, and a signal: what
    /// `pg_ctl promote` does).
    ///
    /// # Errors
    /// [`EngineError::Io`].
    pub fn promote(&mut self, layout: &Layout) -> Result<(), EngineError> {
        let file = layout.data().join("promote");
        File::create(&file).map_err(EngineError::io(format!("write {}", file.display())))?;
        self.signal(Signal::USR1);
        Ok(())
    }

    /// To the postmaster; one that is gone takes no notice.
    fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Holds the replay where it is, as far as our role may: a server that was told no target goes
    /// on with log that comes.
    pub async fn hold(&self) {
        let session = Session::open(&self.server, "postgres", "drctl/recovery").await;
        if let Ok(session) = session {
            let _ = session.client.query("SELECT pg_catalog.pg_wal_replay_pause()", &[]).await;
        }
    }

    /// Leaves it running when we end, with its private socket; gives the directory of that.
    ///
    /// [`super::end_left`] ends it, and so does `pg_ctl stop`.
    #[must_use]
    pub fn leave(mut self) -> PathBuf {
        let kept = self.private.take().map(Private::keep);
        kept.unwrap_or_else(|| PathBuf::from(&self.server.host))
    }

    /// Shuts it down cleanly, however long its last checkpoint takes up to `patience`.
    ///
    /// # Errors
    /// [`EngineError::Io`].
    pub async fn stop(mut self, patience: Duration) -> Result<(), EngineError> {
        // A fast shutdown.
        self.signal(Signal::INT);
        match tokio::time::timeout(patience, self.child.wait()).await {
            Ok(ended) => ended.map(drop).map_err(EngineError::io("stop the restored server")),
            Err(_) => {
                let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
                Err(EngineError::io("stop the restored server")(late))
            }
        }
    }
}

impl Drop for Recovering {
    fn drop(&mut self) {
        if self.private.is_some() {
            // An immediate shutdown: its children go with it, and its data stays as after a crash.
            self.signal(Signal::QUIT);
        }
    }
}
