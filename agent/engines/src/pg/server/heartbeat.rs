//! A small commit every few seconds, so that the WAL of an idle server tells the time.

use std::time::Duration;

use tokio::time::sleep;

use super::PgServer;
use super::session::Session;
use crate::common::EngineError;
use crate::pg::server::ServerError;

/// What is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heartbeat {
    /// A message in a transaction of its own: it needs no table and no `wal_level` of logical
    /// decoding, which alone would read it.
    Message,
    /// The time, in the one row of the table `drctl.heartbeat` of the maintenance database: from
    /// restored data anybody reads which moment they show.
    Table,
}

const MESSAGE: &str = "SELECT pg_catalog.pg_logical_emit_message(true, 'drctl', '')";

/// Made where missing; a role that may not create it finds it made by somebody else.
const MAKE_TABLE: &str = "
    DO $$ BEGIN
        IF pg_catalog.to_regclass('drctl.heartbeat') IS NULL THEN
            CREATE SCHEMA IF NOT EXISTS drctl;
            CREATE TABLE drctl.heartbeat (
                one boolean PRIMARY KEY DEFAULT true CHECK (one),
                at timestamp with time zone NOT NULL
            ) WITH (fillfactor = 10);
        END IF;
    END $$";

const ROW: &str = "
    INSERT INTO drctl.heartbeat (at) VALUES (pg_catalog.clock_timestamp())
    ON CONFLICT (one) DO UPDATE SET at = EXCLUDED.at";

/// Whether the table and its schema belong to somebody else, and what would run when a row is
/// written.
const LOOK: &str = "
    SELECT CASE
        WHEN c.relkind <> 'r' THEN 'it is no table'
        WHEN n.nspowner <> me.oid THEN 'its schema belongs to another role'
        WHEN c.relowner <> me.oid THEN 'it belongs to another role'
        WHEN c.relhastriggers OR c.relhasrules THEN 'it has triggers or rules'
        WHEN c.relrowsecurity THEN 'it has policies'
        WHEN EXISTS (SELECT FROM pg_catalog.pg_attrdef d WHERE d.adrelid = c.oid AND d.adnum > 1)
             OR (SELECT pg_catalog.count(*) FROM pg_catalog.pg_constraint k
                 WHERE k.conrelid = c.oid AND k.contype = 'c') > 1
             OR (SELECT pg_catalog.count(*) FROM pg_catalog.pg_index i
                 WHERE i.indrelid = c.oid) > 1 THEN 'somebody has added to it'
        END
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_roles me ON me.rolname = current_user
    WHERE c.oid = 'drctl.heartbeat'::pg_catalog.regclass";

/// An error unless the table is one that this role has made: another's could run its own code with
/// our rights at each write.
async fn is_ours(session: &Session, server: &PgServer) -> Result<(), EngineError> {
    let failed = |error| EngineError::query("look at the table drctl.heartbeat")(error);
    let row = session.client.query_one(LOOK, &[]).await.map_err(failed)?;
    let Some(why) = row.try_get::<_, Option<String>>(0).map_err(failed)? else { return Ok(()) };
    Err(EngineError::from(ServerError::Permission {
        user: server.user.clone(),
        action: format!("write into drctl.heartbeat safely: {why}"),
        advice: "drop the schema drctl in the maintenance database (see first what is in it), and \
                 let this role make it; or use messages, which need no table"
            .to_owned(),
        source: None,
    }))
}

/// Commits something every `every`, until it is dropped. A server that cannot (a standby, or one
/// that is away) is tried again; what it costs is that recent times cannot be reached meanwhile.
pub async fn beat(server: &PgServer, every: Duration, heartbeat: Heartbeat) {
    let mut session = None;
    loop {
        if let Err(error) = once(server, &mut session, heartbeat).await {
            tracing::warn!("no heartbeat: {error}");
            session = None;
        }
        sleep(every).await;
    }
}

async fn once(
    server: &PgServer,
    session: &mut Option<Session>,
    heartbeat: Heartbeat,
) -> Result<(), EngineError> {
    let action = "commit a heartbeat";
    let open = match session.take() {
        Some(open) => open,
        None => {
            let database = &server.maintenance_database;
            let open = Session::open(server, database, "drctl/heartbeat").await?;
            if heartbeat == Heartbeat::Table {
                let made = open.client.batch_execute(MAKE_TABLE).await;
                made.map_err(EngineError::query("make the table drctl.heartbeat"))?;
                is_ours(&open, server).await?;
            }
            open
        }
    };
    let beat = match heartbeat {
        Heartbeat::Message => MESSAGE,
        Heartbeat::Table => ROW,
    };
    open.client.batch_execute(beat).await.map_err(EngineError::query(action))?;
    *session = Some(open);
    Ok(())
}
