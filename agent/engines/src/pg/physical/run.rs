//! A restored cluster's server, started in private to see where its recovery comes to.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::Layout;
use super::ask::Answers;
use super::forced::{forced, lasting, session_options, sizes};
use super::left::{SOCKETS, note_own};
use super::names::superusers;
use super::private::Private;
use super::settings::source_settings;
use crate::EngineError;
use crate::pg::tools::major_of;
use crate::pg::{PgServer, SslMode};

/// The private port: only the name of its socket.
const PORT: u16 = 5432;

/// A server that recovers, on a socket that only we can reach. Ended when dropped, unless it was
/// [left](Recovering::leave) to itself.
pub struct Recovering {
    pub(super) child: Child,
    pub(super) server: PgServer,
    pub(super) log: PathBuf,
    /// How long its log was when it was started: what stands before is of earlier attempts.
    pub(super) log_from: u64,
    /// Holds the socket and the rules of access; nothing once the server was left to itself.
    private: Option<Private>,
    /// What is known of how it answers.
    pub(super) answers: Answers,
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
        // At the target the own role may not be there: others that may ask are let in too.
        let others = superusers(&data);
        let roles: Vec<&str> =
            [user].into_iter().chain(others.iter().map(String::as_str)).collect();
        let private = Private::make(&roles, &sizes(&own))?;
        let at = private.path();
        note_own(layout, at)?;
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
            (SOCKETS, shown(at)),
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
        let answers = Answers::of(&data);
        Ok(Recovering { child, server, log, log_from, private: Some(private), answers })
    }

    /// How to reach it, while it runs.
    #[must_use]
    pub fn server(&self) -> &PgServer {
        &self.server
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
