use std::slice;

use drctl_model::{BackupId, BackupSummary, Digest, Engine, SourceId, chain, newest, shown};
use jiff::Timestamp;
use rusqlite::{Connection, Params, Row, Statement, params};
use serde_json::Value;

use crate::error::Fault;
use crate::rows::{all, bad_json, optional, parsed, time};
use crate::{Catalog, CatalogError, expired, verified};

/// How many backups an ambiguous prefix names.
const LISTED: usize = 10;

const SELECT: &str = "SELECT source, backup, engine, kind, host, started, finished, plain_bytes, \
    sealed_bytes, segments, suspect, manifest_sha256, accepted, signer, objects, object_bytes FROM backups";

/// What may be there before a row is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing, or the very same manifest.
    Same,
    /// Anything: the new row replaces it.
    Any,
}

impl Catalog {
    /// Takes up a backup that was found in the bucket, in place of what is known of it.
    ///
    /// # Errors
    /// Those of any write: [`Busy`](CatalogError::Busy), [`Full`](CatalogError::Full),
    /// [`ReadOnly`](CatalogError::ReadOnly), [`Io`](CatalogError::Io),
    /// [`Corrupt`](CatalogError::Corrupt).
    pub async fn adopt(&self, backup: &BackupSummary) -> Result<(), CatalogError> {
        let backup = backup.clone();
        self.call(move |connection| put(connection, &backup, Before::Any)).await
    }

    /// The backups of one source or of all, newest first.
    ///
    /// # Errors
    /// [`Corrupt`](CatalogError::Corrupt), [`Busy`](CatalogError::Busy), [`Io`](CatalogError::Io).
    pub async fn backups(
        &self,
        source: Option<&SourceId>,
    ) -> Result<Vec<BackupSummary>, CatalogError> {
        let source = source.cloned();
        self.call(move |connection| list(connection, source.as_ref())).await
    }

    /// One backup, if it is known.
    ///
    /// # Errors
    /// As [`backups`](Self::backups).
    pub async fn backup(
        &self,
        source: &SourceId,
        backup: &BackupId,
    ) -> Result<Option<BackupSummary>, CatalogError> {
        let (source, backup) = (source.clone(), backup.clone());
        self.call(move |connection| get(connection, &source, &backup)).await
    }

    /// The one backup whose identifier begins with `prefix`.
    ///
    /// # Errors
    /// [`NoSuchBackup`](CatalogError::NoSuchBackup), also for an empty prefix;
    /// [`Ambiguous`](CatalogError::Ambiguous) names those that fit; and as
    /// [`backups`](Self::backups).
    pub async fn find(&self, prefix: &str) -> Result<BackupSummary, CatalogError> {
        let prefix = prefix.to_owned();
        self.call(move |connection| find(connection, &prefix)).await
    }

    /// The newest backup of a source that nothing speaks against, no look at it either; an
    /// incremental one only with all that it is based on, one that another tool keeps only while
    /// that has it.
    ///
    /// # Errors
    /// As [`backups`](Self::backups).
    pub async fn newest_good(
        &self,
        source: &SourceId,
    ) -> Result<Option<BackupSummary>, CatalogError> {
        self.newest_good_by(source, Timestamp::MAX).await
    }

    /// The same among those that were taken at a moment or before: what is dated later was taken while
    /// a clock was wrong, and nobody knows how old it is.
    ///
    /// # Errors
    /// As [`backups`](Self::backups).
    pub async fn newest_good_by(
        &self,
        source: &SourceId,
        moment: Timestamp,
    ) -> Result<Option<BackupSummary>, CatalogError> {
        let source = source.clone();
        let trust = self.trust.clone();
        self.call(move |connection| newest_good(connection, &source, &trust, moment)).await
    }
}

