//! A clone that is masked, and who is let in: a role that may read and write what was masked, and can come by nothing
//! of what was there before: neither in statistics, nor in catalogs, nor by a function that runs as somebody else.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use drctl_model::shown;

use super::clone::CLONE_USER;
use super::digest_cluster::roll_back;
use super::scratch::Scratch;
use crate::common::EngineError;
use crate::pg::server::address::quote_ident;
use crate::pg::server::session::Session;
use crate::pg::server::{PgServer, ServerError, ServerSaid};

/// The name under which a server sees us.
const APPLICATION: &str = "drctl/clone";

/// How long a statement of a mask may be silent: it may rewrite a large table.
const PATIENCE: Duration = Duration::from_secs(7 * 86_400);

/// What a mask begins with: the source's triggers and rules neither copy old rows elsewhere nor run as we do, and
/// nobody waits for ever for a lock.
const BEGIN: &str = "SET default_transaction_read_only = off; SET session_replication_role = replica; \
    SET lock_timeout = '60s'; SET search_path = public; BEGIN READ WRITE";

/// Triggers that would run all the same.
const TRIGGERS: &str = "SELECT pg_catalog.format('ALTER TABLE %s DISABLE TRIGGER %I', tgrelid::pg_catalog.regclass, tgname)
  FROM pg_catalog.pg_trigger WHERE NOT tgisinternal AND tgenabled IN ('A', 'R')";

/// What of old values is left outside of tables; then all is written anew.
const AFTERWARDS: [&str; 4] = [
    "SET default_transaction_read_only = off",
    "DELETE FROM pg_catalog.pg_statistic; DELETE FROM pg_catalog.pg_statistic_ext_data",
    "VACUUM (FULL)",
    "CHECKPOINT",
];

/// Statements that give the role what it needs of a database, and take from everybody what leads elsewhere: functions
/// that run as a superuser, those that read files, and catalogs that hold values or secrets.
const RIGHTS: &str = "
  SELECT pg_catalog.format('GRANT USAGE ON SCHEMA %I TO drctl_clone', nspname)
    FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
  UNION ALL SELECT pg_catalog.format('GRANT %s ON %s TO drctl_clone',
      CASE WHEN c.relkind IN ('r', 'p') THEN 'SELECT, INSERT, UPDATE, DELETE'
        WHEN c.relkind = 'S' THEN 'SELECT, USAGE' ELSE 'SELECT' END, c.oid::pg_catalog.regclass)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND (c.relkind IN ('r', 'p', 'm', 'S') OR c.relkind = 'v' AND NOT o.rolsuper)
  UNION ALL SELECT pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', p.oid::pg_catalog.regprocedure)
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_roles o ON o.oid = p.proowner
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE p.prosecdef AND o.rolsuper
      OR n.nspname = 'pg_catalog' AND p.proname ~ '^(pg_read_|pg_ls_|pg_stat_file|pg_file_|lo_import|lo_export|pg_hba_|pg_ident_|pg_logdir_|loread$|lo_get$)'
  UNION ALL SELECT pg_catalog.format('REVOKE ALL ON pg_catalog.%I FROM PUBLIC', relname)
    FROM pg_catalog.pg_class WHERE relnamespace = 'pg_catalog'::pg_catalog.regnamespace
      AND relname IN ('pg_authid', 'pg_largeobject', 'pg_statistic', 'pg_statistic_ext_data', 'pg_user_mapping')
  UNION ALL SELECT 'REVOKE SELECT (subconninfo) ON pg_catalog.pg_subscription FROM PUBLIC'";

impl Scratch {
    /// Runs statements in a database as a superuser, all of them or none, then has every table written anew, so that
    /// nothing of what they replaced stays in its files or statistics. What was prepared and not decided is rolled back.
    ///
    /// # Errors
    /// [`ServerError::Query`] with what the server says; for a file without a statement, or one that ends the
    /// transaction. The clone is of no use then.
    pub async fn mask(&self, database: &str, statements: &str) -> Result<(), EngineError> {
        let failed = |error| EngineError::query("mask the clone")(error);
        if is_empty(statements) {
            return Err(refused("the file has no statement: nothing would be masked"));
        }
        self.roll_back_prepared().await?;
        let session = self.session(Some(database)).await?;
        session.client.batch_execute(BEGIN).await.map_err(failed)?;
        for off in texts(&session, TRIGGERS).await? {
            session.client.batch_execute(&off).await.map_err(failed)?;
        }
        let ours = "SELECT pg_catalog.pg_current_xact_id()::text";
        let ours: String = session.client.query_one(ours, &[]).await.map_err(failed)?.get(0);
        session.client.batch_execute(statements).await.map_err(failed)?;
        let same = "SELECT pg_catalog.pg_current_xact_id_if_assigned()::text";
        let same: Option<String> =
            session.client.query_one(same, &[]).await.map_err(failed)?.get(0);
        if same.as_ref() != Some(&ours) {
            return Err(refused(
                "the file ends the transaction (COMMIT or ROLLBACK), so not all of it counts: leave that out",
            ));
        }
        session.client.batch_execute("COMMIT").await.map_err(failed)?;
        drop(session);
        let session = self.session(Some(database)).await?;
        for statement in AFTERWARDS {
            let done = session.client.batch_execute(statement).await;
            done.map_err(EngineError::query("write the masked tables anew"))?;
        }
        Ok(())
    }

