//! A snapshot that server, `pg_dump` and we share, on tables that nobody can empty meanwhile.
//!
//! `TRUNCATE` and most of `ALTER TABLE` do not respect older snapshots: a table that is emptied
//! after the snapshot was taken and before it is locked is dumped as empty, without any error.
//! Hence the locks come first and the snapshot after them.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::tables::{self, Table};
use crate::common::EngineError;
use crate::pg::dump::Blocker;
use crate::pg::server::ServerError;
use crate::pg::server::ServerSaid;
use crate::pg::server::session::Session;
use crate::pg::server::spelling::{bytes_in, spelled, who, who_is};

/// What became of one attempt.
pub(crate) enum Attempt {
    /// All tables are locked and the snapshot is exported.
    Held { snapshot: String, tables: Vec<Table> },
    /// Somebody holds a lock.
    Locked { said: ServerSaid, blockers: Vec<Blocker> },
    /// Tables came or went.
    Changed,
}

/// Tries to lock all tables and to export a snapshot. Where it fails no transaction is left open.
pub(crate) async fn hold(
    session: &Session,
    database: &str,
    user: &str,
    lock_timeout: Duration,
) -> Result<Attempt, EngineError> {
    let seen = tables::list(&session.client).await?;
    tables::all_readable(&seen, database, user)?;
    run(session, &begin(lock_timeout)).await?;
    if let Err(said) = session.patiently(tables::lock(&session.client, &seen)).await {
        run(session, "ROLLBACK").await?;
        // A migration that wants what we hold while we wait for what it holds: one of us yields.
        let deadlock = said.is(&SqlState::T_R_DEADLOCK_DETECTED);
        if deadlock || said.is(&SqlState::LOCK_NOT_AVAILABLE) {
            let blockers = blockers(session, &seen).await?;
            return Ok(Attempt::Locked { said, blockers });
        }
        // A table or schema that was there a moment ago.
        if said.is(&SqlState::UNDEFINED_TABLE) || said.is(&SqlState::INVALID_SCHEMA_NAME) {
            return Ok(Attempt::Changed);
        }
        let action = format!("lock the tables of database `{database}` for reading");
        return Err(EngineError::from(ServerError::Query { action, source: said }));
    }
    // The first statement that takes a snapshot.
    let export = "SELECT pg_catalog.pg_export_snapshot()";
    let snapshot = session.text(export, "export a snapshot").await?;
    let tables = tables::list(&session.client).await?;
    // Names and kinds too: what is counted and dumped is what was locked.
    if tables != seen {
        run(session, "ROLLBACK").await?;
        return Ok(Attempt::Changed);
    }
    Ok(Attempt::Held { snapshot, tables })
}

/// Gives locks and snapshot back.
pub(crate) async fn release(session: &Session) -> Result<(), EngineError> {
    run(session, "ROLLBACK").await
}

fn begin(lock_timeout: Duration) -> String {
    // Zero would mean to wait for ever.
    let millis = lock_timeout.as_millis().clamp(1, i32::MAX as u128);
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '{millis}ms'"
    )
}

async fn run(session: &Session, statement: &str) -> Result<(), EngineError> {
    let failed = EngineError::query("hold a snapshot");
    session.client.batch_execute(statement).await.map_err(failed)
}

/// `ACCESS EXCLUSIVE` is the only lock that keeps readers out, and one that is only asked for
/// keeps out those who come later.
fn query() -> String {
    let (who, table) = (who_is("a"), bytes_in("n.nspname || '.' || c.relname"));
    format!("
    SELECT DISTINCT l.pid, {who}, {table}
    FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
    JOIN pg_catalog.pg_class c ON c.oid = l.relation
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
      AND l.pid <> pg_catalog.pg_backend_pid() AND l.relation = ANY($1)
    LIMIT 20")
}

/// The sessions that keep the tables from being read.
pub(crate) async fn blockers(
    session: &Session,
    tables: &[Table],
) -> Result<Vec<Blocker>, EngineError> {
    let failed = |error| EngineError::query("find out who holds locks")(error);
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let rows = session.client.query(&query(), &[&oids]).await.map_err(failed)?;
    let blocker = |row: &tokio_postgres::Row| {
        let pid = row.try_get::<_, Option<i32>>(0)?.unwrap_or_default();
        let (user, application, query) = who(row, 1)?;
        Ok(Blocker { pid, user, application, query, table: spelled(row.try_get(4)?) })
    };
    rows.iter().map(blocker).collect::<Result<_, _>>().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_timeout_is_never_for_ever() {
        assert!(begin(Duration::ZERO).ends_with("'1ms'"));
        assert!(begin(Duration::from_secs(30)).ends_with("'30000ms'"));
        assert!(begin(Duration::MAX).ends_with(&format!("'{}ms'", i32::MAX)));
    }
}
