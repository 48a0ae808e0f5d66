//! A restored cluster's server, started in private to see where its recovery comes to.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drctl_model::SslMode;
use rustix::process::{Signal, kill_process};
use tokio::process::Child;

use super::Layout;
use super::ask::Answers;
use super::forced::{forced, session_options, sizes};
use super::guard::{CONFIGURATION, INSTANCE, guard, unguard};
use super::memory::{Smaller, available, smaller};
use super::names::superusers;
use super::orphan::{SOCKETS, note_own, out_of_the_sandbox, server_of, sockets};
use super::places::settle;
use super::private::Private;
use super::settings::source_settings;
use super::surroundings::{Surroundings, read_plain};
use super::unfit::taken;
use crate::common::EngineError;
use crate::pg::server::PgServer;
use crate::pg::server::major_of;

/// The server's log, beside its data.
const LOG: &str = "recovery.log";

/// The private port: only the name of its socket.
const PORT: u16 = 5432;

/// How often it is looked whether a server is there to be told to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A server that recovers, on a socket that only we can reach. Ended when dropped, unless it was
/// [left](Recovering::leave) to itself.
pub struct Recovering {
    pub(super) layout: Layout,
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

/// What of these sizes this host cannot give, made to fit; the operator is told.
fn made_smaller(sizes: &str) -> Vec<(&'static str, String)> {
    let told = |one: Smaller| {
        let says = one.says;
        tracing::warn!(
            "{says}; lower it in the configuration before you start the cluster by hand"
        );
        (one.name, one.value)
    };
    smaller(sizes, available()).into_iter().map(told).collect()
}

impl Recovering {
    /// Starts the server of an extracted cluster; it listens on no address.
    ///
    /// # Errors
    /// [`EngineError::Io`]; [`EngineError::Config`] as root, as whom PostgreSQL does not run, and for
    /// tablespaces that lead elsewhere.
    pub fn start(
        layout: &Layout,
        bin_dir: &Path,
        user: &str,
        around: &Surroundings<'_>,
    ) -> Result<Self, EngineError> {
        may_run()?;
        out_of_the_sandbox(layout)?;
        let data = layout.data();
        let read = |name: &str| read_plain(&data.join(name)).unwrap_or_default();
        let major = major_of(&read("PG_VERSION")).unwrap_or_default();
        let own = [CONFIGURATION, INSTANCE].map(read);
        // At the target the own role may not be there: others that may ask are let in too.
        let others = superusers(&data);
        let roles: Vec<&str> =
            [user].into_iter().chain(others.iter().map(String::as_str)).collect();
        let sizes = taken(bin_dir, &sizes(&own))?;
        let private = Private::make(&roles, &sizes)?;
        let at = private.path();
        note_own(layout, at)?;
        let log = data.with_file_name(LOG);
        let out = layout.root().and_then(|root| root.append(Path::new(LOG)));
        let out = out.map_err(EngineError::io(format!("write {}", log.display())))?;
        let log_from = out.metadata().map(|meta| meta.len()).unwrap_or_default();
        let shown = |path: &Path| path.display().to_string();
        let mut settings = vec![
            ("port", PORT.to_string()),
            (SOCKETS, sockets(at)),
            // The source's own configuration is not read: it may name the source's own places, what
            // an intruder there wants to be run, and what this host cannot take.
            ("config_file", shown(&private.file(CONFIGURATION))),
            ("data_directory", shown(&data)),
            ("external_pid_file", shown(&private.file("server.pid"))),
            ("hba_file", shown(&private.file("pg_hba.conf"))),
            ("ident_file", shown(&private.file("pg_ident.conf"))),
            ("shared_preload_libraries", around.preload.join(",")),
            ("restore_command", around.restore_command(at)?),
        ];
        settings.extend(forced(major).map(|(name, value)| (name, value.to_owned())));
        settings.extend(source_settings(bin_dir, &data));
        settings.extend(made_smaller(&sizes));
        let mut arguments = vec!["-D".to_owned(), shown(&data)];
        for (name, value) in settings {
            arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        let child = guard(layout)
            .and_then(|()| around.start((layout, bin_dir, &private), &arguments, out))
            .inspect_err(|_| drop(unguard(layout)))?;
        let server = PgServer {
            host: at.display().to_string(),
            port: PORT,
            user: user.to_owned(),
            maintenance_database: "postgres".to_owned(),
            password: None,
            sslmode: SslMode::Disable,
            ssl_root_cert: None,
            require_peer: None,
            bin_dir: Some(bin_dir.to_owned()),
            runtime_dir: at.to_owned(),
            options: session_options(major),
            silence: crate::pg::server::SILENCE,
        };
        let (layout, answers) = (layout.clone(), Answers::of(&data));
        Ok(Recovering { layout, child, server, log, log_from, private: Some(private), answers })
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
        let action = || format!("write {}", file.display());
        // Whatever lies there is not written through.
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(EngineError::io(action())(error));
            }
            _ => {}
        }
        File::create_new(&file).map_err(EngineError::io(action()))?;
        self.signal(Signal::USR1);
        Ok(())
    }

    /// To the postmaster; says whether there is one.
    fn signal(&self, signal: Signal) -> bool {
        let found = server_of(Path::new(&self.server.host));
        found.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// Leaves it running when we end, with its private socket; gives the directory of that.
    ///
    /// [`super::end_orphan`] ends it.
    ///
    /// # Errors
    /// [`EngineError::Config`] for tablespaces that lead elsewhere: it is ended then.
    pub fn leave(mut self) -> Result<PathBuf, EngineError> {
        settle(&self.layout)?;
        let kept = self.private.take().map(Private::keep);
        Ok(kept.unwrap_or_else(|| PathBuf::from(&self.server.host)))
    }

    /// Shuts it down cleanly, however long its last checkpoint takes up to `patience`; what is there
    /// then is a cluster that leaves its sandbox.
    ///
    /// # Errors
    /// [`EngineError::Io`]; [`EngineError::Config`] for tablespaces that lead elsewhere.
    pub async fn stop(mut self, patience: Duration) -> Result<(), EngineError> {
        let failed = EngineError::io("stop the restored server");
        let deadline = tokio::time::Instant::now() + patience;
        // A fast shutdown, once it is there to hear of it.
        while !self.signal(Signal::INT) {
            if let Ok(ended) = tokio::time::timeout(LOOK_EVERY, self.child.wait()).await {
                ended.map_err(failed)?;
                return out_of_the_sandbox(&self.layout);
            }
        }
        match tokio::time::timeout_at(deadline, self.child.wait()).await {
            Ok(ended) => ended.map(drop).map_err(failed)?,
            Err(_) => return Err(failed(std::io::Error::from(ErrorKind::TimedOut))),
        }
        out_of_the_sandbox(&self.layout)
    }
}

impl Drop for Recovering {
    fn drop(&mut self) {
        if self.private.is_some() {
            // An immediate shutdown: its children go with it, and its data stays as after a crash.
            if !self.signal(Signal::QUIT) {
                let _ = self.child.start_kill();
            }
        }
    }
}
