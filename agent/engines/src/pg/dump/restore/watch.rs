//! Whether a `pg_restore` that takes nothing and does not end still works, by its server's word.

use tokio::time::sleep;

use crate::common::EngineError;
use crate::pg::dump::DatabaseTarget;
use crate::pg::server::address::ACTIVITY;
use crate::pg::server::session::Session;

/// Whether the server does anything for the tool: an index can take hours, and nothing is said
/// meanwhile.
const WORKS: &str = "
    SELECT count(*) > 0 FROM pg_catalog.pg_stat_activity
    WHERE application_name = $1 AND usename = current_user AND state = 'active'
      AND wait_event_type IS DISTINCT FROM 'Client'";

impl DatabaseTarget {
    /// The result of a wait for the tool; an error where it lasts, and the server does nothing for
    /// the tool either.
    pub(super) async fn watched<T>(&self, wait: impl Future<Output = T>) -> Result<T, EngineError> {
        tokio::select! {
            done = wait => Ok(done),
            error = self.hangs() => Err(error),
        }
    }

    /// Why it is not waited for any more.
    async fn hangs(&self) -> EngineError {
        let waited = self.creation.server.silence;
        loop {
            sleep(waited).await;
            match self.works().await {
                Ok(true) => {}
                Ok(false) => {
                    let (tool, activity) = ("pg_restore", Some(ACTIVITY));
                    return EngineError::Silent { tool, waited, activity };
                }
                Err(error) => return error,
            }
        }
    }

    async fn works(&self) -> Result<bool, EngineError> {
        let server = &self.creation.server;
        // Under another name, so that it does not find itself.
        let session = Session::open(server, &server.maintenance_database, "drctl/watch").await?;
        let failed = |error| EngineError::query("ask what pg_restore's sessions do")(error);
        let row = session.client.query_one(WORKS, &[&self.creation.application]).await;
        row.and_then(|row| row.try_get(0)).map_err(failed)
    }
}
