use std::collections::BTreeMap;

use drctl_model::{
    Digest, LOG_ENTRY_BYTES, Lineage, LogAt, LogEntry, LogNotes, Lsn, Position, SourceId,
};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::error::Fault;
use crate::rows::{all, bad_json, parsed};
use crate::{Catalog, CatalogError, schema};

/// Pieces in a block: a piece more rewrites at most so many.
const BLOCK: usize = 1024;

/// What is known of one lineage's log: pieces whose heads were verified, none of which lies
/// wholly within another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedLog<P = Lsn> {
    /// The pieces, in order.
    pub entries: Vec<LogEntry<P>>,
    /// What the log's engine notes beside them.
    pub notes: LogNotes,
    /// Pieces that were learnt under other trusted keys: nothing that they tell counts, but that
    /// they were there.
    pub(crate) stale: Vec<LogEntry<P>>,
    pub(crate) generation: i64,
    /// What the catalog holds of it is not what was written: nothing is known, and all of it is to
    /// be written anew.
    pub(crate) damaged: bool,
}

/// What changes in a [`CachedLog`].
#[derive(Debug, Clone)]
pub struct LogChange {
    pub(crate) generation: i64,
    pub(crate) blocks: usize,
    pub(crate) changed: Vec<(usize, Vec<u8>)>,
    notes: LogNotes,
}

impl<P> Default for CachedLog<P> {
    fn default() -> Self {
        CachedLog {
            entries: Vec::new(),
            notes: LogNotes::default(),
            stale: Vec::new(),
            generation: 0,
            damaged: false,
        }
    }
}

impl<P: Position> CachedLog<P> {
    /// The pieces that were there when it was last written, in order.
    #[must_use]
    pub fn known(&self) -> &[LogEntry<P>] {
        if self.entries.is_empty() { &self.stale } else { &self.entries }
    }

    /// What makes it hold these pieces, in order, and these notes; nothing where it does already.
    #[must_use]
    pub fn change(&self, entries: &[LogEntry<P>], notes: &LogNotes) -> Option<LogChange> {
        let same = self.entries == entries && self.notes == *notes;
        if same && self.generation > 0 && !self.damaged {
            return None;
        }
        let mut old = self.entries.chunks(BLOCK);
        let mut changed = Vec::new();
        for (n, block) in entries.chunks(BLOCK).enumerate() {
            if old.next() != Some(block) {
                let mut bytes = Vec::with_capacity(block.len() * LOG_ENTRY_BYTES);
                block.iter().for_each(|entry| entry.to_bytes(&mut bytes));
                changed.push((n, bytes));
            }
        }
        let blocks = entries.len().div_ceil(BLOCK);
        Some(LogChange { generation: self.generation, blocks, changed, notes: notes.clone() })
    }
}

impl Catalog {
    /// What is known of the log of some of a source's lineages, which are of one engine; of one that was learnt under other trusted
    /// keys (`trust` stands for these), or is damaged, nothing is: it is learnt anew in its place.
    ///
    /// # Errors
    /// [`Corrupt`](CatalogError::Corrupt), [`Busy`](CatalogError::Busy), [`Io`](CatalogError::Io).
    pub async fn logs<P: Position>(
        &self,
        source: &SourceId,
        of: impl Fn(&Lineage) -> bool + Send + 'static,
        trust: Digest,
    ) -> Result<BTreeMap<Lineage, CachedLog<P>>, CatalogError> {
        let source = source.clone();
        self.call(move |connection| logs(connection, &source, of, trust)).await
    }

    /// Sources and lineages of which log is known, in order.
    ///
    /// # Errors
    /// As [`logs`](Self::logs).
    pub async fn logged(&self) -> Result<Vec<(SourceId, Lineage)>, CatalogError> {
        self.call(|connection| logged(connection)).await
    }

    /// Changes what is known of a lineage's log; says whether it did: not where another process
    /// changed it since it was read.
    ///
    /// # Errors
    /// [`Busy`](CatalogError::Busy), [`Full`](CatalogError::Full),
    /// [`ReadOnly`](CatalogError::ReadOnly), [`Io`](CatalogError::Io),
    /// [`Corrupt`](CatalogError::Corrupt): those of any write.
    pub async fn change_log(
        &self,
        source: &SourceId,
        lineage: &Lineage,
        trust: Digest,
        change: LogChange,
    ) -> Result<bool, CatalogError> {
        let (source, lineage) = (source.clone(), lineage.clone());
        self.call(move |connection| {
            let transaction = schema::write(connection)?;
            let done = apply(&transaction, &source, &lineage, trust, &change)?;
            transaction.commit()?;
            Ok(done)
        })
        .await
    }
}

/// A row of `logs`.
type Known = (i64, String, String, i64, String);

