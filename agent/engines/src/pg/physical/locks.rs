//! Locks that stand in a recovered cluster although nobody works in it: those of transactions that
//! had not ended where its replay stopped.

use std::time::Duration;

use tokio::time::timeout;

use super::ask::ANSWER_WAIT;
use super::pick::tree;
use super::run::Recovering;
use crate::common::EngineError;
use crate::pg::server::ServerError;
use crate::pg::server::ServerSaid;
use crate::pg::server::address::quote_literal;
use crate::pg::server::session::Session;

/// How long a lock is waited for that whoever works in the cluster may hold.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(30);

impl Recovering {
    /// How many tables (and indexes) are locked by transactions that had not ended where the
    /// replay stopped. The WAL tells of exclusive locks alone, and a session of a standby cannot
    /// take one: whatever there is stands in the replay's own name.
    ///
    /// # Errors
    /// [`ServerError::Query`].
    pub async fn dead_locks(&self) -> Result<u64, EngineError> {
        let query = "SELECT pg_catalog.count(*)::pg_catalog.text FROM pg_catalog.pg_locks \
                     WHERE granted AND locktype = 'relation' AND mode = 'AccessExclusiveLock'";
        self.number(query, "look for locks").await
    }

    /// The number that the next transaction would have: who writes takes one.
    ///
    /// # Errors
    /// [`ServerError::Query`].
    pub async fn next_xid(&self) -> Result<u64, EngineError> {
        let query = "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text";
        self.number(query, "ask for the next transaction").await
    }

    async fn number(&self, query: &str, action: &str) -> Result<u64, EngineError> {
        let session = self.session().await?;
        let odd = |said: &str| {
            EngineError::from(ServerError::Query {
                action: action.to_owned(),
                source: ServerSaid::new(said.to_owned()),
            })
        };
        let answer = timeout(ANSWER_WAIT, session.text(query, action)).await;
        let text = answer.map_err(|_| odd("it gave no answer"))??;
        text.parse().map_err(|_| odd("its answer is no number"))
    }
}

/// Bounds how long a session waits for a lock, and refuses a table that a prepared transaction has
/// locked: nobody ends that one by itself.
///
/// # Errors
/// [`ServerError::Query`], which names the transaction.
pub(super) async fn may_be_read(
    session: &Session,
    (name, shown): (&str, &str),
) -> Result<(), EngineError> {
    let action = format!("read the table {shown}");
    let wait = format!("SET lock_timeout = {}", LOCK_WAIT.as_millis());
    session.client.batch_execute(&wait).await.map_err(EngineError::query(&action))?;
    // A prepared transaction has no process; it is known by the number that it has locked too.
    let query = format!(
        "{} SELECT p.gid FROM pg_catalog.pg_locks l \
         JOIN pg_catalog.pg_locks t ON t.virtualtransaction = l.virtualtransaction \
              AND t.locktype = 'transactionid' \
         JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = t.transactionid \
         WHERE l.pid IS NULL AND l.granted AND l.locktype = 'relation' \
           AND l.mode = 'AccessExclusiveLock' \
           AND l.relation IN (SELECT tree.oid FROM tree) LIMIT 1",
        tree(&quote_literal(name))
    );
    let rows = session.client.query(&query, &[]).await.map_err(EngineError::query(&action))?;
    let Some(gid) = rows.first().and_then(|row| row.try_get::<_, String>(0).ok()) else {
        return Ok(());
    };
    let text = format!(
        "the prepared transaction {} holds a lock on it, and was neither committed nor rolled back \
         at the target: recover to before it was prepared, or use --promote and then COMMIT \
         PREPARED or ROLLBACK PREPARED",
        quote_literal(&gid)
    );
    Err(EngineError::from(ServerError::Query { action, source: ServerSaid::new(text) }))
}
