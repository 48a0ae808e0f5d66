//! How far a server's replicas are behind.

use std::time::Duration;

use super::PgServer;
use super::session::Session;
use crate::common::EngineError;

/// Of those that are connected, but for what drctl itself streams and for base backups. Without
/// `pg_read_all_stats` a role sees that there are replicas, and nothing of them.
const LAG: &str = "
    SELECT pg_catalog.count(*) FILTER (WHERE state IS NULL) > 0,
           extract(epoch FROM pg_catalog.max(replay_lag)
               FILTER (WHERE state IN ('streaming', 'catchup')
                       AND application_name NOT LIKE 'drctl%'))::float8
    FROM pg_catalog.pg_stat_replication";

/// Asks a server how far the furthest of its replicas is behind: how long it takes to replay WAL. Zero where
/// there is none; nothing where the role may not see it.
///
/// # Errors
/// Those of connecting; [`ServerError::Query`](crate::pg::server::ServerError::Query).
pub async fn replica_lag(
    server: &PgServer,
    application: &str,
) -> Result<Option<Duration>, EngineError> {
    let session = Session::open(server, &server.maintenance_database, application).await?;
    let failed = |error| EngineError::query("ask how far replicas are behind")(error);
    let row = session.client.query_one(LAG, &[]).await.map_err(failed)?;
    let unseen: bool = row.try_get(0).map_err(failed)?;
    let seconds: Option<f64> = row.try_get(1).map_err(failed)?;
    let lag = Duration::try_from_secs_f64(seconds.unwrap_or_default()).unwrap_or_default();
    Ok(Some(lag).filter(|_| !unseen))
}