/// A backup; nothing for one of an engine that this program does not know.
fn read(row: &Row<'_>) -> Result<Option<BackupSummary>, Fault> {
    let Some(engine) = known_engine(row)? else { return Ok(None) };
    let count = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    let objects: Option<i64> = row.get("objects")?;
    let bytes: Option<i64> = row.get("object_bytes")?;
    Ok(Some(BackupSummary {
        source: parsed(row, "source")?,
        backup: parsed(row, "backup")?,
        engine,
        kind: serde_json::from_str(&row.get::<_, String>("kind")?).map_err(bad_json("kind"))?,
        host: row.get("host")?,
        started: parsed(row, "started")?,
        finished: parsed(row, "finished")?,
        plain_bytes: count("plain_bytes")?,
        sealed_bytes: count("sealed_bytes")?,
        segments: count("segments")?,
        suspect: serde_json::from_str(&row.get::<_, String>("suspect")?)
            .map_err(bad_json("suspect"))?,
        manifest_sha256: parsed(row, "manifest_sha256")?,
        accepted: optional(row, "accepted")?,
        signer: row.get("signer")?,
        objects: objects.zip(bytes).map(|(n, bytes)| (n.cast_unsigned(), bytes.cast_unsigned())),
    }))
}

/// The engine of a row; nothing for one that a newer program may have put here, which has the form of a
/// row all the same. Anything else is damage.
pub(crate) fn known_engine(row: &Row<'_>) -> Result<Option<Engine>, Fault> {
    let name: String = row.get("engine")?;
    if let Some(known) = Engine::named(&name) {
        return Ok(Some(known));
    }
    let is_name = |name: &str| {
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        (2..=40).contains(&name.len()) && name.bytes().all(word)
    };
    let kind: Value =
        serde_json::from_str(&row.get::<_, String>("kind")?).map_err(bad_json("kind"))?;
    match is_name(&name) && kind["type"].is_string() {
        true => Ok(None),
        false => Err(Fault::Damage(format!("column engine: {}", shown(&name, 40)))),
    }
}

/// All that a query finds, but those of engines that this program does not know.
fn read_all(
    connection: &Connection,
    sql: &str,
    params: impl Params,
) -> Result<Vec<BackupSummary>, Fault> {
    Ok(all(connection, sql, params, read)?.into_iter().flatten().collect())
}

const PUT: &str = "INSERT OR REPLACE INTO backups (source, backup, engine, kind, host, started, finished, \
    plain_bytes, sealed_bytes, segments, suspect, manifest_sha256, accepted, signer, objects, object_bytes) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";

/// Puts one row.
pub(crate) fn put(
    connection: &Connection,
    backup: &BackupSummary,
    before: Before,
) -> Result<(), Fault> {
    put_all(connection, slice::from_ref(backup), before)
}

/// Puts rows, of which there may be very many: what is asked of SQLite is prepared once.
pub(crate) fn put_all(
    connection: &Connection,
    backups: &[BackupSummary],
    before: Before,
) -> Result<(), Fault> {
    let sql = "SELECT manifest_sha256 FROM backups WHERE source = ?1 AND backup = ?2";
    let (mut known, mut statement) = (connection.prepare(sql)?, connection.prepare(PUT)?);
    for backup in backups {
        if before == Before::Same && is_another(&mut known, backup)? {
            let (source_id, backup) = (backup.source.clone(), backup.backup.clone());
            return Err(CatalogError::Conflict { source_id, backup }.into());
        }
        put_row(&mut statement, backup)?;
    }
    Ok(())
}

/// Whether a backup is known with another manifest.
fn is_another(known: &mut Statement<'_>, backup: &BackupSummary) -> Result<bool, Fault> {
    let mut rows = known.query([backup.source.as_str(), backup.backup.as_str()])?;
    let Some(row) = rows.next()? else { return Ok(false) };
    Ok(parsed::<Digest>(row, "manifest_sha256")? != backup.manifest_sha256)
}

