//! Leaves no session behind on the server.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::PgServer;
use super::session::Session;
use crate::common::EngineError;

/// How long the server may take to end the sessions.
const WAIT: Duration = Duration::from_secs(15);

/// How long to wait between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Ends those sessions of our role that bear the name, and counts them.
const END: &str = "
    SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid))
    FROM pg_catalog.pg_stat_activity
    WHERE application_name = $1 AND usename = current_user AND pid <> pg_catalog.pg_backend_pid()";

/// Ends all sessions with this application name, and waits until they are gone.
pub(crate) async fn end_sessions(server: &PgServer, application: &str) {
    match timeout(WAIT, end_all(server, application)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%application, %error, "end the sessions of a backup or restore")
        }
        Err(_) => {
            tracing::warn!(%application, "sessions of a backup or restore are still on the server")
        }
    }
}

async fn end_all(server: &PgServer, application: &str) -> Result<(), EngineError> {
    // Under another name, so that it does not end itself.
    let session = Session::open(server, &server.maintenance_database, "drctl/abort").await?;
    // The server cuts names at 63 bytes; ours are shorter.
    loop {
        let asked = session.client.query_one(END, &[&application]).await;
        let left: Result<i64, _> = asked.and_then(|row| row.try_get(0));
        let left = left.map_err(EngineError::query("end the sessions"))?;
        if left == 0 {
            return Ok(());
        }
        sleep(LOOK_AGAIN).await;
    }
}
