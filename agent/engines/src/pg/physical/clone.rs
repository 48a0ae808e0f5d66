//! A restored cluster as a server that people use for a while: opened for writing, masked, and let in with a password.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use drctl_model::shown;

use super::Layout;
use super::forced::forced;
use super::names::{databases, superusers};
use super::private::Private;
use super::scratch::{LOG, Scratch, places, server};
use super::settings::source_settings;
use super::surroundings::{Surroundings, read_plain};
use crate::common::EngineError;
use crate::common::sandbox::Sandbox;
use crate::pg::server::session::Session;
use crate::pg::server::{ServerError, ServerSaid, major_of};

/// The role as which people log in who come by an exposed way: the only one that has a password.
pub const CLONE_USER: &str = "drctl_clone";

/// The name under which a server sees us.
const APPLICATION: &str = "drctl/clone";

/// Our own account may be each superuser, by the kernel's word; whoever comes by an exposed way has a password.
const RULES: &str =
    "local all drctl_clone scram-sha-256\nlocal all all peer map=drctl\nlocal all all reject\n";

/// What people expect of a server beside what every server of a restore is given.
const SETTINGS: &[(&str, &str)] = &[
    ("default_transaction_read_only", "off"),
    ("autovacuum", "on"),
    ("password_encryption", "scram-sha-256"),
];

/// Tells databases that take connections.
const DATABASES: &str =
    "SELECT datname::text FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1";

/// Lets somebody in who may do as all others may that are no superusers: who could read from the files what was masked.
const AS_OTHERS: &str = "DO $$ DECLARE one name; BEGIN
  FOR one IN SELECT rolname FROM pg_catalog.pg_roles r
    WHERE rolname IN ('pg_read_all_data', 'pg_write_all_data')
      OR (rolname !~ '^pg_' AND rolname <> 'drctl_clone' AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles s
        WHERE (s.rolsuper OR s.rolreplication OR s.rolname IN
            ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'))
          AND pg_catalog.pg_has_role(r.oid, s.oid, 'MEMBER')))
  LOOP EXECUTE pg_catalog.format('GRANT %I TO drctl_clone', one); END LOOP;
END $$";

