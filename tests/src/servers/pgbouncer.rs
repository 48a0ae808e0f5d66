//! pgbouncer: a pooler before a PostgreSQL.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::port::on_free_port;
use super::postgres::{Postgres, account};
use super::process::{End, Process, bound};

/// A running pgbouncer. Ends when dropped.
#[derive(Debug)]
pub struct PgBouncer {
    // Dropped before its folder.
    _process: Process,
    folder: TempDir,
    port: u16,
}

impl PgBouncer {
    /// Before all databases of `server`, with its socket in a folder of its own; it passes the
    /// startup parameters `ignored` over in silence.
    ///
    /// # Panics
    /// When pgbouncer is not installed, or does not start.
    #[must_use]
    pub fn before(server: &Postgres, mode: &str, ignored: &str) -> PgBouncer {
        let folder = tempfile::Builder::new().prefix("drctl-pool-").tempdir().expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("open the folder");
        let (at, to) = (folder.path().display(), server.socket_dir().display());
        let (port, process) = on_free_port(|port| {
            let conf = format!(
                "[databases]\n* = host={to} port={} user=postgres\n[pgbouncer]\nlisten_addr =\n\
                 unix_socket_dir = {at}\nlisten_port = {port}\nauth_type = any\n\
                 pool_mode = {mode}\ndefault_pool_size = 1\nignore_startup_parameters = {ignored}\n",
                server.port()
            );
            let file = folder.path().join("pgbouncer.ini");
            fs::write(&file, conf).expect("write the configuration");
            let mut command = bound("/usr/sbin/pgbouncer", End::Kill, account());
            command.arg(&file);
            Process::start(command, End::Kill, "process up")
        });
        PgBouncer { _process: process, folder, port }
    }

    /// The folder of its socket.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Its port, which names its socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What an application gets for a query.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn psql(&self, db: &str, sql: &str) -> String {
        let mut psql = Command::new("psql");
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", db, "-c", sql]);
        psql.arg("-h").arg(self.socket_dir()).args(["-p", &self.port.to_string()]);
        let output = psql.stdin(Stdio::null()).output().expect("start psql");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }
}
