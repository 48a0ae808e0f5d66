//! A second session, which keeps others from putting code into the way of a count while that is planned.
//!
//! A planner works out what indexes, extended statistics and constraints of a table call with constants,
//! with the rights of who asks: a superuser's, where a superuser backs up. Our own transaction looks at a
//! snapshot that may be hours old, and its lock lets others make indexes, and rename schemas.

use super::code;
use super::tables::{self, Table};
use crate::common::EngineError;
use crate::pg::server::session::Session;
use crate::pg::server::spelling;

/// The session; without locks while nothing is planned.
pub(in crate::pg) struct Guard(Session);

/// What is known of some tables, and stays so until the guard lets go.
pub(super) struct Guarded {
    /// Those that are not a superuser's alone.
    pub(super) of_others: Vec<u32>,
    /// Those of them that a plan would run code of; all where nothing keeps others from adding some.
    pub(super) planned: Vec<u32>,
}

impl Guard {
    /// Beside a session of a superuser. Another role has no rights that are worth taking.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub(in crate::pg) async fn beside(session: &Session) -> Result<Option<Guard>, EngineError> {
        match session.superuser {
            true => Ok(Some(Guard(session.beside().await?))),
            false => Ok(None),
        }
    }

    /// Looks at these tables, and holds them until [`let_go`](Self::let_go): who would add an index waits,
    /// who writes does not. Nothing is waited for: where somebody is at work on one of them (a vacuum
    /// too), or the server is a standby, all that are no superuser's are taken for such that run code.
    /// A session that has ended since the last time is begun anew.
    ///
    /// # Errors
    /// The server's.
    pub(in crate::pg) async fn hold(&mut self, tables: &[&Table]) -> Result<Guarded, EngineError> {
        let failed = |error| EngineError::query("read the owners of the tables")(error);
        if !self.holds().await {
            self.0 = self.0.beside().await?;
        }
        let client = &self.0.client;
        let wanted: Vec<u32> = tables.iter().map(|table| table.oid).collect();
        let rows = client.query(OF_OTHERS, &[&wanted]).await.map_err(failed)?;
        let of_others: Result<Vec<u32>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        let of_others = of_others.map_err(failed)?;
        if of_others.is_empty() {
            return Ok(Guarded { planned: Vec::new(), of_others });
        }
        let names = tables.iter().filter(|table| of_others.contains(&table.oid));
        let names: Vec<String> = names.map(|table| format!("ONLY {}", table.sql_name())).collect();
        let lock = format!("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE NOWAIT", names.join(", "));
        client.batch_execute(BEGIN).await.map_err(failed)?;
        let held = client.batch_execute(NAMES).await.is_ok()
            && spelling::execute(client, &lock).await.is_ok();
        if !held || tables::missed(client, &of_others).await.map_err(failed)? > 0 {
            return Ok(Guarded { planned: of_others.clone(), of_others });
        }
        let planned = code::planned(client, &of_others).await?;
        Ok(Guarded { of_others, planned })
    }

    /// Whether what was held is held still: the session may have ended, by its own limit too.
    pub(super) async fn holds(&self) -> bool {
        self.0.client.batch_execute("SELECT 1").await.is_ok()
    }

    /// Gives the locks back; whether they were held until then.
    pub(super) async fn let_go(&self) -> bool {
        // Without a transaction it is a warning.
        self.0.client.batch_execute("ROLLBACK").await.is_ok()
    }
}

/// A drctl that hangs, or whose network is gone, holds nobody up for long.
const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '30s'";

/// Keeps the names of schemas from coming to mean others: a schema is renamed whatever is locked in it.
/// Nothing is written, and nothing is waited for.
const NAMES: &str = "LOCK TABLE pg_catalog.pg_namespace IN SHARE MODE NOWAIT";

/// Tables to which somebody who is no superuser may add indexes, or in whose place he may put others: whose
/// owner, or whose schema's, is none.
const OF_OTHERS: &str = "
    SELECT c.oid FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_roles s ON s.oid = n.nspowner
    JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
    JOIN pg_catalog.pg_roles o ON o.oid = d.datdba
    WHERE NOT (r.rolsuper AND (s.rolsuper OR (s.rolname = 'pg_database_owner' AND o.rolsuper)))
      AND c.oid = ANY ($1::pg_catalog.oid[])";