impl Scratch {
    /// Starts the server of a cluster that was recovered and made one of its own, in a sandbox in which `hidden` is
    /// not seen. It takes what is written to it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn of_cluster(
        layout: &Layout,
        bin_dir: &Path,
        (sandbox, hidden): (&Sandbox, Vec<std::path::PathBuf>),
    ) -> Result<Self, EngineError> {
        let data = layout.data();
        let roles = superusers(&data);
        let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
        let first = *roles.first().ok_or_else(|| {
            EngineError::Config("the cluster's superusers cannot be told from its files".to_owned())
        })?;
        let major = read_plain(&data.join("PG_VERSION")).as_deref().and_then(major_of);
        let major = major.unwrap_or_default();
        let private = Private::make(&roles, "")?;
        let none = |_: &Path, _: &Path| Ok(String::new());
        let around = Surroundings {
            sandbox: Some(sandbox),
            hidden,
            outlives: false,
            preload: Vec::new(),
            log: &none,
            led: Vec::new(),
        };
        let mut arguments = places(layout, &private);
        let own = forced(major).chain(SETTINGS.iter().copied());
        let own = own.map(|(name, value)| (name, value.to_owned()));
        for (name, value) in own.chain(source_settings(bin_dir, &data)) {
            arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        let mut server = server((&private, first), bin_dir, major);
        let there = databases(&data);
        let usual = there.iter().find(|name| *name == "postgres").or(there.first());
        server.maintenance_database = usual.cloned().unwrap_or_default();
        let below = layout.root().and_then(|root| root.append(Path::new(LOG)));
        let log = below.map_err(EngineError::io("write the log of the clone"))?;
        let child = around.start((layout, bin_dir, &private), &arguments, log)?;
        Scratch::begun(child, (server, private), &data.with_file_name(LOG)).await
    }

    /// The databases that take connections, by their names.
    ///
    /// # Errors
    /// [`ServerError::Query`].
    pub async fn databases(&self) -> Result<Vec<String>, EngineError> {
        let failed = |error| EngineError::query("list the databases")(error);
        let rows = self.session(None).await?.client.query(DATABASES, &[]).await.map_err(failed)?;
        let name = |row: &tokio_postgres::Row| row.try_get(0);
        rows.iter().map(name).collect::<Result<_, _>>().map_err(failed)
    }

    /// Runs statements in a database as a superuser, all of them or none, then has every table written anew, so that
    /// nothing of what they replaced stays in its files.
    ///
    /// # Errors
    /// [`ServerError::Query`] with what the server says: nothing was changed by the statements then.
    pub async fn mask(&self, database: &str, statements: &str) -> Result<(), EngineError> {
        let session = self.session(Some(database)).await?;
        let begin = "SET search_path = public; SET default_transaction_read_only = off";
        let failed = |error| EngineError::query("mask the clone")(error);
        session.client.batch_execute(begin).await.map_err(failed)?;
        session.client.batch_execute(statements).await.map_err(failed)?;
        drop(session);
        let session = self.session(Some(database)).await?;
        let failed = |error| EngineError::query("write the masked tables anew")(error);
        session
            .client
            .batch_execute("SET default_transaction_read_only = off")
            .await
            .map_err(failed)?;
        session.client.batch_execute("VACUUM (FULL)").await.map_err(failed)?;
        session.client.batch_execute("CHECKPOINT").await.map_err(failed)
    }

    /// Lets [`CLONE_USER`] in with a password of letters and digits: as a superuser, or as somebody who may do what all
    /// others may do together.
    ///
    /// # Errors
    /// [`ServerError::Query`]; [`EngineError::Config`] for another password.
    pub async fn admit(&self, password: &str, superuser: bool) -> Result<(), EngineError> {
        if password.is_empty() || !password.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(EngineError::Config("the password has other characters".to_owned()));
        }
        let rules = self.rules().ok_or_else(|| EngineError::Config("it has ended".to_owned()))?;
        let written = OpenOptions::new().write(true).truncate(true).open(rules);
        let written = written.and_then(|mut file| file.write_all(RULES.as_bytes()));
        written.map_err(EngineError::io("write the rules of access"))?;
        let session = self.session(None).await?;
        let failed = |error| EngineError::query("make the clone's role")(error);
        let ask = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'drctl_clone')";
        let there: bool =
            session.client.query_one(ask, &[]).await.map_err(failed)?.try_get(0).map_err(failed)?;
        let verb = if there { "ALTER" } else { "CREATE" };
        let power = if superuser { "SUPERUSER" } else { "NOSUPERUSER" };
        let make = format!(
            "SET default_transaction_read_only = off; \
             {verb} ROLE {CLONE_USER} LOGIN {power} CREATEDB NOREPLICATION NOBYPASSRLS PASSWORD '{password}'"
        );
        session.client.batch_execute(&make).await.map_err(failed)?;
        if !superuser {
            session.client.batch_execute(AS_OTHERS).await.map_err(failed)?;
        }
        session.client.batch_execute("SELECT pg_reload_conf()").await.map_err(failed)
    }

    async fn session(&self, database: Option<&str>) -> Result<Session, EngineError> {
        let database = database.unwrap_or(&self.server().maintenance_database);
        Session::open(self.server(), database, APPLICATION).await
    }

    /// Tells why it ended by itself, where it has.
    ///
    /// # Errors
    /// [`ServerError::Query`].
    pub fn still_runs(&mut self) -> Result<(), EngineError> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(EngineError::from(ServerError::Query {
                action: "keep the clone's server".to_owned(),
                source: ServerSaid::new(shown(&format!("it ended by itself ({status})"), 300)),
            })),
        }
    }
}
