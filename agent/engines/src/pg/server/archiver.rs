//! Whether a server gets rid of its WAL: what waits, what fails, what a slot keeps.

use std::path::Path;

use drctl_model::{Lsn, Timeline, WalSegmentSize};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::PgServer;
use super::place::system_id_of;
use super::session::Session;
use crate::common::EngineError;

/// How a server's WAL fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHealth {
    /// Whether `archive_mode` is on.
    pub archiving: bool,
    /// Whether the last try to archive a file failed, and which file that was.
    pub failing: Option<String>,
    /// Bytes of WAL that are written and not archived yet; nothing where it is not known.
    pub waiting_bytes: Option<i64>,
    /// The role that may not ask for them, and lacks `pg_monitor`; nothing where one may.
    pub unasked: Option<String>,
    /// The physical slots.
    pub slots: Vec<SlotHealth>,
    /// Bytes that are free where the WAL lies; nothing where that is out of our sight.
    pub free_bytes: Option<u64>,
}

/// How much WAL a slot keeps on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotHealth {
    /// Its name.
    pub name: String,
    /// Whether somebody reads from it.
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost` (`pg_replication_slots.wal_status`).
    pub status: String,
    /// Bytes from where it keeps the WAL to where that ends.
    pub kept_bytes: Option<i64>,
}

/// Failures count only until something was archived after them; a code above 125 and a signal
/// leave no failure behind, which is why the waiting bytes are asked for too. Every role may ask it.
const ARCHIVER: &str = "
    SELECT pg_catalog.current_setting('archive_mode') <> 'off',
           CASE WHEN last_failed_time > coalesce(last_archived_time, '-infinity')
                THEN last_failed_wal END,
           current_user::text
    FROM pg_catalog.pg_stat_archiver";

/// By the archiver's own marks: it takes segments of an earlier timeline after those of the present
/// one, so that the last that it archived says nothing of what waits. The listing wants `pg_monitor`,
/// or a grant of its own.
const WAITING: &str = "
    SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery()
                THEN pg_catalog.count(*) * pg_catalog.pg_size_bytes(
                         pg_catalog.current_setting('wal_segment_size'))
           END
    FROM pg_catalog.pg_ls_archive_statusdir()
    WHERE name ~ '^[0-9A-F]{24}\\.ready$'";

/// The newest segment of the present timeline that is marked as archived. A promoted server archives
/// what it has of an earlier timeline after it, and what came by replication bears the mark too: both
/// are of earlier timelines.
const MARKED: &str = "
    SELECT pg_catalog.max(pg_catalog.left(name, 24))
    FROM pg_catalog.pg_ls_archive_statusdir()
    WHERE name ~ '^[0-9A-F]{24}\\.done$'
      AND pg_catalog.left(name, 8) = pg_catalog.left(
              CASE WHEN NOT pg_catalog.pg_is_in_recovery()
                   THEN pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()) END, 8)";

const SLOTS: &str = "
    SELECT slot_name::text, active, coalesce(wal_status, 'unknown'),
           pg_catalog.pg_wal_lsn_diff(
               CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                    ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn)::bigint
    FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical' ORDER BY 1";

/// Asks a server how its WAL fares; what the role may not see is left out, and named.
///
/// # Errors
/// Those of connecting; [`ServerError::Query`](crate::pg::server::ServerError::Query).
pub async fn log_health(server: &PgServer, application: &str) -> Result<LogHealth, EngineError> {
    let session = Session::open(server, &server.maintenance_database, application).await?;
    let action = "look at the replication slots";
    let rows = session.client.query(SLOTS, &[]).await.map_err(EngineError::query(action))?;
    let slots = rows.iter().map(slot).collect::<Result<_, _>>();
    let slots = slots.map_err(EngineError::query(action))?;
    let failed = EngineError::query("look at the archiver");
    let row = session.client.query_one(ARCHIVER, &[]).await.map_err(failed)?;
    let archiving = row.try_get(0).unwrap_or(false);
    let (failing, role) = (text(&row, 1), text(&row, 2));
    let (waiting_bytes, unasked) = match session.client.query_one(WAITING, &[]).await {
        Ok(row) => (row.try_get(0).ok().flatten(), None),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => (None, role),
        Err(error) => return Err(EngineError::query("look what waits to be archived")(error)),
    };
    let free_bytes = free_bytes(server, &session).await;
    Ok(LogHealth { archiving, failing, waiting_bytes, unasked, slots, free_bytes })
}

/// Up to where a server has WAL on its disk; on a standby, what it has received.
///
/// # Errors
/// Those of connecting; [`ServerError::Query`](crate::pg::server::ServerError::Query).
pub async fn written(server: &PgServer, application: &str) -> Result<Option<Lsn>, EngineError> {
    let query = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() \
                 THEN pg_catalog.pg_last_wal_receive_lsn() \
                 ELSE pg_catalog.pg_current_wal_flush_lsn() END::text";
    let session = Session::open(server, &server.maintenance_database, application).await?;
    let text = session.text(query, "ask up to where the WAL is written").await?;
    Ok(text.parse().ok())
}

/// What a server says of its cluster and of what it has archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// The cluster's system identifier.
    pub system_id: u64,
    /// The size of its WAL segments.
    pub segment_size: WalSegmentSize,
    /// The newest segment that `archive_command` reported as stored, by name. It reports what was
    /// dropped, too. Nothing where there was none since statistics were reset.
    pub last: Option<String>,
}

const ARCHIVED: &str = "
    SELECT system_identifier::text,
           pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))::text,
           (SELECT last_archived_wal FROM pg_catalog.pg_stat_archiver
             WHERE last_archived_wal ~ '^[0-9A-F]{24}$')
    FROM pg_catalog.pg_control_system()";

/// Asks a server what it has archived.
///
/// # Errors
/// Those of connecting; [`ServerError::Query`](crate::pg::server::ServerError::Query).
pub async fn archived(server: &PgServer, application: &str) -> Result<Archived, EngineError> {
    let session = Session::open(server, &server.maintenance_database, application).await?;
    let failed = EngineError::query("ask what was archived");
    let row = session.client.query_one(ARCHIVED, &[]).await.map_err(failed)?;
    let number = |at: usize| text(&row, at).and_then(|text| text.parse::<u64>().ok());
    Ok(Archived {
        system_id: text(&row, 0).and_then(|id| system_id_of(&id)).unwrap_or_default(),
        segment_size: number(1).and_then(WalSegmentSize::new).unwrap_or_default(),
        last: newest(&session, text(&row, 2)).await?,
    })
}

/// The newest segment that was archived, where `last` was the last one; that, where the role may not
/// look at the marks.
async fn newest(session: &Session, last: Option<String>) -> Result<Option<String>, EngineError> {
    if last.is_none() {
        return Ok(None);
    }
    match session.client.query_one(MARKED, &[]).await {
        Ok(row) => Ok(last.max(text(&row, 0))),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(last),
        Err(error) => Err(EngineError::query("look what is marked as archived")(error)),
    }
}

/// By what a server gets rid of its WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivesBy {
    /// `archive_mode`.
    pub mode: String,
    /// `archive_command`.
    pub command: String,
    /// `archive_library`, which servers before 15 do not have.
    pub library: String,
}

const ARCHIVES_BY: &str = "
    SELECT pg_catalog.current_setting('archive_mode'),
           pg_catalog.current_setting('archive_command'),
           coalesce(pg_catalog.current_setting('archive_library', true), '')";

/// Asks a server by what it archives. Every role may.
///
/// # Errors
/// Those of connecting; [`ServerError::Query`](crate::pg::server::ServerError::Query).
pub async fn archives_by(server: &PgServer, application: &str) -> Result<ArchivesBy, EngineError> {
    let session = Session::open(server, &server.maintenance_database, application).await?;
    let failed = EngineError::query("ask by what the server archives");
    let row = session.client.query_one(ARCHIVES_BY, &[]).await.map_err(failed)?;
    let setting = |at: usize| text(&row, at).unwrap_or_default();
    Ok(ArchivesBy { mode: setting(0), command: setting(1), library: setting(2) })
}

/// What drctl has told a server that it has stored of its WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// The cluster's system identifier.
    pub system_id: u64,
    /// The size of its WAL segments.
    pub segment_size: WalSegmentSize,
    /// Its timeline.
    pub timeline: Timeline,
    /// The newest segment that `wal push` took, by name; nothing where that is not its
    /// `archive_command`.
    pub pushed: Option<String>,
    /// Up to where the slot's reader has stored it.
    pub streamed: Option<Lsn>,
}

const ACKNOWLEDGED: &str = "
    SELECT s.system_identifier::text,
           pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))::text,
           c.timeline_id::text,
           (SELECT last_archived_wal FROM pg_catalog.pg_stat_archiver
             WHERE last_archived_wal ~ '^[0-9A-F]{24}$'
               AND pg_catalog.current_setting('archive_command') ~ 'wal push'),
           (SELECT restart_lsn::text FROM pg_catalog.pg_replication_slots
             WHERE slot_type = 'physical' AND slot_name = $1)
    FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c";

/// Asks a server what `archive_command` and the reader of a slot have told it is stored.
///
/// # Errors
/// Those of connecting; [`ServerError::Query`](crate::pg::server::ServerError::Query).
pub async fn acknowledged(
    server: &PgServer,
    application: &str,
    slot: &str,
) -> Result<Acknowledged, EngineError> {
    let session = Session::open(server, &server.maintenance_database, application).await?;
    let failed = EngineError::query("ask which WAL is stored");
    let row = session.client.query_one(ACKNOWLEDGED, &[&slot]).await.map_err(failed)?;
    let number = |at: usize| text(&row, at).and_then(|text| text.parse::<u64>().ok());
    let timeline = number(2).and_then(|id| u32::try_from(id).ok()).and_then(Timeline::new);
    Ok(Acknowledged {
        system_id: text(&row, 0).and_then(|id| system_id_of(&id)).unwrap_or_default(),
        segment_size: number(1).and_then(WalSegmentSize::new).unwrap_or_default(),
        timeline: timeline.unwrap_or(Timeline::FIRST),
        pushed: newest(&session, text(&row, 3)).await?,
        streamed: text(&row, 4).and_then(|text| text.parse().ok()),
    })
}

/// Only of a server that is reached by a socket do we know that its disk is one of ours; who may
/// not see the setting, or the directory, is told nothing.
async fn free_bytes(server: &PgServer, session: &Session) -> Option<u64> {
    if !server.host.starts_with('/') {
        return None;
    }
    let asked = "SELECT pg_catalog.current_setting('data_directory')";
    let directory: String = session.client.query_one(asked, &[]).await.ok()?.try_get(0).ok()?;
    let found = rustix::fs::statvfs(Path::new(&directory).join("pg_wal")).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

fn text(row: &Row, at: usize) -> Option<String> {
    row.try_get(at).ok().flatten()
}

fn slot(row: &Row) -> Result<SlotHealth, tokio_postgres::Error> {
    Ok(SlotHealth {
        name: row.try_get(0)?,
        active: row.try_get(1)?,
        status: row.try_get(2)?,
        kept_bytes: row.try_get(3)?,
    })
}
