//! Backups that only a newer drctl reads.

use std::collections::BTreeMap;

use drctl_model::{BackupId, SourceId};
use rusqlite::Connection;

use crate::backups::known_engine;
use crate::error::Fault;
use crate::rows::{all, parsed};
use crate::schema::write;
use crate::{Catalog, CatalogError};

/// Backups, each with why it is not read.
pub type Newer = BTreeMap<(SourceId, BackupId), String>;

impl Catalog {
    /// The backups of one source or of all that a newer drctl has written, and that this one does not
    /// understand: each with what to install.
    ///
    /// # Errors
    /// As [`backups`](Self::backups).
    pub async fn newer(&self, source: Option<&SourceId>) -> Result<Newer, CatalogError> {
        let source = source.cloned();
        self.call(move |connection| {
            let mut found = list(connection)?;
            found.retain(|(of, _), _| source.as_ref().is_none_or(|source| source == of));
            Ok(found)
        })
        .await
    }

    /// Says which these are, of all sources; all others are not any more.
    ///
    /// # Errors
    /// [`Busy`](CatalogError::Busy), [`Full`](CatalogError::Full),
    /// [`ReadOnly`](CatalogError::ReadOnly), [`Io`](CatalogError::Io),
    /// [`Corrupt`](CatalogError::Corrupt): those of any write.
    pub async fn set_newer(&self, newer: Newer) -> Result<(), CatalogError> {
        self.call(move |connection| {
            // Nearly always nothing has changed.
            if noted(connection)? == newer {
                return Ok(());
            }
            let transaction = write(connection)?;
            transaction.execute("DELETE FROM newer", [])?;
            for ((source, backup), why) in &newer {
                let sql = "INSERT INTO newer (source, backup, why) VALUES (?1, ?2, ?3)";
                transaction.execute(sql, [source.as_str(), backup.as_str(), why])?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }
}

fn noted(connection: &Connection) -> Result<Newer, Fault> {
    let sql = "SELECT source, backup, why FROM newer";
    let rows = all(connection, sql, [], |row| {
        Ok(((parsed(row, "source")?, parsed(row, "backup")?), row.get::<_, String>("why")?))
    })?;
    Ok(rows.into_iter().collect())
}

/// Those that are noted, and rows of backups that a newer drctl has put into this catalog.
fn list(connection: &Connection) -> Result<Newer, Fault> {
    let mut found = noted(connection)?;
    let sql = "SELECT source, backup, engine, kind FROM backups";
    let rows = all(connection, sql, [], |row| {
        let at = (parsed(row, "source")?, parsed(row, "backup")?);
        let is_known = known_engine(row)?.is_some();
        Ok((!is_known).then_some((at, row.get::<_, String>("engine")?)))
    })?;
    found.extend(rows.into_iter().flatten().map(|(at, engine)| {
        let why = format!(
            "its engine `{}` is not known to this drctl: install the newer drctl that wrote it",
            drctl_model::shown(&engine, 40)
        );
        (at, why)
    }));
    Ok(found)
}
