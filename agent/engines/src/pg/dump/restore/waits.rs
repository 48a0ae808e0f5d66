//! Whom a restore waits for, and for how long.

use std::time::{Duration, Instant};

use drctl_model::shown;
use tokio::time::sleep;
use tokio_postgres::Row;

use crate::common::EngineError;
use crate::pg::dump::Blocker;
use crate::pg::dump::DumpError;
use crate::pg::server::PgServer;
use crate::pg::server::session::Session;
use crate::pg::server::spelling::{who, who_is};

/// Who asks.
const APPLICATION: &str = "drctl/restore-waits";

/// How long to wait between two looks, at most.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long others may be in the way before whoever watches is told.
const TELL: Duration = Duration::from_secs(30);

/// Sessions of others that one of ours waits for; number 0 is a transaction that was prepared.
fn query() -> String {
    let who = who_is("b");
    format!(
        "
    SELECT DISTINCT p.pid, {who}
    FROM pg_catalog.pg_stat_activity a
    CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(a.pid)) p (pid)
    LEFT JOIN pg_catalog.pg_stat_activity b ON b.pid = p.pid
    WHERE a.application_name = $1 AND b.application_name IS DISTINCT FROM $1
    LIMIT 20"
    )
}

/// Does the work of the sessions that are named `application`, unless others keep one of them
/// waiting for longer than the server's silence is borne.
///
/// # Errors
/// Those of the work, and [`DumpError::Waits`].
pub(super) async fn unblocked<T>(
    server: &PgServer,
    application: &str,
    database: &str,
    work: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    tokio::select! {
        biased;
        done = work => done,
        blockers = blocked(server, application, database) => Err(EngineError::from(DumpError::Waits {
            database: database.to_owned(),
            waited: server.silence,
            blockers,
        })),
    }
}

/// Ends when others were in the way for too long.
async fn blocked(server: &PgServer, application: &str, database: &str) -> Vec<Blocker> {
    let pause = (server.silence / 4).min(LOOK_AGAIN);
    let (mut session, mut since, mut told) = (None, None, false);
    loop {
        sleep(pause).await;
        match look(server, &mut session, application, database).await {
            Ok(blockers) if !blockers.is_empty() => {
                let since = since.get_or_insert_with(Instant::now);
                if since.elapsed() >= server.silence {
                    return blockers;
                }
                if !told && since.elapsed() >= TELL {
                    told = true;
                    let (first, name) = (&blockers[0], shown(database, 100));
                    let (pid, user) = (first.pid, shown(&first.user, 100));
                    tracing::warn!("{name}: waits for a lock that pid {pid} ({user}) holds");
                }
            }
            Ok(_) => since = None,
            Err(error) => {
                tracing::debug!(%error, "look whom a restore waits for");
                (session, since) = (None, None);
            }
        }
    }
}

async fn look(
    server: &PgServer,
    session: &mut Option<Session>,
    application: &str,
    database: &str,
) -> Result<Vec<Blocker>, EngineError> {
    let failed = |error| EngineError::query("ask whom a restore waits for")(error);
    if session.is_none() {
        *session = Some(Session::open(server, &server.maintenance_database, APPLICATION).await?);
    }
    let Some(session) = session else { return Ok(Vec::new()) };
    let rows = session.client.query(&query(), &[&application]).await.map_err(failed)?;
    let blocker = |row: &Row| {
        let pid = row.try_get(0)?;
        let (user, application, mut query) = who(row, 1)?;
        if pid == 0 {
            query = "a prepared transaction (pg_prepared_xacts)".to_owned();
        }
        Ok(Blocker { pid, user, application, query, table: format!("something in {database}") })
    };
    rows.iter().map(blocker).collect::<Result<_, _>>().map_err(failed)
}