fn put_row(statement: &mut Statement<'_>, backup: &BackupSummary) -> Result<(), Fault> {
    let kind = serde_json::to_string(&backup.kind).map_err(bad_json("kind"))?;
    let suspect = serde_json::to_string(&backup.suspect).map_err(bad_json("suspect"))?;
    let _ = statement.execute(params![
        backup.source.as_str(),
        backup.backup.as_str(),
        backup.engine.as_str(),
        kind,
        backup.host,
        time(backup.started),
        time(backup.finished),
        backup.plain_bytes.cast_signed(),
        backup.sealed_bytes.cast_signed(),
        backup.segments.cast_signed(),
        suspect,
        backup.manifest_sha256.to_string(),
        backup.accepted.map(time),
        backup.signer,
        backup.objects.map(|(objects, _)| objects.cast_signed()),
        backup.objects.map(|(_, bytes)| bytes.cast_signed()),
    ])?;
    Ok(())
}

pub(crate) fn list(
    connection: &Connection,
    source: Option<&SourceId>,
) -> Result<Vec<BackupSummary>, Fault> {
    let order = "ORDER BY backup DESC, source";
    match source {
        Some(source) => {
            let sql = format!("{SELECT} WHERE source = ?1 {order}");
            read_all(connection, &sql, [source.as_str()])
        }
        None => read_all(connection, &format!("{SELECT} {order}"), []),
    }
}

fn get(
    connection: &Connection,
    source: &SourceId,
    backup: &BackupId,
) -> Result<Option<BackupSummary>, Fault> {
    let sql = format!("{SELECT} WHERE source = ?1 AND backup = ?2");
    Ok(read_all(connection, &sql, [source.as_str(), backup.as_str()])?.pop())
}

fn find(connection: &Connection, prefix: &str) -> Result<BackupSummary, Fault> {
    // An empty prefix is an empty shell variable rather than a choice, even with one backup.
    let none = || {
        let prefix = prefix.chars().take(80).flat_map(char::escape_default).collect();
        CatalogError::NoSuchBackup { prefix }
    };
    if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(none().into());
    }
    // `~` sorts behind everything that an identifier is made of.
    let sql = format!(
        "{SELECT} WHERE backup >= ?1 AND backup < ?1 || '~' ORDER BY backup DESC, source LIMIT {}",
        LISTED + 1
    );
    let mut found = read_all(connection, &sql, [prefix])?;
    if found.len() > 1 {
        let more = found.len() > LISTED;
        let mut matches: Vec<String> =
            found.iter().take(LISTED).map(|b| format!("{}/{}", b.source, b.backup)).collect();
        matches.extend(more.then(|| "…".to_owned()));
        return Err(CatalogError::Ambiguous { prefix: prefix.to_owned(), matches }.into());
    }
    found.pop().ok_or_else(|| none().into())
}

fn newest_good(
    connection: &Connection,
    source: &SourceId,
    trust: &str,
    moment: Timestamp,
) -> Result<Option<BackupSummary>, Fault> {
    let all = list(connection, Some(source))?;
    // The newest comes first.
    let place = |id: &BackupId| all.binary_search_by(|probe| id.cmp(&probe.backup));
    let looks = verified::list(connection, Some(source), trust)?;
    // One that is based on a bad one is bad itself.
    let is_bad = |id: &BackupId| verified::is_bad(&looks, source, id);
    let find = |id: &BackupId| all.get(place(id).ok()?);
    let gone = expired::list(connection, Some(source))?;
    let is_there =
        |backup: &BackupSummary| !gone.contains_key(&(source.clone(), backup.backup.clone()));
    let there = all.iter().filter(|backup| is_there(backup));
    let there = there.filter(|backup| backup.taken() <= moment);
    let good = there.filter(|backup| backup.is_good() && !is_bad(&backup.backup));
    Ok(newest(good.filter(|backup| chain(backup, find).is_ok())).cloned())
}
