//! A small commit every few seconds, so that the log of an idle server tells the time.

use std::time::Duration;

use tokio::time::sleep;

use super::PgServer;
use super::server::Session;
use crate::EngineError;

/// A message in a transaction of its own: it needs no table and no wal_level of logical decoding,
/// which alone would read it.
const BEAT: &str = "SELECT pg_catalog.pg_logical_emit_message(true, 'drctl', '')";

/// Commits something every `every`, until it is dropped. A server that cannot (a standby, or one
/// that is away) is tried again; what it costs is that recent times cannot be reached meanwhile.
pub async fn beat(server: &PgServer, every: Duration) {
    let mut session = None;
    loop {
        if let Err(error) = once(server, &mut session).await {
            tracing::warn!("no heartbeat: {error}");
            session = None;
        }
        sleep(every).await;
    }
}

async fn once(server: &PgServer, session: &mut Option<Session>) -> Result<(), EngineError> {
    let open = match session.take() {
        Some(open) => open,
        None => Session::open(server, &server.maintenance_database, "drctl/heartbeat").await?,
    };
    let beat = open.client.batch_execute(BEAT).await;
    beat.map_err(EngineError::query("commit a heartbeat"))?;
    *session = Some(open);
    Ok(())
}