    /// Lets [`CLONE_USER`] in with a password of letters and digits: as a superuser, or into a database that was
    /// `masked` alone, to read and write its tables. It is a new role: one of the source of that name gets another.
    ///
    /// # Errors
    /// [`ServerError::Query`]; [`EngineError::Config`] for another password.
    pub async fn admit(&self, password: &str, masked: Option<&str>) -> Result<(), EngineError> {
        if password.is_empty() || !password.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(EngineError::Config("the password has other characters".to_owned()));
        }
        let failed = |error| EngineError::query("make the clone's role")(error);
        let session = self.session(masked).await?;
        let writes =
            "SET default_transaction_read_only = off; SET session_replication_role = replica";
        session.client.batch_execute(writes).await.map_err(failed)?;
        let there = texts(
            &session,
            "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname = 'drctl_clone'",
        );
        if !there.await?.is_empty() {
            let other = format!("{CLONE_USER}_{:08x}", rand::random::<u32>());
            let away =
                format!("ALTER ROLE {CLONE_USER} RENAME TO {other}; ALTER ROLE {other} NOLOGIN");
            session.client.batch_execute(&away).await.map_err(failed)?;
        }
        let power = match masked {
            None => "SUPERUSER",
            Some(_) => "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION BYPASSRLS",
        };
        let make = format!("CREATE ROLE {CLONE_USER} LOGIN {power} PASSWORD '{password}'");
        session.client.batch_execute(&make).await.map_err(failed)?;
        if masked.is_some() {
            for right in texts(&session, RIGHTS).await? {
                session.client.batch_execute(&right).await.map_err(failed)?;
            }
        }
        let rules = self.rules().ok_or_else(|| EngineError::Config("it has ended".to_owned()))?;
        let written = OpenOptions::new().write(true).truncate(true).open(rules);
        let written = written.and_then(|mut file| file.write_all(access(masked).as_bytes()));
        written.map_err(EngineError::io("write the rules of access"))?;
        session.client.batch_execute("SELECT pg_catalog.pg_reload_conf()").await.map_err(failed)
    }

    /// Transactions that were prepared and not decided hold locks, and rows that nobody has masked.
    async fn roll_back_prepared(&self) -> Result<(), EngineError> {
        let failed = |error| EngineError::query("roll back a prepared transaction")(error);
        let first = self.session(None).await?;
        let ask = "SELECT gid, database::text FROM pg_catalog.pg_prepared_xacts";
        for row in first.client.query(ask, &[]).await.map_err(failed)? {
            let (gid, database): (String, String) =
                (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            roll_back(self.server(), (&gid, &database), APPLICATION).await?;
        }
        Ok(())
    }

    /// A session of a superuser that may be silent for long.
    pub(super) async fn session(&self, database: Option<&str>) -> Result<Session, EngineError> {
        let server = PgServer { silence: PATIENCE, ..self.server().clone() };
        let database = database.unwrap_or(&server.maintenance_database);
        Session::open(&server, database, APPLICATION).await
    }
}

/// The texts that a query gives.
async fn texts(session: &Session, query: &str) -> Result<Vec<String>, EngineError> {
    let failed = |error| EngineError::query("look at the clone")(error);
    let rows = session.client.query(query, &[]).await.map_err(failed)?;
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(failed)
}

/// Whether a text has nothing but space, semicolons and comments.
fn is_empty(statements: &str) -> bool {
    let mut rest = statements;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        rest = match () {
            () if rest.is_empty() => return true,
            () if rest.starts_with("--") => rest.split_once('\n').map_or("", |(_, after)| after),
            () if rest.starts_with("/*") => rest.split_once("*/").map_or("", |(_, after)| after),
            () => return false,
        };
    }
}

fn refused(why: &str) -> EngineError {
    let source = ServerSaid::new(shown(why, 300));
    EngineError::from(ServerError::Query { action: "mask the clone".to_owned(), source })
}

/// The rules of access: our own account may be each superuser, by the kernel's word; whoever comes by an exposed way
/// has a password, and reaches nothing but what was masked.
fn access(masked: Option<&str>) -> String {
    let own = "local all all peer map=drctl\nlocal all all reject\n";
    match masked {
        None => format!("local all {CLONE_USER} scram-sha-256\n{own}"),
        Some(database) => {
            let database = quote_ident(database);
            format!(
                "local {database} {CLONE_USER} scram-sha-256\nlocal all {CLONE_USER} reject\n{own}"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_comments_is_no_mask() {
        for nothing in ["", " ;\n", "-- later", "-- a\n/* b; c */ ;\n", "/* open"] {
            assert!(is_empty(nothing), "{nothing}");
        }
        for some in ["select 1", "-- a\nupdate t set a = 1", "/* a */ update t set a = 1"] {
            assert!(!is_empty(some), "{some}");
        }
    }

    #[test]
    fn whoever_comes_with_a_password_reaches_what_was_masked_and_nothing_else() {
        let rules = access(Some("odd \"name\""));
        let mut lines = rules.lines();
        assert_eq!(lines.next(), Some("local \"odd \"\"name\"\"\" drctl_clone scram-sha-256"));
        assert_eq!(lines.next(), Some("local all drctl_clone reject"));
        assert!(
            access(None).starts_with("local all drctl_clone scram-sha-256\nlocal all all peer")
        );
    }
}