fn logs<P: Position>(
    connection: &Connection,
    source: &SourceId,
    of: impl Fn(&Lineage) -> bool,
    trust: Digest,
) -> Result<BTreeMap<Lineage, CachedLog<P>>, Fault> {
    // One transaction: another process may change it between two statements.
    let snapshot = connection.unchecked_transaction()?;
    let known: Vec<Known> = all(
        &snapshot,
        "SELECT id, lineage, trust, generation, notes FROM logs WHERE source = ?1",
        params![source.as_str()],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
    )?;
    let mut found = BTreeMap::new();
    for (id, lineage, believed, generation, notes) in known {
        // Whose it is nobody can tell: nothing is asked of it.
        let Some(lineage) = lineage.parse::<Lineage>().ok().filter(&of) else { continue };
        let mut log = CachedLog { generation, ..CachedLog::default() };
        match whole(&snapshot, id, &notes) {
            Ok((entries, notes)) if believed == trust.to_string() => {
                (log.entries, log.notes) = (entries, notes);
            }
            Ok((entries, _)) => log.stale = entries,
            Err(Fault::Damage(_)) => log.damaged = true,
            Err(fault) => return Err(fault),
        }
        found.insert(lineage, log);
    }
    Ok(found)
}

/// The pieces and notes of a log, all of them or none.
fn whole<P: Position>(
    connection: &Connection,
    log: i64,
    notes: &str,
) -> Result<(Vec<LogEntry<P>>, LogNotes), Fault> {
    let notes = serde_json::from_str(notes).map_err(bad_json("notes"))?;
    Ok((entries(connection, log)?, notes))
}

fn entries<P: Position>(connection: &Connection, log: i64) -> Result<Vec<LogEntry<P>>, Fault> {
    let damage = || Fault::Damage(format!("pieces of log {log}"));
    let blocks: i64 =
        connection
            .query_row("SELECT count(*) FROM log_blocks WHERE log = ?1", [log], |row| row.get(0))?;
    let blocks = usize::try_from(blocks).unwrap_or(0);
    let mut found: Vec<LogEntry<P>> = Vec::with_capacity(blocks.saturating_mul(BLOCK));
    let mut statement =
        connection.prepare("SELECT n, entries FROM log_blocks WHERE log = ?1 ORDER BY n")?;
    let mut rows = statement.query([log])?;
    let (mut block, mut before, mut grows) = (0_i64, None, true);
    while let Some(row) = rows.next()? {
        let bytes = row.get_ref(1)?.as_blob().map_err(|_| damage())?;
        let (whole, rest) = bytes.as_chunks::<LOG_ENTRY_BYTES>();
        if row.get::<_, i64>(0)? != block || !rest.is_empty() || whole.is_empty() {
            return Err(damage());
        }
        block += 1;
        // One pass: all of it is long.
        for entry in whole.iter().map(LogEntry::from_bytes) {
            grows &= entry.start < entry.end;
            grows &= before.is_none_or(|(start, end)| start < entry.start && end < entry.end);
            before = Some(entry.range());
            found.push(entry);
        }
    }
    if grows { Ok(found) } else { Err(damage()) }
}

fn logged(connection: &Connection) -> Result<Vec<(SourceId, Lineage)>, Fault> {
    let sql = "SELECT source, lineage FROM logs ORDER BY source, lineage";
    all(connection, sql, [], |row| Ok((parsed(row, "source")?, parsed(row, "lineage")?)))
}

fn apply(
    connection: &Connection,
    source: &SourceId,
    lineage: &Lineage,
    trust: Digest,
    change: &LogChange,
) -> Result<bool, Fault> {
    let key = params![source.as_str(), lineage.as_str()];
    let known: Option<(i64, i64)> = connection
        .query_row(
            "SELECT id, generation FROM logs WHERE source = ?1 AND lineage = ?2",
            key,
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    if known.map_or(0, |(_, generation)| generation) != change.generation {
        return Ok(false);
    }
    let notes = serde_json::to_string(&change.notes).map_err(bad_json("notes"))?;
    let id = match known {
        Some((id, generation)) => {
            connection.execute(
                "UPDATE logs SET trust = ?2, generation = ?3, notes = ?4 WHERE id = ?1",
                params![id, trust.to_string(), generation + 1, notes],
            )?;
            id
        }
        None => {
            connection.execute(
                "INSERT INTO logs (source, lineage, trust, generation, notes) \
                 VALUES (?1, ?2, ?3, 1, ?4)",
                params![source.as_str(), lineage.as_str(), trust.to_string(), notes],
            )?;
            connection.last_insert_rowid()
        }
    };
    let blocks = i64::try_from(change.blocks).unwrap_or(i64::MAX);
    connection.execute("DELETE FROM log_blocks WHERE log = ?1 AND n >= ?2", [id, blocks])?;
    let mut put = connection
        .prepare("INSERT OR REPLACE INTO log_blocks (log, n, entries) VALUES (?1, ?2, ?3)")?;
    for (n, bytes) in &change.changed {
        put.execute(params![id, i64::try_from(*n).unwrap_or(i64::MAX), bytes])?;
    }
    Ok(true)
}

/// Reads all of it.
pub(crate) fn check(connection: &Connection) -> Result<(), Fault> {
    let known: Vec<(i64, String)> =
        all(connection, "SELECT id, notes FROM logs", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (id, notes) in known {
        whole::<LogAt>(connection, id, &notes)?;
    }
    logged(connection).map(drop)
}
