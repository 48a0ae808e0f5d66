//! Whether a tool waits for a lock of somebody else, which it does without a word.
//!
//! The time limit of `pg_dump` for locks holds for tables alone: for a sequence, a view or a type
//! that somebody drops it waits as long as that takes, with a snapshot and locks on all tables.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_postgres::Row;

use crate::common::EngineError;
use crate::pg::dump::Blocker;
use crate::pg::server::session::Session;
use crate::pg::server::spelling::{bytes_in, spelled, who, who_is};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// By how much the tool's own limit comes first, whose words are its own.
const BEHIND: Duration = Duration::from_secs(1);

/// What a session of ours waits for, and who is in the way.
fn query() -> String {
    let (who, object) = (who_is("a"), bytes_in("w.object"));
    format!(
        "
    SELECT w.pid, {object}, coalesce(b.pid, 0), {who}
    FROM (SELECT l.pid, coalesce(n.nspname || '.' || c.relname, l.locktype) AS object
          FROM pg_catalog.pg_locks l
          JOIN pg_catalog.pg_stat_activity o ON o.pid = l.pid AND o.usename = current_user
               AND o.application_name = $1 AND o.pid <> pg_catalog.pg_backend_pid()
          LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation
          LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE NOT l.granted LIMIT 1) w
    LEFT JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(w.pid)) b (pid) ON true
    LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid
    LIMIT 20"
    )
}

/// A session of ours, and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wait {
    pid: i32,
    object: String,
}

/// Why the work was given up: what was waited for, and who was in the way.
pub(crate) struct LockedOut {
    pub(crate) object: String,
    pub(crate) blockers: Vec<Blocker>,
}

/// Does the work, unless another session of this name waits for one lock longer than `patience`:
/// that session is ended then.
pub(crate) async fn unless_locked_out<T>(
    session: &Session,
    application: &str,
    patience: Duration,
    work: impl Future<Output = T>,
) -> Result<Result<T, LockedOut>, EngineError> {
    let mut work = pin!(work);
    let mut since: Option<(Wait, Instant)> = None;
    loop {
        if let Ok(done) = timeout(LOOK_EVERY, &mut work).await {
            return Ok(Ok(done));
        }
        let Some((wait, blockers)) = look(session, application).await? else {
            since = None;
            continue;
        };
        match &since {
            Some((known, at)) if *known == wait => {
                if at.elapsed() >= patience + BEHIND {
                    end(session, wait.pid).await?;
                    return Ok(Err(LockedOut { object: wait.object, blockers }));
                }
            }
            _ => since = Some((wait, Instant::now())),
        }
    }
}

async fn look(
    session: &Session,
    application: &str,
) -> Result<Option<(Wait, Vec<Blocker>)>, EngineError> {
    let failed = |error| EngineError::query("look what pg_dump waits for")(error);
    // Within a transaction the server goes on to say what it said first.
    let anew = "SELECT pg_catalog.pg_stat_clear_snapshot()";
    session.client.batch_execute(anew).await.map_err(failed)?;
    let rows = session.client.query(&query(), &[&application]).await.map_err(failed)?;
    let Some(first) = rows.first() else { return Ok(None) };
    let wait = Wait {
        pid: first.try_get::<_, Option<i32>>(0).map_err(failed)?.unwrap_or_default(),
        object: spelled(first.try_get(1).map_err(failed)?),
    };
    let blockers: Result<Vec<Blocker>, _> = rows.iter().map(blocker).collect();
    let blockers = blockers.map_err(failed)?;
    Ok(Some((wait, blockers.into_iter().filter(|blocker| blocker.pid != 0).collect())))
}

fn blocker(row: &Row) -> Result<Blocker, tokio_postgres::Error> {
    let (user, application, query) = who(row, 3)?;
    let (table, pid) = (spelled(row.try_get(1)?), row.try_get(2)?);
    Ok(Blocker { pid, user, application, query, table })
}

/// Ends the session: of a client that is gone it would hold its locks until it has what it waits for.
async fn end(session: &Session, pid: i32) -> Result<(), EngineError> {
    let failed = EngineError::query("end a pg_dump that waits");
    let query = "SELECT pg_catalog.pg_terminate_backend($1)";
    session.client.execute(query, &[&pid]).await.map(drop).map_err(failed)
}
